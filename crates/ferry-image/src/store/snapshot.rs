//! The in-memory picture of the metadata that readers see. Immutable once published: a writer clones
//! it, changes the clone, commits the same change to the database and publishes the clone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ferry_types::{Digest, ImageRef, ImageRefError};

use super::records::{ImageRecord, LayerRecord, Records};
use crate::error::{ImageError, Result};
use crate::image::{Image, ImageId};

/// All images, names and layers at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Snapshot {
    pub images: BTreeMap<ImageId, Arc<Image>>,
    pub refs: BTreeMap<ImageRef, ImageId>,
    pub layers: BTreeMap<Digest, Arc<LayerRecord>>,
    /// Images that cannot be used because of something damaged, and their names. Their layers stay.
    pub left_out: Records,
}

impl Snapshot {
    /// References of an image: those with a tag, then those with a digest, each sorted.
    pub fn references(&self, id: &ImageId) -> Vec<ImageRef> {
        let mut all: Vec<_> = self.refs.iter().filter(|(_, i)| *i == id).map(|(r, _)| r.clone()).collect();
        all.sort_by_key(|r| (r.digest().is_some(), r.to_string()));
        all
    }

    /// Brings an image's own list of references up to date.
    pub fn reindex(&mut self, id: &ImageId) {
        let references = self.references(id);
        if let Some(image) = self.images.get_mut(id) {
            let image = Arc::make_mut(image);
            (image.repo_digests, image.repo_tags) =
                references.into_iter().partition(|r| r.digest().is_some());
        }
    }

    /// Whether another image was made from this one.
    pub fn has_children(&self, id: &ImageId) -> bool {
        self.images.values().any(|i| i.parent.as_ref() == Some(id))
    }

    /// Layers that no image uses.
    pub fn unused_layers(&self) -> Vec<Digest> {
        let held = self.left_out.images.values().flat_map(|i| &i.chain);
        let used: BTreeSet<&Digest> = self.images.values().flat_map(|i| &i.chain).chain(held).collect();
        self.layers.keys().filter(|c| !used.contains(c)).cloned().collect()
    }

    pub fn record(image: &Image) -> ImageRecord {
        ImageRecord {
            chain: image.chain.clone(),
            size: image.size,
            parent: image.parent.clone(),
            manifest: image.manifest.clone(),
            last_tagged: image.last_tagged,
        }
    }

    /// All records, those of images left out among them.
    pub fn records(&self) -> Records {
        let mut records = self.left_out.clone();
        let images = self.images.iter().map(|(id, image)| (id.clone(), Self::record(image)));
        records.images.extend(images);
        records.refs.extend(self.refs.iter().map(|(name, id)| (name.to_string(), id.clone())));
        records.layers.extend(self.layers.iter().map(|(chain, layer)| (chain.clone(), (**layer).clone())));
        records
    }

    /// What a name means: a reference, a full id, or a unique start of one. A name wins over an id.
    pub fn resolve(&self, name: &str) -> Result<ImageId> {
        let parsed = match name.parse::<ImageRef>() {
            Ok(reference) => Some(reference.tag_default()),
            Err(ImageRefError::LooksLikeId(_)) => None,
            // An id in full is no reference, and nothing at all is just not there.
            Err(_) if name.is_empty() || name.starts_with("sha256:") => None,
            Err(error) => return Err(error.into()),
        };
        if let Some(reference) = &parsed
            && let Some(id) = self.by_reference(reference)
        {
            return Ok(id.clone());
        }
        let missing = || {
            let shown = match &parsed {
                Some(reference) => reference.familiar(),
                None => name.to_owned(),
            };
            Err(ImageError::NotFound(shown))
        };
        let hex = name.strip_prefix("sha256:").unwrap_or(name);
        let is_hex = hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if hex.is_empty() || hex.len() > 64 || !is_hex {
            return missing();
        }
        let mut found =
            self.images.range(lowest(hex)..).map(|(id, _)| id).take_while(|id| id.hex().starts_with(hex));
        match (found.next(), found.next()) {
            (Some(id), None) => Ok(id.clone()),
            (Some(_), Some(_)) => Err(ImageError::Ambiguous(name.to_owned())),
            (None, _) => missing(),
        }
    }

    fn by_reference(&self, reference: &ImageRef) -> Option<&ImageId> {
        if let Some(digest) = reference.digest() {
            // With a digest the tag says nothing. Docker also takes an image's own id as digest.
            let bare = reference.with_digest(digest.clone());
            let own = || {
                let repository = reference.repository();
                let named = self.refs.iter().any(|(r, id)| id == digest && r.repository() == repository);
                named.then(|| self.images.get_key_value(digest).map(|(id, _)| id)).flatten()
            };
            return self.refs.get(&bare).or_else(own);
        }
        self.refs.get(reference)
    }
}

/// The lowest digest that starts with `hex`.
fn lowest(hex: &str) -> Digest {
    let mut bytes = [0_u8; 32];
    for (i, digit) in hex.bytes().enumerate() {
        let value = char::from(digit).to_digit(16).and_then(|d| u8::try_from(d).ok()).unwrap_or(0);
        bytes[i / 2] |= if i % 2 == 0 { value << 4 } else { value };
    }
    Digest::sha256(bytes)
}
