//! `GET /containers/json`.

use serde::{Deserialize, Serialize};

use crate::image::Descriptor;
use crate::json::{Map, is_empty_map, is_zero};
use crate::mount::MountPoint;
use crate::network::EndpointSettings;

/// One line of `ps`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ContainerSummary {
    /// Full id.
    pub id: String,
    /// With leading slashes; links add further ones.
    pub names: Vec<String>,
    /// As the user named it, or the id when that name now means another image.
    pub image: String,
    /// `sha256:…`.
    #[serde(rename = "ImageID")]
    pub image_id: String,
    /// The image's manifest, when known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_manifest_descriptor: Option<Descriptor>,
    /// Program and arguments in one string.
    pub command: String,
    /// Seconds since the epoch.
    pub created: i64,
    /// Exposed and published ports.
    pub ports: Vec<Port>,
    /// Bytes in the writable layer, when asked for.
    #[serde(skip_serializing_if = "is_zero")]
    pub size_rw: i64,
    /// Bytes of the whole root file system, when asked for.
    #[serde(skip_serializing_if = "is_zero")]
    pub size_root_fs: i64,
    /// User metadata.
    pub labels: Map<String>,
    /// `running`, `exited`, …
    pub state: String,
    /// For people: `Up 4 hours (healthy)`.
    pub status: String,
    /// A little of the host configuration.
    pub host_config: SummaryHostConfig,
    /// Outcome of health checks (since API 1.52).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthSummary>,
    /// Its endpoints.
    pub network_settings: SummaryNetworkSettings,
    /// Volumes and binds in force.
    pub mounts: Vec<MountPoint>,
}

/// `HostConfig` of a summary.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct SummaryHostConfig {
    /// As in the host configuration.
    #[serde(skip_serializing_if = "is_zero")]
    pub network_mode: String,
    /// OCI annotations.
    #[serde(skip_serializing_if = "is_empty_map")]
    pub annotations: Map<String>,
}

/// `NetworkSettings` of a summary.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct SummaryNetworkSettings {
    /// By network name.
    pub networks: Map<EndpointSettings>,
}

/// `Health` of a summary.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HealthSummary {
    /// `starting`, `healthy`, `unhealthy` or `none`.
    pub status: String,
    /// Failures in a row.
    pub failing_streak: i64,
}

/// A port of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Port {
    /// Host address, empty when not published.
    #[serde(rename = "IP", skip_serializing_if = "is_zero")]
    pub ip: String,
    /// In the container.
    pub private_port: u16,
    /// On the host, 0 when not published.
    #[serde(skip_serializing_if = "is_zero")]
    pub public_port: u16,
    /// `tcp`, `udp` or `sctp`.
    #[serde(rename = "Type")]
    pub kind: String,
}
