//! `wait`.

use clap::Args;
use ferry_client::Request;

use crate::app::App;
use crate::failure::{CmdResult, Failure};
use crate::verb::{Arity, Verb};

/// Block until one or more containers stop, then print their exit codes
#[derive(Debug, Args)]
pub struct Wait {
    #[arg(hide = true)]
    args: Vec<String>,
}

impl Verb for Wait {
    const PATHS: &'static [&'static str] = &["container wait", "wait"];
    const USAGE: &'static str = "CONTAINER [CONTAINER...]";
    const ARITY: Arity = Arity::AtLeast(1);

    async fn run(self, app: &App) -> CmdResult {
        app.for_each(&self.args, async |name| {
            let answer =
                app.json(Request::post(format!("/containers/{}/wait", Request::escape(name)))).await?;
            match answer["Error"]["Message"].as_str().filter(|m| !m.is_empty()) {
                Some(message) => Err(Failure::new(message)),
                None => Ok(Some(answer["StatusCode"].as_i64().unwrap_or(0).to_string())),
            }
        })
        .await
    }
}
