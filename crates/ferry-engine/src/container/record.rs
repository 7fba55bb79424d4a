//! What was asked: a container's durable record. What runs is never in here (no pid); it is read from the shim.

use std::collections::BTreeMap;
use std::path::Path;

use ferry_api::{ContainerConfig, EndpointSettings, HostConfig, MountPoint};
use ferry_network::EndpointRecord;
use ferry_types::net::PublishedPort;
use ferry_types::{ContainerId, ContainerName, Digest};
use serde::{Deserialize, Serialize};

use super::health::Health;
use super::links::Link;
use crate::error::{EngineError, Result};

/// The layout of the record file. Raised when an older engine could not read it.
pub(crate) const FORMAT: u32 = 2;

/// One container as its user asked for it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ContainerRecord {
    pub format: u32,
    pub id: ContainerId,
    pub name: ContainerName,
    /// Nanoseconds since the epoch.
    pub created_at: i64,
    pub image_id: Digest,
    /// The container's config with the image's merged in; `image` is the name the user gave.
    pub config: ContainerConfig,
    pub host_config: HostConfig,
    /// The networks it is to be on, by name, with what was asked for. Empty for those without a network of their own.
    pub networks: BTreeMap<String, EndpointSettings>,
    /// The command line, entrypoint first. Never empty.
    pub args: Vec<String>,
    /// Bind mounts and volumes, resolved when the container was created.
    pub mounts: Vec<MountPoint>,
    /// What the API's view of a mount does not say, by destination.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub mount_details: BTreeMap<String, MountDetail>,
    /// Anonymous volumes that go with the container when it is removed with its volumes.
    pub anonymous_volumes: Vec<String>,
    pub lifecycle: Lifecycle,
    /// The endpoints the container has, or had when the engine was killed, by name of the network.
    pub endpoints: BTreeMap<String, EndpointRecord>,
    /// Restarts by policy since the last start by a user.
    pub restart_count: u32,
    /// A user stopped it: no policy but a start by a user brings it back.
    pub stopped_by_user: bool,
    /// Containers it knows by other names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Link>,
    /// What links add to the environment, as of the last start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub link_env: Vec<String>,
    /// What was known of its health when it ended last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
}

/// The rarer options of a mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct MountDetail {
    /// Directory or file of the volume or image to mount instead of the whole.
    pub subpath: String,
    /// What is mounted is this image.
    pub image: Option<Digest>,
    /// Without the mounts below the source.
    pub non_recursive: bool,
    pub read_only: ReadOnly,
}

/// How far a read-only mount is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ReadOnly {
    /// With all mounts below it where the kernel can.
    #[default]
    Recursive,
    /// At its top.
    Top,
    /// With all mounts below it, or not at all.
    Forced,
}

/// How far the container got, as far as it matters after a crash of the engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub(crate) enum Lifecycle {
    /// Never started (or its only starts failed).
    Created {
        /// Exit code shown for a failed start.
        code: i32,
        /// Why the last start failed.
        error: String,
    },
    /// A start was begun: a shim may be there.
    Running,
    /// It has run.
    Exited(ExitInfo),
}

/// How a run ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExitInfo {
    /// 0–255, 128 + signal.
    pub code: i32,
    pub oom_killed: bool,
    /// Nanoseconds since the epoch.
    pub started_at: i64,
    /// Nanoseconds since the epoch.
    pub finished_at: i64,
    /// Why a later start failed.
    pub error: String,
}

impl ContainerRecord {
    /// Replaces the record file atomically. The page cache is enough to survive the engine; the disk is
    /// asked to catch up in the background, because no start shall wait for it.
    pub fn save(&self, path: &Path) -> Result<()> {
        let json = serde_json::to_vec(self)
            .map_err(|e| EngineError::System(format!("container {}: encode record: {e}", self.id)))?;
        let fail = |action| move |source| EngineError::File { action, path: path.to_owned(), source };
        let temporary = path.with_extension("json.new");
        std::fs::write(&temporary, json).map_err(fail("write"))?;
        std::fs::rename(&temporary, path).map_err(fail("replace"))
    }

    /// Reads a record file.
    pub fn load(path: &Path) -> Result<Self> {
        let fail = |source| EngineError::File { action: "read", path: path.to_owned(), source };
        let json = std::fs::read(path).map_err(fail)?;
        let mut value: serde_json::Value = serde_json::from_slice(&json).map_err(|e| fail(e.into()))?;
        from_format_1(&mut value);
        let record: Self = serde_json::from_value(value).map_err(|e| fail(e.into()))?;
        if record.format != FORMAT {
            let message = format!("format {} was written by another version of ferry", record.format);
            return Err(fail(std::io::Error::new(std::io::ErrorKind::InvalidData, message)));
        }
        Ok(record)
    }

    /// Whether the container is made from an image or has it mounted.
    pub fn uses_image(&self, image: &Digest) -> bool {
        self.image_id == *image || self.mount_details.values().any(|d| d.image.as_ref() == Some(image))
    }

    /// The ports published for it, on whichever network.
    pub fn published(&self) -> impl Iterator<Item = &PublishedPort> {
        self.endpoints.values().flat_map(|endpoint| &endpoint.published)
    }

    /// Whether stdio is a terminal.
    pub fn tty(&self) -> bool {
        self.config.tty
    }
}

/// Format 1 knew one endpoint, that of the default bridge.
fn from_format_1(value: &mut serde_json::Value) {
    use serde_json::{Map, Value};
    let Some(record) = value.as_object_mut().filter(|r| r.get("format") == Some(&1.into())) else { return };
    let mut endpoints = Map::new();
    if let Some(endpoint) = record.remove("endpoint").filter(|e| !e.is_null()) {
        endpoints.insert("bridge".to_owned(), endpoint);
    }
    let asked = record.remove("networking").and_then(|n| n.get("EndpointsConfig").cloned());
    let mut asked = match asked {
        Some(Value::Object(asked)) => asked,
        _ => Map::new(),
    };
    let mode = record.get("host_config").and_then(|h| h.get("NetworkMode")).and_then(Value::as_str);
    let name = match mode.unwrap_or_default() {
        "" | "default" => "bridge".to_owned(),
        name => name.to_owned(),
    };
    let mut networks = Map::new();
    if !name.starts_with("container:") {
        let settings = asked.remove(&name).filter(|s| !s.is_null());
        networks.insert(name, settings.unwrap_or_else(|| Value::Object(Map::new())));
    }
    record.insert("networks".to_owned(), Value::Object(networks));
    record.insert("endpoints".to_owned(), Value::Object(endpoints));
    record.insert("format".to_owned(), FORMAT.into());
}
