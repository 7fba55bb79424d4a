//! Log drivers and reading logs: options and what is wrong with them, rotation, what log services get.

use std::io::Read;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Context, Result};

use super::{cases, check, equal};
use crate::harness::daemon::{self, Daemon};
use crate::harness::{Case, Ctx, eventually, http};

const PATIENCE: Duration = Duration::from_secs(20);

pub fn cases() -> Vec<Case> {
    let mut cases = cases!(
        "logs",
        EachClient,
        [wrong_at_create, wrong_at_start, attributes, local, none, file_rotation, tails_and_times]
    );
    cases.extend(cases!(
        "logs",
        Engine,
        [
            compressed_files_are_read,
            following_goes_over_rotations,
            syslog_by_datagram,
            syslog_by_stream,
            syslog_by_local_socket,
            gelf,
            fluentd,
            a_service_that_dies_stops_nobody,
            a_slow_service_is_waited_for,
            json_entries,
            query_mistakes,
        ]
    ));
    cases.extend(cases!("logs", Nothing, [defaults_of_the_daemon, losses_survive_the_daemon]));
    cases
}

/// Runs a container that fails to be created or started, and gives what was said.
fn refused(t: &Ctx, options: &[&str]) -> Result<String> {
    let name = t.name("x");
    let output = t.client.run(&[&["run", "--name", &name], options, &["busybox", "true"]].concat())?;
    t.client.run(&["rm", "-f", &name])?;
    output.code(125)?;
    Ok(output.stderr)
}

