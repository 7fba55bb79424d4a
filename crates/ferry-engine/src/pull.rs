//! Pulling an image: joins the registry client, which is asynchronous and knows no store, and the image
//! store, which is synchronous and knows no registry.
//!
//! Each layer runs in two halves: a task reads the network, a blocking thread feeds the ingest (which
//! hashes, decompresses and unpacks meanwhile) and keeps the raw bytes for a later resume.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ferry_api as wire;
use ferry_image::{
    Expected, ImageError, ImageId, ImageStore, LayerLease, LayerSource, Partial, Registration, StagedLayer,
    chain_ids,
};
use ferry_registry_client::{Auth, Descriptor, RegistryClient, RegistryError};
use ferry_types::{Classify, Digest, ErrorKind, ImageRef, Platform};
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinError;

use crate::config::LiveSettings;

/// Chunks between network and ingest.
const QUEUE: usize = 64;
/// Time between two progress messages of one layer.
const PROGRESS: Duration = Duration::from_millis(100);

/// How hard a pull may try.
#[derive(Debug, Clone, Copy)]
pub struct PullLimits {
    /// Layers downloaded at once.
    pub parallel: usize,
    /// Times that a broken download is taken up again.
    pub resumes: u32,
}

impl Default for PullLimits {
    /// Docker's.
    fn default() -> Self {
        Self { parallel: 3, resumes: 5 }
    }
}

impl PullLimits {
    /// As the settings say.
    pub(crate) fn of(settings: &LiveSettings) -> Self {
        Self {
            parallel: settings.max_concurrent_downloads.max(1),
            resumes: settings.max_download_attempts.max(1),
        }
    }
}

/// Why a pull failed.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The store.
    #[error(transparent)]
    Store(#[from] ImageError),
    /// Manifest and config of the image contradict each other.
    #[error("image manifest has {layers} layers but its config has {diff_ids}")]
    LayerCount {
        /// In the manifest.
        layers: usize,
        /// In the config.
        diff_ids: usize,
    },
    /// The config is malformed.
    #[error("invalid image config: {0}")]
    Config(#[source] serde_json::Error),
    /// The image is for another platform than was asked for.
    #[error(
        "image with reference {reference} was found but does not provide the specified platform ({wanted})"
    )]
    Platform {
        /// Familiar form.
        reference: String,
        /// What was asked for.
        wanted: String,
    },
    /// The registry sent less or more than the manifest says.
    #[error("layer {digest}: expected {expected} bytes, got {actual}")]
    Length {
        /// Its digest.
        digest: Digest,
        /// In the manifest.
        expected: u64,
        /// Received.
        actual: u64,
    },
    /// A worker went away: the engine is shutting down.
    #[error("pull interrupted")]
    Interrupted,
}

impl Classify for PullError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Registry(e) => e.kind(),
            Self::Store(e) => e.kind(),
            Self::Platform { .. } => ErrorKind::NotFound,
            Self::LayerCount { .. } | Self::Config(_) | Self::Length { .. } | Self::Interrupted => {
                ErrorKind::System
            }
        }
    }
}

impl From<JoinError> for PullError {
    fn from(_: JoinError) -> Self {
        Self::Interrupted
    }
}

/// What happens during a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PullEvent {
    /// Repository path and tag (or digest).
    PullingFrom {
        /// As the registry knows it.
        repository: String,
        /// Tag or digest.
        tag: String,
    },
    /// Something about one layer; `layer` is the short digest.
    Layer {
        /// Twelve hex digits.
        layer: String,
        /// What.
        state: LayerState,
    },
    /// Digest that the reference stands for.
    Digest(Digest),
    /// The end: whether anything new came.
    Done {
        /// Familiar form.
        reference: String,
        /// False when the image was up to date.
        newer: bool,
    },
}

/// Stages of a layer; byte counts are of the compressed blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerState {
    /// Known to be needed.
    PullingFsLayer,
    /// Others are being downloaded first.
    Waiting,
    /// Under way.
    Downloading {
        /// Bytes so far.
        current: u64,
        /// All.
        total: u64,
    },
    /// All bytes are there.
    DownloadComplete,
    /// The rest of them is being unpacked.
    Extracting {
        /// Bytes so far.
        current: u64,
        /// All.
        total: u64,
    },
    /// Unpacked and verified.
    PullComplete,
    /// The store had it.
    AlreadyExists,
}

