//! Which devices a group may use: lists on v1, an eBPF program on v2.

use std::os::fd::AsFd;
use std::path::Path;

use ferry_sys::bpf::{Instruction, guard_devices};
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
const ALWAYS: [(char, Option<u32>, Option<u32>, &str); 10] = [
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
        for (kind, major, minor, access) in ALWAYS {
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
    let at = || format!("guard the devices of {}", dir.display());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let group = open(dir, flags, Mode::empty()).at(Stage::Cgroup, at)?;
    guard_devices(group.as_fd(), &program(&policy)).at(Stage::Cgroup, at)
}

/// `BPF_LDX | BPF_MEM | BPF_W` and so on (linux/bpf_common.h, kernel doc `bpf/standardization`).
const LOAD: u8 = 0x61;
const MOVE: u8 = 0xbf;
const MOVE_IMMEDIATE: u8 = 0xb7;
const AND_IMMEDIATE: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const JUMP_EQUAL: u8 = 0x15;
const JUMP_NOT_EQUAL: u8 = 0x55;
const EXIT: u8 = 0x95;

/// `struct bpf_cgroup_dev_ctx`: access type (the access in the high, the kind in the low half),
/// major, minor. The program answers 1 for allowed, 0 for refused.
fn program(policy: &Policy) -> Vec<Instruction> {
    let op = |code, to: u8, from: u8, offset, immediate| Instruction {
        code,
        registers: from << 4 | to,
        offset,
        immediate,
    };
    // r2 kind, r3 access, r4 major, r5 minor.
    let mut program = vec![
        op(LOAD, 2, 1, 0, 0),
        op(MOVE, 3, 2, 0, 0),
        op(AND_IMMEDIATE, 2, 0, 0, 0xffff),
        op(SHIFT_RIGHT, 3, 0, 0, 16),
        op(LOAD, 4, 1, 4, 0),
        op(LOAD, 5, 1, 8, 0),
    ];
    for rule in policy.exceptions.iter().rev() {
        let mut tests = vec![op(JUMP_NOT_EQUAL, 2, 0, 0, if rule.kind == 'b' { 1 } else { 2 })];
        let mask = rule.access.chars().fold(0, |mask, c| mask | access_bit(c));
        // An allowance holds when nothing beyond it is asked for; a prohibition when anything of it is.
        let (forbidden, wanted_zero) = if policy.default_allow { (mask, false) } else { (7 & !mask, true) };
        if wanted_zero && forbidden != 0 {
            tests.push(op(MOVE, 1, 3, 0, 0));
            tests.push(op(AND_IMMEDIATE, 1, 0, 0, forbidden));
            tests.push(op(JUMP_NOT_EQUAL, 1, 0, 0, 0));
        } else if !wanted_zero && forbidden != 7 {
            tests.push(op(MOVE, 1, 3, 0, 0));
            tests.push(op(AND_IMMEDIATE, 1, 0, 0, forbidden));
            tests.push(op(JUMP_EQUAL, 1, 0, 0, 0));
        }
        if let Some(major) = rule.major {
            tests.push(op(JUMP_NOT_EQUAL, 4, 0, 0, major.cast_signed()));
        }
        if let Some(minor) = rule.minor {
            tests.push(op(JUMP_NOT_EQUAL, 5, 0, 0, minor.cast_signed()));
        }
        // A test that fails jumps past the answer, which is two instructions.
        let len = tests.len();
        for (at, test) in tests.iter_mut().enumerate() {
            if test.code == JUMP_NOT_EQUAL || test.code == JUMP_EQUAL {
                test.offset = (len - at - 1 + 2) as i16;
            }
        }
        program.extend(tests);
        program.push(op(MOVE_IMMEDIATE, 0, 0, 0, i32::from(!policy.default_allow)));
        program.push(op(EXIT, 0, 0, 0, 0));
    }
    program.push(op(MOVE_IMMEDIATE, 0, 0, 0, i32::from(policy.default_allow)));
    program.push(op(EXIT, 0, 0, 0, 0));
    program
}

/// `BPF_DEVCG_ACC_*` (linux/bpf.h).
fn access_bit(access: char) -> i32 {
    match access {
        'm' => 1,
        'r' => 2,
        _ => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(json: &str) -> Policy {
        policy(&serde_json::from_str::<Vec<LinuxDeviceCgroup>>(json).unwrap()).unwrap()
    }

    /// What the kernel would answer.
    fn allowed(policy: &Policy, kind: char, access: &str, major: u64, minor: u64) -> bool {
        let program = program(policy);
        let kind = if kind == 'b' { 1 } else { 2 };
        let access = access.chars().fold(0, |mask, c| mask | access_bit(c)) as u64;
        let context = [access << 16 | kind, major, minor];
        let mut r = [0u64; 11];
        let mut at = 0;
        loop {
            let i = program[at];
            let (to, from) = (usize::from(i.registers & 15), usize::from(i.registers >> 4));
            at += 1;
            match i.code {
                LOAD => r[to] = context[i.offset as usize / 4],
                MOVE => r[to] = r[from],
                MOVE_IMMEDIATE => r[to] = i.immediate as u64,
                AND_IMMEDIATE => r[to] &= i.immediate as u64,
                SHIFT_RIGHT => r[to] >>= i.immediate,
                JUMP_NOT_EQUAL if r[to] != i.immediate as u64 => at += i.offset as usize,
                JUMP_EQUAL if r[to] == i.immediate as u64 => at += i.offset as usize,
                JUMP_NOT_EQUAL | JUMP_EQUAL => {}
                _ => return r[0] == 1,
            }
        }
    }

    #[test]
    fn dockers_default_rules() {
        let policy = rules(
            r#"[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":10,"minor":229,"access":"rw"},
                {"allow":true,"type":"b","major":8,"access":"r"}]"#,
        );
        assert!(!policy.default_allow);
        assert!(allowed(&policy, 'c', "rw", 1, 3));
        assert!(allowed(&policy, 'c', "m", 77, 77));
        assert!(!allowed(&policy, 'c', "r", 77, 77));
        assert!(allowed(&policy, 'c', "rw", 10, 229));
        assert!(allowed(&policy, 'b', "r", 8, 17));
        assert!(!allowed(&policy, 'b', "rw", 8, 17));
        assert!(allowed(&policy, 'c', "rw", 136, 5));
    }

    #[test]
    fn prohibitions_from_all() {
        let policy = rules(
            r#"[{"allow":true,"access":"rwm"},{"allow":false,"type":"b","major":8,"minor":0,"access":"w"}]"#,
        );
        assert!(allowed(&policy, 'b', "r", 8, 0));
        assert!(!allowed(&policy, 'b', "rw", 8, 0));
        assert!(allowed(&policy, 'b', "rw", 8, 1));
    }

    #[test]
    fn privileged_has_no_exceptions() {
        assert_eq!(
            rules(r#"[{"allow":true,"access":"rwm"}]"#),
            Policy { default_allow: true, exceptions: Vec::new() }
        );
    }

    #[test]
    fn a_later_rule_takes_back_an_earlier_one() {
        let policy = rules(
            r#"[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":9,"minor":9,"access":"rwm"},
                {"allow":false,"type":"c","major":9,"minor":9,"access":"rwm"}]"#,
        );
        assert!(!allowed(&policy, 'c', "r", 9, 9));
    }

    /// The kernel's verifier and the program's effect, where a v2 hierarchy is mounted and one is root.
    #[test]
    fn the_kernel_takes_the_program() {
        let Some(mount) = crate::cgroup::layout::Layout::host().ok().and_then(|l| l.v2.clone()) else {
            return;
        };
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = mount.join(format!("ferry-device-test-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let open_in_group = |device: &str| {
            let script = format!("echo 0 >{}/cgroup.procs && : <{device}", dir.display());
            std::process::Command::new("sh")
                .args(["-c", &script])
                .stderr(std::process::Stdio::null())
                .status()
                .unwrap()
                .success()
        };
        let parse = |json: &str| serde_json::from_str::<Vec<LinuxDeviceCgroup>>(json).unwrap();
        assert!(open_in_group("/dev/kmsg"));
        let results: Vec<bool> = [
            r#"[{"allow":false,"access":"rwm"}]"#,
            r#"[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":1,"minor":11,"access":"r"}]"#,
            r#"[{"allow":true,"access":"rwm"},{"allow":false,"type":"c","major":1,"minor":3,"access":"r"}]"#,
        ]
        .into_iter()
        .flat_map(|rules| {
            apply_v2(&dir, &parse(rules)).unwrap();
            [open_in_group("/dev/kmsg"), open_in_group("/dev/null")]
        })
        .collect();
        std::fs::remove_dir(&dir).unwrap();
        assert_eq!(results, [false, true, true, true, true, false]);
    }
}
