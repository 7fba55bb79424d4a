//! Turning staged layers and a config into an image: the one place where images come into being.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use ferry_types::{Digest, ImageRef};
use sha2::{Digest as _, Sha256};

use super::records::{Change, LayerRecord};
use super::snapshot::Snapshot;
use super::{ImageStore, io_error, lock, missing_layer, parse_config, put_reference};
use crate::error::{ImageError, Result};
use crate::image::{Image, ImageId};
use crate::layer::LayerError;
use crate::layer::apply::lookup_parent_attributes;
use crate::layer::ingest::{Expected, LayerIngest, StagedLayer};

/// The kernel's limit of lower directories in one overlay mount.
const LAYERS_MAX: usize = 500;

/// Keeps a layer from being removed while an image that needs it is being put together.
#[derive(Debug)]
pub struct LayerLease {
    store: Arc<ImageStore>,
    chain: Digest,
}

impl Drop for LayerLease {
    fn drop(&mut self) {
        let mut leases = lock(&self.store.leases);
        let left = leases.get_mut(&self.chain).map_or(0, |count| {
            *count -= 1;
            *count
        });
        if left == 0 {
            leases.remove(&self.chain);
        }
        drop(leases);
        if left == 0
            && let Err(error) = self.store.remove_unused_layers()
        {
            tracing::warn!(layer = %self.chain, %error, "unused layer stays behind");
        }
    }
}

/// Where one layer of a new image comes from.
#[derive(Debug)]
pub enum LayerSource {
    /// Just unpacked.
    Staged(StagedLayer),
    /// In the store already, under this place of the chain.
    Stored,
}

/// A new image.
#[derive(Debug)]
pub struct Registration<'a> {
    /// The image config; its digest becomes the id.
    pub config: &'a [u8],
    /// The manifest the image came with.
    pub manifest: Option<&'a [u8]>,
    /// One per diff id of the config, bottom first.
    pub layers: Vec<LayerSource>,
    /// The image it was made from, here.
    pub parent: Option<ImageId>,
    /// Names to put on it: tags, and the manifest's digest.
    pub references: Vec<ImageRef>,
}

/// Chain ids of a list of diff ids (OCI image-spec `config.md`, "Layer ChainID").
pub fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let next = match chain.last() {
            None => diff_id.clone(),
            Some(parent) => Digest::sha256(Sha256::digest(format!("{parent} {diff_id}"))),
        };
        chain.push(next);
    }
    chain
}

impl ImageStore {
    /// Whether a layer is in the store.
    pub fn has_layer(&self, chain_id: &Digest) -> bool {
        self.snapshot().layers.contains_key(chain_id)
    }

    /// Holds on to a layer of the store, if it is there.
    pub fn lease_layer(self: &Arc<Self>, chain_id: &Digest) -> Option<LayerLease> {
        // Under the writer's lock: a removal decides there which layers are unused.
        let _writer = lock(&self.writer);
        if !self.has_layer(chain_id) {
            return None;
        }
        *lock(&self.leases).entry(chain_id.clone()).or_insert(0) += 1;
        Some(LayerLease { store: self.clone(), chain: chain_id.clone() })
    }

    /// Directory of any layer with this diff id.
    pub(super) fn layer_dir_by_diff(&self, diff_id: &Digest) -> Option<PathBuf> {
        let snapshot = self.snapshot();
        let layer = snapshot.layers.values().find(|l| l.diff_id == *diff_id)?;
        Some(self.layer_path(&layer.short))
    }

    /// Starts taking a layer. Several may be under way at once.
    ///
    /// # Errors
    /// When the staging directory or a thread cannot be created.
    pub fn ingest_layer(&self, expected: Expected) -> Result<LayerIngest> {
        Ok(LayerIngest::start(&self.tmp(), expected)?)
    }

