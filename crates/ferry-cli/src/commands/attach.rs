//! `attach`.

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

/// Attach local standard input, output, and error streams to a running container
#[derive(Debug, Args)]
pub struct Attach {
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "string")]
    detach_keys: Option<String>,
    /// Do not attach STDIN
    #[arg(long)]
    no_stdin: bool,
    /// Proxy all received signals to the process (default true)
    #[arg(long, action = clap::ArgAction::SetFalse)]
    sig_proxy: bool,
    #[arg(hide = true)]
    args: Vec<String>,
}

impl Verb for Attach {
    const PATHS: &'static [&'static str] = &["container attach", "attach"];
    const USAGE: &'static str = "[OPTIONS] CONTAINER";
    const ARITY: Arity = Arity::Exact(1);

    async fn run(self, app: &App) -> CmdResult {
        let name = &self.args[0];
        let path = format!("/containers/{}", Request::escape(name));
        let container = app.json(Request::get(format!("{path}/json"))).await?;
        let state = &container["State"];
        for (field, text) in [
            ("Running", "You cannot attach to a stopped container, start it first"),
            ("Paused", "You cannot attach to a paused container, unpause it first"),
            ("Restarting", "You cannot attach to a restarting container, wait until it is running"),
        ] {
            let wanted = field == "Running";
            if state[field].as_bool().unwrap_or(wanted) != wanted {
                return Err(Failure::new(text));
            }
        }
        let keys = values::detach_keys(app.detach_keys(self.detach_keys.as_deref()))?;
        let tty = container["Config"]["Tty"] == true;
        let stdin = !self.no_stdin && container["Config"]["OpenStdin"] == true;
        if tty && stdin && !terminal::stdin_is_terminal() {
            return Err(Failure::new("the input device is not a TTY"));
        }
        let mut caught = match (tty, self.sig_proxy) {
            (false, true) => Caught::forwarded()?,
            (true, _) => Caught::ending()?,
            (false, false) => Caught::none(),
        };
        let streams = Streams { stdin, stdout: true, stderr: true };
        let attach = async {
            let request = attach_request(name, streams, self.detach_keys.as_deref());
            app.client()?.hijack(request).await.map_err(Failure::from)
        };
        // Asked for before attaching: a container that ends meanwhile still has its code reported.
        let (waiting, hijacked) = future::join(app.send(wait_request(name, "")), attach).await;
        let (waiting, hijacked) = (waiting?, hijacked?);
        let raw = if tty && stdin { RawMode::enter()? } else { None };
        let resize = format!("{path}/resize");
        let beside = async {
            if tty {
                // A program redraws its screen when its terminal changes size: a change and back makes it
                // show itself to who has just attached.
                if let Some((rows, columns)) = terminal::size() {
                    let nudge = Request::post(&resize).query("h", (rows + 1).to_string());
                    let _ = app.done(nudge.query("w", (columns + 1).to_string())).await;
                }
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
        let session = pump::run(hijacked, Plan { tty, stdin, detach: keys });
        let ended = match future::select(Box::pin(session), Box::pin(beside)).await {
            Either::Left((end, _)) => end,
            Either::Right((number, _)) => return Ok(u8::try_from(128 + number).unwrap_or(CLIENT_FAILED)),
        };
        drop(raw);
        match ended? {
            End::Detached => Err(Failure::new("read escape sequence")),
            End::Output => exit_code(waiting).await,
        }
    }
}
