//! What a container is kept from, and what it is given.

use std::time::Duration;

use anyhow::Result;

use super::{cases, check, equal};
use crate::harness::{Case, Ctx, eventually, leaks};

pub fn cases() -> Vec<Case> {
    cases!(
        "isolation",
        Engine,
        [
            default_capabilities,
            capabilities_added_and_dropped,
            privileged,
            seccomp_is_on,
            seccomp_refuses,
            masked_paths,
            read_only_paths,
            devices,
            no_leaked_descriptors,
            own_namespaces,
            own_process_tree,
            files_about_the_network,
            no_new_devices,
        ]
    )
}

fn sh(t: &Ctx, flags: &[&str], script: &str) -> Result<String> {
    t.ok(&[&["run", "--rm"], flags, &["busybox", "sh", "-c", script]].concat())
}

/// The capability sets of the shell's child, as hexadecimal masks.
fn capabilities(t: &Ctx, flags: &[&str]) -> Result<String> {
    sh(t, flags, "grep -E 'Cap(Prm|Eff|Bnd|Inh|Amb)' /proc/self/status | cut -f 2 | sort -u")
}

fn default_capabilities(t: &Ctx) -> Result<()> {
    // capabilities(7): chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap,
    // net_bind_service, net_raw, sys_chroot, mknod, audit_write, setfcap. None is inheritable.
    equal!(capabilities(t, &[])?, "0000000000000000\n00000000a80425fb");
    Ok(())
}

fn capabilities_added_and_dropped(t: &Ctx) -> Result<()> {
    equal!(capabilities(t, &["--cap-drop", "ALL"])?, "0000000000000000");
    equal!(
        capabilities(t, &["--cap-drop", "all", "--cap-add", "chown"])?,
        "0000000000000000\n0000000000000001"
    );
    equal!(capabilities(t, &["--cap-add", "NET_ADMIN"])?, "0000000000000000\n00000000a80435fb");
    equal!(capabilities(t, &["--cap-drop", "CAP_CHOWN"])?, "0000000000000000\n00000000a80425fa");
    t.client
        .run(&["run", "--rm", "--cap-add", "NOT_ONE", "busybox", "true"])?
        .code(125)?
        .stderr_has("invalid CapAdd: unknown capability: \"CAP_NOT_ONE\"")?;
    Ok(())
}

fn privileged(t: &Ctx) -> Result<()> {
    let own = std::fs::read_to_string("/proc/self/status")?;
    let all = own.lines().find_map(|line| line.strip_prefix("CapEff:\t")).unwrap_or_default();
    check!(capabilities(t, &["--privileged"])?.contains(all), "not all capabilities of the host ({all})");
    sh(
        t,
        &["--privileged"],
        "mount -t tmpfs none /mnt 2>/dev/null || { mkdir /mnt && mount -t tmpfs none /mnt; }",
    )?;
    equal!(sh(t, &["--privileged"], "grep Seccomp: /proc/self/status | cut -f 2")?, "0");
    sh(t, &["--privileged"], "test -e /dev/kmsg && echo 1 > /proc/sys/net/ipv4/ip_forward")?;
    Ok(())
}

fn seccomp_is_on(t: &Ctx) -> Result<()> {
    equal!(sh(t, &[], "grep Seccomp: /proc/self/status | cut -f 2")?, "2");
    Ok(())
}

fn seccomp_refuses(t: &Ctx) -> Result<()> {
    // A user namespace needs no capability; only the filter stands in the way.
    let output = t.client.run(&["run", "--rm", "busybox", "unshare", "-U", "true"])?;
    output.code(1)?.stderr_has("Operation not permitted")?;
    Ok(())
}

fn masked_paths(t: &Ctx) -> Result<()> {
    for path in ["/proc/kcore", "/proc/keys", "/proc/timer_list"] {
        equal!(sh(t, &[], &format!("[ ! -e {path} ] || head -c 10 {path} | wc -c"))?.replace('0', ""), "");
    }
    for dir in ["/proc/acpi", "/proc/scsi", "/sys/firmware"] {
        equal!(sh(t, &[], &format!("ls {dir} 2>/dev/null | wc -l"))?, "0");
    }
    Ok(())
}

fn read_only_paths(t: &Ctx) -> Result<()> {
    let tries = [
        "echo 1 > /proc/sys/kernel/panic",
        "echo x > /proc/sysrq-trigger",
        "mkdir /sys/fs/cgroup/memory/x /sys/fs/cgroup/x",
        "mkdir /sys/kernel/x",
    ];
    for script in tries {
        let output = t.client.run(&["run", "--rm", "busybox", "sh", "-c", script])?;
        check!(output.code == 1, "this worked: {script}\n{output}");
    }
    Ok(())
}

