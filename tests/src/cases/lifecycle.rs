//! A container's life after `run`: stop, kill, restart, pause, wait, rename, logs, top, stats, ps, rm.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::{cases, check, equal};
use crate::harness::process::PATIENCE;
use crate::harness::{Case, Ctx, eventually};

pub fn cases() -> Vec<Case> {
    cases!(
        "lifecycle",
        EachClient,
        [
            create_start_wait,
            stop_asks_first,
            stop_kills_in_the_end,
            kill,
            kill_with_another_signal,
            restart,
            restart_policy_always,
            restart_policy_unless_stopped,
            pause,
            wait_for_several,
            rename,
            logs,
            logs_of_a_terminal,
            logs_follow,
            logs_follow_from_start_to_end,
            logs_since_and_timestamps,
            long_lines_stay_whole,
            top,
            stats,
            ps_columns,
            ps_formats,
            ps_filters,
            inspect_formats,
            inspect_missing,
            rm_refuses_a_running_one,
            rm_refuses_one_that_restarts,
            rm_missing,
            several_arguments,
            addresses_are_taken_lowest_first,
        ]
    )
}

/// A container that runs until it is ended, and ends at once when asked to.
fn sleeper(t: &Ctx, what: &str) -> Result<String> {
    let name = t.name(what);
    let script = "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done";
    t.ok(&["run", "-d", "--name", &name, "busybox", "sh", "-c", script])?;
    eventually("it is up", Duration::from_secs(10), || Ok(t.ok(&["logs", &name])? == "up"))?;
    Ok(name)
}

fn status(t: &Ctx, name: &str) -> Result<String> {
    t.inspect(name, "{{.State.Status}} {{.State.ExitCode}}")
}

fn create_start_wait(t: &Ctx) -> Result<()> {
    let name = t.name("x");
    let id = t.ok(&["create", "--name", &name, "busybox", "sh", "-c", "exit 6"])?;
    equal!(id.len(), 64);
    equal!(status(t, &name)?, "created 0");
    equal!(t.ok(&["start", &name])?, name);
    equal!(t.ok(&["wait", &name])?, "6");
    equal!(status(t, &name)?, "exited 6");
    // Ended ones are known to `wait` as well.
    equal!(t.ok(&["wait", &name])?, "6");
    Ok(())
}

fn stop_asks_first(t: &Ctx) -> Result<()> {
    let name = sleeper(t, "x")?;
    let began = Instant::now();
    equal!(t.ok(&["stop", &name])?, name);
    check!(began.elapsed() < Duration::from_secs(3), "it took {:?}", began.elapsed());
    equal!(status(t, &name)?, "exited 0");
    // Once more is no error.
    equal!(t.ok(&["stop", &name])?, name);
    Ok(())
}

fn stop_kills_in_the_end(t: &Ctx) -> Result<()> {
    let name = t.name("x");
    t.ok(&["run", "-d", "--name", &name, "busybox", "sleep", "1000"])?;
    let began = Instant::now();
    t.ok(&["stop", "-t", "1", &name])?;
    check!(began.elapsed() >= Duration::from_millis(900), "it was not given its second");
    check!(began.elapsed() < Duration::from_secs(4), "it took {:?}", began.elapsed());
    equal!(status(t, &name)?, "exited 137");
    Ok(())
}

fn kill(t: &Ctx) -> Result<()> {
    let name = sleeper(t, "x")?;
    let waiting = t.client.start(&["wait", &name])?;
    std::thread::sleep(Duration::from_millis(200));
    equal!(t.ok(&["kill", &name])?, name);
    waiting.finish(PATIENCE)?.code(0)?.stdout("137")?;
    let again = t.client.run(&["kill", &name])?;
    again.code(1)?.stderr_has(&format!("cannot kill container: {name}"))?.stderr_has("is not running")?;
    Ok(())
}

