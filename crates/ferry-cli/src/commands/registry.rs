//! `push` and `search`.

use clap::Args;
use ferry_client::Request;
use ferry_types::ImageRef;
use serde_json::Value;

use crate::app::App;
use crate::failure::{CmdResult, Failure};
use crate::format::listing::{Listing, Row};
use crate::format::progress::Progress;
use crate::opts::filter;
use crate::out::{self, Stream};
use crate::text;
use crate::verb::{Arity, Verb};

/// Upload an image to a registry
#[derive(Debug, Args)]
pub struct Push {
    /// Push all tags of an image to the repository
    #[arg(long, short = 'a')]
    all_tags: bool,
    /// Skip image signing (default true)
    #[arg(long, action = clap::ArgAction::SetFalse)]
    disable_content_trust: bool,
    /// Push a platform-specific manifest as a single-platform image to the registry.
    /// Image index won't be pushed, meaning that other manifests, including attestations won't be preserved.
    /// 'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)
    #[arg(long, value_name = "string", verbatim_doc_comment)]
    platform: Option<String>,
    /// Suppress verbose output
    #[arg(long, short = 'q')]
    quiet: bool,
    #[arg(hide = true)]
    args: Vec<String>,
}

impl Verb for Push {
    const PATHS: &'static [&'static str] = &["image push", "push"];
    const USAGE: &'static str = "[OPTIONS] NAME[:TAG]";
    const ARITY: Arity = Arity::Exact(1);

    async fn run(self, app: &App) -> CmdResult {
        super::pull::refuse_content_trust(self.disable_content_trust)?;
        let given = self.platform.as_deref();
        let platform = super::inspect::platform(given)
            .map_err(|e| Failure::new(format!("Invalid platform {}{e}", given.unwrap_or_default())))?;
        let named: ImageRef = self.args[0].parse().map_err(Failure::new)?;
        if self.all_tags && named.tag().is_some() {
            return Err(Failure::new("tag can't be used with --all-tags/-a"));
        }
        let bare = named.tag().is_none() && named.digest().is_none();
        let reference = if self.all_tags { named } else { named.tag_default() };
        if bare && !self.all_tags && !self.quiet {
            out::println("Using default tag: latest")?;
        }
        let path = format!("/images/{}/push", Request::escape(&reference.familiar_name()));
        let auth = super::credentials::header(app, reference.domain());
        let request = Request::post(path)
            .query_opt("tag", reference.tag().unwrap_or_default())
            .query_opt("platform", &platform)
            .header("x-registry-auth", &auth.unwrap_or_else(super::credentials::none))?;
        let response = app.send(request).await?;
        Progress::new(Stream::Stdout, self.quiet).follow(response).await?;
        if self.quiet {
            out::println(reference.to_string())?;
        }
        Ok(0)
    }
}

/// Search Docker Hub for images
#[derive(Debug, Args)]
pub struct Search {
    /// Filter output based on conditions provided
    #[arg(long, short = 'f', value_name = "filter", value_parser = filter::check)]
    filter: Vec<String>,
    /// Pretty-print search using a Go template
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Max number of search results
    #[arg(long, value_name = "int", value_parser = text::parse_int)]
    limit: Option<i64>,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    #[arg(hide = true)]
    args: Vec<String>,
}

impl Verb for Search {
    const PATHS: &'static [&'static str] = &["search"];
    const USAGE: &'static str = "[OPTIONS] TERM";
    const ARITY: Arity = Arity::Exact(1);

    async fn run(self, app: &App) -> CmdResult {
        let limit = self.limit.filter(|l| *l != 0).map(|l| l.to_string()).unwrap_or_default();
        let mut request = Request::get("/images/search")
            .query("term", &self.args[0])
            .query_opt("limit", &limit)
            .query_opt("filters", &filter::parameter(&self.filter));
        if let Some(auth) = super::credentials::header(app, "docker.io") {
            request = request.header("x-registry-auth", &auth)?;
        }
        let found = app.json(request).await?;
        let rows: Vec<Row> = found.as_array().into_iter().flatten().map(|r| self.row(r)).collect();
        let listing = Listing {
            type_name: "*registry.searchContext",
            headers: &[
                ("Name", "NAME"),
                ("Description", "DESCRIPTION"),
                ("StarCount", "STARS"),
                ("IsOfficial", "OFFICIAL"),
                ("IsAutomated", "AUTOMATED"),
            ],
            columns: &["Name", "Description", "StarCount", "IsOfficial"],
            quiet: None,
            raw: "",
        };
        out::print(listing.render(self.format.as_deref(), &rows)?)?;
        Ok(0)
    }
}

impl Search {
    fn row(&self, r: &Value) -> Row {
        let mark = |key: &str| if r[key] == true { "[OK]".to_owned() } else { String::new() };
        let description = r["description"].as_str().unwrap_or_default().replace(['\n', '\r'], " ");
        Row::new([
            ("Name", r["name"].as_str().unwrap_or_default().to_owned()),
            ("Description", if self.no_trunc { description } else { text::ellipsis(&description, 45) }),
            ("StarCount", r["star_count"].as_i64().unwrap_or(0).to_string()),
            ("IsOfficial", mark("is_official")),
            ("IsAutomated", mark("is_automated")),
        ])
    }
}
