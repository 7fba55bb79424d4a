//! Volumes.

use serde::{Deserialize, Serialize};

use crate::json::{List, Map, is_empty_map, is_zero};

/// A volume.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Volume {
    /// RFC 3339 in seconds.
    #[serde(skip_serializing_if = "is_zero")]
    pub created_at: String,
    /// `local`.
    pub driver: String,
    /// User metadata.
    pub labels: Map<String>,
    /// Host path.
    pub mountpoint: String,
    /// Unique per daemon.
    pub name: String,
    /// For the driver.
    pub options: Map<String>,
    /// `local` or `global`.
    pub scope: String,
    /// From the driver.
    #[serde(skip_serializing_if = "is_empty_map")]
    pub status: Map<serde_json::Value>,
    /// In `system df` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage_data: Option<VolumeUsage>,
}

/// Use of a volume; -1 where not known.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct VolumeUsage {
    /// Containers that refer to it.
    pub ref_count: i64,
    /// Bytes.
    pub size: i64,
}

/// Body of `POST /volumes/create`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct VolumeCreateRequest {
    /// `local` when empty.
    #[serde(skip_serializing_if = "is_zero")]
    pub driver: String,
    /// For the driver.
    #[serde(skip_serializing_if = "is_empty_map")]
    pub driver_opts: Map<String>,
    /// User metadata.
    #[serde(skip_serializing_if = "is_empty_map")]
    pub labels: Map<String>,
    /// A random one when empty.
    #[serde(skip_serializing_if = "is_zero")]
    pub name: String,
    /// Of swarm's cluster volumes; kept as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_volume_spec: Option<serde_json::Value>,
}

/// Answer of `GET /volumes`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct VolumeListResponse {
    /// `[]` when there are none.
    pub volumes: Vec<Volume>,
    /// For people, null when there are none.
    pub warnings: List<String>,
}

/// Answer of `POST /volumes/prune`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct VolumePruneResponse {
    /// Names; `[]` when none.
    pub volumes_deleted: Vec<String>,
    /// Bytes.
    pub space_reclaimed: u64,
}
