//! Images as the API shows them, and the operations of the image store.

use std::collections::BTreeMap;
use std::sync::Arc;

use ferry_api::container::{GraphDriver, HealthConfig};
use ferry_api::image::{
    HistoryItem, ImageConfig, ImageDeleteItem, ImageInspect, ImageMetadata, ImagePruneResponse, ImageSummary,
    ManifestImage, ManifestSize, ManifestSummary, RootFs, UnpackedSize,
};
use ferry_api::{Empty, Filters, JsonMessage, List, Map, Time};
use ferry_image::{Image, InUse, LoadProgress, Platform, RemoveOptions, Removed};
use ferry_types::{Classify as _, Digest, ImageRef};
use tokio_util::io::SyncIoBridge;

use crate::Engine;
use crate::api::{BodyReader, ByteStream, ImportOptions, ItemStream, ListImages};
use crate::container::list::{labels_match, parse_until};
use crate::error::{EngineError, Result};
use crate::events::EventKind;
use crate::inner::Inner;
use crate::stream;

fn invalid(message: impl Into<String>) -> EngineError {
    EngineError::InvalidParameter(message.into())
}

/// The name a new image gets from `repo` and `tag`, none when `repo` is empty.
pub(crate) fn target_reference(repo: Option<&str>, tag: Option<&str>) -> Result<Option<ImageRef>> {
    let Some(repo) = repo.filter(|r| !r.is_empty()) else { return Ok(None) };
    let reference: ImageRef = repo.parse().map_err(|e: ferry_types::ImageRefError| invalid(e.to_string()))?;
    if reference.digest().is_some() {
        return Err(invalid("cannot import digest reference"));
    }
    let reference = match tag.filter(|t| !t.is_empty()) {
        Some(tag) => reference.with_tag(tag).map_err(|_| invalid("invalid tag format"))?,
        None => reference.tag_default(),
    };
    Ok(Some(reference))
}

/// `os[/arch[/variant]]`.
pub(crate) fn parse_platform(text: &str) -> Result<Platform> {
    text.parse().map_err(|e: ferry_types::PlatformError| invalid(e.to_string()))
}

impl Engine {
    /// The images asked for, newest first.
    pub fn image_list(&self, o: ListImages) -> Result<Vec<ImageSummary>> {
        let filter_error = |e: ferry_api::filters::FilterError| invalid(e.to_string());
        o.filters
            .allow(&["dangling", "label", "before", "since", "reference", "until"])
            .map_err(filter_error)?;
        let dangling = o.filters.bool("dangling").map_err(filter_error)?;
        let created = |key: &str| -> Result<Option<i64>> {
            let find = |name: &str| -> Result<i64> {
                Ok(created_at(&*self.inner.images.get(&self.inner.images.resolve(name)?)?))
            };
            o.filters.get(key).map(find).next().transpose()
        };
        let (before, since) = (created("before")?, created("since")?);
        let until = o.filters.get("until").map(parse_until).collect::<Result<Vec<_>>>()?;
        for pattern in o.filters.get("reference") {
            check_pattern(pattern)?;
        }
        let mut all = self.inner.images.list();
        let parents: std::collections::HashSet<Digest> =
            all.iter().filter_map(|i| i.parent.clone()).collect();
        let mut users: BTreeMap<Digest, usize> = BTreeMap::new();
        if o.shared_size {
            all.iter().flat_map(|i| &i.chain).for_each(|c| *users.entry(c.clone()).or_default() += 1);
        }
        all.retain(|image| {
            let nameless = image.repo_tags.is_empty() && image.repo_digests.is_empty();
            let intermediate = nameless && parents.contains(&image.id);
            let created = created_at(image);
            (o.all || !intermediate)
                && dangling.is_none_or(|d| d == image.repo_tags.is_empty())
                && before.is_none_or(|t| created < t)
                && since.is_none_or(|t| created > t)
                && until.iter().all(|u| created < *u)
                && labels_match(&o.filters, &image.config.config.labels)
                && (!o.filters.has("reference")
                    || image.repo_tags.iter().any(|r| wanted_reference(&o.filters, r)))
        });
        let mut summaries: Vec<ImageSummary> = all.iter().map(|i| summary(&self.inner, i, &o)).collect();
        if o.shared_size {
            for (summary, image) in summaries.iter_mut().zip(&all) {
                summary.shared_size = self.shared_size(image, &users);
            }
        }
        Ok(summaries)
    }

