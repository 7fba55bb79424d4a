//! What the engine answers, checked against Docker's descriptions of the API: every field is described, of the described
//! type, and there when it is required; every status is among the described ones.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{cases, check};
use crate::harness::{Case, Ctx, http, skip};

#[path = "../../../crates/ferry-api/tests/schema/description.rs"]
#[allow(clippy::unwrap_used, missing_docs, reason = "it reads a file of this repository")]
#[allow(dead_code, reason = "the tests of the types use the rest")]
mod schema;

use schema::Description;

pub fn cases() -> Vec<Case> {
    cases!("description", Engine, [version_1_51, version_1_55, refusals])
}

/// Where Docker itself does not do as described (seen with 28.5.2), and so ferry neither.
const NOT_AS_DESCRIBED: &[&str] = &[
    // Pointers of Go's that are null when unset.
    ".MemorySwappiness: null",
    ".OomKillDisable: null",
    // Of an exec that has not ended.
    "GET /exec/{id}/json 200.ExitCode: null",
];

/// Where ferry does more than Docker of that version, on purpose.
const KEPT: &[&str] = &[
    // Dropped in 1.52, but scripts go on reading them (`{{.NetworkSettings.IPAddress}}`).
    "GET /containers/{id}/json 200.NetworkSettings.",
    // Described as dropped in 1.53, but Docker goes on sending them to clients that do not ask for `verbose`.
    "GET /system/df 200.BuildCache is not described",
    "GET /system/df 200.Containers is not described",
    "GET /system/df 200.Images is not described",
    "GET /system/df 200.LayersSize is not described",
    "GET /system/df 200.Volumes is not described",
    // Sent when there is one, as by Docker; the description of 1.52 and later forgets it.
    "GET /images/{name}/json 200.Parent is not described",
];

/// The calls of one version, and what was wrong with their answers.
struct Calls<'a> {
    t: &'a Ctx,
    socket: PathBuf,
    version: &'a str,
    description: Description,
    faults: Vec<String>,
}

impl Calls<'_> {
    /// Makes a call; `template` is its path in the description, in which `{id}` or `{name}` becomes `name`.
    fn call(
        &mut self,
        method: &str,
        template: &str,
        name: &str,
        query: &str,
        body: Option<&Value>,
    ) -> Result<Value> {
        let path = template.replace("{id}", name).replace("{name}", name).replace("{name:.*}", name);
        let path = format!("/v{}{path}{query}", self.version);
        let body = body.map(Value::to_string);
        let answer = http::request(&self.socket, method, &path, body.as_deref().map(str::as_bytes))
            .with_context(|| format!("{method} {path}"))?;
        let value: Option<Value> = serde_json::from_str(&answer.body).ok();
        check!(
            answer.body.trim().is_empty()
                || value.is_some()
                || answer.status >= 500
                || !answer.body.starts_with('{'),
            "{method} {path}: not JSON: {answer:?}"
        );
        let found = self.description.answer_mismatches(method, template, answer.status, value.as_ref());
        self.faults.extend(
            found.into_iter().filter(|f| !NOT_AS_DESCRIBED.iter().chain(KEPT).any(|known| f.contains(known))),
        );
        Ok(value.unwrap_or_default())
    }

    fn get(&mut self, template: &str, name: &str, query: &str) -> Result<Value> {
        self.call("GET", template, name, query, None)
    }

    fn post(&mut self, template: &str, name: &str, query: &str, body: Value) -> Result<Value> {
        self.call("POST", template, name, query, Some(&body))
    }

    fn done(mut self) -> Result<()> {
        self.faults.sort();
        self.faults.dedup();
        check!(self.faults.is_empty(), "{} answers are not as described: {:#?}", self.version, self.faults);
        Ok(())
    }
}

fn version_1_51(t: &Ctx) -> Result<()> {
    every_area(t, "1.51", Description::load_1_51())
}

fn version_1_55(t: &Ctx) -> Result<()> {
    if t.settings.against.is_some() {
        return skip("the other engine's API may not go as far");
    }
    every_area(t, "1.55", Description::load())
}

fn every_area(t: &Ctx, version: &str, description: Description) -> Result<()> {
    let mut calls = Calls { t, socket: t.client.socket()?, version, description, faults: Vec::new() };
    let name = calls.t.name("described");
    let outcome = containers(&mut calls, &name)
        .and_then(|()| images_and_volumes(&mut calls, &name))
        .and_then(|()| the_daemon(&mut calls));
    for path in [format!("/containers/{name}?force=1&v=1"), format!("/volumes/{name}?force=1")] {
        let _ = http::request(&calls.socket, "DELETE", &path, None);
    }
    outcome?;
    calls.done()
}

