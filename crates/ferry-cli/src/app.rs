//! What every command has at hand: the program's name, the configuration and the engine's client.

use std::cell::OnceCell;
use std::path::Path;

use ferry_client::{Client, ClientOptions, Request, Response};
use serde_json::Value;

use crate::config::{self, Config};
use crate::context;
use crate::failure::{CmdResult, Failure};
use crate::globals::Globals;

/// State of one run of the program.
#[derive(Debug)]
pub struct App {
    /// `ferry` or `docker`.
    pub prog: String,
    pub globals: Globals,
    config: OnceCell<Config>,
    client: OnceCell<Client>,
}

/// The product's name as people write it.
pub fn product(prog: &str) -> &'static str {
    if prog == "docker" { "Docker" } else { "Ferry" }
}

impl App {
    pub fn new(prog: &str, globals: Globals) -> Self {
        Self { prog: prog.to_owned(), globals, config: OnceCell::new(), client: OnceCell::new() }
    }

    /// Where the configuration and the contexts lie.
    pub fn config_dir(&self) -> std::path::PathBuf {
        config::directory(self.globals.config.as_deref())
    }

    /// The user's `config.json`; empty when there is none.
    pub fn config(&self) -> &Config {
        self.config.get_or_init(|| {
            let (config, complaint) = Config::load(&self.config_dir());
            if let Some(complaint) = complaint {
                crate::out::note(format!("WARNING: {complaint}"));
            }
            config
        })
    }

    /// The engine's client.
    ///
    /// # Errors
    /// When the address, the context or the TLS options make no sense. Nothing is connected yet.
    pub fn client(&self) -> Result<&Client, Failure> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let target = context::resolve(self)?;
        let api_version = match std::env::var("DOCKER_API_VERSION") {
            Ok(v) if !v.is_empty() => Some(v.parse().map_err(Failure::from)?),
            _ => None,
        };
        let options = ClientOptions {
            headers: headers(&self.config().http_headers)?,
            remote_command: remote_command(&self.prog),
            tls: target.tls,
            api_version,
            user_agent: format!("{}-Client/{} (linux)", product(&self.prog), env!("CARGO_PKG_VERSION")),
        };
        let endpoint = target.host.parse().map_err(Failure::from)?;
        Ok(self.client.get_or_init(|| Client::new(endpoint, options)))
    }

    /// Sends a request.
    ///
    /// # Errors
    /// The engine's refusal, or that nobody answers.
    pub async fn send(&self, request: Request) -> Result<Response, Failure> {
        Ok(self.client()?.send(request).await?)
    }

    /// Sends a request and reads its answer as JSON.
    ///
    /// # Errors
    /// As [`App::send`], and when the answer is not JSON.
    pub async fn json(&self, request: Request) -> Result<Value, Failure> {
        Ok(self.send(request).await?.json().await?)
    }

    /// Sends a request whose answer does not matter.
    ///
    /// # Errors
    /// As [`App::send`].
    pub async fn done(&self, request: Request) -> Result<(), Failure> {
        self.send(request).await?.bytes().await?;
        Ok(())
    }

    /// Runs `each` for every name, prints what worked, reports what did not and fails if anything did.
    ///
    /// # Errors
    /// Code 1 with nothing more to print; at once when nobody answers.
    pub async fn for_each<F>(&self, names: &[String], each: F) -> CmdResult
    where
        F: AsyncFn(&str) -> Result<Option<String>, Failure>,
    {
        let mut failed = false;
        for name in names {
            match each(name).await {
                Ok(Some(line)) => crate::out::println(line)?,
                Ok(None) => {}
                Err(e) if e.unreachable || e.code == crate::failure::BROKEN_PIPE => return Err(e),
                Err(e) => {
                    crate::out::note(crate::failure::finish(&e.message, &self.prog));
                    failed = true;
                }
            }
        }
        if failed { Err(Failure::silent(1)) } else { Ok(0) }
    }

    /// Key sequence to detach with: the command's, the configuration's, or the default.
    pub fn detach_keys<'a>(&'a self, given: Option<&'a str>) -> &'a str {
        given.filter(|k| !k.is_empty()).or(self.config().detach_keys.as_deref()).unwrap_or("")
    }
}

/// The user's own headers. One that identifies the program is left to the program.
fn headers(given: &std::collections::BTreeMap<String, String>) -> Result<ferry_client::Headers, Failure> {
    let pairs = given.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("user-agent"));
    ferry_client::headers(pairs).map_err(Failure::from)
}

/// What an `ssh` host runs to reach its engine. A machine with ferry may have no `docker`, and the other
/// way round.
fn remote_command(prog: &str) -> Vec<String> {
    let words: &[&str] = if prog == "docker" {
        &["docker", "system", "dial-stdio"]
    } else {
        &[
            "sh -c 'if command -v ferry >/dev/null; then exec ferry system dial-stdio; fi; exec docker system dial-stdio'",
        ]
    };
    words.iter().map(|w| (*w).to_owned()).collect()
}

/// Path of a file relative to the working directory, for messages.
pub fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