    /// Bytes of the layers that other images have too.
    fn shared_size(&self, image: &Image, users: &BTreeMap<Digest, usize>) -> i64 {
        let shared = image.chain.iter().filter(|chain| users.get(*chain).is_some_and(|n| *n > 1));
        let size: u64 = shared.filter_map(|chain| self.inner.images.layer_size(chain)).sum();
        i64::try_from(size).unwrap_or(i64::MAX)
    }

    /// Everything about an image.
    pub fn image_inspect(&self, name: &str, with_manifests: bool) -> Result<ImageInspect> {
        let id = self.inner.images.resolve(name)?;
        let image = self.inner.images.get(&id)?;
        let mut inspect = inspect(&self.inner, &image)?;
        if with_manifests {
            inspect.manifests = manifests(&self.inner, &image);
        }
        Ok(inspect)
    }

    /// How an image came about, newest step first.
    pub fn image_history(&self, name: &str) -> Result<Vec<HistoryItem>> {
        let id = self.inner.images.resolve(name)?;
        let image = self.inner.images.get(&id)?;
        let mut items: Vec<HistoryItem> = Vec::new();
        let mut layer = 0;
        for step in &image.config.history {
            let size = if step.empty_layer { 0 } else { self.layer_size(&image, layer) };
            layer += usize::from(!step.empty_layer);
            items.push(HistoryItem {
                comment: step.comment.clone().unwrap_or_default(),
                created: step.created.map_or(0, jiff::Timestamp::as_second),
                created_by: step.created_by.clone().unwrap_or_default(),
                id: "<missing>".to_owned(),
                size,
                tags: List::default(),
            });
        }
        if let Some(last) = items.last_mut() {
            last.id = image.id.to_string();
            if !image.repo_tags.is_empty() {
                last.tags = image.repo_tags.iter().map(ImageRef::familiar).collect();
            }
        }
        items.reverse();
        Ok(items)
    }

    fn layer_size(&self, image: &Image, index: usize) -> i64 {
        let size = image.chain.get(index).and_then(|chain| self.inner.images.layer_size(chain));
        size.map_or(0, |s| i64::try_from(s).unwrap_or(i64::MAX))
    }

    /// Gives an image a further name.
    pub async fn image_tag(&self, name: &str, repo: &str, tag: &str) -> Result<()> {
        let id = self.inner.images.resolve(name)?;
        let reference =
            target_reference(Some(repo), Some(tag))?.ok_or_else(|| invalid("invalid reference format"))?;
        if ["sha256", "sha384", "sha512"].contains(&reference.familiar_name().as_str()) {
            return Err(invalid("refusing to create an ambiguous tag using digest algorithm as name"));
        }
        let images = Arc::clone(&self.inner.images);
        let (target, shown) = (id.clone(), reference.familiar());
        crate::blocking(move || Ok(images.tag(&target, &reference)?)).await?;
        self.inner.image_event(EventKind::Tag, &id, &shown);
        Ok(())
    }

    /// Removes a name, or the image when it was its last one.
    pub async fn image_remove(
        &self,
        name: &str,
        force: bool,
        no_prune: bool,
    ) -> Result<Vec<ImageDeleteItem>> {
        let inner = Arc::clone(&self.inner);
        let wanted = name.to_owned();
        // What it was is not known any more when it is gone.
        let before = inner.images.resolve(name).ok().and_then(|id| inner.images.get(&id).ok());
        let removed = crate::blocking(move || {
            let options = RemoveOptions { force, prune: !no_prune };
            Ok(inner.images.remove(&wanted, options, &|id| in_use(&inner, id))?)
        })
        .await?;
        Ok(self.report_removed(removed, before.as_deref()))
    }

