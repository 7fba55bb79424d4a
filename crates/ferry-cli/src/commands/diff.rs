//! `diff`.

use clap::Args;
use ferry_client::Request;

use crate::app::App;
use crate::failure::{CmdResult, Failure};
use crate::out;
use crate::verb::{Arity, Verb};

/// Inspect changes to files or directories on a container's filesystem
#[derive(Debug, Args)]
pub struct Diff {
    #[arg(hide = true)]
    args: Vec<String>,
}

impl Verb for Diff {
    const PATHS: &'static [&'static str] = &["container diff", "diff"];
    const USAGE: &'static str = "CONTAINER";
    const ARITY: Arity = Arity::Exact(1);

    async fn run(self, app: &App) -> CmdResult {
        let name = &self.args[0];
        if name.is_empty() {
            return Err(Failure::new("Container name cannot be empty"));
        }
        let changes =
            app.json(Request::get(format!("/containers/{}/changes", Request::escape(name)))).await?;
        let mut text = String::new();
        for change in changes.as_array().into_iter().flatten() {
            let kind = match change["Kind"].as_i64() {
                Some(0) => 'C',
                Some(1) => 'A',
                _ => 'D',
            };
            text.push_str(&format!("{kind} {}\n", change["Path"].as_str().unwrap_or_default()));
        }
        out::print(text)?;
        Ok(0)
    }
}
