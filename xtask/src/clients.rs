//! `cargo xtask test --clients`: the client libraries people use, each in a suite of its own in its own language
//! (`tests/clients`), against an engine that is started for them.
//!
//! A suite says how it went in the file that `FERRY_TEST_RESULTS` names, a JSON object per line. What it depends on
//! is pinned in its directory (requirements, lock files) and installed into the cache directory.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::engine::Engine;
use crate::product::Product;
use crate::{fixtures, host, sh, ui};

/// What a suite starts and finds.
struct Surroundings {
    cache: PathBuf,
    /// Where the API is.
    host: String,
    /// Where the suite writes.
    results: PathBuf,
}

/// One ecosystem.
struct Suite {
    /// Its directory below `tests/clients`, and how the names of its tests begin.
    name: &'static str,
    /// Programs without which it is skipped.
    needs: &'static [&'static str],
    /// Whether it is part of every run of the tests, not only of `--clients`.
    always: bool,
    /// Images of database servers are loaded for it.
    servers: bool,
    /// Installs what it needs and gives the command that runs it.
    prepare: fn(&Path, &Surroundings) -> Result<Vec<Command>>,
}

const SUITES: &[Suite] = &[
    Suite { name: "python", needs: &["python3"], always: true, servers: false, prepare: python },
    Suite { name: "node", needs: &["node", "npm"], always: true, servers: false, prepare: node },
    Suite { name: "go", needs: &["go"], always: true, servers: false, prepare: go },
    Suite { name: "java", needs: &["mvn", "java"], always: false, servers: false, prepare: maven },
    Suite { name: "rust", needs: &["cargo"], always: false, servers: false, prepare: rust },
    Suite {
        name: "testcontainers/python",
        needs: &["python3"],
        always: false,
        servers: true,
        prepare: python,
    },
    Suite {
        name: "testcontainers/node",
        needs: &["node", "npm"],
        always: false,
        servers: true,
        prepare: node,
    },
    Suite { name: "testcontainers/go", needs: &["go"], always: false, servers: true, prepare: go },
    Suite {
        name: "testcontainers/java",
        needs: &["mvn", "java"],
        always: false,
        servers: true,
        prepare: maven,
    },
];

/// Bridge and addresses of the suites' engine.
const BRIDGE: &str = "ferry-clients";
const SUBNETS: [Ipv4Addr; 3] =
    [Ipv4Addr::new(10, 203, 7, 1), Ipv4Addr::new(172, 29, 203, 1), Ipv4Addr::new(192, 168, 203, 1)];

/// Runs the suites whose names contain one of `filter`; without `all`, only those that every run has. `against` is
/// the API of another engine to run them on. Gives the lines of all of them.
pub fn run(product: &Product, all: bool, against: Option<&str>, filter: &[String]) -> Result<String> {
    let chosen: Vec<&Suite> = SUITES
        .iter()
        .filter(|s| {
            (all || s.always) && (filter.is_empty() || filter.iter().any(|f| s.name.contains(f.as_str())))
        })
        .filter(|s| directory(s).exists())
        .collect();
    let cache = host::cache_dir()?.join("clients");
    std::fs::create_dir_all(&cache)?;
    let results = cache.join("results.json");
    let mut text = String::new();
    match against {
        Some(host) => {
            let at = Surroundings { cache, host: host.to_owned(), results };
            chosen.iter().for_each(|suite| text.push_str(&run_suite(suite, &at)));
        }
        None => {
            let engine = engine(product)?;
            engine.purge()?;
            engine.start()?;
            let worked = load_images(&engine, chosen.iter().any(|s| s.servers)).map(|()| {
                let at = Surroundings { cache, host: engine.host(), results };
                chosen.iter().for_each(|suite| text.push_str(&run_suite(suite, &at)));
            });
            let left = engine.ask(&["ps", "-a", "--no-trunc", "--format", "{{.Names}} {{.Command}}"]);
            engine.purge()?;
            worked?;
            // A suite removes what it makes; what is left shows a removal that did not work.
            let left = left?;
            if !left.is_empty() {
                ui::note(format!("left behind: {left}"));
            }
            text.push_str(&line("clients::nothing_is_left_behind", left.is_empty(), &left));
        }
    }
    Ok(text)
}

fn engine(product: &Product) -> Result<Engine> {
    let target = host::target_dir()?.join("ferry-clients");
    let dir = host::data_dir(&[target, PathBuf::from("/var/tmp/ferry-clients")])?;
    let address = host::free_subnet(&SUBNETS, BRIDGE).context("no free subnet for the suites' engine")?;
    Ok(Engine::new(product, dir, PathBuf::from("/run/ferry-clients"), BRIDGE, address))
}

