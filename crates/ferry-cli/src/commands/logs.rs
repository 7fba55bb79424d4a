//! `logs`.

use clap::Args;
use ferry_client::Request;

use crate::app::App;
use crate::failure::{CmdResult, Failure};
use crate::out::Stream;
use crate::session::pump::Frames;
use crate::time;
use crate::verb::{Arity, Verb};

/// Fetch the logs of a container
#[derive(Debug, Args)]
pub struct Logs {
    /// Show extra details provided to logs
    #[arg(long)]
    details: bool,
    /// Follow log output
    #[arg(long, short = 'f')]
    follow: bool,
    /// Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)
    #[arg(long, value_name = "string")]
    since: Option<String>,
    /// Number of lines to show from the end of the logs (default "all")
    #[arg(long, short = 'n', value_name = "string")]
    tail: Option<String>,
    /// Show timestamps
    #[arg(long, short = 't')]
    timestamps: bool,
    /// Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42
    /// minutes)
    #[arg(long, value_name = "string")]
    until: Option<String>,
    #[arg(hide = true)]
    args: Vec<String>,
}

impl Verb for Logs {
    const PATHS: &'static [&'static str] = &["container logs", "logs"];
    const USAGE: &'static str = "[OPTIONS] CONTAINER";
    const ARITY: Arity = Arity::Exact(1);

    async fn run(self, app: &App) -> CmdResult {
        let path = format!("/containers/{}", Request::escape(&self.args[0]));
        let instant = |name: &str, text: &Option<String>| {
            let given = text.as_deref().filter(|t| !t.is_empty());
            given
                .map_or_else(|| Ok(String::new()), time::checked_timestamp)
                .map_err(|e| Failure::new(format!("invalid value for {}: {e}", crate::text::quote(name))))
        };
        let request = Request::get(format!("{path}/logs"))
            .query("stdout", "1")
            .query("stderr", "1")
            .flag("details", self.details)
            .flag("follow", self.follow)
            .flag("timestamps", self.timestamps)
            .query_opt("since", &instant("since", &self.since)?)
            .query_opt("until", &instant("until", &self.until)?)
            .query("tail", self.tail.as_deref().unwrap_or("all"));
        let mut response = app.send(request).await?;
        // Since API 1.42 the content type tells; before, only the container knows.
        let framed = match response.header("content-type") {
            Some("application/vnd.docker.multiplexed-stream") => true,
            Some("application/vnd.docker.raw-stream")
                if app.client()?.api_version() >= ferry_client::ApiVersion { major: 1, minor: 42 } =>
            {
                false
            }
            _ => app.json(Request::get(format!("{path}/json"))).await?["Config"]["Tty"] != true,
        };
        let mut frames = Frames::default();
        while let Some(chunk) = response.chunk().await? {
            if framed {
                frames.feed(&chunk).await?;
            } else {
                Stream::Stdout.write_async(&chunk).await?;
            }
        }
        Ok(0)
    }
}
