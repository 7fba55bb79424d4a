//! The daemon on its host: options, sockets, a second engine beside it, a full disk.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::{cases, check, equal};
use crate::harness::daemon::{self, Daemon};
use crate::harness::process::{self, Running};
use crate::harness::{Case, Ctx, archive, http, leaks, skip};

pub fn cases() -> Vec<Case> {
    cases!(
        "host",
        Nothing,
        [
            two_engines,
            socket_and_pidfile,
            tcp_on_loopback,
            tcp_elsewhere_is_refused,
            bad_options,
            config_file,
            one_daemon_per_data_root,
            full_disk,
            full_disk_of_a_container,
            foreign_rules_stay,
            end_on_sigterm,
        ]
    )
}

fn two_engines(t: &Ctx) -> Result<()> {
    let (one, two) = (Daemon::start(&t.settings, "one")?, Daemon::start(&t.settings, "two")?);
    let (first, second) = (one.client()?, two.client()?);
    for client in [&first, &second] {
        daemon::import_images(&t.settings, client)?;
        // The same name in both.
        client.ok(&["run", "-d", "--name", "same", "busybox", "sleep", "1000"])?;
    }
    first.ok(&["tag", "busybox", "only-here"])?;
    equal!(second.ok(&["images", "-q", "only-here"])?, "");
    equal!(first.ok(&["ps", "-q"])?.lines().count(), 1);
    let addresses = [&first, &second]
        .map(|client| client.ok(&["inspect", "-f", "{{.NetworkSettings.IPAddress}}", "same"]));
    let [Ok(a), Ok(b)] = addresses else { anyhow::bail!("no addresses: {addresses:?}") };
    check!(a != b, "both are {a}");
    first.ok(&["rm", "-f", "same"])?;
    equal!(second.ok(&["inspect", "-f", "{{.State.Running}}", "same"])?, "true");
    one.kill()?;
    equal!(second.ok(&["run", "--rm", "busybox", "echo", "alive"])?, "alive");
    one.up()?;
    equal!(first.ok(&["run", "--rm", "busybox", "echo", "alive"])?, "alive");
    Ok(())
}

fn socket_and_pidfile(t: &Ctx) -> Result<()> {
    let daemon = Daemon::start(&t.settings, "socket")?;
    equal!(daemon.socket().metadata()?.permissions().mode() & 0o777, 0o660);
    equal!(std::fs::read_to_string(daemon.run.join("pid"))?.trim().parse::<u32>().ok(), daemon.pid());
    equal!(daemon.terminate()?, 0);
    check!(!daemon.run.join("pid").exists(), "the pid file stays");
    check!(!daemon.socket().exists(), "the socket stays");
    Ok(())
}

fn tcp_on_loopback(t: &Ctx) -> Result<()> {
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let host = format!("tcp://127.0.0.1:{port}");
    let daemon = Daemon::start_with(&t.settings, "tcp", None, &["-H", &host])?;
    let mut client = daemon.client()?;
    client.host = host;
    client.ok(&["ps"])?;
    Ok(())
}

/// Runs a daemon that must refuse to start; what it says.
fn refused(t: &Ctx, what: &str, options: &[&str]) -> Result<String> {
    let dir = t.path(what);
    let bridge = format!("fr{}", what.trim_end_matches(".json"));
    let mut command = Command::new(t.settings.ferry());
    command.arg("daemon").args(options);
    if !options.contains(&"--data-root") {
        command.arg("--data-root").arg(dir.join("data"));
    }
    command
        .arg("--exec-root")
        .arg(dir.join("exec"))
        .arg("--pidfile")
        .arg(dir.join("pid"))
        .args(["--bridge", &bridge]);
    let output = Running::start(command, None)?.finish(Duration::from_secs(10));
    if dir.exists() {
        std::fs::remove_dir_all(&dir)?;
    }
    let output = output?;
    check!(output.code != 0, "the daemon started\n{output}");
    check!(
        !std::path::Path::new("/sys/class/net").join(&bridge).exists(),
        "it made its bridge before it refused"
    );
    Ok(format!("{}{}", output.stdout, output.stderr))
}

fn tcp_elsewhere_is_refused(t: &Ctx) -> Result<()> {
    let text = refused(t, "tcp", &["-H", "tcp://0.0.0.0:0"])?;
    check!(text.contains("insecure-tcp") || text.contains("TLS"), "{text}");
    Ok(())
}

fn bad_options(t: &Ctx) -> Result<()> {
    let socket = format!("unix:///tmp/{}.sock", t.name("s"));
    for (what, option) in [
        ("bip", ["--bip", "not-an-address"]),
        ("level", ["--log-level", "shouting"]),
        ("config", ["--config-file", "/no/such/file"]),
        ("flag", ["--no-such-flag", "x"]),
        ("scheme", ["-H", "gopher://x"]),
    ] {
        let text = refused(t, what, &[&["-H", &socket], option.as_slice()].concat())?;
        check!(!text.is_empty(), "{what}: not a word");
    }
    Ok(())
}

