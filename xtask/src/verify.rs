//! Checks that change nothing: format, lints, licences and advisories, which crate may use which, where
//! unsafe code may be, and how large files and programs have grown.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::{host, sh, ui};

/// Options of `cargo xtask verify`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Leave out what has to compile the workspace (clippy)
    #[arg(long)]
    quick: bool,
}

/// A source file longer than this asks to be split.
const LONG_FILE: usize = 600;

/// The crates that may contain unsafe code.
const MAY_BE_UNSAFE: &[&str] = &["ferry-sys"];

/// The layers of ARCHITECTURE.md from top to bottom. A crate may depend on crates of lower layers.
const LAYERS: &[(&str, &[&str])] = &[
    ("tests", &["ferry-testkit"]),
    ("edges", &["ferry", "ferry-cli", "ferry-server", "ferry-client"]),
    ("orchestration", &["ferry-engine"]),
    (
        "mechanisms",
        &[
            "ferry-runtime",
            "ferry-shim",
            "ferry-image",
            "ferry-registry-client",
            "ferry-network",
            "ferry-dns",
        ],
    ),
    ("vocabulary", &["ferry-api", "ferry-types", "ferry-shim-proto", "ferry-sys"]),
];

/// Dependencies inside a layer that are meant to be. Others are not allowed among mechanisms.
const WITHIN_LAYER: &[(&str, &str)] = &[
    ("ferry", "ferry-cli"),
    ("ferry", "ferry-server"),
    ("ferry", "ferry-client"),
    ("ferry-cli", "ferry-client"),
    ("ferry-shim", "ferry-runtime"),
    ("ferry-shim-proto", "ferry-types"),
    ("ferry-shim-proto", "ferry-sys"),
    ("ferry-api", "ferry-types"),
];

/// The client side never reaches the engine.
const NEVER: &[(&str, &[&str])] = &[
    ("ferry-cli", &["ferry-engine", "ferry-server", "ferry-runtime", "ferry-image", "ferry-network"]),
    ("ferry-client", &["ferry-engine", "ferry-server", "ferry-runtime", "ferry-image", "ferry-network"]),
    ("ferry-runtime", &["tokio", "hyper"]),
    ("ferry-shim", &["tokio", "hyper"]),
    ("ferry-shim-proto", &["tokio", "hyper"]),
    ("ferry-sys", &["tokio", "hyper"]),
];

/// The chore; `Ok(false)` when something is not as it should be.
pub fn run(args: &Args) -> Result<bool> {
    let workspace = host::workspace();
    let mut problems = Vec::new();
    let mut check = |name: &str, found: Vec<String>| {
        println!("{} {name}", if found.is_empty() { "ok      " } else { "PROBLEM " });
        for problem in &found {
            ui::note(problem);
        }
        problems.extend(found);
    };

    check("format", outcome(&mut host::cargo(["fmt", "--all", "--check", "--", "--color", "never"])));
    let graph = Graph::read()?;
    check("crate directions", graph.directions());
    check("crates that stay small", graph.forbidden());
    check("unsafe code", unsafe_code(&workspace)?);
    if !args.quick {
        let clippy =
            ["clippy", "--locked", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"];
        check("clippy", outcome(&mut host::cargo(clippy)));
        match sh::which("cargo-deny") {
            Some(_) => {
                let deny = ["deny", "--workspace", "check", "licenses", "bans", "sources"];
                check("licences and sources", outcome(&mut host::cargo(deny)));
            }
            None => println!(
                "skipped  licences and sources: cargo-deny is not installed (cargo install cargo-deny)"
            ),
        }
    }
    for (file, lines) in long_files(&workspace)? {
        println!("warning  {} has {lines} lines, {LONG_FILE} are enough", file.display());
    }
    report_sizes()?;
    println!("{}", if problems.is_empty() { "all is well" } else { "there are problems" });
    Ok(problems.is_empty())
}

fn outcome(command: &mut std::process::Command) -> Vec<String> {
    match command.output() {
        Ok(output) if output.status.success() => Vec::new(),
        Ok(output) => {
            let text = [output.stdout, output.stderr].concat();
            vec![sh::tail(&String::from_utf8_lossy(&text), 60)]
        }
        Err(error) => vec![format!("cannot run `{}`: {error}", sh::display(command))],
    }
}

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
    workspace_members: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Package {
    id: String,
    name: String,
}

#[derive(Debug, Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dep>,
}

#[derive(Debug, Deserialize)]
struct Dep {
    pkg: String,
    dep_kinds: Vec<Kind>,
}

#[derive(Debug, Deserialize)]
struct Kind {
    kind: Option<String>,
}

/// Which package uses which in its program; what only tests or build scripts use does not count.
struct Graph {
    uses: BTreeMap<String, BTreeSet<String>>,
    own: BTreeSet<String>,
}

impl Graph {
    fn read() -> Result<Self> {
        let json = sh::capture(&mut host::cargo(["metadata", "--locked", "--format-version", "1"]))?;
        Self::from_json(&json)
    }

    fn from_json(json: &str) -> Result<Self> {
        let metadata: Metadata = serde_json::from_str(json).context("cannot read `cargo metadata`")?;
        let names: BTreeMap<&str, &str> =
            metadata.packages.iter().map(|package| (package.id.as_str(), package.name.as_str())).collect();
        let name = |id: &str| names.get(id).copied().unwrap_or(id).to_owned();
        let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for node in &metadata.resolve.nodes {
            let normal = node.deps.iter().filter(|dep| dep.dep_kinds.iter().any(|kind| kind.kind.is_none()));
            uses.entry(name(&node.id)).or_default().extend(normal.map(|dep| name(&dep.pkg)));
        }
        Ok(Self { uses, own: metadata.workspace_members.iter().map(|id| name(id)).collect() })
    }

