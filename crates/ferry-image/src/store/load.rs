//! Reading image archives from a stream, in one pass and whatever the order of their members: documents
//! are kept in memory, layers are unpacked as they come by, and only when all is there are images made.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{BufReader, Read, Write};
use std::path::PathBuf;

use ferry_types::{Digest, ImageRef};
use sha2::{Digest as _, Sha256};

use super::ImageStore;
use super::archive_layout::*;
use super::content::digest_of;
use super::parse_config;
use super::register::{LayerSource, Registration, chain_ids};
use crate::archive::compression::{Compression, peek};
use crate::archive::reader::looks_like_tar;
use crate::archive::{BLOCK, Entry, Kind, TarReader};
use crate::config::{History, ImageConfig};
use crate::error::{ImageError, Result};
use crate::image::Platform;
use crate::layer::LayerError;
use crate::layer::ingest::{Expected, PendingLayer, StagedLayer};
use crate::layer::recipe::Recipe;
use crate::options::{LoadProgress, LoadedImage};

/// Largest document accepted, bytes.
const DOCUMENT_MAX: u64 = 8 << 20;
/// Largest sum of documents.
const DOCUMENTS_MAX: u64 = 64 << 20;
/// Layers being unpacked while the next one is read.
const PENDING_MAX: usize = 2;
/// Parents followed in archives of the first format.
const LAYERS_MAX: usize = 500;
/// Progress is reported this often, bytes.
const PROGRESS_STEP: u64 = 1 << 20;

impl ImageStore {
    /// Reads a docker-archive (any version) or an OCI layout tar, compressed or not. With `platform`, images for
    /// others are left out; without, an index stands for what fits this host.
    ///
    /// # Errors
    /// When the archive is malformed, truncated or incomplete, or the disk fails. Nothing is kept of an
    /// archive that could not be read to its end.
    pub fn load(
        &self,
        reader: &mut dyn Read,
        platform: Option<&Platform>,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Vec<LoadedImage>> {
        let stream = |source| ImageError::Stream { what: "read archive", source };
        let (compression, source) = peek(reader).map_err(stream)?;
        let decoder = compression.decoder(BufReader::with_capacity(1 << 18, source)).map_err(stream)?;
        let mut tar = TarReader::new(BufReader::with_capacity(1 << 18, decoder), ());
        let mut archive = Archive::new(self, platform);
        while let Some(entry) = tar.next_entry().map_err(LayerError::from)? {
            archive.member(&mut tar, &entry, progress)?;
        }
        if !tar.ended() {
            return Err(LayerError::NoEnd.into());
        }
        archive.images()
    }
}

/// What was found so far.
struct Archive<'a> {
    store: &'a ImageStore,
    platform: Option<&'a Platform>,
    documents: HashMap<String, Vec<u8>>,
    documents_size: u64,
    /// Symbolic and hard links: older Docker versions share layers by them.
    links: HashMap<String, String>,
    pending: VecDeque<(String, PendingLayer)>,
    /// Diff id of each layer member.
    diff_ids: HashMap<String, Digest>,
    /// Layers by diff id that no image has taken yet.
    staged: HashMap<Digest, StagedLayer>,
    /// Where a layer taken for the image under construction lies, in case it needs it twice.
    taken: HashMap<Digest, PathBuf>,
}

impl<'a> Archive<'a> {
    fn new(store: &'a ImageStore, platform: Option<&'a Platform>) -> Self {
        Self {
            store,
            platform,
            documents: HashMap::new(),
            documents_size: 0,
            links: HashMap::new(),
            pending: VecDeque::new(),
            diff_ids: HashMap::new(),
            staged: HashMap::new(),
            taken: HashMap::new(),
        }
    }

