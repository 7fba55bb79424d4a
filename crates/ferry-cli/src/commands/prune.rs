//! The `prune` commands.

use std::io::BufRead as _;

use clap::Args;
use ferry_client::Request;
use serde_json::Value;

use crate::app::App;
use crate::failure::{CmdResult, Failure};
use crate::opts::filter;
use crate::verb::{Arity, Verb};
use crate::{out, units};

macro_rules! prune_args {
    ($filter_help:literal, $(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident),* }) => {
        $(#[$doc])*
        #[derive(Debug, Args)]
        pub struct $name {
            $($(#[$field_doc])* $field: bool,)*
            #[arg(long, value_name = "filter", value_parser = filter::check, help = $filter_help)]
            filter: Vec<String>,
            /// Do not prompt for confirmation
            #[arg(long, short = 'f')]
            force: bool,
            #[arg(hide = true)]
            args: Vec<String>,
        }
    };
}

prune_args! {
    "Provide filter values (e.g. \"until=<timestamp>\")",
    /// Remove all stopped containers
    Containers {}
}
prune_args! {
    "Provide filter values (e.g. \"until=<timestamp>\")",
    /// Remove unused images
    Images {
        /// Remove all unused images, not just dangling ones
        #[arg(long, short = 'a')]
        all
    }
}
prune_args! {
    "Provide filter values (e.g. \"label=<label>\")",
    /// Remove unused local volumes
    Volumes {
        /// Remove all unused volumes, not just anonymous ones
        #[arg(long, short = 'a')]
        all
    }
}
prune_args! {
    "Provide filter values (e.g. \"until=<timestamp>\")",
    /// Remove all unused networks
    Networks {}
}
prune_args! {
    "Provide filter values (e.g. \"label=<key>=<value>\")",
    /// Remove unused data
    System {
        /// Remove all unused images not just dangling ones
        #[arg(long, short = 'a')]
        all,
        /// Prune anonymous volumes
        #[arg(long)]
        volumes
    }
}

/// Asks on stdout; only `y` on stdin is a yes.
/// Filters of a command and those the configuration adds, where they do not contradict each other.
fn with_configured(app: &App, given: &[String]) -> Vec<String> {
    let mut all = given.to_vec();
    for filter in &app.config().prune_filters {
        let opposite = match filter.split_once('=') {
            Some(("label", value)) => format!("label!={value}"),
            Some(("label!", value)) => format!("label={value}"),
            _ => continue,
        };
        if !all.contains(filter) && !all.contains(&opposite) {
            all.push(filter.clone());
        }
    }
    all
}

fn confirmed(force: bool, warning: &str) -> Result<bool, Failure> {
    if force {
        return Ok(true);
    }
    out::print(format!("WARNING! {warning}\nAre you sure you want to continue? [y/N] "))?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}

/// What a prune did.
#[derive(Debug, Default)]
struct Done {
    lines: Vec<String>,
    reclaimed: u64,
}

async fn containers(app: &App, filters: &[String]) -> Result<Done, Failure> {
    let request = Request::post("/containers/prune").query_opt("filters", &filter::parameter(filters));
    let answer = app.json(request).await?;
    Ok(report(&answer, "ContainersDeleted", "Deleted Containers:"))
}

async fn volumes(app: &App, filters: &[String]) -> Result<Done, Failure> {
    let request = Request::post("/volumes/prune").query_opt("filters", &filter::parameter(filters));
    let answer = app.json(request).await?;
    Ok(report(&answer, "VolumesDeleted", "Deleted Volumes:"))
}

async fn networks(app: &App, filters: &[String]) -> Result<Done, Failure> {
    let request = Request::post("/networks/prune").query_opt("filters", &filter::parameter(filters));
    let answer = app.json(request).await?;
    Ok(report(&answer, "NetworksDeleted", "Deleted Networks:"))
}

async fn images(app: &App, all: bool, filters: &[String]) -> Result<Done, Failure> {
    let mut filters = filters.to_vec();
    filters.push(format!("dangling={}", !all));
    let request = Request::post("/images/prune").query_opt("filters", &filter::parameter(&filters));
    let answer = app.json(request).await?;
    let mut done = Done { lines: Vec::new(), reclaimed: answer["SpaceReclaimed"].as_u64().unwrap_or(0) };
    for step in answer["ImagesDeleted"].as_array().into_iter().flatten() {
        done.lines.push(match step["Untagged"].as_str().filter(|u| !u.is_empty()) {
            Some(name) => format!("untagged: {name}"),
            None => format!("deleted: {}", step["Deleted"].as_str().unwrap_or_default()),
        });
    }
    if !done.lines.is_empty() {
        done.lines.insert(0, "Deleted Images:".to_owned());
    }
    Ok(done)
}

/// An engine without a builder has no cache to prune.
async fn build_cache(app: &App, all: bool, filters: &[String]) -> Result<Done, Failure> {
    let request =
        Request::post("/build/prune").flag("all", all).query_opt("filters", &filter::parameter(filters));
    match app.json(request).await {
        Ok(answer) => Ok(report(&answer, "CachesDeleted", "Deleted build cache objects:")),
        Err(e) if matches!(e.status, Some(404 | 501)) => Ok(Done::default()),
        Err(e) => Err(e),
    }
}

fn report(answer: &Value, key: &str, title: &str) -> Done {
    let mut lines: Vec<String> =
        answer[key].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    if !lines.is_empty() {
        lines.insert(0, title.to_owned());
    }
    Done { lines, reclaimed: answer["SpaceReclaimed"].as_u64().unwrap_or(0) }
}

fn show(done: &Done) -> Result<(), Failure> {
    if !done.lines.is_empty() {
        out::println(format!("{}\n", done.lines.join("\n")))?;
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "sizes for people")]
fn show_total(reclaimed: u64) -> CmdResult {
    out::println(format!("Total reclaimed space: {}", units::human_size(reclaimed as f64)))?;
    Ok(0)
}

/// Remove build cache
#[derive(Debug, Args)]
pub struct BuildCache {
    /// Remove all unused build cache, not just dangling ones
    #[arg(long, short = 'a')]
    all: bool,
    /// Provide filter values (e.g. "until=24h")
    #[arg(long, value_name = "filter", value_parser = filter::check)]
    filter: Vec<String>,
    /// Do not prompt for confirmation
    #[arg(long, short = 'f')]
    force: bool,
    /// Amount of disk space to keep for cache
    #[arg(long, value_name = "bytes", value_parser = units::ram_in_bytes)]
    keep_storage: Option<i64>,
    #[arg(hide = true)]
    args: Vec<String>,
}

impl Verb for BuildCache {
    const PATHS: &'static [&'static str] = &["builder prune"];
    const USAGE: &'static str = "";
    const ARITY: Arity = Arity::None;

    async fn run(self, app: &App) -> CmdResult {
        let warning = if self.all {
            "This will remove all build cache."
        } else {
            "This will remove all dangling build cache."
        };
        if !confirmed(self.force, warning)? {
            return Ok(0);
        }
        let keep = self.keep_storage.map(|n| n.to_string()).unwrap_or_default();
        let request = Request::post("/build/prune")
            .flag("all", self.all)
            .query_opt("keep-storage", &keep)
            .query_opt("filters", &filter::parameter(&self.filter));
        let answer = app.json(request).await?;
        let done = report(&answer, "CachesDeleted", "Deleted build cache objects:");
        show(&done)?;
        show_total(done.reclaimed)
    }
}

impl Verb for Containers {
    const PATHS: &'static [&'static str] = &["container prune"];
    const USAGE: &'static str = "[OPTIONS]";
    const ARITY: Arity = Arity::None;

    async fn run(self, app: &App) -> CmdResult {
        if !confirmed(self.force, "This will remove all stopped containers.")? {
            return Ok(0);
        }
        let done = containers(app, &with_configured(app, &self.filter)).await?;
        show(&done)?;
        show_total(done.reclaimed)
    }
}

