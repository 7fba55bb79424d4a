//! Differential tests: the same commands by `docker` against Docker, by `ferry` against ferry, and by
//! `docker` against ferry. Everything that differs must have its reason in
//! `tests/differential/differences.txt`.
//!
//! Both engines run in network namespaces of their own with the same addresses, so that they do not
//! meet, and nothing of them is left on the host.

mod compare;
mod known;
mod mask;
mod script;
mod table;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::engine::Engine;
use crate::peer::Peer;
use crate::product::{self, Product};
use crate::ui::{self, Steps};
use crate::{fixtures, host, sh};

use compare::Outcome;
use known::{Client, Known};
use mask::{BRIDGE_ADDRESS, Masks};
use script::Script;
use table::{Difference, Table};

/// Seconds a command may take.
const PATIENCE: &str = "60";

/// Makes `docker` the client under test in a case's shell.
const PRELUDE: &str = "docker() { \"$CLIENT\" \"$@\"; }\n";

/// A client, an engine, and a place to work in.
struct Side {
    client: PathBuf,
    host: String,
    /// The engine's socket, run directory and data, and where the commands run.
    paths: Vec<(String, &'static str)>,
    dir: PathBuf,
    own_name: bool,
    fixtures: PathBuf,
}

/// The chore; `Ok(false)` when something differs without a reason.
pub fn run(built: Option<&Path>, filter: &[String]) -> Result<bool> {
    let dir = host::workspace().join("tests/differential");
    let scripts = script::load(&dir.join("cases"), filter)?;
    let mut known = Known::parse(&std::fs::read_to_string(dir.join("differences.txt"))?)?;
    let mut steps = Steps::new(3);

    steps.next(if built.is_some() { "Take ferry as it is" } else { "Build ferry (release)" });
    let product = match built {
        Some(dir) => Product { dir: dir.to_owned(), ferry: dir.join("ferry"), shim: dir.join("ferry-shim") },
        None => product::build()?,
    };
    steps.done("built");

    steps.next("Start Docker and ferry");
    let cache = host::cache_dir()?;
    let work = host::data_dir(&[
        host::target_dir()?.join("ferry-differential"),
        PathBuf::from("/var/tmp/ferry-differential"),
    ])?;
    let address = BRIDGE_ADDRESS;
    // Runs of several working copies do not meet.
    let run = std::process::id();
    let peer = Peer::start(
        &cache,
        PathBuf::from(format!("/run/ferry-diff-docker-{run}")),
        work.join("docker"),
        &["--bip", address],
    )?;
    let engine = Engine::new(
        &product,
        work.join("ferry"),
        PathBuf::from(format!("/run/ferry-diff-{run}")),
        "ferrydiff0",
        address.trim_end_matches("/24").parse()?,
    )
    .in_own_network();
    engine.purge()?;
    engine.start()?;
    steps.done("both answer");

    steps.next("Compare");
    let outcome = compare_all(&scripts, &mut known, &product, &peer, &engine, &work, &cache);
    if outcome.is_err() {
        ui::note(engine.log_tail());
    }
    let cleaned = engine.purge();
    drop(peer);
    let table = outcome?;
    cleaned?;
    let report = work.join("report.md");
    std::fs::write(&report, table.markdown())?;
    let good = table.summary();
    steps.done(&format!("the whole table is in {}", report.display()));
    Ok(good)
}

fn compare_all(
    scripts: &[Script],
    known: &mut Known,
    product: &Product,
    peer: &Peer,
    engine: &Engine,
    work: &Path,
    cache: &Path,
) -> Result<Table> {
    let fixtures = work.join("fixtures");
    prepare_fixtures(&fixtures, peer, engine, cache)?;
    let paths = |data: PathBuf, run: &Path, dir: &Path| {
        let named = |path: PathBuf, name| (path.display().to_string(), name);
        let mut all = vec![
            named(dir.to_owned(), "<DIR>"),
            named(fixtures.clone(), "<FIXTURES>"),
            named(data, "<DATA>"),
            named(run.join("docker.sock"), "<SOCKET>"),
            named(run.join("ferry.sock"), "<SOCKET>"),
            named(run.to_owned(), "<RUN>"),
        ];
        all.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
        all
    };
    let side = |name: &str, client: PathBuf, host: String, data: PathBuf, run: &Path, own_name| {
        let dir = work.join(name);
        let paths = paths(data, run, &dir);
        Side { client, host, paths, dir, own_name, fixtures: fixtures.clone() }
    };
    let ferry_data = engine.dir.join("data");
    let sides = [
        side("ref", peer.client(), peer.host(), work.join("docker/root"), &peer.run_dir(), false),
        side("own", product.ferry.clone(), engine.host(), ferry_data.clone(), &engine.run_dir, true),
        side("mix", peer.client(), engine.host(), ferry_data, &engine.run_dir, false),
    ];
    let masks = Masks::new()?;
    let mut table = Table::default();
    for script in scripts {
        // Docker takes its time; ferry's two runs, which cannot be at the same time, pass meanwhile.
        let (reference, own, mix) = std::thread::scope(|scope| {
            let reference = scope.spawn(|| run_script(script, &sides[0]));
            let own = run_script(script, &sides[1]);
            let mix = run_script(script, &sides[2]);
            (reference.join(), own, mix)
        });
        let Ok(reference) = reference else { bail!("running {} panicked", script.name) };
        let (reference, own, mix) = (reference?, own?, mix?);
        for (at, step) in script.steps.iter().enumerate() {
            if step.look.setup {
                continue;
            }
            let lines = |side: &Side, outcome: &Outcome| {
                compare::lines(outcome, step.look, &masks, &side.paths, side.own_name)
            };
            let expected = lines(&sides[0], &reference[at]);
            table.commands.push(step.command.clone());
            for (client, side, outcomes) in [(Client::Own, &sides[1], &own), (Client::Stock, &sides[2], &mix)]
            {
                for line in compare::differences(&expected, &lines(side, &outcomes[at])) {
                    let why = known.explain(client, &step.command, &line).map(str::to_owned);
                    let place = format!("{}:{}", script.name, step.line);
                    table.rows.push(Difference { place, command: step.command.clone(), client, line, why });
                }
            }
        }
        ui::note(format!("{}: {} commands", script.name, script.steps.len()));
    }
    table.stale = known.stale(&table.commands);
    Ok(table)
}

/// The images of the cases, loaded into both engines from the same files so that their ids agree, and
/// a few files the cases use.
fn prepare_fixtures(dir: &Path, peer: &Peer, engine: &Engine, cache: &Path) -> Result<()> {
    if dir.exists() {
        std::fs::remove_dir_all(dir)?;
    }
    std::fs::create_dir_all(dir)?;
    let rootfs = fixtures::busybox(cache)?.display().to_string();
    let image = dir.join("busybox.tar").display().to_string();
    let change = ["--change", "CMD [\"sh\"]", "--change", "ENV PATH=/bin:/sbin"];
    sh::capture(peer.docker(["import"]).args(change).args([&rootfs, "busybox:latest"]))?;
    let rich = ["--change", "CMD [\"sh\"]", "--change", "ENV A=1 B=two", "--change", "LABEL tier=base"];
    let more = ["--change", "EXPOSE 80/tcp 53/udp", "--change", "VOLUME /data", "--change", "WORKDIR /tmp"];
    sh::capture(peer.docker(["import", "-m", "made for tests"]).args(rich).args(more).args([
        "--change",
        "USER daemon",
        &rootfs,
        "rich:1",
    ]))?;
    sh::capture(&mut peer.docker(["tag", "rich:1", "localhost:5000/team/rich:1"]))?;
    sh::capture(&mut peer.docker([
        "save",
        "-o",
        &image,
        "busybox:latest",
        "rich:1",
        "localhost:5000/team/rich:1",
    ]))?;
    engine.ask(&["load", "-q", "-i", &image])?;
    std::fs::write(dir.join("env"), "# comment\nONE=1\n\nTWO=two words\nHOME\nNOT_SET_ANYWHERE\n")?;
    std::fs::write(dir.join("bad-env"), "a b=c\n")?;
    std::fs::write(dir.join("labels"), "# comment\nfile.label=yes\nbare\n")?;
    Ok(())
}

fn run_script(script: &Script, side: &Side) -> Result<Vec<Outcome>> {
    let dir = side.dir.join(&script.name);
    if side.dir.exists() {
        std::fs::remove_dir_all(&side.dir)?;
    }
    std::fs::create_dir_all(dir.join("home"))?;
    let outcomes = script.steps.iter().map(|step| execute(&step.command, side, &dir)).collect();
    let clean = execute(CLEAN, side, &dir)?;
    if clean.code != 0 {
        bail!("cannot clean up after {}: {}", script.name, clean.stderr);
    }
    outcomes
}

/// Removes whatever a file of cases left behind.
const CLEAN: &str = r#"
set -e
unset DOCKER_CONTEXT DOCKER_API_VERSION
[ -z "$(docker ps -aq)" ] || { docker unpause $(docker ps -q --filter status=paused) || :; docker rm -fv $(docker ps -aq); } >/dev/null 2>&1
docker volume ls -q | while read name; do docker volume rm -f "$name"; done >/dev/null
docker network prune -f >/dev/null 2>&1 || :
docker images --format '{{.Repository}}:{{.Tag}} {{.ID}}' | while read name id; do
    case $name in
        busybox:latest|rich:1|localhost:5000/team/rich:1) ;;
        *'<none>'*) docker rmi -f "$id" ;;
        *) docker rmi -f "$name" ;;
    esac
done >/dev/null
for name in busybox:latest rich:1 localhost:5000/team/rich:1; do
    docker image inspect "$name" >/dev/null 2>&1 || docker load -q -i "$FIXTURES/busybox.tar" >/dev/null
done
"#;

fn execute(line: &str, side: &Side, dir: &Path) -> Result<Outcome> {
    // A group of its own is `timeout`'s doing: what a case leaves in the background goes with it.
    let mut command = Command::new("timeout");
    command.args(["-k", "2", PATIENCE, "sh", "-c", &format!("{PRELUDE}{line}")]);
    let path = std::env::var_os("PATH").unwrap_or_default();
    command
        .env_clear()
        .env("PATH", path)
        .env("HOME", dir.join("home"))
        .env("LC_ALL", "C.UTF-8")
        .env("TZ", "UTC")
        .env("DOCKER_HOST", &side.host)
        .env("SOCKET", side.host.trim_start_matches("unix://"))
        .env("CLIENT", &side.client)
        .env("FIXTURES", &side.fixtures)
        .current_dir(dir)
        .stdin(Stdio::null());
    let output = command.output().with_context(|| format!("cannot run `{line}`"))?;
    Ok(Outcome {
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        code: output.status.code().unwrap_or(-1),
    })
}
