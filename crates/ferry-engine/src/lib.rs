//! The engine: owns containers, images, volumes and the default network of one data root, and drives
//! the mechanisms (image store, network, shims). It knows Docker's wire types but no HTTP.
//!
//! Start at [`Engine`]; `container/` holds the life of a container: its durable record, its owner
//! task and the steps of a start. The operations are inherent methods of [`Engine`], each in the module of its noun.

#![forbid(unsafe_code)]

pub mod api;
mod cdi;
mod check;
mod config;
mod container;
mod database;
mod error;
mod events;
mod exec;
#[doc(hidden)]
pub mod fuzz;
mod image;
mod image_pull;
mod image_push;
mod init_program;
mod inner;
mod logging;
mod mountinfo;
mod names;
mod network;
mod open;
mod paths;
pub mod pull;
mod readiness;
mod registry;
mod reload;
mod rootfs;
mod runtimes;
mod shim;
mod shutdown;
mod signal;
mod spec;
mod steps;
mod stream;
mod system;
mod time;
mod volume;
mod volume_mount;
mod volume_ops;

pub use cdi::DEFAULT_DIRS as DEFAULT_CDI_DIRS;
pub use check::CheckOptions;
pub use config::{
    DefaultBridge, DefaultSeccomp, EngineConfig, FirewallBackend, FirewallConfig, LiveSettings, Runtime,
};
pub use container::attach::Attachment;
pub use error::{EngineError, Result};
pub use exec::ExecAttachment;
pub use ferry_network::AddressPool;
pub use ferry_registry_client::ProxyOptions;
pub use logging::check_log_defaults;
pub use runtimes::OWN_RUNTIMES;
pub use spec::check_seccomp_profile;
pub use system::VERSION;

use std::sync::Arc;

use inner::Inner;

/// One engine. Cheap to clone; all clones are the same engine.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

/// Runs blocking work off the asynchronous threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    blocking_raw(work).await?
}

/// As [`blocking`], for work that does not fail in the engine's terms.
async fn blocking_raw<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| {
        // A panic was printed where it happened; the request it belonged to fails, nothing else.
        EngineError::System(format!("an internal task ended unexpectedly: {e}"))
    })
}
