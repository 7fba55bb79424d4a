//! Lines cut out of a byte stream.

use memchr::memchr;

/// Docker's line buffer: a longer line becomes several entries, only the last ending in `\n`.
pub const MAX_LINE: usize = 16 * 1024;

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

    /// As logs name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// A line, or a part of one that is longer than [`MAX_LINE`].
#[derive(Debug, Clone, Copy)]
pub struct Line<'a> {
    /// Where it was written.
    pub stream: Stream,
    /// With its newline, which the last line of a stream may lack.
    pub text: &'a [u8],
    /// When its beginning was read, since the epoch.
    pub nanos: i64,
    /// Set for parts of a long line.
    pub part: Option<Part>,
}

impl<'a> Line<'a> {
    /// The text without its newline.
    pub fn bare(&self) -> &'a [u8] {
        self.text.strip_suffix(b"\n").unwrap_or(self.text)
    }
}

/// Which part of a long line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// From 1.
    pub ordinal: u32,
    /// Whether the line ends with it.
    pub last: bool,
}

/// Cuts one stream into lines.
#[derive(Debug)]
pub struct Splitter {
    stream: Stream,
    /// The beginning of a line whose end has not come yet, less than [`MAX_LINE`] bytes.
    carry: Vec<u8>,
    /// Time and number of parts of a line that is already longer than one: all its parts bear the same time.
    split: Option<(i64, u32)>,
}

impl Splitter {
    /// A splitter at the start of a line.
    pub fn new(stream: Stream) -> Self {
        Self { stream, carry: Vec::new(), split: None }
    }

    /// Hands the lines that `data` completes to `each`. `nanos`: time since the epoch.
    pub fn feed(&mut self, mut data: &[u8], nanos: i64, each: &mut impl FnMut(&Line<'_>)) {
        while !data.is_empty() {
            let window = data.len().min(MAX_LINE - self.carry.len());
            if let Some(end) = memchr(b'\n', &data[..window]) {
                let (line, rest) = data.split_at(end + 1);
                self.line(line, nanos, each);
                data = rest;
            } else if self.carry.len() + window == MAX_LINE {
                let (part, rest) = data.split_at(window);
                self.carry.extend_from_slice(part);
                let whole = self.carry.len() - incomplete_suffix(&self.carry);
                let (begun, parts) = self.split.get_or_insert((nanos, 0));
                *parts += 1;
                let part = Some(Part { ordinal: *parts, last: false });
                each(&Line { stream: self.stream, text: &self.carry[..whole], nanos: *begun, part });
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

    /// Hands over the last line when the stream ended without a newline.
    pub fn finish(&mut self, nanos: i64, each: &mut impl FnMut(&Line<'_>)) {
        if !self.carry.is_empty() {
            let (nanos, part) = self.end_of_parts(nanos);
            each(&Line { stream: self.stream, text: &self.carry, nanos, part });
        }
        self.carry = Vec::new();
        self.split = None;
    }

    fn line(&mut self, line: &[u8], nanos: i64, each: &mut impl FnMut(&Line<'_>)) {
        let (nanos, part) = self.end_of_parts(nanos);
        if self.carry.is_empty() {
            each(&Line { stream: self.stream, text: line, nanos, part });
        } else {
            self.carry.extend_from_slice(line);
            each(&Line { stream: self.stream, text: &self.carry, nanos, part });
            self.carry.clear();
        }
    }

    fn end_of_parts(&mut self, nanos: i64) -> (i64, Option<Part>) {
        match self.split.take() {
            Some((begun, parts)) => (begun, Some(Part { ordinal: parts + 1, last: true })),
            None => (nanos, None),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(parts: &[&[u8]], finish: bool) -> Vec<(String, Option<Part>, i64)> {
        let mut out = Vec::new();
        let mut each = |line: &Line<'_>| {
            out.push((String::from_utf8_lossy(line.text).into_owned(), line.part, line.nanos))
        };
        let mut splitter = Splitter::new(Stream::Stdout);
        for (at, part) in parts.iter().enumerate() {
            splitter.feed(part, at as i64, &mut each);
        }
        if finish {
            splitter.finish(99, &mut each);
        }
        out
    }

    fn texts(parts: &[&[u8]], finish: bool) -> Vec<String> {
        feed(parts, finish).into_iter().map(|(text, _, _)| text).collect()
    }

    #[test]
    fn lines_are_joined_over_reads_and_the_last_one_may_be_open() {
        assert_eq!(texts(&[b"ab", b"c\nd", b"", b"\n\n"], true), ["abc\n", "d\n", "\n"]);
        assert!(texts(&[b"ab", b"c"], false).is_empty());
        assert_eq!(texts(&[b"ab", b"c"], true), ["abc"]);
    }

    #[test]
    fn long_lines_are_split_at_16_kib_whatever_the_reads() {
        let mut line = vec![b'x'; 20 * 1024];
        line.push(b'\n');
        let expected = ["x".repeat(MAX_LINE), "x".repeat(4096) + "\n"];
        for step in [1, 1000, MAX_LINE - 1, MAX_LINE, MAX_LINE + 1, line.len()] {
            let parts: Vec<&[u8]> = line.chunks(step).collect();
            assert!(texts(&parts, true) == expected, "step {step}");
        }
        let mut exact = vec![b'y'; MAX_LINE - 1];
        exact.push(b'\n');
        assert_eq!(texts(&[&exact], true).len(), 1);
        exact.insert(0, b'y');
        assert_eq!(texts(&[&exact], true), ["y".repeat(MAX_LINE), "\n".to_owned()]);
    }

    #[test]
    fn parts_are_counted_and_bear_the_time_of_the_first() {
        let long = vec![b'x'; 2 * MAX_LINE];
        let got = feed(&[b"a\n", &long, b"z\nb\n"], false);
        let parts: Vec<_> =
            got.iter().map(|(_, part, nanos)| (part.map(|p| (p.ordinal, p.last)), *nanos)).collect();
        assert_eq!(
            parts,
            [(None, 0), (Some((1, false)), 1), (Some((2, false)), 1), (Some((3, true)), 1), (None, 2)]
        );
    }

    #[test]
    fn a_split_never_cuts_a_character() {
        let mut line = vec![b'x'; MAX_LINE - 1];
        line.extend("€€\n".as_bytes());
        assert_eq!(texts(&[&line], true), ["x".repeat(MAX_LINE - 1), "€€\n".to_owned()]);
    }
}
