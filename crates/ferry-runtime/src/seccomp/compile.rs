//! From an OCI profile to the classic BPF program the kernel runs at every system call
//! (seccomp(2), `struct seccomp_data`).
//!
//! Per architecture the numbers are cut into intervals of equal treatment, found by binary search: a
//! call costs about ten instructions however long the profile is.

use std::collections::BTreeMap;

use ferry_sys::seccomp::SockFilter;
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSeccompOperator,
};

use super::table;
use crate::{Error, Stage};

/// Load a word of `seccomp_data`: `BPF_LD | BPF_W | BPF_ABS` (linux/bpf_common.h), and so on.
const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JEQ: u16 = 0x15;
const JGT: u16 = 0x25;
const JGE: u16 = 0x35;
const RETURN: u16 = 0x06;

const OFFSET_NR: u32 = 0;
const OFFSET_ARCH: u32 = 4;
const OFFSET_ARGS: u32 = 16;

const KILL_PROCESS: u32 = 0x8000_0000;
const ERRNO_ENOSYS: u32 = 0x0005_0000 | 38;
const X32_BIT: u32 = 0x4000_0000;
/// The kernel's limit, `BPF_MAXINSNS`.
const MAX_INSTRUCTIONS: usize = 4096;

/// One architecture: the kernel's token for it (linux/audit.h) and its column of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Target {
    token: u32,
    column: usize,
}

const X86_64: Target = Target { token: 0xc000_003e, column: 0 };
const X86: Target = Target { token: 0x4000_0003, column: 1 };
/// Shares its token with x86_64; its calls have bit 30 set.
const X32: Target = Target { token: 0xc000_003e, column: 2 };
const AARCH64: Target = Target { token: 0xc000_00b7, column: 3 };
const ARM: Target = Target { token: 0x4000_0028, column: 4 };

const NATIVE: Target = if cfg!(target_arch = "aarch64") { AARCH64 } else { X86_64 };

/// How one system call is treated.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    Always(u32),
    /// The first of these whose conditions all hold, otherwise the default.
    Depends(Vec<(Vec<LinuxSeccompArg>, u32)>),
}

/// Compiles a profile. Names unknown to this kernel's time are skipped, as in runc.
pub fn compile(profile: &LinuxSeccomp) -> Result<Vec<SockFilter>, Error> {
    let targets = targets(profile)?;
    let default = action(profile.default_action(), profile.default_errno_ret())?;
    let mut sections = Vec::new();
    for token in [X86_64.token, X86.token, AARCH64.token, ARM.token] {
        let mut of_token: Vec<Target> = targets.iter().copied().filter(|t| t.token == token).collect();
        of_token.sort_by_key(|t| t.column);
        if !of_token.is_empty() {
            sections.push((token, section(profile, &of_token, default)?));
        }
    }
    let mut program = vec![op(LOAD, OFFSET_ARCH)];
    for (token, code) in sections {
        // Not this one: over the section, to the next comparison.
        program.push(jump(JEQ, token, 1, 0));
        program.push(op(JUMP, length(&code)));
        program.extend(code);
    }
    program.push(op(RETURN, KILL_PROCESS));
    if program.len() > MAX_INSTRUCTIONS {
        return Err(Error::invalid(
            Stage::Config,
            format!("seccomp profile is too long: {} instructions", program.len()),
        ));
    }
    Ok(program)
}

/// `SECCOMP_FILTER_FLAG_*` of a profile (linux/seccomp.h).
pub fn flags(profile: &LinuxSeccomp) -> u32 {
    profile.flags().iter().flatten().fold(0, |flags, flag| {
        flags
            | match flag {
                LinuxSeccompFilterFlag::SeccompFilterFlagTsync => 1,
                LinuxSeccompFilterFlag::SeccompFilterFlagLog => 2,
                LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => 4,
                LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => 32,
            }
    })
}