fn kill_with_another_signal(t: &Ctx) -> Result<()> {
    let name = t.name("x");
    let script = "trap 'echo usr1' USR1; trap 'exit 3' INT; echo up; while :; do sleep 0.05; done";
    t.ok(&["run", "-d", "--name", &name, "busybox", "sh", "-c", script])?;
    eventually("it is up", Duration::from_secs(10), || Ok(t.ok(&["logs", &name])? == "up"))?;
    t.ok(&["kill", "-s", "USR1", &name])?;
    eventually("it got it", Duration::from_secs(10), || Ok(t.ok(&["logs", &name])? == "up\nusr1"))?;
    t.ok(&["kill", "--signal", "2", &name])?;
    equal!(t.ok(&["wait", &name])?, "3");
    t.client.run(&["kill", "-s", "NOSUCH", &name])?.code(1)?.stderr_has("nvalid signal: NOSUCH")?;
    Ok(())
}

fn restart(t: &Ctx) -> Result<()> {
    let name = sleeper(t, "x")?;
    let before = t.inspect(&name, "{{.State.Pid}}")?;
    equal!(t.ok(&["restart", &name])?, name);
    let after = t.inspect(&name, "{{.State.Pid}}")?;
    check!(before != after && after != "0", "pid {before} before and {after} after");
    // A stopped one is started.
    t.ok(&["stop", &name])?;
    t.ok(&["restart", &name])?;
    equal!(t.inspect(&name, "{{.State.Running}}")?, "true");
    Ok(())
}

fn restart_policy_always(t: &Ctx) -> Result<()> {
    let name = t.name("x");
    t.ok(&[
        "run",
        "-d",
        "--restart",
        "always",
        "--name",
        &name,
        "busybox",
        "sh",
        "-c",
        "echo run; sleep 0.2",
    ])?;
    eventually("it ran three times", Duration::from_secs(20), || {
        Ok(t.ok(&["logs", &name])?.lines().count() >= 3)
    })?;
    t.ok(&["stop", "-t", "0", &name])?;
    let count = t.ok(&["logs", &name])?;
    std::thread::sleep(Duration::from_millis(1500));
    equal!(t.ok(&["logs", &name])?, count);
    equal!(t.inspect(&name, "{{.State.Running}}")?, "false");
    Ok(())
}

fn restart_policy_unless_stopped(t: &Ctx) -> Result<()> {
    let name = t.name("x");
    t.ok(&[
        "run",
        "-d",
        "--restart",
        "unless-stopped",
        "--name",
        &name,
        "busybox",
        "sh",
        "-c",
        "echo run; sleep 0.2; exit 1",
    ])?;
    eventually("it ran twice", Duration::from_secs(20), || Ok(t.ok(&["logs", &name])?.lines().count() >= 2))?;
    check!(t.inspect(&name, "{{.RestartCount}}")?.parse::<u32>()? >= 1, "no restarts counted");
    Ok(())
}

fn pause(t: &Ctx) -> Result<()> {
    let name = t.name("x");
    t.ok(&["run", "-d", "--name", &name, "busybox", "sh", "-c", "while :; do echo tick; sleep 0.02; done"])?;
    eventually("it ticks", Duration::from_secs(10), || Ok(!t.ok(&["logs", &name])?.is_empty()))?;
    equal!(t.ok(&["pause", &name])?, name);
    equal!(t.inspect(&name, "{{.State.Status}} {{.State.Paused}}")?, "paused true");
    check!(
        t.ok(&["ps", "--filter", &format!("name={name}"), "--format", "{{.Status}}"])?.ends_with("(Paused)"),
        "ps does not say it"
    );
    let ticks = t.ok(&["logs", &name])?.lines().count();
    std::thread::sleep(Duration::from_millis(300));
    equal!(t.ok(&["logs", &name])?.lines().count(), ticks);
    t.client
        .run(&["exec", &name, "true"])?
        .code(1)?
        .stderr_has("is paused, unpause the container before exec")?;
    equal!(t.ok(&["unpause", &name])?, name);
    eventually("it ticks again", Duration::from_secs(5), || {
        Ok(t.ok(&["logs", &name])?.lines().count() > ticks)
    })?;
    t.client.run(&["unpause", &name])?.code(1)?.stderr_has("is not paused")?;
    // Killed while it is frozen.
    t.ok(&["pause", &name])?;
    equal!(t.ok(&["kill", &name])?, name);
    equal!(t.ok(&["wait", &name])?, "137");
    Ok(())
}