fn opts<'a>(driver: &'a str, pairs: &[&'a str]) -> Vec<&'a str> {
    let mut out = vec!["--log-driver", driver];
    for pair in pairs {
        out.extend(["--log-opt", pair]);
    }
    out
}

fn wrong_at_create(t: &Ctx) -> Result<()> {
    for (driver, pairs, expected) in [
        ("nope", &[][..], "error looking up logging plugin nope: plugin \"nope\" not found"),
        ("gcplogs", &[], "error looking up logging plugin gcplogs: plugin \"gcplogs\" not found"),
        ("json-file", &["foo=1"], "unknown log opt 'foo' for json-file log driver"),
        ("local", &["labels=a"], "unknown log opt 'labels' for log driver local"),
        ("json-file", &["mode=odd"], "logger: logging mode not supported: odd"),
        (
            "json-file",
            &["max-buffer-size=1m"],
            "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
        ),
        ("json-file", &["cache-disabled=x"], "invalid value for option cache-disabled: x"),
        ("syslog", &["syslog-address=ftp://x"], "unsupported scheme: 'ftp'"),
        ("syslog", &["syslog-facility=x"], "invalid syslog facility"),
        ("syslog", &["syslog-format=x"], "Invalid syslog format"),
        ("gelf", &[], "gelf-address is a required parameter"),
        ("gelf", &["gelf-address=udp://a"], "gelf: please provide gelf-address as proto://host:port"),
        (
            "fluentd",
            &["fluentd-address=http://x"],
            "invalid fluentd-address (http://x): unsupported scheme: 'http'",
        ),
    ] {
        let text = refused(t, &opts(driver, pairs))?;
        check!(
            text.contains(&format!("Error response from daemon: {expected}")),
            "{driver} {pairs:?}: {text}"
        );
    }
    Ok(())
}

fn wrong_at_start(t: &Ctx) -> Result<()> {
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let syslog = format!("syslog-address=tcp://127.0.0.1:{port}");
    let gelf = format!("gelf-address=tcp://127.0.0.1:{port}");
    let refused_dial = format!("dial tcp 127.0.0.1:{port}: connect: connection refused");
    for (driver, pairs, expected) in [
        ("json-file", &["max-size=x"][..], "invalid size: 'x'".to_owned()),
        ("json-file", &["max-size=0"], "max-size must be a positive number".to_owned()),
        ("json-file", &["max-file=0"], "max-file cannot be less than 1".to_owned()),
        ("json-file", &["max-file=x"], "strconv.Atoi: parsing \"x\": invalid syntax".to_owned()),
        (
            "json-file",
            &["compress=true"],
            "compress cannot be true when max-file is less than 2 or max-size is not set".to_owned(),
        ),
        ("json-file", &["tag={{"], "template: log-tag:1: unclosed action".to_owned()),
        (
            "json-file",
            &["tag={{.Foo}}"],
            "executing \"log-tag\" at <.Foo>: can't evaluate field Foo in type *logger.Info".to_owned(),
        ),
        ("local", &["max-file=1"], "compression cannot be enabled when max file count is 1".to_owned()),
        ("syslog", &[syslog.as_str()], refused_dial.clone()),
        (
            "gelf",
            &[gelf.as_str()],
            format!("gelf: cannot connect to GELF endpoint: 127.0.0.1:{port} {refused_dial}"),
        ),
    ] {
        let text = refused(t, &opts(driver, pairs))?;
        check!(
            text.contains("failed to create task for container: failed to initialize logging driver: ")
                && text.contains(&expected),
            "{driver} {pairs:?}: {text}"
        );
    }
    Ok(())
}

fn attributes(t: &Ctx) -> Result<()> {
    let name = t.name("x");
    t.ok(&[
        "run",
        "--name",
        &name,
        "--label",
        "com.a=1 2",
        "--label",
        "other=x",
        "-e",
        "FOO=bar",
        "-e",
        "FUZ=é",
        "--log-opt",
        "labels=com.a,absent",
        "--log-opt",
        "env-regex=^F",
        "--log-opt",
        "tag={{.Name}}/{{.ImageName}}",
        "busybox",
        "echo",
        "hi",
    ])?;
    let tag = format!("tag={name}%2Fbusybox");
    equal!(t.ok(&["logs", "--details", &name])?, format!("FOO=bar,FUZ=%C3%A9,com.a=1+2,{tag} hi"));
    equal!(t.ok(&["logs", &name])?, "hi");
    Ok(())
}

fn local(t: &Ctx) -> Result<()> {
    let name = t.name("x");
    t.ok(&[
        "run",
        "--name",
        &name,
        "--log-driver",
        "local",
        "busybox",
        "sh",
        "-c",
        "echo a; echo; printf b",
    ])?;
    let output = t.client.run(&["logs", &name])?;
    equal!(output.stdout, "a\n\nb");
    equal!(t.ok(&["logs", "-n", "1", &name])?, "b");
    equal!(t.inspect(&name, "{{.HostConfig.LogConfig.Type}} {{.LogPath}}.")?, "local .");
    let stamped = t.ok(&["logs", "-t", &name])?;
    check!(stamped.lines().all(|line| line.len() >= 31 && &line[29..31] == "Z "), "{stamped}");
    Ok(())
}

fn none(t: &Ctx) -> Result<()> {
    let name = t.name("x");
    t.ok(&["run", "--name", &name, "--log-driver", "none", "busybox", "echo", "hi"])?;
    t.client
        .run(&["logs", &name])?
        .code(1)?
        .stderr_has("Error response from daemon: configured logging driver does not support reading")?;
    Ok(())
}

fn file_rotation(t: &Ctx) -> Result<()> {
    let name = t.name("x");
    let script = "seq 1 3000";
    t.ok(&[
        "run",
        "--name",
        &name,
        "--log-opt",
        "max-size=50k",
        "--log-opt",
        "max-file=3",
        "busybox",
        "sh",
        "-c",
        script,
    ])?;
    let text = t.ok(&["logs", &name])?;
    let lines: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    check!(lines.len() < 3000 && lines.len() > 1000, "{} lines are left", lines.len());
    check!(lines.windows(2).all(|pair| pair[1] == pair[0] + 1), "lines are missing in the middle");
    equal!(lines.last(), Some(&3000));
    equal!(t.ok(&["logs", "-n", "1200", &name])?.lines().count(), 1200);
    Ok(())
}

fn tails_and_times(t: &Ctx) -> Result<()> {
    let name = t.name("x");
    t.ok(&["create", "--name", &name, "busybox", "sh", "-c", "echo 1; echo 2"])?;
    equal!(t.ok(&["logs", &name])?, "");
    equal!(t.ok(&["logs", "-f", &name])?, "");
    t.ok(&["start", "-a", &name])?;
    for (tail, expected) in
        [("all", "1\n2"), ("0", ""), ("1", "2"), ("9", "1\n2"), ("bad", "1\n2"), ("-5", "1\n2")]
    {
        equal!(t.ok(&["logs", "--tail", tail, &name])?, expected);
    }
    equal!(t.ok(&["logs", "--since", "2030-01-01T00:00:00Z", &name])?, "");
    equal!(t.ok(&["logs", "--since", "2020-01-01", &name])?, "1\n2");
    equal!(t.ok(&["logs", "--until", "1h", &name])?, "");
    t.client.run(&["logs", "--since", "bad", &name])?.code(1)?;
    // A second run goes on in the same log.
    t.ok(&["start", "-a", &name])?;
    equal!(t.ok(&["logs", &name])?, "1\n2\n1\n2");
    Ok(())
}

fn compressed_files_are_read(t: &Ctx) -> Result<()> {
    let name = t.name("x");
    t.ok(&[
        "run",
        "-d",
        "--name",
        &name,
        "--log-opt",
        "max-size=100k",
        "--log-opt",
        "max-file=50",
        "--log-opt",
        "compress=true",
        "busybox",
        "sh",
        "-c",
        "seq 1 20000; sleep 1000",
    ])?;
    let path = t.inspect(&name, "{{.LogPath}}")?;
    eventually("a file is compressed", PATIENCE, || Ok(std::fs::exists(format!("{path}.1.gz"))?))?;
    eventually("everything is there", PATIENCE, || Ok(t.ok(&["logs", "-n", "1", &name])? == "20000"))?;
    let text = t.ok(&["logs", &name])?;
    check!(
        text.lines().enumerate().all(|(i, line)| line == (i + 1).to_string())
            && text.lines().count() == 20_000,
        "lines are missing or out of order"
    );
    equal!(t.ok(&["logs", "-n", "15000", &name])?.lines().next(), Some("5001"));
    Ok(())
}

fn following_goes_over_rotations(t: &Ctx) -> Result<()> {
    for driver in ["json-file", "local"] {
        let name = t.name(driver);
        t.ok(&[
            "run",
            "-d",
            "--name",
            &name,
            "--log-driver",
            driver,
            "--log-opt",
            "max-size=100k",
            "--log-opt",
            "max-file=40",
            "--log-opt",
            "compress=true",
            "busybox",
            "sh",
            "-c",
            "for i in 1 2 3 4 5 6 7 8; do seq $((i*1000-999)) $((i*1000)); sleep 0.2; done",
        ])?;
        let output = t.client.start(&["logs", "-f", &name])?.finish(PATIENCE)?;
        check!(
            output.stdout.lines().enumerate().all(|(i, line)| line == (i + 1).to_string()),
            "{driver}: lines are missing or out of order"
        );
        equal!(output.stdout.lines().count(), 8000);
    }
    Ok(())
}

fn syslog_by_datagram(t: &Ctx) -> Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let name = t.name("x");
    let address = format!("syslog-address=udp://{}", socket.local_addr()?);
    let mut args = vec!["run", "--name", &name];
    args.extend(opts("syslog", &[&address, "tag=the-tag", "syslog-facility=local3"]));
    args.extend(["busybox", "sh", "-c", "echo out; sleep 0.1; echo err >&2"]);
    t.client.run(&args)?.code(0)?;
    let mut buffer = [0; 1000];
    for (priority, text) in [(158, "out\n"), (155, "err\n")] {
        let n = socket.recv(&mut buffer)?;
        let message = String::from_utf8_lossy(&buffer[..n]).into_owned();
        check!(message.starts_with(&format!("<{priority}>")), "{message}");
        check!(message.contains(" the-tag[") && message.ends_with(&format!("]: {text}")), "{message}");
    }
    // What is sent away can be read here all the same.
    equal!(t.client.run(&["logs", &name])?.stdout, "out\n");
    Ok(())
}