    /// Makes an image. Layers are synced to disk before the metadata says that they are there; on any
    /// error the store is as before.
    ///
    /// # Errors
    /// When config and layers do not fit together, or the disk or the database fails.
    pub fn register(&self, new: Registration<'_>) -> Result<ImageId> {
        let config = parse_config(new.config)?;
        let diff_ids = &config.rootfs.diff_ids;
        if diff_ids.len() != new.layers.len() {
            return Err(ImageError::LayerCount { config: diff_ids.len(), given: new.layers.len() });
        }
        if diff_ids.len() > LAYERS_MAX {
            return Err(ImageError::TooManyLayers(diff_ids.len()));
        }
        for (diff_id, layer) in diff_ids.iter().zip(&new.layers) {
            if let LayerSource::Staged(staged) = layer
                && staged.diff_id != *diff_id
            {
                let (expected, actual) = (diff_id.clone(), staged.diff_id.clone());
                return Err(LayerError::DiffId { expected, actual }.into());
            }
        }
        // Written-back data makes the sync below short; done before the lock, so that nobody else
        // waits for our bulk.
        self.sync()?;

        let mut writer = lock(&self.writer);
        let mut next = (*self.snapshot()).clone();
        let chain = chain_ids(diff_ids);
        let mut added: Vec<PathBuf> = Vec::new();
        let mut next_layer = writer.next_layer;
        let result = self.add_layers(&mut next, &mut next_layer, &chain, new.layers, &mut added);
        // Numbers of directories are never used twice, not even after a failure.
        writer.next_layer = next_layer;
        let committed = result.and_then(|records| {
            let change = Change::begin(&self.database)?;
            for (chain, record) in &records {
                change.put_layer(chain, record)?;
            }
            let id = self.content.write(new.config)?;
            let manifest = new.manifest.map(|m| self.content.write(m)).transpose()?;
            if !next.images.contains_key(&id) {
                let size = |c: &Digest| next.layers.get(c).map_or(0, |l| l.size);
                let image = Image {
                    id: id.clone(),
                    raw_config: new.config.to_vec(),
                    config,
                    size: chain.iter().map(size).sum(),
                    repo_tags: Vec::new(),
                    repo_digests: Vec::new(),
                    parent: new.parent.filter(|p| next.images.contains_key(p)),
                    last_tagged: None,
                    manifest: manifest.clone(),
                    chain: chain.clone(),
                };
                next.images.insert(id.clone(), Arc::new(image));
            }
            let image = next.images.get_mut(&id).ok_or_else(|| ImageError::NotFound(id.to_string()))?;
            let image = Arc::make_mut(image);
            image.manifest = image.manifest.take().or(manifest);
            change.put_image(&id, &Snapshot::record(image))?;
            for reference in new.references {
                put_reference(&mut next, &change, &id, reference)?;
            }
            self.sync()?;
            change.commit()?;
            Ok(id)
        });
        match committed {
            Ok(id) => {
                self.publish(next);
                Ok(id)
            }
            Err(error) => {
                for path in added {
                    // What cannot be removed now is unknown to the metadata and goes on the next open.
                    self.trash.take(&path).ok();
                }
                Err(error)
            }
        }
    }

    /// Moves staged layers to their places, bottom first.
    fn add_layers(
        &self,
        next: &mut Snapshot,
        next_layer: &mut u64,
        chain: &[Digest],
        layers: Vec<LayerSource>,
        added: &mut Vec<PathBuf>,
    ) -> Result<HashMap<Digest, Arc<LayerRecord>>> {
        let mut records = HashMap::new();
        for (i, layer) in layers.into_iter().enumerate() {
            let id = &chain[i];
            if next.layers.contains_key(id) {
                // Somebody else brought it meanwhile; a staged copy is dropped.
                continue;
            }
            let LayerSource::Staged(staged) = layer else { return Err(missing_layer(id)) };
            let lowers = self.chain_dirs(next, &chain[..i])?;
            let diff = staged.stage.path().join(crate::layer::apply::DIFF);
            lookup_parent_attributes(&diff, &lowers, &staged.implicit)?;
            let short = base36(*next_layer);
            *next_layer += 1;
            let path = self.layer_path(&short);
            let record = Arc::new(LayerRecord {
                short,
                diff_id: staged.diff_id,
                size: staged.size,
                tar_size: staged.tar_size,
            });
            staged.stage.keep_as(&path).map_err(io_error("move layer to", &path))?;
            added.push(path);
            next.layers.insert(id.clone(), record.clone());
            records.insert(id.clone(), record);
        }
        Ok(records)
    }

    /// One syncfs(2) instead of an fsync per file.
    pub(super) fn sync(&self) -> Result<()> {
        let sync = || {
            let dir = std::fs::File::open(&self.root)?;
            Ok(rustix::fs::syncfs(dir)?)
        };
        sync().map_err(io_error("sync", &self.root))
    }
}

/// Short, so that hundreds of them fit into one mount(2) option string.
fn base36(mut n: u64) -> String {
    let mut digits = Vec::new();
    loop {
        let digit = u32::try_from(n % 36).ok().and_then(|d| char::from_digit(d, 36)).unwrap_or('0');
        digits.push(digit);
        n /= 36;
        if n == 0 {
            return digits.into_iter().rev().collect();
        }
    }
}