fn wait_for_several(t: &Ctx) -> Result<()> {
    let (one, two) = (t.name("one"), t.name("two"));
    t.ok(&["run", "-d", "--name", &one, "busybox", "sh", "-c", "sleep 0.5; exit 1"])?;
    t.ok(&["run", "-d", "--name", &two, "busybox", "sh", "-c", "exit 2"])?;
    equal!(t.ok(&["wait", &one, &two])?, "1\n2");
    Ok(())
}

fn rename(t: &Ctx) -> Result<()> {
    let name = sleeper(t, "x")?;
    let new = t.name("new");
    t.ok(&["rename", &name, &new])?;
    equal!(t.inspect(&new, "{{.Name}}")?, format!("/{new}"));
    t.client.run(&["inspect", &name])?.code(1)?;
    let other = sleeper(t, "other")?;
    t.client
        .run(&["rename", &other, &new])?
        .code(1)?
        .stderr_has("Conflict")?
        .stderr_has("already in use by container")?;
    Ok(())
}

fn logs(t: &Ctx) -> Result<()> {
    let name = t.name("x");
    let script = "for i in 1 2 3 4 5; do echo out $i; echo err $i >&2; sleep 0.02; done; printf 'no newline'";
    t.ok(&["run", "-d", "--name", &name, "busybox", "sh", "-c", script])?;
    t.ok(&["wait", &name])?;
    let output = t.client.run(&["logs", &name])?;
    output.code(0)?;
    equal!(output.stdout, "out 1\nout 2\nout 3\nout 4\nout 5\nno newline");
    equal!(output.stderr, "err 1\nerr 2\nerr 3\nerr 4\nerr 5\n");
    let tail = t.client.run(&["logs", "--tail", "2", &name])?;
    equal!((tail.stdout.as_str(), tail.stderr.as_str()), ("no newline", "err 5\n"));
    equal!(t.client.run(&["logs", "-n", "0", &name])?.stdout, "");
    t.client
        .run(&["logs", "no-such-container"])?
        .code(1)?
        .stderr_has("No such container: no-such-container")?;
    Ok(())
}

fn logs_of_a_terminal(t: &Ctx) -> Result<()> {
    let name = t.name("x");
    t.ok(&["run", "-d", "-t", "--name", &name, "busybox", "sh", "-c", "echo out; echo err >&2"])?;
    t.ok(&["wait", &name])?;
    let output = t.client.run(&["logs", &name])?;
    equal!((output.stdout.as_str(), output.stderr.as_str()), ("out\r\nerr\r\n", ""));
    Ok(())
}

fn logs_follow(t: &Ctx) -> Result<()> {
    let name = t.name("x");
    t.ok(&[
        "run",
        "-d",
        "--name",
        &name,
        "busybox",
        "sh",
        "-c",
        "echo before; sleep 0.7; echo after; sleep 0.2",
    ])?;
    let following = t.client.start(&["logs", "-f", &name])?;
    following.finish(PATIENCE)?.code(0)?.stdout("before\nafter")?;
    Ok(())
}

fn logs_follow_from_start_to_end(t: &Ctx) -> Result<()> {
    let name = t.name("x");
    t.ok(&["run", "-d", "--name", &name, "busybox", "sh", "-c", "seq 1 20000; sleep 0.3; seq 20001 40000"])?;
    let output = t.client.start(&["logs", "-f", &name])?.finish(PATIENCE)?;
    output.code(0)?;
    check!(
        output.stdout.lines().enumerate().all(|(i, line)| line == (i + 1).to_string()),
        "lines are missing or out of order"
    );
    equal!(output.stdout.lines().count(), 40_000);
    Ok(())
}

