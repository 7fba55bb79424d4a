//! Networks: what they cost a start, making and joining them, what passes through them, names.

mod names;
mod throughput;

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::stats::{self, Samples};
use super::table::Row;
use super::{Bench, Contender, IMAGE};

/// The network everything happens on.
const NETWORK: &str = "bench-net";
/// Ports of the large range; below those the kernel gives to whoever asks for any.
const RANGE: &str = "20000-29999:20000-29999";

/// Removes containers and networks of these groups, whether they are there or not.
fn clear(contender: &Contender, containers: &[&str]) {
    // What is not there need not be removed.
    let _ = contender.ask(&[&["rm", "-f"], containers].concat());
    let _ = contender.ask(&["network", "rm", NETWORK]);
}

/// Pid of a running container.
fn pid(contender: &Contender, container: &str) -> Result<u32> {
    let text = contender.ask(&["inspect", "-f", "{{.State.Pid}}", container])?;
    text.trim().parse().with_context(|| format!("{container} has no pid: {text}"))
}

/// Its address on the network of these groups.
fn address(contender: &Contender, container: &str) -> Result<String> {
    let template = format!("{{{{(index .NetworkSettings.Networks \"{NETWORK}\").IPAddress}}}}");
    contender.ask(&["inspect", "-f", &template, container])
}

impl Bench<'_> {
    /// What networks cost in calls of a client.
    pub fn net(&self) -> Result<Vec<Row>> {
        for contender in self.engines() {
            clear(contender, &["bench-net-c"]);
            contender.ask(&["network", "create", NETWORK])?;
            contender.ask(&["run", "-d", "--name", "bench-net-c", IMAGE, "sleep", "1000"])?;
        }
        let run = |options: &'static [&'static str]| {
            self.turns(self.runs, move |contender, _| {
                contender.time(&[&["run", "--rm"], options, &[IMAGE, "true"]].concat())
            })
        };
        let (plain, on_network) = (run(&[])?, run(&["--network", NETWORK])?);
        let published = run(&["-p", "18080:80"])?;
        let name = |contender: &Contender| format!("{NETWORK}-{}", self.index(contender));
        let made = self
            .turns(self.runs.min(20), |c, _| Ok(c.time(&["network", "create", &name(c)])? + self.gone(c)?))?;
        let joined = self.turns(self.runs.min(20), |contender, _| {
            let joined = contender.time(&["network", "connect", NETWORK, "bench-net-c"])?;
            Ok(joined + contender.time(&["network", "disconnect", NETWORK, "bench-net-c"])?)
        })?;
        let (time, memory) = self.range()?;
        for contender in self.engines() {
            clear(contender, &["bench-net-c"]);
        }
        Ok(vec![
            Row::plain("run --rm (beside the next two)", "ms", plain),
            Row::plain("run --rm --network N", "ms", on_network),
            Row::plain("run --rm -p 18080:80", "ms", published),
            Row::plain("network create + rm", "ms", made),
            Row::plain("network connect + disconnect", "ms", joined),
            Row { aim: "100", ..Row::plain("10,000 ports more at run -d", "ms", vec![time]) },
            Row { aim: "5", ..Row::plain("10,000 ports, daemon and shim", "MB", vec![memory]) },
        ])
    }

    fn gone(&self, contender: &Contender) -> Result<Duration> {
        contender.time(&["network", "rm", &format!("{NETWORK}-{}", self.index(contender))])
    }

    /// What 10,000 published ports add to the time of a start, and to memory. Of ferry only: Docker starts two processes
    /// for each.
    fn range(&self) -> Result<(Samples, Samples)> {
        let ferry = &self.contenders[0];
        let memory = || -> Result<f64> {
            let (daemons, shims) = ((self.daemons)(), (self.shims)());
            let of = |all: &[Vec<u32>]| all.first().map_or(Ok(0.0), |pids| stats::pss_mb(pids));
            Ok(of(&daemons)? + of(&shims)?)
        };
        let (mut time, mut more) = (Samples::default(), Samples::default());
        for _ in 0..5 {
            let began = Instant::now();
            ferry.ask(&["run", "-d", "--name", "bench-range", IMAGE, "sleep", "1000"])?;
            let plain = began.elapsed();
            let before = memory()?;
            ferry.ask(&["rm", "-f", "bench-range"])?;
            let began = Instant::now();
            ferry.ask(&["run", "-d", "--name", "bench-range", "-p", RANGE, IMAGE, "sleep", "1000"])?;
            time.push((began.elapsed().as_secs_f64() - plain.as_secs_f64()) * 1e3);
            more.push(memory()? - before);
            ferry.ask(&["rm", "-f", "bench-range"])?;
        }
        Ok((time, more))
    }
}
