//! Comparing the metadata with what is on disk, and setting aside what is damaged. Nothing is deleted here.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ferry_types::Digest;

use super::create::HashingWriter;
use super::records::{self, Change};
use super::snapshot::Snapshot;
use super::{ImageStore, chain_ids, io_error, lock, parse_config};
use crate::aside::LostFound;
use crate::error::{ImageError, Result};
use crate::image::{ImageId, InUse};
use crate::layer::apply::DIFF;
use crate::layer::recipe::{FILES, RECIPE, Recipe};

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defect {
    /// What it is, and of what.
    pub kind: DefectKind,
    /// The file or directory.
    pub path: PathBuf,
    /// What is wrong with it.
    pub detail: String,
}

/// Kinds of [`Defect`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DefectKind {
    /// The database cannot be read.
    Database,
    /// An image's config cannot be read, or does not fit its layers.
    Config(ImageId),
    /// The manifest an image came with cannot be read; the image itself is usable.
    Manifest(ImageId),
    /// A layer of an image is in no record.
    MissingLayer(ImageId),
    /// A layer's directory is missing, incomplete or changed.
    Layer(Digest),
    /// A name leads to no image.
    Name(String),
    /// A document that nothing refers to.
    StrayDocument,
    /// A layer directory that nothing refers to.
    StrayLayer,
}

/// What [`ImageStore::check`] looked at.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Everything that is wrong.
    pub defects: Vec<Defect>,
    /// Images looked at.
    pub images: usize,
    /// Layers looked at.
    pub layers: usize,
}

/// What became of a defect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mended {
    /// It is mended, in these words.
    Done(String),
    /// It was left as it is, for this reason.
    Left(String),
}

impl ImageStore {
    /// Looks at every image and layer; `deep` reads every byte of them.
    ///
    /// # Errors
    /// When directories of the store cannot be read.
    pub fn check(&self, deep: bool) -> Result<Checked> {
        // Nobody adds or removes anything meanwhile; hashing comes after, when it does not matter.
        let writer = lock(&self.writer);
        let snapshot = self.snapshot();
        let mut checked = Checked { layers: snapshot.layers.len(), ..Checked::default() };
        if let Err(error) = records::read_all(&self.database) {
            checked.defects.push(Defect {
                kind: DefectKind::Database,
                path: self.root.clone(),
                detail: error.to_string(),
            });
        }
        self.check_images(&snapshot, &mut checked);
        self.check_strays(&snapshot, &mut checked)?;
        drop(writer);
        for (chain, layer) in &snapshot.layers {
            let dir = self.layer_path(&layer.short);
            if let Err(detail) = inspect_layer(&dir, deep.then_some(&layer.diff_id))
                // Removed meanwhile.
                && self.snapshot().layers.contains_key(chain)
            {
                checked.defects.push(Defect { kind: DefectKind::Layer(chain.clone()), path: dir, detail });
            }
        }
        Ok(checked)
    }

    fn check_images(&self, snapshot: &Snapshot, checked: &mut Checked) {
        let records = snapshot.records();
        checked.images = records.images.len();
        for (id, record) in &records.images {
            let mut defect = |kind: DefectKind, path: PathBuf, detail: String| {
                checked.defects.push(Defect { kind, path, detail });
            };
            let path = self.content.path(id);
            match self.content.read(id).and_then(|raw| parse_config(&raw)) {
                Err(error) => defect(DefectKind::Config(id.clone()), path, error.to_string()),
                Ok(config) if chain_ids(&config.rootfs.diff_ids) != record.chain => {
                    let detail = "its layers are not those its metadata names".to_owned();
                    defect(DefectKind::Config(id.clone()), path, detail);
                }
                Ok(_) => {}
            }
            if let Some(manifest) = &record.manifest
                && let Err(error) = self.content.read(manifest)
            {
                let path = self.content.path(manifest);
                defect(DefectKind::Manifest(id.clone()), path, error.to_string());
            }
            if let Some(missing) = record.chain.iter().find(|c| !snapshot.layers.contains_key(c)) {
                let detail = format!("layer {missing} of image {} is missing", id.short());
                defect(DefectKind::MissingLayer(id.clone()), self.root.join("layers"), detail);
            }
        }
        for (name, id) in &records.refs {
            if !records.images.contains_key(id) {
                checked.defects.push(Defect {
                    kind: DefectKind::Name(name.clone()),
                    path: self.root.clone(),
                    detail: format!("the name {name} leads to {id}, which is no image"),
                });
            }
        }
    }

