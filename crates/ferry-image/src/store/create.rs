//! Images made here: from a root file system tar, and from a container's changes.

use std::io::{self, Read, Write};

use ferry_types::Digest;
use jiff::Timestamp;

use super::register::{LayerSource, Registration};
use super::{ImageStore, missing_layer};
use crate::config::{ContainerConfig, History, ImageConfig, RootFs};
use crate::error::{ImageError, Result};
use crate::image::{ImageId, Platform};
use crate::instruction::apply_changes;
use crate::layer::LayerError;
use crate::layer::diff::diff_tar;
use crate::layer::ingest::{Expected, LayerIngest, StagedLayer};
use crate::options::{CommitOptions, ImportOptions};

impl ImageStore {
    /// Makes an image of one layer from a root file system tar, compressed or not.
    ///
    /// # Errors
    /// When the tar is malformed or truncated, a change is wrong, or the disk fails; the store is then
    /// as before.
    pub fn import_rootfs(&self, reader: &mut dyn Read, options: ImportOptions) -> Result<ImageId> {
        let mut container = ContainerConfig::default();
        apply_changes(&mut container, &options.changes)?;
        if options.reference.as_ref().is_some_and(|r| r.digest().is_some()) {
            return Err(ImageError::TagWithDigest);
        }
        let mut ingest = self.ingest_layer(Expected::default())?;
        let copied = ingest.copy_from(reader);
        let layer = finish(ingest, copied, "read archive")?;
        let now = Timestamp::now();
        let platform = options.platform.unwrap_or_else(Platform::host);
        let message = options.message.unwrap_or_else(|| "Imported from -".to_owned());
        let config = ImageConfig {
            architecture: platform.architecture,
            variant: platform.variant,
            os: platform.os,
            config: container,
            created: Some(now),
            history: vec![History { created: Some(now), comment: Some(message), ..History::default() }],
            rootfs: RootFs { diff_ids: vec![layer.diff_id.clone()], ..RootFs::default() },
            ..ImageConfig::default()
        };
        self.register(Registration {
            config: &encode(&config)?,
            manifest: None,
            layers: vec![LayerSource::Staged(layer)],
            parent: None,
            references: options.reference.map(ferry_types::ImageRef::tag_default).into_iter().collect(),
        })
    }

    /// Makes an image from a container's upper directory on top of its image.
    ///
    /// # Errors
    /// When the parent is gone, a change is wrong, or the disk fails; the store is then as before.
    pub fn commit(&self, options: CommitOptions) -> Result<ImageId> {
        let mut container = options.config;
        apply_changes(&mut container, &options.changes)?;
        if options.reference.as_ref().is_some_and(|r| r.digest().is_some()) {
            return Err(ImageError::TagWithDigest);
        }
        let parent = self.get(&options.parent)?;
        let mut ingest = self.ingest_layer(Expected::default())?;
        let written = diff_tar(&options.upper, &mut ingest);
        let layer = match written {
            Ok(()) => ingest.finish()?,
            // The ingest broke off: it knows why.
            Err(LayerError::Write(e)) => finish::<()>(ingest, Err(e), "unpack committed layer")?,
            Err(e) => return Err(e.into()),
        };
        let now = Timestamp::now();
        let mut config = parent.config.clone();
        config.config = container;
        config.created = Some(now);
        config.author = options.author.or(config.author);
        config.rootfs.diff_ids.push(layer.diff_id.clone());
        config.history.push(History {
            created: Some(now),
            created_by: Some(options.created_by).filter(|c| !c.is_empty()),
            author: config.author.clone(),
            comment: options.message,
            ..History::default()
        });
        // Older Docker versions' notes about the build of the parent.
        for stale in ["container", "container_config", "id", "parent", "parent_id", "docker_version"] {
            config.extra.remove(stale);
        }
        let mut layers: Vec<_> = parent.chain.iter().map(|_| LayerSource::Stored).collect();
        layers.push(LayerSource::Staged(layer));
        self.register(Registration {
            config: &encode(&config)?,
            manifest: None,
            layers,
            parent: Some(options.parent),
            references: options.reference.map(ferry_types::ImageRef::tag_default).into_iter().collect(),
        })
    }

    /// Writes a layer's tar, bit for bit as it was when the layer came in.
    ///
    /// # Errors
    /// When the layer is not there or damaged, or `out` fails.
    pub fn write_layer_tar(&self, chain_id: &Digest, out: &mut dyn Write) -> Result<()> {
        let snapshot = self.snapshot();
        let layer = snapshot.layers.get(chain_id).ok_or_else(|| missing_layer(chain_id))?;
        let recipe = crate::layer::recipe::Recipe::open(&self.layer_path(&layer.short))?;
        let mut hashing = HashingWriter::new(out);
        recipe.rebuild(&mut hashing)?;
        let actual = hashing.digest();
        if actual != layer.diff_id {
            return Err(LayerError::DiffId { expected: layer.diff_id.clone(), actual }.into());
        }
        Ok(())
    }
}

/// Passes bytes on and hashes them.
pub(super) struct HashingWriter<'a> {
    out: &'a mut dyn Write,
    hasher: sha2::Sha256,
}

impl<'a> HashingWriter<'a> {
    pub fn new(out: &'a mut dyn Write) -> Self {
        Self { out, hasher: sha2::Digest::new() }
    }

    pub fn digest(self) -> Digest {
        Digest::sha256(sha2::Digest::finalize(self.hasher))
    }
}

impl Write for HashingWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.out.write(bytes)?;
        sha2::Digest::update(&mut self.hasher, &bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Ends an ingest that was fed with the given success. Of two errors the ingest's own is the cause.
pub(super) fn finish<T>(ingest: LayerIngest, fed: io::Result<T>, what: &'static str) -> Result<StagedLayer> {
    match fed {
        Ok(_) => Ok(ingest.finish()?),
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => match ingest.finish() {
            // A success is none: not all bytes were there.
            Ok(_) | Err(LayerError::Aborted) => Err(ImageError::Stream { what, source: e }),
            Err(cause) => Err(cause.into()),
        },
        Err(source) => Err(ImageError::Stream { what, source }),
    }
}

pub(super) fn encode<T: serde::Serialize>(document: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(document)
        .map_err(|source| ImageError::Json { what: "image config".to_owned(), source })
}
