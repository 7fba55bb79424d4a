//! ferry beside Docker and beside the bare kernel, on the same host in the same minutes.
//!
//! Both engines get the same image and the same work, in turns, so that what else happens on the host
//! hits both. Each figure is a median of whole client calls, as a user's shell would time them.
//! What is measured is in groups ([`groups`]), which can be chosen by name; a group that fails says so
//! and does not keep the others from being measured.

mod bulk;
mod contender;
mod crowd;
mod floor;
mod net;
mod short;
mod stats;
mod table;
mod trace;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use self::contender::Contender;
use self::stats::Samples;
use self::table::Row;
use crate::engine::{self, Engine};
use crate::peer::{self, Peer};
use crate::ui::{self, Steps};
use crate::{apt, fixtures, host, product, sh};

/// Options of `cargo xtask bench`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How many times each short operation is measured
    #[arg(long, default_value_t = 40)]
    runs: usize,
    /// Size of logs, files and images where much data is moved, in MiB
    #[arg(long, default_value_t = 1024, value_name = "MIB")]
    bulk: u64,
    /// Leave Docker out
    #[arg(long)]
    no_docker: bool,
    /// Say where the time of one `run` goes, from a trace of its system calls
    #[arg(long)]
    trace: bool,
    /// Measure only these groups: memory run life exec thirty logs copies images listing parallel events net throughput names
    group: Vec<String>,
}

type Group<'a> = (&'static str, fn(&Bench<'a>) -> Result<Vec<Row>>);

/// What is measured, in this order.
const fn groups<'a>() -> [Group<'a>; 14] {
    [
        ("memory", Bench::idle_memory),
        ("run", Bench::run_rm),
        ("life", Bench::life),
        ("exec", Bench::exec),
        ("thirty", Bench::thirty),
        ("logs", Bench::logs),
        ("copies", Bench::copies),
        ("images", Bench::images),
        ("listing", Bench::listing),
        ("parallel", Bench::parallel),
        ("events", Bench::events),
        ("net", Bench::net),
        ("throughput", Bench::throughput),
        ("names", Bench::names),
    ]
}

const BRIDGE: &str = "ferrybench0";
const IMAGE: &str = "bench";

/// The chore.
pub fn run(args: &Args) -> Result<bool> {
    host::require_root("bench")?;
    if let Some(unknown) = args.group.iter().find(|name| groups().iter().all(|group| group.0 != **name)) {
        bail!("there is no group `{unknown}`; there are {}", groups().map(|group| group.0).join(" "));
    }
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
    let all_measured = outcome.with_context(|| format!("{} failed", steps.current()))?;
    cleaned?;
    for left in bulk::files(&work) {
        std::fs::remove_file(&left).with_context(|| format!("cannot remove {}", left.display()))?;
    }
    Ok(all_measured)
}

fn measure_all(
    args: &Args,
    steps: &mut Steps,
    engine: &Engine,
    ferry: &Path,
    image: &Path,
    work: &Path,
    cache: &Path,
) -> Result<bool> {
    let peer = if args.no_docker { None } else { Some(start_docker(cache, work)?) };
    let own = engine.run_dir.display().to_string();
    let daemons = || {
        let docker = peer.as_ref().map(Peer::daemon_pids).unwrap_or_default();
        vec![engine.pid().into_iter().collect(), docker]
    };
    let shims = || {
        let of_ferry = |pid: &u32| peer::comm(*pid) == "ferry-shim" && runs_for(*pid, &own);
        vec![peer::pids().filter(of_ferry).collect(), peer.as_ref().map(Peer::shim_pids).unwrap_or_default()]
    };
    let restart = || restart(engine);
    let mut bench = Bench {
        runs: args.runs.max(3),
        bulk: args.bulk.max(1),
        contenders: vec![Contender { name: "ferry", client: ferry.to_owned(), host: engine.host() }],
        image: image.to_owned(),
        work: work.to_owned(),
        daemons: &daemons,
        shims: &shims,
        restart: &restart,
    };
    if let Some(peer) = &peer {
        bench.contenders.push(Contender { name: "Docker", client: peer.client(), host: peer.host() });
        bench.contenders.push(Contender {
            name: "docker on ferry",
            client: peer.client(),
            host: engine.host(),
        });
    }
    for contender in bench.engines() {
        contender.ask(&["import", &image.display().to_string(), IMAGE])?;
    }
    steps.done("they answer");

    steps.next("Measure");
    let (mut rows, mut failed) = (Vec::new(), Vec::new());
    for (name, measure) in groups() {
        if !args.group.is_empty() && !args.group.iter().any(|wanted| wanted == name) {
            continue;
        }
        let began = Instant::now();
        match measure(&bench) {
            Ok(measured) => {
                rows.extend(measured);
                ui::note(format!("{name}: {}", ui::seconds(began.elapsed())));
            }
            Err(error) => {
                ui::note(format!("{name} failed: {error:#}"));
                failed.push(name);
                if let Err(error) = bench.start_over() {
                    ui::note(format!("the rest is not measured: {error:#}"));
                    break;
                }
            }
        }
    }
    steps.done("measured");

    steps.next("Results");
    print!("{}", table::table(&rows, peer.is_some()));
    if args.trace {
        trace::one_run(engine, IMAGE, work)?;
    }
    if !failed.is_empty() {
        println!("Not measured: {}", failed.join(", "));
    }
    Ok(failed.is_empty())
}

