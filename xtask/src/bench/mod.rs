//! ferry beside Docker and beside the bare kernel, on the same host in the same minutes.
//!
//! Both engines get the same image and the same work, in turns, so that what else happens on the host
//! hits both. Each figure is a median of whole client calls, as a user's shell would time them.

mod floor;
mod stats;
mod trace;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use self::floor::Floor;
use self::stats::Samples;
use crate::engine::Engine;
use crate::peer::{self, Peer};
use crate::ui::{self, Steps};
use crate::{apt, fixtures, host, product, sh};

/// Options of `cargo xtask bench`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How many times each short operation is measured
    #[arg(long, default_value_t = 40)]
    runs: usize,
    /// Leave Docker out
    #[arg(long)]
    no_docker: bool,
    /// Say where the time of one `run` goes, from a trace of its system calls
    #[arg(long)]
    trace: bool,
}

const BRIDGE: &str = "ferrybench0";
const IMAGE: &str = "bench";
/// How many containers `ps` lists.
const LISTED: usize = 30;

/// One client with the engine it talks to.
struct Contender {
    client: PathBuf,
    host: String,
}

impl Contender {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = sh::cmd(&self.client, args);
        command.env("DOCKER_HOST", &self.host).env_remove("DOCKER_CONTEXT");
        command
    }

    fn ask(&self, args: &[&str]) -> Result<String> {
        Ok(sh::capture(&mut self.command(args))?.trim_end().to_owned())
    }

    /// How long a call takes that must succeed.
    fn time(&self, args: &[&str]) -> Result<Duration> {
        let mut command = self.command(args);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let began = Instant::now();
        let child = command.spawn().with_context(|| format!("cannot run {}", self.client.display()))?;
        let output = child.wait_with_output()?;
        let took = began.elapsed();
        if !output.status.success() {
            bail!("`{}`: {}", sh::display(&command), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(took)
    }
}

/// What is measured, for each contender in the order of [`Bench::contenders`].
struct Row {
    what: &'static str,
    aim: &'static str,
    unit: &'static str,
    samples: Vec<Samples>,
    floor: Option<Samples>,
}

/// The chore.
pub fn run(args: &Args) -> Result<bool> {
    host::require_root("bench")?;
    let mut steps = Steps::new(4);
    steps.next("Build ferry (release)");
    apt::install(&[fixtures::PACKAGES, &["debootstrap", "iproute2"]].concat())?;
    let product = product::build()?;
    let cache = host::cache_dir()?;
    let image = fixtures::debian(&cache)?;
    steps.done("built");

    steps.next("Start the engines");
    let target = host::target_dir()?;
    let work = host::data_dir(&[target.join("bench"), PathBuf::from("/var/tmp/ferry-bench")])?;
    let candidates = [Ipv4Addr::new(10, 202, 0, 1), Ipv4Addr::new(172, 29, 202, 1)];
    let address = host::free_subnet(&candidates, BRIDGE).context("no subnet is free for ferry")?;
    let engine =
        Engine::new(&product, work.join("ferry"), PathBuf::from("/run/ferry-bench"), BRIDGE, address);
    engine.purge()?;
    engine.start()?;
    let outcome = measure_all(args, &mut steps, &engine, &product.ferry, &image, &work, &cache);
    if outcome.is_err() {
        eprintln!("\n--- end of the daemon's log ---\n{}\n---", engine.log_tail());
    }
    let cleaned = engine.purge();
    outcome.with_context(|| format!("{} failed", steps.current()))?;
    cleaned?;
    Ok(true)
}

fn measure_all(
    args: &Args,
    steps: &mut Steps,
    engine: &Engine,
    ferry: &Path,
    image: &Path,
    work: &Path,
    cache: &Path,
) -> Result<()> {
    let peer = if args.no_docker { None } else { Some(start_docker(cache, work)?) };
    let mut bench = Bench {
        runs: args.runs.max(3),
        contenders: vec![Contender { client: ferry.to_owned(), host: engine.host() }],
        idle: Vec::new(),
    };
    if let Some(peer) = &peer {
        bench.contenders.push(Contender { client: peer.client(), host: peer.host() });
        bench.contenders.push(Contender { client: peer.client(), host: engine.host() });
    }
    for contender in bench.contenders.iter().take(2) {
        contender.ask(&["import", &image.display().to_string(), IMAGE])?;
    }
    steps.done("they answer");

    steps.next("Measure");
    let ferry_daemon = || engine.pid().into_iter().collect::<Vec<_>>();
    let docker_daemon = || peer.as_ref().map(Peer::daemon_pids).unwrap_or_default();
    bench.idle = vec![ferry_daemon(), docker_daemon()];
    let mut rows = vec![bench.idle_memory()?];
    rows.push(bench.run_rm(&Floor::new(image, work)?)?);
    rows.extend(bench.detached()?);
    rows.push(bench.exec()?);
    rows.extend(bench.thirty(|| {
        let own = engine.run_dir.display().to_string();
        let shims = peer::pids()
            .filter(|pid| peer::comm(*pid) == "ferry-shim" && runs_for(*pid, &own))
            .collect::<Vec<_>>();
        vec![shims, peer.as_ref().map(Peer::shim_pids).unwrap_or_default()]
    })?);
    steps.done("measured");

    steps.next("Results");
    print!("{}", table(&rows, peer.is_some()));
    if args.trace {
        trace::one_run(engine, IMAGE, work)?;
    }
    Ok(())
}

fn start_docker(cache: &Path, work: &Path) -> Result<Peer> {
    Peer::start(cache, PathBuf::from("/run/ferry-bench-docker"), work.join("docker"), &[])
}

/// Whether a shim belongs to the engine with this run directory; its descriptors point there.
fn runs_for(pid: u32, run_dir: &str) -> bool {
    let Ok(dir) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    let by_fd = dir
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .any(|target| target.to_string_lossy().starts_with(run_dir));
    by_fd || peer::cmdline(pid).contains(run_dir)
}

struct Bench {
    runs: usize,
    contenders: Vec<Contender>,
    idle: Vec<Vec<u32>>,
}

impl Bench {
    /// Measures `operation` in turns; the first round warms up and does not count.
    fn turns(
        &self,
        runs: usize,
        mut operation: impl FnMut(&Contender, usize) -> Result<Duration>,
    ) -> Result<Vec<Samples>> {
        let mut samples = vec![Samples::default(); self.contenders.len()];
        for round in 0..=runs {
            for (index, contender) in self.contenders.iter().enumerate() {
                let took = operation(contender, round)?;
                if round > 0 {
                    samples[index].push(took.as_secs_f64() * 1e3);
                }
            }
        }
        Ok(samples)
    }

    fn idle_memory(&self) -> Result<Row> {
        // Let the engines finish what they do after they start to answer.
        std::thread::sleep(Duration::from_secs(6));
        let samples =
            self.idle.iter().map(|pids| stats::pss_mb(pids).map(Samples::one)).collect::<Result<_>>()?;
        Ok(Row { what: "idle daemon, PSS", aim: "12", unit: "MB", samples, floor: None })
    }

    fn run_rm(&self, floor: &Floor) -> Result<Row> {
        let mut bare = Samples::default();
        let samples = self.turns(self.runs, |contender, round| {
            // Once a round, in the first contender's turn.
            if round > 0 && std::ptr::eq(contender, &self.contenders[0]) {
                bare.push(floor.time()?.as_secs_f64() * 1e3);
            }
            contender.time(&["run", "--rm", IMAGE, "true"])
        })?;
        Ok(Row { what: "run --rm IMAGE true", aim: "12", unit: "ms", samples, floor: Some(bare) })
    }

    /// `run -d` one after another, then `rm -f` of the running containers.
    fn detached(&self) -> Result<Vec<Row>> {
        let name = |contender: &Contender, round: usize| {
            let index = self.contenders.iter().position(|other| std::ptr::eq(other, contender)).unwrap_or(0);
            format!("bench-{index}-{round}")
        };
        let runs = self.runs.min(30);
        let started = self.turns(runs, |contender, round| {
            contender.time(&["run", "-d", "--name", &name(contender, round), IMAGE, "sleep", "1000"])
        })?;
        let removed =
            self.turns(runs, |contender, round| contender.time(&["rm", "-f", &name(contender, round)]))?;
        Ok(vec![
            Row { what: "run -d IMAGE sleep", aim: "12", unit: "ms", samples: started, floor: None },
            Row { what: "rm -f of a running one", aim: "10", unit: "ms", samples: removed, floor: None },
        ])
    }

    fn exec(&self) -> Result<Row> {
        for contender in self.contenders.iter().take(2) {
            contender.ask(&["run", "-d", "--name", "bench-exec", IMAGE, "sleep", "1000"])?;
        }
        let samples =
            self.turns(self.runs, |contender, _| contender.time(&["exec", "bench-exec", "true"]))?;
        for contender in self.contenders.iter().take(2) {
            contender.ask(&["rm", "-f", "bench-exec"])?;
        }
        Ok(Row { what: "exec C true", aim: "6", unit: "ms", samples, floor: None })
    }

    /// With thirty containers: `ps`, and the memory of their supervisors, which `shims` finds.
    fn thirty(&self, shims: impl Fn() -> Vec<Vec<u32>>) -> Result<Vec<Row>> {
        let mut names = Vec::new();
        for index in 0..LISTED {
            names.push(format!("bench-ps-{index}"));
            for contender in self.contenders.iter().take(2) {
                contender.ask(&["run", "-d", "--name", &names[index], IMAGE, "sleep", "1000"])?;
            }
        }
        std::thread::sleep(Duration::from_secs(1));
        let mut memory = Vec::new();
        for pids in shims() {
            memory.push(Samples::one(stats::pss_mb(&pids)? / pids.len().max(1) as f64));
        }
        let busy =
            self.idle.iter().map(|pids| stats::pss_mb(pids).map(Samples::one)).collect::<Result<_>>()?;
        let samples = self.turns(self.runs, |contender, _| contender.time(&["ps"]))?;
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        for contender in self.contenders.iter().take(2) {
            contender.ask(&[&["rm", "-f"], names.as_slice()].concat())?;
        }
        Ok(vec![
            Row { what: "ps, 30 containers", aim: "5", unit: "ms", samples, floor: None },
            Row {
                what: "shim of an idle container, PSS",
                aim: "0.5",
                unit: "MB",
                samples: memory,
                floor: None,
            },
            Row { what: "daemon with 30 containers, PSS", aim: "", unit: "MB", samples: busy, floor: None },
        ])
    }
}

/// The table; medians, with the 95th percentile in brackets.
fn table(rows: &[Row], docker: bool) -> String {
    let mut lines = vec![[
        "what".to_owned(),
        "ferry".to_owned(),
        "Docker".to_owned(),
        "ratio".to_owned(),
        "bare floor".to_owned(),
        "docker CLI on ferry".to_owned(),
        "aim".to_owned(),
    ]];
    for row in rows {
        let cell = |index: usize| row.samples.get(index).map_or_else(|| "–".to_owned(), |s| s.cell(row.unit));
        let ratio = match (row.samples.first(), row.samples.get(1)) {
            (Some(ferry), Some(docker)) if ferry.median() > 0.0 && docker.median() > 0.0 => {
                format!("{:.1}×", docker.median() / ferry.median())
            }
            _ => "–".to_owned(),
        };
        lines.push([
            row.what.to_owned(),
            cell(0),
            if docker { cell(1) } else { "–".to_owned() },
            ratio,
            row.floor.as_ref().map_or_else(|| "–".to_owned(), |floor| floor.cell(row.unit)),
            cell(2),
            if row.aim.is_empty() { "–".to_owned() } else { format!("≤ {} {}", row.aim, row.unit) },
        ]);
    }
    let widths: Vec<usize> = (0..lines[0].len())
        .map(|i| lines.iter().map(|line| line[i].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        let cells: Vec<String> =
            line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
        if number == 0 {
            let rules: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
            text.push_str(&format!("| {} |\n", rules.join(" | ")));
        }
    }
    text.push_str("\nMedian (95th percentile). Ratio: Docker divided by ferry.\n");
    ui::note(format!("{} processors, kernel {}", host::cpus(), kernel()));
    text
}

fn kernel() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_how_many_times_slower_docker_is() {
        let mut ferry = Samples::default();
        let mut docker = Samples::default();
        for i in 0..10 {
            ferry.push(10.0 + f64::from(i));
            docker.push(100.0 + 10.0 * f64::from(i));
        }
        let row = Row { what: "run", aim: "12", unit: "ms", samples: vec![ferry, docker], floor: None };
        let text = table(&[row], true);
        assert!(text.contains("10.0×"), "{text}");
        assert!(text.contains("≤ 12 ms"), "{text}");
    }
}