impl Verb for Images {
    const PATHS: &'static [&'static str] = &["image prune"];
    const USAGE: &'static str = "[OPTIONS]";
    const ARITY: Arity = Arity::None;

    async fn run(self, app: &App) -> CmdResult {
        let warning = if self.all {
            "This will remove all images without at least one container associated to them."
        } else {
            "This will remove all dangling images."
        };
        if !confirmed(self.force, warning)? {
            return Ok(0);
        }
        let done = images(app, self.all, &with_configured(app, &self.filter)).await?;
        show(&done)?;
        show_total(done.reclaimed)
    }
}

impl Verb for Volumes {
    const PATHS: &'static [&'static str] = &["volume prune"];
    const USAGE: &'static str = "[OPTIONS]";
    const ARITY: Arity = Arity::None;

    async fn run(self, app: &App) -> CmdResult {
        if self.all && self.filter.iter().any(|f| f.starts_with("all=")) {
            return Err(Failure::new("conflicting options: cannot specify both --all and --filter all=1"));
        }
        let mut filters = with_configured(app, &self.filter);
        let warning = if self.all {
            filters.push("all=true".to_owned());
            "This will remove all local volumes not used by at least one container."
        } else {
            "This will remove anonymous local volumes not used by at least one container."
        };
        if !confirmed(self.force, warning)? {
            return Ok(0);
        }
        let done = volumes(app, &filters).await?;
        show(&done)?;
        show_total(done.reclaimed)
    }
}

