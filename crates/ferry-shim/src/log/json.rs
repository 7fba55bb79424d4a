//! Docker's json-file records, `{"log":"…\n","stream":"stdout","time":"…"}`, byte for byte as Docker's logger writes them.

use super::lines::{Line, Stream};
use super::stamp::rfc3339_nano;

/// Writes records.
#[derive(Debug, Default)]
pub struct JsonEncoder {
    /// What stands between stream and time: `,"attrs":{…}`, or nothing.
    attributes: String,
    /// What follows a record's text, per stream, and the time it holds: all lines of one read share it.
    tails: [(i64, Vec<u8>); 2],
}

impl JsonEncoder {
    /// An encoder that adds the attributes, a JSON object, to each record.
    pub fn new(attributes: &str) -> Self {
        let attributes =
            if attributes.is_empty() { String::new() } else { format!(",\"attrs\":{attributes}") };
        Self { attributes, tails: Default::default() }
    }

    /// Appends a record to `out`.
    pub fn encode(&mut self, line: &Line<'_>, out: &mut Vec<u8>) {
        let (nanos, tail) = &mut self.tails[line.stream.index()];
        if tail.is_empty() || *nanos != line.nanos {
            *nanos = line.nanos;
            *tail = tail_of(line.stream, line.nanos, &self.attributes);
        }
        out.reserve(line.text.len() + tail.len() + 16);
        out.extend_from_slice(b"{\"log\":\"");
        escape(line.text, out);
        out.extend_from_slice(tail);
    }
}

fn tail_of(stream: Stream, nanos: i64, attributes: &str) -> Vec<u8> {
    format!("\",\"stream\":\"{}\"{attributes},\"time\":\"{}\"}}\n", stream.name(), rfc3339_nano(nanos))
        .into_bytes()
}

/// Bytes that cannot be copied as they are, or (0xe2) may begin a character that cannot.
static SPECIAL: [bool; 256] = {
    let mut table = [false; 256];
    let mut i = 0;
    while i < 0x20 {
        table[i] = true;
        i += 1;
    }
    let also = [b'"', b'\\', b'<', b'>', b'&', 0xe2];
    i = 0;
    while i < also.len() {
        table[also[i] as usize] = true;
        i += 1;
    }
    table
};

/// The text as the inside of a JSON string, escaped as Go's encoder does with its HTML escapes.
pub fn escape(text: &[u8], out: &mut Vec<u8>) {
    if text.is_ascii() {
        return escape_valid(text, out);
    }
    for chunk in text.utf8_chunks() {
        escape_valid(chunk.valid().as_bytes(), out);
        // Go replaces every single byte of a bad sequence.
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
}

fn escape_valid(mut text: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    while let Some(at) = text.iter().position(|&b| SPECIAL[usize::from(b)]) {
        let (plain, rest) = text.split_at(at);
        out.extend_from_slice(plain);
        let byte = rest[0];
        let mut used = 1;
        match byte {
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0xe2 => match rest.get(1..3) {
                Some([0x80, last @ (0xa8 | 0xa9)]) => {
                    out.extend_from_slice(b"\\u202");
                    out.push(HEX[usize::from(last & 0xf)]);
                    used = 3;
                }
                _ => out.push(byte),
            },
            _ => {
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(byte >> 4)]);
                out.push(HEX[usize::from(byte & 0xf)]);
            }
        }
        text = &rest[used..];
    }
    out.extend_from_slice(text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::lines::Splitter;

    const T: i64 = 1_700_000_000_120_000_000;
    const STAMP: &str = "2023-11-14T22:13:20.12Z";

    fn encode(text: &[u8], attributes: &str) -> String {
        let (mut encoder, mut out) = (JsonEncoder::new(attributes), Vec::new());
        Splitter::new(Stream::Stdout).feed(text, T, &mut |line| encoder.encode(line, &mut out));
        String::from_utf8(out).unwrap()
    }

    fn text(log: &str) -> String {
        format!("{{\"log\":\"{log}\",\"stream\":\"stdout\",\"time\":\"{STAMP}\"}}\n")
    }

    #[test]
    fn escapes_as_go_with_html() {
        let input = b"a\"\\\t\r\x1b\x00<&>\x7f\xe2\x80\xa8\xe2\x80\xa9\xe2\x82\xac\n";
        let expected =
            text("a\\\"\\\\\\u0009\\r\\u001b\\u0000\\u003c\\u0026\\u003e\x7f\\u2028\\u2029\u{20ac}\\n");
        assert_eq!(encode(input, ""), expected);
    }

    #[test]
    fn every_invalid_byte_becomes_a_replacement() {
        assert_eq!(encode(b"x\xff\xe2\x82y\xc0\x80\n", ""), text("x\\ufffd\\ufffd\\ufffdy\\ufffd\\ufffd\\n"));
    }

    #[test]
    fn attributes_stand_before_the_time() {
        assert_eq!(
            encode(b"a\n", r#"{"tag":"x"}"#),
            format!(
                "{{\"log\":\"a\\n\",\"stream\":\"stdout\",\"attrs\":{{\"tag\":\"x\"}},\"time\":\"{STAMP}\"}}\n"
            )
        );
    }
}
