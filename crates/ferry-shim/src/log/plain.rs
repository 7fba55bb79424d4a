//! Records of the `local` driver and of the cache beside remote drivers: see [`ferry_shim_proto::log::LogFormat`]. Text is
//! kept as it is, so nothing has to be escaped, and a torn record spoils itself only.

use super::lines::{Line, Stream};

/// Appends a record to `out`.
pub fn encode(line: &Line<'_>, out: &mut Vec<u8>) {
    let whole = line.text.last() == Some(&b'\n');
    let kind = match (line.stream, whole) {
        (Stream::Stdout, true) => b'o',
        (Stream::Stdout, false) => b'O',
        (Stream::Stderr, true) => b'e',
        (Stream::Stderr, false) => b'E',
    };
    out.reserve(line.text.len() + 24);
    out.push(kind);
    push_number(line.nanos, out);
    out.push(b' ');
    out.extend_from_slice(line.text);
    if !whole {
        out.push(b'\n');
    }
}

fn push_number(number: i64, out: &mut Vec<u8>) {
    let mut digits = [0_u8; 20];
    let mut left = number.unsigned_abs();
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    if number < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::lines::Splitter;

    #[test]
    fn a_record_says_stream_time_and_whether_the_line_ends() {
        let mut out = Vec::new();
        let mut splitter = Splitter::new(Stream::Stdout);
        splitter.feed(b"a\xffb\n\nrest", 17, &mut |line| encode(line, &mut out));
        splitter.finish(20, &mut |line| encode(line, &mut out));
        Splitter::new(Stream::Stderr).feed(b"x\n", -5, &mut |line| encode(line, &mut out));
        assert_eq!(out, b"o17 a\xffb\no17 \nO20 rest\ne-5 x\n");
    }
}
