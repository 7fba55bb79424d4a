//! Reading logs: which files there are, where to start, decoding records, and laying them out as the client asked. Writing is
//! the shim's; nothing here blocks on a container.

mod files;
mod record;

use std::borrow::Cow;

use ferry_shim_proto::log::LogFormat;
use serde::Serialize;

pub(crate) use files::{LogFiles, ReadOutcome};
use record::{Record, Stream};

/// How records become bytes for the client.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub stdout: bool,
    pub stderr: bool,
    pub timestamps: bool,
    pub details: bool,
    pub multiplexed: bool,
    /// One JSON object per record; a line longer than a record is several.
    pub json: bool,
    /// Nanoseconds since the epoch.
    pub since: Option<i64>,
    /// Nanoseconds since the epoch.
    pub until: Option<i64>,
}

/// What came of a record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It was written or left out.
    Continue,
    /// It lies after `until`: nothing more is wanted.
    PastEnd,
}

/// Turns log lines into output; remembers whether a line longer than a record is being continued.
pub(crate) struct Formatter {
    layout: Layout,
    format: LogFormat,
    continued: [bool; 2],
}

impl Formatter {
    pub fn new(layout: Layout, format: LogFormat) -> Self {
        Self { layout, format, continued: [false; 2] }
    }

    /// Appends one line of the log file to `out`. A line that is no record (torn by a crash) is left out.
    fn line(&mut self, line: &[u8], out: &mut Vec<u8>) -> Step {
        let Some(record) = record::parse(line, self.format) else { return Step::Continue };
        let layout = &self.layout;
        if layout.since.is_some() || layout.until.is_some() {
            let at = record.time.nanos();
            if layout.since.is_some_and(|since| at < i128::from(since)) {
                return Step::Continue;
            }
            if layout.until.is_some_and(|until| at > i128::from(until)) {
                return Step::PastEnd;
            }
        }
        let (wanted, number, slot) = match record.stream {
            Stream::Stdout => (layout.stdout, 1_u8, 0),
            Stream::Stderr => (layout.stderr, 2, 1),
        };
        if !wanted {
            return Step::Continue;
        }
        if layout.json {
            write_json(&record, layout.details, out);
            return Step::Continue;
        }
        let start = out.len();
        if layout.multiplexed {
            out.extend_from_slice(&[number, 0, 0, 0, 0, 0, 0, 0]);
        }
        let body = out.len();
        if !self.continued[slot] {
            if layout.timestamps {
                record.time.push(out);
                out.push(b' ');
            }
            if layout.details {
                for (at, (key, value)) in record.attributes.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    query_escape(key, out);
                    out.push(b'=');
                    query_escape(value, out);
                }
                out.push(b' ');
            }
        }
        out.extend_from_slice(&record.text);
        if record.ends_line {
            out.push(b'\n');
        }
        self.continued[slot] = !record.ends_line;
        if layout.multiplexed {
            let length = u32::try_from(out.len() - body).unwrap_or(u32::MAX);
            out[start + 4..start + 8].copy_from_slice(&length.to_be_bytes());
        }
        Step::Continue
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct JsonEntry<'a> {
    line: Cow<'a, str>,
    source: &'a str,
    timestamp: Cow<'a, str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attrs: Vec<JsonAttribute<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct JsonAttribute<'a> {
    key: &'a str,
    value: &'a str,
}

/// An entry as Docker's API streams it when asked for JSON.
fn write_json(record: &Record<'_>, details: bool, out: &mut Vec<u8>) {
    let mut line = String::from_utf8_lossy(&record.text);
    if record.ends_line {
        line.to_mut().push('\n');
    }
    let attributes = record.attributes.iter().filter(|_| details);
    let entry = JsonEntry {
        line,
        source: record.stream.name(),
        timestamp: record.time.text(),
        attrs: attributes.map(|(key, value)| JsonAttribute { key, value }).collect(),
    };
    // Texts and nothing else, which always serialize.
    if serde_json::to_writer(&mut *out, &entry).is_ok() {
        out.push(b'\n');
    }
}

/// Go's `url.QueryEscape`.
fn query_escape(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte),
            b' ' => out.push(b'+'),
            _ => out.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
        }
    }
}
