//! ferry on a host with pure control groups version 2, and an older kernel: a virtual machine without
//! acceleration, its whole file system an initramfs made here.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use super::{cases, check};
use crate::harness::archive::{self, Tar};
use crate::harness::process::{self, Running};
use crate::harness::{Case, Ctx, skip};

pub fn cases() -> Vec<Case> {
    cases!("vm", Nothing, [pure_cgroup_v2])
}

/// A minute on two idle processors; other tests may keep them busy.
const LIMIT: Duration = Duration::from_secs(240);

/// Modules ferry needs that the kernel of Debian does not have built in.
const MODULES: [&str; 14] = [
    "overlay",
    "bridge",
    "veth",
    "nf_tables",
    "nft_chain_nat",
    "nft_masq",
    "nft_nat",
    "nft_ct",
    "nft_reject_inet",
    "nft_fib_inet",
    "nf_conntrack",
    "nft_redir",
    "br_netfilter",
    "loop",
];

/// The first process, a shell script. What it checks is printed as `ok WHAT` or `FAILED WHAT: GOT`.
const INIT: &str = include_str!("vm_init.sh");

fn pure_cgroup_v2(t: &Ctx) -> Result<()> {
    let Some(kernel) = &t.settings.vm else { return skip("no QEMU, or no kernel for it, on this machine") };
    let (qemu, machine, console) = match std::env::consts::ARCH {
        "x86_64" => ("qemu-system-x86_64", "q35", "ttyS0"),
        _ => ("qemu-system-aarch64", "virt", "ttyAMA0"),
    };
    let dir = t.path("vm");
    let initramfs = initramfs(t, kernel, &dir)?;
    let image = first_file(&kernel.join("boot"), "vmlinuz")?;
    let mut command = Command::new(qemu);
    command
        .args(["-accel", "tcg", "-cpu", "max", "-machine", machine, "-smp", "2", "-m", "1024"])
        .args(["-nographic", "-no-reboot", "-nic", "none", "-append"])
        .arg(format!("console={console} loglevel=1 panic=-1 random.trust_cpu=on mitigations=off"))
        .arg("-kernel")
        .arg(image)
        .arg("-initrd")
        .arg(initramfs);
    let output = Running::start(command, None)?.finish(LIMIT)?;
    let text = &output.stdout;
    check!(text.contains("END OF TESTS"), "the machine did not get to the end:\n{}", tail(text));
    let lines =
        |prefix: &'static str| text.lines().map(str::trim).filter(move |line| line.starts_with(prefix));
    let failed: Vec<&str> = lines("FAILED ").collect();
    check!(failed.is_empty(), "{}\n\n{}", failed.join("\n"), tail(text));
    let (passed, expected) = (lines("ok ").count(), checks());
    check!(passed == expected, "{passed} checks passed, not {expected}:\n{}", tail(text));
    Ok(())
}

