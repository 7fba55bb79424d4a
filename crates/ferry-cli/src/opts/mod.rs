//! Parsers of what users write behind flags. Text in, data out: files are read only where a flag names
//! one to be read (`--env-file`, `--label-file`, seccomp profiles), by the functions that say so.

pub mod create;
pub mod device;
pub mod env;
pub mod filter;
pub mod mount;
pub mod network;
pub mod ports;
pub mod process;
pub mod security;
pub mod values;
