//! One line of a log file, in either format. What is no record (torn by a crash) is `None`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use ferry_shim_proto::log::LogFormat;
use jiff::Timestamp;
use serde::Deserialize;

/// A stream of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    /// As Docker names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// When it was written.
#[derive(Debug, PartialEq, Eq)]
pub enum Time<'a> {
    /// RFC 3339.
    Text(Cow<'a, str>),
    /// Nanoseconds since the epoch.
    Nanos(i64),
}

impl Time<'_> {
    /// Nanoseconds since the epoch.
    pub fn nanos(&self) -> i128 {
        match self {
            Self::Text(text) => text.parse::<Timestamp>().map_or(0, Timestamp::as_nanosecond),
            Self::Nanos(nanos) => i128::from(*nanos),
        }
    }

    /// RFC 3339.
    pub fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) => Cow::Borrowed(text.as_ref()),
            Self::Nanos(nanos) => {
                Cow::Owned(Timestamp::from_nanosecond(i128::from(*nanos)).unwrap_or_default().to_string())
            }
        }
    }

    /// Appends it with exactly nine fraction digits, as Docker prints timestamps.
    pub fn push(&self, out: &mut Vec<u8>) {
        let text = self.text();
        let bare = text.strip_suffix('Z').unwrap_or(&text);
        let (seconds, fraction) = bare.split_once('.').unwrap_or((bare, ""));
        out.extend_from_slice(seconds.as_bytes());
        out.push(b'.');
        out.extend_from_slice(fraction.as_bytes());
        out.extend(std::iter::repeat_n(b'0', 9_usize.saturating_sub(fraction.len())));
        out.push(b'Z');
    }
}

/// A line, or a part of a long one.
#[derive(Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub stream: Stream,
    /// Without the newline.
    pub text: Cow<'a, [u8]>,
    /// Whether a newline follows.
    pub ends_line: bool,
    pub time: Time<'a>,
    /// The driver's attributes, sorted by name.
    pub attributes: BTreeMap<String, String>,
}

/// Reads a line without its newline.
pub fn parse(line: &[u8], format: LogFormat) -> Option<Record<'_>> {
    match format {
        LogFormat::Json => parse_plain_json(line).or_else(|| parse_any_json(line)),
        LogFormat::Local => parse_local(line),
    }
}

/// Whether a record ends a line; cheaper than reading it.
pub fn ends_line(line: &[u8], format: LogFormat) -> bool {
    match format {
        LogFormat::Json => memchr::memmem::rfind(line, b"\\n\",\"stream\"").is_some(),
        LogFormat::Local => matches!(line.first(), Some(b'o' | b'e')),
    }
}

/// What our own writer and Docker's make of a line when there are no attributes.
fn parse_plain_json(line: &[u8]) -> Option<Record<'_>> {
    const STDOUT: &[u8] = b"\",\"stream\":\"stdout\"";
    const STDERR: &[u8] = b"\",\"stream\":\"stderr\"";
    const TIME: &[u8] = b",\"time\":\"";
    let rest = line.strip_prefix(b"{\"log\":\"")?.strip_suffix(b"\"}")?;
    // The longest time has 35 characters.
    let from = rest.len().saturating_sub(35 + TIME.len());
    let at = from + memchr::memmem::rfind(&rest[from..], TIME)?;
    let time = std::str::from_utf8(&rest[at + TIME.len()..]).ok()?;
    let (text, stream) = match (rest[..at].strip_suffix(STDOUT), rest[..at].strip_suffix(STDERR)) {
        (Some(text), _) => (text, Stream::Stdout),
        (None, Some(text)) => (text, Stream::Stderr),
        (None, None) => return None,
    };
    let (text, ends_line) = match text.strip_suffix(b"\\n") {
        // An escaped backslash before a plain n.
        Some(before) if trailing_backslashes(before).is_multiple_of(2) => (before, true),
        _ => (text, false),
    };
    let text = unescape(text)?;
    let time = Time::Text(Cow::Borrowed(time));
    Some(Record { stream, text, ends_line, time, attributes: BTreeMap::new() })
}

fn trailing_backslashes(text: &[u8]) -> usize {
    text.iter().rev().take_while(|b| **b == b'\\').count()
}

/// The inside of a JSON string; `None` when it is not one.
fn unescape(text: &[u8]) -> Option<Cow<'_, [u8]>> {
    let Some(mut at) = memchr::memchr2(b'\\', b'"', text) else { return Some(Cow::Borrowed(text)) };
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    loop {
        out.extend_from_slice(&rest[..at]);
        if rest[at] == b'"' {
            return None;
        }
        let escape = *rest.get(at + 1)?;
        rest = &rest[at + 2..];
        match escape {
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'"' | b'\\' | b'/' => out.push(escape),
            b'u' => {
                let (c, length) = unicode(rest)?;
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                rest = &rest[length..];
            }
            _ => return None,
        }
        match memchr::memchr2(b'\\', b'"', rest) {
            Some(next) => at = next,
            None => break,
        }
    }
    out.extend_from_slice(rest);
    Some(Cow::Owned(out))
}