fn devices(t: &Ctx) -> Result<()> {
    let listed = sh(t, &[], "ls /dev | tr '\\n' ' '")?;
    let core = if std::path::Path::new("/proc/kcore").exists() { "core " } else { "" };
    let all = "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero";
    equal!(listed.trim(), format!("{core}{all}"));
    let listed = sh(t, &["-t"], "ls /dev | tr '\\n' ' '")?;
    check!(listed.contains("console"), "no console with a terminal: {listed}");
    equal!(sh(t, &[], "stat -c '%a %t %T' /dev/null /dev/full /dev/tty")?, "666 1 3\n666 1 7\n666 5 0");
    equal!(sh(t, &[], "readlink /dev/fd; readlink /dev/ptmx")?, "/proc/self/fd\npts/ptmx");
    equal!(sh(t, &[], "grep -cE ' /dev/(shm|pts|mqueue) ' /proc/mounts")?, "3");
    sh(
        t,
        &[],
        "echo x > /dev/null && head -c 4 /dev/urandom > /dev/shm/x && [ $(stat -c %s /dev/shm/x) = 4 ]",
    )?;
    Ok(())
}

fn no_leaked_descriptors(t: &Ctx) -> Result<()> {
    // 3 is the directory that ls itself reads.
    equal!(sh(t, &[], "ls /proc/self/fd | tr '\\n' ' '")?.trim(), "0 1 2 3");
    equal!(sh(t, &["-t"], "ls /proc/self/fd | tr '\\r\\n' '  '")?.split_whitespace().count(), 4);
    let name = t.name("x");
    t.ok(&["run", "-d", "--name", &name, "busybox", "sleep", "1000"])?;
    equal!(t.ok(&["exec", &name, "ls", "/proc/self/fd"])?, "0\n1\n2\n3");
    equal!(t.ok(&["exec", &name, "ls", "/proc/1/fd"])?, "0\n1\n2");
    Ok(())
}

fn own_namespaces(t: &Ctx) -> Result<()> {
    let inside = sh(t, &[], "cd /proc/self/ns && for n in cgroup ipc mnt net pid uts; do readlink $n; done")?;
    for link in inside.lines() {
        let kind = link.split(':').next().unwrap_or_default();
        let own = std::fs::read_link(format!("/proc/self/ns/{kind}"))?.display().to_string();
        // On version 1 of control groups Docker leaves this namespace to the host.
        check!(link != own || kind == "cgroup", "{kind} is the host's");
    }
    Ok(())
}

fn own_process_tree(t: &Ctx) -> Result<()> {
    equal!(sh(t, &[], "echo $$; echo /proc/[0-9]*")?, "1\n/proc/1");
    // Whoever ends the first process ends them all.
    let name = t.name("x");
    t.ok(&["run", "-d", "--name", &name, "busybox", "sh", "-c", "sleep 4321 & sleep 4322 & wait"])?;
    let running =
        || -> Result<usize> { Ok(t.ok(&["top", &name, "-o", "pid,args"])?.matches("sleep 432").count()) };
    eventually("they run", Duration::from_secs(5), || Ok(running()? >= 2))?;
    t.ok(&["kill", &name])?;
    let left = leaks::processes_named("sleep").into_iter().filter(|pid| {
        std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"sleep\x00432"))
    });
    equal!(left.count(), 0);
    Ok(())
}

fn files_about_the_network(t: &Ctx) -> Result<()> {
    let text = sh(t, &["--hostname", "box"], "cat /etc/hosts /etc/resolv.conf; mount | grep -c ' on /etc/'")?;
    for part in ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback", "\tbox", "nameserver "]
    {
        check!(text.contains(part), "{part:?} is missing in\n{text}");
    }
    equal!(text.lines().last(), Some("3"));
    Ok(())
}

fn no_new_devices(t: &Ctx) -> Result<()> {
    // Making a node is allowed, using it is not: the devices cgroup says which ones are.
    let script = "mknod /tmp/mem c 1 1 && head -c 1 /tmp/mem";
    let output = t.client.run(&["run", "--rm", "busybox", "sh", "-c", script])?;
    output.stderr_has("Operation not permitted")?;
    check!(output.code != 0, "/dev/mem could be read\n{output}");
    Ok(())
}
