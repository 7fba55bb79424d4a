//! `--init`: signals, zombies, exit codes, and that the container cannot change it.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::{cases, check, equal};
use crate::harness::{Case, Ctx};

pub fn cases() -> Vec<Case> {
    cases!(
        "init",
        EachClient,
        [
            it_is_process_one,
            exit_codes_are_the_programs,
            programs_that_cannot_be_run,
            signals_reach_the_program,
            zombies_are_collected,
            it_cannot_be_overwritten,
            none_without_an_own_pid_namespace,
        ]
    )
}

fn it_is_process_one(t: &Ctx) -> Result<()> {
    let name = t.name("x");
    let command =
        t.ok(&["run", "--name", &name, "--init", "busybox", "sh", "-c", "tr '\\0' ' ' < /proc/1/cmdline"])?;
    check!(command.starts_with("/sbin/docker-init -- sh -c"), "{command}");
    equal!(t.inspect(&name, "{{.HostConfig.Init}} {{.Path}}")?, "true sh");
    let without = t.ok(&["run", "--rm", "busybox", "sh", "-c", "ls /sbin/docker-init 2>&1 || true"])?;
    check!(without.contains("No such file"), "{without}");
    Ok(())
}

fn exit_codes_are_the_programs(t: &Ctx) -> Result<()> {
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -15 $$", 143)] {
        t.client.run(&["run", "--rm", "--init", "busybox", "sh", "-c", script])?.code(code)?;
    }
    Ok(())
}

fn programs_that_cannot_be_run(t: &Ctx) -> Result<()> {
    t.client
        .run(&["run", "--rm", "--init", "busybox", "nosuch"])?
        .code(127)?
        .stderr_has("exec nosuch failed: No such file or directory")?;
    t.client
        .run(&["run", "--rm", "--init", "busybox", "/etc/passwd"])?
        .code(126)?
        .stderr_has("exec /etc/passwd failed: Permission denied")?;
    Ok(())
}

fn signals_reach_the_program(t: &Ctx) -> Result<()> {
    // Without an init the kernel drops what process 1 has no handler for.
    let name = t.name("x");
    t.ok(&["run", "-d", "--name", &name, "--init", "busybox", "sleep", "1000"])?;
    let began = Instant::now();
    t.ok(&["stop", &name])?;
    check!(began.elapsed() < Duration::from_secs(5), "the signal did not arrive");
    equal!(t.inspect(&name, "{{.State.ExitCode}}")?, "143");
    Ok(())
}

fn zombies_are_collected(t: &Ctx) -> Result<()> {
    let script =
        "for i in 1 2 3; do (sleep 0.2 &); done; sleep 1; grep -l '^State:.Z' /proc/[0-9]*/status | wc -l";
    equal!(t.ok(&["run", "--rm", "--init", "busybox", "sh", "-c", script])?, "0");
    Ok(())
}

fn it_cannot_be_overwritten(t: &Ctx) -> Result<()> {
    for path in ["/sbin/docker-init", "/proc/1/exe"] {
        let script = format!(
            "echo x > {path} || echo refused; rm -f {path} 2>/dev/null; test -e {path} && echo there"
        );
        let output = t.client.run(&["run", "--rm", "--init", "busybox", "sh", "-c", &script])?;
        output.code(0)?.stdout("refused\nthere")?;
    }
    Ok(())
}

fn none_without_an_own_pid_namespace(t: &Ctx) -> Result<()> {
    let args = [
        "run",
        "--rm",
        "--init",
        "--pid",
        "host",
        "busybox",
        "sh",
        "-c",
        "ls /sbin/docker-init 2>&1 || true",
    ];
    check!(t.ok(&args)?.contains("No such file"), "an init was mounted");
    Ok(())
}