fn start_docker(cache: &Path, work: &Path) -> Result<Peer> {
    Peer::start(cache, PathBuf::from("/run/ferry-bench-docker"), work.join("docker"), &[])
}

/// Kills the daemon and starts it again; how long it takes until the API answers.
fn restart(engine: &Engine) -> Result<Duration> {
    let pid = engine.pid().context("the daemon has no pid")?;
    sh::capture(&mut sh::cmd("kill", ["-KILL", &pid.to_string()]))?;
    let deadline = Instant::now() + Duration::from_secs(10);
    // It is our child and stays as a zombie; when the last of its threads is one, it has let go of everything.
    let threads = || std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    while threads() > 1 || (threads() == 1 && !engine::is_zombie(pid)) {
        if Instant::now() > deadline {
            bail!("the daemon (pid {pid}) does not end on SIGKILL");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let began = Instant::now();
    engine.start()?;
    Ok(began.elapsed())
}

/// Whether a shim belongs to the engine with this run directory; its descriptors point there.
fn runs_for(pid: u32, run_dir: &str) -> bool {
    let Ok(dir) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    let by_fd = dir
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .any(|target| target.to_string_lossy().starts_with(run_dir));
    by_fd || peer::cmdline(pid).contains(run_dir)
}

/// What groups measure with.
struct Bench<'a> {
    runs: usize,
    /// MiB.
    bulk: u64,
    /// ferry, Docker, and Docker's client on ferry.
    contenders: Vec<Contender>,
    /// Root file system of the image.
    image: PathBuf,
    work: PathBuf,
    /// Pids of each engine's daemon.
    daemons: &'a dyn Fn() -> Vec<Vec<u32>>,
    /// Pids of each engine's supervisors.
    shims: &'a dyn Fn() -> Vec<Vec<u32>>,
    /// Restarts ferry's daemon.
    restart: &'a dyn Fn() -> Result<Duration>,
}

impl Bench<'_> {
    /// Each engine once, with its own client.
    fn engines(&self) -> &[Contender] {
        &self.contenders[..self.contenders.len().min(2)]
    }

    fn index(&self, contender: &Contender) -> usize {
        self.contenders.iter().position(|other| std::ptr::eq(other, contender)).unwrap_or(0)
    }

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

    /// The same for what takes long: each engine with its own client only, and every round counts.
    fn rounds(
        &self,
        runs: usize,
        mut operation: impl FnMut(&Contender, usize) -> Result<Duration>,
    ) -> Result<Vec<Samples>> {
        let mut samples = vec![Samples::default(); self.engines().len()];
        for round in 0..runs {
            for (index, contender) in self.engines().iter().enumerate() {
                samples[index].push(operation(contender, round)?.as_secs_f64() * 1e3);
            }
        }
        Ok(samples)
    }

    /// Removes all containers after a group that broke off.
    fn start_over(&self) -> Result<()> {
        for contender in self.engines() {
            let all = contender.ask(&["ps", "-aq"])?;
            let ids: Vec<&str> = all.lines().collect();
            if !ids.is_empty() {
                contender.ask(&[&["rm", "-f", "-v"], ids.as_slice()].concat())?;
            }
        }
        Ok(())
    }
}
