//! The daemon is killed at any moment, and nothing is lost.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::{cases, check, equal};
use crate::harness::client::Client;
use crate::harness::daemon::{self, Daemon};
use crate::harness::leaks::{self, Footprint};
use crate::harness::pty::Pty;
use crate::harness::{Case, Ctx, eventually, http};

pub fn cases() -> Vec<Case> {
    cases!(
        "crash",
        Nothing,
        [
            output_goes_on,
            exit_codes_are_known,
            attach_works_again,
            attached_clients_stay_connected,
            exec_and_control_work_again,
            restart_policies_apply,
            published_ports_stay,
            rm_on_exit_happens_later,
            two_hundred_containers_and_kills,
            restart_with_two_hundred_containers,
            a_stuck_shim_does_not_hold_up_the_end,
            a_deleted_bridge_is_made_again,
            a_damaged_record_keeps_its_address,
            kill_while_starting,
            restart_with_thirty_containers,
            shims_killed_or_stuck_meanwhile,
            second_engines_are_refused,
        ]
    )
}

fn engine(t: &Ctx) -> Result<(Daemon, Client)> {
    let daemon = Daemon::start(&t.settings, "crash")?;
    let client = daemon.client()?;
    daemon::import_images(&t.settings, &client)?;
    Ok((daemon, client))
}

fn inspect(client: &Client, name: &str, template: &str) -> Result<String> {
    client.ok(&["inspect", "-f", template, name])
}

fn output_goes_on(t: &Ctx) -> Result<()> {
    let (daemon, client) = engine(t)?;
    // Not awaited: it writes all the time, also in the moment of each kill.
    let script = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); echo line $i; done; echo end";
    client.ok(&["run", "-d", "--name", "chatty", "busybox", "sh", "-c", script])?;
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(150));
        daemon.kill()?;
        std::thread::sleep(Duration::from_millis(150));
        daemon.up()?;
    }
    equal!(client.ok(&["wait", "chatty"])?, "0");
    let log = client.ok(&["logs", "chatty"])?;
    let mut lines = log.lines();
    for i in 1..=200_000 {
        let line = lines.next().unwrap_or_default();
        check!(line == format!("line {i}"), "line {i} is {line:?}");
    }
    equal!(lines.collect::<Vec<_>>(), ["end"]);
    Ok(())
}

fn exit_codes_are_known(t: &Ctx) -> Result<()> {
    let (daemon, client) = engine(t)?;
    for code in [0, 3, 77] {
        let script = format!("sleep 0.5; echo last words; exit {code}");
        client.ok(&["run", "-d", "--name", &format!("c{code}"), "busybox", "sh", "-c", &script])?;
    }
    client.ok(&["run", "-d", "--name", "stays", "busybox", "sleep", "1000"])?;
    let pid = inspect(&client, "stays", "{{.State.Pid}}")?;
    daemon.kill()?;
    std::thread::sleep(Duration::from_millis(1200));
    daemon.up()?;
    for code in [0, 3, 77] {
        let name = format!("c{code}");
        equal!(inspect(&client, &name, "{{.State.Status}} {{.State.ExitCode}}")?, format!("exited {code}"));
        equal!(client.ok(&["logs", &name])?, "last words");
        // It ended when it ended and not when the daemon came back.
        let ended = inspect(&client, &name, "{{.State.FinishedAt}}")?;
        check!(!ended.starts_with("0001-"), "no end: {ended}");
    }
    equal!(inspect(&client, "stays", "{{.State.Status}} {{.State.Pid}}")?, format!("running {pid}"));
    Ok(())
}

fn attach_works_again(t: &Ctx) -> Result<()> {
    let (daemon, client) = engine(t)?;
    client.ok(&["run", "-dit", "--name", "shell", "busybox", "sh"])?;
    daemon.kill()?;
    daemon.up()?;
    let mut pty = Pty::start(&client.command(&["attach", "shell"]), 24, 80)?;
    pty.send("\n")?;
    pty.expect("#")?;
    pty.send("echo $((30+3)); exit 8\n")?;
    pty.expect("33")?;
    equal!(pty.wait()?, 8);
    Ok(())
}

