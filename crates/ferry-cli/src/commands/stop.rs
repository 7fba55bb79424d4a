//! `stop` and `restart`.

use clap::Args;
use ferry_client::Request;

use crate::app::App;
use crate::failure::{CmdResult, Failure};
use crate::verb::{Arity, Verb};
use crate::{out, text};

/// Stop one or more running containers
#[derive(Debug, Args)]
pub struct Stop {
    #[command(flatten)]
    how: How,
    #[arg(hide = true)]
    args: Vec<String>,
}

/// Restart one or more containers
#[derive(Debug, Args)]
pub struct Restart {
    #[command(flatten)]
    how: How,
    #[arg(hide = true)]
    args: Vec<String>,
}

#[derive(Debug, Args)]
struct How {
    /// Signal to send to the container
    #[arg(long, short = 's', value_name = "string")]
    signal: Option<String>,
    /// Seconds to wait before killing the container
    #[arg(long, short = 't', value_name = "int", value_parser = text::parse_int)]
    timeout: Option<i64>,
    /// Seconds to wait before killing the container
    #[arg(long, value_name = "int", value_parser = text::parse_int, hide = true)]
    time: Option<i64>,
}

impl How {
    async fn ask(&self, app: &App, verb: &str, names: &[String]) -> CmdResult {
        if self.time.is_some() {
            if self.timeout.is_some() {
                return Err(Failure::new("conflicting options: cannot specify both --timeout and --time"));
            }
            out::println("Flag --time has been deprecated, use --timeout instead")?;
        }
        app.for_each(names, async |name| {
            let timeout = self.timeout.or(self.time).map(|t| t.to_string()).unwrap_or_default();
            let request = Request::post(format!("/containers/{}/{verb}", Request::escape(name)))
                .query_opt("signal", self.signal.as_deref().unwrap_or(""))
                .query_opt("t", &timeout);
            app.done(request).await.map(|()| Some(name.to_owned()))
        })
        .await
    }
}

impl Verb for Stop {
    const PATHS: &'static [&'static str] = &["container stop", "stop"];
    const USAGE: &'static str = "[OPTIONS] CONTAINER [CONTAINER...]";
    const ARITY: Arity = Arity::AtLeast(1);

    async fn run(self, app: &App) -> CmdResult {
        self.how.ask(app, "stop", &self.args).await
    }
}

impl Verb for Restart {
    const PATHS: &'static [&'static str] = &["container restart", "restart"];
    const USAGE: &'static str = "[OPTIONS] CONTAINER [CONTAINER...]";
    const ARITY: Arity = Arity::AtLeast(1);

    async fn run(self, app: &App) -> CmdResult {
        self.how.ask(app, "restart", &self.args).await
    }
}