impl PullEvent {
    /// Docker's progress message for it.
    pub fn message(&self) -> wire::JsonMessage {
        match self {
            Self::PullingFrom { repository, tag } => {
                wire::JsonMessage::status(tag, format!("Pulling from {repository}"))
            }
            Self::Digest(digest) => wire::JsonMessage::status("", format!("Digest: {digest}")),
            Self::Done { reference, newer } => {
                let what = if *newer { "Downloaded newer image" } else { "Image is up to date" };
                wire::JsonMessage::status("", format!("Status: {what} for {reference}"))
            }
            Self::Layer { layer, state } => {
                let (status, current, total) = match state {
                    LayerState::PullingFsLayer => ("Pulling fs layer", 0, 0),
                    LayerState::Waiting => ("Waiting", 0, 0),
                    LayerState::Downloading { current, total } => ("Downloading", *current, *total),
                    LayerState::DownloadComplete => ("Download complete", 0, 0),
                    LayerState::Extracting { current, total } => ("Extracting", *current, *total),
                    LayerState::PullComplete => ("Pull complete", 0, 0),
                    LayerState::AlreadyExists => ("Already exists", 0, 0),
                };
                let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
                wire::JsonMessage::progress(layer, status, number(current), number(total))
            }
        }
    }
}

/// Pulls what `reference` names (`latest` by default). Dropping the future stops the pull; what was
/// downloaded of unfinished layers is kept and used by the next one.
///
/// # Errors
/// When the registry does not give the image, it is not what its digests say, or the disk fails; the
/// store is then as before.
pub async fn pull(
    store: Arc<ImageStore>,
    client: &RegistryClient,
    reference: ImageRef,
    platform: Option<Platform>,
    auth: Auth,
    limits: PullLimits,
    progress: mpsc::Sender<PullEvent>,
) -> Result<ImageId, PullError> {
    let reference = reference.tag_default();
    let pull = Pull { store, client, reference, auth, limits, progress };
    pull.run(platform).await
}

struct Pull<'a> {
    store: Arc<ImageStore>,
    client: &'a RegistryClient,
    reference: ImageRef,
    auth: Auth,
    limits: PullLimits,
    progress: mpsc::Sender<PullEvent>,
}

/// Layers held on to. Giving them back may remove one, which takes the store's writer lock and the disk:
/// nothing for an async thread.
struct Leases(Vec<LayerLease>);

impl Drop for Leases {
    fn drop(&mut self) {
        let leases = std::mem::take(&mut self.0);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn_blocking(move || drop(leases));
        }
    }
}

/// What the network half tells the ingest half.
enum Feed {
    Data(Bytes),
    End,
}

