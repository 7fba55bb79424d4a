//! The user's `config.json`, as far as the client uses it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

/// The settings ferry reads. Everything else in the file belongs to other programs and is left alone.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Config {
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

impl Config {
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
            Err(e) => (Self::default(), Some(format!("Error parsing config file ({}): {e}", path.display()))),
        }
    }
}
