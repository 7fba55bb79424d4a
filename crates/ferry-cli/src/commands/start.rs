//! `start`.

use clap::Args;
use ferry_client::Request;
use futures_util::future::{self, Either};

use crate::app::App;
use crate::commands::run::{attach_request, exit_code, wait_request};
use crate::failure::{CLIENT_FAILED, CmdResult, Failure};
use crate::opts::create::Streams;
use crate::opts::values;
use crate::session::pump::{self, End, Plan};
use crate::session::signals::{self, Caught};
use crate::session::terminal::{self, RawMode};
use crate::verb::{Arity, Verb};

/// Start one or more stopped containers
#[derive(Debug, Args)]
pub struct Start {
    /// Attach STDOUT/STDERR and forward signals
    #[arg(long, short = 'a')]
    attach: bool,
    /// Restore from this checkpoint
    #[arg(long, value_name = "string", hide = true)]
    checkpoint: Option<String>,
    /// Use a custom checkpoint storage directory
    #[arg(long, value_name = "string", hide = true)]
    checkpoint_dir: Option<String>,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "string")]
    detach_keys: Option<String>,
    /// Attach container's STDIN
    #[arg(long, short = 'i')]
    interactive: bool,
    #[arg(hide = true)]
    args: Vec<String>,
}

impl Verb for Start {
    const PATHS: &'static [&'static str] = &["container start", "start"];
    const USAGE: &'static str = "[OPTIONS] CONTAINER [CONTAINER...]";
    const ARITY: Arity = Arity::AtLeast(1);

    async fn run(self, app: &App) -> CmdResult {
        for (flag, given) in [("checkpoint", &self.checkpoint), ("checkpoint-dir", &self.checkpoint_dir)] {
            if given.is_some() {
                let text = "is only supported on a Docker daemon with experimental features enabled";
                return Err(Failure::new(format!("\"--{flag}\" {text}")));
            }
        }
        if self.attach || self.interactive {
            if self.args.len() > 1 {
                return Err(Failure::new("you cannot start and attach multiple containers at once"));
            }
            return self.attached(app).await;
        }
        let mut failed = Vec::new();
        for name in &self.args {
            let request = Request::post(format!("/containers/{}/start", Request::escape(name)));
            match app.done(request).await {
                Ok(()) => crate::out::println(name)?,
                Err(e) if e.unreachable => return Err(e),
                Err(e) => {
                    crate::out::note(crate::failure::finish(&e.message, &app.prog));
                    failed.push(name.as_str());
                }
            }
        }
        if failed.is_empty() {
            return Ok(0);
        }
        Err(Failure::new(format!("Error: failed to start containers: {}", failed.join(", "))))
    }
}

impl Start {
    async fn attached(&self, app: &App) -> CmdResult {
        let name = &self.args[0];
        let keys = values::detach_keys(app.detach_keys(self.detach_keys.as_deref()))?;
        let path = format!("/containers/{}", Request::escape(name));
        let container = app.json(Request::get(format!("{path}/json"))).await?;
        let tty = container["Config"]["Tty"] == true;
        let stdin = self.interactive && container["Config"]["OpenStdin"] == true;
        if tty && stdin && !terminal::stdin_is_terminal() {
            return Err(Failure::new("the input device is not a TTY"));
        }
        let removed = container["HostConfig"]["AutoRemove"] == true;
        let mut caught = if tty { Caught::ending()? } else { Caught::forwarded()? };
        let streams = Streams { stdin, stdout: true, stderr: true };
        let attach = async {
            let request = attach_request(name, streams, self.detach_keys.as_deref());
            app.client()?.hijack(request).await.map_err(Failure::from)
        };
        let wait = wait_request(name, if removed { "removed" } else { "next-exit" });
        let (waiting, hijacked) = future::join(app.send(wait), attach).await;
        let (waiting, hijacked) = (waiting?, hijacked?);
        app.done(Request::post(format!("{path}/start"))).await?;
        let raw = if tty && stdin { RawMode::enter()? } else { None };
        let resize = format!("{path}/resize");
        let beside = async {
            if tty {
                let ended = async { caught.next().await.1 };
                match future::select(Box::pin(signals::follow_size(app, &resize)), Box::pin(ended)).await {
                    Either::Right((number, _)) => number,
                    Either::Left(((), _)) => future::pending().await,
                }
            } else {
                signals::forward(app, name, caught).await;
                future::pending().await
            }
        };
        let whole = async {
            match pump::run(hijacked, Plan { tty, stdin, detach: keys }).await? {
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