    /// Dependencies that point upwards, or sideways without being meant to.
    fn directions(&self) -> Vec<String> {
        let layer = |krate: &str| LAYERS.iter().position(|(_, crates)| crates.contains(&krate));
        let mut found = Vec::new();
        for krate in &self.own {
            let Some(from) = layer(krate) else {
                if !matches!(krate.as_str(), "xtask" | "ferry-tests") {
                    found.push(format!(
                        "{krate} belongs to no layer; add it to LAYERS in xtask/src/verify.rs"
                    ));
                }
                continue;
            };
            for used in &self.uses[krate] {
                let Some(to) = layer(used) else { continue };
                if to < from || to == from && !WITHIN_LAYER.contains(&(krate, used)) {
                    found
                        .push(format!("{krate} ({}) must not use {used} ({})", LAYERS[from].0, LAYERS[to].0));
                }
            }
        }
        found
    }

    /// What crates reach that they never should, directly or through others.
    fn forbidden(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (krate, never) in NEVER {
            let reached = self.reach(krate);
            for used in never.iter().filter(|used| reached.contains(**used)) {
                found.push(format!("{krate} must never pull in {used}"));
            }
        }
        found
    }

    fn reach(&self, krate: &str) -> BTreeSet<&str> {
        let mut seen = BTreeSet::new();
        let mut todo = vec![krate];
        while let Some(next) = todo.pop() {
            for used in self.uses.get(next).into_iter().flatten() {
                if seen.insert(used.as_str()) {
                    todo.push(used);
                }
            }
        }
        seen
    }
}

/// Crates without `#![forbid(unsafe_code)]` that should have it.
fn unsafe_code(workspace: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut roots: Vec<PathBuf> = Vec::new();
    for dir in std::fs::read_dir(workspace.join("crates")).context("no crates directory")? {
        roots.push(dir?.path());
    }
    roots.extend([workspace.join("xtask"), workspace.join("tests")]);
    roots.sort();
    for krate in roots {
        let name = krate.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if MAY_BE_UNSAFE.contains(&name.as_str()) {
            continue;
        }
        for root in ["src/lib.rs", "src/main.rs"].map(|file| krate.join(file)) {
            if let Ok(text) = std::fs::read_to_string(&root)
                && !text.contains("#![forbid(unsafe_code)]")
            {
                found.push(format!("{} lacks #![forbid(unsafe_code)]", relative(workspace, &root).display()));
            }
        }
    }
    Ok(found)
}

/// Source files with too many lines, and how many.
fn long_files(workspace: &Path) -> Result<Vec<(PathBuf, usize)>> {
    let mut found = Vec::new();
    let mut todo = vec![workspace.join("crates"), workspace.join("xtask"), workspace.join("tests")];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                todo.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let lines = std::fs::read_to_string(&path)?.lines().count();
                if lines > LONG_FILE {
                    found.push((relative(workspace, &path), lines));
                }
            }
        }
    }
    found.sort();
    Ok(found)
}

fn relative(workspace: &Path, path: &Path) -> PathBuf {
    path.strip_prefix(workspace).unwrap_or(path).to_owned()
}

fn report_sizes() -> Result<()> {
    let dist = host::target_dir()?.join("dist");
    for program in ["ferry", "ferry-shim"] {
        if let Ok(meta) = dist.join(program).metadata() {
            println!("size     {program} {:.1} MB", meta.len() as f64 / 1e6);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(&str, &str)]) -> Graph {
        let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (from, to) in edges {
            uses.entry((*to).to_owned()).or_default();
            uses.entry((*from).to_owned()).or_default().insert((*to).to_owned());
        }
        let own = uses.keys().filter(|name| name.starts_with("ferry")).cloned().collect();
        Graph { uses, own }
    }

    #[test]
    fn dependencies_point_downwards() {
        assert!(graph(&[("ferry", "ferry-engine"), ("ferry-engine", "ferry-sys")]).directions().is_empty());
        assert!(graph(&[("ferry-shim", "ferry-runtime")]).directions().is_empty());
        assert_eq!(graph(&[("ferry-network", "ferry-image")]).directions().len(), 1);
        assert_eq!(graph(&[("ferry-sys", "ferry-engine")]).directions().len(), 1);
        assert_eq!(graph(&[("ferry-new", "ferry-sys")]).directions().len(), 1);
    }

    #[test]
    fn indirect_dependencies_count() {
        let found =
            graph(&[("ferry-shim", "ferry-runtime"), ("ferry-runtime", "x"), ("x", "tokio")]).forbidden();
        assert_eq!(found, ["ferry-runtime must never pull in tokio", "ferry-shim must never pull in tokio"]);
    }

    #[test]
    fn what_only_tests_use_does_not_count() {
        let json = r#"{"packages":[{"id":"a#1","name":"ferry-sys"},{"id":"b#1","name":"tokio"}],
            "workspace_members":["a#1"],
            "resolve":{"nodes":[{"id":"a#1","deps":[{"pkg":"b#1","dep_kinds":[{"kind":"dev"}]}]}]}}"#;
        assert!(Graph::from_json(json).unwrap().forbidden().is_empty());
        let json = json.replace("\"dev\"", "null");
        assert_eq!(Graph::from_json(&json).unwrap().forbidden().len(), 1);
    }
}