fn attached_clients_stay_connected(t: &Ctx) -> Result<()> {
    let (daemon, client) = engine(t)?;
    client.ok(&[
        "run",
        "-d",
        "-i",
        "--name",
        "one",
        "busybox",
        "sh",
        "-c",
        "while read line; do echo got $line; done",
    ])?;
    let mut stream = http::connect(&daemon.socket())?;
    stream.write_all(b"POST /v1.44/containers/one/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n")?;
    let mut seen = Vec::new();
    let mut expect = |stream: &mut std::os::unix::net::UnixStream, text: &str| -> Result<()> {
        let mut buffer = [0; 1024];
        while !String::from_utf8_lossy(&seen).contains(text) {
            let length = stream.read(&mut buffer).with_context(|| format!("no {text:?}"))?;
            check!(length > 0, "the connection ended before {text:?}");
            seen.extend_from_slice(&buffer[..length]);
        }
        Ok(())
    };
    expect(&mut stream, "\r\n\r\n")?;
    stream.write_all(b"before\n")?;
    expect(&mut stream, "got before")?;
    daemon.kill()?;
    stream.write_all(b"while it is dead\n")?;
    expect(&mut stream, "got while it is dead")?;
    daemon.up()?;
    stream.write_all(b"after\n")?;
    expect(&mut stream, "got after")?;
    equal!(client.ok(&["logs", "one"])?, "got before\ngot while it is dead\ngot after");
    Ok(())
}

fn exec_and_control_work_again(t: &Ctx) -> Result<()> {
    let (daemon, client) = engine(t)?;
    client.ok(&["run", "-d", "--name", "one", "--restart", "no", "busybox", "sleep", "1000"])?;
    client.ok(&["run", "-d", "--name", "frozen", "busybox", "sleep", "1000"])?;
    client.ok(&["pause", "frozen"])?;
    daemon.kill()?;
    daemon.up()?;
    equal!(client.ok(&["exec", "one", "echo", "back"])?, "back");
    equal!(inspect(&client, "frozen", "{{.State.Status}}")?, "paused");
    client.ok(&["unpause", "frozen"])?;
    client.ok(&["rename", "one", "two"])?;
    client.ok(&["stop", "-t", "0", "two"])?;
    equal!(inspect(&client, "two", "{{.State.ExitCode}}")?, "137");
    client.ok(&["start", "two"])?;
    equal!(client.ok(&["exec", "two", "echo", "again"])?, "again");
    client.client_stats("two")?;
    Ok(())
}

impl Client {
    /// One line of `stats`, to see that the engine still finds the container's control groups.
    fn client_stats(&self, name: &str) -> Result<()> {
        let pids = self.ok(&["stats", "--no-stream", "--format", "{{.PIDs}}", name])?;
        equal!(pids, "1");
        Ok(())
    }
}

fn restart_policies_apply(t: &Ctx) -> Result<()> {
    let (daemon, client) = engine(t)?;
    // Each ends while there is no daemon.
    for (name, policy, code) in
        [("always", "always", 0), ("failed", "on-failure", 3), ("fine", "on-failure", 0), ("no", "no", 3)]
    {
        let script = format!("echo run; sleep 0.6; exit {code}");
        client.ok(&["run", "-d", "--name", name, "--restart", policy, "busybox", "sh", "-c", &script])?;
    }
    client.ok(&[
        "run",
        "-d",
        "--name",
        "stopped",
        "--restart",
        "always",
        "busybox",
        "sh",
        "-c",
        "trap 'exit 0' TERM; while :; do sleep 0.05; done",
    ])?;
    client.ok(&[
        "run",
        "-d",
        "--name",
        "unless",
        "--restart",
        "unless-stopped",
        "busybox",
        "sh",
        "-c",
        "trap 'exit 0' TERM; while :; do sleep 0.05; done",
    ])?;
    client.ok(&["stop", "-t", "3", "unless"])?;
    daemon.kill()?;
    std::thread::sleep(Duration::from_millis(1500));
    daemon.up()?;
    for name in ["always", "failed"] {
        eventually(&format!("{name} runs again"), Duration::from_secs(10), || {
            Ok(client.ok(&["logs", name])?.lines().count() >= 2)
        })?;
    }
    for name in ["fine", "no"] {
        equal!(client.ok(&["logs", name])?, "run");
    }
    equal!(inspect(&client, "unless", "{{.State.Running}}")?, "false");
    Ok(())
}

