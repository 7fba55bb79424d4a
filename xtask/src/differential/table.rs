//! The table of differences, and what it adds up to.

use std::fmt::Write as _;

use super::known::Client;
use crate::ui;

/// One line that is not the same.
pub struct Difference {
    /// File and line of the case.
    pub place: String,
    pub command: String,
    pub client: Client,
    /// `-` in front: only with Docker; `+`: only with ferry.
    pub line: String,
    /// The reason, when there is a known one.
    pub why: Option<String>,
}

/// All differences of a run.
#[derive(Default)]
pub struct Table {
    pub rows: Vec<Difference>,
    /// Commands that were compared.
    pub commands: Vec<String>,
    /// Reasons nothing needed.
    pub stale: Vec<String>,
}

fn client(client: Client) -> &'static str {
    match client {
        Client::Own => "ferry",
        Client::Stock => "docker",
    }
}

impl Table {
    /// The table as Markdown, what has no reason first.
    pub fn markdown(&self) -> String {
        let mut out = format!("# Differences\n\n{} commands.\n", self.commands.len());
        for (title, explained) in [("Without a reason", false), ("With a reason", true)] {
            let _ = write!(
                out,
                "\n## {title}\n\n| case | client | command | line | reason |\n| --- | --- | --- | --- | --- |\n"
            );
            for row in self.rows.iter().filter(|r| r.why.is_some() == explained) {
                let cell = |text: &str| text.replace('|', "\\|");
                let _ = writeln!(
                    out,
                    "| {} | {} | `{}` | `{}` | {} |",
                    row.place,
                    client(row.client),
                    cell(&row.command),
                    cell(&row.line),
                    row.why.as_deref().unwrap_or("**none**")
                );
            }
        }
        out
    }

    /// Prints what is wrong; whether nothing is.
    pub fn summary(&self) -> bool {
        let mut last = None;
        for row in self.rows.iter().filter(|r| r.why.is_none()) {
            let head = (&row.place, client(row.client));
            if last != Some(head) {
                println!("\n{} ({} client)  {}", row.place, head.1, row.command);
                last = Some(head);
            }
            println!("  {}", row.line);
        }
        for stale in &self.stale {
            println!("stale: {stale}");
        }
        let bad = |wanted: Client| {
            let mut places: Vec<&str> = self
                .rows
                .iter()
                .filter(|r| r.why.is_none() && r.client == wanted)
                .map(|r| r.place.as_str())
                .collect();
            places.dedup();
            places.len()
        };
        let explained = self.rows.iter().filter(|r| r.why.is_some()).count();
        ui::note(format!(
            "{} commands; without a reason differ {} by ferry and {} by docker; {} lines with a reason; {} stale reasons",
            self.commands.len(),
            bad(Client::Own),
            bad(Client::Stock),
            explained,
            self.stale.len()
        ));
        self.stale.is_empty() && self.rows.iter().all(|r| r.why.is_some())
    }
}
