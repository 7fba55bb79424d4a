//! The engine's side of the shim contract (`docs/shim.md`): shims kept ready, and connections to them.

mod client;
mod pool;

pub(crate) use client::{ShimClient, ShimNotice};
pub(crate) use pool::{ShimPool, child_of, kill, named_in};
