//! `ps`.

use clap::Args;
use ferry_client::Request;
use serde_json::Value;

use crate::app::App;
use crate::failure::CmdResult;
use crate::format::listing::{Listing, Row};
use crate::opts::filter;
use crate::verb::{Arity, Verb};
use crate::{out, text, time, units};

/// List containers
#[derive(Debug, Args)]
pub struct Ps {
    /// Show all containers (default shows just running)
    #[arg(long, short = 'a')]
    all: bool,
    /// Filter output based on conditions provided
    #[arg(long, short = 'f', value_name = "filter", value_parser = filter::check)]
    filter: Vec<String>,
    #[arg(long, value_name = "string", help = super::LIST_FORMAT_HELP)]
    format: Option<String>,
    /// Show n last created containers (includes all states) (default -1)
    #[arg(long, short = 'n', value_name = "int", value_parser = text::parse_int)]
    last: Option<i64>,
    /// Show the latest created container (includes all states)
    #[arg(long, short = 'l')]
    latest: bool,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only display container IDs
    #[arg(long, short = 'q')]
    quiet: bool,
    /// Display total file sizes
    #[arg(long, short = 's')]
    size: bool,
    #[arg(hide = true)]
    args: Vec<String>,
}

/// The template behind `raw`.
const RAW: &str = "container_id: {{.ID}}\\nimage: {{.Image}}\\ncommand: {{.Command}}\\ncreated_at: {{.CreatedAt}}\\nstate: {{- pad .State 1 0}}\\nstatus: {{- pad .Status 1 0}}\\nnames: {{.Names}}\\nlabels: {{- pad .Labels 1 0}}\\nports: {{- pad .Ports 1 0}}\\n";
const RAW_SIZE: &str = "container_id: {{.ID}}\\nimage: {{.Image}}\\ncommand: {{.Command}}\\ncreated_at: {{.CreatedAt}}\\nstate: {{- pad .State 1 0}}\\nstatus: {{- pad .Status 1 0}}\\nnames: {{.Names}}\\nlabels: {{- pad .Labels 1 0}}\\nports: {{- pad .Ports 1 0}}\\nsize: {{.Size}}\\n";

const HEADERS: [(&str, &str); 14] = [
    ("ID", "CONTAINER ID"),
    ("Names", "NAMES"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("RunningFor", "CREATED"),
    ("Ports", "PORTS"),
    ("State", "STATE"),
    ("Status", "STATUS"),
    ("Size", "SIZE"),
    ("Labels", "LABELS"),
    ("Mounts", "MOUNTS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Networks", "NETWORKS"),
];
const COLUMNS: [&str; 8] = ["ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names", "Size"];

impl Verb for Ps {
    const PATHS: &'static [&'static str] = &["container ls", "container list", "container ps", "ps"];
    const USAGE: &'static str = "[OPTIONS]";
    const ARITY: Arity = Arity::None;

    async fn run(self, app: &App) -> CmdResult {
        let format =
            self.format.as_deref().or_else(|| app.config().ps_format.as_deref().filter(|_| !self.quiet));
        let last = if self.latest { 1 } else { self.last.unwrap_or(-1) };
        let size = self.size || format.is_some_and(|f| f.contains(".Size") || f.contains("json .}}"));
        let columns = if self.size { &COLUMNS[..] } else { &COLUMNS[..7] };
        let listing = Listing {
            type_name: "*formatter.ContainerContext",
            headers: &HEADERS,
            columns,
            quiet: self.quiet.then_some("ID"),
            raw: if self.size { RAW_SIZE } else { RAW },
        };
        // A template that asks for the wrong thing is an error even when there is nothing to show.
        listing.check(format.unwrap_or_default(), row(&Value::Null, false))?;
        let request = Request::get("/containers/json")
            .flag("all", self.all)
            .query_opt("limit", &if last > 0 { last.to_string() } else { String::new() })
            .flag("size", size)
            .query_opt("filters", &filter::parameter(&self.filter));
        let containers = app.json(request).await?;
        let rows: Vec<Row> =
            containers.as_array().into_iter().flatten().map(|c| row(c, self.no_trunc)).collect();
        out::print(listing.render(format, &rows)?)?;
        Ok(0)
    }
}

