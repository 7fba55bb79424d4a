//! A container's live state and the snapshot readers see.
//!
//! ```text
//!             start                    exit, no policy
//!  Created ─────────► Starting ──► Running ──────────► Exited ──► Starting
//!     ▲                  │        │  ▲   │                ▲
//!     └── start failed ──┘  pause ▼  │   │ exit, policy   │ stopped meanwhile
//!                               Paused   └──► Restarting ─┴─► Starting
//!  any state ── remove ──► Removing ──► (gone)
//! ```

use std::sync::Arc;

use super::health::Health;
use super::record::{ContainerRecord, ExitInfo};
use crate::shim::ShimClient;

/// What a container is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// Never ran.
    Created {
        /// Exit code of a failed start, else 0.
        code: i32,
        /// Why the last start failed, else empty.
        error: String,
    },
    /// Being started.
    Starting {
        /// How it ended before, when it ran before.
        last: Option<ExitInfo>,
        /// Started by its restart policy, not by a user.
        by_policy: bool,
    },
    /// Its init process runs.
    Running(Live),
    /// Frozen.
    Paused(Live),
    /// Ended; the restart policy will start it again.
    Restarting(ExitInfo),
    /// Ended.
    Exited(ExitInfo),
    /// Being removed.
    Removing(ExitInfo),
    /// Removed: nothing of it is left.
    Removed(ExitInfo),
}

/// Facts about a running container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Live {
    /// Init process, in the host's pid namespace.
    pub pid: i32,
    /// Nanoseconds since the epoch.
    pub started_at: i64,
}

impl State {
    /// Docker's word for it.
    pub fn status(&self) -> &'static str {
        match self {
            Self::Created { .. } | Self::Starting { last: None, .. } => "created",
            Self::Starting { by_policy: true, .. } => "restarting",
            Self::Starting { last: Some(_), .. } | Self::Exited(_) => "exited",
            Self::Running(_) => "running",
            Self::Paused(_) => "paused",
            Self::Restarting(_) => "restarting",
            Self::Removing(_) | Self::Removed(_) => "removing",
        }
    }

    /// The running init process, frozen or not.
    pub fn live(&self) -> Option<&Live> {
        match self {
            Self::Running(live) | Self::Paused(live) => Some(live),
            Self::Created { .. }
            | Self::Starting { .. }
            | Self::Restarting(_)
            | Self::Exited(_)
            | Self::Removing(_)
            | Self::Removed(_) => None,
        }
    }

    /// How the last run ended.
    pub fn last_exit(&self) -> Option<&ExitInfo> {
        match self {
            Self::Restarting(exit) | Self::Exited(exit) | Self::Removing(exit) | Self::Removed(exit) => {
                Some(exit)
            }
            Self::Starting { last, .. } => last.as_ref(),
            Self::Created { .. } | Self::Running(_) | Self::Paused(_) => None,
        }
    }

    /// Exit code to show: 0 unless it has ended or could not start.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Created { code, .. } => *code,
            other => other.last_exit().map_or(0, |e| e.code),
        }
    }

    /// Whether it counts as running for clients: Docker says so of paused and restarting ones too.
    pub fn is_active(&self) -> bool {
        matches!(
            self,
            Self::Running(_) | Self::Paused(_) | Self::Restarting(_) | Self::Starting { by_policy: true, .. }
        )
    }
}

/// What readers see of a container: consistent, immutable, never waited for.
#[derive(Clone)]
pub(crate) struct Snapshot {
    pub record: Arc<ContainerRecord>,
    pub state: State,
    /// To talk to the running container.
    pub shim: Option<ShimClient>,
    /// What probes found, when the container has or had a health check in its last run.
    pub health: Option<Arc<Health>>,
    /// Runs that have ended since this engine knows the container; waiters watch it grow.
    pub exits: u64,
}
