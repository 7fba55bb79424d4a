//! Handlers, one file per noun: parse, call the engine, map. What takes longer than a response
//! (streams, archives, waiting) is in [`stream`].

pub(crate) mod build;
pub(crate) mod container;
pub(crate) mod exec;
pub(crate) mod image;
pub(crate) mod network;
pub(crate) mod plugin;
pub(crate) mod registry;
pub(crate) mod stream;
pub(crate) mod swarm;
pub(crate) mod system;
pub(crate) mod volume;