fn logs_since_and_timestamps(t: &Ctx) -> Result<()> {
    let name = t.name("x");
    t.ok(&["run", "-d", "--name", &name, "busybox", "sh", "-c", "echo old; sleep 2.2; echo new"])?;
    t.ok(&["wait", &name])?;
    // Clients send whole seconds, rounded down.
    equal!(t.ok(&["logs", "--since", "1s", &name])?, "new");
    equal!(t.ok(&["logs", "--until", "1s", &name])?, "old");
    let stamped = t.ok(&["logs", "-t", &name])?;
    for line in stamped.lines() {
        let (stamp, _) = line.split_once(' ').unwrap_or_default();
        check!(stamp.len() == 30 && stamp.ends_with('Z') && stamp.contains('T'), "not a time stamp: {line}");
    }
    Ok(())
}

fn long_lines_stay_whole(t: &Ctx) -> Result<()> {
    let name = t.name("x");
    t.ok(&[
        "run",
        "-d",
        "--name",
        &name,
        "busybox",
        "sh",
        "-c",
        "head -c 100000 /dev/zero | tr '\\0' a; echo; echo short",
    ])?;
    t.ok(&["wait", &name])?;
    let text = t.ok(&["logs", &name])?;
    equal!(text.lines().map(str::len).collect::<Vec<_>>(), [100_000, 5]);
    Ok(())
}

fn top(t: &Ctx) -> Result<()> {
    let name = t.name("x");
    t.ok(&["run", "-d", "--name", &name, "busybox", "sleep", "1000"])?;
    let output = t.ok(&["top", &name])?;
    let head: Vec<&str> = output.lines().next().unwrap_or_default().split_whitespace().collect();
    equal!(head, ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
    check!(output.lines().nth(1).is_some_and(|line| line.ends_with("sleep 1000")), "{output}");
    let output = t.ok(&["top", &name, "-o", "pid,comm"])?;
    check!(output.starts_with("PID") && output.contains("sleep"), "{output}");
    Ok(())
}

fn stats(t: &Ctx) -> Result<()> {
    let name = t.name("x");
    t.ok(&["run", "-d", "--memory", "64m", "--name", &name, "busybox", "sh", "-c", "while :; do :; done"])?;
    let output = t.ok(&["stats", "--no-stream", &name])?;
    let head = output.lines().next().unwrap_or_default();
    let columns =
        ["CONTAINER ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET I/O", "BLOCK I/O", "PIDS"];
    check!(columns.iter().all(|column| head.contains(column)), "{head}");
    let values =
        t.ok(&["stats", "--no-stream", "--format", "{{.Name}}|{{.CPUPerc}}|{{.MemUsage}}|{{.PIDs}}", &name])?;
    let fields: Vec<&str> = values.split('|').collect();
    equal!(fields[0], name);
    let cpu: f64 = fields[1].trim_end_matches('%').parse()?;
    check!(cpu > 5.0, "a busy loop uses {cpu} % of a processor");
    check!(fields[2].ends_with("/ 64MiB"), "{values}");
    equal!(fields[3], "1");
    Ok(())
}

fn ps_columns(t: &Ctx) -> Result<()> {
    let name = t.name("x");
    let id = t.ok(&["run", "-d", "--name", &name, "busybox", "sleep", "1000"])?;
    let output = t.ok(&["ps", "--filter", &format!("name={name}")])?;
    let mut lines = output.lines();
    let head = lines
        .next()
        .unwrap_or_default()
        .split("  ")
        .map(str::trim)
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>();
    equal!(head, ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]);
    let row = lines.next().unwrap_or_default();
    check!(
        row.starts_with(&id[..12])
            && row.ends_with(&name)
            && row.contains("busybox")
            && row.contains("\"sleep 1000\""),
        "{row}"
    );
    check!(row.contains("Up ") && row.contains("second"), "{row}");
    equal!(t.ok(&["ps", "-q", "--filter", &format!("name={name}")])?, id[..12]);
    equal!(t.ok(&["ps", "-q", "--no-trunc", "--filter", &format!("name={name}")])?, id);
    Ok(())
}

