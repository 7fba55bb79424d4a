//! `import`.

use clap::Args;
use ferry_client::Request;
use ferry_types::ImageRef;

use super::load::file_body;
use crate::app::App;
use crate::failure::{CmdResult, Failure};
use crate::format::progress::Progress;
use crate::out::Stream;
use crate::verb::{Arity, Verb};

/// Import the contents from a tarball to create a filesystem image
#[derive(Debug, Args)]
pub struct Import {
    /// Apply Dockerfile instruction to the created image
    #[arg(long, short = 'c', value_name = "list")]
    change: Vec<String>,
    /// Set commit message for imported image
    #[arg(long, short = 'm', value_name = "string")]
    message: Option<String>,
    /// Set platform if server is multi-platform capable
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    #[arg(hide = true)]
    args: Vec<String>,
}

impl Verb for Import {
    const PATHS: &'static [&'static str] = &["image import", "import"];
    const USAGE: &'static str = "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]";
    const ARITY: Arity = Arity::AtLeast(1);

    async fn run(self, app: &App) -> CmdResult {
        let source = self.args[0].as_str();
        let name = self.args.get(1).map(String::as_str).unwrap_or_default();
        if !name.is_empty() {
            name.parse::<ImageRef>().map_err(Failure::new)?;
        }
        let is_url = source.starts_with("http://") || source.starts_with("https://");
        let mut request = Request::post("/images/create")
            .query("fromSrc", if is_url { source } else { "-" })
            .query_opt("repo", name)
            .query_opt("message", self.message.as_deref().unwrap_or(""))
            .query_opt("platform", self.platform.as_deref().unwrap_or(""));
        for change in &self.change {
            request = request.query("changes", change);
        }
        if !is_url {
            request = request.body(file_body(Some(source).filter(|s| *s != "-"))?);
        }
        let response = app.send(request).await?;
        Progress::new(Stream::Stdout, false).follow(response).await?;
        Ok(0)
    }
}