/// A stream service: what each of its connections says.
fn service(listener: TcpListener) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut buffer = [0; 65_536];
            while let Ok(n @ 1..) = stream.read(&mut buffer) {
                if sender.send(buffer[..n].to_vec()).is_err() {
                    return;
                }
            }
        }
    });
    receiver
}

fn await_bytes(got: &Receiver<Vec<u8>>, all: &mut Vec<u8>, text: &str) -> Result<()> {
    eventually(text, PATIENCE, || {
        all.extend(got.try_iter().flatten());
        Ok(all.windows(text.len()).any(|w| w == text.as_bytes()))
    })
}

fn syslog_by_stream(t: &Ctx) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = format!("syslog-address=tcp://{}", listener.local_addr()?);
    let got = service(listener);
    let name = t.name("x");
    let mut args = vec!["run", "--name", &name];
    args.extend(opts("syslog", &[&address, "syslog-format=rfc5424micro", "tag={{.Name}}"]));
    args.extend(["busybox", "sh", "-c", "echo one; echo two"]);
    t.client.run(&args)?.code(0)?;
    let mut all = Vec::new();
    await_bytes(&got, &mut all, " - two\n")?;
    let text = String::from_utf8_lossy(&all).into_owned();
    let first = text.lines().next().unwrap_or_default();
    let words: Vec<&str> = first.split(' ').collect();
    check!(words.len() == 8 && words[0] == "<30>1" && words[3] == name && words[5] == name, "{first}");
    check!(words[1].len() >= 27 && words[1].contains('.'), "no microseconds: {first}");
    Ok(())
}