fn ps_formats(t: &Ctx) -> Result<()> {
    let name = t.name("x");
    t.ok(&["run", "--name", &name, "busybox", "sh", "-c", "exit 3"]).err();
    let filter = format!("name={name}");
    let format = "{{.Names}} {{.Image}} {{.State}} {{.Command}}";
    equal!(
        t.ok(&["ps", "-a", "--filter", &filter, "--format", format])?,
        format!("{name} busybox exited \"sh -c 'exit 3'\"")
    );
    let line = t.ok(&["ps", "-a", "--filter", &filter, "--format", "json"])?;
    let json: serde_json::Value = serde_json::from_str(&line)?;
    equal!(json["Names"].as_str(), Some(name.as_str()));
    check!(json["Status"].as_str().is_some_and(|status| status.starts_with("Exited (3) ")), "{line}");
    let table = t.ok(&["ps", "-a", "--filter", &filter, "--format", "table {{.Names}}\t{{.State}}"])?;
    equal!(
        table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>(),
        ["NAMES STATE".to_owned(), format!("{name} exited")]
    );
    Ok(())
}

fn ps_filters(t: &Ctx) -> Result<()> {
    let (up, down) = (t.name("up"), t.name("down"));
    t.ok(&["run", "-d", "--name", &up, "--label", "colour=red", "busybox", "sleep", "1000"])?;
    t.ok(&["run", "--name", &down, "busybox", "sh", "-c", "exit 3"]).err();
    let base = up.trim_end_matches("up").to_owned();
    let names = |filters: &[&str]| -> Result<String> {
        let mut args = vec!["ps", "-a", "--format", "{{.Names}}", "--filter"];
        let name = format!("name={base}");
        args.push(&name);
        for filter in filters {
            args.extend(["--filter", filter]);
        }
        t.ok(&args)
    };
    equal!(names(&[])?, format!("{down}\n{up}"));
    equal!(names(&["status=running"])?, up);
    equal!(names(&["status=exited"])?, down);
    equal!(names(&["exited=3"])?, down);
    equal!(names(&["label=colour=red"])?, up);
    equal!(names(&["ancestor=busybox"])?, format!("{down}\n{up}"));
    equal!(t.ok(&["ps", "--format", "{{.Names}}", "--filter", &format!("name={base}")])?, up);
    t.client.run(&["ps", "--filter", "nonsense=1"])?.code(1)?.stderr_has("nvalid filter 'nonsense'")?;
    Ok(())
}

fn inspect_formats(t: &Ctx) -> Result<()> {
    let name = t.name("x");
    let id = t.ok(&[
        "run",
        "-d",
        "--name",
        &name,
        "-e",
        "A=1",
        "--restart",
        "no",
        "-w",
        "/tmp",
        "busybox",
        "sleep",
        "1000",
    ])?;
    let json: serde_json::Value = serde_json::from_str(&t.ok(&["inspect", &name])?)?;
    let container = &json[0];
    equal!(container["Id"].as_str(), Some(id.as_str()));
    equal!(container["Config"]["WorkingDir"].as_str(), Some("/tmp"));
    equal!(container["Path"].as_str(), Some("sleep"));
    equal!(container["Args"], serde_json::json!(["1000"]));
    equal!(container["HostConfig"]["RestartPolicy"]["Name"].as_str(), Some("no"));
    equal!(
        container["HostConfig"]["NetworkMode"].as_str().map(|mode| matches!(mode, "bridge" | "default")),
        Some(true)
    );
    equal!(container["State"]["Running"].as_bool(), Some(true));
    check!(container["State"]["Pid"].as_i64().is_some_and(|pid| pid > 1), "no pid");
    check!(container["Image"].as_str().is_some_and(|image| image.starts_with("sha256:")), "no image");
    check!(
        container["Mounts"].is_array() && container["NetworkSettings"]["Networks"]["bridge"].is_object(),
        "no networks"
    );
    equal!(t.inspect(&name, "{{range .Config.Env}}{{println .}}{{end}}")?.lines().next(), Some("A=1"));
    equal!(t.inspect(&name, "{{json .State.Status}}")?, "\"running\"");
    equal!(t.inspect(&id[..12], "{{.Name}}")?, format!("/{name}"));
    Ok(())
}