impl Pull<'_> {
    async fn run(&self, platform: Option<Platform>) -> Result<ImageId, PullError> {
        let host = Platform::host();
        let wanted = platform.as_ref().unwrap_or(&host);
        let resolved = self.client.resolve(&self.reference, wanted, &self.auth).await?;
        let tag = self.reference.digest().map_or(self.reference.tag(), |d| Some(d.as_str()));
        let tag = tag.unwrap_or_default().to_owned();
        self.report(PullEvent::PullingFrom { repository: self.reference.path().to_owned(), tag }).await;

        let manifest = &resolved.manifest;
        let config = self.client.document(&self.reference, &manifest.config, &self.auth).await?;
        let parsed: ferry_image::ImageConfig = serde_json::from_slice(&config).map_err(PullError::Config)?;
        self.check_platform(platform.as_ref(), &parsed)?;
        let diff_ids = &parsed.rootfs.diff_ids;
        if diff_ids.len() != manifest.layers.len() {
            return Err(PullError::LayerCount { layers: manifest.layers.len(), diff_ids: diff_ids.len() });
        }
        let chain = chain_ids(diff_ids);
        let named = self.store.resolve(&self.reference.to_string());
        let known = named.is_ok_and(|id| id == manifest.config.digest);
        // Held until the image is registered: nobody removes them meanwhile.
        let store = self.store.clone();
        let lease = move || Leases(chain.iter().map_while(|c| store.lease_layer(c)).collect());
        let leases = tokio::task::spawn_blocking(lease).await?;
        let stored = leases.0.len();
        if !known {
            self.announce(&manifest.layers, stored).await;
        }
        let mut layers: Vec<_> = (0..stored).map(|_| LayerSource::Stored).collect();
        layers.extend(self.layers(&manifest.layers[stored..], &diff_ids[stored..]).await?);
        self.report(PullEvent::Digest(resolved.digest.clone())).await;

        let mut references = vec![self.reference.with_digest(resolved.digest.clone())];
        if self.reference.digest().is_none() {
            references.push(self.reference.clone());
        }
        let store = self.store.clone();
        let register = move || {
            let new = Registration {
                config: &config,
                manifest: Some(&resolved.raw_manifest),
                layers,
                parent: None,
                references,
            };
            store.register(new)
        };
        let id = tokio::task::spawn_blocking(register).await??;
        drop(leases);
        let reference = self.reference.familiar();
        self.report(PullEvent::Done { reference, newer: !known }).await;
        Ok(id)
    }

    fn check_platform(
        &self,
        asked: Option<&Platform>,
        config: &ferry_image::ImageConfig,
    ) -> Result<(), PullError> {
        let Some(asked) = asked else { return Ok(()) };
        // Old images do not say what they are for.
        let silent = config.architecture.is_empty();
        let variant = config.variant.as_deref().or(asked.variant.as_deref());
        if silent || asked.rank(&config.os, &config.architecture, variant).is_some() {
            return Ok(());
        }
        Err(PullError::Platform { reference: self.reference.familiar(), wanted: asked.to_string() })
    }

    async fn announce(&self, layers: &[Descriptor], stored: usize) {
        for (i, layer) in layers.iter().enumerate() {
            let state = if i < stored { LayerState::AlreadyExists } else { LayerState::PullingFsLayer };
            self.report_layer(layer, state).await;
        }
        for layer in layers.iter().skip(stored + self.limits.parallel) {
            self.report_layer(layer, LayerState::Waiting).await;
        }
    }

    /// Downloads and unpacks layers, some at a time, and gives them in their order.
    async fn layers(
        &self,
        layers: &[Descriptor],
        diff_ids: &[Digest],
    ) -> Result<Vec<LayerSource>, PullError> {
        // Boxed, so that the future of the whole pull stays `Send` for the compiler.
        let jobs: Vec<_> =
            layers.iter().zip(diff_ids).map(|(layer, diff_id)| self.layer(layer, diff_id).boxed()).collect();
        let staged: Vec<StagedLayer> =
            futures_util::stream::iter(jobs).buffered(self.limits.parallel).try_collect().await?;
        Ok(staged.into_iter().map(LayerSource::Staged).collect())
    }

    async fn layer(&self, layer: &Descriptor, diff_id: &Digest) -> Result<StagedLayer, PullError> {
        let (offset_sender, offset) = oneshot::channel();
        let (feed, input) = mpsc::channel(QUEUE);
        let (store, descriptor, diff_id) = (self.store.clone(), layer.clone(), diff_id.clone());
        let ingest = move || ingest(&store, &descriptor, diff_id, offset_sender, input);
        let worker = tokio::task::spawn_blocking(ingest);
        // Without an offset the worker has failed already.
        if let Ok(offset) = offset.await {
            self.download(layer, offset, &feed).await?;
            self.report_layer(layer, LayerState::DownloadComplete).await;
            let (current, total) = (layer.size, layer.size);
            self.report_layer(layer, LayerState::Extracting { current, total }).await;
        }
        drop(feed);
        let staged = worker.await??;
        self.report_layer(layer, LayerState::PullComplete).await;
        Ok(staged)
    }

    /// Sends a layer's bytes from `received` on to its worker. Stops early, without an error, when the
    /// worker is gone: it has the error.
    async fn download(
        &self,
        layer: &Descriptor,
        mut received: u64,
        feed: &mpsc::Sender<Feed>,
    ) -> Result<(), PullError> {
        let total = layer.size;
        let mut resumes = 0;
        let mut reported = Instant::now();
        while received < total {
            let mut blob = self.client.blob(&self.reference, &layer.digest, received, &self.auth).await?;
            let mut skip = received - blob.offset;
            let broken = loop {
                let bytes = match blob.chunk().await {
                    Ok(Some(bytes)) => bytes,
                    Ok(None) => break None,
                    Err(error) => break Some(error),
                };
                // A registry without ranges starts from the beginning.
                let known = usize::try_from(skip).unwrap_or(usize::MAX).min(bytes.len());
                skip -= known as u64;
                let bytes = bytes.slice(known..);
                received += bytes.len() as u64;
                if received > total {
                    let digest = layer.digest.clone();
                    return Err(PullError::Length { digest, expected: total, actual: received });
                }
                if feed.send(Feed::Data(bytes)).await.is_err() {
                    return Ok(());
                }
                if reported.elapsed() >= PROGRESS {
                    reported = Instant::now();
                    let state = LayerState::Downloading { current: received, total };
                    // Progress must not hold up the download.
                    self.progress.try_send(layer_event(layer, state)).ok();
                }
            };
            if received == total {
                break;
            }
            resumes += 1;
            match broken {
                Some(error) if resumes > self.limits.resumes || !error.is_transient() => {
                    return Err(error.into());
                }
                None if resumes > self.limits.resumes => {
                    let digest = layer.digest.clone();
                    return Err(PullError::Length { digest, expected: total, actual: received });
                }
                _ => tokio::time::sleep(Duration::from_millis(200) * resumes).await,
            }
        }
        feed.send(Feed::End).await.ok();
        Ok(())
    }

    async fn report(&self, event: PullEvent) {
        // Whoever asked may have stopped listening; whether that ends the pull is the caller's decision.
        self.progress.send(event).await.ok();
    }

    async fn report_layer(&self, layer: &Descriptor, state: LayerState) {
        self.report(layer_event(layer, state)).await;
    }
}