fn syslog_by_local_socket(t: &Ctx) -> Result<()> {
    let dir = t.path("socket");
    std::fs::create_dir_all(&dir)?;
    // Addresses of unix sockets are short.
    let path = std::env::temp_dir().join(format!("ferry-syslog-{}", std::process::id()));
    let socket = UnixDatagram::bind(&path)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let name = t.name("x");
    let address = format!("syslog-address=unixgram://{}", path.display());
    let mut args = vec!["run", "--name", &name];
    args.extend(opts("syslog", &[&address]));
    args.extend(["busybox", "echo", "hi"]);
    let ran = t.client.run(&args);
    let mut buffer = [0; 1000];
    let received = socket.recv(&mut buffer);
    std::fs::remove_file(&path)?;
    ran?.code(0)?;
    let message = String::from_utf8_lossy(&buffer[..received?]).into_owned();
    check!(message.starts_with("<30>") && message.ends_with("]: hi\n"), "{message}");
    Ok(())
}

fn gelf(t: &Ctx) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = format!("gelf-address=tcp://{}", listener.local_addr()?);
    let got = service(listener);
    let name = t.name("x");
    let mut args = vec!["run", "--name", &name, "--label", "a=b"];
    args.extend(opts("gelf", &[&address, "labels=a"]));
    args.extend(["busybox", "sh", "-c", "echo 'a \"b\"' >&2"]);
    t.client.run(&args)?.code(0)?;
    let mut all = Vec::new();
    await_bytes(&got, &mut all, "\0")?;
    let message: serde_json::Value =
        serde_json::from_slice(all.split(|b| *b == 0).next().unwrap_or_default())?;
    equal!(message["version"], "1.1");
    equal!(message["short_message"], "a \"b\"");
    equal!(message["level"], 3);
    equal!(message["_a"], "b");
    equal!(message["_container_name"], name.as_str());
    equal!(message["_image_name"], "busybox");
    check!(message["timestamp"].as_f64().is_some_and(|n| n > 1.6e9), "{message}");
    Ok(())
}

