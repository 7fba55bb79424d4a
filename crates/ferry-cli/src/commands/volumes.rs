//! `volume` commands.

use clap::Args;
use ferry_client::Request;
use serde_json::{Value, json};

use crate::app::App;
use crate::failure::{CmdResult, Failure};
use crate::format::listing::{Listing, Row};
use crate::opts::{env, filter, values};
use crate::verb::{Arity, Verb};
use crate::{out, units};

/// List volumes
#[derive(Debug, Args)]
pub struct List {
    /// Provide filter values (e.g. "dangling=true")
    #[arg(long, short = 'f', value_name = "filter", value_parser = filter::check)]
    filter: Vec<String>,
    #[arg(long, value_name = "string", help = super::LIST_FORMAT_HELP)]
    format: Option<String>,
    /// Only display volume names
    #[arg(long, short = 'q')]
    quiet: bool,
    #[arg(hide = true)]
    args: Vec<String>,
}

/// Create a volume
#[derive(Debug, Args)]
pub struct Create {
    /// Specify volume driver name (default "local")
    #[arg(long, short = 'd', value_name = "string")]
    driver: Option<String>,
    /// Set metadata for a volume
    #[arg(long, value_name = "list", value_parser = values::label)]
    label: Vec<String>,
    #[arg(long, hide = true)]
    name: Option<String>,
    /// Set driver specific options (default map[])
    #[arg(long, short = 'o', value_name = "map")]
    opt: Vec<String>,
    #[arg(hide = true)]
    args: Vec<String>,
}

/// Remove one or more volumes
#[derive(Debug, Args)]
#[command(
    long_about = "Remove one or more volumes. You cannot remove a volume that is in use by a container."
)]
pub struct Remove {
    /// Force the removal of one or more volumes
    #[arg(long, short = 'f')]
    force: bool,
    #[arg(hide = true)]
    args: Vec<String>,
}

/// Fields of a volume in lists.
pub fn row(v: &Value) -> Row {
    let text = |key: &str| v[key].as_str().unwrap_or_default().to_owned();
    let known = |key: &str| v["UsageData"][key].as_i64().filter(|n| *n >= 0);
    #[expect(clippy::cast_precision_loss, reason = "sizes for people")]
    let size = known("Size").map_or_else(|| "N/A".to_owned(), |n| units::human_size(n as f64));
    let missing = || "N/A".to_owned();
    Row::new([
        ("Name", text("Name")),
        ("Driver", text("Driver")),
        ("Scope", text("Scope")),
        ("Mountpoint", text("Mountpoint")),
        ("Labels", super::join_labels(&v["Labels"])),
        ("Links", known("RefCount").map_or_else(missing, |n| n.to_string())),
        ("Size", size),
        ("Availability", missing()),
        ("Group", missing()),
        ("Status", missing()),
    ])
    .with_labels(&v["Labels"])
}

impl Verb for List {
    const PATHS: &'static [&'static str] = &["volume ls", "volume list"];
    const USAGE: &'static str = "[OPTIONS]";
    const ARITY: Arity = Arity::None;

    async fn run(self, app: &App) -> CmdResult {
        let request = Request::get("/volumes").query_opt("filters", &filter::parameter(&self.filter));
        let answer = app.json(request).await?;
        let mut volumes: Vec<&Value> = answer["Volumes"].as_array().into_iter().flatten().collect();
        volumes.sort_by_key(|v| v["Name"].as_str().unwrap_or_default());
        let rows: Vec<Row> = volumes.into_iter().map(row).collect();
        let listing = Listing {
            type_name: "*formatter.volumeContext",
            raw: if self.quiet { "name: {{.Name}}\\n" } else { "name: {{.Name}}\\ndriver: {{.Driver}}\\n" },
            headers: &[
                ("Driver", "DRIVER"),
                ("Name", "VOLUME NAME"),
                ("Scope", "SCOPE"),
                ("Mountpoint", "MOUNTPOINT"),
                ("Labels", "LABELS"),
                ("Links", "LINKS"),
                ("Size", "SIZE"),
                ("Availability", "AVAILABILITY"),
                ("Group", "GROUP"),
                ("Status", "STATUS"),
            ],
            columns: &["Driver", "Name"],
            quiet: self.quiet.then_some("Name"),
        };
        let format =
            self.format.as_deref().or_else(|| app.config().volumes_format.as_deref().filter(|_| !self.quiet));
        out::print(listing.render(format, &rows)?)?;
        Ok(0)
    }
}

impl Verb for Create {
    const PATHS: &'static [&'static str] = &["volume create"];
    const USAGE: &'static str = "[OPTIONS] [VOLUME]";
    const ARITY: Arity = Arity::AtMost(1);

    async fn run(self, app: &App) -> CmdResult {
        let name = match (self.name.as_deref(), self.args.first()) {
            (Some(_), Some(_)) => {
                return Err(Failure::new(
                    "conflicting options: either specify --name or provide positional arg, not both",
                ));
            }
            (Some(name), None) => name,
            (None, name) => name.map(String::as_str).unwrap_or_default(),
        };
        let body = json!({
            "Name": name,
            "Driver": self.driver.as_deref().unwrap_or("local"),
            // What an option without a value means, the driver knows.
            "DriverOpts": env::labels(&[], &self.opt)?,
            "Labels": env::labels(&[], &self.label)?,
        });
        let volume = app.json(Request::post("/volumes/create").json(&body)?).await?;
        out::println(volume["Name"].as_str().unwrap_or_default())?;
        Ok(0)
    }
}

/// Update a volume (cluster volumes only)
#[derive(Debug, Args)]
pub struct Update {
    /// Cluster Volume availability ("active", "pause", "drain")
    #[arg(long, value_name = "string", hide = true)]
    availability: Option<String>,
    #[arg(hide = true)]
    args: Vec<String>,
}

impl Verb for Update {
    const PATHS: &'static [&'static str] = &["volume update"];
    const USAGE: &'static str = "[OPTIONS] [VOLUME]";
    const ARITY: Arity = Arity::Exact(1);

    async fn run(self, app: &App) -> CmdResult {
        let path = format!("/volumes/{}", Request::escape(&self.args[0]));
        let mut volume = app.json(Request::get(&path)).await?;
        if volume["ClusterVolume"].is_null() {
            return Err(Failure::new("can only update cluster volumes"));
        }
        let spec = &mut volume["ClusterVolume"]["Spec"];
        if let Some(availability) = &self.availability {
            spec["Availability"] = availability.as_str().into();
        }
        let body = json!({"Spec": spec});
        let version = volume["ClusterVolume"]["Version"]["Index"].as_u64().unwrap_or(0).to_string();
        let put = Request::new(ferry_client::Method::PUT, path).query("version", version);
        app.done(put.json(&body)?).await?;
        Ok(0)
    }
}

impl Verb for Remove {
    const PATHS: &'static [&'static str] = &["volume rm", "volume remove"];
    const USAGE: &'static str = "[OPTIONS] VOLUME [VOLUME...]";
    const ARITY: Arity = Arity::AtLeast(1);

    async fn run(self, app: &App) -> CmdResult {
        app.for_each(&self.args, async |name| {
            let request =
                Request::delete(format!("/volumes/{}", Request::escape(name))).flag("force", self.force);
            app.done(request).await.map(|()| Some(name.to_owned()))
        })
        .await
    }
}
