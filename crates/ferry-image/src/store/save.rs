//! Writing image archives: an OCI layout that is a docker-archive as well, as Docker 28 writes it.
//! Equal images give equal bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::sync::Arc;

use ferry_types::{Digest, ImageRef};

use super::ImageStore;
use super::archive_layout::*;
use super::content::digest_of;
use super::create::encode;
use super::missing_layer;
use super::snapshot::Snapshot;
use crate::archive::{Entry, Kind, TarWriter};
use crate::error::{ImageError, Result};
use crate::image::{Image, ImageId};

/// What a blob of the archive consists of.
enum Blob {
    Bytes(Vec<u8>),
    Layer { chain: Digest, size: u64 },
}

impl ImageStore {
    /// The images [`Self::save`] would write.
    ///
    /// # Errors
    /// When there is no such image.
    pub fn to_save(&self, names: &[String]) -> Result<Vec<ImageId>> {
        let images = selection(&self.snapshot(), names)?;
        Ok(images.into_iter().map(|(image, _)| image.id.clone()).collect())
    }

    /// Writes the named images with those of their names that were asked for: a repository stands for
    /// all its tags, an id for none.
    ///
    /// # Errors
    /// When there is no such image (before anything is written), a layer is damaged, or `out` fails.
    pub fn save(&self, names: &[String], out: &mut dyn Write) -> Result<()> {
        let snapshot = self.snapshot();
        let images = selection(&snapshot, names)?;
        let mut blobs = BTreeMap::new();
        let (mut docker, mut descriptors) = (Vec::new(), Vec::new());
        let mut repositories: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for (image, references) in &images {
            let layers = layer_blobs(&snapshot, image, &mut blobs)?;
            blobs.insert(image.id.clone(), Blob::Bytes(image.raw_config.clone()));
            let manifest = Manifest {
                schema_version: 2,
                media_type: MEDIA_MANIFEST.to_owned(),
                config: descriptor(MEDIA_CONFIG, image.id.clone(), image.raw_config.len() as u64),
                layers: layers.clone(),
            };
            let manifest = encode(&manifest)?;
            let digest = digest_of(&manifest);
            let size = manifest.len() as u64;
            blobs.insert(digest.clone(), Blob::Bytes(manifest));
            let bare = descriptor(MEDIA_MANIFEST, digest, size);
            descriptors.extend(named_descriptors(&bare, references));
            for reference in references {
                let top = image.chain.last().unwrap_or(&image.id).hex().to_owned();
                let tag = reference.tag().unwrap_or_default().to_owned();
                repositories.entry(reference.familiar_name()).or_default().insert(tag, top);
            }
            docker.push(ArchiveImage {
                config: blob_path(&image.id),
                repo_tags: Some(references.iter().map(ImageRef::familiar).collect())
                    .filter(|r: &Vec<_>| !r.is_empty()),
                layers: Some(layers.iter().map(|l| blob_path(&l.digest)).collect()),
                layer_sources: Some(layers.into_iter().map(|l| (l.digest.clone(), l)).collect()),
            });
        }
        let index = Index { schema_version: 2, media_type: MEDIA_INDEX.to_owned(), manifests: descriptors };
        let mut files = vec![(INDEX_JSON, encode(&index)?), (MANIFEST_JSON, encode(&docker)?)];
        files.push((OCI_LAYOUT, br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()));
        if !repositories.is_empty() {
            files.push((REPOSITORIES, encode(&repositories)?));
        }
        self.write_archive(&blobs, &files, out)
    }

    fn write_archive(
        &self,
        blobs: &BTreeMap<Digest, Blob>,
        files: &[(&str, Vec<u8>)],
        out: &mut dyn Write,
    ) -> Result<()> {
        let failed = |source| ImageError::Stream { what: "write archive", source };
        let mut tar = TarWriter::new(out);
        for directory in ["blobs/", "blobs/sha256/"] {
            tar.entry(&member(directory, Kind::Dir, 0o755, 0)).map_err(failed)?;
        }
        for (digest, blob) in blobs {
            let path = blob_path(digest);
            match blob {
                Blob::Bytes(bytes) => {
                    tar.entry(&member(&path, Kind::File, 0o644, bytes.len() as u64)).map_err(failed)?;
                    tar.data(bytes).map_err(failed)?;
                }
                Blob::Layer { chain, size } => {
                    tar.entry(&member(&path, Kind::File, 0o644, *size)).map_err(failed)?;
                    self.write_layer_tar(chain, &mut MemberData(&mut tar))?;
                }
            }
        }
        for (name, bytes) in files {
            tar.entry(&member(name, Kind::File, 0o644, bytes.len() as u64)).map_err(failed)?;
            tar.data(bytes).map_err(failed)?;
        }
        tar.finish().map_err(failed)?;
        Ok(())
    }
}

