//! Which devices a group may use: lists on v1, an eBPF program on v2.

use std::path::Path;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};
use rustix::fs::{Mode, OFlags, open};

use crate::error::At;
use crate::{Error, Stage};

/// One kind of access to devices, a number or all (`None`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    /// `c` or `b`.
    pub kind: char,
    pub major: Option<u32>,
    pub minor: Option<u32>,
    /// Of `rwm`, in this order.
    pub access: String,
}

/// The rules digested: what is not listed, and the exceptions from that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Policy {
    pub default_allow: bool,
    pub exceptions: Vec<Rule>,
}

/// What every container may use, runc's list: making any node, the harmless memory devices, terminals.
const ALWAYS: [(char, Option<u32>, Option<u32>, &str); 11] = [
    ('c', None, None, "m"),
    ('b', None, None, "m"),
    ('c', Some(1), Some(3), "rwm"),
    ('c', Some(1), Some(8), "rwm"),
    ('c', Some(1), Some(7), "rwm"),
    ('c', Some(5), Some(0), "rwm"),
    ('c', Some(1), Some(5), "rwm"),
    ('c', Some(1), Some(9), "rwm"),
    ('c', Some(136), None, "rwm"),
    ('c', Some(5), Some(2), "rwm"),
    ('c', Some(10), Some(200), "rwm"),
];

/// Goes through the config's rules in order; a later one overrides an earlier one.
pub(super) fn policy(rules: &[LinuxDeviceCgroup]) -> Result<Policy, Error> {
    let mut policy = Policy { default_allow: true, exceptions: Vec::new() };
    for rule in rules {
        let access = access(rule.access().as_deref().unwrap_or("rwm"))?;
        let kind = match rule.typ().unwrap_or(LinuxDeviceType::A) {
            LinuxDeviceType::A => None,
            LinuxDeviceType::B => Some('b'),
            LinuxDeviceType::C | LinuxDeviceType::U => Some('c'),
            LinuxDeviceType::P => continue,
        };
        match kind {
            None if access == "rwm" || access.is_empty() => {
                policy = Policy { default_allow: rule.allow(), exceptions: Vec::new() };
            }
            None => {
                for kind in ['c', 'b'] {
                    policy.add(rule.allow(), Rule { kind, major: None, minor: None, access: access.clone() });
                }
            }
            Some(kind) => {
                let (major, minor) = (number(rule.major())?, number(rule.minor())?);
                policy.add(rule.allow(), Rule { kind, major, minor, access });
            }
        }
    }
    // A container allowed everything else gets these anyway.
    if !policy.default_allow {
        for (kind, major, minor, access) in ALWAYS.into_iter().take(ALWAYS.len() - 1) {
            policy.add(true, Rule { kind, major, minor, access: access.to_owned() });
        }
    }
    Ok(policy)
}

impl Policy {
    fn add(&mut self, allow: bool, rule: Rule) {
        self.exceptions.retain(|e| {
            (e.kind, e.major, e.minor) != (rule.kind, rule.major, rule.minor) || {
                // Same device: the new rule replaces the old where it says the same about the access.
                e.access != rule.access
            }
        });
        if allow != self.default_allow {
            self.exceptions.push(rule);
        }
    }
}

fn access(text: &str) -> Result<String, Error> {
    if text.chars().any(|c| !"rwm".contains(c)) {
        return Err(Error::invalid(Stage::Cgroup, format!("invalid device access {text:?}")));
    }
    Ok("rwm".chars().filter(|&c| text.contains(c)).collect())
}

/// -1 and absent both mean all.
fn number(value: Option<i64>) -> Result<Option<u32>, Error> {
    match value {
        None | Some(-1) => Ok(None),
        Some(value) => u32::try_from(value)
            .map(Some)
            .map_err(|_| Error::invalid(Stage::Cgroup, format!("invalid device number {value}"))),
    }
}

/// Writes the lists of a v1 group.
pub(super) fn apply_v1(dir: &Path, rules: &[LinuxDeviceCgroup]) -> Result<(), Error> {
    let policy = policy(rules)?;
    let at = |file: &str| {
        let what = format!("write {}", dir.join(file).display());
        move || what
    };
    let (whole, listed) = if policy.default_allow {
        ("devices.allow", "devices.deny")
    } else {
        ("devices.deny", "devices.allow")
    };
    let open = |file: &str| open(dir.join(file), OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
    if policy.default_allow && policy.exceptions.is_empty() && !is_restricted(dir) {
        return Ok(());
    }
    let fd = open(whole).at(Stage::Cgroup, at(whole))?;
    rustix::io::write(&fd, b"a").at(Stage::Cgroup, at(whole))?;
    let fd = open(listed).at(Stage::Cgroup, at(listed))?;
    for rule in &policy.exceptions {
        let part = |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |n| n.to_string());
        let line = format!("{} {}:{} {}", rule.kind, part(rule.major), part(rule.minor), rule.access);
        rustix::io::write(&fd, line.as_bytes())
            .at(Stage::Cgroup, || format!("write {line:?} to {}", dir.join(listed).display()))?;
    }
    Ok(())
}

fn is_restricted(dir: &Path) -> bool {
    !std::fs::read_to_string(dir.join("devices.list")).is_ok_and(|list| list.trim() == "a *:* rwm")
}

/// Attaches the program of a v2 group.
pub(super) fn apply_v2(dir: &Path, rules: &[LinuxDeviceCgroup]) -> Result<(), Error> {
    let policy = policy(rules)?;
    if policy.default_allow && policy.exceptions.is_empty() {
        return Ok(());
    }
    Err(Error::invalid(
        Stage::Cgroup,
        format!("{}: device rules on cgroup v2 are not supported yet", dir.display()),
    ))
}
