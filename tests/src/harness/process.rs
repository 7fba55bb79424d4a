//! Running programs with a time limit.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How long a command may take unless a test says otherwise.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How a program ended and what it said.
#[derive(Debug, Clone)]
pub struct Output {
    /// The command line, for messages.
    pub line: String,
    /// Exit code; 128 + signal when a signal ended it.
    pub code: i32,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Output {
    /// Fails unless the program ended with this code.
    pub fn code(&self, expected: i32) -> Result<&Self> {
        if self.code != expected {
            bail!("exit code {} instead of {expected}\n{self}", self.code);
        }
        Ok(self)
    }

    /// Fails unless stdout is exactly this, but for one final newline.
    pub fn stdout(&self, expected: &str) -> Result<&Self> {
        if self.stdout.strip_suffix('\n').unwrap_or(&self.stdout) != expected {
            bail!("stdout is not {expected:?}\n{self}");
        }
        Ok(self)
    }

    /// Fails unless stdout contains this.
    pub fn stdout_has(&self, expected: &str) -> Result<&Self> {
        if !self.stdout.contains(expected) {
            bail!("stdout lacks {expected:?}\n{self}");
        }
        Ok(self)
    }

    /// Fails unless stderr contains this.
    pub fn stderr_has(&self, expected: &str) -> Result<&Self> {
        if !self.stderr.contains(expected) {
            bail!("stderr lacks {expected:?}\n{self}");
        }
        Ok(self)
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let cut = |text: &str| match text.char_indices().nth(600) {
            Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
            None => text.to_owned(),
        };
        writeln!(f, "command: {}", cut(&self.line))?;
        writeln!(f, "code:    {}", self.code)?;
        writeln!(f, "stdout:  {}", cut(&self.stdout))?;
        write!(f, "stderr:  {}", cut(&self.stderr))
    }
}

/// A program that runs in the background with its output being collected.
pub struct Running {
    child: Child,
    line: String,
    stdin: Option<ChildStdin>,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
}

impl Running {
    /// Starts it; `input` is written to its stdin, which is then closed.
    pub fn start(mut command: Command, input: Option<Vec<u8>>) -> Result<Self> {
        let line = display(&command);
        command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot run `{line}`"))?;
        if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
            std::thread::spawn(move || {
                // The program may not want all of it.
                let _ = stdin.write_all(&input);
            });
        }
        let stdout = child.stdout.take().map(collect);
        let stderr = child.stderr.take().map(collect);
        Ok(Self { child, line, stdin: None, stdout, stderr })
    }

    /// Starts it with a stdin that stays open; see [`Running::type_in`].
    pub fn start_open(mut command: Command) -> Result<Self> {
        let line = display(&command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot run `{line}`"))?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().map(collect);
        let stderr = child.stderr.take().map(collect);
        Ok(Self { child, line, stdin, stdout, stderr })
    }

    /// Writes to the stdin that stays open.
    pub fn type_in(&mut self, text: &str) -> Result<()> {
        let stdin = self.stdin.as_mut().context("stdin is closed")?;
        stdin.write_all(text.as_bytes()).context("cannot write to stdin")
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end, which must come within `limit`.
    pub fn finish(mut self, limit: Duration) -> Result<Output> {
        let status = wait(&mut self.child, limit);
        let timed_out = status.is_err();
        let text = |handle: Option<JoinHandle<Vec<u8>>>| {
            let bytes = handle.and_then(|handle| handle.join().ok()).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let output = Output {
            line: self.line.clone(),
            code: status.as_ref().map_or(-1, |status| code(*status)),
            stdout: text(self.stdout.take()),
            stderr: text(self.stderr.take()),
        };
        if timed_out {
            bail!("no end within {limit:?}\n{output}");
        }
        Ok(output)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn collect(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What came before an error is still worth having.
        let _ = from.read_to_end(&mut bytes);
        bytes
    })
}

/// Runs a command to its end within [`PATIENCE`].
pub fn run(command: Command) -> Result<Output> {
    Running::start(command, None)?.finish(PATIENCE)
}

/// Runs a command that must succeed; its stdout without the final newline.
pub fn ok(command: Command) -> Result<String> {
    let output = run(command)?;
    output.code(0)?;
    Ok(output.stdout.strip_suffix('\n').unwrap_or(&output.stdout).to_owned())
}

/// Waits for a child; kills it and fails when `limit` is over.
pub fn wait(child: &mut Child, limit: Duration) -> Result<ExitStatus> {
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_micros(500);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            bail!("killed after {limit:?}");
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// A status as a shell reports it.
pub fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().or_else(|| Some(128 + status.signal()?)).unwrap_or(-1)
}

fn display(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}
