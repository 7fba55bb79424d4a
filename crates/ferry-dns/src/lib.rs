//! Names of containers on user-defined networks: what `127.0.0.11` answers inside a container.
//!
//! - [`table`]: which names each network has, and what one container sees of them. Pure.
//! - [`answer`]: from a query and a container's view to a response, or to the decision to ask elsewhere. Pure.
//! - [`cache`]: responses of other servers, as long as they are valid. Pure; the time is an argument.
//! - [`upstream`]: asking other servers, over UDP and TCP.
//! - [`host`]: the host's own servers, as its `resolv.conf` names them.
//! - [`server`]: the sockets of all containers, in one thread.
//! - [`control`]: what the engine and the process that serves say to each other.
//!
//! Nothing here knows how a socket came into a container's network namespace.

#![forbid(unsafe_code)]

pub mod answer;
pub mod cache;
pub mod control;
pub mod host;
pub mod server;
pub mod table;
pub mod upstream;
