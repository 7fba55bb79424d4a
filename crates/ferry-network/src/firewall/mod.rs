//! The firewall of an engine: what its rules are, how they get into the kernel, and how they stay there.

pub(crate) mod rules;
pub(crate) mod table;
pub(crate) mod watch;
