//! Other OCI runtimes than ferry's own: runc and crun, as Debian has them, do what users expect of containers, and how they are
//! registered.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{cases, check, equal};
use crate::harness::client::Client;
use crate::harness::daemon::{self, Daemon};
use crate::harness::process::{self, Output};
use crate::harness::pty::Pty;
use crate::harness::{Case, Ctx, archive, eventually, http, leaks, skip};

const PATIENCE: Duration = Duration::from_secs(20);

pub fn cases() -> Vec<Case> {
    cases!(
        "runtimes",
        Nothing,
        [
            processes,
            terminals,
            life,
            restart_policy,
            limits,
            files,
            volumes,
            shared_mounts,
            networks,
            namespaces,
            health,
            engine_is_killed,
            shim_is_killed,
            programs_that_cannot_run,
            registration,
            mistakes,
        ]
    )
}

/// An engine with both runtimes, and one of them to run containers with.
struct Bed<'a> {
    daemon: &'a Daemon,
    client: Client,
    runtime: &'static str,
}

impl Bed<'_> {
    /// Arguments of `run`, with the runtime.
    fn run(&self, args: &[&str]) -> Result<Output> {
        self.client.run(&[&["run", "--runtime", self.runtime], args].concat())
    }

    /// What a container writes that must succeed, and that is removed.
    fn output(&self, args: &[&str]) -> Result<String> {
        let output = self.run(&[&["--rm"], args].concat())?;
        output.code(0)?;
        Ok(output.stdout.trim_end().to_owned())
    }

    /// A container in the background that sleeps.
    fn idle(&self, name: &str, args: &[&str]) -> Result<()> {
        self.run(&[&["-d", "--name", name], args, &["busybox", "sleep", "1000"]].concat())?.code(0)?;
        Ok(())
    }

    fn inspect(&self, name: &str, template: &str) -> Result<String> {
        self.client.ok(&["inspect", "-f", template, name])
    }

    fn remove(&self, name: &str) -> Result<()> {
        self.client.ok(&["rm", "-f", name]).map(drop)
    }

    /// Nothing of any container is left below the exec root, and nothing is mounted.
    fn nothing_left(&self) -> Result<()> {
        let containers = self.daemon.run.join("exec/containers");
        eventually("run directories are gone", PATIENCE, || Ok(names_in(&containers)?.is_empty()))?;
        let mounts = leaks::mounts_below(&[&self.daemon.run]);
        check!(mounts.is_empty(), "{} left {mounts:?}", self.runtime);
        Ok(())
    }
}

