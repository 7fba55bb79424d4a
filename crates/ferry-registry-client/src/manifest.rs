//! Manifests and indexes, OCI's and Docker's, as far as pulling needs them.

use ferry_types::{Digest, Platform};
use serde::Deserialize;

pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Start of the media types of schema 1, signed or not.
pub(crate) const SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// A reference to content (OCI image-spec, `descriptor.md`).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    #[serde(default)]
    pub media_type: String,
    /// Digest of its bytes.
    pub digest: Digest,
    /// How many there are.
    pub size: u64,
    #[serde(default)]
    platform: Option<DescriptorPlatform>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct DescriptorPlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
}

/// What makes up one image.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Manifest {
    /// The image config.
    pub config: Descriptor,
    /// The layers, bottom first.
    pub layers: Vec<Descriptor>,
}

impl Manifest {
    /// The media type of something that is no image: a chart, an attestation, a policy.
    pub(crate) fn foreign_type(&self) -> Option<&str> {
        let kind = self.config.media_type.as_str();
        // Some old tools gave the config as octet-stream.
        let known = ["", OCI_CONFIG, DOCKER_CONFIG, "application/octet-stream"];
        if known.contains(&kind) { None } else { Some(kind) }
    }
}

/// A list of manifests, one for each platform.
#[derive(Debug, Deserialize)]
pub struct Index {
    manifests: Vec<Descriptor>,
}

impl Index {
    /// The platforms its entries are for; those without (attestations and the like) are left out.
    pub fn platforms(&self) -> impl Iterator<Item = Platform> {
        self.manifests.iter().filter_map(|d| d.platform.as_ref()).map(|p| Platform {
            os: p.os.clone(),
            architecture: p.architecture.clone(),
            variant: p.variant.clone(),
        })
    }

    /// The entry that suits `platform` best; of equally good ones the first, as Docker takes it.
    pub(crate) fn select(&self, platform: &Platform) -> Option<&Descriptor> {
        let rank = |d: &Descriptor| {
            let p = d.platform.as_ref()?;
            platform.rank(&p.os, &p.architecture, p.variant.as_deref())
        };
        self.manifests.iter().filter_map(|d| Some((rank(d)?, d))).min_by_key(|(r, _)| *r).map(|(_, d)| d)
    }
}