fn fluentd(t: &Ctx) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = format!("fluentd-address={}", listener.local_addr()?);
    let got = service(listener);
    let name = t.name("x");
    let mut args = vec!["run", "--name", &name, "-e", "FOO=bar"];
    args.extend(opts("fluentd", &[&address, "tag=docker.{{.Name}}", "env=FOO"]));
    args.extend(["busybox", "echo", "hi"]);
    t.client.run(&args)?.code(0)?;
    let mut all = Vec::new();
    await_bytes(&got, &mut all, "hi")?;
    for expected in
        ["docker.", name.as_str(), "container_id", "container_name", "source", "stdout", "FOO", "hi"]
    {
        check!(
            all.windows(expected.len()).any(|w| w == expected.as_bytes()),
            "{expected} is missing: {all:?}"
        );
    }
    equal!(all.first(), Some(&0x94));
    Ok(())
}

fn a_service_that_dies_stops_nobody(t: &Ctx) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = format!("syslog-address=tcp://{}", listener.local_addr()?);
    let name = t.name("x");
    let mut args = vec!["run", "-d", "--name", &name];
    args.extend(opts("syslog", &[&address, "mode=non-blocking", "max-buffer-size=32k"]));
    let script = "echo first; sleep 1; yes 0123456789 | head -n 100000; echo done; sleep 1000";
    args.extend(["busybox", "sh", "-c", script]);
    t.ok(&args)?;
    let (stream, _) = listener.accept()?;
    drop((stream, listener));
    eventually("it went on", PATIENCE, || Ok(t.ok(&["logs", "-n", "1", &name])? == "done"))?;
    // What was lost is counted.
    eventually("the loss is shown", PATIENCE, || {
        let lost = t.inspect(&name, "{{json .State}}")?;
        let state: serde_json::Value = serde_json::from_str(&lost)?;
        Ok(state["LogEntriesLost"].as_u64().is_some_and(|n| n > 1000))
    })?;
    // The local copy has it all.
    equal!(t.ok(&["logs", &name])?.lines().count(), 100_002);
    Ok(())
}

fn a_slow_service_is_waited_for(t: &Ctx) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = format!("syslog-address=tcp://{}", listener.local_addr()?);
    let name = t.name("x");
    let mut args = vec!["run", "-d", "--name", &name];
    args.extend(opts("syslog", &[&address]));
    args.extend(["busybox", "sh", "-c", "seq 1 200000; echo done; sleep 1000"]);
    t.ok(&args)?;
    let (stream, _) = listener.accept()?;
    let said_done = || -> Result<bool> { Ok(t.ok(&["logs", "-n", "1", &name])? == "done") };
    std::thread::sleep(Duration::from_secs(2));
    check!(!said_done()?, "the container did not wait for its log");
    let reader = std::thread::spawn(move || {
        let (mut stream, mut buffer, mut lines) = (stream, vec![0; 1 << 16], 0);
        while lines < 200_001 {
            match stream.read(&mut buffer) {
                Ok(n @ 1..) => lines += buffer[..n].iter().filter(|b| **b == b'\n').count(),
                _ => break,
            }
        }
        lines
    });
    eventually("it went on", PATIENCE, said_done)?;
    equal!(reader.join().ok().context("the reader")?, 200_001);
    Ok(())
}

fn json_entries(t: &Ctx) -> Result<()> {
    let name = t.name("x");
    t.ok(&[
        "run",
        "--name",
        &name,
        "--log-opt",
        "tag=T",
        "busybox",
        "sh",
        "-c",
        "echo a; sleep 0.1; echo b >&2",
    ])?;
    let socket = t.client.socket()?;
    let path = |query: &str| format!("/v1.55/containers/{name}/logs?stdout=1&stderr=1&{query}");
    let answer = http::request(&socket, "GET", &path("format=json&details=1"), None)?;
    answer.status(200)?;
    equal!(answer.header("content-type"), Some("application/x-ndjson"));
    let text = answer.body.clone();
    let entries: Vec<serde_json::Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    equal!((&entries[0]["Line"], &entries[0]["Source"]), (&"a\n".into(), &"stdout".into()));
    equal!(entries[1]["Source"], "stderr");
    equal!(entries[0]["Attrs"][0]["Value"], "T");
    let answer = http::request(&socket, "GET", &path("format=xml"), None)?;
    equal!(answer.status(400)?.message()?, "unsupported log format");
    Ok(())
}