/// An object as a row.
pub fn row(c: &Value, no_trunc: bool) -> Row {
    let text_of = |key: &str| c[key].as_str().unwrap_or_default().to_owned();
    let created = jiff::Timestamp::from_second(c["Created"].as_i64().unwrap_or(0)).unwrap_or_default();
    let id = text_of("Id");
    let command = text_of("Command");
    let command = if no_trunc { command } else { text::ellipsis(&command, 20) };
    let mounts = c["Mounts"].as_array().into_iter().flatten().map(|m| mount(m, no_trunc)).collect::<Vec<_>>();
    let mut networks: Vec<&str> =
        c["NetworkSettings"]["Networks"].as_object().into_iter().flatten().map(|(n, _)| n.as_str()).collect();
    networks.sort_unstable();
    Row::new([
        ("ID", if no_trunc { id } else { text::short_id(&id).to_owned() }),
        ("Names", names(&c["Names"], no_trunc)),
        ("Image", image(c, no_trunc)),
        ("Command", text::quote(&command)),
        ("CreatedAt", time::go_style(created)),
        ("RunningFor", time::ago(created)),
        ("Ports", super::ports::summary(&c["Ports"])),
        ("State", text_of("State")),
        ("Status", text_of("Status")),
        ("Size", size(c)),
        ("Labels", super::join_labels(&c["Labels"])),
        ("Mounts", mounts.join(",")),
        (
            "LocalVolumes",
            c["Mounts"]
                .as_array()
                .into_iter()
                .flatten()
                .filter(|m| m["Driver"] == "local")
                .count()
                .to_string(),
        ),
        ("Networks", networks.join(",")),
    ])
    .with("Platform", c["ImageManifestDescriptor"]["platform"].clone())
    .with_labels(&c["Labels"])
}

/// The container's own names; those links gave it only when nothing is cut.
fn names(names: &Value, no_trunc: bool) -> String {
    let bare =
        names.as_array().into_iter().flatten().filter_map(Value::as_str).map(|n| n.trim_start_matches('/'));
    if no_trunc {
        return bare.collect::<Vec<_>>().join(",");
    }
    bare.filter(|n| !n.contains('/')).collect::<Vec<_>>().join(",")
}

fn image(c: &Value, no_trunc: bool) -> String {
    let name = c["Image"].as_str().unwrap_or_default();
    if name.is_empty() {
        return "<no image>".to_owned();
    }
    if no_trunc {
        return name.to_owned();
    }
    let id = c["ImageID"].as_str().unwrap_or_default();
    if name == id || name == id.trim_start_matches("sha256:") {
        return text::short_id(name).to_owned();
    }
    // `name:tag@digest` is shown as `name:tag`, `name@digest` as it is.
    match name.split_once('@') {
        Some((named, _)) if named.rsplit('/').next().is_some_and(|last| last.contains(':')) => {
            named.to_owned()
        }
        _ => name.to_owned(),
    }
}

fn mount(m: &Value, no_trunc: bool) -> String {
    let name = m["Name"].as_str().filter(|n| !n.is_empty()).or(m["Source"].as_str()).unwrap_or_default();
    if no_trunc { name.to_owned() } else { text::ellipsis(name, 15) }
}

#[expect(clippy::cast_precision_loss, reason = "sizes for people")]
fn size(c: &Value) -> String {
    let own = units::human_size_digits(c["SizeRw"].as_i64().unwrap_or(0) as f64, 3);
    match c["SizeRootFs"].as_i64() {
        Some(all) if all > 0 => format!("{own} (virtual {})", units::human_size_digits(all as f64, 3)),
        _ => own,
    }
}