fn layer_event(layer: &Descriptor, state: LayerState) -> PullEvent {
    PullEvent::Layer { layer: layer.digest.short().to_owned(), state }
}

/// The blocking half of a layer: takes up an earlier download, then whatever comes in.
fn ingest(
    store: &Arc<ImageStore>,
    layer: &Descriptor,
    diff_id: Digest,
    offset: oneshot::Sender<u64>,
    mut input: mpsc::Receiver<Feed>,
) -> Result<StagedLayer, PullError> {
    let mut partial = store.partial(&layer.digest)?;
    let expected = Expected { digest: Some(layer.digest.clone()), diff_id: Some(diff_id) };
    let mut ingest = store.ingest_layer(expected)?;
    let mut start = 0;
    if let Some(partial) = &mut partial {
        if partial.length() > layer.size {
            partial.restart()?;
        }
        // A write error means that the ingest has failed, and tells why below.
        if partial.replay(&mut ingest).is_ok() {
            start = partial.length();
        }
    }
    // Nobody listens any more when the pull was dropped; the channel tells below.
    offset.send(start).ok();
    loop {
        match input.blocking_recv() {
            Some(Feed::Data(bytes)) => {
                if ingest.write_all(&bytes).is_err() {
                    break;
                }
                keep(&mut partial, &bytes);
            }
            Some(Feed::End) => break,
            None => return Err(PullError::Interrupted),
        }
    }
    let staged = ingest.finish().map_err(ImageError::from);
    let broken = staged.as_ref().is_err_and(|e| e.kind() == ErrorKind::InvalidParameter);
    if let Some(partial) = partial
        && (staged.is_ok() || broken)
    {
        partial.discard();
    }
    Ok(staged?)
}

/// Keeping bytes for a resume is a convenience: when the disk has no room for them, the pull goes on
/// without.
fn keep(partial: &mut Option<Partial>, bytes: &[u8]) {
    if let Some(file) = partial
        && let Err(error) = file.append(bytes)
    {
        tracing::debug!(%error, "download will not be resumable");
        if let Some(file) = partial.take() {
            file.discard();
        }
    }
}
