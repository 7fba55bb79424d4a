//! Graylog's extended log format 1.1, and its chunked, compressed datagrams.

use std::io::Write;

use ferry_shim_proto::log::GelfCompression;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};

use crate::log::json::escape;
use crate::log::lines::{Line, Stream};
use crate::log::remote::Message;

/// Largest datagram sent, and what a chunk of one that would be larger carries; the figures of Graylog's own writer.
const DATAGRAM: usize = 1420;
const HEADER: usize = 12;
const CHUNK: usize = DATAGRAM - HEADER;
/// Most chunks of one message.
const MOST_CHUNKS: usize = 128;

/// A message as JSON. Docker sends no empty lines.
pub fn json(hostname: &str, extra: &str, line: &Line<'_>) -> Option<Vec<u8>> {
    let text = line.bare();
    if text.is_empty() {
        return None;
    }
    let mut out = Vec::with_capacity(text.len() + extra.len() + 160);
    out.extend_from_slice(b"{\"version\":\"1.1\",\"host\":\"");
    escape(hostname.as_bytes(), &mut out);
    out.extend_from_slice(b"\",\"short_message\":\"");
    escape(text, &mut out);
    let level = match line.stream {
        Stream::Stdout => 6,
        Stream::Stderr => 3,
    };
    let millis = line.nanos.div_euclid(1_000_000);
    let (seconds, fraction) = (millis.div_euclid(1000), millis.rem_euclid(1000));
    let time = match fraction {
        0 => seconds.to_string(),
        _ => format!("{seconds}.{}", format!("{fraction:03}").trim_end_matches('0')),
    };
    out.extend_from_slice(format!("\",\"timestamp\":{time},\"level\":{level}").as_bytes());
    if !extra.is_empty() {
        out.push(b',');
        out.extend_from_slice(extra.as_bytes());
    }
    out.push(b'}');
    Some(out)
}

/// Compresses a message.
pub fn compress(text: Vec<u8>, compression: GelfCompression, level: u32) -> Vec<u8> {
    let level = Compression::new(level.min(9));
    let packed = match compression {
        GelfCompression::None => return text,
        GelfCompression::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), level);
            encoder.write_all(&text).and_then(|()| encoder.finish())
        }
        GelfCompression::Zlib => {
            let mut encoder = ZlibEncoder::new(Vec::new(), level);
            encoder.write_all(&text).and_then(|()| encoder.finish())
        }
    };
    // A vector takes everything, so there is no failure; receivers tell the three forms apart.
    packed.unwrap_or(text)
}

/// Cuts what is too large for a datagram into chunks. What needs more than 128 cannot be sent and has no pieces.
pub fn datagrams(bytes: Vec<u8>, id: u64) -> Message {
    if bytes.len() <= DATAGRAM {
        return Message::one(bytes);
    }
    let count = bytes.len().div_ceil(CHUNK);
    if count > MOST_CHUNKS {
        return Message::default();
    }
    let chunk = |(number, data): (usize, &[u8])| {
        let mut piece = Vec::with_capacity(HEADER + data.len());
        piece.extend_from_slice(&[0x1e, 0x0f]);
        piece.extend_from_slice(&id.to_be_bytes());
        piece.extend_from_slice(&[number as u8, count as u8]);
        piece.extend_from_slice(data);
        piece
    };
    Message { pieces: bytes.chunks(CHUNK).enumerate().map(chunk).collect(), ..Message::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message() {
        let line =
            Line { stream: Stream::Stderr, text: b"a\"b\n", nanos: 1_700_000_000_120_456_789, part: None };
        let text = String::from_utf8(json("h", "\"_x\":1", &line).unwrap()).unwrap();
        assert_eq!(
            text,
            r#"{"version":"1.1","host":"h","short_message":"a\"b","timestamp":1700000000.12,"level":3,"_x":1}"#
        );
        let empty = Line { text: b"\n", ..line };
        assert!(json("h", "", &empty).is_none());
    }

    #[test]
    fn large_messages_are_chunked() {
        assert_eq!(datagrams(vec![1; DATAGRAM], 5).pieces.len(), 1);
        let pieces = datagrams((0..3000).map(|i| i as u8).collect(), 0x0102_0304_0506_0708).pieces;
        assert_eq!(pieces.len(), 3);
        assert_eq!(pieces[1][..12], [0x1e, 0x0f, 1, 2, 3, 4, 5, 6, 7, 8, 1, 3]);
        let joined: Vec<u8> = pieces.iter().flat_map(|p| p[HEADER..].to_vec()).collect();
        assert_eq!(joined, (0..3000).map(|i| i as u8).collect::<Vec<_>>());
        assert!(datagrams(vec![0; CHUNK * 129], 1).pieces.is_empty());
    }
}
