//! `history`.

use clap::Args;
use ferry_client::Request;
use serde_json::Value;

use super::inspect::platform;
use crate::app::App;
use crate::failure::{CmdResult, Failure};
use crate::format::listing::{Listing, Row};
use crate::verb::{Arity, Verb};
use crate::{out, text, time, units};

/// Show the history of an image
#[derive(Debug, Args)]
pub struct History {
    #[arg(long, value_name = "string", help = super::LIST_FORMAT_HELP)]
    format: Option<String>,
    /// Print sizes and dates in human readable format (default true)
    #[arg(long, short = 'H', action = clap::ArgAction::SetFalse)]
    human: bool,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Show history for the given platform. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    /// Only show image IDs
    #[arg(long, short = 'q')]
    quiet: bool,
    #[arg(hide = true)]
    args: Vec<String>,
}

const HEADERS: [(&str, &str); 6] = [
    ("ID", "IMAGE"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedBy", "CREATED BY"),
    ("Size", "SIZE"),
    ("Comment", "COMMENT"),
];

impl Verb for History {
    const PATHS: &'static [&'static str] = &["image history", "history"];
    const USAGE: &'static str = "[OPTIONS] IMAGE";
    const ARITY: Arity = Arity::Exact(1);

    async fn run(self, app: &App) -> CmdResult {
        let platform =
            platform(self.platform.as_deref()).map_err(|e| Failure::new(format!("invalid platform: {e}")))?;
        let request = Request::get(format!("/images/{}/history", Request::escape(&self.args[0])))
            .query_opt("platform", &platform);
        let layers = app.json(request).await?;
        let rows: Vec<Row> = layers.as_array().into_iter().flatten().map(|l| self.row(l)).collect();
        let columns: &[&str] = if self.human {
            &["ID", "CreatedSince", "CreatedBy", "Size", "Comment"]
        } else {
            &["ID", "CreatedAt", "CreatedBy", "Size", "Comment"]
        };
        let listing = Listing {
            type_name: "*image.historyContext",
            headers: &HEADERS,
            columns,
            quiet: self.quiet.then_some("ID"),
            raw: "",
        };
        out::print(listing.render(self.format.as_deref(), &rows)?)?;
        Ok(0)
    }
}

impl History {
    #[expect(clippy::cast_precision_loss, reason = "sizes for people")]
    fn row(&self, layer: &Value) -> Row {
        let id = layer["Id"].as_str().unwrap_or_default();
        let created =
            jiff::Timestamp::from_second(layer["Created"].as_i64().unwrap_or(0)).unwrap_or_default();
        let by = layer["CreatedBy"].as_str().unwrap_or_default().replace('\t', " ");
        let size = layer["Size"].as_i64().unwrap_or(0);
        let age = if created.as_second() <= 0 { "N/A".to_owned() } else { time::ago(created) };
        let stamp = time::rfc3339_local(created);
        Row::new([
            ("ID", if self.no_trunc { id.to_owned() } else { text::short_id(id).to_owned() }),
            ("CreatedSince", if self.human { age } else { stamp.clone() }),
            ("CreatedAt", stamp),
            ("CreatedBy", if self.no_trunc { by } else { text::ellipsis(&by, 45) }),
            ("Size", if self.human { units::human_size_digits(size as f64, 3) } else { size.to_string() }),
            ("Comment", layer["Comment"].as_str().unwrap_or_default().to_owned()),
        ])
    }
}
