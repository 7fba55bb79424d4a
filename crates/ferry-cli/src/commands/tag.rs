//! `tag`.

use clap::Args;
use ferry_client::Request;
use ferry_types::ImageRef;

use crate::app::App;
use crate::failure::{CmdResult, Failure};
use crate::verb::{Arity, Verb};

/// Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE
#[derive(Debug, Args)]
pub struct Tag {
    #[arg(hide = true)]
    args: Vec<String>,
}

impl Verb for Tag {
    const PATHS: &'static [&'static str] = &["image tag", "tag"];
    const USAGE: &'static str = "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]";
    const ARITY: Arity = Arity::Exact(2);

    async fn run(self, app: &App) -> CmdResult {
        let (source, target) = (&self.args[0], &self.args[1]);
        let bad = |name: &str, e| {
            Failure::new(format!(
                "Error parsing reference: {} is not a valid repository/tag: {e}",
                crate::text::quote(name)
            ))
        };
        match source.parse::<ImageRef>() {
            Ok(_) | Err(ferry_types::ImageRefError::LooksLikeId(_)) => {}
            Err(e) => return Err(bad(source, e)),
        }
        let reference: ImageRef = target.parse().map_err(|e| bad(target, e))?;
        if reference.digest().is_some() {
            return Err(Failure::new("refusing to create a tag with a digest reference"));
        }
        let reference = reference.tag_default();
        let request = Request::post(format!("/images/{}/tag", Request::escape(source)))
            .query("repo", reference.familiar_name())
            .query("tag", reference.tag().unwrap_or_default());
        app.done(request).await?;
        Ok(0)
    }
}
