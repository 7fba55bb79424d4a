//! Attaching, detaching, and what clients see of a container's output.

use std::time::Duration;

use anyhow::Result;

use super::{cases, check, equal};
use crate::harness::process::PATIENCE;
use crate::harness::pty::Pty;
use crate::harness::{Case, Ctx, eventually};

pub fn cases() -> Vec<Case> {
    cases!(
        "attach",
        EachClient,
        [
            attach_gives_the_exit_code,
            attach_sees_both_streams,
            detach_from_run_and_attach_again,
            detach_from_attach,
            detach_with_other_keys,
            two_clients_see_the_same,
            stdin_ends_with_the_first_client,
            start_attached,
            start_interactive,
            client_killed_container_stays,
            signals_are_passed_on,
        ]
    )
}

fn attach_gives_the_exit_code(t: &Ctx) -> Result<()> {
    let name = t.name("x");
    t.ok(&["run", "-d", "-i", "--name", &name, "busybox", "sh", "-c", "read x; echo got $x; exit 5"])?;
    t.client.run_typing(&["attach", &name], "hello\n")?.code(5)?.stdout("got hello")?;
    Ok(())
}

fn attach_sees_both_streams(t: &Ctx) -> Result<()> {
    let name = t.name("x");
    t.ok(&["run", "-d", "-i", "--name", &name, "busybox", "sh", "-c", "read x; echo out; echo err >&2"])?;
    let output = t.client.run_typing(&["attach", &name], "\n")?;
    output.code(0)?.stdout("out")?;
    equal!(output.stderr, "err\n");
    Ok(())
}

fn detach_from_run_and_attach_again(t: &Ctx) -> Result<()> {
    let name = t.name("x");
    let mut pty = Pty::start(&t.client.command(&["run", "-it", "--name", &name, "busybox", "sh"]), 24, 80)?;
    pty.expect("#")?;
    pty.send("echo $((40+2))\n")?;
    pty.expect("42")?;
    pty.send("\x10\x11")?;
    equal!(pty.wait()?, 0);
    equal!(t.inspect(&name, "{{.State.Running}}")?, "true");

    let mut pty = Pty::start(&t.client.command(&["attach", &name]), 24, 80)?;
    pty.send("\n")?;
    pty.expect("#")?;
    pty.send("echo $((50+1)); exit 9\n")?;
    pty.expect("51")?;
    equal!(pty.wait()?, 9);
    Ok(())
}

fn detach_from_attach(t: &Ctx) -> Result<()> {
    let name = t.name("x");
    t.ok(&["run", "-dit", "--name", &name, "busybox", "sh"])?;
    let mut pty = Pty::start(&t.client.command(&["attach", &name]), 24, 80)?;
    pty.send("\n")?;
    pty.expect("#")?;
    pty.send("\x10\x11")?;
    pty.expect("read escape sequence")?;
    equal!(pty.wait()?, 1);
    equal!(t.inspect(&name, "{{.State.Running}}")?, "true");
    Ok(())
}

fn detach_with_other_keys(t: &Ctx) -> Result<()> {
    let name = t.name("x");
    let args = ["run", "-it", "--detach-keys", "ctrl-a,d", "--name", &name, "busybox", "sh"];
    let mut pty = Pty::start(&t.client.command(&args), 24, 80)?;
    pty.expect("#")?;
    // Docker's own keys mean nothing now.
    pty.send("\x10\x11echo $((60+1))\n")?;
    pty.expect("61")?;
    pty.send("\x01d")?;
    equal!(pty.wait()?, 0);
    equal!(t.inspect(&name, "{{.State.Running}}")?, "true");
    Ok(())
}

fn two_clients_see_the_same(t: &Ctx) -> Result<()> {
    let name = t.name("x");
    t.ok(&["run", "-d", "-i", "--name", &name, "busybox", "sh", "-c", "read x; seq 1 1000"])?;
    let watching = t.client.start(&["attach", "--no-stdin", &name])?;
    std::thread::sleep(Duration::from_millis(500));
    let typed = t.client.run_typing(&["attach", &name], "go\n")?;
    let watched = watching.finish(PATIENCE)?;
    typed.code(0)?;
    equal!(typed.stdout.lines().count(), 1000);
    check!(watched.stdout == typed.stdout, "the clients saw different things\n{watched}");
    Ok(())
}

fn stdin_ends_with_the_first_client(t: &Ctx) -> Result<()> {
    // `run -i` closes the container's stdin when its own ends.
    t.client.run_with(&["run", "--rm", "-i", "busybox", "wc", "-c"], "12345")?.code(0)?.stdout("5")?;
    Ok(())
}

fn start_attached(t: &Ctx) -> Result<()> {
    let name = t.name("x");
    t.ok(&["create", "--name", &name, "busybox", "sh", "-c", "echo started; exit 4"])?;
    t.client.run(&["start", "-a", &name])?.code(4)?.stdout("started")?;
    t.client.run(&["start", "-a", &name])?.code(4)?.stdout("started")?;
    equal!(t.ok(&["logs", &name])?, "started\nstarted");
    Ok(())
}

fn start_interactive(t: &Ctx) -> Result<()> {
    let name = t.name("x");
    t.ok(&["create", "-i", "--name", &name, "busybox", "cat"])?;
    t.client.run_with(&["start", "-ai", &name], "through\n")?.code(0)?.stdout("through")?;
    Ok(())
}

fn client_killed_container_stays(t: &Ctx) -> Result<()> {
    let name = t.name("x");
    let running = t.client.start(&[
        "run",
        "--name",
        &name,
        "busybox",
        "sh",
        "-c",
        "while :; do echo tick; sleep 0.05; done",
    ])?;
    eventually("it runs", Duration::from_secs(10), || {
        Ok(t.inspect(&name, "{{.State.Running}}").is_ok_and(|it| it == "true"))
    })?;
    std::thread::sleep(Duration::from_millis(200));
    drop(running);
    std::thread::sleep(Duration::from_millis(300));
    equal!(t.inspect(&name, "{{.State.Running}}")?, "true");
    let before = t.ok(&["logs", &name])?.lines().count();
    std::thread::sleep(Duration::from_millis(300));
    check!(t.ok(&["logs", &name])?.lines().count() > before, "no more output after the client was killed");
    Ok(())
}

fn signals_are_passed_on(t: &Ctx) -> Result<()> {
    let name = t.name("x");
    let script = "trap 'echo asked; exit 143' TERM; echo ready; while :; do sleep 0.05; done";
    let running = t.client.start(&["run", "--name", &name, "busybox", "sh", "-c", script])?;
    eventually("it is ready", Duration::from_secs(10), || {
        Ok(t.ok(&["logs", &name]).is_ok_and(|log| log.contains("ready")))
    })?;
    let pid = rustix::process::Pid::from_raw(i32::try_from(running.pid())?)
        .ok_or_else(|| anyhow::anyhow!("no pid"))?;
    rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
    running.finish(PATIENCE)?.code(143)?.stdout("ready\nasked")?;
    Ok(())
}
