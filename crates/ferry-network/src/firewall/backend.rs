//! What gets rules into the kernel. Every implementation passes the tests of `tests/packets.rs` and `tests/repair.rs`.

use std::collections::HashSet;
use std::io;

use ferry_sys::netlink::NetlinkError;
use rustix::io::Errno;

use super::rules::BridgeRules;
use super::watch::Watched;
use super::{Elements, Port, Wanted};

/// Why rules could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FirewallError {
    /// nf_tables refused.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// A program could not be started, or a system call failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// iptables refused.
    #[error("{program}: {message}")]
    Program {
        /// Which program.
        program: String,
        /// What it said.
        message: String,
    },
}

impl FirewallError {
    /// Whether the cause may be that somebody changed what is ours: then what is there is to be looked at.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            Self::Netlink(e) => [Errno::NOENT, Errno::EXIST, Errno::BUSY]
                .iter()
                .any(|errno| e.errno() == Some(errno.raw_os_error())),
            Self::Program { .. } => true,
            Self::Io(_) => false,
        }
    }
}

impl From<FirewallError> for io::Error {
    fn from(error: FirewallError) -> Self {
        match error {
            FirewallError::Netlink(e) => e.into(),
            FirewallError::Io(e) => e,
            FirewallError::Program { .. } => Self::other(error.to_string()),
        }
    }
}

/// What gets rules into the kernel.
pub(crate) trait Backend: Send + std::fmt::Debug {
    /// As users know it.
    fn name(&self) -> &'static str;

    /// What the watcher has to look at.
    fn watched(&self) -> Result<Watched, FirewallError>;

    /// Replaces one bridge's rules by others; `wanted` has the new ones already.
    fn replace_bridge(
        &mut self,
        wanted: &Wanted,
        former: Option<&BridgeRules>,
        new: Option<&BridgeRules>,
    ) -> Result<(), FirewallError>;

    /// Adds and deletes ports at once, the deleted first.
    fn change(&mut self, add: &[Port], delete: &[Port]) -> Result<(), FirewallError>;

    /// All ports there are.
    fn elements(&mut self) -> Result<HashSet<Port>, FirewallError>;

    /// Whether all rules are there, ports aside.
    fn rules_are_intact(&mut self, wanted: &Wanted) -> Result<bool, FirewallError>;

    /// Replaces everything: rules as wanted, and these ports.
    fn rebuild(&mut self, wanted: &Wanted, elements: &Elements) -> Result<(), FirewallError>;

    /// Deletes everything.
    fn destroy(&mut self) -> Result<(), FirewallError>;
}

/// No rules at all (`--iptables=false --ip6tables=false`): published ports have relays, nothing is kept apart.
#[derive(Debug)]
pub(crate) struct Nothing;

impl Backend for Nothing {
    fn name(&self) -> &'static str {
        "none"
    }

    fn watched(&self) -> Result<Watched, FirewallError> {
        Ok(Watched::Nothing)
    }

    fn replace_bridge(
        &mut self,
        _: &Wanted,
        _: Option<&BridgeRules>,
        _: Option<&BridgeRules>,
    ) -> Result<(), FirewallError> {
        Ok(())
    }

    fn change(&mut self, _: &[Port], _: &[Port]) -> Result<(), FirewallError> {
        Ok(())
    }

    fn elements(&mut self) -> Result<HashSet<Port>, FirewallError> {
        Ok(HashSet::new())
    }

    fn rules_are_intact(&mut self, _: &Wanted) -> Result<bool, FirewallError> {
        Ok(true)
    }

    fn rebuild(&mut self, _: &Wanted, _: &Elements) -> Result<(), FirewallError> {
        Ok(())
    }

    fn destroy(&mut self) -> Result<(), FirewallError> {
        Ok(())
    }
}
