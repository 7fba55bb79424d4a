//! The user's `config.json`, as far as the client uses it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

/// The settings ferry reads. Everything else in the file belongs to other programs and is left alone.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Config {
    /// Headers to send with every request.
    #[serde(rename = "HttpHeaders")]
    pub http_headers: BTreeMap<String, String>,
    /// Program that keeps all credentials, without `docker-credential-` in front.
    pub creds_store: Option<String>,
    /// Programs that keep the credentials of some registries.
    pub cred_helpers: BTreeMap<String, String>,
    /// Filters every `prune` gets.
    pub prune_filters: Vec<String>,
    /// Settings of plugins, by plugin; they get them through this very file.
    pub plugins: BTreeMap<String, Value>,
    /// Where plugins lie, besides the usual folders.
    pub cli_plugins_extra_dirs: Vec<String>,
    pub current_context: Option<String>,
    pub detach_keys: Option<String>,
    pub ps_format: Option<String>,
    pub images_format: Option<String>,
    pub stats_format: Option<String>,
    pub volumes_format: Option<String>,
    pub networks_format: Option<String>,
    /// Credentials by registry.
    pub auths: BTreeMap<String, Value>,
    /// Proxy settings by engine address, `default` for all.
    pub proxies: BTreeMap<String, BTreeMap<String, String>>,
}

/// The configuration's folder: `--config`, `DOCKER_CONFIG`, `~/.docker`.
pub fn directory(given: Option<&str>) -> PathBuf {
    if let Some(given) = given.filter(|g| !g.is_empty()) {
        return PathBuf::from(given);
    }
    if let Some(dir) = std::env::var_os("DOCKER_CONFIG").filter(|d| !d.is_empty()) {
        return PathBuf::from(dir);
    }
    let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("/"), PathBuf::from);
    home.join(".docker")
}

/// Variables of a container for the proxies of the configuration: its key and their names.
const PROXIES: [(&str, &str); 5] = [
    ("httpProxy", "HTTP_PROXY"),
    ("httpsProxy", "HTTPS_PROXY"),
    ("noProxy", "NO_PROXY"),
    ("ftpProxy", "FTP_PROXY"),
    ("allProxy", "ALL_PROXY"),
];

impl Config {
    /// Environment for containers of the engine at `host` that says which proxies to use. What `given`
    /// sets already is left alone.
    pub fn proxy_environment(&self, host: &str, given: &[String]) -> Vec<String> {
        let Some(proxies) = self.proxies.get(host).or_else(|| self.proxies.get("default")) else {
            return Vec::new();
        };
        let is_given =
            |name: &str| given.iter().any(|g| g.split_once('=').map_or(g.as_str(), |(n, _)| n) == name);
        let mut all = Vec::new();
        for (key, name) in PROXIES {
            let Some(value) = proxies.get(key).filter(|v| !v.is_empty()) else { continue };
            for name in [name.to_owned(), name.to_ascii_lowercase()] {
                if !is_given(&name) {
                    all.push(format!("{name}={value}"));
                }
            }
        }
        all
    }

    /// Reads `config.json` in `dir`; a file that cannot be used yields defaults and a complaint.
    pub fn load(dir: &Path) -> (Self, Option<String>) {
        let path = dir.join("config.json");
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return (Self::default(), None),
            Err(e) => {
                let reason = crate::text::io_reason(&e);
                return (
                    Self::default(),
                    Some(format!("Error loading config file: {}: {reason}", path.display())),
                );
            }
        };
        match serde_json::from_slice(&bytes) {
            Ok(config) => (config, None),
            Err(e) => {
                let reason = if e.is_eof() { "unexpected EOF".to_owned() } else { e.to_string() };
                (Self::default(), Some(format!("Error parsing config file ({}): {reason}", path.display())))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_become_variables_unless_they_are_given() {
        let config: Config =
            serde_json::from_str(r#"{"proxies":{"default":{"httpProxy":"http://p:1","noProxy":""}}}"#)
                .unwrap();
        assert_eq!(
            config.proxy_environment("unix:///x", &[]),
            ["HTTP_PROXY=http://p:1", "http_proxy=http://p:1"]
        );
        let given = ["HTTP_PROXY=own".to_owned()];
        assert_eq!(config.proxy_environment("unix:///x", &given), ["http_proxy=http://p:1"]);
    }

    #[test]
    fn a_broken_file_is_reported_and_ignored() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), "{").unwrap();
        let (config, complaint) = Config::load(dir.path());
        assert!(config.auths.is_empty());
        assert!(complaint.unwrap().ends_with("config.json): unexpected EOF"));
    }
}
