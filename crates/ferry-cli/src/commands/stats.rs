//! `stats`.

use std::time::Duration;

use clap::Args;
use ferry_client::Request;
use futures_util::future::join_all;
use serde_json::Value;

use crate::app::App;
use crate::failure::{CmdResult, Failure};
use crate::format::listing::{Listing, Row};
use crate::out::Stream;
use crate::verb::{Arity, Verb};
use crate::{out, text, units};

/// Display a live stream of container(s) resource usage statistics
#[derive(Debug, Args)]
pub struct Stats {
    /// Show all containers (default shows just running)
    #[arg(long, short = 'a')]
    all: bool,
    #[arg(long, value_name = "string", help = super::LIST_FORMAT_HELP)]
    format: Option<String>,
    /// Disable streaming stats and only pull the first result
    #[arg(long)]
    no_stream: bool,
    /// Do not truncate output
    #[arg(long)]
    no_trunc: bool,
    #[arg(hide = true)]
    args: Vec<String>,
}

const HEADERS: [(&str, &str); 9] = [
    ("Container", "CONTAINER"),
    ("ID", "CONTAINER ID"),
    ("Name", "NAME"),
    ("CPUPerc", "CPU %"),
    ("MemUsage", "MEM USAGE / LIMIT"),
    ("MemPerc", "MEM %"),
    ("NetIO", "NET I/O"),
    ("BlockIO", "BLOCK I/O"),
    ("PIDs", "PIDS"),
];

impl Verb for Stats {
    const PATHS: &'static [&'static str] = &["container stats", "stats"];
    const USAGE: &'static str = "[OPTIONS] [CONTAINER...]";
    const ARITY: Arity = Arity::AtLeast(0);

    async fn run(self, app: &App) -> CmdResult {
        let format = self.format.as_deref().or(app.config().stats_format.as_deref());
        // A live view redraws in place; without a terminal the tables follow each other.
        let live = !self.no_stream && Stream::Stdout.is_terminal();
        loop {
            let names = self.names(app).await?;
            let samples = join_all(names.iter().map(|name| self.sample(app, name))).await;
            let mut rows = Vec::new();
            for sample in samples {
                match sample {
                    Ok(row) => rows.push(row),
                    // One that is gone is left out of a list nobody named it in.
                    Err(e) if e.status == Some(404) && self.args.is_empty() => {}
                    Err(e) => return Err(e),
                }
            }
            let listing = Listing {
                type_name: "*container.statsContext",
                raw: "",
                headers: &HEADERS,
                columns: &["ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs"],
                quiet: None,
            };
            let text = listing.render(format, &rows)?;
            if live {
                out::print(redraw(&text))?;
            } else {
                out::print(text)?;
            }
            if self.no_stream {
                return Ok(0);
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

/// From the top left corner, each line cleared to its end, the rest of the screen cleared.
fn redraw(text: &str) -> String {
    format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n"))
}

impl Stats {
    async fn names(&self, app: &App) -> Result<Vec<String>, Failure> {
        if !self.args.is_empty() {
            return Ok(self.args.clone());
        }
        let list = app.json(Request::get("/containers/json").flag("all", self.all)).await?;
        Ok(list
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|c| c["Id"].as_str())
            .map(str::to_owned)
            .collect())
    }

    async fn sample(&self, app: &App, name: &str) -> Result<Row, Failure> {
        let path = format!("/containers/{}/stats", Request::escape(name));
        let stats = app.json(Request::get(path).query("stream", "0")).await?;
        Ok(row(name, &stats, self.no_trunc))
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn row(asked: &str, s: &Value, no_trunc: bool) -> Row {
    let number = |v: &Value| v.as_u64().unwrap_or(0);
    let id = s["id"].as_str().unwrap_or_default();
    let limit = number(&s["memory_stats"]["limit"]);
    let used = memory(&s["memory_stats"]);
    let percent = if limit > 0 { used as f64 / limit as f64 * 100.0 } else { 0.0 };
    let networks = || s["networks"].as_object().into_iter().flatten();
    let received: u64 = networks().map(|(_, n)| number(&n["rx_bytes"])).sum();
    let sent: u64 = networks().map(|(_, n)| number(&n["tx_bytes"])).sum();
    let blocks = |operation: &str| -> u64 {
        let entries = s["blkio_stats"]["io_service_bytes_recursive"].as_array().into_iter().flatten();
        entries
            .filter(|e| e["op"].as_str().is_some_and(|o| o.eq_ignore_ascii_case(operation)))
            .map(|e| number(&e["value"]))
            .sum()
    };
    let traffic = |a: u64, b: u64| {
        format!("{} / {}", units::human_size_digits(a as f64, 3), units::human_size_digits(b as f64, 3))
    };
    Row::new([
        ("Container", asked.to_owned()),
        ("ID", if no_trunc { id.to_owned() } else { text::short_id(id).to_owned() }),
        ("Name", s["name"].as_str().unwrap_or_default().trim_start_matches('/').to_owned()),
        ("CPUPerc", format!("{:.2}%", cpu_percent(s))),
        ("MemUsage", format!("{} / {}", units::bytes_size(used as f64), units::bytes_size(limit as f64))),
        ("MemPerc", format!("{percent:.2}%")),
        ("NetIO", traffic(received, sent)),
        ("BlockIO", traffic(blocks("read"), blocks("write"))),
        ("PIDs", number(&s["pids_stats"]["current"]).to_string()),
    ])
}

/// Usage without the file cache the kernel can drop at once: `total_inactive_file` on cgroup v1,
/// `inactive_file` on v2.
fn memory(m: &Value) -> u64 {
    let usage = m["usage"].as_u64().unwrap_or(0);
    for key in ["total_inactive_file", "inactive_file"] {
        if let Some(cache) = m["stats"][key].as_u64().filter(|c| *c < usage) {
            return usage - cache;
        }
    }
    usage
}

/// Share of the host's CPU time since the sample before, times the number of CPUs.
#[expect(clippy::cast_precision_loss, reason = "a percentage")]
fn cpu_percent(s: &Value) -> f64 {
    let total = |side: &str| s[side]["cpu_usage"]["total_usage"].as_u64().unwrap_or(0) as f64;
    let system = |side: &str| s[side]["system_cpu_usage"].as_u64().unwrap_or(0) as f64;
    let own = total("cpu_stats") - total("precpu_stats");
    let all = system("cpu_stats") - system("precpu_stats");
    let listed = s["cpu_stats"]["cpu_usage"]["percpu_usage"].as_array().map_or(0, Vec::len) as f64;
    let online = s["cpu_stats"]["online_cpus"].as_u64().filter(|n| *n > 0).map_or(listed, |n| n as f64);
    if own > 0.0 && all > 0.0 { own / all * online * 100.0 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn cache_is_no_usage() {
        assert_eq!(memory(&json!({"usage": 100, "stats": {"total_inactive_file": 40}})), 60);
        assert_eq!(memory(&json!({"usage": 100, "stats": {"inactive_file": 30}})), 70);
        assert_eq!(memory(&json!({"usage": 100, "stats": {"inactive_file": 300}})), 100);
    }

    #[test]
    fn cpu_share() {
        let s = json!({"cpu_stats": {"cpu_usage": {"total_usage": 200}, "system_cpu_usage": 1000, "online_cpus": 2},
                       "precpu_stats": {"cpu_usage": {"total_usage": 100}, "system_cpu_usage": 500}});
        assert!((cpu_percent(&s) - 40.0).abs() < 1e-9);
        assert!(cpu_percent(&json!({})).abs() < 1e-9);
    }
}