fn targets(profile: &LinuxSeccomp) -> Result<Vec<Target>, Error> {
    let mut targets = vec![NATIVE];
    for arch in profile.architectures().iter().flatten() {
        let target = match arch {
            Arch::ScmpArchNative => NATIVE,
            Arch::ScmpArchX86_64 => X86_64,
            Arch::ScmpArchX86 => X86,
            Arch::ScmpArchX32 => X32,
            Arch::ScmpArchAarch64 => AARCH64,
            Arch::ScmpArchArm => ARM,
            // Calls of another family of processors never happen here.
            _ => continue,
        };
        if !targets.contains(&target) {
            targets.push(target);
        }
    }
    Ok(targets)
}

fn action(action: LinuxSeccompAction, errno: Option<u32>) -> Result<u32, Error> {
    if action == LinuxSeccompAction::ScmpActNotify {
        return Err(Error::invalid(Stage::Config, "seccomp action SCMP_ACT_NOTIFY is not supported"));
    }
    Ok(action.as_u32(errno.map(|e| e & 0xffff)))
}

/// The code for all calls of one token: x86_64 and x32 lie in one, told apart by the number.
fn section(profile: &LinuxSeccomp, targets: &[Target], default: u32) -> Result<Vec<SockFilter>, Error> {
    let mut intervals: Vec<(u32, Verdict)> = Vec::new();
    let mut push = |start: u32, verdict: Verdict| {
        if intervals.last().is_none_or(|(_, last)| *last != verdict) {
            intervals.push((start, verdict));
        }
    };
    let has_x32 = targets.contains(&X32);
    let mut next = 0;
    for target in targets {
        let base = if *target == X32 { X32_BIT } else { 0 };
        if next < base {
            push(next, Verdict::Always(unknown(default)));
            next = base;
        }
        for (number, verdict) in verdicts(profile, *target, default)? {
            let number = number | base;
            if next < number {
                push(next, Verdict::Always(gap(default, number - base, *target)));
            }
            push(number, verdict);
            next = number + 1;
        }
        let end = table::highest(target.column) | base;
        if next <= end {
            push(next, Verdict::Always(default));
            next = end + 1;
        }
    }
    push(next, Verdict::Always(unknown(default)));
    if !has_x32 && targets.contains(&X86_64) {
        push(X32_BIT, Verdict::Always(KILL_PROCESS));
    }
    let mut code = vec![op(LOAD, OFFSET_NR)];
    code.extend(search(&intervals, default));
    Ok(code)
}

/// Between two listed calls lies the default, above the known ones `ENOSYS`.
fn gap(default: u32, number: u32, target: Target) -> u32 {
    if number > table::highest(target.column) { unknown(default) } else { default }
}

/// Calls newer than the table: programs try them and cope with `ENOSYS`, but not with `EPERM`.
fn unknown(default: u32) -> u32 {
    let refuses = default & 0xffff_0000 == 0x0005_0000 || default == 0 || default == KILL_PROCESS;
    if refuses { ERRNO_ENOSYS } else { default }
}

/// Every call the profile mentions, by number.
fn verdicts(profile: &LinuxSeccomp, target: Target, default: u32) -> Result<BTreeMap<u32, Verdict>, Error> {
    let mut verdicts: BTreeMap<u32, Verdict> = BTreeMap::new();
    for rule in profile.syscalls().iter().flatten() {
        let action = action(rule.action(), rule.errno_ret())?;
        let alternatives = alternatives(rule.args().as_deref().unwrap_or_default())?;
        for name in rule.names() {
            let number = table::numbers(name).and_then(|numbers| numbers.get(target.column));
            let Some(Ok(number)) = number.map(|&n| u32::try_from(n)) else { continue };
            let known = verdicts.entry(number).or_insert_with(|| Verdict::Depends(Vec::new()));
            match known {
                // What holds always covers what holds sometimes, whichever came first.
                Verdict::Always(_) => {}
                Verdict::Depends(_) if alternatives.is_empty() => *known = Verdict::Always(action),
                Verdict::Depends(rules) => {
                    rules.extend(alternatives.iter().map(|conditions| (conditions.clone(), action)));
                }
            }
        }
    }
    verdicts.retain(|_, verdict| *verdict != Verdict::Always(default));
    Ok(verdicts)
}

