//! `pull`, and pulling for `run` and `create`.

use clap::Args;
use ferry_client::Request;
use ferry_types::ImageRef;

use crate::app::App;
use crate::failure::{CmdResult, Failure};
use crate::format::progress::Progress;
use crate::out::{self, Stream};
use crate::verb::{Arity, Verb};

/// Download an image from a registry
#[derive(Debug, Args)]
pub struct Pull {
    /// Download all tagged images in the repository
    #[arg(long, short = 'a')]
    all_tags: bool,
    /// Skip image verification (default true)
    #[arg(long, action = clap::ArgAction::SetFalse)]
    disable_content_trust: bool,
    /// Set platform if server is multi-platform capable
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    /// Suppress verbose output
    #[arg(long, short = 'q')]
    quiet: bool,
    #[arg(hide = true)]
    args: Vec<String>,
}

impl Verb for Pull {
    const PATHS: &'static [&'static str] = &["image pull", "pull"];
    const USAGE: &'static str = "[OPTIONS] NAME[:TAG|@DIGEST]";
    const ARITY: Arity = Arity::Exact(1);

    async fn run(self, app: &App) -> CmdResult {
        refuse_content_trust(self.disable_content_trust)?;
        let named: ImageRef = self.args[0].parse().map_err(Failure::new)?;
        if self.all_tags && (named.tag().is_some() || named.digest().is_some()) {
            return Err(Failure::new("tag can't be used with --all-tags/-a"));
        }
        let reference = if self.all_tags { named } else { named.clone().tag_default() };
        if !self.all_tags
            && !self.quiet
            && self.args[0].parse::<ImageRef>().is_ok_and(|r| r.tag().is_none() && r.digest().is_none())
        {
            out::println("Using default tag: latest")?;
        }
        let how = Options { platform: self.platform.as_deref(), quiet: self.quiet, to_stderr: false };
        pull(app, &reference, how).await?;
        let shown = reference.to_string();
        out::println(shown)?;
        Ok(0)
    }
}

/// Image signing is not there: asking for verification must not be ignored.
pub fn refuse_content_trust(disabled: bool) -> Result<(), Failure> {
    if disabled {
        Ok(())
    } else {
        Err(Failure::new("--disable-content-trust=false is not supported: content trust has been retired"))
    }
}

/// How to pull.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    pub platform: Option<&'a str>,
    /// No progress.
    pub quiet: bool,
    /// Progress goes to stderr, which leaves stdout to the container.
    pub to_stderr: bool,
}

/// Pulls `reference`, showing progress.
///
/// # Errors
/// The engine's account of what failed.
pub async fn pull(app: &App, reference: &ImageRef, how: Options<'_>) -> Result<(), Failure> {
    let tag = match (reference.digest(), reference.tag()) {
        (Some(digest), _) => digest.as_str().to_owned(),
        (None, Some(tag)) => tag.to_owned(),
        (None, None) => String::new(),
    };
    let mut request = Request::post("/images/create")
        .query("fromImage", reference.familiar_name())
        .query_opt("tag", &tag)
        .query_opt("platform", how.platform.unwrap_or(""));
    if let Some(credentials) = super::credentials::header(app, reference.domain()) {
        request = request.header("x-registry-auth", &credentials)?;
    }
    let response = app.send(request).await?;
    let stream = if how.to_stderr { Stream::Stderr } else { Stream::Stdout };
    Progress::new(stream, how.quiet).follow(response).await
}
