//! Pulling from a registry on loopback.

use anyhow::Result;

use super::{cases, check, equal};
use crate::harness::archive::Tar;
use crate::harness::registry::Registry;
use crate::harness::{Case, Ctx};

pub fn cases() -> Vec<Case> {
    cases!(
        "pull",
        EachClient,
        [
            pull_and_run,
            run_pulls_what_is_missing,
            pull_quietly,
            pull_by_digest,
            unknown_names,
            registry_that_is_not_there,
            corrupt_layer,
        ]
    )
}

fn registry(t: &Ctx, what: &str) -> Result<(Registry, String)> {
    let registry = Registry::start(&t.settings, &t.name(what))?;
    let layers =
        [std::fs::read(&t.settings.busybox)?, Tar::default().file("pulled", 0o644, b"over http\n").bytes()];
    registry.put("lib/box", "v1", &layers, &["cat", "/pulled"])?;
    let name = format!("{}/lib/box:v1", registry.addr);
    Ok((registry, name))
}

fn pull_and_run(t: &Ctx) -> Result<()> {
    let (_registry, name) = registry(t, "r")?;
    let output = t.client.run(&["pull", &name])?;
    output.code(0)?.stdout_has("v1: Pulling from lib/box")?.stdout_has("Digest: sha256:")?;
    output.stdout_has(&format!("Status: Downloaded newer image for {name}"))?;
    check!(output.stdout.lines().last() == Some(name.as_str()), "the last line is not the name\n{output}");
    equal!(t.ok(&["run", "--rm", &name])?, "over http");
    t.client
        .run(&["pull", &name])?
        .code(0)?
        .stdout_has(&format!("Status: Image is up to date for {name}"))?;
    check!(
        t.ok(&["image", "inspect", "-f", "{{index .RepoDigests 0}}", &name])?.contains("/lib/box@sha256:"),
        "no digest"
    );
    t.ok(&["rmi", &name])?;
    Ok(())
}

fn run_pulls_what_is_missing(t: &Ctx) -> Result<()> {
    let (_registry, name) = registry(t, "r")?;
    let output = t.client.run(&["run", "--rm", &name])?;
    // All talk about pulling is on stderr.
    output.code(0)?.stdout("over http")?.stderr_has(&format!("Unable to find image '{name}' locally"))?;
    t.client.run(&["run", "--rm", "--pull", "never", &name])?.code(0)?;
    t.ok(&["rmi", &name])?;
    t.client.run(&["run", "--rm", "--pull", "never", &name])?.code(125)?.stderr_has("No such image")?;
    Ok(())
}

fn pull_quietly(t: &Ctx) -> Result<()> {
    let (_registry, name) = registry(t, "r")?;
    t.client.run(&["pull", "-q", &name])?.code(0)?.stdout(&name)?;
    t.ok(&["rmi", &name])?;
    Ok(())
}

fn pull_by_digest(t: &Ctx) -> Result<()> {
    let (registry, name) = registry(t, "r")?;
    let output = t.ok(&["pull", &name])?;
    let digest = output.lines().find_map(|line| line.strip_prefix("Digest: ")).unwrap_or_default();
    t.ok(&["rmi", &name])?;
    let exact = format!("{}/lib/box@{digest}", registry.addr);
    t.ok(&["pull", &exact])?;
    equal!(t.ok(&["run", "--rm", &exact])?, "over http");
    t.ok(&["rmi", &exact])?;
    Ok(())
}

fn unknown_names(t: &Ctx) -> Result<()> {
    let (registry, _) = registry(t, "r")?;
    let tag = format!("{}/lib/box:no-such-tag", registry.addr);
    t.client
        .run(&["pull", &tag])?
        .code(1)?
        .stderr_has("manifest for")?
        .stderr_has("not found: manifest unknown")?;
    let repository = format!("{}/no/such/repository", registry.addr);
    t.client.run(&["pull", &repository])?.code(1)?.stderr_has("Error response from daemon: ")?;
    Ok(())
}

fn registry_that_is_not_there(t: &Ctx) -> Result<()> {
    // Port 1 of loopback: nobody listens there.
    let output = t.client.run(&["pull", "127.0.0.1:1/some/image"])?;
    output.code(1)?.stderr_has("connection refused")?;
    let output = t.client.run(&["run", "--rm", "127.0.0.1:1/some/image"])?;
    output.code(125)?.stderr_has("Unable to find image '127.0.0.1:1/some/image:latest' locally")?;
    Ok(())
}

fn corrupt_layer(t: &Ctx) -> Result<()> {
    let registry = Registry::start(&t.settings, &t.name("r"))?;
    let marker = format!("a layer of {}", t.name("marker"));
    let layers = [Tar::default().file("f", 0o644, marker.as_bytes()).bytes()];
    registry.put("lib/broken", "v1", &layers, &["true"])?;
    corrupt(&registry.dir().join("data"), marker.as_bytes())?;
    let name = format!("{}/lib/broken:v1", registry.addr);
    t.client.run(&["pull", &name])?.code(1)?;
    t.client.run(&["image", "inspect", &name])?.code(1)?;
    Ok(())
}

/// Changes a byte in the registry's stored copy of what contains `marker`.
fn corrupt(dir: &std::path::Path, marker: &[u8]) -> Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            corrupt(&path, marker)?;
        } else {
            let mut bytes = std::fs::read(&path)?;
            if let Some(at) = bytes.windows(marker.len()).position(|window| window == marker) {
                bytes[at] ^= 1;
                std::fs::write(&path, bytes)?;
            }
        }
    }
    Ok(())
}
