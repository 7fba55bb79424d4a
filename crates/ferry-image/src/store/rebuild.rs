//! Metadata of images made anew when the database is lost: from the copy of it beside the content, and from
//! the content itself. Names of images are only in the copy; what an image consists of is on disk as well.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ferry_types::Digest;

use super::content::Content;
use super::records::{Change, ImageRecord, LayerRecord, Records};
use super::{ImageStore, chain_ids, io_error, parse_config, records, shadow};
use crate::aside::LostFound;
use crate::config::ImageConfig;
use crate::error::Result;
use crate::layer::LayerError;
use crate::layer::apply::DIFF;
use crate::layer::recipe::Recipe;
use crate::store::create::HashingWriter;

/// What [`ImageStore::rebuild`] found.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Rebuilt {
    /// Images that are complete.
    pub images: usize,
    /// Names that lead to one.
    pub names: usize,
    /// Layers.
    pub layers: usize,
    /// Layer directories that belong to no image or are not whole; where they are now.
    pub set_aside: Vec<PathBuf>,
}

impl ImageStore {
    /// Whether a database can be read as metadata of images.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn examine(database: &redb::Database) -> Result<()> {
        records::read_all(database).map(drop)
    }

    /// Fills an empty database with what can be known about the images under `root`.
    ///
    /// # Errors
    /// When directories cannot be read or the database not be written.
    pub fn rebuild(root: &Path, database: &redb::Database, aside: &LostFound) -> Result<Rebuilt> {
        let layers = root.join("layers");
        for dir in [&layers, &root.join("tmp")] {
            std::fs::create_dir_all(dir).map_err(io_error("create directory", dir))?;
        }
        let content = Content::open(root)?;
        let mut known = shadow::read(root).unwrap_or_default();
        let dirs = super::names_in(&layers)?;
        known.layers.retain(|_, layer| dirs.contains(&layer.short) && is_whole(&layers.join(&layer.short)));
        let configs = configs(&content)?;

        let mut rebuilt = Rebuilt::default();
        let mut found = Unclaimed::default();
        for short in dirs {
            if known.layers.values().any(|layer| layer.short == short) {
                continue;
            }
            let dir = layers.join(&short);
            match identify(&dir, &short) {
                Ok(layer) => found.add(layer),
                Err(error) => {
                    rebuilt.set_aside.push(take(aside, &dir, &format!("half-written layer: {error}"))?)
                }
            }
        }
        for (id, config) in &configs {
            add_image(&mut known, &mut found, id, config);
        }
        let complete = |record: &ImageRecord| record.chain.iter().all(|c| known.layers.contains_key(c));
        known.images.retain(|id, record| configs.contains_key(id) && complete(record));
        known.refs.retain(|_, id| known.images.contains_key(id));
        for layer in found.rest() {
            let dir = layers.join(&layer.short);
            rebuilt.set_aside.push(take(aside, &dir, "layer that belongs to no image")?);
        }

        let change = Change::begin(database)?;
        for (chain, record) in &known.layers {
            change.put_layer(chain, record)?;
        }
        for (id, record) in &known.images {
            change.put_image(id, record)?;
        }
        for (name, id) in &known.refs {
            change.put_ref(name, id)?;
        }
        change.commit()?;
        rebuilt.images = known.images.len();
        rebuilt.names = known.refs.len();
        rebuilt.layers = known.layers.len();
        Ok(rebuilt)
    }
}

fn take(aside: &LostFound, path: &Path, reason: &str) -> Result<PathBuf> {
    aside.take(path, reason).map_err(io_error("set aside", path))
}

/// Whether a layer's directory has all its parts; their contents are not looked at.
fn is_whole(dir: &Path) -> bool {
    dir.join(DIFF).is_dir() && Recipe::open(dir).is_ok_and(|recipe| recipe.skim().is_ok())
}

/// Layers on disk that no record names, by diff id. The same tar may have been unpacked for several chains.
#[derive(Default)]
struct Unclaimed(BTreeMap<Digest, Vec<LayerRecord>>);

impl Unclaimed {
    fn add(&mut self, layer: LayerRecord) {
        self.0.entry(layer.diff_id.clone()).or_default().push(layer);
    }

    fn claim(&mut self, diff_id: &Digest) -> Option<LayerRecord> {
        self.0.get_mut(diff_id)?.pop()
    }

    fn rest(self) -> impl Iterator<Item = LayerRecord> {
        self.0.into_values().flatten()
    }
}

/// Every document that is an image config and not a manifest.
fn configs(content: &Content) -> Result<BTreeMap<Digest, ImageConfig>> {
    let mut configs = BTreeMap::new();
    for id in content.list()? {
        let Ok(raw) = content.read(&id) else { continue };
        let is_config = serde_json::from_slice::<serde_json::Value>(&raw)
            .is_ok_and(|document| document["rootfs"]["diff_ids"].is_array());
        if is_config && let Ok(config) = parse_config(&raw) {
            configs.insert(id, config);
        }
    }
    Ok(configs)
}

/// Adds the image of a config when all its layers are there.
fn add_image(known: &mut Records, found: &mut Unclaimed, id: &Digest, config: &ImageConfig) {
    let chain = chain_ids(&config.rootfs.diff_ids);
    for (place, diff_id) in chain.iter().zip(&config.rootfs.diff_ids) {
        if !known.layers.contains_key(place)
            && let Some(layer) = found.claim(diff_id)
        {
            known.layers.insert(place.clone(), layer);
        }
    }
    if !known.images.contains_key(id) {
        let size = chain.iter().filter_map(|c| known.layers.get(c)).map(|layer| layer.size).sum();
        let record = ImageRecord { chain, size, parent: None, manifest: None, last_tagged: None };
        known.images.insert(id.clone(), record);
    }
}

/// Rebuilds a layer's tar to learn what it is.
fn identify(dir: &Path, short: &str) -> Result<LayerRecord, LayerError> {
    let mut sink = Counter(0);
    let mut hashing = HashingWriter::new(&mut sink);
    Recipe::open(dir)?.rebuild(&mut hashing)?;
    let diff_id = hashing.digest();
    let diff = dir.join(DIFF);
    let size = size_of(&diff).map_err(LayerError::io("measure layer", &diff))?;
    Ok(LayerRecord { short: short.to_owned(), diff_id, size, tar_size: sink.0 })
}

struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Bytes of all files below a directory, each inode once.
fn size_of(dir: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let (mut total, mut seen, mut todo) = (0, std::collections::HashSet::new(), vec![dir.to_owned()]);
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            let meta = entry.metadata()?;
            if meta.is_dir() {
                todo.push(entry.path());
            } else if meta.is_file() && seen.insert(meta.ino()) {
                total += meta.len();
            }
        }
    }
    Ok(total)
}
