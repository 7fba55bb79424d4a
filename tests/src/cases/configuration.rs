//! dockerd's flags and daemon.json: what they do, how mistakes are worded, and reloading.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::{cases, check, equal};
use crate::harness::daemon::{self, Daemon};
use crate::harness::process::{self, Output};
use crate::harness::{Case, Ctx, archive, eventually, http};

const PATIENCE: Duration = Duration::from_secs(20);

pub fn cases() -> Vec<Case> {
    cases!(
        "configuration",
        Nothing,
        [
            mistakes_on_the_command_line,
            mistakes_in_the_file,
            validate,
            help,
            defaults_of_containers,
            reload,
            metrics,
            without_default_bridge
        ]
    )
}

/// ferry under the name of Docker's daemon.
fn dockerd(t: &Ctx) -> Result<PathBuf> {
    let dir = t.path("bin");
    std::fs::create_dir_all(&dir)?;
    let link = dir.join("dockerd");
    let _ = std::fs::remove_file(&link);
    std::os::unix::fs::symlink(t.settings.ferry(), &link)?;
    Ok(link)
}

fn run(t: &Ctx, args: &[&str]) -> Result<Output> {
    let mut command = Command::new(dockerd(t)?);
    command.args(args);
    process::run(command)
}

fn mistakes_on_the_command_line(t: &Ctx) -> Result<()> {
    for (args, expected) in [
        (&["--foo"][..], "Status: unknown flag: --foo\nSee 'dockerd --help'.\n"),
        (&["-Z"], "Status: unknown shorthand flag: 'Z' in -Z\nSee 'dockerd --help'.\n"),
        (
            &["--mtu=abc"],
            "Status: invalid argument \"abc\" for \"--mtu\" flag: strconv.ParseInt: parsing \"abc\": invalid syntax\n",
        ),
        (
            &["--label", "foo"],
            "Status: invalid argument \"foo\" for \"--label\" flag: bad attribute format: foo\n",
        ),
        (
            &["--dns=foo"],
            "Status: invalid argument \"foo\" for \"--dns\" flag: invalid string being converted to IP address: foo\n",
        ),
        (&["--log-level=loud", "--validate"], "invalid logging level: loud\n"),
        (&["--exec-opt=a=b", "--validate"], "invalid exec-opt (a=b): unknown option: 'a'\n"),
        (&["--userns-remap=default", "--validate"], "userns-remap (default) is not supported: "),
        (
            &["--storage-driver=zfs", "--validate"],
            "error initializing graphdriver: driver not supported: zfs",
        ),
        (&["--authorization-plugin=x", "--validate"], "ferry has no plugins"),
        (
            &["--log-opt=foo=1", "--validate"],
            "failed to set log opts: unknown log opt 'foo' for json-file log driver",
        ),
    ] {
        let output = run(t, args)?;
        output.code(1)?;
        check!(output.stderr.contains(expected), "{args:?}: {}", output.stderr);
    }
    Ok(())
}

fn mistakes_in_the_file(t: &Ctx) -> Result<()> {
    let dir = t.path("config");
    for (text, args, expected) in [
        ("{", &[][..], "invalid JSON: unexpected end of JSON input"),
        (r#"{"foo": 1}"#, &[], "the following directives don't match any configuration option: foo"),
        (
            r#"{"mtu": "x"}"#,
            &[],
            "invalid JSON: json: cannot unmarshal string into Go struct field Config.mtu of type int",
        ),
        (
            r#"{"mtu": 1500, "labels": ["a=b"]}"#,
            &["--mtu=1400", "--label=x=y"],
            "the following directives are specified both as a flag and in the configuration file: \
             labels: (from flag: [x=y], from file: [a=b]), mtu: (from flag: 1400, from file: 1500)",
        ),
        (
            r#"{"mtu": -1}"#,
            &[],
            "merged configuration validation from file and command line flags failed: invalid default MTU: -1",
        ),
    ] {
        let file = archive::save(&dir, "daemon.json", text.as_bytes())?.display().to_string();
        let output = run(t, &[&["--validate", "--config-file", &file], args].concat())?;
        output.code(1)?;
        equal!(
            output.stderr.trim_end(),
            format!("unable to configure the Docker daemon with file {file}: {expected}")
        );
    }
    run(t, &["--validate", "--config-file", "/no/such/file"])?.code(1)?.stderr_has(
        "unable to configure the Docker daemon with file /no/such/file: open /no/such/file: no such file or directory",
    )?;
    Ok(())
}

fn validate(t: &Ctx) -> Result<()> {
    let file = archive::save(
        &t.path("config"),
        "daemon.json",
        br#"{"debug": true, "log-opts": {"max-size": "10m"}, "proxies": {"http-proxy": "http://p"},
            "default-ulimits": {"nofile": {"Name": "nofile", "Soft": 1, "Hard": 2}}, "features": {"x": false},
            "runtimes": {"nvidia": {"path": "nvidia-container-runtime", "runtimeArgs": []}}, "live-restore": true}"#,
    )?;
    let output = run(t, &["--validate", "--config-file", &file.display().to_string()])?;
    output.code(0)?;
    equal!(output.stderr, "configuration OK\n");
    Ok(())
}

