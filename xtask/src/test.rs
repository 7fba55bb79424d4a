//! All tests: what they need is installed and built, the unit tests run, then the integration suite
//! of the crate `ferry-tests`, and the last line counts both.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::product::{self, Product};
use crate::ui::{self, Steps};
use crate::{apt, clients, differential, fixtures, host, peer, sh};

/// Options of `cargo xtask test`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run only the integration tests
    #[arg(long, conflicts_with = "only_unit")]
    only_integration: bool,
    /// Run only the unit tests
    #[arg(long)]
    only_unit: bool,
    /// Run the client cases against another engine, e.g. a Docker, to see whether they expect what it does
    #[arg(long, value_name = "HOST", conflicts_with = "only_unit")]
    against: Option<String>,
    /// Compare ferry with Docker, command by command, instead; FILTER chooses among the files of cases
    #[arg(long, conflicts_with_all = ["only_integration", "only_unit", "against"])]
    differential: bool,
    /// Run the suites of all client libraries instead; FILTER chooses among the suites
    #[arg(long, conflicts_with_all = ["only_integration", "only_unit", "differential"])]
    clients: bool,
    /// With --differential or --clients: use the `ferry` and `ferry-shim` in this directory instead of building them
    #[arg(long, value_name = "DIR")]
    built: Option<PathBuf>,
    /// Run only the integration tests whose names contain one of these
    filter: Vec<String>,
}

/// What became of the tests.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Count {
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Count {
    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// The chore; `Ok(false)` when a test failed.
pub fn run(args: &Args) -> Result<bool> {
    host::require_root("test")?;
    if args.differential {
        return differential::run(args.built.as_deref(), &args.filter);
    }
    if args.built.is_some() && !args.clients {
        bail!("--built is for --differential and --clients");
    }
    let everything = args.filter.is_empty() && args.against.is_none();
    let unit = !args.only_integration && everything && !args.clients;
    let integration = !args.only_unit && !args.clients;
    let libraries = args.clients || (integration && everything);
    let count_of = |part: bool, steps: usize| if part { steps } else { 0 };
    let mut steps = Steps::new(
        1 + count_of(unit, 1) + count_of(integration, 3) + count_of(libraries, 1 + usize::from(!integration)),
    );
    let mut count = Count::default();

    let outcome = match args.clients {
        true => clients_only(args, &mut steps, &mut count),
        false => chore(args, unit, integration, &mut steps, &mut count),
    };
    outcome.with_context(|| format!("{} failed", steps.current()))?;
    println!("\n{} passed, {} failed, {} skipped", count.passed, count.failed, count.skipped);
    Ok(count.failed == 0)
}

fn chore(args: &Args, unit: bool, integration: bool, steps: &mut Steps, count: &mut Count) -> Result<()> {
    steps.next("Install what the tests need");
    apt::install(fixtures::PACKAGES)?;
    if integration {
        apt::install(&[
            "debootstrap",
            "iproute2",
            "iputils-ping",
            "redis-tools",
            "util-linux",
            "nftables",
            "cpio",
            "kmod",
            "xz-utils",
        ])?;
    }
    steps.done("all there");

    if unit {
        steps.next("Unit tests");
        let units = unit_tests()?;
        count.add(units);
        steps.done(&format!("{} passed, {} failed, {} skipped", units.passed, units.failed, units.skipped));
    }
    if integration {
        let product = if args.against.is_some() {
            steps.next("Leave ferry alone, another engine is tested");
            product::locate()?
        } else {
            steps.next("Build ferry (release)");
            product::build()?
        };
        steps.done("built");

        steps.next("Fixtures");
        let environment = Environment::prepare(&product)?;
        steps.done("all there");

        steps.next("Integration tests");
        let tests = integration_tests(args, &environment)?;
        count.add(tests);
        steps.done(&format!("{} passed, {} failed, {} skipped", tests.passed, tests.failed, tests.skipped));
        if args.filter.is_empty() && args.against.is_none() {
            libraries(args, &product, false, steps, count)?;
        }
    }
    Ok(())
}

/// The suites of the client libraries and nothing else.
fn clients_only(args: &Args, steps: &mut Steps, count: &mut Count) -> Result<()> {
    steps.next("Install what the tests need");
    apt::install(fixtures::PACKAGES)?;
    apt::install(&["iproute2", "nftables", "debootstrap"])?;
    steps.done("all there");
    let product = match &args.built {
        Some(dir) => {
            steps.next("Take ferry as it is");
            Product { dir: dir.clone(), ferry: dir.join("ferry"), shim: dir.join("ferry-shim") }
        }
        None if args.against.is_some() => {
            steps.next("Leave ferry alone, another engine is tested");
            product::locate()?
        }
        None => {
            steps.next("Build ferry (release)");
            product::build()?
        }
    };
    steps.done(&product.dir.display().to_string());
    libraries(args, &product, true, steps, count)
}

fn libraries(args: &Args, product: &Product, all: bool, steps: &mut Steps, count: &mut Count) -> Result<()> {
    steps.next("Client libraries");
    let results = clients::run(product, all, args.against.as_deref(), &args.filter)?;
    let tests = summarise(&results)?;
    count.add(tests);
    steps.done(&format!("{} passed, {} failed, {} skipped", tests.passed, tests.failed, tests.skipped));
    Ok(())
}

/// `cargo test` of everything but the integration suite.
fn unit_tests() -> Result<Count> {
    let mut command =
        host::cargo(["test", "--locked", "--workspace", "--exclude", "ferry-tests", "--no-fail-fast"]);
    match registry(&host::cache_dir()?) {
        Ok(program) => {
            command.env("FERRY_TEST_REGISTRY", program);
        }
        Err(error) => ui::note(format!("pulls from a real registry are not tested: {error:#}")),
    }
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot run cargo test")?;
    let mut count = Count::default();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            let line = line?;
            // The names of the many that pass would hide those that do not.
            let dull = line.is_empty() || line.starts_with("test ") && line.ends_with(" ... ok");
            if !dull {
                println!("{line}");
            }
            if let Some(result) = parse_result(&line) {
                count.add(result);
            }
        }
    }
    let status = child.wait()?;
    if !status.success() && count.failed == 0 {
        bail!("cargo test ended with {status}");
    }
    Ok(count)
}

