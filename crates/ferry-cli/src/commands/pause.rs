//! `pause` and `unpause`.

use clap::Args;
use ferry_client::Request;

use crate::app::App;
use crate::failure::CmdResult;
use crate::verb::{Arity, Verb};

/// Pause all processes within one or more containers
#[derive(Debug, Args)]
pub struct Pause {
    #[arg(hide = true)]
    args: Vec<String>,
}

/// Unpause all processes within one or more containers
#[derive(Debug, Args)]
pub struct Unpause {
    #[arg(hide = true)]
    args: Vec<String>,
}

async fn ask(app: &App, verb: &str, names: &[String]) -> CmdResult {
    app.for_each(names, async |name| {
        let request = Request::post(format!("/containers/{}/{verb}", Request::escape(name)));
        app.done(request).await.map(|()| Some(name.to_owned()))
    })
    .await
}

impl Verb for Pause {
    const PATHS: &'static [&'static str] = &["container pause", "pause"];
    const USAGE: &'static str = "CONTAINER [CONTAINER...]";
    const ARITY: Arity = Arity::AtLeast(1);

    async fn run(self, app: &App) -> CmdResult {
        ask(app, "pause", &self.args).await
    }
}

impl Verb for Unpause {
    const PATHS: &'static [&'static str] = &["container unpause", "unpause"];
    const USAGE: &'static str = "CONTAINER [CONTAINER...]";
    const ARITY: Arity = Arity::AtLeast(1);

    async fn run(self, app: &App) -> CmdResult {
        ask(app, "unpause", &self.args).await
    }
}
