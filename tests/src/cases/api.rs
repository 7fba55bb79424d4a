//! The API itself: versions, errors, framing, and requests that no well-behaved client sends.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{cases, check, equal};
use crate::harness::{Case, Ctx, eventually, http};

pub fn cases() -> Vec<Case> {
    cases!(
        "api",
        Engine,
        [
            ping,
            version_and_info,
            version_prefixes,
            versions_out_of_range,
            unknown_paths_and_methods,
            refusals_reach_who_is_still_sending,
            malformed_json,
            wrong_types,
            missing_bodies,
            oversized_bodies,
            garbage_on_the_wire,
            pipelined_and_kept_alive,
            names_of_missing_things,
            create_needs_an_image,
            list_of_containers,
            attach_with_frames,
            attach_raw,
            exec_inspect,
            wait_before_the_end,
            stats_stream,
            slow_clients_hold_nobody_up,
        ]
    )
}

fn socket(t: &Ctx) -> Result<PathBuf> {
    t.client.socket()
}

fn get(t: &Ctx, path: &str) -> Result<http::Answer> {
    http::request(&socket(t)?, "GET", path, None)
}

fn post(t: &Ctx, path: &str, body: &Value) -> Result<http::Answer> {
    http::request(&socket(t)?, "POST", path, Some(body.to_string().as_bytes()))
}

fn ping(t: &Ctx) -> Result<()> {
    let answer = get(t, "/_ping")?;
    answer.status(200)?;
    equal!(answer.body, "OK");
    equal!(answer.header("ostype"), Some("linux"));
    equal!(answer.header("docker-experimental"), Some("false"));
    check!(answer.header("api-version").is_some_and(|version| version.starts_with("1.")), "{answer:?}");
    let head = http::request(&socket(t)?, "HEAD", "/_ping", None)?;
    head.status(200)?;
    equal!(head.body, "");
    Ok(())
}

fn version_and_info(t: &Ctx) -> Result<()> {
    let version = get(t, "/version")?.json()?;
    for key in
        ["Version", "ApiVersion", "MinAPIVersion", "Os", "Arch", "KernelVersion", "GoVersion", "GitCommit"]
    {
        check!(version[key].is_string(), "{key} is missing: {version}");
    }
    equal!(version["MinAPIVersion"].as_str(), Some("1.24"));
    check!(version["Components"].is_array(), "no components: {version}");
    let info = get(t, "/info")?.json()?;
    for key in [
        "ID",
        "Driver",
        "CgroupVersion",
        "CgroupDriver",
        "KernelVersion",
        "OperatingSystem",
        "DockerRootDir",
        "Name",
    ] {
        check!(info[key].is_string(), "{key} is missing: {info}");
    }
    for key in ["Containers", "ContainersRunning", "Images", "NCPU", "MemTotal"] {
        check!(info[key].is_u64(), "{key} is missing: {info}");
    }
    Ok(())
}

fn version_prefixes(t: &Ctx) -> Result<()> {
    let newest = get(t, "/version")?.json()?["ApiVersion"].as_str().unwrap_or_default().to_owned();
    for version in ["1.24", "1.30", "1.41", "1.44", "1.47", newest.as_str()] {
        get(t, &format!("/v{version}/containers/json"))?.status(200)?;
        get(t, &format!("/v{version}/_ping"))?.status(200)?;
    }
    get(t, "/containers/json")?.status(200)?;
    Ok(())
}

fn versions_out_of_range(t: &Ctx) -> Result<()> {
    // Docker's own answer to this is plain text and not JSON.
    let old = get(t, "/v1.23/containers/json")?;
    old.status(400)?;
    let message = "client version 1.23 is too old. Minimum supported API version is 1.24";
    check!(old.body.contains(message), "{old:?}");
    let new = get(t, "/v1.99/containers/json")?;
    new.status(400)?;
    let message = "client version 1.99 is too new. Maximum supported API version is 1.";
    check!(new.body.contains(message), "{new:?}");
    Ok(())
}

fn unknown_paths_and_methods(t: &Ctx) -> Result<()> {
    let answer = get(t, "/v1.44/no/such/path")?;
    answer.status(404)?;
    equal!(answer.message()?, "page not found");
    equal!(answer.header("content-type"), Some("application/json"));
    let answer = http::request(&socket(t)?, "PUT", "/v1.44/containers/json", None)?;
    check!(matches!(answer.status, 404 | 405), "{answer:?}");
    Ok(())
}