/// Conditions on different arguments must all hold; when one argument occurs twice each condition
/// stands for itself, as in runc.
fn alternatives(args: &[LinuxSeccompArg]) -> Result<Vec<Vec<LinuxSeccompArg>>, Error> {
    if let Some(arg) = args.iter().find(|arg| arg.index() > 5) {
        return Err(Error::invalid(Stage::Config, format!("seccomp: there is no argument {}", arg.index())));
    }
    if args.is_empty() {
        return Ok(Vec::new());
    }
    let repeated = args.iter().enumerate().any(|(i, a)| args.iter().take(i).any(|b| b.index() == a.index()));
    Ok(if repeated { args.iter().map(|arg| vec![*arg]).collect() } else { vec![args.to_vec()] })
}

/// A binary search for the interval the loaded number lies in.
fn search(intervals: &[(u32, Verdict)], default: u32) -> Vec<SockFilter> {
    match intervals {
        [] => vec![op(RETURN, default)],
        [(_, verdict)] => leaf(verdict, default),
        _ => {
            let (left, right) = intervals.split_at(intervals.len() / 2);
            let start = right.first().map_or(0, |(start, _)| *start);
            let left = search(left, default);
            let mut code = if let Ok(distance) = u8::try_from(left.len()) {
                vec![jump(JGE, start, distance, 0)]
            } else {
                vec![jump(JGE, start, 0, 1), op(JUMP, length(&left))]
            };
            code.extend(left);
            code.extend(search(right, default));
            code
        }
    }
}

fn leaf(verdict: &Verdict, default: u32) -> Vec<SockFilter> {
    match verdict {
        Verdict::Always(action) => vec![op(RETURN, *action)],
        Verdict::Depends(rules) => {
            let mut code: Vec<SockFilter> =
                rules.iter().flat_map(|(conditions, action)| rule(conditions, *action)).collect();
            code.push(op(RETURN, default));
            code
        }
    }
}

/// Where a comparison leads.
#[derive(Clone, Copy, PartialEq)]
enum To {
    Next,
    Pass,
    Fail,
}

/// Returns `action` when all conditions hold, else falls through.
fn rule(conditions: &[LinuxSeccompArg], action: u32) -> Vec<SockFilter> {
    let blocks: Vec<Vec<(SockFilter, To, To)>> = conditions.iter().map(condition).collect();
    // The action's return follows the last block, and failing means going past it.
    let total: usize = blocks.iter().map(Vec::len).sum::<usize>() + 1;
    let mut code = Vec::with_capacity(total);
    let mut end_of_block = 0;
    for block in blocks {
        end_of_block += block.len();
        for (mut instruction, yes, no) in block {
            let here = code.len() + 1;
            // At most 6 conditions of 6 instructions: every distance fits.
            let distance = |to: To| match to {
                To::Next => 0,
                To::Pass => (end_of_block - here) as u8,
                To::Fail => (total - here) as u8,
            };
            (instruction.jt, instruction.jf) = (distance(yes), distance(no));
            code.push(instruction);
        }
    }
    code.push(op(RETURN, action));
    code
}

