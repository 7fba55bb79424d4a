//! `top`.

use clap::Args;
use ferry_client::Request;
use serde_json::Value;

use crate::app::App;
use crate::failure::CmdResult;
use crate::format::table;
use crate::out;
use crate::verb::{Arity, Verb};

/// Display the running processes of a container
#[derive(Debug, Args)]
pub struct Top {
    #[arg(hide = true, trailing_var_arg = true)]
    args: Vec<String>,
}

impl Verb for Top {
    const PATHS: &'static [&'static str] = &["container top", "top"];
    const USAGE: &'static str = "CONTAINER [ps OPTIONS]";
    const ARITY: Arity = Arity::AtLeast(1);

    async fn run(self, app: &App) -> CmdResult {
        let request = Request::get(format!("/containers/{}/top", Request::escape(&self.args[0])))
            .query_opt("ps_args", &self.args[1..].join(" "));
        let answer = app.json(request).await?;
        let line = |row: &Value| {
            let cells = row.as_array().into_iter().flatten().map(|c| c.as_str().unwrap_or_default());
            cells.collect::<Vec<_>>().join("\t")
        };
        let mut lines = vec![line(&answer["Titles"])];
        lines.extend(answer["Processes"].as_array().into_iter().flatten().map(line));
        out::print(table::align_with(&lines, 20))?;
        Ok(0)
    }
}
