//! `rmi`.

use clap::Args;
use ferry_client::Request;

use super::inspect::platform;
use crate::app::App;
use crate::failure::{CmdResult, Failure, finish};
use crate::out;
use crate::verb::{Arity, Verb};

/// Remove one or more images
#[derive(Debug, Args)]
pub struct RemoveImages {
    /// Force removal of the image
    #[arg(long, short = 'f')]
    force: bool,
    /// Do not delete untagged parents
    #[arg(long)]
    no_prune: bool,
    /// Remove only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    platform: Vec<String>,
    #[arg(hide = true)]
    args: Vec<String>,
}

impl Verb for RemoveImages {
    const PATHS: &'static [&'static str] = &["image rm", "image remove", "rmi"];
    const USAGE: &'static str = "[OPTIONS] IMAGE [IMAGE...]";
    const ARITY: Arity = Arity::AtLeast(1);

    async fn run(self, app: &App) -> CmdResult {
        let mut complaints = Vec::new();
        let mut fatal = false;
        let platforms = self.platform.iter().map(|text| platform(Some(text)));
        let platforms = platforms.collect::<Result<Vec<_>, _>>().map_err(Failure::new)?;
        for name in &self.args {
            let mut request =
                Request::delete(format!("/images/{}", Request::escape(name))).flag("force", self.force);
            if self.no_prune {
                request = request.query("noprune", "1");
            }
            for platform in &platforms {
                request = request.query("platforms", platform);
            }
            match app.json(request).await {
                Ok(done) => {
                    for step in done.as_array().into_iter().flatten() {
                        let line = match step["Deleted"].as_str() {
                            Some(id) => format!("Deleted: {id}"),
                            None => format!("Untagged: {}", step["Untagged"].as_str().unwrap_or_default()),
                        };
                        out::println(line)?;
                    }
                }
                Err(e) if e.unreachable => return Err(e),
                Err(e) => {
                    fatal |= e.status != Some(404) || !self.force;
                    complaints.push(finish(&e.message, &app.prog));
                }
            }
        }
        if complaints.is_empty() {
            return Ok(0);
        }
        let text = complaints.join("\n");
        if fatal {
            return Err(Failure::new(text));
        }
        out::note(text);
        Ok(0)
    }
}
