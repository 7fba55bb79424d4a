//! Bad requests and what Docker says to them, from the table in `tests/refusals.txt`.
//!
//! An entry is a request, the answer's status and message, and, where ferry differs on purpose, a line with what it
//! says instead and a comment with the reason. `{run}`, `{exit}`, `{created}` and `{paused}` are the names of containers
//! in these states, the same in angle brackets their ids.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::{cases, check, equal};
use crate::harness::{Case, Ctx, http};

pub fn cases() -> Vec<Case> {
    cases!("refusals", Engine, [table, the_table_is_read])
}

const TABLE: &str = include_str!("../../refusals.txt");

/// One request and its answer.
#[derive(Debug)]
struct Entry<'a> {
    line: usize,
    method: &'a str,
    path: &'a str,
    body: Option<&'a str>,
    docker: (u16, &'a str),
    ferry: Option<(u16, &'a str)>,
}

fn parse(text: &str) -> Result<Vec<Entry<'_>>> {
    let mut entries: Vec<Entry<'_>> = Vec::new();
    let mut request = None;
    for (index, line) in text.lines().enumerate() {
        let answer = |text: &'static str| -> Result<()> { bail!("line {}: {text}", index + 1) };
        if line.starts_with('#') || line.trim().is_empty() {
            continue;
        }
        let Some(said) = line.strip_prefix("  ") else {
            let mut words = line.splitn(3, ' ');
            request = Some((
                index + 1,
                words.next().unwrap_or_default(),
                words.next().unwrap_or_default(),
                words.next(),
            ));
            continue;
        };
        let (own, said) = match said.strip_prefix("ferry ") {
            Some(said) => (true, said),
            None => (false, said),
        };
        let (status, message) = said.split_once(' ').unwrap_or((said, ""));
        let status = status.parse().with_context(|| format!("line {}: no status", index + 1))?;
        match (own, request.take()) {
            (false, Some((line, method, path, body))) => {
                entries.push(Entry { line, method, path, body, docker: (status, message), ferry: None })
            }
            (true, None) => match entries.last_mut() {
                Some(entry) => entry.ferry = Some((status, message)),
                None => answer("an answer without a request")?,
            },
            _ => answer("a request needs Docker's answer first")?,
        }
    }
    Ok(entries)
}

fn the_table_is_read(_: &Ctx) -> Result<()> {
    let entries = parse(TABLE)?;
    check!(entries.len() >= 200, "only {} refusals", entries.len());
    check!(parse("GET /x\nGET /y\n  ferry 200 a\n").is_err(), "an answer of ferry's alone is taken");
    Ok(())
}

/// Containers in the states that requests are refused in.
fn containers(t: &Ctx, socket: &Path) -> Result<BTreeMap<&'static str, (String, String)>> {
    let mut made = BTreeMap::new();
    let post =
        |path: &str, body: Value| http::request(socket, "POST", path, Some(body.to_string().as_bytes()));
    for state in ["run", "exit", "created", "paused"] {
        let name = t.name(&format!("refusals-{state}"));
        let command = if state == "exit" { json!(["true"]) } else { json!(["sleep", "600"]) };
        let body = json!({"Image": "busybox", "Cmd": command});
        let answer = post(&format!("/containers/create?name={name}"), body)?;
        let id = answer.status(201)?.json()?["Id"].as_str().context("no id")?.to_owned();
        if state != "created" {
            post(&format!("/containers/{name}/start"), Value::Null)?.status(204)?;
        }
        if state == "exit" {
            post(&format!("/containers/{name}/wait"), Value::Null)?.status(200)?;
        }
        if state == "paused" {
            post(&format!("/containers/{name}/pause"), Value::Null)?.status(204)?;
        }
        made.insert(state, (name, id));
    }
    Ok(made)
}

fn table(t: &Ctx) -> Result<()> {
    let socket = t.client.socket()?;
    let containers = containers(t, &socket)?;
    let fill = |text: &str| {
        containers.iter().fold(text.to_owned(), |text, (state, (name, id))| {
            text.replace(&format!("{{{state}}}"), name).replace(&format!("<{state}>"), id)
        })
    };
    let docker = t.settings.against.is_some();
    let mut wrong = Vec::new();
    for entry in parse(TABLE)? {
        let path = fill(entry.path);
        let body = entry.body.map(&fill);
        let answer = http::request(&socket, entry.method, &path, body.as_deref().map(str::as_bytes))
            .with_context(|| format!("{} {path}", entry.method))?;
        let message =
            answer.message().unwrap_or_else(|_| answer.body.clone()).trim_end().replace('\n', "\\n");
        let (status, expected) = if docker { entry.docker } else { entry.ferry.unwrap_or(entry.docker) };
        let expected = fill(expected);
        if (answer.status, message.as_str()) != (status, expected.as_str()) {
            wrong.push(format!(
                "line {}: {} {}: {} {message:?} instead of {status} {expected:?}",
                entry.line, entry.method, entry.path, answer.status
            ));
        }
    }
    check!(wrong.is_empty(), "{} answers are others:\n{}", wrong.len(), wrong.join("\n"));
    for (name, _) in containers.values() {
        equal!(http::request(&socket, "DELETE", &format!("/containers/{name}?force=1"), None)?.status, 204);
    }
    Ok(())
}
