//! What an engine takes away when it is ended. Containers that run, and what they need, stay.

use std::sync::Arc;

use crate::Engine;
use crate::config::DefaultBridge;

/// The bridge whose name others know, too, stays as with Docker.
const WELL_KNOWN: &str = "docker0";

impl Engine {
    /// To be called last, when no request is served any more: if no container runs, there is nothing to filter and nothing
    /// to connect, so that the packet filter's rules go, and the default bridge if its name is one that ferry made up. An
    /// engine that is started again makes them anew.
    pub async fn shut_down(&self) {
        let inner = Arc::clone(&self.inner);
        if inner.containers.all().iter().any(|handle| handle.snapshot().state.live().is_some()) {
            return;
        }
        let chosen = matches!(inner.config.bridge, DefaultBridge::Automatic | DefaultBridge::Docker0);
        let made_up = inner.bridge.clone().filter(|b| chosen && b.config().device != WELL_KNOWN);
        let cleared = tokio::task::spawn_blocking(move || {
            if let Some(Err(error)) = made_up.map(|bridge| bridge.close(false)) {
                tracing::warn!(%error, "the default bridge is left behind");
            }
            if let Err(error) = inner.network.destroy() {
                tracing::warn!(%error, "rules of the packet filter are left behind");
            }
        });
        let _ = cleared.await;
    }
}
