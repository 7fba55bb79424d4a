//! Client of OCI registries (OCI distribution-spec, Docker's registry API v2): authentication,
//! manifests and blobs. It knows no store: what it fetches it hands out.

#![forbid(unsafe_code)]

mod auth;
mod client;
mod download;
mod endpoint;
mod error;
mod login;
mod manifest;
mod response;
mod search;
mod token;
mod transport;

pub use auth::Auth;
pub use client::{Blob, ClientOptions, Fetched, ProxyOptions, RegistryClient, Resolved};
pub use download::Download;
pub use error::{ApiError, RegistryError, Result};
pub use manifest::{Descriptor, Index, Manifest};
pub use search::{Found, Search};