fn names_in(dir: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(dir).with_context(|| dir.display().to_string())?;
    Ok(entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}

/// Where a runtime is on this machine; without it the test is skipped.
pub fn program(t: &Ctx, name: &str) -> Result<PathBuf> {
    let Some(root) = &t.settings.runtimes else { return skip("no runc and crun on this machine") };
    let places = ["usr/sbin", "usr/bin"].map(|dir| root.join(dir).join(name));
    places.into_iter().find(|path| path.exists()).with_context(|| format!("no {name} in {}", root.display()))
}

/// Runs a test with each runtime, on one engine; in the end nothing may be left.
fn with_each(t: &Ctx, label: &str, test: fn(&Bed<'_>) -> Result<()>) -> Result<()> {
    let registered = |name: &str, file: &str| -> Result<String> {
        Ok(format!("--add-runtime={name}={}", program(t, file)?.display()))
    };
    let (runc, crun) = (registered("other-runc", "runc")?, registered("crun", "crun")?);
    let options = [runc.as_str(), crun.as_str()];
    let daemon = Daemon::start_with(&t.settings, label, None, &options)?;
    daemon::import_images(&t.settings, &daemon.client()?)?;
    for runtime in ["other-runc", "crun"] {
        let bed = Bed { daemon: &daemon, client: daemon.client()?, runtime };
        test(&bed).and_then(|()| bed.nothing_left()).with_context(|| format!("with {runtime}"))?;
    }
    let problems = daemon.finish();
    check!(problems.is_empty(), "{problems:?}");
    Ok(())
}

fn processes(t: &Ctx) -> Result<()> {
    with_each(t, "rt-processes", |bed| {
        let output = bed.run(&["--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 7"])?;
        output.code(7)?.stdout("out")?;
        equal!(output.stderr, "err\n");
        // Process 1 is not killed from inside.
        bed.run(&["--rm", "busybox", "sh", "-c", "kill -KILL $$; exit 6"])?.code(6)?;
        let text = "line\n".repeat(20_000);
        let count = ["run", "--rm", "-i", "--runtime", bed.runtime, "busybox", "wc", "-l"];
        bed.client.run_with(&count, text.clone())?.code(0)?.stdout("20000")?;
        let script = "id -u; id -G; echo $HOME $A; pwd; ulimit -n; hostname; cat /proc/sys/kernel/domainname";
        let options =
            ["-u", "1000:33", "--group-add", "44", "-e", "A=b", "-w", "/tmp", "--ulimit", "nofile=99:99"];
        let names = ["--hostname", "hh", "--domainname", "dd.example"];
        let text = bed.output(&[&options[..], &names, &["busybox", "sh", "-c", script]].concat())?;
        equal!(text, "1000\n33 44\n/ b\n/tmp\n99\nhh\ndd.example");
        // As Docker restricts them.
        let text =
            bed.output(&["busybox", "grep", "-E", "^(CapEff|Seccomp|NoNewPrivs):", "/proc/self/status"])?;
        equal!(
            text.split_whitespace().collect::<Vec<_>>(),
            ["CapEff:", "00000000a80425fb", "NoNewPrivs:", "0", "Seccomp:", "2"]
        );
        check!(bed.output(&["--init", "busybox", "ps"])?.contains("docker-init"), "no init");

        bed.idle("box", &["-e", "FROM_RUN=1"])?;
        let exec = |args: &[&str]| bed.client.run(&[&["exec"], args].concat());
        let output = exec(&["box", "sh", "-c", "echo out $FROM_RUN; echo err >&2; exit 5"])?;
        output.code(5)?.stdout("out 1")?;
        equal!(output.stderr, "err\n");
        exec(&["-u", "33", "-w", "/etc", "-e", "A=b", "box", "sh", "-c", "id -u; pwd; echo $A"])?
            .stdout("33\n/etc\nb")?;
        bed.client.run_with(&["exec", "-i", "box", "wc", "-l"], text_lines())?.code(0)?.stdout("5000")?;
        exec(&["-d", "box", "sh", "-c", "echo here > /tmp/made"])?.code(0)?;
        eventually("the detached exec ran", PATIENCE, || {
            Ok(exec(&["box", "cat", "/tmp/made"])?.stdout == "here\n")
        })?;
        // Several at once, and the container's end is theirs.
        let many: Vec<_> =
            (0..5).map(|_| bed.client.start(&["exec", "box", "sleep", "1000"])).collect::<Result<_>>()?;
        eventually("all run", PATIENCE, || {
            Ok(bed.client.ok(&["top", "box"])?.matches("sleep 1000").count() == 6)
        })?;
        bed.remove("box")?;
        for running in many {
            running.finish(PATIENCE)?.code(137)?;
        }
        Ok(())
    })
}

fn text_lines() -> String {
    "line\n".repeat(5000)
}

fn terminals(t: &Ctx) -> Result<()> {
    with_each(t, "rt-terminals", |bed| {
        let run = ["run", "--rm", "-it", "--runtime", bed.runtime, "--name", "tty", "busybox", "sh"];
        let mut pty = Pty::start(&bed.client.command(&run), 31, 91)?;
        pty.expect("#")?;
        pty.send("stty size; tty\n")?;
        pty.expect("31 91")?;
        pty.expect("/dev/pts/0")?;
        pty.resize(40, 100)?;
        pty.send("sleep 1; stty size\n")?;
        pty.expect("40 100")?;
        let mut exec = Pty::start(&bed.client.command(&["exec", "-it", "tty", "sh"]), 21, 71)?;
        exec.expect("#")?;
        exec.send("stty size; tty; exit 4\n")?;
        exec.expect("21 71")?;
        exec.expect("/dev/pts/1")?;
        equal!(exec.wait()?, 4);
        pty.send("exit 3\n")?;
        equal!(pty.wait()?, 3);
        Ok(())
    })
}

fn life(t: &Ctx) -> Result<()> {
    with_each(t, "rt-life", |bed| {
        let script =
            "trap 'echo stopping; exit 3' TERM; echo started; echo err >&2; while :; do sleep 0.05; done";
        bed.run(&["-d", "--name", "box", "busybox", "sh", "-c", script])?.code(0)?;
        equal!(bed.inspect("box", "{{.HostConfig.Runtime}}")?, bed.runtime);
        eventually("it has started", PATIENCE, || {
            Ok(bed.client.run(&["logs", "box"])?.stdout == "started\n")
        })?;
        bed.client.ok(&["pause", "box"])?;
        equal!(bed.inspect("box", "{{.State.Status}}")?, "paused");
        bed.client.run(&["exec", "box", "true"])?.code(1)?.stderr_has("is paused")?;
        bed.client.ok(&["unpause", "box"])?;
        equal!(bed.client.ok(&["exec", "box", "echo", "thawed"])?, "thawed");
        bed.client.ok(&["stop", "box"])?;
        equal!(bed.inspect("box", "{{.State.ExitCode}} {{.State.Status}}")?, "3 exited");
        equal!(bed.client.run(&["logs", "box"])?.stdout, "started\nstopping\n");
        bed.nothing_left()?;
        bed.client.ok(&["start", "box"])?;
        bed.client.ok(&["restart", "-t", "1", "box"])?;
        bed.client.ok(&["kill", "box"])?;
        eventually("it has ended", PATIENCE, || Ok(bed.inspect("box", "{{.State.Status}}")? == "exited"))?;
        equal!(bed.inspect("box", "{{.State.ExitCode}}")?, "137");
        bed.nothing_left()?;
        // Killed while it is frozen.
        bed.client.ok(&["start", "box"])?;
        bed.client.ok(&["pause", "box"])?;
        bed.client.ok(&["kill", "box"])?;
        equal!(bed.client.ok(&["wait", "box"])?, "137");
        bed.remove("box")?;
        // Without its own pid namespace nothing of it may be left all the same.
        bed.run(&["-d", "--name", "box", "--pid", "host", "busybox", "sh", "-c", "sleep 2345 & sleep 2346"])?;
        bed.remove("box")?;
        let left = leaks::processes_named("sleep").into_iter().filter(|pid| leaks::mentions(*pid, "234"));
        equal!(left.count(), 0);
        Ok(())
    })
}

fn restart_policy(t: &Ctx) -> Result<()> {
    with_each(t, "rt-restart", |bed| {
        let args =
            ["-d", "--name", "box", "--restart", "on-failure:2", "busybox", "sh", "-c", "echo run; exit 4"];
        bed.run(&args)?.code(0)?;
        eventually("it has given up", PATIENCE, || {
            Ok(bed.inspect("box", "{{.RestartCount}} {{.State.ExitCode}} {{.State.Status}}")? == "2 4 exited")
        })?;
        equal!(bed.client.ok(&["logs", "box"])?, "run\nrun\nrun");
        bed.remove("box")
    })
}

fn limits(t: &Ctx) -> Result<()> {
    with_each(t, "rt-limits", |bed| {
        let wanted = ["-m", "64m", "--memory-swap", "64m", "--pids-limit", "50", "--cpus", "0.5"];
        bed.idle("box", &wanted)?;
        let id = bed.inspect("box", "{{.Id}}")?;
        let group = |v1: &str, v2: &str| -> Result<String> {
            let below = format!("{}/{id}", leaks::cgroup_parent());
            let (controller, file) = v1.split_once('/').context("controller/file")?;
            let old = format!("/sys/fs/cgroup/{controller}{below}/{file}");
            let path = if Path::new(&old).exists() { old } else { format!("/sys/fs/cgroup{below}/{v2}") };
            Ok(std::fs::read_to_string(&path).with_context(|| path)?.trim().to_owned())
        };
        equal!(group("memory/memory.limit_in_bytes", "memory.max")?, (64 << 20).to_string());
        equal!(group("pids/pids.max", "pids.max")?, "50");
        check!(group("cpu/cpu.cfs_quota_us", "cpu.max")?.starts_with("50000"), "no cpu limit");
        bed.client.ok(&["update", "-m", "70m", "--memory-swap", "70m", "box"])?;
        equal!(group("memory/memory.limit_in_bytes", "memory.max")?, (70 << 20).to_string());
        let stats = bed.client.ok(&["stats", "--no-stream", "--format", "{{.MemUsage}} {{.PIDs}}", "box"])?;
        check!(stats.contains("/ 70MiB") && stats.ends_with(" 1"), "{stats}");
        bed.remove("box")?;
        bed.run(&["--name", "box", "-m", "16m", "busybox", "tail", "/dev/zero"])?.code(137)?;
        equal!(bed.inspect("box", "{{.State.OOMKilled}}")?, "true");
        bed.remove("box")
    })
}

fn files(t: &Ctx) -> Result<()> {
    with_each(t, "rt-files", |bed| {
        bed.idle("box", &["--tmpfs", "/t"])?;
        let dir = bed.daemon.dir.join("copied");
        let file = archive::save(&dir, "file", b"contents")?.display().to_string();
        bed.client.ok(&["cp", &file, "box:/t/in"])?;
        equal!(bed.client.ok(&["exec", "box", "cat", "/t/in"])?, "contents");
        bed.client.ok(&["exec", "box", "sh", "-c", "echo more > /root/out"])?;
        bed.client.ok(&["cp", "box:/root/out", &dir.join("out").display().to_string()])?;
        equal!(std::fs::read_to_string(dir.join("out"))?, "more\n");
        check!(bed.client.ok(&["diff", "box"])?.contains("A /root/out"), "diff misses a file");
        bed.client.ok(&["commit", "box", "made:of-it"])?;
        bed.remove("box")?;
        equal!(bed.output(&["made:of-it", "cat", "/root/out"])?, "more");
        let script = "touch /x 2>/dev/null || echo refused; touch /tmp/x && echo taken";
        equal!(
            bed.output(&["--read-only", "--tmpfs", "/tmp", "busybox", "sh", "-c", script])?,
            "refused\ntaken"
        );
        bed.client.ok(&["rmi", "made:of-it"]).map(drop)
    })
}

fn volumes(t: &Ctx) -> Result<()> {
    with_each(t, "rt-volumes", |bed| {
        let host = archive::save(&bed.daemon.dir.join("bound"), "file", b"bound\n")?.display().to_string();
        let bind = format!("{host}:/bound");
        let script =
            "mkdir -p /v/part; echo inside > /v/part/file; echo one > /v/one; cat /bound; echo x >> /bound";
        equal!(bed.output(&["-v", "vol:/v", "-v", &bind, "busybox", "sh", "-c", script])?, "bound");
        equal!(std::fs::read_to_string(&host)?, "bound\nx\n");
        let mount =
            |options: &str, script: &str| bed.output(&["--mount", options, "busybox", "sh", "-c", script]);
        let refused = |path: &str| format!("(echo y > {path}) 2>/dev/null || echo refused");
        let bound = format!("type=bind,src={host},dst=/bound,readonly");
        equal!(mount(&bound, &refused("/bound"))?, "refused");
        // What ferry prepares for them: parts of volumes, and images.
        equal!(mount("type=volume,src=vol,dst=/m,volume-subpath=part", "cat /m/file")?, "inside");
        equal!(mount("type=volume,src=vol,dst=/m,volume-subpath=one", "cat /m")?, "one");
        let part = "type=volume,src=vol,dst=/m,volume-subpath=one,readonly";
        equal!(mount(part, &refused("/m"))?, "refused");
        let image = "type=image,src=hello-world,dst=/m";
        equal!(mount(image, &format!("ls /m/hello; {}", refused("/m/x")))?, "/m/hello\nrefused");
        bed.run(&["--rm", "--mount", "type=volume,src=vol,dst=/m,volume-subpath=../..", "busybox", "true"])?
            .code(125)?;
        bed.client.ok(&["volume", "rm", "vol"]).map(drop)
    })
}

fn shared_mounts(t: &Ctx) -> Result<()> {
    with_each(t, "rt-shared", |bed| {
        let dir = bed.daemon.dir.join("shared");
        std::fs::create_dir_all(&dir)?;
        let path = dir.display().to_string();
        let mount = |args: &[&str]| {
            let mut command = Command::new("mount");
            command.args(args);
            process::ok(command).map(drop)
        };
        mount(&["--bind", &path, &path])?;
        let tried = mount(&["--make-shared", &path]).and_then(|()| propagation(bed, &dir));
        for _ in 0..4 {
            let _ = rustix::mount::unmount(dir.join("below"), rustix::mount::UnmountFlags::DETACH);
        }
        rustix::mount::unmount(&dir, rustix::mount::UnmountFlags::DETACH)?;
        tried
    })
}

/// What is mounted on one side of a bind is seen on the other when the bind says so.
fn propagation(bed: &Bed<'_>, dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir.join("below"))?;
    let path = dir.display();
    let seen = |name: &str| bed.client.ok(&["exec", name, "sh", "-c", "ls /s/below"]);
    bed.idle("slave", &["-v", &format!("{path}:/s:rslave")])?;
    bed.idle("private", &["-v", &format!("{path}:/s")])?;
    bed.idle("shared", &["--privileged", "-v", &format!("{path}:/s:rshared")])?;
    bed.client.ok(&["exec", "shared", "mount", "-t", "tmpfs", "tmpfs", "/s/below"])?;
    bed.client.ok(&["exec", "shared", "touch", "/s/below/made"])?;
    equal!(names_in(&dir.join("below"))?, ["made"]);
    equal!(seen("slave")?, "made");
    equal!(seen("private")?, "");
    // The root file system is nobody else's.
    check!(leaks::mounts_below(&[&bed.daemon.run]).is_empty(), "the root file system is seen on the host");
    for name in ["slave", "private", "shared"] {
        bed.remove(name)?;
    }
    Ok(())
}

fn networks(t: &Ctx) -> Result<()> {
    with_each(t, "rt-networks", |bed| {
        let serve = "echo page > /index.html; httpd -f -p 80 -h /";
        bed.run(&["-d", "--name", "web", "-p", "127.0.0.1::80", "busybox", "sh", "-c", serve])?.code(0)?;
        let address = bed.client.ok(&["port", "web", "80"])?.parse()?;
        check!(http::get(address, PATIENCE)?.contains("page"), "no page");
        equal!(bed.output(&["--network", "none", "busybox", "ls", "/sys/class/net"])?, "lo");
        let ip = bed.inspect("web", "{{.NetworkSettings.IPAddress}}")?;
        equal!(bed.output(&["--network", "container:web", "busybox", "hostname", "-i"])?, ip);
        bed.client.ok(&["network", "create", "own"])?;
        bed.client.ok(&["network", "connect", "--alias", "page", "own", "web"])?;
        let fetch = ["--network", "own", "busybox", "wget", "-qO-", "http://page/"];
        equal!(bed.output(&fetch)?, "page");
        bed.remove("web")?;
        bed.client.ok(&["network", "rm", "own"]).map(drop)
    })
}

fn namespaces(t: &Ctx) -> Result<()> {
    with_each(t, "rt-namespaces", |bed| {
        let script = "echo shared > /dev/shm/file; sleep 1000";
        bed.run(&["-d", "--name", "box", "--ipc", "shareable", "busybox", "sh", "-c", script])?.code(0)?;
        eventually("it has written", PATIENCE, || {
            Ok(bed.client.run(&["exec", "box", "cat", "/dev/shm/file"])?.stdout == "shared\n")
        })?;
        equal!(bed.output(&["--ipc", "container:box", "busybox", "cat", "/dev/shm/file"])?, "shared");
        check!(
            bed.output(&["--pid", "container:box", "busybox", "ps"])?.contains("sleep 1000"),
            "other processes"
        );
        bed.remove("box")?;
        let everything =
            ["--ipc", "host", "--pid", "host", "--network", "host", "--uts", "host", "--privileged"];
        let own = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
        let text =
            bed.output(&[&everything[..], &["busybox", "sh", "-c", "hostname; ls /dev/kmsg"]].concat())?;
        equal!(text, format!("{}\n/dev/kmsg", own.trim()));
        equal!(
            bed.output(&[
                "--sysctl",
                "net.ipv4.ip_forward=1",
                "busybox",
                "cat",
                "/proc/sys/net/ipv4/ip_forward"
            ])?,
            "1"
        );
        Ok(())
    })
}

fn health(t: &Ctx) -> Result<()> {
    with_each(t, "rt-health", |bed| {
        let often = ["--health-interval", "200ms", "--health-timeout", "700ms", "--health-retries", "2"];
        let status = |wanted: &'static str| {
            eventually(wanted, PATIENCE, || Ok(bed.inspect("box", "{{.State.Health.Status}}")? == wanted))
        };
        bed.idle("box", &[&often[..], &["--health-cmd", "test ! -e /sick"]].concat())?;
        status("healthy")?;
        bed.client.ok(&["exec", "box", "touch", "/sick"])?;
        status("unhealthy")?;
        bed.remove("box")?;
        // One that takes too long is ended with all it started.
        let slow = ["--health-cmd", "echo began; sleep 3333 & sleep 3333"];
        bed.idle("box", &[&often[..], &slow].concat())?;
        status("unhealthy")?;
        let log = bed.inspect("box", "{{(index .State.Health.Log 0).Output}}")?;
        check!(log.starts_with("Health check exceeded timeout (700ms): began"), "{log}");
        std::thread::sleep(Duration::from_secs(1));
        let running = bed.client.ok(&["top", "box"])?.matches("sleep 3333").count();
        check!(running <= 2, "{running} processes of probes are left");
        bed.remove("box")
    })
}

fn engine_is_killed(t: &Ctx) -> Result<()> {
    with_each(t, "rt-killed", |bed| {
        let count = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done";
        bed.run(&["-d", "--name", "box", "busybox", "sh", "-c", count])?.code(0)?;
        bed.run(&["-d", "--name", "short", "busybox", "sh", "-c", "sleep 1; exit 9"])?.code(0)?;
        let pid = bed.inspect("box", "{{.State.Pid}}")?;
        bed.daemon.kill()?;
        std::thread::sleep(Duration::from_millis(1500));
        bed.daemon.up()?;
        equal!(bed.inspect("box", "{{.State.Status}} {{.State.Pid}}")?, format!("running {pid}"));
        equal!(bed.inspect("short", "{{.State.ExitCode}} {{.State.Status}}")?, "9 exited");
        equal!(bed.client.ok(&["exec", "box", "echo", "alive"])?, "alive");
        bed.client.ok(&["stop", "-t", "0", "box"])?;
        let lines = bed.client.ok(&["logs", "box"])?;
        let expected: Vec<String> = (1..=lines.lines().count()).map(|n| n.to_string()).collect();
        equal!(lines.lines().collect::<Vec<_>>(), expected);
        bed.remove("short")?;
        bed.remove("box")
    })
}

fn shim_is_killed(t: &Ctx) -> Result<()> {
    with_each(t, "rt-lost", |bed| {
        bed.idle("box", &[])?;
        let pid: i32 = bed.inspect("box", "{{.State.Pid}}")?.parse()?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let shim = status.lines().find_map(|line| line.strip_prefix("PPid:")).context("no parent")?;
        let shim = rustix::process::Pid::from_raw(shim.trim().parse()?).context("no parent")?;
        rustix::process::kill_process(shim, rustix::process::Signal::KILL)?;
        eventually("the end is noticed", PATIENCE, || {
            Ok(bed.inspect("box", "{{.State.Status}}")? == "exited")
        })?;
        bed.nothing_left()?;
        // Nothing of the lost run is in the way of the next.
        bed.client.ok(&["start", "box"])?;
        equal!(bed.client.ok(&["exec", "box", "echo", "again"])?, "again");
        bed.remove("box")
    })
}

fn programs_that_cannot_run(t: &Ctx) -> Result<()> {
    with_each(t, "rt-programs", |bed| {
        let prefix =
            "failed to create task for container: failed to create shim task: OCI runtime create failed: ";
        bed.run(&["--name", "box", "busybox", "no-such-program"])?.code(127)?.stderr_has(prefix)?;
        equal!(bed.inspect("box", "{{.State.ExitCode}} {{.State.Status}}")?, "127 created");
        bed.remove("box")?;
        bed.run(&["--rm", "busybox", "/etc/passwd"])?.code(126)?.stderr_has("ermission denied")?;
        bed.idle("box", &[])?;
        let missing = bed.client.run(&["exec", "box", "no-such-program"])?;
        missing.code(127)?;
        let text = format!("{}{}", missing.stdout, missing.stderr);
        check!(text.contains("OCI runtime exec failed: ") && text.contains("no-such-program"), "{text}");
        bed.client.run(&["exec", "box", "/etc/passwd"])?.code(126)?;
        // One at a terminal as well.
        let mut pty = Pty::start(&bed.client.command(&["exec", "-it", "box", "no-such-program"]), 24, 80)?;
        equal!(pty.wait()?, 127);
        equal!(bed.inspect("box", "{{.State.Running}}")?, "true");
        bed.remove("box")
    })
}

fn registration(t: &Ctx) -> Result<()> {
    let crun = program(t, "crun")?.display().to_string();
    let dir = t.path("config");
    // Arguments come before all others, which a script shows.
    let script = format!(
        "#!/bin/sh\n[ \"$1 $2\" = '--first second' ] || {{ echo bad arguments: $1 >&2; exit 1; }}\n\
         shift 2\nexec {crun} \"$@\"\n"
    );
    let wrapper = archive::save(&dir, "wrapper", script.as_bytes())?;
    std::fs::set_permissions(&wrapper, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let wrapper = wrapper.display();
    let text = format!(
        r#"{{"default-runtime": "wrapped", "runtimes": {{
            "wrapped": {{"path": "{wrapper}", "runtimeArgs": ["--first", "second"]}},
            "unwrapped": {{"path": "{wrapper}"}},
            "gone": {{"path": "/no/such/runtime"}}
        }}}}"#
    );
    let file = archive::save(&dir, "daemon.json", text.as_bytes())?.display().to_string();
    let options = [
        "--config-file",
        &file,
        "--add-runtime",
        "lost=no-such-runtime",
        "--add-runtime",
        &format!("crun={crun}"),
    ];
    let daemon = Daemon::start_with(&t.settings, "rt-registration", None, &options)?;
    let client = daemon.client()?;
    daemon::import_images(&t.settings, &client)?;
    let log = daemon.log_tail();
    check!(log.contains("runtime gone cannot run containers yet: /no/such/runtime"), "{log}");
    check!(log.contains("runtime lost cannot run containers yet: no-such-runtime"), "{log}");
    let info: serde_json::Value = serde_json::from_str(&client.ok(&["info", "--format", "{{json .}}"])?)?;
    equal!(info["DefaultRuntime"], "wrapped");
    equal!(info["Runtimes"]["crun"]["path"], crun.as_str());
    equal!(info["Runtimes"]["wrapped"]["runtimeArgs"], serde_json::json!(["--first", "second"]));
    check!(
        info["Runtimes"]["runc"].is_object() && info["Runtimes"]["ferry"].is_object(),
        "{}",
        info["Runtimes"]
    );

    client.run(&["run", "--name", "box", "busybox", "echo", "hi"])?.code(0)?.stdout("hi")?;
    equal!(client.ok(&["inspect", "-f", "{{.HostConfig.Runtime}}", "box"])?, "wrapped");
    let run = |runtime: &str| client.run(&["run", "--rm", "--runtime", runtime, "busybox", "true"]);
    run("runc")?.code(0)?;
    run("crun")?.code(0)?;
    run("unwrapped")?.code(125)?.stderr_has("OCI runtime create failed: bad arguments: --root")?;
    run("gone")?.code(127)?.stderr_has(
        "OCI runtime create failed: runtime gone: fork/exec /no/such/runtime: no such file or directory",
    )?;
    run("lost")?
        .code(127)?
        .stderr_has("runtime lost: exec: \"no-such-runtime\": executable file not found in $PATH")?;
    run("nope")?.code(125)?.stderr_has("unknown or invalid runtime name: nope")?;

    // A container whose runtime is no longer there.
    daemon.terminate()?;
    archive::save(&dir, "daemon.json", b"{}")?;
    daemon.up()?;
    client.run(&["start", "box"])?.code(1)?.stderr_has("unknown or invalid runtime name: wrapped")?;
    equal!(client.ok(&["run", "--rm", "busybox", "echo", "own"])?, "own");
    let problems = daemon.finish();
    check!(problems.is_empty(), "{problems:?}");
    Ok(())
}