/// The character after `\u`, and how many bytes it takes.
fn unicode(rest: &[u8]) -> Option<(char, usize)> {
    let hex = |at: usize| {
        let digits = std::str::from_utf8(rest.get(at..at + 4)?).ok()?;
        u32::from_str_radix(digits, 16).ok()
    };
    let first = hex(0)?;
    if !(0xd800..0xdc00).contains(&first) {
        return Some((char::from_u32(first).unwrap_or('\u{fffd}'), 4));
    }
    let second = if rest.get(4..6) == Some(b"\\u") { hex(6) } else { None };
    match second {
        Some(second @ 0xdc00..0xe000) => {
            let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
            Some((char::from_u32(code).unwrap_or('\u{fffd}'), 10))
        }
        _ => Some(('\u{fffd}', 4)),
    }
}

#[derive(Deserialize)]
struct AnyJson<'a> {
    #[serde(borrow)]
    log: Cow<'a, str>,
    stream: Stream,
    #[serde(borrow)]
    time: Cow<'a, str>,
    #[serde(default)]
    attrs: BTreeMap<String, String>,
}

fn parse_any_json(line: &[u8]) -> Option<Record<'_>> {
    let record: AnyJson<'_> = serde_json::from_slice(line).ok()?;
    let ends_line = record.log.ends_with('\n');
    let mut text = match record.log {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    };
    if ends_line {
        match &mut text {
            Cow::Borrowed(text) => *text = &text[..text.len() - 1],
            Cow::Owned(text) => text.truncate(text.len() - 1),
        }
    }
    let time = Time::Text(record.time);
    Some(Record { stream: record.stream, text, ends_line, time, attributes: record.attrs })
}

fn parse_local(line: &[u8]) -> Option<Record<'_>> {
    let (stream, ends_line) = match line.first()? {
        b'o' => (Stream::Stdout, true),
        b'O' => (Stream::Stdout, false),
        b'e' => (Stream::Stderr, true),
        b'E' => (Stream::Stderr, false),
        _ => return None,
    };
    let blank = memchr::memchr(b' ', line)?;
    let nanos = std::str::from_utf8(&line[1..blank]).ok()?.parse().ok()?;
    Some(Record {
        stream,
        text: Cow::Borrowed(&line[blank + 1..]),
        ends_line,
        time: Time::Nanos(nanos),
        attributes: BTreeMap::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn json(log: &str) -> String {
        let log = serde_json::to_string(log).unwrap();
        format!("{{\"log\":{log},\"stream\":\"stderr\",\"time\":\"2026-01-01T00:00:00.5Z\"}}")
    }

    #[test]
    fn both_ways_of_reading_json_agree() {
        for text in
            ["a\n", "a", "", "\n", "a\\n", "a\\\n", "\\", "q\"q\n", "\u{1}\u{fffd}€\u{1f600}\n", "\\\\n"]
        {
            let line = json(text);
            let fast = parse_plain_json(line.as_bytes()).unwrap();
            assert_eq!(Some(&fast), parse_any_json(line.as_bytes()).as_ref(), "{line}");
            assert_eq!(fast.ends_line, text.ends_with('\n'));
        }
        let surrogates =
            br#"{"log":"\ud83d\ude00\ud83dx\n","stream":"stdout","time":"2026-01-01T00:00:00Z"}"#;
        assert_eq!(parse(surrogates, LogFormat::Json).unwrap().text, "😀\u{fffd}x".as_bytes());
    }

    #[test]
    fn attributes_and_other_orders_are_read() {
        let line =
            br#"{"time":"2026-01-01T00:00:00Z","stream":"stdout","attrs":{"b":"2","a":"1"},"log":"x\n"}"#;
        let record = parse(line, LogFormat::Json).unwrap();
        assert_eq!(record.attributes.into_iter().map(|(k, v)| k + &v).collect::<Vec<_>>(), ["a1", "b2"]);
    }

    #[test]
    fn local_records() {
        let record = parse(b"o1500000000 a b", LogFormat::Local).unwrap();
        assert_eq!((&record.text[..], record.ends_line), (&b"a b"[..], true));
        let mut time = Vec::new();
        record.time.push(&mut time);
        assert_eq!(time, b"1970-01-01T00:00:01.500000000Z");
        assert!(!parse(b"E7 part", LogFormat::Local).unwrap().ends_line);
        for bad in [&b""[..], b"o", b"o1", b"x1 a", b"ox a", b"o99999999999999999999 a"] {
            assert_eq!(parse(bad, LogFormat::Local), None);
        }
    }

    proptest! {
        /// Whatever a crash leaves in a file, reading it neither panics nor invents text.
        #[test]
        fn torn_records_are_left_out_or_whole(text in "[ -~]{0,40}", cut in 0_usize..120, format in 0..2) {
            let (line, format) = match format {
                0 => (json(&format!("{text}\n")), LogFormat::Json),
                _ => (format!("o17 {text}"), LogFormat::Local),
            };
            let cut = cut.min(line.len());
            if let Some(record) = parse(&line.as_bytes()[..cut], format) {
                prop_assert!(text.as_bytes().starts_with(&record.text));
                prop_assert!(format == LogFormat::Local || cut == line.len());
            }
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let framed = [b"{\"log\":\"", &bytes[..], b"\",\"stream\":\"stdout\",\"time\":\"2026-01-01T00:00:00Z\"}"].concat();
            for line in [&bytes[..], &framed] {
                for format in [LogFormat::Json, LogFormat::Local] {
                    let _ = parse(line, format);
                    let _ = ends_line(line, format);
                }
            }
        }
    }
}
