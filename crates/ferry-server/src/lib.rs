//! The HTTP edge of ferry: listeners, connections, API versions, routes and handlers.
//!
//! A request's way: [`transport`] accepts the connection and reads the request; [`router`] names the
//! route; [`app`] checks the API version and calls the handler; a handler parses, calls the engine
//! and maps the result. Attach and exec leave HTTP: the client's socket itself is handed to the
//! engine (and on to the container's shim), so that no byte of a container's output passes here.

#![forbid(unsafe_code)]

mod app;
mod body;
mod error;
mod handlers;
mod query;
mod reply;
mod request;
mod router;
mod transport;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use ferry_engine::Engine;

pub use transport::{Bound, ListenAddr, ListenSpec, ServeError, TlsFiles};

/// Serves the API on all listeners until `shutdown` completes; then stops accepting, ends streams, lets other
/// requests take as long as `shutdown` says, and removes the unix sockets it made.
///
/// Tells systemd when it is ready (sd_notify(3)) once every listener is open.
///
/// # Errors
/// When a listener cannot be opened; nothing is served then.
pub async fn serve(
    engine: Engine,
    listeners: Vec<ListenSpec>,
    shutdown: impl Future<Output = Duration> + Send,
) -> Result<(), ServeError> {
    serve_bound(engine, Bound::open(listeners).await?, shutdown).await;
    Ok(())
}

/// [`serve`] on listeners opened before, e.g. before the engine was started.
pub async fn serve_bound(engine: Engine, bound: Bound, shutdown: impl Future<Output = Duration> + Send) {
    bound.serve(|stop| Arc::new(app::App::new(engine, stop)), shutdown).await;
}
