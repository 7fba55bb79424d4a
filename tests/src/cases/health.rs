//! Health checks: states, results, time limits, pauses, and what a label has done about them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;

use super::{cases, check, equal};
use crate::harness::daemon::Daemon;
use crate::harness::{Case, Ctx, eventually};

const PATIENCE: Duration = Duration::from_secs(20);

pub fn cases() -> Vec<Case> {
    let mut all = cases!(
        "health",
        EachClient,
        [
            healthy,
            unhealthy_after_retries,
            failures_in_the_start_period_do_not_count,
            a_slow_probe_is_ended,
            only_the_last_five_results_are_kept,
            a_paused_container_is_not_probed,
            no_check_no_state,
            bad_settings_are_refused,
            events_of_probes,
            filters,
        ]
    );
    all.extend(cases!(
        "health",
        Engine,
        [
            a_label_restarts,
            a_label_stops,
            a_label_kills,
            bad_labels_are_refused,
            children_of_a_slow_probe_end
        ]
    ));
    all.extend(cases!("health", Nothing, [health_survives_the_daemon]));
    all
}

fn run(t: &Ctx, what: &str, options: &[&str]) -> Result<String> {
    let name = t.name(what);
    let mut args = vec!["run", "-d", "--name", &name];
    args.extend(options);
    args.extend(["busybox", "sleep", "1000"]);
    t.ok(&args)?;
    Ok(name)
}

fn health(t: &Ctx, name: &str) -> Result<String> {
    t.inspect(name, "{{.State.Health.Status}}")
}

fn becomes(t: &Ctx, name: &str, wanted: &str) -> Result<()> {
    eventually(wanted, PATIENCE, || Ok(health(t, name)? == wanted))
}

fn status(t: &Ctx, name: &str) -> Result<String> {
    t.ok(&["ps", "-a", "--filter", &format!("name=^{name}$"), "--format", "{{.Status}}"])
}