    fn report_removed(&self, removed: Vec<Removed>, image: Option<&Image>) -> Vec<ImageDeleteItem> {
        let none = BTreeMap::new();
        let (id, labels) = match image {
            Some(image) => (image.id.to_string(), &image.config.config.labels),
            None => (String::new(), &none),
        };
        let report = |r: Removed| match r {
            Removed::Untagged(name) => {
                self.inner.events.image(EventKind::Untag, &id, &id, labels);
                ImageDeleteItem { untagged: name, ..ImageDeleteItem::default() }
            }
            Removed::Deleted(digest) => {
                // Layers are told to the client, but are nobody's event.
                if digest.as_str() == id.as_str() {
                    self.inner.events.image(EventKind::Delete, &id, &id, &none);
                }
                ImageDeleteItem { deleted: digest.to_string(), ..ImageDeleteItem::default() }
            }
        };
        removed.into_iter().map(report).collect()
    }

    /// Removes dangling images, or with `dangling=false` all unused ones.
    pub async fn image_prune(&self, filters: Filters) -> Result<ImagePruneResponse> {
        let filter_error = |e: ferry_api::filters::FilterError| invalid(e.to_string());
        filters.allow(&["dangling", "label", "label!", "until"]).map_err(filter_error)?;
        let only_dangling = filters.bool("dangling").map_err(filter_error)?.unwrap_or(true);
        let until = filters.get("until").map(parse_until).collect::<Result<Vec<_>>>()?;
        let before = self.inner.images.disk_usage().layers_size;
        let mut response = ImagePruneResponse::default();
        for image in self.inner.images.list() {
            let wanted = (!only_dangling || image.repo_tags.is_empty())
                && until.iter().all(|u| created_at(&image) < *u)
                && labels_match(&filters, &image.config.config.labels)
                && in_use(&self.inner, &image.id).is_none();
            if !wanted {
                continue;
            }
            let names: Vec<String> = if image.repo_tags.is_empty() {
                vec![image.id.to_string()]
            } else {
                image.repo_tags.iter().map(ImageRef::familiar).collect()
            };
            for name in names {
                match self.image_remove(&name, false, false).await {
                    Ok(items) => response.images_deleted.get_mut().extend(items),
                    // A child still needs it, or it went with another one.
                    Err(EngineError::Image(error)) => tracing::debug!(image = name, %error, "not pruned"),
                    Err(error) => return Err(error),
                }
            }
        }
        response.space_reclaimed = before.saturating_sub(self.inner.images.disk_usage().layers_size);
        self.inner.events.prune("image", response.space_reclaimed);
        Ok(response)
    }

    /// Makes an image of a root file system tar.
    pub async fn image_import(&self, o: ImportOptions, body: BodyReader) -> Result<ItemStream<JsonMessage>> {
        // Refused before anything is sent or fetched.
        ferry_image::instruction::apply_changes(&mut ferry_image::ContainerConfig::default(), &o.changes)
            .map_err(|e| invalid(e.to_string()))?;
        let reference = target_reference(o.repo.as_deref(), o.tag.as_deref())?;
        let platform = o.platform.as_deref().filter(|p| !p.is_empty()).map(parse_platform).transpose()?;
        let (body, from) = match o.url.as_deref() {
            None => (body, None),
            Some(url) => {
                let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
                let download = self.inner.live.registry().download(&url).await;
                let download = download.map_err(|e| match e.kind() {
                    ferry_types::ErrorKind::System => EngineError::System(e.to_string()),
                    _ => EngineError::Pull(e.into()),
                })?;
                (reader(download), Some(url))
            }
        };
        let options = ferry_image::ImportOptions {
            reference: reference.clone(),
            message: Some(o.message).filter(|m| !m.is_empty()),
            changes: o.changes,
            platform,
        };
        let engine = self.clone();
        let mut reader = SyncIoBridge::new(body);
        Ok(stream::from_producer(move |send| {
            if let Some(url) = from {
                send(JsonMessage::status("", format!("Downloading from {url}")));
            }
            let id = engine.inner.images.import_rootfs(&mut reader, options)?;
            if let Some(reference) = reference {
                engine.inner.image_event(EventKind::Tag, &id, &reference.familiar());
            }
            engine.inner.image_event(EventKind::Import, &id, id.as_str());
            send(JsonMessage::status("", id.to_string()));
            Ok(())
        }))
    }

