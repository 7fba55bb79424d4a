//! `rm`.

use clap::Args;
use ferry_client::Request;

use crate::app::App;
use crate::failure::{CmdResult, Failure};
use crate::out;
use crate::verb::{Arity, Verb};

/// Remove one or more containers
#[derive(Debug, Args)]
pub struct Remove {
    /// Force the removal of a running container (uses SIGKILL)
    #[arg(long, short = 'f')]
    force: bool,
    /// Remove the specified link
    #[arg(long, short = 'l')]
    link: bool,
    /// Remove anonymous volumes associated with the container
    #[arg(long, short = 'v')]
    volumes: bool,
    #[arg(hide = true)]
    args: Vec<String>,
}

impl Verb for Remove {
    const PATHS: &'static [&'static str] = &["container rm", "container remove", "rm"];
    const USAGE: &'static str = "[OPTIONS] CONTAINER [CONTAINER...]";
    const ARITY: Arity = Arity::AtLeast(1);

    async fn run(self, app: &App) -> CmdResult {
        app.for_each(&self.args, async |name| {
            let name = name.trim_matches('/');
            if name.is_empty() {
                return Err(Failure::new("container name cannot be empty"));
            }
            let request = Request::delete(format!("/containers/{}", Request::escape(name)))
                .flag("v", self.volumes)
                .flag("link", self.link)
                .flag("force", self.force);
            match app.done(request).await {
                // What is to be gone is gone: said, but no failure.
                Err(e) if self.force && e.status == Some(404) => {
                    out::note(e.message);
                    Ok(None)
                }
                result => result.map(|()| Some(name.to_owned())),
            }
        })
        .await
    }
}