fn healthy(t: &Ctx) -> Result<()> {
    let name = run(t, "x", &["--health-cmd", "echo fine", "--health-interval", "500ms"])?;
    equal!(health(t, &name)?, "starting");
    check!(status(t, &name)?.ends_with("(health: starting)"), "{}", status(t, &name)?);
    becomes(t, &name, "healthy")?;
    check!(status(t, &name)?.ends_with("(healthy)"), "{}", status(t, &name)?);
    let result = t.inspect(&name, "{{with index .State.Health.Log 0}}{{.ExitCode}} {{.Output}}{{end}}")?;
    equal!(result.trim(), "0 fine");
    equal!(t.inspect(&name, "{{json .Config.Healthcheck.Test}}")?, r#"["CMD-SHELL","echo fine"]"#);
    // Docker calls a container whose checks have ended unhealthy.
    t.ok(&["stop", "-t", "0", &name])?;
    equal!(health(t, &name)?, "unhealthy");
    t.ok(&["start", &name])?;
    equal!(health(t, &name)?, "starting");
    Ok(())
}

fn unhealthy_after_retries(t: &Ctx) -> Result<()> {
    let options =
        ["--health-cmd", "echo no >&2; exit 3", "--health-interval", "200ms", "--health-retries", "2"];
    let name = run(t, "x", &options)?;
    becomes(t, &name, "unhealthy")?;
    check!(status(t, &name)?.ends_with("(unhealthy)"), "{}", status(t, &name)?);
    let result = t.inspect(&name, "{{with index .State.Health.Log 0}}{{.ExitCode}} {{.Output}}{{end}}")?;
    equal!(result.trim(), "3 no");
    check!(t.inspect(&name, "{{.State.Health.FailingStreak}}")?.parse::<u32>()? >= 2, "no streak");
    // It recovers as soon as a probe succeeds.
    let file = t.name("y");
    let options = [
        "--health-cmd",
        "test -e /ok",
        "--health-interval",
        "200ms",
        "--health-retries",
        "1",
        "--name",
        &file,
    ];
    let mut args = vec!["run", "-d"];
    args.extend(options);
    args.extend(["busybox", "sleep", "1000"]);
    t.ok(&args)?;
    becomes(t, &file, "unhealthy")?;
    t.ok(&["exec", &file, "touch", "/ok"])?;
    becomes(t, &file, "healthy")?;
    equal!(t.inspect(&file, "{{.State.Health.FailingStreak}}")?, "0");
    Ok(())
}

fn failures_in_the_start_period_do_not_count(t: &Ctx) -> Result<()> {
    let options = [
        "--health-cmd",
        "false",
        "--health-interval",
        "200ms",
        "--health-start-interval",
        "200ms",
        "--health-start-period",
        "1h",
        "--health-retries",
        "1",
    ];
    let name = run(t, "x", &options)?;
    let probes = || Ok(t.inspect(&name, "{{len .State.Health.Log}}")?.parse::<u32>()? >= 3);
    eventually("three probes", PATIENCE, probes)?;
    equal!(t.inspect(&name, "{{.State.Health.Status}} {{.State.Health.FailingStreak}}")?, "starting 0");
    Ok(())
}

fn a_slow_probe_is_ended(t: &Ctx) -> Result<()> {
    let options = [
        "--health-cmd",
        "echo began; sleep 100",
        "--health-interval",
        "200ms",
        "--health-timeout",
        "1s",
        "--health-retries",
        "1",
    ];
    let name = run(t, "x", &options)?;
    becomes(t, &name, "unhealthy")?;
    let result = t.inspect(&name, "{{with index .State.Health.Log 0}}{{.ExitCode}} {{.Output}}{{end}}")?;
    equal!(result.trim(), "-1 Health check exceeded timeout (1s): began");
    Ok(())
}

fn only_the_last_five_results_are_kept(t: &Ctx) -> Result<()> {
    let script =
        "n=$(cat /n 2>/dev/null || echo 0); echo $((n+1)) | tee /n; head -c 5000 /dev/zero | tr '\\0' x";
    let name = run(t, "x", &["--health-cmd", script, "--health-interval", "150ms"])?;
    let last = "{{range .State.Health.Log}}{{printf \"%.2s\" .Output}} {{end}}";
    eventually("the seventh probe", PATIENCE, || Ok(t.inspect(&name, last)?.contains('7')))?;
    equal!(t.inspect(&name, "{{len .State.Health.Log}}")?, "5");
    // 4096 bytes and three dots.
    equal!(t.inspect(&name, "{{len (index .State.Health.Log 4).Output}}")?, "4099");
    Ok(())
}

fn a_paused_container_is_not_probed(t: &Ctx) -> Result<()> {
    let name = run(t, "x", &["--health-cmd", "true", "--health-interval", "200ms"])?;
    becomes(t, &name, "healthy")?;
    t.ok(&["pause", &name])?;
    equal!(health(t, &name)?, "unhealthy");
    let last = "{{with .State.Health.Log}}{{(index . 0).Start}}{{end}}";
    let before = t.inspect(&name, last)?;
    std::thread::sleep(Duration::from_secs(1));
    equal!(t.inspect(&name, last)?, before);
    t.ok(&["unpause", &name])?;
    becomes(t, &name, "healthy")
}

fn no_check_no_state(t: &Ctx) -> Result<()> {
    let name = run(t, "x", &["--no-healthcheck"])?;
    equal!(t.inspect(&name, "{{json .State.Health}}")?, "null");
    equal!(t.inspect(&name, "{{json .Config.Healthcheck.Test}}")?, r#"["NONE"]"#);
    let only_times = run(t, "y", &["--health-interval", "1s"])?;
    equal!(t.inspect(&only_times, "{{json .State.Health}}")?, "null");
    Ok(())
}

fn bad_settings_are_refused(t: &Ctx) -> Result<()> {
    for (options, text) in [
        (&["--health-interval", "1us"][..], "Interval in Healthcheck cannot be less than 1ms"),
        (&["--health-timeout", "999us"], "Timeout in Healthcheck cannot be less than 1ms"),
        (&["--health-start-period", "1us"], "StartPeriod in Healthcheck cannot be less than 1ms"),
        (&["--health-start-interval", "1us"], "StartInterval in Healthcheck cannot be less than 1ms"),
        (&["--health-retries", "-1"], "--health-retries cannot be negative"),
        (&["--health-interval", "-1s"], "--health-interval cannot be negative"),
        (&["--no-healthcheck", "--health-cmd", "x"], "--no-healthcheck conflicts with --health-* options"),
    ] {
        let mut args = vec!["run", "--rm"];
        args.extend(options);
        args.extend(["busybox", "true"]);
        t.client.run(&args)?.code(125)?.stderr_has(text)?;
    }
    Ok(())
}

fn events_of_probes(t: &Ctx) -> Result<()> {
    let name = t.name("x");
    let end = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() + 4;
    let (until, filter) = (end.to_string(), format!("container={name}"));
    // Not those of the past: the engine remembers only so many, and other tests have many probes.
    let args = ["events", "--until", &until, "--format", "{{.Action}}", "--filter", &filter];
    let events = t.client.start(&args)?;
    let args =
        ["run", "-d", "--name", &name, "--health-cmd", "exit 0", "--health-interval", "300ms", "busybox"];
    let mut args = args.to_vec();
    args.extend(["sleep", "1000"]);
    t.ok(&args)?;
    becomes(t, &name, "healthy")?;
    t.ok(&["rm", "-f", &name])?;
    let events = events.finish(PATIENCE)?.stdout;
    let expected =
        "exec_create: /bin/sh -c exit 0\nexec_start: /bin/sh -c exit 0\nexec_die\nhealth_status: healthy";
    check!(events.contains(expected), "{events}");
    equal!(events.matches("health_status").count(), 1);
    Ok(())
}

fn filters(t: &Ctx) -> Result<()> {
    let good = run(t, "good", &["--health-cmd", "true", "--health-interval", "200ms"])?;
    let none = run(t, "none", &[])?;
    becomes(t, &good, "healthy")?;
    let listed = |health: &str| {
        let filter = format!("health={health}");
        t.ok(&["ps", "-a", "--filter", &filter, "--format", "{{.Names}}"])
    };
    check!(listed("healthy")?.lines().any(|n| n == good), "not listed as healthy");
    check!(listed("none")?.lines().any(|n| n == none), "not listed as none");
    check!(!listed("unhealthy")?.lines().any(|n| n == good || n == none), "listed as unhealthy");
    t.client.run(&["ps", "--filter", "health=ill"])?.code(1)?.stderr_has("invalid filter 'health=ill'")?;
    Ok(())
}

const FAILING: [&str; 6] = ["--health-cmd", "false", "--health-interval", "200ms", "--health-retries", "1"];

fn failing(t: &Ctx, action: &str) -> Result<String> {
    let label = format!("ferry.health.action={action}");
    let mut options = FAILING.to_vec();
    options.extend(["--init", "--label", &label]);
    run(t, action, &options)
}

fn a_label_restarts(t: &Ctx) -> Result<()> {
    let name = failing(t, "restart")?;
    eventually("two restarts", PATIENCE, || Ok(t.inspect(&name, "{{.RestartCount}}")?.parse::<u32>()? >= 2))?;
    // What a user stops stays stopped.
    t.ok(&["stop", &name])?;
    std::thread::sleep(Duration::from_secs(1));
    equal!(t.inspect(&name, "{{.State.Status}}")?, "exited");
    Ok(())
}

fn a_label_stops(t: &Ctx) -> Result<()> {
    let name = failing(t, "stop")?;
    equal!(t.ok(&["wait", &name])?, "143");
    equal!(t.inspect(&name, "{{.State.Status}} {{.RestartCount}}")?, "exited 0");
    Ok(())
}

fn a_label_kills(t: &Ctx) -> Result<()> {
    let name = failing(t, "kill")?;
    equal!(t.ok(&["wait", &name])?, "137");
    Ok(())
}

fn bad_labels_are_refused(t: &Ctx) -> Result<()> {
    let label = "ferry.health.action=explode";
    t.client
        .run(&["run", "--rm", "--label", label, "busybox", "true"])?
        .code(125)?
        .stderr_has("invalid value for label ferry.health.action: 'explode'")?;
    let mut args = vec!["run", "--rm", "--label", "ferry.health.action=restart"];
    args.extend(FAILING);
    args.extend(["busybox", "true"]);
    t.client.run(&args)?.code(125)?.stderr_has("can't create 'AutoRemove' container")?;
    Ok(())
}

fn children_of_a_slow_probe_end(t: &Ctx) -> Result<()> {
    // Neither its session nor its parentage leads to this child.
    let script = "(setsid sleep 4711 &); sleep 4712";
    let options = [
        "--health-cmd",
        script,
        "--health-interval",
        "100ms",
        "--health-timeout",
        "300ms",
        "--health-retries",
        "1",
    ];
    let name = run(t, "x", &options)?;
    becomes(t, &name, "unhealthy")?;
    t.ok(&["pause", &name])?;
    t.ok(&["unpause", &name])?;
    let processes = t.ok(&["top", &name, "-o", "pid,args"])?;
    check!(processes.matches("sleep 4711").count() <= 1, "{processes}");
    Ok(())
}

fn health_survives_the_daemon(t: &Ctx) -> Result<()> {
    let daemon = Daemon::start(&t.settings, "health")?;
    let client = daemon.client()?;
    crate::harness::daemon::import_images(&t.settings, &client)?;
    let args =
        ["run", "-d", "--name", "web", "--health-cmd", "true", "--health-interval", "300ms", "busybox"];
    let mut args = args.to_vec();
    args.extend(["sleep", "1000"]);
    client.ok(&args)?;
    let health = || client.ok(&["inspect", "-f", "{{.State.Health.Status}}", "web"]);
    eventually("it is healthy", PATIENCE, || Ok(health()? == "healthy"))?;
    daemon.kill()?;
    daemon.up()?;
    equal!(health()?, "healthy");
    let first = || client.ok(&["inspect", "-f", "{{(index .State.Health.Log 0).Start}}", "web"]);
    let before = first()?;
    eventually("probes go on", PATIENCE, || Ok(first()? != before))?;
    client.ok(&["rm", "-f", "web"])?;
    Ok(())
}