    /// Reads images from an archive.
    pub async fn image_load(
        &self,
        quiet: bool,
        platform: Option<Platform>,
        body: BodyReader,
    ) -> Result<ItemStream<JsonMessage>> {
        let engine = self.clone();
        let mut reader = SyncIoBridge::new(body);
        Ok(stream::from_producer(move |send| {
            let mut report = |p: LoadProgress| {
                let LoadProgress::Layer { member, current, total } = p;
                if !quiet {
                    let id: String = short_member(&member);
                    let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
                    send(JsonMessage::progress(id, "Loading layer", signed(current), signed(total)));
                }
            };
            let loaded = engine.inner.images.load(&mut reader, platform.as_ref(), &mut report);
            match loaded {
                Ok(images) => {
                    for image in images {
                        engine.inner.image_event(EventKind::Load, &image.id, image.id.as_str());
                        if image.references.is_empty() {
                            send(JsonMessage::stream(format!("Loaded image ID: {}\n", image.id)));
                        }
                        for name in image.references {
                            send(JsonMessage::stream(format!("Loaded image: {name}\n")));
                        }
                    }
                }
                Err(error) => send(JsonMessage::error(error.to_string())),
            }
            Ok(())
        }))
    }

    /// Images as an archive.
    pub async fn image_save(&self, names: &[String]) -> Result<ByteStream> {
        for id in self.inner.images.to_save(names)? {
            self.inner.image_event(EventKind::Save, &id, id.as_str());
        }
        let images = Arc::clone(&self.inner.images);
        let names = names.to_vec();
        Ok(stream::from_writer(move |out| Ok(images.save(&names, out)?)))
    }
}

/// What progress lines call a layer: twelve digits of the member's name.
fn short_member(member: &str) -> String {
    let name = member.trim_end_matches("/layer.tar").rsplit('/').next().unwrap_or(member);
    name.chars().take(12).collect()
}

/// A container that uses an image, a running one before a stopped one.
pub(crate) fn in_use(inner: &Inner, image: &Digest) -> Option<InUse> {
    let all = inner.containers.all();
    let users = all.iter().map(|h| h.snapshot()).filter(|s| s.record.uses_image(image));
    let users =
        users.map(|s| InUse { container: s.record.id.short().to_owned(), running: s.state.is_active() });
    users.max_by_key(|u| u.running)
}

/// When an image was made, in nanoseconds since the epoch.
fn created_at(image: &Image) -> i64 {
    i64::try_from(image.created().as_nanosecond()).unwrap_or(i64::MAX)
}

/// Whether a name fits the `reference` filter, in the short form or the full one, with its tag or without.
fn wanted_reference(filters: &Filters, name: &ImageRef) -> bool {
    let forms = [name.familiar(), name.familiar_name(), name.to_string(), name.repository()];
    !filters.has("reference")
        || filters.get("reference").any(|pattern| forms.iter().any(|form| glob(pattern, form)))
}

/// A download as a body.
fn reader(download: ferry_registry_client::Download) -> BodyReader {
    let chunks = futures_util::stream::unfold(Some(download), |download| async move {
        let mut download = download?;
        match download.chunk().await {
            Ok(Some(chunk)) => Some((Ok(chunk), Some(download))),
            Ok(None) => None,
            Err(error) => Some((Err(std::io::Error::other(error.to_string())), None)),
        }
    });
    Box::pin(tokio_util::io::StreamReader::new(Box::pin(chunks)))
}

/// Refuses what Go's `path.Match` calls a syntax error.
fn check_pattern(pattern: &str) -> Result<()> {
    let mut rest = pattern.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = match first {
            b'\\' if tail.is_empty() => return Err(invalid("syntax error in pattern")),
            b'\\' => &tail[1..],
            b'[' => class(tail, 0).ok_or_else(|| invalid("syntax error in pattern"))?.1,
            _ => tail,
        };
    }
    Ok(())
}

