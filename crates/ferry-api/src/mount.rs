//! Mounts: as asked for ([`Mount`]) and as they are in force ([`MountPoint`]).

use serde::{Deserialize, Serialize};

use crate::json::{List, Map, is_zero};

/// A mount in the long form (`--mount`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Mount {
    /// `bind`, `volume`, `tmpfs`, `image`, `npipe` or `cluster`.
    #[serde(rename = "Type", skip_serializing_if = "is_zero")]
    pub kind: String,
    /// Host path, volume or image name.
    #[serde(skip_serializing_if = "is_zero")]
    pub source: String,
    /// Absolute path in the container.
    #[serde(skip_serializing_if = "is_zero")]
    pub target: String,
    /// Read-only, recursively where the kernel can.
    #[serde(skip_serializing_if = "is_zero")]
    pub read_only: bool,
    /// `default`, `consistent`, `cached` or `delegated`; without effect on Linux.
    #[serde(skip_serializing_if = "is_zero")]
    pub consistency: String,
    /// For `bind`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bind_options: Option<BindOptions>,
    /// For `volume`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_options: Option<VolumeOptions>,
    /// For `image`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_options: Option<ImageOptions>,
    /// For `tmpfs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tmpfs_options: Option<TmpfsOptions>,
}

/// Options of a bind mount.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct BindOptions {
    /// `[r]private`, `[r]shared` or `[r]slave`.
    #[serde(skip_serializing_if = "is_zero")]
    pub propagation: String,
    /// Without the mounts below the source.
    #[serde(skip_serializing_if = "is_zero")]
    pub non_recursive: bool,
    /// Create a missing source directory.
    #[serde(skip_serializing_if = "is_zero")]
    pub create_mountpoint: bool,
    /// Read-only at the top only.
    #[serde(skip_serializing_if = "is_zero")]
    pub read_only_non_recursive: bool,
    /// Fail when it cannot be read-only throughout.
    #[serde(skip_serializing_if = "is_zero")]
    pub read_only_force_recursive: bool,
}

/// Options of a volume mount.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct VolumeOptions {
    /// Do not fill a new volume from the image.
    #[serde(skip_serializing_if = "is_zero")]
    pub no_copy: bool,
    /// Labels of a volume made for the mount.
    #[serde(skip_serializing_if = "crate::json::is_empty_map")]
    pub labels: Map<String>,
    /// Directory of the volume to mount.
    #[serde(skip_serializing_if = "is_zero")]
    pub subpath: String,
    /// Driver of a volume made for the mount.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver_config: Option<VolumeDriver>,
}

/// A volume driver and its options.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct VolumeDriver {
    /// `local` or a plugin.
    #[serde(skip_serializing_if = "is_zero")]
    pub name: String,
    /// For the driver.
    #[serde(skip_serializing_if = "crate::json::is_empty_map")]
    pub options: Map<String>,
}

/// Options of an image mount.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageOptions {
    /// Directory of the image to mount.
    #[serde(skip_serializing_if = "is_zero")]
    pub subpath: String,
}

/// Options of a tmpfs mount.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct TmpfsOptions {
    /// Bytes, 0 for the kernel's default.
    #[serde(skip_serializing_if = "is_zero")]
    pub size_bytes: i64,
    /// Permission bits, 0 for 1777.
    #[serde(skip_serializing_if = "is_zero")]
    pub mode: u32,
    /// Further mount options, `[name]` or `[name, value]`.
    #[serde(skip_serializing_if = "crate::json::is_empty_list")]
    pub options: List<List<String>>,
}

/// A volume or bind of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct MountPoint {
    /// `bind`, `volume`, `tmpfs`, …
    #[serde(rename = "Type", skip_serializing_if = "is_zero")]
    pub kind: String,
    /// Of the volume.
    #[serde(skip_serializing_if = "is_zero")]
    pub name: String,
    /// Host path.
    pub source: String,
    /// Path in the container.
    pub destination: String,
    /// Of the volume.
    #[serde(skip_serializing_if = "is_zero")]
    pub driver: String,
    /// Options as the user wrote them, `z`, `ro`, …
    pub mode: String,
    /// Writable.
    #[serde(rename = "RW")]
    pub rw: bool,
    /// `rprivate` for binds, empty for volumes.
    pub propagation: String,
}