    fn member<R: std::io::BufRead>(
        &mut self,
        tar: &mut TarReader<R, ()>,
        entry: &Entry,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<()> {
        let shown = entry.shown();
        let name = resolve_name("", &shown)
            .ok_or_else(|| ImageError::Archive(format!("member {shown:?} leads outside of the archive")))?;
        match entry.kind {
            Kind::Symlink | Kind::HardLink => {
                let base = if entry.kind == Kind::Symlink { parent_of(&name) } else { "" };
                let target = String::from_utf8_lossy(&entry.link);
                if let Some(target) = resolve_name(base, &target) {
                    self.links.insert(name, target);
                }
                return Ok(());
            }
            Kind::File if entry.sparse.is_none() => {}
            _ => return Ok(()),
        }
        let start = read_start(tar)?;
        let is_layer = Compression::detect(&start) != Compression::None || looks_like_tar(&start);
        if is_layer {
            return self.layer(tar, name, &start, entry.size, progress);
        }
        let is_document = matches!(start.trim_ascii_start().first(), Some(b'{' | b'['));
        if !is_document {
            // Docker's old `VERSION` files and the like.
            return Ok(());
        }
        self.documents_size += entry.size;
        if self.documents_size > DOCUMENTS_MAX {
            return Err(ImageError::Archive("documents of more than 64 MiB".to_owned()));
        }
        let rest = tar.read_all(DOCUMENT_MAX).map_err(LayerError::from)?;
        let document = [start, rest].concat();
        if let Some(expected) = blob_digest(&name) {
            let actual = digest_of(&document);
            if actual != expected {
                return Err(ImageError::DigestMismatch { what: name, expected, actual });
            }
        }
        self.documents.insert(name, document);
        Ok(())
    }

    fn layer<R: std::io::BufRead>(
        &mut self,
        tar: &mut TarReader<R, ()>,
        name: String,
        start: &[u8],
        total: u64,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<()> {
        while self.pending.len() >= PENDING_MAX {
            self.join_one()?;
        }
        let digest = blob_digest(&name);
        let known = digest.as_ref().filter(|d| self.has_diff(d)).cloned();
        let mut hasher = Sha256::new();
        let mut ingest = match &known {
            Some(_) => None,
            None => Some(self.store.ingest_layer(Expected { digest, diff_id: None })?),
        };
        let mut current = start.len() as u64;
        let mut fed = Ok(());
        match &mut ingest {
            Some(ingest) => fed = ingest.write_all(start),
            None => hasher.update(start),
        }
        let mut reported = 0;
        while fed.is_ok() {
            let data = tar.data().map_err(LayerError::from)?;
            let n = data.len();
            if n == 0 {
                break;
            }
            match &mut ingest {
                Some(ingest) => fed = ingest.write_all(data),
                None => hasher.update(data),
            }
            tar.consume(n);
            current += n as u64;
            if current - reported >= PROGRESS_STEP || current == total {
                reported = current;
                progress(LoadProgress::Layer { member: name.clone(), current, total });
            }
        }
        match (ingest, known) {
            (Some(ingest), _) => {
                if fed.is_err() {
                    // The ingest broke off and knows why; a success would not be one.
                    ingest.finish()?;
                    return Err(LayerError::Aborted.into());
                }
                self.pending.push_back((name, ingest.end()));
            }
            (None, Some(expected)) => {
                let actual = Digest::sha256(hasher.finalize());
                if actual != expected {
                    return Err(ImageError::DigestMismatch { what: name, expected, actual });
                }
                self.diff_ids.insert(name, expected);
            }
            (None, None) => {}
        }
        Ok(())
    }

    fn has_diff(&self, diff_id: &Digest) -> bool {
        self.staged.contains_key(diff_id) || self.store.layer_dir_by_diff(diff_id).is_some()
    }

    fn join_one(&mut self) -> Result<()> {
        if let Some((name, pending)) = self.pending.pop_front() {
            let layer = pending.join()?;
            self.diff_ids.insert(name, layer.diff_id.clone());
            self.staged.insert(layer.diff_id.clone(), layer);
        }
        Ok(())
    }

    fn images(mut self) -> Result<Vec<LoadedImage>> {
        while !self.pending.is_empty() {
            self.join_one()?;
        }
        if self.documents.contains_key(MANIFEST_JSON) {
            self.docker_archive()
        } else if self.documents.contains_key(INDEX_JSON) {
            self.oci_layout()
        } else if self.documents.contains_key(REPOSITORIES) {
            self.first_format()
        } else {
            Err(ImageError::Archive(format!("it has neither {MANIFEST_JSON} nor {INDEX_JSON}")))
        }
    }

    fn docker_archive(&mut self) -> Result<Vec<LoadedImage>> {
        let images: Vec<ArchiveImage> = self.document(MANIFEST_JSON)?;
        let mut loaded = Vec::new();
        for image in images {
            let config = self.raw(&image.config)?.clone();
            if !self.is_wanted(&config)? {
                continue;
            }
            let references = image
                .repo_tags
                .unwrap_or_default()
                .iter()
                .map(|t| t.parse::<ImageRef>())
                .collect::<std::result::Result<Vec<_>, _>>()?;
            let layers = image.layers.unwrap_or_default();
            loaded.push(self.image(&config, None, &layers, references)?);
        }
        Ok(loaded)
    }

    /// Whether an image is for the platform that was asked for.
    fn is_wanted(&self, config: &[u8]) -> Result<bool> {
        let Some(wanted) = self.platform else { return Ok(true) };
        let config = parse_config(config)?;
        Ok(wanted.rank(&config.os, &config.architecture, config.variant.as_deref()).is_some())
    }

    /// The format of Docker before 1.10: a directory per layer with its part of the configuration, and names in
    /// `repositories`.
    fn first_format(&mut self) -> Result<Vec<LoadedImage>> {
        let repositories: BTreeMap<String, BTreeMap<String, String>> = self.document(REPOSITORIES)?;
        let mut tops: BTreeMap<String, Vec<ImageRef>> = BTreeMap::new();
        for (name, tags) in repositories {
            for (tag, top) in tags {
                tops.entry(top).or_default().push(format!("{name}:{tag}").parse()?);
            }
        }
        let mut loaded = Vec::new();
        for (top, references) in tops {
            let mut steps: Vec<(String, V1Image)> = Vec::new();
            let mut next = Some(top);
            while let Some(id) = next {
                if steps.len() > LAYERS_MAX {
                    return Err(ImageError::TooManyLayers(steps.len()));
                }
                let step: V1Image = self.document(&format!("{id}/json"))?;
                next = step.parent.clone().filter(|p| !p.is_empty());
                steps.push((id, step));
            }
            steps.reverse();
            let mut layers = Vec::with_capacity(steps.len());
            let mut diff_ids = Vec::with_capacity(steps.len());
            for (id, _) in &steps {
                let member = self.follow(&format!("{id}/layer.tar"))?;
                let missing = || ImageError::Archive(format!("layer {member:?} is missing"));
                diff_ids.push(self.diff_ids.get(&member).cloned().ok_or_else(missing)?);
                layers.push(member);
            }
            let config = v1_config(&steps, diff_ids)?;
            if self.is_wanted(&config)? {
                loaded.push(self.image(&config, None, &layers, references)?);
            }
        }
        Ok(loaded)
    }

    fn oci_layout(&mut self) -> Result<Vec<LoadedImage>> {
        let index: Index = self.document(INDEX_JSON)?;
        let host = self.platform.cloned().unwrap_or_else(Platform::host);
        let fits = |d: &&Descriptor| is_image(d) && platform_rank(d, &host).is_some();
        let candidates: Vec<_> = index.manifests.iter().filter(fits).cloned().collect();
        let mut loaded = Vec::new();
        for descriptor in candidates {
            let (raw, manifest) = self.manifest(&descriptor, &host, 0)?;
            let supported = ["", MEDIA_CONFIG, MEDIA_DOCKER_CONFIG];
            if !supported.contains(&manifest.config.media_type.as_str()) {
                let kind = &manifest.config.media_type;
                return Err(ImageError::Archive(format!("{} is no image but {kind}", descriptor.digest)));
            }
            let config = self.raw(&blob_path(&manifest.config.digest))?.clone();
            if !self.is_wanted(&config)? {
                continue;
            }
            let layers: Vec<_> = manifest.layers.iter().map(|l| blob_path(&l.digest)).collect();
            let references = name_of(&descriptor).into_iter().collect();
            loaded.push(self.image(&config, Some(&raw), &layers, references)?);
        }
        if loaded.is_empty() {
            return Err(ImageError::NoPlatform(host.to_string()));
        }
        Ok(loaded)
    }

    /// The manifest a descriptor leads to, through indexes to this platform's.
    fn manifest(&self, descriptor: &Descriptor, host: &Platform, depth: u32) -> Result<(Vec<u8>, Manifest)> {
        let path = blob_path(&descriptor.digest);
        if depth > 4 {
            return Err(ImageError::Archive("indexes are nested too deeply".to_owned()));
        }
        if [MEDIA_INDEX, MEDIA_DOCKER_LIST].contains(&descriptor.media_type.as_str()) {
            let index: Index = self.document(&path)?;
            let best = index
                .manifests
                .iter()
                .filter(|d| is_image(d))
                .filter_map(|d| Some((platform_rank(d, host)?, d)))
                .min_by_key(|(rank, _)| *rank);
            let (_, best) = best.ok_or_else(|| ImageError::NoPlatform(host.to_string()))?;
            return self.manifest(best, host, depth + 1);
        }
        Ok((self.raw(&path)?.clone(), self.document(&path)?))
    }

    fn image(
        &mut self,
        config: &[u8],
        manifest: Option<&[u8]>,
        layers: &[String],
        references: Vec<ImageRef>,
    ) -> Result<LoadedImage> {
        self.taken.clear();
        let chain = chain_ids(&parse_config(config)?.rootfs.diff_ids);
        let mut sources = Vec::with_capacity(layers.len());
        for (i, layer) in layers.iter().enumerate() {
            let stored = chain.get(i).is_some_and(|c| self.store.has_layer(c));
            sources.push(if stored { LayerSource::Stored } else { self.take_layer(layer)? });
        }
        let references: Vec<_> = references.into_iter().map(ImageRef::tag_default).collect();
        let shown = references.iter().map(ImageRef::familiar).collect();
        let id = self.store.register(Registration {
            config,
            manifest,
            layers: sources,
            parent: None,
            references,
        })?;
        Ok(LoadedImage { id, references: shown })
    }

    /// A layer for the image under construction. The archive has each once; an image, or several, may
    /// need it more than once, and then it is rebuilt from the copy that is there.
    fn take_layer(&mut self, member: &str) -> Result<LayerSource> {
        let member = self.follow(member)?;
        let diff_id = self
            .diff_ids
            .get(&member)
            .cloned()
            .ok_or_else(|| ImageError::Archive(format!("layer {member:?} is missing")))?;
        if let Some(staged) = self.staged.remove(&diff_id) {
            self.taken.insert(diff_id, staged.stage.path().to_owned());
            return Ok(LayerSource::Staged(staged));
        }
        let from = match self.taken.get(&diff_id) {
            Some(path) => path.clone(),
            None => self
                .store
                .layer_dir_by_diff(&diff_id)
                .ok_or_else(|| ImageError::Archive(format!("layer {diff_id} was removed meanwhile")))?,
        };
        let mut ingest = self.store.ingest_layer(Expected { digest: None, diff_id: Some(diff_id) })?;
        Recipe::open(&from)?.rebuild(&mut ingest)?;
        Ok(LayerSource::Staged(ingest.finish()?))
    }

    fn follow(&self, member: &str) -> Result<String> {
        let bad = || ImageError::Archive(format!("bad member name {member:?}"));
        let mut name = resolve_name("", member).ok_or_else(bad)?;
        for _ in 0..16 {
            match self.links.get(&name) {
                Some(target) => name.clone_from(target),
                None => return Ok(name),
            }
        }
        Err(bad())
    }

    fn raw(&self, name: &str) -> Result<&Vec<u8>> {
        let name = self.follow(name)?;
        self.documents.get(&name).ok_or_else(|| ImageError::Archive(format!("{name} is missing")))
    }

    fn document<T: for<'de> serde::Deserialize<'de>>(&self, name: &str) -> Result<T> {
        serde_json::from_slice(self.raw(name)?)
            .map_err(|source| ImageError::Json { what: name.to_owned(), source })
    }
}

/// The image config that the parts of the first format amount to.
fn v1_config(steps: &[(String, V1Image)], diff_ids: Vec<Digest>) -> Result<Vec<u8>> {
    let Some((_, top)) = steps.last() else {
        return Err(ImageError::Archive("an image without layers".to_owned()));
    };
    let history = steps
        .iter()
        .map(|(_, step)| History {
            created: step.created,
            created_by: step.container_config.as_ref().and_then(|c| c.cmd.as_ref()).map(|cmd| cmd.join(" ")),
            author: step.author.clone(),
            comment: step.comment.clone(),
            ..History::default()
        })
        .collect();
    let host = Platform::host();
    let or = |given: &Option<String>, default: String| given.clone().unwrap_or(default);
    super::create::encode(&ImageConfig {
        architecture: or(&top.architecture, host.architecture),
        os: or(&top.os, host.os),
        author: top.author.clone(),
        config: top.config.clone().unwrap_or_default(),
        created: top.created,
        history,
        rootfs: crate::config::RootFs { diff_ids, ..crate::config::RootFs::default() },
        ..ImageConfig::default()
    })
}

/// The first block of a member's data.
fn read_start<R: std::io::BufRead>(tar: &mut TarReader<R, ()>) -> Result<Vec<u8>> {
    let mut start = Vec::with_capacity(BLOCK);
    while start.len() < BLOCK {
        let data = tar.data().map_err(LayerError::from)?;
        if data.is_empty() {
            break;
        }
        let n = data.len().min(BLOCK - start.len());
        start.extend_from_slice(&data[..n]);
        tar.consume(n);
    }
    Ok(start)
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn blob_digest(name: &str) -> Option<Digest> {
    format!("sha256:{}", name.strip_prefix("blobs/sha256/")?).parse().ok()
}

fn parent_of(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// A member's name without dots, relative to `base`.
fn resolve_name(base: &str, name: &str) -> Option<String> {
    let mut parts: Vec<&str> = if name.starts_with('/') { Vec::new() } else { base.split('/').collect() };
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    parts.retain(|p| !p.is_empty());
    Some(parts.join("/"))
}

fn is_image(descriptor: &Descriptor) -> bool {
    descriptor.annotation(ANNOTATION_KIND).is_none()
}

/// How well a descriptor fits the host, lower is better; `None` when not at all. One without a platform
/// says nothing against it.
fn platform_rank(descriptor: &Descriptor, host: &Platform) -> Option<u32> {
    let Some(platform) = &descriptor.platform else { return Some(u32::MAX) };
    host.rank(&platform.os, &platform.architecture, platform.variant.as_deref())
}

fn name_of(descriptor: &Descriptor) -> Option<ImageRef> {
    if let Some(name) = descriptor.annotation(ANNOTATION_NAME) {
        return name.parse().ok();
    }
    // A bare tag names nothing.
    let name = descriptor.annotation(ANNOTATION_REF)?;
    if name.contains([':', '/']) { name.parse().ok() } else { None }
}