fn load_images(engine: &Engine, servers: bool) -> Result<()> {
    let cache = host::cache_dir()?;
    let busybox = fixtures::busybox(&cache)?;
    engine.ask(&["import", "-c", "CMD [\"sh\"]", &busybox.to_string_lossy(), "busybox:latest"])?;
    if servers {
        for archive in [fixtures::redis(&cache)?, fixtures::mariadb(&cache)?] {
            engine.ask(&["load", "-i", &archive.to_string_lossy()])?;
        }
    }
    Ok(())
}

fn directory(suite: &Suite) -> PathBuf {
    host::workspace().join("tests/clients").join(suite.name)
}

/// The lines of one suite; one that cannot be run is a line of its own.
fn run_suite(suite: &Suite, at: &Surroundings) -> String {
    if let Some(missing) = suite.needs.iter().find(|program| find(program).is_none()) {
        ui::note(format!("{}: {missing} is not installed", suite.name));
        return skipped(suite.name, &format!("{missing} is not installed"));
    }
    let _ = std::fs::remove_file(&at.results);
    let outcome = (suite.prepare)(&directory(suite), at).and_then(|commands| {
        for mut command in commands {
            environment(&mut command, at);
            let line = sh::display(&command);
            let status = command.status().with_context(|| format!("cannot run `{line}`"))?;
            // A test that failed has a line; without any, the suite did not get so far.
            if !status.success() && !at.results.exists() {
                bail!("`{line}` ended with {status}");
            }
        }
        Ok(std::fs::read_to_string(&at.results).unwrap_or_default())
    });
    match outcome {
        Ok(lines) if lines.trim().is_empty() => line(suite.name, false, "the suite ran no test"),
        Ok(lines) => prefixed(suite.name, &lines),
        Err(error) => {
            ui::note(format!("{}: {error:#}", suite.name));
            line(suite.name, false, &format!("{error:#}"))
        }
    }
}

/// What every suite is told.
fn environment(command: &mut Command, at: &Surroundings) {
    command
        .env("DOCKER_HOST", &at.host)
        .env("FERRY_TEST_RESULTS", &at.results)
        // Its image is a registry's; the suites clean up themselves.
        .env("TESTCONTAINERS_RYUK_DISABLED", "true")
        .env_remove("DOCKER_CONTEXT")
        .env_remove("DOCKER_TLS_VERIFY");
}

/// Every name begins with its suite's.
fn prefixed(suite: &str, lines: &str) -> String {
    let name = suite.replace('/', "::");
    lines
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| match serde_json::from_str::<serde_json::Value>(line) {
            Ok(mut value) => {
                let own = value["name"].as_str().unwrap_or_default().to_owned();
                if !own.starts_with(&format!("{name}::")) {
                    value["name"] = format!("{name}::{own}").into();
                }
                format!("{value}\n")
            }
            Err(_) => format!("{line}\n"),
        })
        .collect()
}

fn line(name: &str, passed: bool, reason: &str) -> String {
    let outcome = if passed { "passed" } else { "failed" };
    let reason = if passed { serde_json::Value::Null } else { reason.into() };
    format!("{}\n", serde_json::json!({"name": name, "outcome": outcome, "reason": reason, "seconds": 0.0}))
}

fn skipped(name: &str, reason: &str) -> String {
    format!("{}\n", serde_json::json!({"name": name, "outcome": "skipped", "reason": reason, "seconds": 0.0}))
}

/// A program, also where Go's own installer puts it.
fn find(program: &str) -> Option<PathBuf> {
    sh::which(program).or_else(|| Some(Path::new("/usr/local/go/bin").join(program)).filter(|p| p.exists()))
}

/// A place in the cache for one suite.
fn place(dir: &Path, at: &Surroundings) -> Result<PathBuf> {
    let suites = host::workspace().join("tests/clients");
    let place = at.cache.join(dir.strip_prefix(&suites).unwrap_or(dir));
    std::fs::create_dir_all(&place).with_context(|| format!("cannot create {}", place.display()))?;
    Ok(place)
}

/// Does work only when one of `inputs` has changed since it was done last.
fn once(place: &Path, inputs: &[PathBuf], work: impl FnOnce() -> Result<()>) -> Result<()> {
    let mut wanted = String::new();
    for input in inputs {
        wanted.push_str(
            &std::fs::read_to_string(input).with_context(|| format!("cannot read {}", input.display()))?,
        );
    }
    let mark = place.join("installed");
    if std::fs::read_to_string(&mark).is_ok_and(|done| done == wanted) {
        return Ok(());
    }
    work()?;
    std::fs::write(&mark, wanted).with_context(|| format!("cannot write {}", mark.display()))
}