/// Number of checks in [`INIT`].
fn checks() -> usize {
    INIT.lines().filter(|line| line.starts_with("is ") || line.starts_with("has ")).count()
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

/// Puts together a root file system of busybox, ferry with its libraries, modules and a fixture.
fn initramfs(t: &Ctx, kernel: &Path, dir: &Path) -> Result<PathBuf> {
    let root = dir.join("root");
    archive::unpack(&t.settings.busybox, &root)?;
    for sub in ["opt", "fixtures", "modules", "lib", "lib64", "usr/lib"] {
        std::fs::create_dir_all(root.join(sub))?;
    }
    std::fs::copy(&t.settings.busybox, root.join("fixtures/busybox.tar"))?;
    archive::save(&root.join("fixtures"), "layers.tar", &many_layers(&t.settings.busybox)?)?;
    for program in ["ferry", "ferry-shim"] {
        std::fs::copy(t.settings.bin.join(program), root.join("opt").join(program))?;
    }
    libraries(&t.settings.ferry(), &root)?;
    for program in ["runc", "crun"] {
        let path = super::runtimes::program(t, program)?;
        std::fs::copy(&path, root.join("opt").join(program))?;
        libraries(&path, &root)?;
    }
    modules(kernel, &root.join("modules"))?;
    std::fs::write(root.join("init"), INIT)?;
    let mut command = Command::new("chmod");
    command.arg("755").arg(root.join("init"));
    process::ok(command)?;

    let path = dir.join("initramfs");
    let mut pack = Command::new("sh");
    pack.args(["-c", "cd \"$1\" && find . | cpio --quiet -o -H newc > \"$2\"", "sh"])
        .arg(&root)
        .arg(&path)
        .stdin(Stdio::null());
    process::ok(pack).context("cannot pack the initramfs")?;
    Ok(path)
}

/// An image of as many layers as Docker takes, 127: busybox and a file in each of the others.
fn many_layers(busybox: &Path) -> Result<Vec<u8>> {
    let mut layers = vec![std::fs::read(busybox)?];
    layers.extend((1..127).map(|i| Tar::default().file(&format!("layer{i}"), 0o644, b"x").bytes()));
    archive::docker_archive("layers:latest", &layers, &["sh"])
}

/// Copies the shared libraries a program is linked with to the same places below `root`.
fn libraries(program: &Path, root: &Path) -> Result<()> {
    let mut command = Command::new("ldd");
    command.arg(program);
    for line in process::ok(command)?.lines() {
        let Some(path) = line.split_whitespace().find(|word| word.starts_with('/')) else { continue };
        let target = root.join(path.trim_start_matches('/'));
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::copy(path, target).with_context(|| path.to_owned())?;
    }
    Ok(())
}

/// Copies modules with what they depend on, numbered in the order they are to be loaded in.
fn modules(kernel: &Path, into: &Path) -> Result<()> {
    // Debian's package of a kernel has modules in /lib or, newer, in /usr/lib.
    let base = if kernel.join("usr/lib/modules").exists() { kernel.join("usr") } else { kernel.to_owned() };
    let version = first_file(&base.join("lib/modules"), "")?;
    let release = version.file_name().unwrap_or_default().to_owned();
    let mut depmod = Command::new("depmod");
    depmod.arg("-b").arg(&base).arg(&release);
    process::ok(depmod).context("depmod (kmod)")?;
    let deps = std::fs::read_to_string(version.join("modules.dep"))?;
    let mut order: Vec<String> = Vec::new();
    for module in MODULES {
        let file = |path: &str| {
            path.rsplit('/').next().unwrap_or(path).split(".ko").next().unwrap_or_default().replace('-', "_")
        };
        // What is not there is built in.
        let Some((path, needs)) =
            deps.lines().filter_map(|line| line.split_once(':')).find(|(path, _)| file(path) == module)
        else {
            continue;
        };
        for one in needs.split_whitespace().rev().chain([path]) {
            if !order.iter().any(|known| known == one) {
                order.push(one.to_owned());
            }
        }
    }
    for (number, path) in order.iter().enumerate() {
        let name = path.rsplit('/').next().unwrap_or(path);
        let plain = name.trim_end_matches(".xz").trim_end_matches(".zst");
        let target = into.join(format!("{number:03}-{plain}"));
        let source = version.join(path);
        if name.ends_with(".ko") {
            std::fs::copy(source, target)?;
        } else {
            let tool = if name.ends_with(".xz") { "xz" } else { "zstd" };
            let out = std::fs::File::create(target)?;
            let status = Command::new(tool).arg("-dc").arg(source).stdout(out).status()?;
            check!(status.success(), "{tool} cannot unpack {name}");
        }
    }
    Ok(())
}

fn first_file(dir: &Path, prefix: &str) -> Result<PathBuf> {
    std::fs::read_dir(dir)
        .with_context(|| dir.display().to_string())?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)))
        .with_context(|| format!("nothing like {prefix}* in {}", dir.display()))
}