fn config_file(t: &Ctx) -> Result<()> {
    let dir = t.path("config");
    let good = archive::save(&dir, "good.json", br#"{"log-level": "debug"}"#)?;
    let daemon =
        Daemon::start_with(&t.settings, "config", None, &["--config-file", &good.display().to_string()])?;
    daemon.client()?.ok(&["version"])?;
    drop(daemon);
    for (name, text) in [("broken.json", "{"), ("unknown.json", r#"{"no-such-setting": true}"#)] {
        let bad = archive::save(&dir, name, text.as_bytes())?;
        let text = refused(
            t,
            name,
            &["-H", "unix:///tmp/ferry-refused.sock", "--config-file", &bad.display().to_string()],
        )?;
        check!(text.contains(name) || text.contains("no-such-setting"), "{text}");
    }
    Ok(())
}

fn one_daemon_per_data_root(t: &Ctx) -> Result<()> {
    let daemon = Daemon::start(&t.settings, "only")?;
    let data = daemon.data_root().display().to_string();
    let text = refused(t, "second", &["-H", "unix:///tmp/ferry-refused.sock", "--data-root", &data])?;
    check!(!text.is_empty(), "not a word");
    daemon.client()?.ok(&["ps"])?;
    Ok(())
}

/// A small file system in memory, unmounted in the end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new(t: &Ctx, what: &str, size: &str) -> Result<Self> {
        let dir = t.path(what);
        std::fs::create_dir_all(&dir)?;
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={size}"), "none"]).arg(&dir);
        if process::run(command)?.code != 0 {
            return skip("cannot mount a tmpfs");
        }
        Ok(Self(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn full_disk(t: &Ctx) -> Result<()> {
    let disk = SmallDisk::new(t, "disk", "48m")?;
    let daemon = Daemon::start_with(&t.settings, "full", Some(&disk.0.join("engine")), &[])?;
    let client = daemon.client()?;
    daemon::import_images(&t.settings, &client)?;
    let images = client.ok(&["images", "-aq"])?;
    let used = || rustix::fs::statfs(&disk.0).map(|stat| stat.f_blocks - stat.f_bfree);
    let before = used()?;
    let layer = archive::Tar::default().file("large", 0o644, &vec![7; 80 << 20]).bytes();
    for tar in
        [archive::docker_archive("large:latest", std::slice::from_ref(&layer), &["true"])?, layer.clone()]
    {
        let args: &[&str] = if tar == layer { &["import", "-", "large"] } else { &["load"] };
        client.run_with(args, tar.clone())?.code(1)?.stderr_has("no space left on device")?;
        equal!(client.ok(&["images", "-aq"])?, images);
    }
    let after = used()?;
    check!(after < before + 512, "{} blocks are lost", after - before);
    equal!(client.ok(&["run", "--rm", "busybox", "echo", "alive"])?, "alive");
    drop(daemon);
    Ok(())
}

fn full_disk_of_a_container(t: &Ctx) -> Result<()> {
    let disk = SmallDisk::new(t, "disk", "48m")?;
    let daemon = Daemon::start_with(&t.settings, "full", Some(&disk.0.join("engine")), &[])?;
    let client = daemon.client()?;
    daemon::import_images(&t.settings, &client)?;
    client.ok(&[
        "run",
        "-d",
        "--name",
        "other",
        "busybox",
        "sh",
        "-c",
        "trap 'exit 5' TERM; while :; do sleep 0.05; done",
    ])?;
    let filling =
        client.run(&["run", "--name", "filling", "busybox", "dd", "if=/dev/zero", "of=/fill", "bs=1M"])?;
    filling.code(1)?.stderr_has("No space left on device")?;
    // The engine answers, ends containers, and removes them, which is what makes room again.
    client.ok(&["ps", "-a"])?;
    client.ok(&["stop", "other"])?;
    daemon.kill()?;
    daemon.up()?;
    client.ok(&["rm", "-f", "filling"])?;
    equal!(client.ok(&["inspect", "-f", "{{.State.Status}}", "other"])?, "exited");
    equal!(client.ok(&["run", "--rm", "busybox", "echo", "alive"])?, "alive");
    drop(daemon);
    Ok(())
}

fn foreign_rules_stay(t: &Ctx) -> Result<()> {
    let nft = |args: &[&str]| {
        let mut command = Command::new("nft");
        command.args(args);
        process::run(command)
    };
    if nft(&["list", "tables"]).map_or(true, |output| output.code != 0) {
        return skip("no nft(8) here");
    }
    let table = format!("foreign_{}", std::process::id());
    nft(&["add", "table", "inet", &table])?.code(0)?;
    nft(&[
        "add",
        "chain",
        "inet",
        &table,
        "forward",
        "{ type filter hook forward priority 10; policy accept; }",
    ])?
    .code(0)?;
    let outcome = (|| {
        let before = nft(&["list", "table", "inet", &table])?.stdout;
        let daemon = Daemon::start(&t.settings, "rules")?;
        let client = daemon.client()?;
        daemon::import_images(&t.settings, &client)?;
        client.ok(&["run", "--rm", "-p", "127.0.0.1:0:80", "busybox", "true"])?;
        equal!(nft(&["list", "table", "inet", &table])?.stdout, before);
        drop(daemon);
        equal!(nft(&["list", "table", "inet", &table])?.stdout, before);
        Ok(())
    })();
    nft(&["delete", "table", "inet", &table])?.code(0)?;
    outcome
}

fn end_on_sigterm(t: &Ctx) -> Result<()> {
    let daemon = Daemon::start(&t.settings, "term")?;
    let client = daemon.client()?;
    daemon::import_images(&t.settings, &client)?;
    client.ok(&["run", "-d", "--name", "one", "busybox", "sleep", "1000"])?;
    let pid: i32 = client.ok(&["inspect", "-f", "{{.State.Pid}}", "one"])?.parse()?;
    // Clients that follow something do not hold it up.
    let following = client.start(&["logs", "-f", "one"])?;
    std::thread::sleep(Duration::from_millis(300));
    equal!(daemon.terminate()?, 0);
    drop(following);
    check!(leaks::processes_named("sleep").contains(&pid), "the container ended with the daemon");
    daemon.up()?;
    equal!(client.ok(&["inspect", "-f", "{{.State.Pid}}", "one"])?, pid.to_string());
    http::request(&daemon.socket(), "GET", "/_ping", None)?.status(200)?;
    Ok(())
}
