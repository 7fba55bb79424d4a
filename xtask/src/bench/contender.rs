//! One client with the engine it talks to, and how its calls are timed.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::sh;

/// A call that takes longer is killed: one stuck engine must not keep a comparison from ending.
const LIMIT: Duration = Duration::from_secs(180);

/// One client with the engine it talks to.
pub struct Contender {
    /// For messages.
    pub name: &'static str,
    pub client: PathBuf,
    pub host: String,
}

impl Contender {
    /// A call of this client.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = sh::cmd(&self.client, args);
        command.env("DOCKER_HOST", &self.host).env_remove("DOCKER_CONTEXT");
        command
    }

    /// What a call prints, without the final newline.
    pub fn ask(&self, args: &[&str]) -> Result<String> {
        Ok(sh::capture(&mut self.command(args))?.trim_end().to_owned())
    }

    /// How long a call takes that must succeed.
    pub fn time(&self, args: &[&str]) -> Result<Duration> {
        let mut command = self.command(args);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let began = Instant::now();
        let child = command.spawn().with_context(|| format!("cannot run {}", self.client.display()))?;
        let watchdog = Watchdog::of(&child);
        let output = child.wait_with_output()?;
        let took = began.elapsed();
        watchdog.end();
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            bail!("{}: `{}` ended with {}: {text}", self.name, sh::display(&command), output.status);
        }
        Ok(took)
    }

    /// How long it takes until all of these calls, begun at once, have succeeded.
    pub fn time_all(&self, calls: &[Vec<String>]) -> Result<Duration> {
        let began = Instant::now();
        let mut children = Vec::new();
        for call in calls {
            let words: Vec<&str> = call.iter().map(String::as_str).collect();
            let mut command = self.command(&words);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
            let child = command.spawn().with_context(|| format!("cannot run {}", self.client.display()))?;
            children.push((Watchdog::of(&child), child, words.join(" ")));
        }
        let mut failed = Vec::new();
        for (watchdog, child, line) in children {
            let output = child.wait_with_output()?;
            watchdog.end();
            if !output.status.success() {
                failed.push(format!("{line}: {}", String::from_utf8_lossy(&output.stderr).trim()));
            }
        }
        let took = began.elapsed();
        match failed.first() {
            Some(first) => bail!("{}: {} of {} calls failed: {first}", self.name, failed.len(), calls.len()),
            None => Ok(took),
        }
    }
}

/// Kills a process that does not end in time.
struct Watchdog {
    done: std::sync::mpsc::Sender<()>,
    thread: JoinHandle<()>,
}

impl Watchdog {
    fn of(child: &Child) -> Self {
        let (done, waiting) = channel();
        let pid = rustix::process::Pid::from_child(child);
        let thread = std::thread::spawn(move || {
            // The child is waited for only after this thread was told that it is done, so the pid is its own.
            if waiting.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        });
        Self { done, thread }
    }

    fn end(self) {
        drop(self.done);
        let _ = self.thread.join();
    }
}