fn refusals_reach_who_is_still_sending(t: &Ctx) -> Result<()> {
    // More than a socket buffer holds.
    let body = vec![b'x'; 2 << 20];
    for (path, status) in [("/v1.44/no/such/path", 404), ("/v1.99/containers/create", 400)] {
        let answer = http::request(&socket(t)?, "POST", path, Some(&body))?;
        answer.status(status)?;
    }
    Ok(())
}

fn malformed_json(t: &Ctx) -> Result<()> {
    for body in ["{", "{\"Image\": }", "[1,2", "nonsense"] {
        let answer = http::request(&socket(t)?, "POST", "/v1.44/containers/create", Some(body.as_bytes()))?;
        answer.status(400)?;
        check!(!answer.message()?.is_empty(), "no message for {body}");
    }
    let answer = http::request(&socket(t)?, "POST", "/v1.44/containers/create", Some(b"{}{}"))?;
    answer.status(400)?;
    Ok(())
}

fn wrong_types(t: &Ctx) -> Result<()> {
    for body in [
        json!({"Image": 5}),
        json!({"Image": "busybox", "Env": "A=1"}),
        json!({"Image": "busybox", "HostConfig": {"Memory": "many"}}),
    ] {
        post(t, "/v1.44/containers/create", &body)?.status(400)?;
    }
    // Go's decoder does not mind how names are capitalised.
    let answer = post(
        t,
        "/v1.44/containers/create",
        &json!({"image": "busybox", "CMD": ["true"], "hostconfig": {"memory": 67108864}}),
    )?;
    answer.status(201)?;
    let id = answer.json()?["Id"].as_str().context("no id")?.to_owned();
    t.remove_later(&id);
    equal!(t.inspect(&id, "{{.HostConfig.Memory}} {{json .Config.Cmd}}")?, "67108864 [\"true\"]");
    Ok(())
}

fn missing_bodies(t: &Ctx) -> Result<()> {
    let answer = http::request(&socket(t)?, "POST", "/v1.44/containers/create", None)?;
    answer.status(400)?;
    let name = t.name("x");
    t.ok(&["run", "-d", "--name", &name, "busybox", "sleep", "1000"])?;
    http::request(&socket(t)?, "POST", &format!("/v1.44/containers/{name}/exec"), None)?.status(400)?;
    // Those without a body are fine without one.
    http::request(&socket(t)?, "POST", &format!("/v1.44/containers/{name}/pause"), None)?.status(204)?;
    http::request(&socket(t)?, "POST", &format!("/v1.44/containers/{name}/unpause"), None)?.status(204)?;
    http::request(&socket(t)?, "POST", &format!("/v1.44/containers/{name}/start"), None)?.status(304)?;
    Ok(())
}