/// Reads libtest's `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
fn parse_result(line: &str) -> Option<Count> {
    let rest = line.strip_prefix("test result: ")?;
    let number = |what: &str| {
        let (before, _) = rest.split_once(what)?;
        before.split_whitespace().next_back()?.parse().ok()
    };
    Some(Count { passed: number(" passed")?, failed: number(" failed")?, skipped: number(" ignored")? })
}

/// What the integration suite is told through its environment.
struct Environment {
    variables: Vec<(&'static str, PathBuf)>,
    results: PathBuf,
}

impl Environment {
    fn prepare(product: &Product) -> Result<Self> {
        let cache = host::cache_dir()?;
        let target = host::target_dir()?;
        let work = host::data_dir(&[target.join("ferry-tests"), PathBuf::from("/var/tmp/ferry-tests")])?;
        let results = target.join("ferry-tests-results.json");
        let mut variables = vec![
            ("FERRY_TEST_BIN", product.dir.clone()),
            ("FERRY_TEST_BUSYBOX", fixtures::busybox(&cache)?),
            ("FERRY_TEST_HELLO", fixtures::hello_world(&cache)?),
            ("FERRY_TEST_WORK", work),
            ("FERRY_TEST_RESULTS", results.clone()),
        ];
        // What is optional is missing with a reason, and the tests that need it are skipped with it.
        let mut optional = |name: &'static str, what: &str, outcome: Result<PathBuf>| match outcome {
            Ok(path) => variables.push((name, path)),
            Err(error) => ui::note(format!("{what}: {error:#}")),
        };
        optional("FERRY_TEST_DEBIAN", "no Debian image", fixtures::debian(&cache));
        optional("FERRY_TEST_REDIS", "no Redis image", fixtures::redis(&cache));
        optional("FERRY_TEST_MARIADB", "no MariaDB image", fixtures::mariadb(&cache));
        optional("FERRY_TEST_TOMCAT", "no Tomcat image", fixtures::tomcat(&cache));
        optional("FERRY_TEST_HAPROXY", "no HAProxy image", fixtures::haproxy(&cache));
        optional("FERRY_TEST_DOCKER", "no stock docker client", peer::docker_cli(&cache));
        optional("FERRY_TEST_REGISTRY", "no docker-registry", registry(&cache));
        optional("FERRY_TEST_RUNTIMES", "no other OCI runtimes", runtimes(&cache));
        optional("FERRY_TEST_VM", "no virtual machine", virtual_machine(&cache));
        Ok(Self { variables, results })
    }
}

/// The registry of the package `docker-registry`; unpacked, not installed, because installing starts
/// it as a service.
fn registry(cache: &Path) -> Result<PathBuf> {
    let root = cache.join("docker-registry");
    let program = root.join("usr/bin/docker-registry");
    if !program.exists() {
        let codename = host::os_release("VERSION_CODENAME").context("/etc/os-release names no release")?;
        apt::Separate::new(cache, &codename)?.unpack(&["docker-registry"], &root)?;
    }
    Ok(program)
}

