//! `kill`.

use clap::Args;
use ferry_client::Request;

use crate::app::App;
use crate::failure::CmdResult;
use crate::verb::{Arity, Verb};

/// Kill one or more running containers
#[derive(Debug, Args)]
pub struct Kill {
    /// Signal to send to the container
    #[arg(long, short = 's', value_name = "string")]
    signal: Option<String>,
    #[arg(hide = true)]
    args: Vec<String>,
}

impl Verb for Kill {
    const PATHS: &'static [&'static str] = &["container kill", "kill"];
    const USAGE: &'static str = "[OPTIONS] CONTAINER [CONTAINER...]";
    const ARITY: Arity = Arity::AtLeast(1);

    async fn run(self, app: &App) -> CmdResult {
        app.for_each(&self.args, async |name| {
            let request = Request::post(format!("/containers/{}/kill", Request::escape(name)))
                .query_opt("signal", self.signal.as_deref().unwrap_or(""));
            app.done(request).await.map(|()| Some(name.to_owned()))
        })
        .await
    }
}
