//! Images.

use serde::{Deserialize, Serialize};

use crate::container::{GraphDriver, HealthConfig};
use crate::json::{Empty, List, Map, Time, is_empty_list, is_empty_map, is_zero, str_list};

/// One line of `images`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageSummary {
    /// How many containers use it, -1 when not counted.
    pub containers: i64,
    /// Seconds since the epoch.
    pub created: i64,
    /// `sha256:…` of the configuration.
    pub id: String,
    /// Of the configuration.
    pub labels: Map<String>,
    /// Id of the image it was committed from, empty when unknown.
    pub parent_id: String,
    /// Of the manifest or index, when known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub descriptor: Option<Descriptor>,
    /// Manifests of an index, when asked for.
    #[serde(skip_serializing_if = "is_empty_list")]
    pub manifests: List<ManifestSummary>,
    /// `name@sha256:…`.
    pub repo_digests: Vec<String>,
    /// `name:tag`.
    pub repo_tags: Vec<String>,
    /// Bytes shared with other images, -1 when not counted.
    pub shared_size: i64,
    /// Bytes of all layers.
    pub size: i64,
    /// As `Size`; before API 1.44 only.
    #[serde(skip_serializing_if = "is_zero")]
    pub virtual_size: i64,
}

/// An OCI content descriptor (image-spec `descriptor.md`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Descriptor {
    /// Of the content.
    pub media_type: String,
    /// `sha256:…`.
    pub digest: String,
    /// Bytes.
    pub size: i64,
    /// Where it may also be fetched.
    #[serde(skip_serializing_if = "is_empty_list")]
    pub urls: List<String>,
    /// OCI annotations.
    #[serde(skip_serializing_if = "is_empty_map")]
    pub annotations: Map<String>,
    /// Content in base64.
    #[serde(skip_serializing_if = "is_zero")]
    pub data: String,
    /// What it runs on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Of an artifact.
    #[serde(skip_serializing_if = "is_zero")]
    pub artifact_type: String,
}

/// What an image runs on (image-spec `image-index.md`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Platform {
    /// `amd64`, `arm64`, …
    pub architecture: String,
    /// `linux`.
    pub os: String,
    /// Windows only.
    #[serde(rename = "os.version", skip_serializing_if = "is_zero")]
    pub os_version: String,
    /// Windows only.
    #[serde(rename = "os.features", skip_serializing_if = "is_empty_list")]
    pub os_features: List<String>,
    /// `v7`, …
    #[serde(skip_serializing_if = "is_zero")]
    pub variant: String,
}

/// One manifest of a multi-platform image.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ManifestSummary {
    /// Digest.
    #[serde(rename = "ID")]
    pub id: String,
    /// Of the manifest.
    pub descriptor: Descriptor,
    /// Whether all of it is here.
    pub available: bool,
    /// On disk.
    pub size: ManifestSize,
    /// `image`, `attestation` or `unknown`.
    pub kind: String,
    /// Of an image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_data: Option<ManifestImage>,
}

/// Sizes of a [`ManifestSummary`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ManifestSize {
    /// Bytes of blobs.
    pub content: i64,
    /// Bytes of all.
    pub total: i64,
}

/// `ImageData` of a [`ManifestSummary`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ManifestImage {
    /// What it runs on.
    pub platform: Platform,
    /// On disk.
    pub size: UnpackedSize,
    /// Full ids of its containers.
    pub containers: List<String>,
}

/// Size of unpacked layers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct UnpackedSize {
    /// Bytes.
    pub unpacked: i64,
}

/// `GET /images/{name}/json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageInspect {
    /// `sha256:…` of the configuration.
    pub id: String,
    /// `name:tag`.
    pub repo_tags: Vec<String>,
    /// `name@sha256:…`.
    pub repo_digests: Vec<String>,
    /// Id of the image it was committed from; before API 1.52 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Of the last history entry.
    #[serde(skip_serializing_if = "is_zero")]
    pub comment: String,
    /// RFC 3339; omitted when unknown.
    #[serde(skip_serializing_if = "is_zero")]
    pub created: String,
    /// Before API 1.52 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub docker_version: Option<String>,
    /// As the image says.
    #[serde(skip_serializing_if = "is_zero")]
    pub author: String,
    /// What containers of it run.
    pub config: ImageConfig,
    /// `amd64`, `arm64`, …
    pub architecture: String,
    /// `v7`, …
    #[serde(skip_serializing_if = "is_zero")]
    pub variant: String,
    /// `linux`.
    pub os: String,
    /// Windows only.
    #[serde(skip_serializing_if = "is_zero")]
    pub os_version: String,
    /// Bytes of all layers.
    pub size: i64,
    /// As `Size`; before API 1.44 only.
    #[serde(skip_serializing_if = "is_zero")]
    pub virtual_size: i64,
    /// Its directories.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub graph_driver: Option<GraphDriver>,
    /// Its layers.
    #[serde(rename = "RootFS")]
    pub root_fs: RootFs,
    /// Of this daemon.
    pub metadata: ImageMetadata,
    /// Of the manifest or index, when known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub descriptor: Option<Descriptor>,
    /// Manifests of an index, when asked for.
    #[serde(skip_serializing_if = "is_empty_list")]
    pub manifests: List<ManifestSummary>,
}