fn query_mistakes(t: &Ctx) -> Result<()> {
    let name = t.name("x");
    t.ok(&["run", "--name", &name, "busybox", "echo", "a"])?;
    let socket = t.client.socket()?;
    let get =
        |query: &str| http::request(&socket, "GET", &format!("/v1.47/containers/{name}/logs{query}"), None);
    equal!(get("")?.status(400)?.message()?, "Bad parameters: you must choose at least one stream");
    check!(
        get("?stdout=1&since=bad")?.status(400)?.message()?.contains("invalid value for \"since\""),
        "since"
    );
    for query in ["?stdout=1&tail=x", "?stdout=1&since=0", "?stdout=1&until=0", "?stdout=1&since=-5"] {
        check!(get(query)?.status(200)?.body.ends_with("a\n"), "{query}");
    }
    equal!(get("?stdout=1&since=9999999999")?.status(200)?.body.len(), 0);
    Ok(())
}

fn defaults_of_the_daemon(t: &Ctx) -> Result<()> {
    let options = ["--log-driver", "local", "--log-opt", "max-size=1m", "--log-opt", "cache-disabled=true"];
    let daemon = Daemon::start_with(&t.settings, "logdefaults", None, &options)?;
    let client = daemon.client()?;
    daemon::import_images(&t.settings, &client)?;
    equal!(client.ok(&["info", "-f", "{{.LoggingDriver}}"])?, "local");
    client.ok(&["run", "--name", "one", "busybox", "echo", "hi"])?;
    equal!(
        client.ok(&[
            "inspect",
            "-f",
            "{{.HostConfig.LogConfig.Type}} {{index .HostConfig.LogConfig.Config \"max-size\"}}",
            "one"
        ])?,
        "local 1m"
    );
    equal!(client.ok(&["logs", "one"])?, "hi");
    // A driver of its own gets the cache's options only, and without a cache there is nothing to read.
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let address = format!("syslog-address=udp://{}", socket.local_addr()?);
    client.ok(&[
        "run",
        "--name",
        "two",
        "--log-driver",
        "syslog",
        "--log-opt",
        &address,
        "busybox",
        "echo",
        "hi",
    ])?;
    client
        .run(&["logs", "two"])?
        .code(1)?
        .stderr_has("configured logging driver does not support reading")?;
    Ok(())
}

fn losses_survive_the_daemon(t: &Ctx) -> Result<()> {
    let daemon = Daemon::start(&t.settings, "losses")?;
    let client = daemon.client()?;
    daemon::import_images(&t.settings, &client)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = format!("syslog-address=tcp://{}", listener.local_addr()?);
    let mut args = vec!["run", "-d", "--name", "one"];
    args.extend(opts("syslog", &[&address, "mode=non-blocking", "max-buffer-size=10k"]));
    args.extend(["busybox", "sh", "-c", "sleep 0.5; yes | head -n 50000; sleep 1000"]);
    client.ok(&args)?;
    drop(listener);
    let lost = || -> Result<u64> {
        let state: serde_json::Value =
            serde_json::from_str(&client.ok(&["inspect", "-f", "{{json .State}}", "one"])?)?;
        Ok(state["LogEntriesLost"].as_u64().unwrap_or(0))
    };
    eventually("entries are lost", PATIENCE, || Ok(lost()? > 100))?;
    daemon.kill()?;
    daemon.up()?;
    check!(lost()? > 100, "the new daemon knows of no losses");
    Ok(())
}
