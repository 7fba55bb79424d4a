//! How the rest of the engine reaches a container's owner: what it can be asked, and the handle that asks.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ferry_api::EndpointSettings;
use ferry_shim_proto::{AttachStreams, Reply, Request as ShimRequest};
use tokio::sync::{mpsc, oneshot, watch};

use super::record::ContainerRecord;
use super::state::Snapshot;
use crate::error::{EngineError, Result};

/// Why a signal is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SignalIntent {
    /// Just deliver it.
    Deliver,
    /// The user wants the container to end: no policy brings it back.
    Stop,
}

pub(super) type ReplyTo<T> = oneshot::Sender<Result<T>>;

/// A change of a record.
pub(super) type Edit = Box<dyn FnOnce(&mut ContainerRecord) -> Result<()> + Send>;

/// What an owner is asked to do.
pub(crate) enum OwnerRequest {
    /// Start the container, on behalf of a user.
    Start { reply: ReplyTo<()> },
    /// Signal its init process.
    Signal { signal: i32, intent: SignalIntent, reply: ReplyTo<()> },
    /// Do not restart it any more; ends a pending restart.
    CancelRestart { reply: ReplyTo<()> },
    /// Freeze or thaw it.
    Freeze { frozen: bool, reply: ReplyTo<()> },
    /// Connect a client, now or when it starts.
    Attach { streams: AttachStreams, socket: OwnedFd, reply: ReplyTo<()> },
    /// Change the record. Runs inside the owner, so it sees and leaves a consistent record.
    Edit { edit: Edit, reply: ReplyTo<()> },
    /// Put it on a network.
    Connect { network: String, settings: Box<EndpointSettings>, reply: ReplyTo<()> },
    /// Take it off a network.
    Disconnect { network: String, reply: ReplyTo<()> },
    /// Make interfaces again that it has lost; fails when one cannot be made.
    MendNetworks { reply: ReplyTo<()> },
    /// Remove it; it must not run.
    Remove { volumes: bool, reply: ReplyTo<()> },
}

/// How long a shim may take to say whether its container has ended, and the engine to take note.
const SETTLE: Duration = Duration::from_secs(1);

/// How the rest of the engine reaches a container.
pub(crate) struct ContainerHandle {
    pub(super) requests: mpsc::Sender<OwnerRequest>,
    pub(super) snapshot: watch::Receiver<Arc<Snapshot>>,
    pub(super) attaching: watch::Sender<usize>,
    /// Whether a client was ever attached to it.
    pub(super) had_clients: AtomicBool,
}

/// Announces that a client is being attached, until it is dropped.
pub(crate) struct Attaching(Arc<ContainerHandle>);

impl Drop for Attaching {
    fn drop(&mut self) {
        self.0.attaching.send_modify(|clients| *clients -= 1);
    }
}

impl ContainerHandle {
    /// Announces that a client is being attached. A start waits for it, see [`Self::attached`].
    pub fn attaching(self: &Arc<Self>) -> Attaching {
        self.attaching.send_modify(|clients| *clients += 1);
        self.had_clients.store(true, Ordering::Relaxed);
        Attaching(Arc::clone(self))
    }

    /// Waits until no client is on its way. A client's connection is handed over a moment after the client is told that
    /// it is; its next request, to start the container, must not overtake this, or the first output would be lost.
    pub async fn attached(&self) {
        let mut clients = self.attaching.subscribe();
        // A client that hangs half-way must not keep the container from starting.
        let _ = tokio::time::timeout(Duration::from_secs(2), clients.wait_for(|clients| *clients == 0)).await;
    }

    /// The snapshot after an end that a client may know of by the end of its stream. The stream ends in the shim, a moment before
    /// the engine hears of it, and clients ask at once how it ended.
    pub async fn settled(&self) -> Arc<Snapshot> {
        let snapshot = self.snapshot();
        let (true, Some(shim), true) =
            (self.had_clients.load(Ordering::Relaxed), &snapshot.shim, snapshot.state.live().is_some())
        else {
            return snapshot;
        };
        // The shim answers after it has told everything it knows.
        let told = tokio::time::timeout(SETTLE, shim.call(ShimRequest::State, &[])).await;
        if let Ok(Ok(Reply::State(state))) = told
            && state.exited.is_some()
        {
            let mut later = self.watch();
            let ended = later.wait_for(|s| s.exits != snapshot.exits || s.state.live().is_none());
            let _ = tokio::time::timeout(SETTLE, ended).await;
        }
        self.snapshot()
    }

    /// The present snapshot.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.borrow().clone()
    }

    /// To wait for later snapshots.
    pub fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshot.clone()
    }

    /// Asks the owner and waits for its answer.
    pub async fn ask<T>(&self, request: impl FnOnce(ReplyTo<T>) -> OwnerRequest) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let id = || self.snapshot().record.id.to_string();
        self.requests.send(request(reply)).await.map_err(|_| EngineError::NoSuchContainer(id()))?;
        answer.await.map_err(|_| EngineError::NoSuchContainer(id()))?
    }
}