/// `Config` of an image: the OCI members and Docker's. Unlike a container's, empty members are
/// omitted; [`crate::convert`] restores the older form.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageConfig {
    /// `user[:group]`.
    #[serde(skip_serializing_if = "is_zero")]
    pub user: String,
    /// Set of `port/protocol`.
    #[serde(skip_serializing_if = "is_empty_map")]
    pub exposed_ports: Map<Empty>,
    /// `NAME=value`.
    #[serde(skip_serializing_if = "is_empty_list")]
    pub env: List<String>,
    /// Command the arguments are given to.
    #[serde(skip_serializing_if = "is_empty_list", deserialize_with = "str_list")]
    pub entrypoint: List<String>,
    /// Default arguments.
    #[serde(skip_serializing_if = "is_empty_list", deserialize_with = "str_list")]
    pub cmd: List<String>,
    /// Set of paths that get a volume.
    #[serde(skip_serializing_if = "is_empty_map")]
    pub volumes: Map<Empty>,
    /// Absolute path.
    #[serde(skip_serializing_if = "is_zero")]
    pub working_dir: String,
    /// Metadata.
    #[serde(skip_serializing_if = "is_empty_map")]
    pub labels: Map<String>,
    /// Signal that stops containers.
    #[serde(skip_serializing_if = "is_zero")]
    pub stop_signal: String,
    /// Windows only.
    #[serde(skip_serializing_if = "is_zero")]
    pub args_escaped: bool,
    /// How to tell whether a container is healthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
    /// Triggers for images built from this one.
    #[serde(skip_serializing_if = "is_empty_list")]
    pub on_build: List<String>,
    /// Shell of the shell form of instructions.
    #[serde(skip_serializing_if = "is_empty_list", deserialize_with = "str_list")]
    pub shell: List<String>,
}

/// Layers of an image.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RootFs {
    /// `layers`.
    #[serde(rename = "Type", skip_serializing_if = "is_zero")]
    pub kind: String,
    /// Diff ids, bottom first.
    #[serde(skip_serializing_if = "is_empty_list")]
    pub layers: List<String>,
}

/// What a daemon knows of an image beyond its content.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageMetadata {
    /// When it was last tagged; the zero time when never.
    pub last_tag_time: Time,
}

/// One element of `GET /images/{name}/history`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HistoryItem {
    /// As the image says.
    pub comment: String,
    /// Seconds since the epoch.
    pub created: i64,
    /// Instruction.
    pub created_by: String,
    /// Image id, `<missing>` where there is none.
    pub id: String,
    /// Bytes.
    pub size: i64,
    /// `name:tag`, null where there are none.
    pub tags: List<String>,
}

/// One element of the answer to `DELETE /images/{name}`; exactly one member is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageDeleteItem {
    /// Image or layer id.
    #[serde(skip_serializing_if = "is_zero")]
    pub deleted: String,
    /// `name:tag` or `name@digest`.
    #[serde(skip_serializing_if = "is_zero")]
    pub untagged: String,
}

/// Answer of `POST /images/prune`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImagePruneResponse {
    /// Null when none.
    pub images_deleted: List<ImageDeleteItem>,
    /// Bytes.
    pub space_reclaimed: u64,
}

/// Answer of `GET /distribution/{name}/json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DistributionInspect {
    /// Of the manifest or index in the registry.
    pub descriptor: Descriptor,
    /// What it runs on.
    pub platforms: List<Platform>,
}

/// One element of `GET /images/search`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageSearchItem {
    /// Stars on the registry.
    pub star_count: i64,
    /// Whether it is an official image.
    pub is_official: bool,
    /// Repository.
    pub name: String,
    /// Always false by now.
    pub is_automated: bool,
    /// One line.
    pub description: String,
}
