//! The two clients of an engine: `ferry`, and the stock `docker`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::process::{self, Output, Running};
use super::settings::Settings;
use super::skip;

/// Which client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// ferry's own.
    Ferry,
    /// Docker's.
    Docker,
}

impl Flavour {
    /// For test names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ferry => "ferry",
            Self::Docker => "docker",
        }
    }
}

/// A client together with the engine it talks to.
#[derive(Debug, Clone)]
pub struct Client {
    /// Where the engine's API is.
    pub host: String,
    program: PathBuf,
}

impl Client {
    /// Of the engine at `host`. The test is skipped when the client is not on this machine.
    pub fn new(settings: &Settings, flavour: Flavour, host: &str) -> Result<Self> {
        let program = match (flavour, &settings.docker) {
            (Flavour::Ferry, _) => settings.ferry(),
            (Flavour::Docker, Some(docker)) => docker.clone(),
            (Flavour::Docker, None) => return skip("no stock docker client on this machine"),
        };
        Ok(Self { host: host.to_owned(), program })
    }

    /// The same engine through the other client.
    pub fn with(&self, settings: &Settings, flavour: Flavour) -> Result<Self> {
        Self::new(settings, flavour, &self.host)
    }

    /// A command of this client, not yet started.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args).env("DOCKER_HOST", &self.host).env_remove("DOCKER_CONTEXT");
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, args: &[&str]) -> Result<Output> {
        process::run(self.command(args))
    }

    /// Runs a command that reads `input`.
    pub fn run_with(&self, args: &[&str], input: impl Into<Vec<u8>>) -> Result<Output> {
        Running::start(self.command(args), Some(input.into()))?.finish(process::PATIENCE)
    }

    /// Runs a command that reads `input`, and whose stdin does not end before the command does.
    pub fn run_typing(&self, args: &[&str], input: &str) -> Result<Output> {
        let mut running = Running::start_open(self.command(args))?;
        running.type_in(input)?;
        running.finish(process::PATIENCE)
    }

    /// Starts a command in the background.
    pub fn start(&self, args: &[&str]) -> Result<Running> {
        Running::start(self.command(args), None)
    }

    /// Runs a command that must succeed; its stdout without the final newline.
    pub fn ok(&self, args: &[&str]) -> Result<String> {
        process::ok(self.command(args))
    }

    /// Path of the engine's unix socket.
    pub fn socket(&self) -> Result<PathBuf> {
        Ok(PathBuf::from(self.host.strip_prefix("unix://").context("the engine has no unix socket")?))
    }
}
