//! `system df`.

use std::collections::BTreeMap;

use clap::Args;
use ferry_client::Request;
use serde_json::Value;

use crate::app::App;
use crate::failure::{CmdResult, Failure};
use crate::format::listing::{Listing, Row};
use crate::format::template::{self, Format};
use crate::verb::{Arity, Verb};
use crate::{out, text, time, units};

/// Show {prog} disk usage
#[derive(Debug, Args)]
pub struct DiskUsage {
    #[arg(long, value_name = "string", help = super::LIST_FORMAT_HELP)]
    format: Option<String>,
    /// Show detailed information on space usage
    #[arg(long, short = 'v')]
    verbose: bool,
    #[arg(hide = true)]
    args: Vec<String>,
}

impl Verb for DiskUsage {
    const PATHS: &'static [&'static str] = &["system df"];
    const USAGE: &'static str = "[OPTIONS]";
    const ARITY: Arity = Arity::None;

    async fn run(self, app: &App) -> CmdResult {
        let format = self.format.as_deref().filter(|f| !f.is_empty());
        let usage = app.json(Request::get("/system/df")).await?;
        if self.verbose {
            match format {
                None | Some("table") => out::print(verbose(&usage))?,
                Some("json") => {
                    out::print(template::typed_json(&detailed(&usage), "formatter.diskUsageContext"))?;
                }
                Some(source) => {
                    let complain = |e| Failure::new(format!("template parsing error: {e}"));
                    let template = Format::parse_list(source).map_err(complain)?;
                    let data = template::typed(&detailed(&usage), "formatter.diskUsageContext");
                    out::print(template.run(&data).map_err(complain)?)?;
                }
            }
            return Ok(0);
        }
        let listing = Listing {
            type_name: "*formatter.diskUsageImagesContext",
            raw: "",
            headers: &[
                ("Type", "TYPE"),
                ("TotalCount", "TOTAL"),
                ("Active", "ACTIVE"),
                ("Size", "SIZE"),
                ("Reclaimable", "RECLAIMABLE"),
            ],
            columns: &["Type", "TotalCount", "Active", "Size", "Reclaimable"],
            quiet: None,
        };
        out::print(listing.render(format, &summary(&usage))?)?;
        Ok(0)
    }
}

fn list<'a>(usage: &'a Value, key: &str) -> Vec<&'a Value> {
    usage[key].as_array().into_iter().flatten().collect()
}

#[expect(clippy::cast_precision_loss, reason = "sizes for people")]
fn size(bytes: i64) -> String {
    units::human_size(bytes as f64)
}

fn row(kind: &str, total: usize, active: usize, bytes: i64, reclaimable: i64) -> Row {
    let percent = if bytes > 0 { format!(" ({}%)", reclaimable * 100 / bytes) } else { String::new() };
    Row::new([
        ("Type", kind.to_owned()),
        ("TotalCount", total.to_string()),
        ("Active", active.to_string()),
        ("Size", size(bytes)),
        ("Reclaimable", format!("{}{percent}", size(reclaimable))),
    ])
}