impl Verb for Networks {
    const PATHS: &'static [&'static str] = &["network prune"];
    const USAGE: &'static str = "[OPTIONS]";
    const ARITY: Arity = Arity::None;

    async fn run(self, app: &App) -> CmdResult {
        if !confirmed(self.force, "This will remove all custom networks not used by at least one container.")?
        {
            return Ok(0);
        }
        show(&networks(app, &with_configured(app, &self.filter)).await?)?;
        Ok(0)
    }
}

impl Verb for System {
    const PATHS: &'static [&'static str] = &["system prune"];
    const USAGE: &'static str = "[OPTIONS]";
    const ARITY: Arity = Arity::None;

    async fn run(self, app: &App) -> CmdResult {
        if self.volumes && self.filter.iter().any(|f| f.starts_with("until=")) {
            return Err(Failure::new("ERROR: The \"until\" filter is not supported with \"--volumes\""));
        }
        let mut warning = "This will remove:\n  - all stopped containers\n  - all networks not used by at least one container\n".to_owned();
        if self.volumes {
            warning.push_str("  - all anonymous volumes not used by at least one container\n");
        }
        warning.push_str(if self.all {
            "  - all images without at least one container associated to them\n"
        } else {
            "  - all dangling images\n"
        });
        warning.push_str(if self.all { "  - all build cache\n" } else { "  - unused build cache\n" });
        if !self.filter.is_empty() {
            warning.push_str("\n  Items to be pruned will be filtered with:\n");
            for filter in &self.filter {
                warning.push_str(&format!("  - {filter}\n"));
            }
        }
        if !confirmed(self.force, &warning)? {
            return Ok(0);
        }
        let filters = with_configured(app, &self.filter);
        let mut reclaimed = 0;
        let pruned = containers(app, &filters).await?;
        show(&pruned)?;
        reclaimed += pruned.reclaimed;
        show(&networks(app, &filters).await?)?;
        if self.volumes {
            let pruned = volumes(app, &filters).await?;
            show(&pruned)?;
            reclaimed += pruned.reclaimed;
        }
        let pruned = images(app, self.all, &filters).await?;
        show(&pruned)?;
        reclaimed += pruned.reclaimed;
        let pruned = build_cache(app, self.all, &filters).await?;
        show(&pruned)?;
        show_total(reclaimed + pruned.reclaimed)
    }
}