    fn check_strays(&self, snapshot: &Snapshot, checked: &mut Checked) -> Result<()> {
        let records = snapshot.records();
        let known: BTreeSet<&str> = records.layers.values().map(|layer| layer.short.as_str()).collect();
        let layers = self.root.join("layers");
        for short in super::names_in(&layers)?.iter().filter(|short| !known.contains(short.as_str())) {
            checked.defects.push(Defect {
                kind: DefectKind::StrayLayer,
                path: layers.join(short),
                detail: "no image and no layer record names this directory".to_owned(),
            });
        }
        let used: BTreeSet<&Digest> =
            records.images.iter().flat_map(|(id, r)| [Some(id), r.manifest.as_ref()]).flatten().collect();
        for digest in self.content.list()?.iter().filter(|digest| !used.contains(digest)) {
            checked.defects.push(Defect {
                kind: DefectKind::StrayDocument,
                path: self.content.path(digest),
                detail: "no image refers to this document".to_owned(),
            });
        }
        Ok(())
    }

    /// Mends one defect, without harm to images that `in_use` says a container needs.
    ///
    /// # Errors
    /// When something cannot be moved or the database not be written.
    pub fn mend(
        &self,
        defect: &Defect,
        aside: &LostFound,
        in_use: &dyn Fn(&ImageId) -> Option<InUse>,
    ) -> Result<Mended> {
        let _writer = lock(&self.writer);
        let before = self.snapshot();
        match &defect.kind {
            DefectKind::Database => Ok(Mended::Left(
                "the next start of the daemon builds it anew from what is on disk".to_owned(),
            )),
            DefectKind::Config(id) | DefectKind::MissingLayer(id) => {
                self.set_images_aside(&before, std::slice::from_ref(id), None, defect, aside, in_use)
            }
            DefectKind::Layer(chain) => {
                let records = before.records();
                let users: Vec<ImageId> = records
                    .images
                    .iter()
                    .filter(|(_, r)| r.chain.contains(chain))
                    .map(|(id, _)| id.clone())
                    .collect();
                self.set_images_aside(&before, &users, Some(chain), defect, aside, in_use)
            }
            DefectKind::Manifest(id) => self.forget_manifest(&before, id, defect, aside),
            DefectKind::Name(name) => {
                let mut next = (*before).clone();
                next.left_out.refs.remove(name);
                let change = Change::begin(&self.database)?;
                change.delete_ref(name)?;
                change.commit()?;
                self.publish(next);
                Ok(Mended::Done("the name is removed".to_owned()))
            }
            DefectKind::StrayDocument | DefectKind::StrayLayer => {
                let to = take(aside, &defect.path, &defect.detail)?;
                Ok(Mended::Done(moved(&to)))
            }
        }
    }

