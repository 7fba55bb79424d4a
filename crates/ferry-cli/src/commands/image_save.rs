//! `save`.

use clap::Args;
use ferry_client::Request;

use super::export::Output;
use super::inspect::platform;
use crate::app::App;
use crate::failure::{CmdResult, Failure};
use crate::verb::{Arity, Verb};

/// Save one or more images to a tar archive (streamed to STDOUT by default)
#[derive(Debug, Args)]
pub struct Save {
    /// Write to a file, instead of STDOUT
    #[arg(long, short = 'o', value_name = "string")]
    output: Option<String>,
    /// Save only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    #[arg(hide = true)]
    args: Vec<String>,
}

impl Verb for Save {
    const PATHS: &'static [&'static str] = &["image save", "save"];
    const USAGE: &'static str = "[OPTIONS] IMAGE [IMAGE...]";
    const ARITY: Arity = Arity::AtLeast(1);

    async fn run(self, app: &App) -> CmdResult {
        let platform =
            platform(self.platform.as_deref()).map_err(|e| Failure::new(format!("invalid platform: {e}")))?;
        let output = Output::new(self.output.as_deref(), "failed to save image")?;
        let mut request = Request::get("/images/get").query_opt("platform", &platform);
        for name in &self.args {
            request = request.query("names", name);
        }
        output.save(app.send(request).await?).await?;
        Ok(0)
    }
}
