//! Fluentd's forward protocol v1, "message mode": `[tag, time, record, option]` in MessagePack.

use super::Fixed;
use crate::log::lines::Line;
use crate::log::remote::Message;

/// The beginning of every message up to the tag, and the members of the record that never change.
pub fn fixed(tag: &str, record: &[(String, String)]) -> Fixed {
    let mut fixed = Fixed { head: vec![0x94], count: record.len(), ..Fixed::default() };
    string(tag.as_bytes(), &mut fixed.head);
    for (key, value) in record {
        string(key.as_bytes(), &mut fixed.members);
        string(value.as_bytes(), &mut fixed.members);
    }
    fixed
}

/// A message. With a `chunk` the service has to acknowledge it.
pub fn encode(
    fixed: &Fixed,
    line: &Line<'_>,
    sub_second: bool,
    chunk: Option<String>,
    part_id: String,
) -> Message {
    let mut out = Vec::with_capacity(fixed.head.len() + fixed.members.len() + line.text.len() + 128);
    out.extend_from_slice(&fixed.head);
    let seconds = line.nanos.div_euclid(1_000_000_000);
    if sub_second {
        // EventTime: extension type 0 of eight bytes.
        out.extend_from_slice(&[0xd7, 0]);
        out.extend_from_slice(&(seconds as u32).to_be_bytes());
        out.extend_from_slice(&(line.nanos.rem_euclid(1_000_000_000) as u32).to_be_bytes());
    } else if let Ok(seconds) = i32::try_from(seconds) {
        out.push(0xd2);
        out.extend_from_slice(&seconds.to_be_bytes());
    } else {
        out.push(0xd3);
        out.extend_from_slice(&seconds.to_be_bytes());
    }
    map(fixed.count + 2 + if line.part.is_some() { 4 } else { 0 }, &mut out);
    out.extend_from_slice(&fixed.members);
    let mut member = |key: &str, value: &[u8]| {
        string(key.as_bytes(), &mut out);
        string(value, &mut out);
    };
    member("source", line.stream.name().as_bytes());
    member("log", line.bare());
    if let Some(part) = line.part {
        member("partial_message", b"true");
        member("partial_id", part_id.as_bytes());
        member("partial_ordinal", part.ordinal.to_string().as_bytes());
        member("partial_last", part.last.to_string().as_bytes());
    }
    match &chunk {
        Some(chunk) => {
            map(1, &mut out);
            string(b"chunk", &mut out);
            string(chunk.as_bytes(), &mut out);
        }
        None => map(0, &mut out),
    }
    Message { pieces: vec![out], acknowledgement: chunk }
}

/// Whether bytes a service sent contain the acknowledgement `{"ack": chunk}` and nothing is missing of it.
pub fn acknowledged(bytes: &[u8], chunk: &str) -> bool {
    let mut expected = Vec::new();
    string(b"ack", &mut expected);
    string(chunk.as_bytes(), &mut expected);
    memchr::memmem::find(bytes, &expected).is_some()
}

fn string(text: &[u8], out: &mut Vec<u8>) {
    match text.len() {
        n @ 0..=31 => out.push(0xa0 | n as u8),
        n @ 32..=0xff => out.extend_from_slice(&[0xd9, n as u8]),
        n @ 0x100..=0xffff => {
            out.push(0xda);
            out.extend_from_slice(&(n as u16).to_be_bytes());
        }
        n => {
            out.push(0xdb);
            out.extend_from_slice(&(n as u32).to_be_bytes());
        }
    }
    out.extend_from_slice(text);
}

fn map(members: usize, out: &mut Vec<u8>) {
    match members {
        n @ 0..=15 => out.push(0x80 | n as u8),
        n => {
            out.push(0xde);
            out.extend_from_slice(&(n as u16).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::lines::{Part, Stream};

    fn line(part: Option<Part>) -> Line<'static> {
        Line { stream: Stream::Stdout, text: b"hi\n", nanos: 1_500_000_000, part }
    }

    #[test]
    fn a_message() {
        let fixed = fixed("t", &[("k".to_owned(), "v".to_owned())]);
        let message = encode(&fixed, &line(None), false, None, String::new());
        assert_eq!(
            message.pieces.concat(),
            b"\x94\xa1t\xd2\0\0\0\x01\x83\xa1k\xa1v\xa6source\xa6stdout\xa3log\xa2hi\x80"
        );
        let message = encode(&fixed, &line(None), true, None, String::new());
        assert!(message.pieces.concat().starts_with(b"\x94\xa1t\xd7\0\0\0\0\x01\x1d\xcd\x65\0\x83"));
    }

    #[test]
    fn parts_and_acknowledgements() {
        let fixed = fixed("t", &[]);
        let part = Some(Part { ordinal: 3, last: false });
        let message = encode(&fixed, &line(part), false, Some("c".repeat(32)), "id".to_owned());
        let bytes = message.pieces.concat();
        assert!(bytes.contains(&0x86) && memchr::memmem::find(&bytes, b"\xafpartial_ordinal\xa13").is_some());
        assert!(memchr::memmem::find(&bytes, b"\x81\xa5chunk\xd9\x20cccc").is_some());
        assert!(!acknowledged(b"\x81\xa3ack\xd9\x20ccc", &"c".repeat(32)));
        let answer = [&b"\x81\xa3ack\xd9\x20"[..], "c".repeat(32).as_bytes()].concat();
        assert!(acknowledged(&answer, &"c".repeat(32)));
    }

    #[test]
    fn lengths_choose_the_form() {
        for (length, head) in
            [(31, &b"\xbf"[..]), (32, b"\xd9\x20"), (256, b"\xda\x01\0"), (65_536, b"\xdb\0\x01\0\0")]
        {
            let mut out = Vec::new();
            string(&vec![b'x'; length], &mut out);
            assert!(out.starts_with(head) && out.len() == head.len() + length, "{length}");
        }
    }
}