fn inspect_missing(t: &Ctx) -> Result<()> {
    let output = t.client.run(&["inspect", "no-such-thing"])?;
    output.code(1)?.stdout("[]")?;
    check!(output.stderr.to_lowercase().contains("no such object: no-such-thing"), "{output}");
    Ok(())
}

fn rm_refuses_a_running_one(t: &Ctx) -> Result<()> {
    let name = sleeper(t, "x")?;
    let output = t.client.run(&["rm", &name])?;
    output.code(1)?.stderr_has("cannot remove container")?.stderr_has("container is running")?;
    equal!(t.ok(&["rm", "-f", &name])?, name);
    t.client.run(&["rm", &name])?.code(1)?.stderr_has(&format!("No such container: {name}"))?;
    Ok(())
}

fn rm_refuses_one_that_restarts(t: &Ctx) -> Result<()> {
    let name = t.name("failing");
    t.ok(&["run", "-d", "--name", &name, "--restart", "always", "busybox", "false"])?;
    // From the fifth failure on it waits for seconds.
    eventually("it waits", Duration::from_secs(40), || {
        let state = t.inspect(&name, "{{.State.Status}} {{.RestartCount}}")?;
        let failures = state.strip_prefix("restarting ").and_then(|count| count.parse::<u32>().ok());
        Ok(failures.is_some_and(|count| count >= 5))
    })?;
    // Between two waits it runs, and then another reason is given.
    eventually("it is refused for restarting", Duration::from_secs(40), || {
        let refused = t.client.run(&["rm", &name])?;
        let why = "container is restarting: stop the container before removing or force remove";
        Ok(refused.code(1)?.stderr.contains(why))
    })?;
    t.ok(&["rm", "-f", &name])?;
    t.client.run(&["inspect", &name])?.code(1).map(drop)
}

fn rm_missing(t: &Ctx) -> Result<()> {
    t.client
        .run(&["rm", "-f", "no-such-container"])?
        .code(0)?
        .stderr_has("No such container: no-such-container")?;
    Ok(())
}

fn several_arguments(t: &Ctx) -> Result<()> {
    let (one, two) = (sleeper(t, "one")?, sleeper(t, "two")?);
    let output = t.client.run(&["stop", &one, "no-such-container", &two])?;
    output.code(1)?.stderr_has("No such container: no-such-container")?;
    let mut stopped: Vec<&str> = output.stdout.lines().collect();
    stopped.sort_unstable();
    equal!(stopped, [one.as_str(), two.as_str()]);
    Ok(())
}

fn addresses_are_taken_lowest_first(t: &Ctx) -> Result<()> {
    // Other tests take and give back addresses meanwhile; what can be said is that an address that is
    // free again is used again.
    let name = t.name("x");
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..6 {
        t.ok(&["run", "-d", "--name", &name, "busybox", "sleep", "1000"])?;
        seen.insert(t.inspect(&name, "{{.NetworkSettings.IPAddress}}")?);
        t.ok(&["rm", "-f", &name])?;
    }
    check!(seen.len() < 6, "six containers one after another got six addresses: {seen:?}");
    Ok(())
}