fn help(t: &Ctx) -> Result<()> {
    let output = run(t, &["--help"])?;
    output.code(0)?;
    check!(output.stdout.contains("Usage:\tdockerd [OPTIONS]"), "{}", output.stdout);
    for flag in
        ["-b, --bridge string", "-H, --host list", "--log-opt map", "--default-address-pool pool-options"]
    {
        check!(output.stdout.contains(flag), "{flag} is missing");
    }
    Ok(())
}

fn defaults_of_containers(t: &Ctx) -> Result<()> {
    let options = [
        "--default-ulimit",
        "nofile=1000:2000",
        "--default-shm-size",
        "32m",
        "--no-new-privileges",
        "--seccomp-profile",
        "unconfined",
        "--host-gateway-ip",
        "192.0.2.7",
        "--ip",
        "127.0.0.1",
        "--label",
        "where=here",
        "--default-runtime",
        "runc",
        "--dns",
        "192.0.2.53",
        "--insecure-registry",
        "r.example:5000",
        "--experimental",
    ];
    let daemon = Daemon::start_with(&t.settings, "defaults", None, &options)?;
    let client = daemon.client()?;
    daemon::import_images(&t.settings, &client)?;
    let script = "ulimit -n; ulimit -Hn; grep NoNewPrivs: /proc/1/status; grep Seccomp: /proc/1/status; \
                  grep -c 192.0.2.7 /etc/hosts; grep -c 192.0.2.53 /etc/resolv.conf; df -k /dev/shm | tail -1";
    let text = client.ok(&["run", "--rm", "--add-host", "gw:host-gateway", "busybox", "sh", "-c", script])?;
    let words: Vec<&str> = text.split_whitespace().collect();
    equal!(words[..8], ["1000", "2000", "NoNewPrivs:", "1", "Seccomp:", "0", "1", "1"]);
    check!(text.contains("32768"), "{text}");
    // A container's own settings win.
    let own = ["run", "--rm", "--ulimit", "nofile=50:60", "--security-opt", "no-new-privileges=false"];
    let text =
        client.ok(
            &[&own[..], &["busybox", "sh", "-c", "ulimit -n; grep NoNewPrivs: /proc/1/status"]].concat()
        )?;
    equal!(text.split_whitespace().collect::<Vec<_>>(), ["50", "NoNewPrivs:", "0"]);
    client.ok(&["run", "-d", "--name", "pub", "-p", "80", "busybox", "sleep", "1000"])?;
    check!(client.ok(&["port", "pub"])?.contains("127.0.0.1:"), "the port is published elsewhere");
    equal!(client.ok(&["inspect", "-f", "{{.HostConfig.Runtime}}", "pub"])?, "runc");
    equal!(
        client.ok(&["info", "-f", "{{.Labels}} {{.DefaultRuntime}} {{.ExperimentalBuild}}"])?,
        "[where=here] runc true"
    );
    let info = client.ok(&["info"])?;
    check!(info.contains("r.example:5000") && info.contains("Profile: unconfined"), "{info}");
    client.run(&["run", "--rm", "--runtime", "nope", "busybox", "true"])?.code(125)?.stderr_has("nope")?;
    Ok(())
}

