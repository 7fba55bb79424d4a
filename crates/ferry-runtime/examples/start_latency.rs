//! Times create + start + wait of `/bin/true` from a static busybox: new namespaces, overlay, limits.
//! Run as root: `cargo run --release -p ferry-runtime --example start_latency [rounds]`.

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use ferry_runtime::{CreateRequest, Stdio, create};
use ferry_types::Overlay;
use oci_spec::runtime::Spec;
use rustix::process::{Pid, WaitOptions, waitpid};

fn main() -> Result<(), Box<dyn Error>> {
    let rounds: usize = std::env::args().nth(1).map_or(Ok(200), |n| n.parse())?;
    let dir = std::env::temp_dir().join(format!("ferry-start-latency-{}", std::process::id()));
    let result = run(&dir, rounds);
    std::fs::remove_dir_all(&dir)?;
    ferry_runtime::cgroup::Cgroup::open(Path::new("/ferry-start-latency"))?.remove()?;
    result
}

fn run(dir: &Path, rounds: usize) -> Result<(), Box<dyn Error>> {
    let lower = dir.join("lower");
    std::fs::create_dir_all(lower.join("bin"))?;
    std::fs::copy("/bin/busybox", lower.join("bin/busybox"))?;
    std::os::unix::fs::symlink("busybox", lower.join("bin/true"))?;
    let spec: Spec = serde_json::from_str(CONFIG)?;
    let mut times: Vec<[Duration; 4]> = Vec::with_capacity(rounds);
    for round in 0..rounds {
        let (upper, work) = (dir.join(format!("u{round}")), dir.join(format!("w{round}")));
        std::fs::create_dir(&upper)?;
        std::fs::create_dir(&work)?;
        let overlay = Overlay { lower: vec![lower.clone()], upper, work };
        let begin = Instant::now();
        let mut container = create(CreateRequest {
            id: "start-latency",
            bundle: dir,
            spec: &spec,
            overlay: Some(&overlay),
            netns: None,
            stdio: Stdio::Inherit,
        })?;
        let created = begin.elapsed();
        container.start()?;
        let started = begin.elapsed();
        waitpid(Pid::from_raw(container.pid), WaitOptions::empty())?;
        let ended = begin.elapsed();
        container.cgroup.remove()?;
        times.push([created, started - created, ended - started, begin.elapsed() - ended]);
    }
    let mut out = String::new();
    for (column, name) in ["create", "start", "wait", "remove cgroup"].iter().enumerate() {
        let mut all: Vec<Duration> = times.iter().map(|t| t[column]).collect();
        out += &line(name, &mut all);
    }
    let mut totals: Vec<Duration> = times.iter().map(|t| t[0] + t[1] + t[2]).collect();
    out += &line("create+start+wait", &mut totals);
    use std::io::Write;
    std::io::stdout().write_all(out.as_bytes())?;
    Ok(())
}

fn line(name: &str, all: &mut [Duration]) -> String {
    all.sort_unstable();
    let at = |percent: usize| all[(all.len() - 1) * percent / 100];
    format!("{name:20} median {:?}  p10 {:?}  p90 {:?}\n", at(50), at(10), at(90))
}

/// As Docker makes it, without seccomp when the kernel lacks it.
const CONFIG: &str = include_str!("config.json");