/// Whether `byte` is in the character class that `pattern` begins within, and what follows the class. `None` for a
/// malformed one.
fn class(pattern: &[u8], byte: u8) -> Option<(bool, &[u8])> {
    let one = |p: &[u8]| -> Option<(u8, usize)> {
        match p {
            [b'\\', c, ..] => Some((*c, 2)),
            [b'\\' | b'-' | b']', ..] | [] => None,
            [c, ..] => Some((*c, 1)),
        }
    };
    let negated = pattern.first() == Some(&b'^');
    let mut rest = if negated { &pattern[1..] } else { pattern };
    let (mut found, mut ranges) = (false, 0);
    loop {
        if ranges > 0 && rest.first() == Some(&b']') {
            return Some((found != negated, &rest[1..]));
        }
        let (low, n) = one(rest)?;
        rest = &rest[n..];
        let mut high = low;
        if rest.first() == Some(&b'-') {
            let (given, n) = one(&rest[1..])?;
            high = given;
            rest = &rest[1 + n..];
        }
        found |= (low..=high).contains(&byte);
        ranges += 1;
    }
}

/// Go's `path.Match`; nothing but itself matches a slash. The pattern has passed [`check_pattern`].
fn glob(pattern: &str, text: &str) -> bool {
    fn matches(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) => {
                let limit = text.iter().position(|b| *b == b'/').unwrap_or(text.len());
                (0..=limit).any(|n| matches(rest, &text[n..]))
            }
            (Some((b'?', rest)), Some((b, tail))) if *b != b'/' => matches(rest, tail),
            (Some((b'[', rest)), Some((b, tail))) if *b != b'/' => {
                class(rest, *b).is_some_and(|(hit, rest)| hit && matches(rest, tail))
            }
            (Some((b'\\', rest)), Some((b, tail))) => match rest.split_first() {
                Some((p, rest)) => p == b && matches(rest, tail),
                None => false,
            },
            (Some((p, rest)), Some((b, tail))) if p == b => matches(rest, tail),
            _ => false,
        }
    }
    matches(pattern.as_bytes(), text.as_bytes())
}

/// The one manifest an image here consists of.
fn manifests(inner: &Inner, image: &Image) -> List<ManifestSummary> {
    let unpacked = i64::try_from(image.size).unwrap_or(i64::MAX);
    let digest = image.manifest.as_ref().unwrap_or(&image.id).to_string();
    let containers = inner.containers.all().into_iter().map(|h| h.snapshot());
    let containers = containers.filter(|s| s.record.uses_image(&image.id));
    let platform = ferry_api::image::Platform {
        architecture: image.config.architecture.clone(),
        os: image.config.os.clone(),
        variant: image.config.variant.clone().unwrap_or_default(),
        ..ferry_api::image::Platform::default()
    };
    vec![ManifestSummary {
        id: digest.clone(),
        descriptor: ferry_api::image::Descriptor {
            media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
            digest,
            platform: Some(platform.clone()),
            ..ferry_api::image::Descriptor::default()
        },
        available: true,
        size: ManifestSize { content: 0, total: unpacked },
        kind: "image".to_owned(),
        image_data: Some(ManifestImage {
            platform,
            size: UnpackedSize { unpacked },
            containers: containers.map(|s| s.record.id.to_string()).collect::<Vec<_>>().into(),
        }),
    }]
    .into()
}

fn summary(inner: &Inner, image: &Image, o: &ListImages) -> ImageSummary {
    let size = i64::try_from(image.size).unwrap_or(i64::MAX);
    let users = inner.containers.all().iter().filter(|h| h.snapshot().record.image_id == image.id).count();
    ImageSummary {
        containers: i64::try_from(users).unwrap_or(i64::MAX),
        manifests: if o.manifests { manifests(inner, image) } else { List::default() },
        created: image.created().as_second(),
        id: image.id.to_string(),
        labels: if image.config.config.labels.is_empty() {
            Map::default()
        } else {
            image.config.config.labels.clone().into()
        },
        parent_id: image.parent.as_ref().map(Digest::to_string).unwrap_or_default(),
        repo_digests: image.repo_digests.iter().map(ImageRef::familiar).collect(),
        // Of an image that was found by its name, Docker shows the names that fit.
        repo_tags: image
            .repo_tags
            .iter()
            .filter(|name| wanted_reference(&o.filters, name))
            .map(ImageRef::familiar)
            .collect(),
        shared_size: -1,
        size,
        ..ImageSummary::default()
    }
}