fn without_default_bridge(t: &Ctx) -> Result<()> {
    let daemon = Daemon::start_with(&t.settings, "no-bridge", None, &["--bridge", "none"])?;
    let client = daemon.client()?;
    daemon::import_images(&t.settings, &client)?;
    equal!(client.ok(&["network", "ls", "--format", "{{.Name}}"])?, "host\nnone");
    client.run(&["network", "inspect", "bridge"])?.code(1)?.stderr_has("network bridge not found")?;
    // As with Docker: they have nothing but themselves.
    let links = ["run", "--rm", "busybox", "ls", "/sys/class/net"];
    equal!(client.ok(&links)?, "lo");
    client.ok(&["network", "create", "--subnet", "10.247.8.0/24", "own"])?;
    client.ok(&["run", "-d", "--name", "c1", "--network", "own", "-p", "80", "busybox", "sleep", "1000"])?;
    equal!(client.ok(&["exec", "c1", "hostname", "-i"])?, "10.247.8.2");
    client.run(&["network", "connect", "bridge", "c1"])?.code(1)?.stderr_has("network bridge not found")?;
    let gateway = ["run", "--rm", "--network", "own", "--add-host", "gw:host-gateway", "busybox"];
    client.run(&gateway)?.code(125)?.stderr_has("unable to derive the IP value for host-gateway")?;
    // The next engine takes everything over.
    daemon.kill()?;
    daemon.up()?;
    equal!(client.ok(&["exec", "c1", "hostname", "-i"])?, "10.247.8.2");
    equal!(client.run(&["system", "check"])?.code, 0);
    client.ok(&["rm", "-f", "c1"])?;
    client.ok(&["network", "rm", "own"])?;
    check!(!std::path::Path::new("/sys/class/net").join(&daemon.bridge).exists(), "a bridge was made");
    let problems = daemon.finish();
    check!(problems.is_empty(), "{problems:?}");
    Ok(())
}

fn reload(t: &Ctx) -> Result<()> {
    let dir = t.path("config");
    let write = |text: &str| archive::save(&dir, "daemon.json", text.as_bytes());
    let file = write(r#"{"labels": ["a=b"], "max-concurrent-downloads": 7}"#)?.display().to_string();
    let daemon = Daemon::start_with(&t.settings, "reload", None, &["--config-file", &file])?;
    let client = daemon.client()?;
    let hangup = || -> Result<()> {
        let mut command = Command::new("kill");
        command.args(["-HUP", &daemon.pid().unwrap_or_default().to_string()]);
        process::ok(command).map(drop)
    };
    equal!(client.ok(&["info", "-f", "{{.Labels}} {{.Debug}}"])?, "[a=b] false");
    write(r#"{"labels": ["c=d"], "debug": true, "registry-mirrors": ["https://m.example"], "mtu": 1400}"#)?;
    hangup()?;
    eventually("the labels change", PATIENCE, || {
        Ok(client.ok(&["info", "-f", "{{.Labels}} {{.Debug}}"])? == "[c=d] true")
    })?;
    let events = client.ok(&[
        "events",
        "--since",
        "1h",
        "--until",
        "0s",
        "--filter",
        "type=daemon",
        "--format",
        "{{json .}}",
    ])?;
    let event: serde_json::Value =
        serde_json::from_str(events.lines().find(|line| line.contains("\"reload\"")).unwrap_or("{}"))?;
    let attributes = &event["Actor"]["Attributes"];
    equal!(attributes["labels"], "[\"c=d\"]");
    equal!(attributes["max-concurrent-downloads"], "3");
    equal!(attributes["registry-mirrors"], "[\"https://m.example/\"]");
    check!(daemon.log_tail().contains("only after a restart: mtu"), "{}", daemon.log_tail());
    // A file that is wrong changes nothing.
    write(r#"{"labels": ["e=f"], "foo": 1}"#)?;
    hangup()?;
    eventually("the mistake is told", PATIENCE, || {
        Ok(daemon.log_tail().contains("don't match any configuration option: foo"))
    })?;
    equal!(client.ok(&["info", "-f", "{{.Labels}}"])?, "[c=d]");
    Ok(())
}

fn metrics(t: &Ctx) -> Result<()> {
    let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let daemon = Daemon::start_with(&t.settings, "metrics", None, &["--metrics-addr", &address.to_string()])?;
    daemon.client()?.ok(&["version"])?;
    let answer = http::tcp(address, "GET", "/metrics", "", b"")?;
    let text = answer.status(200)?.body.clone();
    check!(text.contains("engine_daemon_container_states_containers{state=\"running\"} 0"), "{text}");
    http::tcp(address, "GET", "/other", "", b"")?.status(404)?;
    Ok(())
}
