//! Operations on single containers, each many times.

use std::time::Duration;

use anyhow::Result;

use super::floor::Floor;
use super::stats::{self, Samples};
use super::table::Row;
use super::{Bench, IMAGE};

/// How many containers `ps` lists.
const LISTED: usize = 30;
/// A program that ends when it is asked to.
const OBEDIENT: &str = "trap 'exit 0' TERM; sleep 1000 & wait";

impl Bench<'_> {
    pub fn idle_memory(&self) -> Result<Vec<Row>> {
        // Let the engines finish what they do after they start to answer.
        std::thread::sleep(Duration::from_secs(6));
        let samples = (self.daemons)()
            .iter()
            .map(|pids| stats::pss_mb(pids).map(Samples::one))
            .collect::<Result<_>>()?;
        Ok(vec![Row { aim: "12", ..Row::plain("idle daemon, PSS", "MB", samples) }])
    }

    pub fn run_rm(&self) -> Result<Vec<Row>> {
        let floor = Floor::new(&self.image, &self.work)?;
        let mut bare = Samples::default();
        let samples = self.turns(self.runs, |contender, round| {
            // Once a round, in the first contender's turn.
            if round > 0 && std::ptr::eq(contender, &self.contenders[0]) {
                bare.push(floor.time()?.as_secs_f64() * 1e3);
            }
            contender.time(&["run", "--rm", IMAGE, "true"])
        })?;
        Ok(vec![Row { aim: "12", floor: Some(bare), ..Row::plain("run --rm IMAGE true", "ms", samples) }])
    }

    /// `run -d` one after another, `stop`, `start` and `rm` of each, `rm -f` of running ones.
    pub fn life(&self) -> Result<Vec<Row>> {
        let name = |index: usize, round: usize| format!("bench-{index}-{round}");
        let index = |contender: &super::Contender| self.index(contender);
        let runs = self.runs.min(30);
        let started = self.turns(runs, |c, round| {
            c.time(&["run", "-d", "--name", &name(index(c), round), IMAGE, "sh", "-c", OBEDIENT])
        })?;
        let each = |words: &[&str]| {
            self.turns(runs, |c, round| c.time(&[words, &[name(index(c), round).as_str()]].concat()))
        };
        let stopped = each(&["stop"])?;
        let again = each(&["start"])?;
        let restarted = each(&["restart"])?;
        let killed = each(&["kill"])?;
        let gone = each(&["rm"])?;
        self.turns(runs, |c, round| {
            c.time(&["run", "-d", "--name", &name(index(c), round), IMAGE, "sleep", "1000"])
        })?;
        let removed = each(&["rm", "-f"])?;
        Ok(vec![
            Row { aim: "12", ..Row::plain("run -d IMAGE sleep", "ms", started) },
            Row::plain("stop", "ms", stopped),
            Row { aim: "12", ..Row::plain("start", "ms", again) },
            Row::plain("restart", "ms", restarted),
            Row::plain("kill", "ms", killed),
            Row::plain("rm", "ms", gone),
            Row { aim: "10", ..Row::plain("rm -f of a running one", "ms", removed) },
        ])
    }

    pub fn exec(&self) -> Result<Vec<Row>> {
        for contender in self.engines() {
            contender.ask(&["run", "-d", "--name", "bench-exec", IMAGE, "sleep", "1000"])?;
        }
        let samples =
            self.turns(self.runs, |contender, _| contender.time(&["exec", "bench-exec", "true"]))?;
        for contender in self.engines() {
            contender.ask(&["rm", "-f", "bench-exec"])?;
        }
        Ok(vec![Row { aim: "6", ..Row::plain("exec C true", "ms", samples) }])
    }

    /// With thirty containers: `ps`, and the memory of their supervisors.
    pub fn thirty(&self) -> Result<Vec<Row>> {
        let mut names = Vec::new();
        for index in 0..LISTED {
            names.push(format!("bench-ps-{index}"));
            for contender in self.engines() {
                contender.ask(&["run", "-d", "--name", &names[index], IMAGE, "sleep", "1000"])?;
            }
        }
        std::thread::sleep(Duration::from_secs(1));
        let mut memory = Vec::new();
        for pids in (self.shims)() {
            memory.push(Samples::one(stats::pss_mb(&pids)? / pids.len().max(1) as f64));
        }
        let busy = (self.daemons)()
            .iter()
            .map(|pids| stats::pss_mb(pids).map(Samples::one))
            .collect::<Result<_>>()?;
        let samples = self.turns(self.runs, |contender, _| contender.time(&["ps"]))?;
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        for contender in self.engines() {
            contender.ask(&[&["rm", "-f"], names.as_slice()].concat())?;
        }
        Ok(vec![
            Row { aim: "5", ..Row::plain("ps, 30 containers", "ms", samples) },
            Row { aim: "0.5", ..Row::plain("shim of an idle container, PSS", "MB", memory) },
            Row::plain("daemon with 30 containers, PSS", "MB", busy),
        ])
    }
}