    /// Forgets images, and a damaged layer, and moves what only they used.
    fn set_images_aside(
        &self,
        before: &Arc<Snapshot>,
        ids: &[ImageId],
        layer: Option<&Digest>,
        defect: &Defect,
        aside: &LostFound,
        in_use: &dyn Fn(&ImageId) -> Option<InUse>,
    ) -> Result<Mended> {
        if let Some((id, user)) = ids.iter().find_map(|id| Some((id, in_use(id)?))) {
            let container: String = user.container.chars().take(12).collect();
            let reason =
                format!("image {} is needed by container {container}: remove that first", id.short());
            return Ok(Mended::Left(reason));
        }
        let records = before.records();
        let mut next = (**before).clone();
        let change = Change::begin(&self.database)?;
        for id in ids {
            next.images.remove(id);
            next.left_out.images.remove(id);
            change.delete_image(id)?;
        }
        for (name, _) in records.refs.iter().filter(|(_, id)| ids.contains(id)) {
            next.refs.retain(|reference, _| reference.to_string() != *name);
            next.left_out.refs.remove(name);
            change.delete_ref(name)?;
        }
        let mut gone = Vec::new();
        for chain in next.unused_layers() {
            // Layers of an ingest under way are nobody's yet; they are not ours to judge.
            let ours = layer == Some(&chain)
                || ids.iter().filter_map(|id| records.images.get(id)).any(|r| r.chain.contains(&chain));
            if ours && !lock(&self.leases).contains_key(&chain) {
                change.delete_layer(&chain)?;
                gone.extend(next.layers.remove(&chain));
            }
        }
        change.commit()?;
        self.publish(next);
        let reason = format!("{}: {}", defect.path.display(), defect.detail);
        let mut to = None;
        for id in ids {
            let names: Vec<&String> =
                records.refs.iter().filter(|(_, i)| *i == id).map(|(name, _)| name).collect();
            let note = serde_json::json!({"id": id, "names": names, "record": records.images.get(id)});
            let written =
                aside.note(&format!("image-{}.json", id.short()), &reason, note.to_string().as_bytes());
            to = Some(written.map_err(io_error("set aside", &defect.path))?);
            if self.content.path(id).exists() {
                to = Some(take(aside, &self.content.path(id), &reason)?);
            }
        }
        for record in gone {
            let dir = self.layer_path(&record.short);
            if dir.exists() {
                to = Some(take(aside, &dir, &reason)?);
            }
        }
        let what = match ids.len() {
            0 => "the layer's record is removed".to_owned(),
            1 => format!("image {} is set aside", ids[0].short()),
            n => format!("{n} images are set aside"),
        };
        Ok(Mended::Done(to.map_or(what.clone(), |to| format!("{what}, {}", moved(&to)))))
    }

    fn forget_manifest(
        &self,
        before: &Arc<Snapshot>,
        id: &ImageId,
        defect: &Defect,
        aside: &LostFound,
    ) -> Result<Mended> {
        let mut next = (**before).clone();
        let Some(image) = next.images.get_mut(id) else {
            return Ok(Mended::Left("the image itself is damaged, too".to_owned()));
        };
        let image = Arc::make_mut(image);
        image.manifest = None;
        let change = Change::begin(&self.database)?;
        change.put_image(id, &Snapshot::record(image))?;
        change.commit()?;
        self.publish(next);
        if !defect.path.exists() {
            return Ok(Mended::Done("the image goes on without its manifest".to_owned()));
        }
        let to = take(aside, &defect.path, &defect.detail)?;
        Ok(Mended::Done(format!("the image goes on without its manifest, {}", moved(&to))))
    }
}

fn moved(to: &Path) -> String {
    format!("moved to {}", to.display())
}

fn take(aside: &LostFound, path: &Path, reason: &str) -> Result<PathBuf> {
    aside.take(path, reason).map_err(io_error("set aside", path))
}

/// What is wrong with a layer's directory; with a diff id, every byte is compared.
fn inspect_layer(dir: &Path, diff_id: Option<&Digest>) -> Result<(), String> {
    for (part, is_dir) in [(DIFF, true), (RECIPE, false), (FILES, false)] {
        let there = dir.join(part).symlink_metadata().is_ok_and(|meta| meta.is_dir() == is_dir);
        if !there {
            return Err(format!("{part} is missing"));
        }
    }
    let recipe = Recipe::open(dir).map_err(|e| e.to_string())?;
    let Some(expected) = diff_id else { return recipe.skim().map_err(|e| e.to_string()) };
    let mut sink = io::sink();
    let mut hashing = HashingWriter::new(&mut sink);
    recipe.rebuild(&mut hashing).map_err(|e| e.to_string())?;
    let actual = hashing.digest();
    if actual != *expected {
        return Err(ImageError::from(crate::layer::LayerError::DiffId {
            expected: expected.clone(),
            actual,
        })
        .to_string());
    }
    Ok(())
}