fn summary(usage: &Value) -> Vec<Row> {
    let int = |v: &Value, key: &str| v[key].as_i64().unwrap_or(0);
    let images = list(usage, "Images");
    let layers = int(usage, "LayersSize");
    let in_use = |i: &&&Value| int(i, "Containers") > 0;
    // What a used image does not share cannot be freed; the rest of the layers can.
    let used: i64 = images
        .iter()
        .filter(in_use)
        .map(|i| int(i, "Size") - i["SharedSize"].as_i64().filter(|s| *s >= 0).unwrap_or(0))
        .sum();
    let unused_exists = images.iter().any(|i| int(i, "Containers") <= 0);
    let reclaimable = if unused_exists { (layers - used).max(0) } else { 0 };
    let containers = list(usage, "Containers");
    let running = |c: &&&Value| matches!(c["State"].as_str(), Some("running" | "paused" | "restarting"));
    let total = |set: &mut dyn Iterator<Item = &&Value>| set.map(|c| int(c, "SizeRw")).sum::<i64>();
    let stopped = total(&mut containers.iter().filter(|c| !running(c)));
    let volumes = list(usage, "Volumes");
    let volume_size = |v: &Value| v["UsageData"]["Size"].as_i64().filter(|s| *s > 0).unwrap_or(0);
    let linked = |v: &&&Value| v["UsageData"]["RefCount"].as_i64().unwrap_or(0) > 0;
    let cache = list(usage, "BuildCache");
    let cached: i64 = cache.iter().filter(|c| c["Shared"] != true).map(|c| int(c, "Size")).sum();
    let idle: i64 =
        cache.iter().filter(|c| c["Shared"] != true && c["InUse"] != true).map(|c| int(c, "Size")).sum();
    vec![
        row("Images", images.len(), images.iter().filter(in_use).count(), layers, reclaimable),
        row(
            "Containers",
            containers.len(),
            containers.iter().filter(running).count(),
            total(&mut containers.iter()),
            stopped,
        ),
        row(
            "Local Volumes",
            volumes.len(),
            volumes.iter().filter(linked).count(),
            volumes.iter().map(|v| volume_size(v)).sum(),
            volumes.iter().filter(|v| !linked(v)).map(|v| volume_size(v)).sum(),
        ),
        row("Build Cache", cache.len(), cache.iter().filter(|c| c["InUse"] == true).count(), cached, idle),
    ]
}

/// Everything there is, as `--verbose` hands it to templates.
fn detailed(usage: &Value) -> Value {
    let all = |key: &str, rows: &dyn Fn(&Value) -> Vec<Row>| -> Value {
        list(usage, key).into_iter().flat_map(rows).map(|row| row.json()).collect()
    };
    let shared = |image: &Value| {
        let known = |key: &str| image[key].as_i64().filter(|n| *n >= 0).unwrap_or(0);
        let (whole, shared) = (known("Size"), known("SharedSize"));
        // As in Docker an image with several names has one row here.
        let rows = super::image_list::rows(image).into_iter().take(1);
        rows.map(|row| {
            let digest =
                if row.get("Digest") == "<none>" { String::new() } else { row.get("Digest").to_owned() };
            row.with("ID", image["Id"].clone())
                .with("Digest", digest)
                .with("SharedSize", size(shared))
                .with("UniqueSize", size(whole - shared))
                .with("Containers", known("Containers").to_string())
        })
        .collect()
    };
    let cache = |c: &Value| {
        let text_of = |key: &str| c[key].as_str().unwrap_or_default().to_owned();
        let since = |key: &str| time::parse(&text_of(key)).map(time::ago).unwrap_or_default();
        vec![Row::new([
            ("ID", text::short_id(&text_of("ID")).to_owned()),
            ("Parent", text_of("Parent")),
            ("CacheType", text_of("Type")),
            ("Description", text_of("Description")),
            ("InUse", c["InUse"].as_bool().unwrap_or(false).to_string()),
            ("Shared", c["Shared"].as_bool().unwrap_or(false).to_string()),
            ("Size", size(c["Size"].as_i64().unwrap_or(0))),
            ("CreatedAt", text_of("CreatedAt")),
            ("CreatedSince", since("CreatedAt")),
            ("LastUsedAt", text_of("LastUsedAt")),
            ("LastUsedSince", since("LastUsedAt")),
            ("UsageCount", c["UsageCount"].as_i64().unwrap_or(0).to_string()),
        ])]
    };
    serde_json::json!({
        "Images": all("Images", &shared),
        "Containers": all("Containers", &|c| vec![super::ps::row(c, true)]),
        "Volumes": all("Volumes", &|v| vec![super::volumes::row(v)]),
        "BuildCache": all("BuildCache", &cache),
    })
}