fn inspect(inner: &Inner, image: &Image) -> Result<ImageInspect> {
    let dirs: Vec<String> =
        inner.images.layer_dirs(&image.id)?.into_iter().map(|d| d.to_string_lossy().into_owned()).collect();
    let mut data = std::collections::BTreeMap::new();
    if let Some((upper, lower)) = dirs.split_first() {
        data.insert("UpperDir".to_owned(), upper.clone());
        if !lower.is_empty() {
            data.insert("LowerDir".to_owned(), lower.join(":"));
        }
    }
    Ok(ImageInspect {
        id: image.id.to_string(),
        repo_tags: image.repo_tags.iter().map(ImageRef::familiar).collect(),
        repo_digests: image.repo_digests.iter().map(ImageRef::familiar).collect(),
        parent: Some(image.parent.as_ref().map(Digest::to_string).unwrap_or_default()),
        comment: image.config.history.last().and_then(|h| h.comment.clone()).unwrap_or_default(),
        created: image.config.created.map(|t| Time(t).to_string()).unwrap_or_default(),
        docker_version: None,
        author: image.config.author.clone().unwrap_or_default(),
        config: config(image),
        architecture: image.config.architecture.clone(),
        variant: image.config.variant.clone().unwrap_or_default(),
        os: image.config.os.clone(),
        os_version: image.config.os_version.clone().unwrap_or_default(),
        size: i64::try_from(image.size).unwrap_or(i64::MAX),
        graph_driver: Some(GraphDriver { id: String::new(), data: data.into(), name: "overlay2".to_owned() }),
        root_fs: RootFs {
            kind: "layers".to_owned(),
            layers: image.config.rootfs.diff_ids.iter().map(Digest::to_string).collect(),
        },
        metadata: ImageMetadata { last_tag_time: image.last_tagged.map(Time).unwrap_or_default() },
        ..ImageInspect::default()
    })
}

fn config(image: &Image) -> ImageConfig {
    let c = &image.config.config;
    let set = |m: &std::collections::BTreeMap<String, ferry_image::config::Empty>| -> Map<Empty> {
        m.keys().map(|k| (k.clone(), Empty {})).collect()
    };
    let optional = |l: &Option<Vec<String>>| l.clone().map(List::from).unwrap_or_default();
    ImageConfig {
        user: c.user.clone(),
        exposed_ports: set(&c.exposed_ports),
        env: c.env.clone().into(),
        entrypoint: optional(&c.entrypoint),
        cmd: optional(&c.cmd),
        volumes: set(&c.volumes),
        working_dir: c.working_dir.clone(),
        labels: c.labels.clone().into(),
        stop_signal: c.stop_signal.clone(),
        args_escaped: c.args_escaped,
        healthcheck: c.healthcheck.as_ref().map(|h| HealthConfig {
            test: h.test.clone().into(),
            interval: h.interval,
            timeout: h.timeout,
            start_period: h.start_period,
            start_interval: h.start_interval,
            retries: h.retries,
        }),
        on_build: c.on_build.clone().into(),
        shell: c.shell.clone().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_stop_at_slashes() {
        assert!(glob("deb*", "debian") && glob("*:12", "debian:12") && glob("a/?", "a/b"));
        assert!(!glob("*", "a/b") && !glob("deb", "debian"));
    }

    #[test]
    fn character_classes() {
        assert!(glob("de[a-c]ian", "debian") && glob("[^x]b", "ab") && glob("a\\*b", "a*b"));
        assert!(!glob("de[^b]ian", "debian") && !glob("[/]", "/"));
        for bad in ["[", "a[", "[]", "[a-", "[-a]", "\\"] {
            assert_eq!(check_pattern(bad).unwrap_err().to_string(), "syntax error in pattern", "{bad}");
        }
        assert!(check_pattern("a[b-d]*?").is_ok());
    }

    #[test]
    fn targets() {
        let name =
            |repo: &str, tag: &str| target_reference(Some(repo), Some(tag)).unwrap().unwrap().familiar();
        assert_eq!(name("a", ""), "a:latest");
        assert_eq!(name("a:1", "2"), "a:2");
        assert!(
            target_reference(Some("A"), None).is_err() && target_reference(Some("a"), Some("-")).is_err()
        );
        assert!(target_reference(Some(""), None).unwrap().is_none());
    }
}