fn oversized_bodies(t: &Ctx) -> Result<()> {
    // A hundred megabytes of JSON: refused or taken, and the engine goes on.
    let mut body = br#"{"Image":"busybox","Env":[""#.to_vec();
    body.resize(100 << 20, b'a');
    body.extend_from_slice(br#""]}"#);
    if let Ok(answer) = http::request(&socket(t)?, "POST", "/v1.44/containers/create", Some(&body)) {
        check!(matches!(answer.status, 201 | 400 | 413), "status {}", answer.status);
        if answer.status == 201 {
            t.remove_later(answer.json()?["Id"].as_str().unwrap_or_default());
        }
    }
    // Announced and never sent.
    let head = b"POST /v1.44/containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n{";
    let mut stream = http::connect(&socket(t)?)?;
    stream.write_all(head)?;
    drop(stream);
    get(t, "/_ping")?.status(200)?;
    Ok(())
}

fn garbage_on_the_wire(t: &Ctx) -> Result<()> {
    for bytes in [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice(),
        b"GET\r\n\r\n",
        b"\0\0\0\0",
        &[b'a'; 100_000],
    ] {
        let mut stream = http::connect(&socket(t)?)?;
        stream.set_read_timeout(Some(Duration::from_secs(3)))?;
        // The engine may close at any point of it.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer);
        check!(answer.is_empty() || text.starts_with("HTTP/1.1 4"), "answer to garbage: {text}");
    }
    get(t, "/_ping")?.status(200)?;
    Ok(())
}

fn pipelined_and_kept_alive(t: &Ctx) -> Result<()> {
    let mut stream = http::connect(&socket(t)?)?;
    stream.write_all(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\nGET /_ping HTTP/1.1\r\nHost: x\r\n\r\nGET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    equal!(text.matches("HTTP/1.1 200 OK").count(), 3);
    Ok(())
}

fn names_of_missing_things(t: &Ctx) -> Result<()> {
    for (method, path, message) in [
        ("GET", "/v1.44/containers/nope/json", "No such container: nope"),
        ("POST", "/v1.44/containers/nope/start", "No such container: nope"),
        ("DELETE", "/v1.44/containers/nope", "No such container: nope"),
        ("GET", "/v1.44/containers/nope/logs?stdout=1", "No such container: nope"),
        ("GET", "/v1.44/images/nope/json", "No such image: nope"),
        ("GET", "/v1.44/images/some/where/nope:tag/json", "No such image: some/where/nope:tag"),
        ("DELETE", "/v1.44/images/nope", "No such image: nope:latest"),
        ("GET", "/v1.44/exec/nope/json", "No such exec instance: nope"),
    ] {
        let answer = http::request(&socket(t)?, method, path, None)?;
        answer.status(404)?;
        check!(answer.message()?.contains(message), "{method} {path}: {}", answer.body);
    }
    Ok(())
}

fn create_needs_an_image(t: &Ctx) -> Result<()> {
    let answer = post(t, "/v1.44/containers/create", &json!({"Image": "no-such-image"}))?;
    answer.status(404)?;
    equal!(answer.message()?, "No such image: no-such-image:latest");
    Ok(())
}

fn list_of_containers(t: &Ctx) -> Result<()> {
    let name = t.name("x");
    let id = t.ok(&[
        "run",
        "-d",
        "--name",
        &name,
        "--label",
        "a=b",
        "-p",
        "127.0.0.1:0:80",
        "busybox",
        "sleep",
        "1000",
    ])?;
    let filter = format!("%7B%22name%22%3A%5B%22{name}%22%5D%7D");
    let list = get(t, &format!("/v1.44/containers/json?filters={filter}"))?.json()?;
    let one = &list[0];
    equal!(one["Id"].as_str(), Some(id.as_str()));
    equal!(one["Names"], json!([format!("/{name}")]));
    equal!(one["State"].as_str(), Some("running"));
    equal!(one["Labels"], json!({"a": "b"}));
    equal!(one["Ports"][0]["PrivatePort"].as_u64(), Some(80));
    equal!(one["Ports"][0]["IP"].as_str(), Some("127.0.0.1"));
    check!(
        one["Created"].is_u64() && one["ImageID"].as_str().is_some_and(|id| id.starts_with("sha256:")),
        "{one}"
    );
    get(t, "/v1.44/containers/json?filters=nonsense")?.status(400)?;
    Ok(())
}

/// Creates and starts a container through the API after attaching to it; what arrives on the connection.
fn attached_output(t: &Ctx, tty: bool, what: &str) -> Result<Vec<u8>> {
    let name = t.name(what);
    let body = json!({"Image": "busybox", "Cmd": ["sh", "-c", "echo out; sleep 0.2; echo err >&2"], "Tty": tty, "AttachStdout": true});
    post(t, &format!("/v1.44/containers/create?name={name}"), &body)?.status(201)?;
    let mut stream = http::connect(&socket(t)?)?;
    let head = format!(
        "POST /v1.44/containers/{name}/attach?stream=1&stdout=1&stderr=1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).context("no answer to attach")?;
        answer.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&answer).to_lowercase();
    check!(head.starts_with("http/1.1 101 "), "{head}");
    let kind =
        if tty { "application/vnd.docker.raw-stream" } else { "application/vnd.docker.multiplexed-stream" };
    check!(head.contains(kind) && head.contains("upgrade: tcp"), "{head}");
    http::request(&socket(t)?, "POST", &format!("/v1.44/containers/{name}/start"), None)?.status(204)?;
    let mut output = Vec::new();
    stream.read_to_end(&mut output)?;
    Ok(output)
}

fn attach_with_frames(t: &Ctx) -> Result<()> {
    let output = attached_output(t, false, "x")?;
    equal!(output, b"\x01\0\0\0\0\0\0\x04out\n\x02\0\0\0\0\0\0\x04err\n");
    Ok(())
}

fn attach_raw(t: &Ctx) -> Result<()> {
    equal!(attached_output(t, true, "x")?, b"out\r\nerr\r\n");
    Ok(())
}

fn exec_inspect(t: &Ctx) -> Result<()> {
    let name = t.name("x");
    t.ok(&["run", "-d", "--name", &name, "busybox", "sleep", "1000"])?;
    let answer = post(
        t,
        &format!("/v1.44/containers/{name}/exec"),
        &json!({"Cmd": ["sh", "-c", "sleep 0.3; exit 9"]}),
    )?;
    answer.status(201)?;
    let id = answer.json()?["Id"].as_str().context("no id")?.to_owned();
    equal!(get(t, &format!("/v1.44/exec/{id}/json"))?.json()?["Running"].as_bool(), Some(false));
    post(t, &format!("/v1.44/exec/{id}/start"), &json!({"Detach": true}))?.status(200)?;
    eventually("it ends with 9", Duration::from_secs(5), || {
        let exec = get(t, &format!("/v1.44/exec/{id}/json"))?.json()?;
        Ok(exec["Running"] == json!(false) && exec["ExitCode"] == json!(9))
    })?;
    post(t, &format!("/v1.44/exec/{id}/start"), &json!({"Detach": true}))?.status(409)?;
    Ok(())
}

fn wait_before_the_end(t: &Ctx) -> Result<()> {
    let name = t.name("x");
    t.ok(&["create", "--name", &name, "busybox", "sh", "-c", "sleep 0.3; exit 4"])?;
    let path = format!("/v1.44/containers/{name}/wait?condition=next-exit");
    let socket = socket(t)?;
    let waiting = std::thread::spawn(move || http::request(&socket, "POST", &path, None));
    std::thread::sleep(Duration::from_millis(200));
    t.ok(&["start", &name])?;
    let answer = waiting.join().map_err(|_| anyhow::anyhow!("the waiting thread panicked"))??;
    equal!(answer.status(200)?.json()?["StatusCode"].as_i64(), Some(4));
    post(t, &format!("/v1.44/containers/{name}/wait?condition=nonsense"), &json!({}))?.status(400)?;
    Ok(())
}

fn stats_stream(t: &Ctx) -> Result<()> {
    let name = t.name("x");
    t.ok(&["run", "-d", "--name", &name, "busybox", "sleep", "1000"])?;
    let stats = get(t, &format!("/v1.44/containers/{name}/stats?stream=false"))?.json()?;
    check!(stats["memory_stats"]["usage"].as_u64().is_some_and(|usage| usage > 0), "{stats}");
    check!(
        stats["cpu_stats"]["cpu_usage"]["total_usage"].is_u64() && stats["precpu_stats"].is_object(),
        "{stats}"
    );
    check!(stats["networks"]["eth0"]["rx_bytes"].is_u64(), "{stats}");
    equal!(stats["pids_stats"]["current"].as_u64(), Some(1));
    Ok(())
}

fn slow_clients_hold_nobody_up(t: &Ctx) -> Result<()> {
    let name = t.name("x");
    t.ok(&["run", "-d", "--name", &name, "busybox", "sh", "-c", "yes | head -c 20000000; sleep 1000"])?;
    // Connections that ask for much and read nothing, or ask for nothing at all.
    let mut idle = Vec::new();
    for _ in 0..50 {
        let mut stream = http::connect(&socket(t)?)?;
        stream.write_all(
            format!("GET /v1.44/containers/{name}/logs?stdout=1&follow=1 HTTP/1.1\r\nHost: x\r\n\r\n")
                .as_bytes(),
        )?;
        idle.push(stream);
        idle.push(http::connect(&socket(t)?)?);
    }
    let began = std::time::Instant::now();
    for _ in 0..20 {
        get(t, "/v1.44/containers/json")?.status(200)?;
    }
    check!(began.elapsed() < Duration::from_secs(2), "20 lists took {:?}", began.elapsed());
    Ok(())
}