/// A directory with `runc` and `crun` where their packages have them; unpacked, not installed, because Docker's own packages
/// on a machine may conflict with Debian's. What they are linked with is installed.
fn runtimes(cache: &Path) -> Result<PathBuf> {
    let root = cache.join("oci-runtimes");
    if !root.join("complete").exists() {
        let codename = host::os_release("VERSION_CODENAME").context("/etc/os-release names no release")?;
        let apt = apt::Separate::new(cache, &codename)?;
        let packages = ["runc", "crun"];
        for package in packages {
            let depends = apt.depends(package)?;
            let libraries: Vec<&str> =
                depends.iter().map(String::as_str).filter(|name| name.starts_with("lib")).collect();
            apt::install(&libraries)?;
        }
        apt.unpack(&packages, &root)?;
        std::fs::write(root.join("complete"), "")?;
    }
    Ok(root)
}

/// A directory with a kernel and its modules; QEMU is installed for it.
fn virtual_machine(cache: &Path) -> Result<PathBuf> {
    let (qemu, arch) = match std::env::consts::ARCH {
        "x86_64" => ("qemu-system-x86", "amd64"),
        _ => ("qemu-system-arm", host::debian_arch()?),
    };
    apt::install(&[qemu])?;
    let root = cache.join("vm-kernel");
    if !root.join("complete").exists() {
        let codename = host::os_release("VERSION_CODENAME").context("/etc/os-release names no release")?;
        let apt = apt::Separate::new(cache, &codename)?;
        let package = apt
            .depends(&format!("linux-image-cloud-{arch}"))?
            .into_iter()
            .find(|name| name.starts_with("linux-image-"))
            .context("linux-image-cloud depends on no kernel")?;
        apt.unpack(&[&package], &root)?;
        std::fs::write(root.join("complete"), "")?;
    }
    Ok(root)
}

fn integration_tests(args: &Args, environment: &Environment) -> Result<Count> {
    sh::run(&mut host::cargo(["build", "--locked", "-p", "ferry-tests"]))?;
    let suite = host::target_dir()?.join("debug/ferry-tests");
    if environment.results.exists() {
        std::fs::remove_file(&environment.results)?;
    }
    // libtest-mimic takes one filter; several are several runs.
    let mut count = Count::default();
    let filters: Vec<Option<&String>> =
        if args.filter.is_empty() { vec![None] } else { args.filter.iter().map(Some).collect() };
    for filter in filters {
        let mut command = sh::cmd(&suite, filter);
        command.envs(environment.variables.iter().map(|(name, value)| (*name, value.as_os_str())));
        if let Some(against) = &args.against {
            command.env("FERRY_TEST_AGAINST", against);
        }
        let status = command.current_dir(host::workspace()).status().context("cannot run the suite")?;
        let results = std::fs::read_to_string(&environment.results)
            .with_context(|| format!("the suite ended with {status} and left no results"))?;
        count.add(summarise(&results)?);
    }
    Ok(count)
}

/// One test's outcome as the suite writes it, a JSON object per line.
#[derive(Debug, serde::Deserialize)]
struct Outcome {
    name: String,
    outcome: String,
    reason: Option<String>,
    seconds: f64,
}

fn summarise(results: &str) -> Result<Count> {
    let mut count = Count::default();
    let mut slow = Vec::new();
    for line in results.lines() {
        let test: Outcome = serde_json::from_str(line).context("cannot read the suite's results")?;
        match test.outcome.as_str() {
            "passed" => count.passed += 1,
            "skipped" => {
                count.skipped += 1;
                ui::note(format!("skipped {}: {}", test.name, test.reason.unwrap_or_default()));
            }
            _ => {
                count.failed += 1;
                ui::note(format!("FAILED  {}", test.name));
            }
        }
        slow.push((test.seconds, test.name));
    }
    slow.sort_by(|a, b| b.0.total_cmp(&a.0));
    let slowest: Vec<String> =
        slow.iter().take(5).map(|(time, name)| format!("{name} {time:.1} s")).collect();
    if !slowest.is_empty() {
        ui::note(format!("slowest: {}", slowest.join(", ")));
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_libtest_are_counted() {
        let line = "test result: FAILED. 12 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.1s";
        assert_eq!(parse_result(line), Some(Count { passed: 12, failed: 1, skipped: 2 }));
        assert_eq!(parse_result("test result: ok."), None);
        assert_eq!(parse_result("test a ... ok"), None);
    }

    #[test]
    fn results_of_the_suite_are_counted() {
        let lines = r#"{"name":"a","outcome":"passed","reason":null,"seconds":0.1}
{"name":"b","outcome":"skipped","reason":"no network","seconds":0.0}
{"name":"c","outcome":"failed","reason":"boom","seconds":0.5}"#;
        assert_eq!(summarise(lines).unwrap(), Count { passed: 1, failed: 1, skipped: 1 });
        assert!(summarise("nonsense").is_err());
    }
}
