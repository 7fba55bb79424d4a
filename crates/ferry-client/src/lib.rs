//! Client of the Docker Engine API: connections over a unix socket, TCP or TLS, API version
//! negotiation, streamed bodies and hijacked connections.
//!
//! Nothing here knows what a container is: callers name a method, a path and a body, and get a status
//! and a body back. The library prints nothing, reads no environment and never exits.

#![forbid(unsafe_code)]

mod body;
mod client;
mod connect;
mod endpoint;
mod error;
mod hijack;
mod negotiate;
mod response;
mod ssh;
mod tls;

pub use body::{RequestBody, Sender};
pub use client::{Client, ClientOptions, Request, headers};
pub use connect::Stream;
pub use endpoint::Endpoint;
pub use error::Error;
pub use hijack::Hijacked;
pub use http::{HeaderMap as Headers, Method, StatusCode};
pub use negotiate::{ApiVersion, CLIENT_API_VERSION};
pub use response::Response;
pub use tls::TlsOptions;