/// pytest in a virtual environment.
fn python(dir: &Path, at: &Surroundings) -> Result<Vec<Command>> {
    let place = place(dir, at)?;
    let environment = place.join("venv");
    let requirements = dir.join("requirements.txt");
    once(&place, std::slice::from_ref(&requirements), || {
        sh::capture(sh::cmd("python3", ["-m", "venv", "--clear"]).arg(&environment))?;
        let pip = environment.join("bin/pip");
        sh::capture(sh::cmd(pip, ["install", "--quiet", "--no-deps", "-r"]).arg(&requirements)).map(drop)
    })?;
    let mut command = sh::cmd(
        environment.join("bin/python"),
        ["-B", "-m", "pytest", "-q", "--timeout", "120", "-p", "no:cacheprovider", "."],
    );
    command.current_dir(dir);
    Ok(vec![command])
}

/// Node's own test runner. The modules are beside a copy of the suite, where node looks for them.
fn node(dir: &Path, at: &Surroundings) -> Result<Vec<Command>> {
    let place = place(dir, at)?;
    let mut tests = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_file() {
            std::fs::copy(entry.path(), place.join(&name))?;
        }
        if name.ends_with(".test.mjs") {
            tests.push(name);
        }
    }
    tests.sort();
    once(&place, &[dir.join("package.json"), dir.join("package-lock.json")], || {
        sh::capture(sh::cmd("npm", ["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(&place))
            .map(drop)
    })?;
    let mut command = sh::cmd(
        "node",
        [
            "--test",
            "--test-force-exit",
            "--test-timeout=120000",
            "--test-reporter=./reporter.mjs",
            "--test-reporter-destination=stdout",
        ],
    );
    command.args(tests).current_dir(&place);
    Ok(vec![command])
}

fn go(dir: &Path, at: &Surroundings) -> Result<Vec<Command>> {
    let place = place(dir, at)?;
    let program = find("go").context("go is not installed")?;
    // One cache of modules and one of builds for all suites.
    let shared = at.cache.join("go-shared");
    let mut command = sh::cmd(program, ["test", "-count=1", "-mod=readonly", "-timeout=600s", "./..."]);
    command
        .current_dir(dir)
        .env("GOPATH", shared.join("path"))
        .env("GOCACHE", shared.join("build"))
        // Modules in a cache need not be protected from `cargo clean`.
        .env("GOFLAGS", "-modcacherw")
        .env("GOTMPDIR", &place);
    Ok(vec![command])
}

fn maven(dir: &Path, at: &Surroundings) -> Result<Vec<Command>> {
    let place = place(dir, at)?;
    let mut command = sh::cmd("mvn", ["-q", "-B", "test"]);
    command
        .arg(format!("-Dmaven.repo.local={}", at.cache.join("maven").display()))
        .arg(format!("-DbuildDirectory={}", place.join("target").display()))
        .current_dir(dir);
    Ok(vec![command])
}

/// A package outside of the workspace, so that its dependencies are not ferry's.
fn rust(dir: &Path, at: &Surroundings) -> Result<Vec<Command>> {
    let place = place(dir, at)?;
    let mut command = host::cargo(["test", "--quiet", "--locked"]);
    command.current_dir(dir).env("CARGO_TARGET_DIR", place.join("target"));
    Ok(vec![command])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_begin_with_their_suite() {
        let lines =
            "{\"name\":\"a::b\",\"outcome\":\"passed\"}\n\n{\"name\":\"go::c\",\"outcome\":\"failed\"}\n";
        let named = prefixed("go", lines);
        assert!(named.contains("\"go::a::b\"") && named.contains("\"go::c\""), "{named}");
        assert_eq!(named.lines().count(), 2);
        assert!(prefixed("testcontainers/go", lines).contains("\"testcontainers::go::a::b\""));
    }

    #[test]
    fn work_is_done_again_when_its_input_changes() {
        let place = std::env::temp_dir().join(format!("ferry-once-{}", std::process::id()));
        std::fs::create_dir_all(&place).unwrap();
        let input = place.join("input");
        let mut done = 0;
        for text in ["a", "a", "b"] {
            std::fs::write(&input, text).unwrap();
            once(&place, std::slice::from_ref(&input), || {
                done += 1;
                Ok(())
            })
            .unwrap();
        }
        assert!(once(&place, &[place.join("missing")], || Ok(())).is_err());
        std::fs::remove_dir_all(&place).unwrap();
        assert_eq!(done, 2);
    }
}