fn verbose(usage: &Value) -> String {
    let text_of = |v: &Value, key: &str| v[key].as_str().unwrap_or_default().to_owned();
    let age = |v: &Value| {
        time::ago(jiff::Timestamp::from_second(v["Created"].as_i64().unwrap_or(0)).unwrap_or_default())
    };
    let int = |v: &Value, key: &str| v[key].as_i64().filter(|n| *n >= 0).unwrap_or(0);
    let table = |lines: Vec<String>| crate::format::table::align(&lines);
    let mut images =
        vec!["REPOSITORY\tTAG\tIMAGE ID\tCREATED\tSIZE\tSHARED SIZE\tUNIQUE SIZE\tCONTAINERS".to_owned()];
    for image in list(usage, "Images") {
        let tag =
            image["RepoTags"][0].as_str().and_then(|t| t.rsplit_once(':')).unwrap_or(("<none>", "<none>"));
        let (all, shared) = (int(image, "Size"), int(image, "SharedSize"));
        #[expect(clippy::cast_precision_loss, reason = "sizes for people")]
        let shown = units::human_size_digits(all as f64, 3);
        images.push(format!(
            "{}\t{}\t{}\t{}\t{shown}\t{}\t{}\t{}",
            tag.0,
            tag.1,
            text::short_id(&text_of(image, "Id")),
            age(image),
            size(shared),
            size(all - shared),
            int(image, "Containers")
        ));
    }
    let mut containers =
        vec!["CONTAINER ID\tIMAGE\tCOMMAND\tLOCAL VOLUMES\tSIZE\tCREATED\tSTATUS\tNAMES".to_owned()];
    let mut links: BTreeMap<String, usize> = BTreeMap::new();
    for c in list(usage, "Containers") {
        let mounts = list(c, "Mounts");
        let volumes: Vec<_> = mounts.iter().filter(|m| m["Driver"] == "local").collect();
        volumes.iter().for_each(|m| *links.entry(text_of(m, "Name")).or_default() += 1);
        containers.push(format!(
            "{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}",
            text::short_id(&text_of(c, "Id")),
            text_of(c, "Image"),
            text::quote(&text::ellipsis(&text_of(c, "Command"), 20)),
            volumes.len(),
            size(int(c, "SizeRw")),
            age(c),
            text_of(c, "Status"),
            c["Names"][0].as_str().unwrap_or_default().trim_start_matches('/')
        ));
    }
    let mut volumes = vec!["VOLUME NAME\tLINKS\tSIZE".to_owned()];
    for v in list(usage, "Volumes") {
        let refs = v["UsageData"]["RefCount"].as_i64().filter(|n| *n >= 0);
        let refs = refs.unwrap_or_else(|| {
            i64::try_from(links.get(&text_of(v, "Name")).copied().unwrap_or(0)).unwrap_or(0)
        });
        volumes.push(format!("{}\t{refs}\t{}", text_of(v, "Name"), size(int(&v["UsageData"], "Size"))));
    }
    let mut cache = vec!["CACHE ID\tCACHE TYPE\tSIZE\tCREATED\tLAST USED\tUSAGE\tSHARED".to_owned()];
    let mut cached = 0;
    for c in list(usage, "BuildCache") {
        cached += int(c, "Size");
        let since = |key: &str| time::parse(&text_of(c, key)).map(time::ago).unwrap_or_default();
        cache.push(format!(
            "{}\t{}\t{}\t{}\t{}\t{}\t{}",
            text::short_id(&text_of(c, "ID")),
            text_of(c, "Type"),
            size(int(c, "Size")),
            since("CreatedAt"),
            since("LastUsedAt"),
            int(c, "UsageCount"),
            c["Shared"].as_bool().unwrap_or(false)
        ));
    }
    format!(
        "Images space usage:\n\n{}\nContainers space usage:\n\n{}\nLocal Volumes space usage:\n\n{}\nBuild cache usage: {}\n\n{}",
        table(images),
        table(containers),
        table(volumes),
        size(cached),
        table(cache)
    )
}
