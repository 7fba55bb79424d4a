//! Entries of the journal's native protocol (systemd's `JOURNAL_NATIVE_PROTOCOL`): a field is `NAME=value` and a newline,
//! or, when the value contains one, the name, a newline, the value's length as 64 bits little-endian, the value, a newline.

use super::Fixed;
use crate::log::lines::{Line, Stream};
use crate::log::remote::Message;
use crate::log::stamp::rfc3339_nano;

/// The fields every entry has.
pub fn fixed(fields: &[(String, String)]) -> Fixed {
    let mut members = Vec::new();
    for (name, value) in fields.iter().filter(|(name, _)| !name.is_empty()) {
        field(name, value.as_bytes(), &mut members);
    }
    Fixed { members, count: fields.len(), ..Fixed::default() }
}

/// An entry.
pub fn encode(fixed: &Fixed, line: &Line<'_>, ordinal: u64, part_id: &str) -> Message {
    let mut out = Vec::with_capacity(fixed.members.len() + line.text.len() + 128);
    let priority: &[u8] = match line.stream {
        Stream::Stdout => b"6",
        Stream::Stderr => b"3",
    };
    field("PRIORITY", priority, &mut out);
    field("MESSAGE", line.bare(), &mut out);
    out.extend_from_slice(&fixed.members);
    field("SYSLOG_TIMESTAMP", rfc3339_nano(line.nanos).as_bytes(), &mut out);
    field("CONTAINER_LOG_ORDINAL", ordinal.to_string().as_bytes(), &mut out);
    if let Some(part) = line.part {
        field("CONTAINER_PARTIAL_ID", part_id.as_bytes(), &mut out);
        field("CONTAINER_PARTIAL_ORDINAL", part.ordinal.to_string().as_bytes(), &mut out);
        field("CONTAINER_PARTIAL_LAST", part.last.to_string().as_bytes(), &mut out);
        if !part.last {
            field("CONTAINER_PARTIAL_MESSAGE", b"true", &mut out);
        }
    }
    Message::one(out)
}

fn field(name: &str, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    if value.contains(&b'\n') {
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::lines::Part;

    #[test]
    fn fields_with_newlines_carry_their_length() {
        let fixed = fixed(&[("A".to_owned(), "b".to_owned()), ("C".to_owned(), "d\ne".to_owned())]);
        assert_eq!(fixed.members, b"A=b\nC\n\x03\0\0\0\0\0\0\0d\ne\n");
    }

    #[test]
    fn an_entry() {
        let line = Line {
            stream: Stream::Stderr,
            text: b"oops\n",
            nanos: 0,
            part: Some(Part { ordinal: 2, last: true }),
        };
        let text = String::from_utf8(
            encode(&fixed(&[("A".to_owned(), "b".to_owned())]), &line, 7, "id").pieces.concat(),
        )
        .unwrap();
        assert_eq!(
            text,
            "PRIORITY=3\nMESSAGE=oops\nA=b\nSYSLOG_TIMESTAMP=1970-01-01T00:00:00Z\nCONTAINER_LOG_ORDINAL=7\n\
             CONTAINER_PARTIAL_ID=id\nCONTAINER_PARTIAL_ORDINAL=2\nCONTAINER_PARTIAL_LAST=true\n"
        );
    }
}
