//! `commit`.

use clap::Args;
use ferry_client::Request;
use ferry_types::ImageRef;

use crate::app::App;
use crate::failure::{CmdResult, Failure};
use crate::out;
use crate::verb::{Arity, Verb};

/// Create a new image from a container's changes
#[derive(Debug, Args)]
pub struct Commit {
    /// Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")
    #[arg(long, short = 'a', value_name = "string")]
    author: Option<String>,
    /// Apply Dockerfile instruction to the created image
    #[arg(long, short = 'c', value_name = "list")]
    change: Vec<String>,
    /// Commit message
    #[arg(long, short = 'm', value_name = "string")]
    message: Option<String>,
    /// Pause container during commit (default true)
    #[arg(long, short = 'p', action = clap::ArgAction::SetFalse)]
    pause: bool,
    #[arg(hide = true)]
    args: Vec<String>,
}

impl Verb for Commit {
    const PATHS: &'static [&'static str] = &["container commit", "commit"];
    const USAGE: &'static str = "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]";
    const ARITY: Arity = Arity::Range(1, 2);

    async fn run(self, app: &App) -> CmdResult {
        let mut request = Request::post("/commit")
            .query("container", &self.args[0])
            .query_opt("comment", self.message.as_deref().unwrap_or(""))
            .query_opt("author", self.author.as_deref().unwrap_or(""));
        if let Some(name) = self.args.get(1).filter(|n| !n.is_empty()) {
            let reference: ImageRef = name.parse().map_err(Failure::new)?;
            if reference.digest().is_some() {
                return Err(Failure::new("refusing to create a tag with a digest reference"));
            }
            let reference = reference.tag_default();
            request = request
                .query("repo", reference.familiar_name())
                .query("tag", reference.tag().unwrap_or_default());
        }
        for change in &self.change {
            request = request.query("changes", change);
        }
        if !self.pause {
            request = request.query("pause", "0");
        }
        let answer = app.json(request.json(&serde_json::json!({}))?).await?;
        out::println(answer["Id"].as_str().unwrap_or_default())?;
        Ok(0)
    }
}
