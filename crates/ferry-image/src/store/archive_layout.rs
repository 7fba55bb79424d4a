//! The documents of image archives: Docker's `manifest.json` and the OCI image layout.

use std::collections::BTreeMap;

use ferry_types::Digest;
use serde::{Deserialize, Serialize};

pub(super) const MANIFEST_JSON: &str = "manifest.json";
pub(super) const INDEX_JSON: &str = "index.json";
pub(super) const OCI_LAYOUT: &str = "oci-layout";
pub(super) const REPOSITORIES: &str = "repositories";

pub(super) const MEDIA_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const MEDIA_DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(super) const MEDIA_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const MEDIA_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(super) const MEDIA_DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
pub(super) const MEDIA_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// containerd's annotation: the full reference.
pub(super) const ANNOTATION_NAME: &str = "io.containerd.image.name";
/// OCI's annotation: a tag, or a whole reference, depending on the tool.
pub(super) const ANNOTATION_REF: &str = "org.opencontainers.image.ref.name";
/// BuildKit's mark of manifests that are no images (attestations).
pub(super) const ANNOTATION_KIND: &str = "vnd.docker.reference.type";

/// One image of `manifest.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ArchiveImage {
    pub config: String,
    pub repo_tags: Option<Vec<String>>,
    #[serde(default)]
    pub layers: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer_sources: Option<BTreeMap<Digest, Descriptor>>,
}

/// `json` of one layer in the format of Docker before 1.10.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct V1Image {
    #[serde(default)]
    pub parent: Option<String>,
    #[serde(default)]
    pub created: Option<jiff::Timestamp>,
    #[serde(default)]
    pub author: Option<String>,
    #[serde(default)]
    pub comment: Option<String>,
    #[serde(default)]
    pub container_config: Option<crate::config::ContainerConfig>,
    #[serde(default)]
    pub config: Option<crate::config::ContainerConfig>,
    #[serde(default)]
    pub architecture: Option<String>,
    #[serde(default)]
    pub os: Option<String>,
}

/// OCI descriptor, the members that matter here.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: Digest,
    #[serde(default)]
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<DescriptorPlatform>,
}

impl Descriptor {
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str)
    }
}

/// Platform of a descriptor.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct DescriptorPlatform {
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// OCI image index or Docker manifest list.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Index {
    pub schema_version: u32,
    #[serde(default)]
    pub media_type: String,
    pub manifests: Vec<Descriptor>,
}

/// OCI image manifest or Docker schema 2.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    pub schema_version: u32,
    #[serde(default)]
    pub media_type: String,
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
}
