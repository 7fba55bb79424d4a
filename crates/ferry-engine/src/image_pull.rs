//! `pull` as the API offers it: references, credentials and progress messages around [`crate::pull`].

use std::sync::Arc;

use ferry_api::JsonMessage;
use ferry_registry_client::{Auth, ClientOptions};
use ferry_types::ImageRef;
use tokio::sync::mpsc;

use crate::Engine;
use crate::api::{ItemStream, PullOptions};
use crate::config::{EngineConfig, LiveSettings};
use crate::error::{EngineError, Result};
use crate::events::EventKind;
use crate::image::parse_platform;
use crate::pull::{PullEvent, PullLimits, pull};
use crate::stream;

/// How the registry client is set up for an engine.
pub(crate) fn client_options(config: &EngineConfig, live: &LiveSettings) -> ClientOptions {
    ClientOptions {
        insecure: live.insecure_registries.clone(),
        mirrors: live.registry_mirrors.clone(),
        attempts: Some(live.max_download_attempts),
        user_agent: format!("ferry/{} (linux)", crate::VERSION),
        proxy: config.proxy.clone(),
    }
}

impl Engine {
    /// Pulls an image. An error before the first progress message is returned; a later one is the stream's last message.
    pub async fn image_pull(&self, o: PullOptions) -> Result<ItemStream<JsonMessage>> {
        let reference = wanted_reference(&o)?;
        let platform = o.platform.as_deref().filter(|p| !p.is_empty()).map(parse_platform).transpose()?;
        let auth = credentials(o.auth);
        let (events, mut progress) = mpsc::channel::<PullEvent>(64);
        let (sender, receiver) = mpsc::channel::<Result<JsonMessage>>(64);
        let engine = self.clone();
        let mut task = tokio::spawn(async move {
            let store = Arc::clone(&engine.inner.images);
            let id = {
                let limits = PullLimits::of(&engine.inner.live.settings());
                let client = engine.inner.live.registry();
                pull(store, &client, reference.clone(), platform, auth, limits, events).await?
            };
            let name = reference.familiar();
            engine.inner.events.image(EventKind::Pull, &name, &name, &engine.inner.image_labels(&id));
            Ok::<_, EngineError>(id)
        });
        // The first message shows that the registry knows the image; before it, an error is an HTTP status.
        let first = match progress.recv().await {
            Some(event) => event,
            None => {
                let outcome = (&mut task).await;
                return match outcome {
                    Ok(Ok(_)) => Ok(Box::pin(stream::from_receiver(receiver))),
                    Ok(Err(error)) => Err(error),
                    Err(error) => Err(EngineError::System(format!("the pull ended unexpectedly: {error}"))),
                };
            }
        };
        let abort = task.abort_handle();
        tokio::spawn(async move {
            let mut next = Some(first);
            while let Some(event) = next {
                if sender.send(Ok(event.message())).await.is_err() {
                    // The client has left: as Docker, stop. What was downloaded is kept for the next attempt.
                    abort.abort();
                    return;
                }
                next = progress.recv().await;
            }
            let failed = match task.await {
                Ok(Ok(_)) => return,
                Ok(Err(error)) => error.to_string(),
                Err(error) => format!("the pull ended unexpectedly: {error}"),
            };
            let _ = sender.send(Ok(JsonMessage::error(failed))).await;
        });
        Ok(Box::pin(stream::from_receiver(receiver)))
    }
}

/// `fromImage` and `tag` together; the tag may be a digest.
fn wanted_reference(o: &PullOptions) -> Result<ImageRef> {
    let invalid = |e: ferry_types::ImageRefError| EngineError::InvalidParameter(e.to_string());
    let reference: ImageRef = o.image.parse().map_err(invalid)?;
    match o.tag.as_deref().filter(|t| !t.is_empty()) {
        Some(tag) if tag.contains(':') => {
            let digest = tag
                .parse()
                .map_err(|e: ferry_types::DigestError| EngineError::InvalidParameter(e.to_string()))?;
            Ok(reference.with_digest(digest))
        }
        Some(tag) => reference.with_tag(tag).map_err(invalid),
        None => Ok(reference.tag_default()),
    }
}

pub(crate) fn credentials(auth: Option<ferry_api::auth::AuthConfig>) -> Auth {
    match auth {
        Some(a) if !a.registry_token.is_empty() => Auth::RegistryToken(a.registry_token),
        Some(a) if !a.identity_token.is_empty() => Auth::IdentityToken(a.identity_token),
        Some(a) if !a.username.is_empty() => Auth::Basic { username: a.username, password: a.password },
        _ => Auth::Anonymous,
    }
}
