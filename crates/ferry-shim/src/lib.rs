//! `ferry-shim`: the supervisor of one container.
//!
//! It builds the container through `ferry-runtime`, owns its standard streams, log, relays and
//! processes, and reports to the engine over the protocol of `ferry-shim-proto`. One thread, one
//! epoll loop, nothing that blocks. The rules it keeps are in `docs/shim.md`.
//!
//! A library only so that examples and benches can reach its parts.

#![forbid(unsafe_code)]

mod clock;
mod control;
mod error;
mod execs;
mod exit;
pub mod init;
mod launch;
pub mod log;
mod pending;
mod poll;
mod record;
mod relay;
mod requests;
mod setup;
mod shim;
mod stdio;

pub use setup::{Prepared, prepare};
pub use shim::{Ending, run};
