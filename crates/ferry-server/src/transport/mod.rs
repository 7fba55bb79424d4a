//! Sockets: listening ([`listen`]), TLS ([`tls`]), connections ([`conn`]) and leaving HTTP
//! ([`hijack`]). Nothing here knows a route.

mod conn;
mod hijack;
mod listen;
mod socket;
#[cfg(test)]
mod tests;
mod tls;
pub(crate) mod websocket;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::{Request, Response};
use hyper::body::Incoming;

use crate::body::Body;

pub use listen::{Bound, ListenAddr, ListenSpec, ServeError};
pub use tls::TlsFiles;

pub(crate) use hijack::{ConnHandle, hijack_head};

/// Answers requests; every error is a response.
pub(crate) trait Service: Send + Sync + 'static {
    /// The response to one request that came over `conn`.
    fn call(
        self: Arc<Self>,
        request: Request<Incoming>,
        conn: ConnHandle,
    ) -> BoxFuture<'static, Response<Body>>;
}
