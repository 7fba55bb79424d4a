//! Settings that change while the engine runs, and what a reload of the configuration does.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use ferry_registry_client::RegistryClient;

use crate::Engine;
use crate::config::{EngineConfig, LiveSettings};
use crate::image_pull::client_options;
use crate::runtimes::{OWN_PATH, OWN_RUNTIMES};

/// The settings in force, with what is made from them.
pub(crate) struct Live(RwLock<(Arc<LiveSettings>, Arc<RegistryClient>)>);

impl Live {
    pub fn new(config: &EngineConfig) -> Self {
        let client = RegistryClient::new(client_options(config, &config.live));
        Self(RwLock::new((Arc::new(config.live.clone()), Arc::new(client))))
    }

    /// The settings.
    pub fn settings(&self) -> Arc<LiveSettings> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner).0)
    }

    /// The client that reaches registries as they say.
    pub fn registry(&self) -> Arc<RegistryClient> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner).1)
    }

    fn replace(&self, config: &EngineConfig, settings: LiveSettings) {
        let client = Arc::new(RegistryClient::new(client_options(config, &settings)));
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = (Arc::new(settings), client);
    }
}

impl Engine {
    /// The settings in force.
    pub fn live_settings(&self) -> Arc<LiveSettings> {
        self.inner.live.settings()
    }

    /// Whether this is called an experimental build.
    pub fn is_experimental(&self) -> bool {
        self.inner.config.experimental
    }

    /// Puts new settings in force and tells listeners of events, with the attributes Docker gives them.
    pub fn reload(&self, settings: LiveSettings) {
        let attributes = attributes(&settings, self.inner.host.cgroup_v2);
        self.inner.live.replace(&self.inner.config, settings);
        self.inner.events.daemon("reload", &self.inner.engine_id, &self.inner.host.hostname, attributes);
    }
}

fn attributes(s: &LiveSettings, cgroup_v2: bool) -> BTreeMap<String, String> {
    let list = |items: &[String]| serde_json::Value::from(items.to_vec()).to_string();
    let own = OWN_RUNTIMES.iter().map(|name| format!("{name}:{OWN_PATH}"));
    let others = s.runtimes.iter().map(|(name, runtime)| format!("{name}:{}", runtime.path));
    let runtimes: Vec<String> = own.chain(others).collect();
    let features: Vec<String> = s.features.iter().map(|(name, on)| format!("{name}:{on}")).collect();
    let cgroupns = s.default_cgroupns_mode.as_deref().unwrap_or(if cgroup_v2 { "private" } else { "host" });
    [
        ("debug", s.debug.to_string()),
        ("default-cgroupns-mode", cgroupns.to_owned()),
        ("default-ipc-mode", s.default_ipc_mode.clone()),
        ("default-runtime", s.default_runtime.clone()),
        ("default-shm-size", s.default_shm_size.to_string()),
        ("features", format!("map[{}]", features.join(" "))),
        ("insecure-registries", list(&s.insecure_registries)),
        ("labels", list(&s.labels)),
        ("live-restore", "true".to_owned()),
        ("max-concurrent-downloads", s.max_concurrent_downloads.to_string()),
        ("max-concurrent-uploads", s.max_concurrent_uploads.to_string()),
        ("max-download-attempts", s.max_download_attempts.to_string()),
        ("registry-mirrors", list(&s.registry_mirrors)),
        ("runtimes", runtimes.join(" ")),
        ("shutdown-timeout", s.shutdown_timeout.to_string()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_look_as_dockers() {
        let settings = LiveSettings {
            labels: vec!["a=b".to_owned()],
            features: BTreeMap::from([("x".to_owned(), true)]),
            ..LiveSettings::default()
        };
        let attributes = attributes(&settings, false);
        assert_eq!(attributes["labels"], "[\"a=b\"]");
        assert_eq!(attributes["features"], "map[x:true]");
        assert_eq!(attributes["registry-mirrors"], "[]");
        assert_eq!(attributes["default-cgroupns-mode"], "host");
    }
}
