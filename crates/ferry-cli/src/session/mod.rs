//! A terminal session with a process in a container: streams, raw mode, resizes, signals.

pub mod pump;
pub mod signals;
pub mod terminal;
