//! The engine's progress messages: one JSON object per line, shown in place on a terminal and as plain
//! lines elsewhere.

use std::collections::HashMap;

use ferry_client::Response;
use serde::Deserialize;
use serde_json::Value;

use crate::failure::Failure;
use crate::out::Stream;
use crate::units;

/// One message.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Message {
    stream: Option<String>,
    status: Option<String>,
    id: Option<String>,
    progress: Option<String>,
    #[serde(rename = "progressDetail")]
    detail: Option<Detail>,
    error: Option<String>,
    #[serde(rename = "errorDetail")]
    error_detail: Option<ErrorDetail>,
    aux: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Detail {
    current: i64,
    total: i64,
    units: Option<String>,
    hidecounts: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ErrorDetail {
    code: i64,
    message: String,
}

/// A view of a progress stream.
#[derive(Debug)]
pub struct Progress {
    stream: Stream,
    quiet: bool,
    terminal: bool,
    /// Line of each id, counted from the first.
    lines: HashMap<String, usize>,
    width: usize,
}

impl Progress {
    /// A view on `stream`; a quiet one only looks for errors.
    pub fn new(stream: Stream, quiet: bool) -> Self {
        let width = crate::session::terminal::size().map_or(0, |(_, columns)| usize::from(columns));
        Self { stream, quiet, terminal: stream.is_terminal(), lines: HashMap::new(), width }
    }

    /// Shows the stream to its end.
    ///
    /// # Errors
    /// The error the engine reports in it.
    pub async fn follow(self, response: Response) -> Result<(), Failure> {
        self.follow_with(response, |_| {}).await
    }

    /// As [`Progress::follow`], handing the `aux` objects (ids of results) to `on_aux`.
    ///
    /// # Errors
    /// As [`Progress::follow`].
    pub async fn follow_with(
        mut self,
        mut response: Response,
        mut on_aux: impl FnMut(&Value),
    ) -> Result<(), Failure> {
        let mut pending: Vec<u8> = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            pending.extend_from_slice(&chunk);
            let Some(end) = pending.iter().rposition(|b| *b == b'\n') else { continue };
            let rest = pending.split_off(end + 1);
            for line in pending.split(|b| *b == b'\n') {
                self.line(line, &mut on_aux)?;
            }
            pending = rest;
        }
        self.line(&pending, &mut on_aux)
    }

    fn line(&mut self, line: &[u8], on_aux: &mut impl FnMut(&Value)) -> Result<(), Failure> {
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        let message: Message = serde_json::from_slice(line)?;
        if let Some(detail) = &message.error_detail {
            let code = u8::try_from(detail.code).unwrap_or(1).max(1);
            return Err(Failure::new(&detail.message).with_code(code));
        }
        if let Some(error) = &message.error {
            return Err(Failure::new(error));
        }
        if let Some(aux) = &message.aux {
            on_aux(aux);
            return Ok(());
        }
        if !self.quiet {
            let text = self.show(&message);
            self.stream.write(text.as_bytes())?;
        }
        Ok(())
    }

    /// What to write for one message.
    fn show(&mut self, message: &Message) -> String {
        if let Some(text) = &message.stream {
            return text.clone();
        }
        let status = message.status.as_deref().unwrap_or_default();
        let bar = self.bar(message);
        if !self.terminal {
            // Bars would fill a log: only what changed state is written.
            if !bar.is_empty() {
                return String::new();
            }
            return match message.id.as_deref().filter(|id| !id.is_empty()) {
                Some(id) => format!("{id}: {status}\n"),
                None => format!("{status}\n"),
            };
        }
        let has_place = message.detail.is_some() || message.progress.is_some();
        match message.id.as_deref().filter(|id| !id.is_empty()) {
            Some(id) if has_place => {
                let count = self.lines.len();
                let (up, fresh) = match self.lines.get(id) {
                    Some(line) => (count - line, ""),
                    None => {
                        self.lines.insert(id.to_owned(), count);
                        (1, "\n")
                    }
                };
                // Up to the id's line, clear it, write, and back down to below the last.
                format!("{fresh}\x1b[{up}A\x1b[2K\r{id}: {status} {bar}\x1b[{up}B\r")
            }
            id => {
                self.lines.clear();
                match id {
                    Some(id) => format!("{id}: {status}\n"),
                    None => format!("{status}\n"),
                }
            }
        }
    }

    fn bar(&self, message: &Message) -> String {
        let Some(detail) = &message.detail else { return message.progress.clone().unwrap_or_default() };
        if detail.current <= 0 && detail.total <= 0 {
            return String::new();
        }
        #[expect(clippy::cast_precision_loss, reason = "sizes for people")]
        let (current, total) = (detail.current as f64, detail.total as f64);
        let amount = |n: f64| match detail.units.as_deref() {
            Some(unit) if !unit.is_empty() => format!("{n} {unit}"),
            _ => units::human_size(n),
        };
        if detail.total <= 0 {
            return format!("{:>8}", amount(current));
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 50")]
        let done = ((current / total * 50.0) as usize).min(50);
        let head = if done < 50 { ">" } else { "" };
        let left = 50_usize.saturating_sub(done + head.len());
        let bar = if self.width > 110 {
            format!("[{}{head}{}] ", "=".repeat(done), " ".repeat(left))
        } else {
            String::new()
        };
        if detail.hidecounts {
            return bar;
        }
        let counts =
            if current > total { amount(current) } else { format!("{}/{}", amount(current), amount(total)) };
        format!("{bar}{counts:>8}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(terminal: bool) -> Progress {
        Progress { stream: Stream::Stderr, quiet: false, terminal, lines: HashMap::new(), width: 80 }
    }

    fn show(view: &mut Progress, json: &str) -> String {
        view.show(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn plain_lines_without_bars() {
        let mut v = view(false);
        let bar = r#"{"status":"Downloading","progressDetail":{"current":1,"total":2},"id":"abc"}"#;
        assert_eq!(show(&mut v, bar), "");
        let done = r#"{"status":"Pull complete","progressDetail":{},"id":"abc"}"#;
        assert_eq!(show(&mut v, done), "abc: Pull complete\n");
        assert_eq!(show(&mut v, r#"{"status":"Digest: sha256:1"}"#), "Digest: sha256:1\n");
    }

    #[test]
    fn lines_on_a_terminal_stay_in_place() {
        let mut v = view(true);
        let of = |id: &str| {
            format!(
                r#"{{"status":"Downloading","progressDetail":{{"current":500,"total":1000}},"id":"{id}"}}"#
            )
        };
        assert_eq!(show(&mut v, &of("a")), "\n\x1b[1A\x1b[2K\ra: Downloading 500B/1kB\x1b[1B\r");
        assert_eq!(show(&mut v, &of("b")), "\n\x1b[1A\x1b[2K\rb: Downloading 500B/1kB\x1b[1B\r");
        assert!(show(&mut v, &of("a")).starts_with("\x1b[2A\x1b[2K\ra:"));
    }
}
