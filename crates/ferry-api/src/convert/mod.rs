//! What older API versions say differently: the only place that compares versions.
//!
//! Requests of an older client are brought to the newest form before anything looks at them
//! ([`request`]); responses are brought to the client's form last ([`response`]). The cut-off
//! versions are those of Docker's API version history.

pub mod request;
pub mod response;
