//! `exec`.

use clap::Args;
use ferry_client::Request;
use futures_util::future::{self, Either};
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::failure::{CmdResult, Failure, NOT_EXECUTABLE, NOT_FOUND};
use crate::opts::{env, values};
use crate::session::pump::{self, End, Plan};
use crate::session::signals::{self, Caught};
use crate::session::terminal::{self, RawMode};
use crate::verb::{Arity, Verb};

/// Execute a command in a running container
#[derive(Debug, Args)]
pub struct Exec {
    /// Detached mode: run command in the background
    #[arg(long, short = 'd')]
    detach: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "string")]
    detach_keys: Option<String>,
    /// Set environment variables
    #[arg(long, short = 'e', value_name = "list", value_parser = env::check_flag)]
    env: Vec<String>,
    /// Read in a file of environment variables
    #[arg(long, value_name = "list")]
    env_file: Vec<String>,
    /// Keep STDIN open even if not attached
    #[arg(long, short = 'i')]
    interactive: bool,
    /// Give extended privileges to the command
    #[arg(long)]
    privileged: bool,
    /// Allocate a pseudo-TTY
    #[arg(long, short = 't')]
    tty: bool,
    /// Username or UID (format: "<name|uid>[:<group|gid>]")
    #[arg(long, short = 'u', value_name = "string")]
    user: Option<String>,
    /// Working directory inside the container
    #[arg(long, short = 'w', value_name = "string")]
    workdir: Option<String>,
    #[arg(hide = true, trailing_var_arg = true)]
    args: Vec<String>,
}

impl Verb for Exec {
    const PATHS: &'static [&'static str] = &["container exec", "exec"];
    const USAGE: &'static str = "[OPTIONS] CONTAINER COMMAND [ARG...]";
    const ARITY: Arity = Arity::AtLeast(2);

    async fn run(self, app: &App) -> CmdResult {
        let keys = values::detach_keys(app.detach_keys(self.detach_keys.as_deref()))?;
        if !self.detach && self.tty && self.interactive && !terminal::stdin_is_terminal() {
            return Err(Failure::new("the input device is not a TTY"));
        }
        let path = format!("/containers/{}/exec", Request::escape(&self.args[0]));
        let created = app.json(Request::post(path).json(&self.config()?)?).await?;
        let id = created["Id"].as_str().unwrap_or_default();
        let mut start = json!({"Detach": self.detach, "Tty": self.tty});
        if self.tty
            && let Some((rows, columns)) = terminal::size()
        {
            start["ConsoleSize"] = json!([rows, columns]);
        }
        let request = Request::post(format!("/exec/{id}/start")).json(&start)?;
        if self.detach {
            app.done(request).await.map_err(exec_failed)?;
            return Ok(0);
        }
        let hijacked = app.client()?.hijack(request).await.map_err(|e| exec_failed(e.into()))?;
        let raw = if self.tty && self.interactive { RawMode::enter()? } else { None };
        let plan = Plan { tty: self.tty, stdin: self.interactive, detach: keys };
        let resize_path = format!("/exec/{id}/resize");
        let beside = async {
            if !self.tty {
                return future::pending().await;
            }
            let mut caught = Caught::ending()?;
            let ended = async { caught.next().await.1 };
            match future::select(Box::pin(signals::follow_size(app, &resize_path)), Box::pin(ended)).await {
                Either::Right((number, _)) => Ok::<i32, Failure>(number),
                Either::Left(((), _)) => future::pending().await,
            }
        };
        let ended = match future::select(Box::pin(pump::run(hijacked, plan)), Box::pin(beside)).await {
            Either::Left((end, _)) => end,
            Either::Right((number, _)) => return Ok(u8::try_from(128 + number?).unwrap_or(NOT_EXECUTABLE)),
        };
        drop(raw);
        if ended? == End::Detached {
            return Err(Failure::new("read escape sequence"));
        }
        let state = app.json(Request::get(format!("/exec/{id}/json"))).await?;
        let code = state["ExitCode"].as_i64().unwrap_or(0);
        Ok(u8::try_from(code & 0xff).unwrap_or(1))
    }
}

/// A command that cannot be run has the code `run` would give it.
fn exec_failed(failure: Failure) -> Failure {
    let has = |text: &str| failure.message.contains(text);
    if has("executable file not found") || has("no such file or directory") {
        return failure.with_code(NOT_FOUND);
    }
    if has("permission denied") || has("is a directory") || has("OCI runtime exec failed") {
        return failure.with_code(NOT_EXECUTABLE);
    }
    failure
}

impl Exec {
    fn config(&self) -> Result<Value, Failure> {
        let mut config = Map::new();
        let mut set = |key: &str, value: Value| config.insert(key.to_owned(), value);
        if let Some(user) = self.user.as_deref().filter(|u| !u.is_empty()) {
            set("User", user.into());
        }
        if let Some(dir) = self.workdir.as_deref().filter(|d| !d.is_empty()) {
            set("WorkingDir", dir.into());
        }
        let variables = env::variables(&self.env_file, &self.env)?;
        if !variables.is_empty() {
            set("Env", variables.into());
        }
        set("Privileged", self.privileged.into());
        set("Tty", self.tty.into());
        if !self.detach {
            set("AttachStdin", self.interactive.into());
            set("AttachStdout", true.into());
            set("AttachStderr", true.into());
        }
        if let Some(keys) = self.detach_keys.as_deref().filter(|k| !k.is_empty()) {
            set("DetachKeys", keys.into());
        }
        if let Some((rows, columns)) = terminal::size().filter(|_| self.tty) {
            set("ConsoleSize", json!([rows, columns]));
        }
        set("Cmd", self.args[1..].to_vec().into());
        Ok(Value::Object(config))
    }
}