fn containers(calls: &mut Calls<'_>, name: &str) -> Result<()> {
    calls.post("/volumes/create", "", "", json!({"Name": name, "Labels": {"a": "b"}}))?;
    let create = json!({
        "Image": "busybox",
        "Cmd": ["sleep", "600"],
        "Labels": {"described": name},
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 100_000_000},
        "ExposedPorts": {"80/tcp": {}},
        "HostConfig": {
            "Binds": [format!("{name}:/data")],
            "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1"}]},
            "Tmpfs": {"/scratch": ""},
            "Memory": 64 << 20,
            "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3},
            "Ulimits": [{"Name": "nofile", "Soft": 64, "Hard": 64}],
        },
    });
    calls.post("/containers/create", "", &format!("?name={name}"), create)?;
    calls.get("/containers/{id}/json", name, "")?;
    calls.post("/containers/{id}/start", name, "", Value::Null)?;
    calls.post("/containers/{id}/start", name, "", Value::Null)?;
    calls.get("/containers/json", "", "?all=1&size=1")?;
    calls.get("/containers/{id}/json", name, "?size=1")?;
    calls.get("/containers/{id}/top", name, "")?;
    calls.get("/containers/{id}/changes", name, "")?;
    calls.get("/containers/{id}/stats", name, "?stream=false")?;
    calls.get("/containers/{id}/stats", name, "?stream=false&one-shot=true")?;
    calls.post("/containers/{id}/update", name, "", json!({"CpuShares": 512}))?;
    let exec = calls.post(
        "/containers/{id}/exec",
        name,
        "",
        json!({"Cmd": ["sleep", "600"], "AttachStdout": true}),
    )?;
    let exec = exec["Id"].as_str().context("no exec was made")?.to_owned();
    calls.get("/exec/{id}/json", &exec, "")?;
    calls.post("/exec/{id}/start", &exec, "", json!({"Detach": true}))?;
    calls.get("/exec/{id}/json", &exec, "")?;
    calls.post("/containers/{id}/pause", name, "", Value::Null)?;
    calls.post("/containers/{id}/unpause", name, "", Value::Null)?;
    calls.post("/containers/{id}/resize", name, "?h=20&w=60", Value::Null)?;
    calls.get("/networks", "", "")?;
    calls.get("/networks/{id}", "bridge", "")?;
    calls.post("/containers/{id}/rename", name, &format!("?name={name}-other"), Value::Null)?;
    calls.post("/containers/{id}/rename", &format!("{name}-other"), &format!("?name={name}"), Value::Null)?;
    calls.post("/containers/{id}/kill", name, "", Value::Null)?;
    calls.post("/containers/{id}/wait", name, "", Value::Null)?;
    calls.post("/containers/{id}/stop", name, "", Value::Null)?;
    calls.get("/containers/{id}/json", name, "")?;
    Ok(())
}

fn images_and_volumes(calls: &mut Calls<'_>, name: &str) -> Result<()> {
    calls.get("/images/json", "", "?all=1&shared-size=1&digests=1")?;
    calls.get("/images/{name}/json", "busybox", "")?;
    calls.get("/images/{name}/history", "busybox", "")?;
    calls.post("/images/{name}/tag", "busybox", &format!("?repo={name}&tag=one"), Value::Null)?;
    calls.call("DELETE", "/images/{name}", &format!("{name}:one"), "", None)?;
    let commit = format!("?container={name}&repo={name}&tag=two&changes=ENV%20A=b");
    calls.post("/commit", "", &commit, json!({}))?;
    calls.get("/images/{name}/json", &format!("{name}:two"), "")?;
    calls.call("DELETE", "/images/{name}", &format!("{name}:two"), "", None)?;
    calls.post("/images/prune", "", "?filters=%7B%22label%22%3A%5B%22no-such-label%22%5D%7D", Value::Null)?;
    calls.get("/volumes", "", "")?;
    calls.get("/volumes/{name}", name, "")?;
    let label = format!("?filters=%7B%22label%22%3A%5B%22described%3D{name}%22%5D%7D");
    calls.post("/containers/prune", "", &label, Value::Null)?;
    calls.call("DELETE", "/volumes/{name}", name, "", None)?;
    calls.post("/volumes/prune", "", &label, Value::Null)?;
    calls.post("/networks/prune", "", &label, Value::Null)?;
    Ok(())
}

fn the_daemon(calls: &mut Calls<'_>) -> Result<()> {
    calls.get("/info", "", "")?;
    calls.get("/version", "", "")?;
    calls.get("/system/df", "", "")?;
    calls.get("/system/df", "", "?verbose=1")?;
    calls.get("/plugins", "", "")?;
    calls.get("/_ping", "", "")?;
    calls.call("HEAD", "/_ping", "", "", None)?;
    calls.post("/build/prune", "", "", Value::Null)?;
    Ok(())
}

/// Errors have a described status and are errors.
fn refusals(t: &Ctx) -> Result<()> {
    let description = Description::load();
    let mut calls = Calls { t, socket: t.client.socket()?, version: "1.55", description, faults: Vec::new() };
    if calls.t.settings.against.is_some() {
        calls.version = "1.51";
        calls.description = Description::load_1_51();
    }
    for template in [
        "/containers/{id}/json",
        "/containers/{id}/top",
        "/containers/{id}/changes",
        "/containers/{id}/logs",
        "/containers/{id}/export",
        "/containers/{id}/stats",
        "/images/{name}/json",
        "/images/{name}/history",
        "/volumes/{name}",
        "/networks/{id}",
        "/exec/{id}/json",
        "/plugins/{name}/json",
        "/swarm",
        "/nodes",
        "/nodes/{id}",
        "/services",
        "/services/{id}",
        "/tasks",
        "/tasks/{id}",
        "/secrets",
        "/secrets/{id}",
        "/configs",
        "/configs/{id}",
    ] {
        let query = if template.ends_with("logs") { "?stdout=1" } else { "" };
        let answer = calls.get(template, "missing", query)?;
        check!(answer["message"].is_string(), "{template}: {answer}");
    }
    for template in ["start", "stop", "restart", "kill", "pause", "unpause", "wait", "resize", "rename"] {
        let template = format!("/containers/{{id}}/{template}");
        let answer = calls.post(&template, "missing", "?h=1&w=1&name=x", Value::Null)?;
        check!(answer["message"].is_string(), "{template}: {answer}");
    }
    for template in
        ["/containers/{id}", "/images/{name}", "/volumes/{name}", "/networks/{id}", "/plugins/{name}"]
    {
        let answer = calls.call("DELETE", template, "missing", "", None)?;
        check!(answer["message"].is_string(), "{template}: {answer}");
    }
    calls.done()
}