fn mistakes(t: &Ctx) -> Result<()> {
    let dir = t.path("config");
    for (text, args, expected) in [
        (r#"{}"#, &["--add-runtime=runc=/x"][..], "runtime name 'runc' is reserved"),
        (r#"{"runtimes": {"runc": {"path": "/x"}}}"#, &[], "runtime name 'runc' is reserved"),
        (
            r#"{"runtimes": {"k": {"runtimeType": "io.containerd.kata.v2"}}}"#,
            &[],
            "runtime k: runtimeType io.containerd.kata.v2 is not supported",
        ),
        (
            r#"{"runtimes": {"k": {"path": "/x", "options": {"a": 1}}}}"#,
            &[],
            "runtime k: options cannot be used with a path",
        ),
        (r#"{"runtimes": {"k": {}}}"#, &[], "runtime k: either a runtimeType or a path must be configured"),
        (r#"{"default-runtime": "k"}"#, &[], "specified default runtime 'k' does not exist"),
    ] {
        let file = archive::save(&dir, "daemon.json", text.as_bytes())?.display().to_string();
        let mut command = Command::new(t.settings.ferry());
        command.args(["daemon", "--validate", "--config-file", &file]).args(args);
        process::run(command)?.code(1)?.stderr_has(expected)?;
    }
    Ok(())
}