/// One 64-bit comparison in 32-bit steps, the high word first.
fn condition(arg: &LinuxSeccompArg) -> Vec<(SockFilter, To, To)> {
    use LinuxSeccompOperator as Op;
    use To::{Fail, Next, Pass};
    let low_offset = OFFSET_ARGS + 8 * arg.index() as u32;
    let high_offset = low_offset + 4;
    let split = |value: u64| ((value >> 32) as u32, value as u32);
    let (high, low) = split(arg.value());
    let load = |offset| (op(LOAD, offset), Next, Next);
    let compare = |code, value, yes, no| (op(code, value), yes, no);
    match arg.op() {
        Op::ScmpCmpEq => vec![
            load(high_offset),
            compare(JEQ, high, Next, Fail),
            load(low_offset),
            compare(JEQ, low, Next, Fail),
        ],
        Op::ScmpCmpNe => vec![
            load(high_offset),
            compare(JEQ, high, Next, Pass),
            load(low_offset),
            compare(JEQ, low, Fail, Next),
        ],
        Op::ScmpCmpGt | Op::ScmpCmpGe => vec![
            load(high_offset),
            compare(JGT, high, Pass, Next),
            compare(JEQ, high, Next, Fail),
            load(low_offset),
            compare(if arg.op() == Op::ScmpCmpGt { JGT } else { JGE }, low, Next, Fail),
        ],
        Op::ScmpCmpLe | Op::ScmpCmpLt => vec![
            load(high_offset),
            compare(JGT, high, Fail, Next),
            compare(JEQ, high, Next, Pass),
            load(low_offset),
            compare(if arg.op() == Op::ScmpCmpLe { JGT } else { JGE }, low, Fail, Next),
        ],
        Op::ScmpCmpMaskedEq => {
            let (want_high, want_low) = split(arg.value_two().unwrap_or(0));
            vec![
                load(high_offset),
                (op(AND, high), Next, Next),
                compare(JEQ, want_high, Next, Fail),
                load(low_offset),
                (op(AND, low), Next, Next),
                compare(JEQ, want_low, Next, Fail),
            ]
        }
    }
}

fn op(code: u16, k: u32) -> SockFilter {
    SockFilter { code, jt: 0, jf: 0, k }
}

fn jump(code: u16, k: u32, jt: u8, jf: u8) -> SockFilter {
    SockFilter { code, jt, jf, k }
}

