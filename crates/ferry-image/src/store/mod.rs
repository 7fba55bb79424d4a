//! The image store: opening, reading, naming. Longer operations lie in the files next to this one.

mod archive_layout;
mod check;
mod content;
mod create;
mod load;
mod partial;
mod rebuild;
mod records;
mod register;
mod remove;
mod save;
mod shadow;
mod snapshot;
mod trash;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use ferry_types::{Digest, ImageRef};
use jiff::Timestamp;

use crate::config::ImageConfig;
use crate::error::{ImageError, Result};
use crate::image::{Image, ImageId};
use crate::layer::apply::DIFF;
use crate::options::DiskUsage;
pub use check::{Checked, Defect, DefectKind, Mended};
use content::Content;
pub use partial::Partial;
pub use rebuild::Rebuilt;
use records::Change;
pub use register::{LayerLease, LayerSource, Registration, chain_ids};
use snapshot::Snapshot;
use trash::Trash;

/// All images of one data root. Readers never wait for writers.
#[derive(Debug)]
pub struct ImageStore {
    root: PathBuf,
    database: Arc<redb::Database>,
    content: Content,
    trash: Trash,
    snapshot: RwLock<Arc<Snapshot>>,
    /// Held by whoever changes metadata.
    writer: Mutex<Writer>,
    /// Layers in use by an ingest under way, counted; see [`LayerLease`].
    leases: Mutex<HashMap<Digest, usize>>,
}

#[derive(Debug)]
struct Writer {
    /// Number of the next layer directory.
    next_layer: u64,
}

/// No state is left half-changed by a panic: changes are made on clones.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn io_error(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> ImageError {
    let path = path.into();
    move |source| ImageError::Io { what, path, source }
}

