//! `exec`.

use std::time::Duration;

use anyhow::Result;

use super::{cases, check, equal};
use crate::harness::pty::Pty;
use crate::harness::{Case, Ctx, eventually};

pub fn cases() -> Vec<Case> {
    cases!(
        "exec",
        EachClient,
        [
            streams_and_code,
            programs_that_cannot_run,
            stdin,
            environment_user_directory,
            in_a_terminal,
            detached,
            missing_container,
            stopped_container,
            many_at_once,
            privileged_exec,
            ends_with_the_container,
        ]
    )
}

fn container(t: &Ctx) -> Result<String> {
    let name = t.name("x");
    t.ok(&["run", "-d", "--name", &name, "-e", "FROM_RUN=1", "-w", "/tmp", "busybox", "sleep", "1000"])?;
    Ok(name)
}

fn streams_and_code(t: &Ctx) -> Result<()> {
    let name = container(t)?;
    let output = t.client.run(&["exec", &name, "sh", "-c", "echo out; echo err >&2; exit 7"])?;
    output.code(7)?.stdout("out")?;
    equal!(output.stderr, "err\n");
    t.client.run(&["exec", &name, "sh", "-c", "kill -KILL $$"])?.code(137)?;
    Ok(())
}

fn programs_that_cannot_run(t: &Ctx) -> Result<()> {
    let name = container(t)?;
    let missing = t.client.run(&["exec", &name, "no-such-program"])?;
    missing.code(127)?;
    check!(
        format!("{}{}", missing.stdout, missing.stderr).contains("executable file not found in $PATH"),
        "{missing}"
    );
    let denied = t.client.run(&["exec", &name, "/etc/passwd"])?;
    denied.code(126)?;
    check!(format!("{}{}", denied.stdout, denied.stderr).contains("permission denied"), "{denied}");
    Ok(())
}

fn stdin(t: &Ctx) -> Result<()> {
    let name = container(t)?;
    let text = "line\n".repeat(20_000);
    t.client.run_with(&["exec", "-i", &name, "wc", "-l"], text)?.code(0)?.stdout("20000")?;
    Ok(())
}

fn environment_user_directory(t: &Ctx) -> Result<()> {
    let name = container(t)?;
    equal!(t.ok(&["exec", &name, "sh", "-c", "echo $FROM_RUN; pwd; id -u"])?, "1\n/tmp\n0");
    let args = [
        "exec",
        "-e",
        "A=b",
        "-w",
        "/etc",
        "-u",
        "www-data",
        &name,
        "sh",
        "-c",
        "echo $A; pwd; id -un; id -Gn",
    ];
    equal!(t.ok(&args)?, "b\n/etc\nwww-data\nwww-data adm audio");
    Ok(())
}

fn in_a_terminal(t: &Ctx) -> Result<()> {
    let name = container(t)?;
    let mut pty = Pty::start(&t.client.command(&["exec", "-it", &name, "sh"]), 31, 91)?;
    pty.expect("#")?;
    pty.send("stty size; tty\n")?;
    pty.expect("31 91")?;
    pty.expect("/dev/pts/")?;
    pty.send("exit 5\n")?;
    equal!(pty.wait()?, 5);
    equal!(t.inspect(&name, "{{.State.Running}}")?, "true");
    Ok(())
}

fn detached(t: &Ctx) -> Result<()> {
    let name = container(t)?;
    equal!(t.ok(&["exec", "-d", &name, "sh", "-c", "echo here > /tmp/made"])?, "");
    eventually("it ran", Duration::from_secs(5), || {
        Ok(t.ok(&["exec", &name, "cat", "/tmp/made"]).is_ok_and(|text| text == "here"))
    })
}

fn missing_container(t: &Ctx) -> Result<()> {
    t.client
        .run(&["exec", "no-such-container", "true"])?
        .code(1)?
        .stderr_has("Error response from daemon: No such container: no-such-container")?;
    Ok(())
}

fn stopped_container(t: &Ctx) -> Result<()> {
    let name = t.name("x");
    let id = t.ok(&["create", "--name", &name, "busybox", "true"])?;
    t.client.run(&["exec", &name, "true"])?.code(1)?.stderr_has(&format!("container {id} is not running"))?;
    Ok(())
}

fn many_at_once(t: &Ctx) -> Result<()> {
    let name = container(t)?;
    let running: Vec<_> = (0..20)
        .map(|i| t.client.start(&["exec", &name, "sh", "-c", &format!("echo {i}; exit {i}")]))
        .collect::<Result<_>>()?;
    for (i, one) in running.into_iter().enumerate() {
        one.finish(Duration::from_secs(60))?.code(i as i32)?.stdout(&i.to_string())?;
    }
    Ok(())
}

fn privileged_exec(t: &Ctx) -> Result<()> {
    let name = container(t)?;
    let own = std::fs::read_to_string("/proc/self/status")?;
    let all = own.lines().find_map(|line| line.strip_prefix("CapEff:\t")).unwrap_or_default().to_owned();
    equal!(
        t.ok(&["exec", "--privileged", &name, "sh", "-c", "grep CapEff /proc/self/status | cut -f 2"])?,
        all
    );
    equal!(
        t.ok(&["exec", &name, "sh", "-c", "grep CapEff /proc/self/status | cut -f 2"])?,
        "00000000a80425fb"
    );
    Ok(())
}

fn ends_with_the_container(t: &Ctx) -> Result<()> {
    let name = container(t)?;
    let running = t.client.start(&["exec", &name, "sleep", "1000"])?;
    std::thread::sleep(Duration::from_millis(300));
    t.ok(&["kill", &name])?;
    running.finish(Duration::from_secs(10))?.code(137)?;
    Ok(())
}