fn length(code: &[SockFilter]) -> u32 {
    code.len() as u32
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::seccomp::docker_default;

    const ALLOW: u32 = 0x7fff_0000;
    const EPERM: u32 = 0x0005_0001;

    /// What the kernel would do.
    fn run(program: &[SockFilter], token: u32, nr: u32, args: [u64; 6]) -> (u32, usize) {
        let word = |offset: u32| match offset {
            OFFSET_NR => nr,
            OFFSET_ARCH => token,
            _ => {
                let arg = args[(offset - OFFSET_ARGS) as usize / 8];
                if (offset - OFFSET_ARGS).is_multiple_of(8) { arg as u32 } else { (arg >> 32) as u32 }
            }
        };
        let (mut at, mut a, mut steps) = (0usize, 0u32, 0usize);
        loop {
            let i = program[at];
            (at, steps) = (at + 1, steps + 1);
            let test = match i.code {
                LOAD => {
                    a = word(i.k);
                    continue;
                }
                AND => {
                    a &= i.k;
                    continue;
                }
                JUMP => {
                    at += i.k as usize;
                    continue;
                }
                RETURN => return (i.k, steps),
                JEQ => a == i.k,
                JGT => a > i.k,
                JGE => a >= i.k,
                code => panic!("unknown instruction {code:#x}"),
            };
            at += usize::from(if test { i.jt } else { i.jf });
        }
    }

    fn native(name: &str) -> u32 {
        table::numbers(name).unwrap()[NATIVE.column] as u32
    }

    fn docker(name: &str, args: [u64; 6]) -> u32 {
        let program = compile(&docker_default(&HashSet::new())).unwrap();
        run(&program, NATIVE.token, native(name), args).0
    }

    #[test]
    fn dockers_profile_decides_as_it_says() {
        assert_eq!(docker("read", [0; 6]), ALLOW);
        assert_eq!(docker("execve", [0; 6]), ALLOW);
        assert_eq!(docker("mount", [0; 6]), EPERM);
        assert_eq!(docker("keyctl", [0; 6]), EPERM);
        assert_eq!(docker("clone3", [0; 6]), ERRNO_ENOSYS);
        assert_eq!(docker("socket", [2, 1, 0, 0, 0, 0]), ALLOW);
        assert_eq!(docker("socket", [40, 1, 0, 0, 0, 0]), EPERM);
        assert_eq!(docker("personality", [0xffff_ffff, 0, 0, 0, 0, 0]), ALLOW);
        assert_eq!(docker("personality", [0x0040_0000, 0, 0, 0, 0, 0]), EPERM);
        assert_eq!(docker("clone", [0x0001_0000, 0, 0, 0, 0, 0]), ALLOW);
        assert_eq!(docker("clone", [0x1000_0000, 0, 0, 0, 0, 0]), EPERM);
    }

    #[test]
    fn unknown_calls_and_foreign_architectures() {
        let program = compile(&docker_default(&HashSet::new())).unwrap();
        assert_eq!(run(&program, NATIVE.token, 900, [0; 6]).0, ERRNO_ENOSYS);
        assert_eq!(run(&program, 0x1234, 0, [0; 6]).0, KILL_PROCESS);
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn every_abi_of_the_processor_is_covered() {
        let program = compile(&docker_default(&HashSet::new())).unwrap();
        // getpid and mount in 32 bits, then in x32.
        assert_eq!(run(&program, X86.token, 20, [0; 6]).0, ALLOW);
        assert_eq!(run(&program, X86.token, 21, [0; 6]).0, EPERM);
        assert_eq!(run(&program, X32.token, X32_BIT | 39, [0; 6]).0, ALLOW);
        assert_eq!(run(&program, X32.token, X32_BIT | 165, [0; 6]).0, EPERM);
    }

    #[test]
    fn agrees_with_the_profile_on_every_call() {
        let profile = docker_default(&HashSet::new());
        let program = compile(&profile).unwrap();
        let default = action(profile.default_action(), profile.default_errno_ret()).unwrap();
        let verdicts = verdicts(&profile, NATIVE, default).unwrap();
        for nr in 0..=table::highest(NATIVE.column) {
            let (got, steps) = run(&program, NATIVE.token, nr, [0; 6]);
            match verdicts.get(&nr) {
                Some(Verdict::Always(action)) => assert_eq!(got, *action, "call {nr}"),
                Some(Verdict::Depends(_)) => {}
                None => assert_eq!(got, default, "call {nr}"),
            }
            assert!(steps < 50, "call {nr} takes {steps} steps");
        }
    }

    #[test]
    fn comparisons() {
        let holds = |op: &str, value: u64, two: u64, arg: u64| {
            let profile = format!(
                r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{{"names":["read"],"action":"SCMP_ACT_ALLOW",
                "args":[{{"index":3,"value":{value},"valueTwo":{two},"op":"{op}"}}]}}]}}"#
            );
            let program = compile(&serde_json::from_str(&profile).unwrap()).unwrap();
            run(&program, NATIVE.token, native("read"), [0, 0, 0, arg, 0, 0]).0 == ALLOW
        };
        let big = 5 << 32;
        for (a, b) in [(1, 2), (2, 1), (2, 2), (big, 1), (1, big), (big, big + 1), (big + 1, big)] {
            assert_eq!(holds("SCMP_CMP_EQ", b, 0, a), a == b, "{a} == {b}");
            assert_eq!(holds("SCMP_CMP_NE", b, 0, a), a != b, "{a} != {b}");
            assert_eq!(holds("SCMP_CMP_LT", b, 0, a), a < b, "{a} < {b}");
            assert_eq!(holds("SCMP_CMP_LE", b, 0, a), a <= b, "{a} <= {b}");
            assert_eq!(holds("SCMP_CMP_GT", b, 0, a), a > b, "{a} > {b}");
            assert_eq!(holds("SCMP_CMP_GE", b, 0, a), a >= b, "{a} >= {b}");
            assert!(holds("SCMP_CMP_MASKED_EQ", b, a & b, a), "{a} & {b}");
            assert_eq!(holds("SCMP_CMP_MASKED_EQ", b, !a & b, a), b & a == !a & b, "{a} & {b}");
        }
    }
}
