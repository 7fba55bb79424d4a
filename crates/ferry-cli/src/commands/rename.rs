//! `rename`.

use clap::Args;
use ferry_client::Request;

use crate::app::App;
use crate::failure::{CmdResult, Failure};
use crate::verb::{Arity, Verb};

/// Rename a container
#[derive(Debug, Args)]
pub struct Rename {
    #[arg(hide = true)]
    args: Vec<String>,
}

impl Verb for Rename {
    const PATHS: &'static [&'static str] = &["container rename", "rename"];
    const USAGE: &'static str = "CONTAINER NEW_NAME";
    const ARITY: Arity = Arity::Exact(2);

    async fn run(self, app: &App) -> CmdResult {
        let (old, new) = (self.args[0].trim(), self.args[1].trim());
        if old.is_empty() || new.is_empty() {
            return Err(Failure::new("Error: Neither old nor new names may be empty"));
        }
        let request =
            Request::post(format!("/containers/{}/rename", Request::escape(old))).query("name", new);
        app.done(request).await.map_err(|e| {
            if e.unreachable {
                return e;
            }
            let message = format!("{}\nError: failed to rename container named {old}", e.message);
            Failure { message, ..e }
        })?;
        Ok(0)
    }
}