fn published_ports_stay(t: &Ctx) -> Result<()> {
    let (daemon, client) = engine(t)?;
    let port = 23_000 + u16::try_from(std::process::id() % 500)?;
    let serve = "while :; do echo hello | nc -l -p 80; done";
    client.ok(&["run", "-d", "--name", "one", "-p", &format!("{port}:80"), "busybox", "sh", "-c", serve])?;
    let hello = || -> Result<bool> {
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut stream = TcpStream::connect_timeout(&addr, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text == "hello\n")
    };
    eventually("the port answers", Duration::from_secs(5), hello)?;
    daemon.kill()?;
    eventually("the port answers without a daemon", Duration::from_secs(5), hello)?;
    daemon.up()?;
    eventually("the port answers with a new daemon", Duration::from_secs(5), hello)?;
    let taken = client.run(&["run", "--rm", "-p", &format!("{port}:80"), "busybox", "true"])?;
    taken.code(125)?.stderr_has("port is already allocated")?;
    // Nobody else gets the address of a container that was there before.
    let address = inspect(&client, "one", "{{.NetworkSettings.IPAddress}}")?;
    client.ok(&["run", "-d", "--name", "two", "busybox", "sleep", "1000"])?;
    check!(
        inspect(&client, "two", "{{.NetworkSettings.IPAddress}}")? != address,
        "{address} was given out twice"
    );
    client.ok(&["rm", "-f", "one"])?;
    check!(hello().is_err(), "the port answers although its container is gone");
    Ok(())
}

fn rm_on_exit_happens_later(t: &Ctx) -> Result<()> {
    let (daemon, client) = engine(t)?;
    client.ok(&["run", "-d", "--rm", "--name", "one", "busybox", "sleep", "0.5"])?;
    daemon.kill()?;
    std::thread::sleep(Duration::from_millis(1000));
    daemon.up()?;
    eventually("it is gone", Duration::from_secs(5), || Ok(client.run(&["inspect", "one"])?.code == 1))
}

fn footprint(daemon: &Daemon) -> Footprint {
    let prefix = daemon.address.to_string();
    let prefix = prefix.rsplit_once('.').map_or(prefix.as_str(), |(net, _)| net);
    Footprint::look(&[&daemon.data_root(), &daemon.run], &daemon.bridge, &format!("{prefix}."))
}

fn two_hundred_containers_and_kills(t: &Ctx) -> Result<()> {
    let (daemon, client) = engine(t)?;
    // A first one, so that what an engine makes once and keeps does not count as a leak.
    let first = client.ok(&["run", "-d", "-p", "127.0.0.1:0:80", "busybox", "sleep", "1000"])?;
    let first_address = inspect(&client, &first, "{{.NetworkSettings.IPAddress}}")?;
    client.ok(&["rm", "-f", &first])?;
    std::thread::sleep(Duration::from_millis(1500));
    let before = footprint(&daemon);

    let mut ids = vec![first];
    for round in 0..200 {
        let name = format!("n{round}");
        let output = client.run(&[
            "run",
            "-d",
            "--name",
            &name,
            "-p",
            "127.0.0.1:0:80",
            "busybox",
            "sleep",
            "1000",
        ])?;
        output.code(0)?;
        let id = output.stdout.trim().to_owned();
        if round % 10 == 3 {
            daemon.kill()?;
            daemon.up()?;
        }
        client.ok(&["rm", "-f", &name])?;
        if round % 10 == 7 {
            // Right after the answer, when teardown may still go on.
            daemon.kill()?;
            daemon.up()?;
        }
        ids.push(id);
    }
    equal!(client.ok(&["ps", "-aq"])?, "");
    let mut growth = Vec::new();
    let outcome = eventually("nothing is left", Duration::from_secs(10), || {
        growth = before.growth(&footprint(&daemon));
        Ok(growth.is_empty())
    });
    outcome.with_context(|| growth.join("\n"))?;
    let groups = leaks::container_cgroups();
    let left: Vec<_> = groups
        .iter()
        .filter(|path| ids.iter().any(|id| path.to_string_lossy().contains(id.as_str())))
        .collect();
    check!(left.is_empty(), "control groups are left: {left:?}");
    let id = client.ok(&["run", "-d", "busybox", "sleep", "1000"])?;
    equal!(inspect(&client, &id, "{{.NetworkSettings.IPAddress}}")?, first_address);
    Ok(())
}

fn kill_while_starting(t: &Ctx) -> Result<()> {
    let (daemon, client) = engine(t)?;
    client.ok(&["run", "--rm", "busybox", "true"])?;
    std::thread::sleep(Duration::from_millis(1000));
    let before = footprint(&daemon);
    for round in 0..25_u64 {
        let running =
            client.start(&["run", "-d", "--name", &format!("n{round}"), "busybox", "sleep", "1000"])?;
        // A little later in each round, to meet every step of a start.
        std::thread::sleep(Duration::from_micros(1000 + round * 700));
        daemon.kill()?;
        let _ = running.finish(Duration::from_secs(10))?;
        daemon.up()?;
        // Whatever became of it, it can be removed, and its name is free then.
        client.run(&["rm", "-f", &format!("n{round}")])?.code(0)?;
    }
    equal!(client.ok(&["ps", "-aq"])?, "");
    let mut growth = Vec::new();
    let outcome = eventually("nothing is left", Duration::from_secs(10), || {
        growth = before.growth(&footprint(&daemon));
        Ok(growth.is_empty())
    });
    outcome.with_context(|| growth.join("\n"))
}