struct MemberData<'a, W>(&'a mut TarWriter<W>);

impl<W: Write> Write for MemberData<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.data(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The images to save, in the order first named, each with the names to save it under.
fn selection(snapshot: &Snapshot, names: &[String]) -> Result<Vec<(Arc<Image>, BTreeSet<ImageRef>)>> {
    let mut order: Vec<ImageId> = Vec::new();
    let mut references: BTreeMap<ImageId, BTreeSet<ImageRef>> = BTreeMap::new();
    let mut add = |id: &ImageId, reference: Option<&ImageRef>| {
        if !order.contains(id) {
            order.push(id.clone());
        }
        references.entry(id.clone()).or_default().extend(reference.cloned());
    };
    for name in names {
        let parsed = name.parse::<ImageRef>().ok();
        let bare = parsed.as_ref().filter(|r| r.tag().is_none() && r.digest().is_none());
        let tags: Vec<_> = snapshot
            .refs
            .iter()
            .filter(|(r, _)| r.tag().is_some() && bare.is_some_and(|b| b.repository() == r.repository()))
            .collect();
        if !tags.is_empty() {
            for (reference, id) in tags {
                add(id, Some(reference));
            }
            continue;
        }
        let id = snapshot.resolve(name).map_err(|e| match e {
            // Docker does not add the default tag here.
            ImageError::NotFound(_) => ImageError::NotFound(name.clone()),
            other => other,
        })?;
        let tagged = parsed.filter(|r| r.tag().is_some() && snapshot.refs.get(r) == Some(&id));
        add(&id, tagged.as_ref());
    }
    let image =
        |id: &ImageId| snapshot.images.get(id).cloned().ok_or_else(|| ImageError::NotFound(id.to_string()));
    order.iter().map(|id| Ok((image(id)?, references.remove(id).unwrap_or_default()))).collect()
}

fn layer_blobs(
    snapshot: &Snapshot,
    image: &Image,
    blobs: &mut BTreeMap<Digest, Blob>,
) -> Result<Vec<Descriptor>> {
    let mut layers = Vec::new();
    for chain in &image.chain {
        let layer = snapshot.layers.get(chain).ok_or_else(|| missing_layer(chain))?;
        layers.push(descriptor(MEDIA_LAYER, layer.diff_id.clone(), layer.tar_size));
        let blob = Blob::Layer { chain: chain.clone(), size: layer.tar_size };
        blobs.entry(layer.diff_id.clone()).or_insert(blob);
    }
    Ok(layers)
}

fn descriptor(media_type: &str, digest: Digest, size: u64) -> Descriptor {
    Descriptor { media_type: media_type.to_owned(), digest, size, annotations: None, platform: None }
}

/// One descriptor per name, or one without.
fn named_descriptors(bare: &Descriptor, references: &BTreeSet<ImageRef>) -> Vec<Descriptor> {
    if references.is_empty() {
        return vec![bare.clone()];
    }
    let named = |reference: &ImageRef| {
        let annotations = BTreeMap::from([
            (ANNOTATION_NAME.to_owned(), reference.to_string()),
            (ANNOTATION_REF.to_owned(), reference.tag().unwrap_or_default().to_owned()),
        ]);
        Descriptor { annotations: Some(annotations), ..bare.clone() }
    };
    references.iter().map(named).collect()
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn member(path: &str, kind: Kind, mode: u32, size: u64) -> Entry {
    Entry {
        path: path.as_bytes().to_vec(),
        link: Vec::new(),
        kind,
        mode,
        uid: 0,
        gid: 0,
        mtime: (0, 0),
        size,
        device: (0, 0),
        xattrs: Vec::new(),
        sparse: None,
    }
}
