//! SIGHUP: the configuration file is read again, and what may change while the daemon runs changes, by Docker's rules. A file
//! that is wrong changes nothing.

use ferry_engine::LiveSettings;

use super::values::Values;

/// Keys that take effect without a restart.
const LIVE: [&str; 14] = [
    "debug",
    "default-cgroupns-mode",
    "default-ipc-mode",
    "default-runtime",
    "default-shm-size",
    "features",
    "insecure-registries",
    "labels",
    "max-concurrent-downloads",
    "max-concurrent-uploads",
    "max-download-attempts",
    "registry-mirrors",
    "runtimes",
    "shutdown-timeout",
];

/// The settings after a reload: what the file says now where it says something; figures about downloads and uploads, and
/// features, go back to their defaults where it does not, everything else stays.
pub fn merge(now: &LiveSettings, file: &Values, read: LiveSettings) -> LiveSettings {
    let mut new = now.clone();
    macro_rules! take {
        ($($key:literal => $field:ident),*) => { $( if file.is_set($key) { new.$field = read.$field; } )* };
    }
    take!(
        "debug" => debug,
        "default-cgroupns-mode" => default_cgroupns_mode,
        "default-ipc-mode" => default_ipc_mode,
        "default-runtime" => default_runtime,
        "default-shm-size" => default_shm_size,
        "insecure-registries" => insecure_registries,
        "labels" => labels,
        "registry-mirrors" => registry_mirrors,
        "runtimes" => runtimes,
        "shutdown-timeout" => shutdown_timeout
    );
    new.max_concurrent_downloads = read.max_concurrent_downloads;
    new.max_concurrent_uploads = read.max_concurrent_uploads;
    new.max_download_attempts = read.max_download_attempts;
    new.features = read.features;
    new
}

/// Keys whose values in the file changed without effect until the next start.
pub fn needing_restart(before: &Values, after: &Values) -> Vec<&'static str> {
    let names = before.iter().chain(after.iter()).map(|(name, _)| name);
    let mut changed: Vec<&str> =
        names.filter(|name| !LIVE.contains(name) && before.get(name) != after.get(name)).collect();
    changed.sort_unstable();
    changed.dedup();
    changed
}

#[cfg(test)]
mod tests {
    use super::super::{file, settings};
    use super::*;

    fn read(text: &str) -> (Values, LiveSettings) {
        let values = file::parse(text, &Values::default()).unwrap();
        let live = settings::live(&values, "/bin", &mut Vec::new()).unwrap();
        (values, live)
    }

    #[test]
    fn what_the_file_says_replaces_what_was() {
        let (_, now) = read(r#"{"labels": ["a=b"], "max-concurrent-downloads": 9, "shutdown-timeout": 3}"#);
        let (file, live) = read(r#"{"debug": true, "registry-mirrors": ["http://m"]}"#);
        let new = merge(&now, &file, live);
        assert!(new.debug);
        assert_eq!(new.registry_mirrors, ["http://m/"]);
        assert_eq!((new.labels.len(), new.shutdown_timeout, new.max_concurrent_downloads), (1, 3, 3));
    }

    #[test]
    fn what_needs_a_restart_is_named() {
        let (before, _) = read(r#"{"mtu": 1, "debug": true, "bip": "10.0.0.1/24"}"#);
        let (after, _) = read(r#"{"mtu": 2, "icc": false, "bip": "10.0.0.1/24"}"#);
        assert_eq!(needing_restart(&before, &after), ["icc", "mtu"]);
    }
}