impl ImageStore {
    /// Opens the store under `root`, with its metadata in `database`, and removes what a crash left
    /// behind. An image whose config cannot be read any more is left out.
    ///
    /// # Errors
    /// When directories cannot be made or the metadata not be read.
    pub fn open(root: &Path, database: Arc<redb::Database>) -> Result<Self> {
        let make = |path: PathBuf| {
            std::fs::create_dir_all(&path).map_err(io_error("create directory", &path))?;
            Ok::<_, ImageError>(path)
        };
        make(root.to_owned())?;
        let root = std::fs::canonicalize(root).map_err(io_error("resolve", root))?;
        let tmp = root.join("tmp");
        let trash = Trash::open(&root).map_err(io_error("open trash of", &root))?;
        if tmp.exists() {
            trash.take(&tmp).map_err(io_error("empty", &tmp))?;
        }
        let layers = make(root.join("layers"))?;
        make(root.join("partial"))?;
        make(tmp)?;
        let empty = make(root.join("empty").join(DIFF))?;
        set_mode_0755(&empty).map_err(io_error("set mode of", &empty))?;
        let content = Content::open(&root)?;
        let records = records::read_all(&database)?;

        let mut snapshot = Snapshot::default();
        for (chain, record) in records.layers {
            snapshot.layers.insert(chain, Arc::new(record));
        }
        for (id, record) in records.images {
            let config = content.read(&id).and_then(|raw| Ok((parse_config(&raw)?, raw)));
            let complete = record.chain.iter().all(|c| snapshot.layers.contains_key(c));
            let (config, raw_config) = match config {
                Ok(config) if complete => config,
                Ok(_) => {
                    tracing::warn!(image = %id, "image left out: a layer is missing");
                    snapshot.left_out.images.insert(id, record);
                    continue;
                }
                Err(error) => {
                    tracing::warn!(image = %id, %error, "image left out: its config cannot be read");
                    snapshot.left_out.images.insert(id, record);
                    continue;
                }
            };
            let image = Image {
                id: id.clone(),
                raw_config,
                config,
                size: record.size,
                repo_tags: Vec::new(),
                repo_digests: Vec::new(),
                parent: record.parent,
                last_tagged: record.last_tagged,
                manifest: record.manifest,
                chain: record.chain,
            };
            snapshot.images.insert(id, Arc::new(image));
        }
        for (reference, id) in records.refs {
            match reference.parse::<ImageRef>() {
                Ok(parsed) if snapshot.images.contains_key(&id) => {
                    snapshot.refs.insert(parsed, id);
                }
                _ => {
                    tracing::warn!(%reference, image = %id, "name left out: its image is missing");
                    snapshot.left_out.refs.insert(reference, id);
                }
            }
        }
        for id in snapshot.images.keys().cloned().collect::<Vec<_>>() {
            snapshot.reindex(&id);
        }
        let next_layer = sweep_layers(&layers, &snapshot, &trash)?;
        if !shadow::exists(&root) {
            shadow::write(&root, &snapshot);
        }
        Ok(Self {
            root,
            database,
            content,
            trash,
            snapshot: RwLock::new(Arc::new(snapshot)),
            writer: Mutex::new(Writer { next_layer }),
            leases: Mutex::default(),
        })
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn publish(&self, snapshot: Snapshot) {
        shadow::write(&self.root, &snapshot);
        *self.snapshot.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(snapshot);
    }

    fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    fn layer_path(&self, short: &str) -> PathBuf {
        self.root.join("layers").join(short)
    }

    /// All images, newest first.
    pub fn list(&self) -> Vec<Arc<Image>> {
        let mut all: Vec<_> = self.snapshot().images.values().cloned().collect();
        all.sort_by_key(|i| std::cmp::Reverse(i.created()));
        all
    }

    /// The image of that id.
    ///
    /// # Errors
    /// When there is none.
    pub fn get(&self, id: &ImageId) -> Result<Arc<Image>> {
        self.snapshot().images.get(id).cloned().ok_or_else(|| ImageError::NotFound(id.to_string()))
    }

    /// The id meant by a reference (`:latest` by default), `name@digest`, a full id with or without
    /// `sha256:`, or a unique start of one.
    ///
    /// # Errors
    /// When no image or several are meant.
    pub fn resolve(&self, name: &str) -> Result<ImageId> {
        self.snapshot().resolve(name)
    }

    /// Directories of the image's layers, topmost first, to be overlayfs' lower directories; one empty
    /// directory for an image without layers.
    ///
    /// # Errors
    /// When there is no such image.
    pub fn layer_dirs(&self, id: &ImageId) -> Result<Vec<PathBuf>> {
        let snapshot = self.snapshot();
        let image = snapshot.images.get(id).ok_or_else(|| ImageError::NotFound(id.to_string()))?;
        let dirs = self.chain_dirs(&snapshot, &image.chain)?;
        Ok(if dirs.is_empty() { vec![self.root.join("empty").join(DIFF)] } else { dirs })
    }

    /// Topmost first.
    fn chain_dirs(&self, snapshot: &Snapshot, chain: &[Digest]) -> Result<Vec<PathBuf>> {
        let dir = |c: &Digest| {
            let layer = snapshot.layers.get(c).ok_or_else(|| missing_layer(c))?;
            Ok(self.layer_path(&layer.short).join(DIFF))
        };
        chain.iter().rev().map(dir).collect()
    }

    /// Bytes of all layers of the image.
    ///
    /// # Errors
    /// When there is no such image.
    pub fn rootfs_size(&self, id: &ImageId) -> Result<u64> {
        Ok(self.get(id)?.size)
    }

    /// Bytes of a layer's files, by its chain id.
    pub fn layer_size(&self, chain_id: &Digest) -> Option<u64> {
        self.snapshot().layers.get(chain_id).map(|l| l.size)
    }

    /// The manifest the image came with.
    ///
    /// # Errors
    /// When there is no such image or its manifest cannot be read.
    pub fn manifest(&self, id: &ImageId) -> Result<Option<Vec<u8>>> {
        self.get(id)?.manifest.as_ref().map(|d| self.content.read(d)).transpose()
    }

    /// Puts a name on an image, taking it off another one. Without a tag, `latest` is meant.
    ///
    /// # Errors
    /// When there is no such image, or the reference has a digest.
    pub fn tag(&self, id: &ImageId, reference: &ImageRef) -> Result<()> {
        if reference.digest().is_some() {
            return Err(ImageError::TagWithDigest);
        }
        let reference = reference.clone().tag_default();
        let _writer = lock(&self.writer);
        let mut next = (*self.snapshot()).clone();
        let change = Change::begin(&self.database)?;
        put_reference(&mut next, &change, id, reference)?;
        change.commit()?;
        self.publish(next);
        Ok(())
    }

    /// Counters for `system df`.
    pub fn disk_usage(&self) -> DiskUsage {
        let snapshot = self.snapshot();
        DiskUsage {
            layers_size: snapshot.layers.values().map(|l| l.size).sum(),
            layers: snapshot.layers.len(),
            images: snapshot.images.len(),
        }
    }
}

/// Names `id` in both the clone and the transaction.
fn put_reference(next: &mut Snapshot, change: &Change, id: &ImageId, reference: ImageRef) -> Result<()> {
    let image = next.images.get_mut(id).ok_or_else(|| ImageError::NotFound(id.to_string()))?;
    if reference.tag().is_some() {
        let image = Arc::make_mut(image);
        image.last_tagged = Some(Timestamp::now());
        change.put_image(id, &Snapshot::record(image))?;
    }
    change.put_ref(&reference.to_string(), id)?;
    let before = next.refs.insert(reference, id.clone());
    next.reindex(id);
    if let Some(before) = before {
        next.reindex(&before);
    }
    Ok(())
}

fn missing_layer(chain: &Digest) -> ImageError {
    ImageError::Archive(format!("layer {chain} is not in the store"))
}

fn parse_config(raw: &[u8]) -> Result<ImageConfig> {
    serde_json::from_slice(raw).map_err(|source| ImageError::Json { what: "image config".to_owned(), source })
}

fn set_mode_0755(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
}

/// Names of the entries of a directory, those that are no text left out.
fn names_in(dir: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(dir).map_err(io_error("read directory", dir))?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

/// Removes layer directories that the metadata does not know (a crash between the rename and the
/// commit); gives the number of the next new one.
fn sweep_layers(layers: &Path, snapshot: &Snapshot, trash: &Trash) -> Result<u64> {
    let known: std::collections::HashSet<&str> = snapshot.layers.values().map(|l| l.short.as_str()).collect();
    let mut next = 0;
    for entry in std::fs::read_dir(layers).map_err(io_error("read directory", layers))? {
        let entry = entry.map_err(io_error("read directory", layers))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if known.contains(name.as_ref()) {
            next = next.max(u64::from_str_radix(&name, 36).map_or(0, |n| n + 1));
        } else {
            trash.take(&entry.path()).map_err(io_error("remove", entry.path()))?;
        }
    }
    Ok(next)
}
