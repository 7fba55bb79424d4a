//! `run`: create, attach, start, wait.

use clap::Args;
use ferry_client::{Request, Response};
use futures_util::future::{self, Either};
use serde_json::{Value, json};

use crate::app::App;
use crate::commands::create;
use crate::failure::{CLIENT_FAILED, CmdResult, Failure, NOT_EXECUTABLE, NOT_FOUND};
use crate::opts::create::{Creation, Streams};
use crate::opts::process::ContainerFlags;
use crate::opts::{create as body, values};
use crate::out;
use crate::session::pump::{self, End, Plan};
use crate::session::signals::{self, Caught};
use crate::session::terminal::{self, RawMode};
use crate::verb::{Arity, Verb};

/// Create and run a new container from an image
#[derive(Debug, Args)]
pub struct Run {
    #[command(flatten)]
    flags: ContainerFlags,
    /// Run container in background and print container ID
    #[arg(long, short = 'd')]
    detach: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "string")]
    detach_keys: Option<String>,
    /// Proxy received signals to the process (default true)
    #[arg(long, action = clap::ArgAction::SetFalse)]
    sig_proxy: bool,
}

impl Verb for Run {
    const PATHS: &'static [&'static str] = &["container run", "run"];
    const USAGE: &'static str = "[OPTIONS] IMAGE [COMMAND] [ARG...]";
    const ARITY: Arity = Arity::AtLeast(1);
    const RUN_STYLE_ERRORS: bool = true;

    async fn run(self, app: &App) -> CmdResult {
        create::check_pull_policy(&self.flags)?;
        let proxies = create::proxies(app, &self.flags)?;
        let mut creation =
            body::build(&self.flags, proxies).map_err(|e| Failure::new(e).with_code(CLIENT_FAILED))?;
        if self.detach {
            if !self.flags.attach.is_empty() {
                return Err(Failure::new("conflicting options: cannot specify both --attach and --detach"));
            }
            for key in ["AttachStdin", "AttachStdout", "AttachStderr", "StdinOnce"] {
                if let Some(fields) = creation.body.as_object_mut() {
                    fields.remove(key);
                }
            }
        } else if creation.tty && creation.streams.stdin && !terminal::stdin_is_terminal() {
            return Err(Failure::new("the input device is not a TTY"));
        }
        if creation.tty
            && let Some((rows, columns)) = terminal::size()
        {
            creation.body["HostConfig"]["ConsoleSize"] = json!([rows, columns]);
        }
        let keys = values::detach_keys(app.detach_keys(self.detach_keys.as_deref()))
            .map_err(|e| Failure::new(e).with_code(CLIENT_FAILED))?;
        let id = create::create(app, &self.flags, &creation.body).await.map_err(client_failed)?;
        if self.detach {
            let start = Request::post(format!("/containers/{id}/start"));
            let started = app.done(start).await;
            // The id is told either way: a container that did not start is still there.
            out::println(&id)?;
            return started.map(|()| 0).map_err(start_failed);
        }
        self.foreground(app, &id, &creation, keys).await
    }
}

/// The client or the engine failed, not the container.
fn client_failed(failure: Failure) -> Failure {
    if failure.message.is_empty() { failure } else { failure.with_code(CLIENT_FAILED) }
}

/// A failed start tells by its text whose fault it is.
pub fn start_failed(failure: Failure) -> Failure {
    let has = |text: &str| failure.message.contains(text);
    let code = if has("executable file not found") || has("no such file or directory") {
        NOT_FOUND
    } else if has("permission denied") || has("is a directory") {
        NOT_EXECUTABLE
    } else {
        CLIENT_FAILED
    };
    failure.with_code(code)
}

impl Run {
    async fn foreground(&self, app: &App, id: &str, creation: &Creation, keys: Vec<u8>) -> CmdResult {
        let Creation { streams, tty, .. } = *creation;
        let attached = streams.stdin || streams.stdout || streams.stderr;
        let mut caught = match (tty, self.sig_proxy) {
            (false, true) => Caught::forwarded()?,
            (true, _) => Caught::ending()?,
            (false, false) => Caught::none(),
        };
        // Both must be in place before the container starts, else output or the exit are missed.
        // Neither depends on the other: they share a round trip.
        let wait = wait_request(id, if self.flags.rm { "removed" } else { "next-exit" });
        let attach = async {
            if !attached {
                return Ok(None);
            }
            app.client()?
                .hijack(attach_request(id, streams, self.detach_keys.as_deref()))
                .await
                .map(Some)
                .map_err(Failure::from)
        };
        let (hijacked, waiting) = future::join(attach, app.send(wait)).await;
        let (hijacked, waiting) = (hijacked.map_err(client_failed)?, waiting.map_err(client_failed)?);
        let raw = if tty && streams.stdin { RawMode::enter()? } else { None };
        let started = app.done(Request::post(format!("/containers/{id}/start"))).await;
        if let Err(failure) = started {
            drop(raw);
            if self.flags.rm {
                // The engine removes what failed to start; the name is free when this returns.
                let _ = exit_code(waiting).await;
            }
            return Err(start_failed(failure));
        }
        let session = async {
            let Some(hijacked) = hijacked else {
                out::println(id)?;
                return Ok(End::Output);
            };
            pump::run(hijacked, Plan { tty, stdin: streams.stdin, detach: keys }).await
        };
        let resize_path = format!("/containers/{id}/resize");
        let beside = async {
            if tty {
                let ended = async { caught.next().await.1 };
                match future::select(Box::pin(signals::follow_size(app, &resize_path)), Box::pin(ended)).await
                {
                    Either::Right((number, _)) => number,
                    Either::Left(((), _)) => future::pending().await,
                }
            } else {
                signals::forward(app, id, caught).await;
                future::pending().await
            }
        };
        let whole = async {
            match session.await? {
                End::Detached => Ok(0),
                End::Output => exit_code(waiting).await,
            }
        };
        let result = match future::select(Box::pin(whole), Box::pin(beside)).await {
            Either::Left((result, _)) => result,
            Either::Right((number, _)) => Ok(u8::try_from(128 + number).unwrap_or(CLIENT_FAILED)),
        };
        drop(raw);
        result
    }
}

/// `POST …/attach` for a container about to start.
pub fn attach_request(id: &str, streams: Streams, keys: Option<&str>) -> Request {
    Request::post(format!("/containers/{}/attach", Request::escape(id)))
        .query("stream", "1")
        .flag("stdin", streams.stdin)
        .flag("stdout", streams.stdout)
        .flag("stderr", streams.stderr)
        .query_opt("detachKeys", keys.unwrap_or(""))
}

/// `POST …/wait`.
pub fn wait_request(id: &str, condition: &str) -> Request {
    Request::post(format!("/containers/{}/wait", Request::escape(id))).query("condition", condition)
}

/// The exit code a wait answers with.
///
/// # Errors
/// When the wait failed in the engine.
pub async fn exit_code(waiting: Response) -> CmdResult {
    let answer: Value = waiting.json().await?;
    if let Some(message) = answer["Error"]["Message"].as_str().filter(|m| !m.is_empty()) {
        return Err(Failure::new(message).with_code(CLIENT_FAILED));
    }
    let code = answer["StatusCode"].as_i64().unwrap_or(i64::from(CLIENT_FAILED));
    Ok(u8::try_from(code & 0xff).unwrap_or(CLIENT_FAILED))
}
