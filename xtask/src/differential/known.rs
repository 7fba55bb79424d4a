//! The differences that are there for a reason: `tests/differential/differences.txt`.
//!
//! Blocks separated by empty lines, each with one reason:
//!
//! ```text
//! why: ferry has one storage driver
//! in: docker info*
//! line: (?i)storage driver
//! ```
//!
//! `in` is a pattern for commands (`*` stands for anything), `line` a regular expression for lines that
//! differ, as the report shows them; both may be repeated. `client: docker` or `client: ferry` limits
//! the block to one of the two runs against ferry. A `line` that explains nothing is stale, and that is
//! an error like an unexplained difference.

use anyhow::{Context, Result, bail};
use regex::Regex;

/// Which client ran against ferry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// `ferry`.
    Own,
    /// Docker's own client.
    Stock,
}

/// One block of the file.
#[derive(Debug)]
pub struct Entry {
    /// Line of the file on which it begins.
    pub at: usize,
    pub why: String,
    commands: Vec<Regex>,
    client: Option<Client>,
    lines: Vec<(Regex, bool)>,
    used: bool,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Known {
    entries: Vec<Entry>,
}

impl Known {
    /// Reads the file's text.
    pub fn parse(text: &str) -> Result<Self> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut open = false;
        for (at, line) in text.lines().enumerate() {
            let at = at + 1;
            if line.starts_with('#') {
                continue;
            }
            if line.trim().is_empty() {
                open = false;
                continue;
            }
            let (key, value) =
                line.split_once(": ").with_context(|| format!("line {at} is not `key: value`"))?;
            if !open {
                if key != "why" {
                    bail!("line {at}: a block begins with its reason (`why: …`)");
                }
                entries.push(Entry {
                    at,
                    why: String::new(),
                    commands: Vec::new(),
                    client: None,
                    lines: Vec::new(),
                    used: false,
                });
                open = true;
            }
            let Some(entry) = entries.last_mut() else { bail!("line {at} belongs to no block") };
            match key {
                "why" => entry.why = value.to_owned(),
                "in" => entry.commands.push(glob(value)?),
                "line" => {
                    let pattern = Regex::new(value).with_context(|| format!("line {at}"))?;
                    entry.lines.push((pattern, false));
                }
                "client" => {
                    entry.client = Some(match value {
                        "ferry" => Client::Own,
                        "docker" => Client::Stock,
                        other => bail!("line {at}: `{other}` is neither ferry nor docker"),
                    });
                }
                other => bail!("line {at}: nobody knows what `{other}` means"),
            }
        }
        if let Some(bare) = entries.iter().find(|e| e.lines.is_empty() || e.commands.is_empty()) {
            bail!("the block at line {} names no command or no line", bare.at);
        }
        Ok(Self { entries })
    }

    /// The reason for a line that differs, if one is known; takes note that it was needed.
    pub fn explain(&mut self, client: Client, command: &str, line: &str) -> Option<&str> {
        for entry in &mut self.entries {
            if entry.client.is_some_and(|c| c != client)
                || !entry.commands.iter().any(|c| c.is_match(command))
            {
                continue;
            }
            let mut hit = false;
            for (pattern, used) in &mut entry.lines {
                if pattern.is_match(line) {
                    *used = true;
                    hit = true;
                }
            }
            if hit {
                entry.used = true;
                return Some(&entry.why);
            }
        }
        None
    }

    /// Blocks and patterns that explained nothing; only those of `commands` that were run are counted.
    pub fn stale(&self, commands: &[String]) -> Vec<String> {
        let applies = |e: &&Entry| commands.iter().any(|c| e.commands.iter().any(|p| p.is_match(c)));
        let mut all = Vec::new();
        for entry in self.entries.iter().filter(applies) {
            let idle = entry.lines.iter().filter(|(_, used)| !used);
            all.extend(idle.map(|(pattern, _)| format!("differences.txt:{}: `{pattern}`", entry.at)));
        }
        all
    }
}

fn glob(text: &str) -> Result<Regex> {
    let body: Vec<String> = text.split('*').map(regex::escape).collect();
    Ok(Regex::new(&format!("^{}$", body.join(".*")))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# about\nwhy: one driver\nin: docker info*\nline: Driver\nline: Never\n\nwhy: other\nclient: docker\nin: docker a\nline: x\n";

    #[test]
    fn lines_are_explained_and_idle_patterns_are_stale() {
        let mut known = Known::parse(FILE).unwrap();
        assert_eq!(known.explain(Client::Own, "docker info -f x", "-out: Driver: a"), Some("one driver"));
        assert_eq!(known.explain(Client::Own, "docker ps", "-out: Driver: a"), None);
        assert_eq!(known.explain(Client::Own, "docker a", "+out: x"), None, "only for the stock client");
        let commands = ["docker info -f x".to_owned()];
        assert_eq!(known.stale(&commands), ["differences.txt:2: `Never`"]);
    }

    #[test]
    fn malformed_files() {
        for bad in ["in: docker a\n", "why: a\n", "why: a\nin: b\nline: (\n", "nonsense\n"] {
            assert!(Known::parse(bad).is_err(), "{bad}");
        }
    }
}