fn restart_with_thirty_containers(t: &Ctx) -> Result<()> {
    let (daemon, client) = engine(t)?;
    for i in 0..30 {
        client.ok(&["run", "-d", "--name", &format!("n{i}"), "busybox", "sleep", "1000"])?;
    }
    daemon.kill()?;
    let answered = daemon.up()?;
    check!(answered < Duration::from_millis(3000), "the daemon answers after {answered:?}");
    let began = Instant::now();
    equal!(client.ok(&["ps", "-q"])?.lines().count(), 30);
    check!(began.elapsed() < Duration::from_secs(1), "ps took {:?}", began.elapsed());
    // SIGTERM leaves them alone, too.
    equal!(daemon.terminate()?, 0);
    daemon.up()?;
    equal!(client.ok(&["ps", "-q"])?.lines().count(), 30);
    Ok(())
}

/// The shim of a container: the parent of its init.
fn shim_of(client: &Client, name: &str) -> Result<rustix::process::Pid> {
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", inspect(client, name, "{{.State.Pid}}")?))?;
    let parent = status.lines().find_map(|l| l.strip_prefix("PPid:")).context("no PPid")?;
    rustix::process::Pid::from_raw(parent.trim().parse()?).context("no parent")
}

fn shims_killed_or_stuck_meanwhile(t: &Ctx) -> Result<()> {
    use rustix::process::{Signal, kill_process};
    let (daemon, client) = engine(t)?;
    for name in ["lost", "stuck", "fine"] {
        client.ok(&["run", "-d", "--name", name, "busybox", "sh", "-c", "sleep 1000 & sleep 1000"])?;
    }
    let (lost, stuck) = (shim_of(&client, "lost")?, shim_of(&client, "stuck")?);
    let id = inspect(&client, "lost", "{{.Id}}")?;
    daemon.kill()?;
    kill_process(lost, Signal::KILL)?;
    kill_process(stuck, Signal::STOP)?;
    let up = daemon.up();
    let seen = client.ok(&["ps", "--format", "{{.Names}}"]);
    kill_process(stuck, Signal::CONT)?;
    let answered = up?;
    check!(answered < Duration::from_secs(3), "the daemon answers after {answered:?}");
    // What can be known of the stuck one without its shim is shown.
    equal!(seen?, "fine\nstuck");
    equal!(inspect(&client, "lost", "{{.State.Status}} {{.State.ExitCode}}")?, "exited 137");
    let left: Vec<_> =
        leaks::container_cgroups().into_iter().filter(|p| p.to_string_lossy().contains(&id)).collect();
    check!(left.is_empty(), "control groups are left: {left:?}");
    eventually("the stuck shim's container is back", Duration::from_secs(5), || {
        Ok(client.run(&["exec", "stuck", "true"])?.code == 0)
    })?;
    client.ok(&["start", "lost"])?;
    Ok(())
}

fn second_engines_are_refused(t: &Ctx) -> Result<()> {
    let (daemon, client) = engine(t)?;
    client.ok(&["run", "-d", "--name", "first", "busybox", "sleep", "1000"])?;
    let other = daemon.dir.join("second");
    std::fs::create_dir_all(&other)?;
    let path = |name: &str| other.join(name);
    for (data, run, bridge, refusal) in [
        (daemon.data_root(), path("run"), "fdup0", "is running on the data root"),
        (path("data"), daemon.run.join("exec"), "fdup0", "is running on the exec root"),
        (path("data"), path("run"), daemon.bridge.as_str(), "is running on the bridge"),
    ] {
        let mut command = std::process::Command::new(t.settings.ferry());
        command.arg("daemon").arg("-H").arg(format!("unix://{}", path("sock").display()));
        command.arg("--data-root").arg(data).arg("--exec-root").arg(run).args(["--bridge", bridge]);
        command.arg("--pidfile").arg(path("pid"));
        let output = crate::harness::process::run(command)?;
        output.code(1)?.stderr_has(refusal)?;
    }
    equal!(client.ok(&["exec", "first", "echo", "undisturbed"])?, "undisturbed");
    Ok(())
}

