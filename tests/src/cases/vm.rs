//! ferry on a host with pure control groups version 2, and an older kernel: a virtual machine without
//! acceleration, its whole file system an initramfs made here.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use super::{cases, check};
use crate::harness::process::{self, Running};
use crate::harness::{Case, Ctx, skip};

pub fn cases() -> Vec<Case> {
    cases!("vm", Nothing, [pure_cgroup_v2])
}

/// Modules ferry needs that the kernel of Debian does not have built in.
const MODULES: [&str; 12] = [
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
];

/// The first process. What it checks is printed as `ok WHAT` or `FAILED WHAT`.
const INIT: &str = r#"#!/bin/sh
export PATH=/bin:/opt
if [ "$1" != second ]; then
    # pivot_root(2) does not work on the initramfs itself.
    mkdir -p /new && mount -t tmpfs -o size=80% none /new
    cp -a /bin /sbin /etc /lib /lib64 /usr /opt /fixtures /modules /init /new 2>/dev/null
    cd /new && mkdir -p proc sys dev tmp run var root
    exec switch_root /new /init second
fi
mount -t proc none /proc; mount -t sysfs none /sys; mount -t devtmpfs none /dev
mkdir -p /dev/pts /dev/shm; mount -t devpts none /dev/pts; mount -t tmpfs none /dev/shm
mount -t cgroup2 none /sys/fs/cgroup
for module in /modules/*.ko; do insmod $module || echo "cannot load $module"; done
ip link set lo up
export DOCKER_HOST=unix:///run/ferry.sock
ferry daemon -H $DOCKER_HOST --data-root /var/ferry --exec-root /run/ferry --bridge ferry0 --bip 10.9.8.1/24 >/tmp/log 2>&1 &
i=0; while [ $i -lt 100 ] && ! ferry version >/dev/null 2>&1; do i=$((i+1)); sleep 0.2; done
is() { # WHAT EXPECTED COMMAND…
    what=$1; expected=$2; shift 2; got=$("$@" 2>&1)
    if [ "$got" = "$expected" ]; then echo "ok $what"; else echo "FAILED $what: $got"; fi
}
is cgroup-version 2 ferry info --format '{{.CgroupVersion}}'
ferry import /fixtures/busybox.tar busybox >/dev/null
is run hello ferry run --rm busybox echo hello
is exit-code 7 sh -c 'ferry run --rm busybox sh -c "exit 7"; echo $?'
is memory 67108864 ferry run --rm --memory 64m busybox cat /sys/fs/cgroup/memory.max
is cpus '50000 100000' ferry run --rm --cpus 0.5 busybox cat /sys/fs/cgroup/cpu.max
is pids 9 ferry run --rm --pids-limit 9 busybox cat /sys/fs/cgroup/pids.max
is cgroup-namespace 0::/ ferry run --rm busybox cat /proc/self/cgroup
is devices 1 sh -c 'ferry run --rm busybox sh -c "mknod /tmp/mem c 1 1 && head -c 1 /tmp/mem" >/dev/null 2>&1; echo $?'
is devices-null 0 sh -c 'ferry run --rm busybox sh -c "echo x > /dev/null"; echo $?'
is out-of-memory 137 sh -c 'ferry run --name hog --memory 16m --memory-swap 16m busybox dd if=/dev/zero of=/dev/null bs=200M count=1 >/dev/null 2>&1; echo $?'
is out-of-memory-known true ferry inspect -f '{{.State.OOMKilled}}' hog
ferry run -d --name x -p 8080:80 busybox sh -c 'while :; do echo served | nc -l -p 80; done' >/dev/null
is port served sh -c 'sleep 0.5; nc -w 3 127.0.0.1 8080 </dev/null'
is exec there ferry exec x echo there
ferry pause x >/dev/null
is pause paused ferry inspect -f '{{.State.Status}}' x
ferry unpause x >/dev/null
is stats 1 sh -c "ferry stats --no-stream --format '{{.PIDs}}' x | wc -l"
kill -9 $(pidof ferry) ; sleep 0.3
ferry daemon -H $DOCKER_HOST --data-root /var/ferry --exec-root /run/ferry --bridge ferry0 --bip 10.9.8.1/24 >>/tmp/log 2>&1 &
i=0; while [ $i -lt 100 ] && ! ferry version >/dev/null 2>&1; do i=$((i+1)); sleep 0.2; done
is adopted running ferry inspect -f '{{.State.Status}}' x
ferry rm -f x hog >/dev/null
is no-cgroups-left 0 sh -c "sleep 1; find /sys/fs/cgroup -type d | grep -cE '[0-9a-f]{64}'"
echo '--- log'; tail -n 20 /tmp/log
echo 'END OF TESTS'
poweroff -f
"#;

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
        .arg(format!("console={console} quiet panic=-1 random.trust_cpu=on mitigations=off"))
        .arg("-kernel")
        .arg(image)
        .arg("-initrd")
        .arg(initramfs);
    let output = Running::start(command, None)?.finish(Duration::from_secs(120))?;
    let text = &output.stdout;
    check!(text.contains("END OF TESTS"), "the machine did not get to the end:\n{}", tail(text));
    check!(!text.contains("FAILED ") && text.matches("ok ").count() >= 15, "{}", tail(text));
    Ok(())
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

/// Puts together a root file system of busybox, ferry with its libraries, modules and a fixture.
fn initramfs(t: &Ctx, kernel: &Path, dir: &Path) -> Result<PathBuf> {
    let root = dir.join("root");
    crate::harness::archive::unpack(&t.settings.busybox, &root)?;
    for sub in ["opt", "fixtures", "modules", "lib", "lib64", "usr/lib"] {
        std::fs::create_dir_all(root.join(sub))?;
    }
    std::fs::copy(&t.settings.busybox, root.join("fixtures/busybox.tar"))?;
    for program in ["ferry", "ferry-shim"] {
        std::fs::copy(t.settings.bin.join(program), root.join("opt").join(program))?;
    }
    libraries(&t.settings.ferry(), &root)?;
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
