//! Many containers and many clients at once, and the restart of a daemon that has many containers.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::stats::Samples;
use super::table::Row;
use super::{Bench, Contender, IMAGE};

/// Containers that are listed.
const LISTED: usize = 500;
/// Containers that are started at once.
const STARTED: usize = 200;
/// How many clients make containers at once where this is not what is measured.
const BATCH: usize = 8;
const LISTENERS: usize = 50;

fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("bench-{prefix}-{number}")).collect()
}

/// Makes containers that do not run.
fn create(contender: &Contender, names: &[String]) -> Result<()> {
    for batch in names.chunks(BATCH) {
        let call =
            |name: &String| ["create", "--name", name, IMAGE, "sleep", "1000"].map(str::to_owned).to_vec();
        contender.time_all(&batch.iter().map(call).collect::<Vec<_>>())?;
    }
    Ok(())
}

fn remove(contender: &Contender, names: &[String]) -> Result<()> {
    let words: Vec<&str> = ["rm", "-f"].into_iter().chain(names.iter().map(String::as_str)).collect();
    contender.time(&words).map(drop)
}

impl Bench<'_> {
    pub fn listing(&self) -> Result<Vec<Row>> {
        let names = names("list", LISTED);
        for contender in self.engines() {
            create(contender, &names)?;
        }
        let listed = self.rounds(10, |contender, _| contender.time(&["ps", "-a"]))?;
        let words: Vec<&str> = ["inspect"].into_iter().chain(names.iter().map(String::as_str)).collect();
        let inspected = self.rounds(3, |contender, _| contender.time(&words))?;
        for contender in self.engines() {
            remove(contender, &names)?;
        }
        Ok(vec![
            Row::plain("ps -a, 500 containers", "ms", listed),
            Row::plain("inspect of 500 containers", "ms", inspected),
        ])
    }

    /// 200 containers started at once by as many clients; then, of ferry, the restart of the daemon under
    /// them. (Docker would stop them.)
    pub fn parallel(&self) -> Result<Vec<Row>> {
        let names = names("many", STARTED);
        for contender in self.engines() {
            create(contender, &names)?;
        }
        let calls: Vec<Vec<String>> =
            names.iter().map(|name| vec!["start".to_owned(), name.clone()]).collect();
        let mut rows = Vec::new();
        let mut started = Vec::new();
        for contender in self.engines() {
            started.push(Samples::one(contender.time_all(&calls)?.as_secs_f64() * 1e3));
        }
        rows.push(Row::plain("start of 200 containers at once", "ms", started));
        let listed = self.rounds(10, |contender, _| contender.time(&["ps"]))?;
        rows.push(Row::plain("ps, 200 running", "ms", listed));
        rows.push(self.restart()?);
        for contender in self.engines() {
            remove(contender, &names)?;
        }
        Ok(rows)
    }

    fn restart(&self) -> Result<Row> {
        let ferry = &self.contenders[0];
        let running = || -> Result<usize> { Ok(ferry.ask(&["ps", "-q"])?.lines().count()) };
        let before = running()?;
        let mut samples = Samples::default();
        for _ in 0..3 {
            samples.push((self.restart)()?.as_secs_f64() * 1e3);
            let after = running()?;
            if after != before {
                bail!("of {before} containers {after} run after a restart of the daemon");
            }
        }
        Ok(Row { aim: "300", ..Row::plain("API after kill -9 with 200 containers", "ms", vec![samples]) })
    }

    /// What 50 clients that listen to events cost everybody else.
    pub fn events(&self) -> Result<Vec<Row>> {
        let mut listeners = Vec::new();
        for contender in self.engines() {
            for _ in 0..LISTENERS {
                let mut command = contender.command(&["events"]);
                command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                listeners.push(Listener(command.spawn()?));
            }
        }
        std::thread::sleep(Duration::from_secs(1));
        let began = Instant::now();
        let samples =
            self.rounds(self.runs.min(20), |contender, _| contender.time(&["run", "--rm", IMAGE, "true"]))?;
        for Listener(child) in &mut listeners {
            if child.try_wait()?.is_some() {
                bail!("a listener has ended after {:?}", began.elapsed());
            }
        }
        Ok(vec![Row::plain("run --rm, 50 listeners to events", "ms", samples)])
    }
}

/// A client that goes with us.
struct Listener(Child);

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
