//! Records of Docker's json-file log driver: lines cut out of a byte stream and written as
//! `{"log":"…\n","stream":"stdout","time":"…"}`, byte for byte as Docker's logger writes them.

use memchr::memchr;

/// Docker's line buffer: a longer line becomes several records, only the last ending in `\n`.
const MAX_LINE: usize = 16 * 1024;

/// One of a process' output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output; everything when there is a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// 0 or 1.
    pub fn index(self) -> usize {
        match self {
            Self::Stdout => 0,
            Self::Stderr => 1,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// What follows a record's text. Made once for all lines of one read.
fn tail(stream: Stream, nanos: i64) -> Vec<u8> {
    format!("\",\"stream\":\"{}\",\"time\":\"{}\"}}\n", stream.name(), rfc3339_nano(nanos)).into_bytes()
}

/// Cuts one stream into records.
#[derive(Debug)]
pub struct Splitter {
    stream: Stream,
    /// The beginning of a line whose end has not come yet, less than [`MAX_LINE`] bytes.
    carry: Vec<u8>,
    /// Tail of the first record of a line that already filled one: all its records bear the
    /// same time.
    split: Option<Vec<u8>>,
}

impl Splitter {
    /// A splitter at the start of a line.
    pub fn new(stream: Stream) -> Self {
        Self { stream, carry: Vec::new(), split: None }
    }

    /// Appends to `out` the records that `data` completes. `nanos`: time since the epoch.
    pub fn feed(&mut self, mut data: &[u8], nanos: i64, out: &mut Vec<u8>) {
        let tail = tail(self.stream, nanos);
        while !data.is_empty() {
            let window = data.len().min(MAX_LINE - self.carry.len());
            if let Some(end) = memchr(b'\n', &data[..window]) {
                let (line, rest) = data.split_at(end + 1);
                self.line(line, &tail, out);
                data = rest;
            } else if self.carry.len() + window == MAX_LINE {
                let (part, rest) = data.split_at(window);
                self.carry.extend_from_slice(part);
                let whole = self.carry.len() - incomplete_suffix(&self.carry);
                let tail = self.split.get_or_insert_with(|| tail.clone());
                record(&self.carry[..whole], tail, out);
                self.carry.drain(..whole);
                data = rest;
            } else {
                self.carry.extend_from_slice(data);
                return;
            }
        }
        if self.carry.is_empty() && self.carry.capacity() > 0 {
            self.carry = Vec::new();
        }
    }

    /// Appends the last line when the stream ended without a newline.
    pub fn finish(&mut self, nanos: i64, out: &mut Vec<u8>) {
        if !self.carry.is_empty() {
            let now = tail(self.stream, nanos);
            record(&self.carry, self.split.as_ref().unwrap_or(&now), out);
        }
        self.carry = Vec::new();
        self.split = None;
    }

    fn line(&mut self, line: &[u8], tail: &[u8], out: &mut Vec<u8>) {
        let split = self.split.take();
        let tail = split.as_deref().unwrap_or(tail);
        if self.carry.is_empty() {
            record(line, tail, out);
        } else {
            self.carry.extend_from_slice(line);
            record(&self.carry, tail, out);
            self.carry.clear();
        }
    }
}

fn record(text: &[u8], tail: &[u8], out: &mut Vec<u8>) {
    out.reserve(text.len() + tail.len() + 16);
    out.extend_from_slice(b"{\"log\":\"");
    escape(text, out);
    out.extend_from_slice(tail);
}

/// Length of the unfinished UTF-8 sequence at the end. Docker cuts characters in half at the 16 KiB
/// boundary, which turns them into U+FFFD; keeping them whole costs nothing and only moves that cut.
fn incomplete_suffix(bytes: &[u8]) -> usize {
    for back in 1..=bytes.len().min(3) {
        let byte = bytes[bytes.len() - back];
        let length = match byte {
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            0x80..=0xbf => continue,
            _ => return 0,
        };
        return if back < length { back } else { 0 };
    }
    0
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
fn escape(text: &[u8], out: &mut Vec<u8>) {
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

/// UTC time as Go's `time.RFC3339Nano` prints it: trailing zeros of the fraction are dropped, and the
/// point with them.
pub fn rfc3339_nano(nanos: i64) -> String {
    let seconds = nanos.div_euclid(1_000_000_000);
    let fraction = nanos.rem_euclid(1_000_000_000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let mut text = format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}",
        second / 3600,
        second / 60 % 60,
        second % 60
    );
    if fraction != 0 {
        let digits = format!(".{fraction:09}");
        text.push_str(digits.trim_end_matches('0'));
    }
    text.push('Z');
    text
}

/// Proleptic Gregorian date of a day counted from 1970-01-01.
fn civil(days: i64) -> (i64, i64, i64) {
    // Years are counted from March, so that the leap day is the last of its year.
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: i64 = 1_700_000_000_120_000_000;
    const STAMP: &str = "2023-11-14T22:13:20.12Z";

    fn feed(parts: &[&[u8]], finish: bool) -> String {
        let mut out = Vec::new();
        let mut splitter = Splitter::new(Stream::Stdout);
        for part in parts {
            splitter.feed(part, T, &mut out);
        }
        if finish {
            splitter.finish(T, &mut out);
        }
        String::from_utf8(out).unwrap()
    }

    fn text(log: &str) -> String {
        format!("{{\"log\":\"{log}\",\"stream\":\"stdout\",\"time\":\"{STAMP}\"}}\n")
    }

    #[test]
    fn times_are_written_as_go_does() {
        assert_eq!(rfc3339_nano(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339_nano(T), STAMP);
        assert_eq!(rfc3339_nano(951_827_696_000_000_001), "2000-02-29T12:34:56.000000001Z");
        assert_eq!(rfc3339_nano(-1), "1969-12-31T23:59:59.999999999Z");
        assert_eq!(rfc3339_nano(4_107_542_400_000_000_000), "2100-03-01T00:00:00Z");
    }

    #[test]
    fn escapes_as_go_with_html() {
        let input = b"a\"\\\t\r\x1b\x00<&>\x7f\xe2\x80\xa8\xe2\x80\xa9\xe2\x82\xac\n";
        let expected =
            text("a\\\"\\\\\\u0009\\r\\u001b\\u0000\\u003c\\u0026\\u003e\x7f\\u2028\\u2029\u{20ac}\\n");
        assert_eq!(feed(&[input], false), expected);
    }

    #[test]
    fn every_invalid_byte_becomes_a_replacement() {
        assert_eq!(
            feed(&[b"x\xff\xe2\x82y\xc0\x80\n"], false),
            text("x\\ufffd\\ufffd\\ufffdy\\ufffd\\ufffd\\n")
        );
    }

    #[test]
    fn lines_are_joined_over_reads_and_the_last_one_may_be_open() {
        assert_eq!(
            feed(&[b"ab", b"c\nd", b"", b"\n\n"], true),
            text("abc\\n") + &text("d\\n") + &text("\\n")
        );
        assert_eq!(feed(&[b"ab", b"c"], false), "");
        assert_eq!(feed(&[b"ab", b"c"], true), text("abc"));
    }

    #[test]
    fn long_lines_are_split_at_16_kib_whatever_the_reads() {
        let mut line = vec![b'x'; 20 * 1024];
        line.push(b'\n');
        let expected = text(&"x".repeat(MAX_LINE)) + &text(&("x".repeat(4096) + "\\n"));
        for step in [1, 1000, MAX_LINE - 1, MAX_LINE, MAX_LINE + 1, line.len()] {
            let parts: Vec<&[u8]> = line.chunks(step).collect();
            assert!(feed(&parts, true) == expected, "step {step}");
        }
        let mut exact = vec![b'y'; MAX_LINE - 1];
        exact.push(b'\n');
        assert_eq!(feed(&[&exact], true).lines().count(), 1);
        exact.insert(0, b'y');
        assert_eq!(feed(&[&exact], true), text(&"y".repeat(MAX_LINE)) + &text("\\n"));
    }

    #[test]
    fn a_split_never_cuts_a_character() {
        let mut line = vec![b'x'; MAX_LINE - 1];
        line.extend("€€\n".as_bytes());
        assert_eq!(feed(&[&line], true), text(&"x".repeat(MAX_LINE - 1)) + &text("€€\\n"));
    }
}