fn restart_with_two_hundred_containers(t: &Ctx) -> Result<()> {
    let (daemon, client) = engine(t)?;
    let script = "n=0; while :; do n=$((n+1)); echo $n; sleep 0.05; done";
    client.ok(&["run", "-d", "--name", "counter", "busybox", "sh", "-c", script])?;
    for i in 1..200 {
        client.ok(&["run", "-d", "--name", &format!("n{i}"), "busybox", "sleep", "1000"])?;
    }
    let last = client.ok(&["logs", "-t", "--tail", "1", "counter"])?;
    let (time, number) = last.split_once(' ').context("no time")?;
    let mut fastest = Duration::MAX;
    // What else the machine does must not decide.
    for _ in 0..3 {
        daemon.kill()?;
        fastest = fastest.min(daemon.up()?);
        equal!(client.ok(&["ps", "-q"])?.lines().count(), 200);
    }
    check!(fastest < Duration::from_millis(2000), "the daemon answers after {fastest:?}");
    // A follower that was cut off goes on where it was, and has missed nothing.
    let later = client.ok(&["logs", "--since", time, "counter"])?;
    let numbers: Vec<u64> = later.lines().map(str::parse).collect::<std::result::Result<_, _>>()?;
    equal!(numbers.first().copied(), Some(number.parse()?));
    check!(numbers.len() > 3 && numbers.windows(2).all(|n| n[1] == n[0] + 1), "{numbers:?}");
    Ok(())
}

fn a_stuck_shim_does_not_hold_up_the_end(t: &Ctx) -> Result<()> {
    use rustix::process::{Signal, kill_process};
    let (_daemon, client) = engine(t)?;
    for command in [&["stop", "-t", "1"][..], &["kill"], &["rm", "-f"]] {
        client.ok(&["run", "-d", "--name", "stuck", "busybox", "sleep", "1000"])?;
        kill_process(shim_of(&client, "stuck")?, Signal::STOP)?;
        let began = Instant::now();
        let mut args = command.to_vec();
        args.push("stuck");
        client.ok(&args)?;
        check!(began.elapsed() < Duration::from_secs(15), "{command:?} took {:?}", began.elapsed());
        if command[0] != "rm" {
            equal!(inspect(&client, "stuck", "{{.State.Status}} {{.State.ExitCode}}")?, "exited 137");
            client.ok(&["rm", "stuck"])?;
        }
    }
    Ok(())
}

fn a_deleted_bridge_is_made_again(t: &Ctx) -> Result<()> {
    let (daemon, client) = engine(t)?;
    client.ok(&["run", "-d", "--name", "old", "busybox", "sleep", "1000"])?;
    let mut delete = std::process::Command::new("ip");
    delete.args(["link", "delete", &daemon.bridge]);
    crate::harness::process::ok(delete)?;
    client.ok(&["run", "-d", "--name", "new", "busybox", "sleep", "1000"])?;
    let gateway = inspect(&client, "new", "{{.NetworkSettings.Networks.bridge.Gateway}}")?;
    for name in ["new", "old"] {
        let ping = ["exec", name, "ping", "-c", "1", "-W", "5", &gateway];
        check!(client.ok(&ping)?.contains("1 packets received"), "{name} does not reach {gateway}");
    }
    Ok(())
}

fn a_damaged_record_keeps_its_address(t: &Ctx) -> Result<()> {
    let (daemon, client) = engine(t)?;
    client.ok(&["run", "-d", "--name", "hurt", "busybox", "sleep", "1000"])?;
    let id = inspect(&client, "hurt", "{{.Id}}")?;
    let template = "{{.NetworkSettings.Networks.bridge.IPAddress}}";
    let address = inspect(&client, "hurt", template)?;
    daemon.kill()?;
    let record = daemon.data_root().join("containers").join(&id).join("container.json");
    let whole = std::fs::read(&record)?;
    std::fs::write(&record, &whole[..whole.len() / 2])?;
    daemon.up()?;
    client.ok(&["run", "-d", "--name", "other", "busybox", "sleep", "1000"])?;
    check!(inspect(&client, "other", template)? != address, "{address} was given away");
    // It still is in the network.
    let ping = ["exec", "other", "ping", "-c", "1", "-W", "5", &address];
    check!(client.ok(&ping)?.contains("1 packets received"), "{address} does not answer");
    // And it is back with its record.
    daemon.kill()?;
    std::fs::write(&record, whole)?;
    daemon.up()?;
    equal!(inspect(&client, "hurt", template)?, address);
    Ok(())
}
