//! syslog messages as Docker's driver lays them out (RFC 3164, RFC 5424).

use ferry_shim_proto::log::SyslogLayout;

use crate::log::lines::{Line, Stream};
use crate::log::remote::Message;
use crate::log::stamp;

/// RFC 5424, 6.2.1.
const INFO: u8 = 6;
const ERROR: u8 = 3;

/// Docker sends no empty lines.
pub fn encode(
    layout: SyslogLayout,
    facility: u8,
    tag: &str,
    hostname: &str,
    utc_offset: i32,
    line: &Line<'_>,
) -> Option<Message> {
    let text = line.bare();
    if text.is_empty() {
        return None;
    }
    let severity = match line.stream {
        Stream::Stdout => INFO,
        Stream::Stderr => ERROR,
    };
    let priority = facility | severity;
    let pid = std::process::id();
    let head = match layout {
        SyslogLayout::Unix => {
            format!("<{priority}>{} {tag}[{pid}]: ", stamp::bsd(line.nanos, utc_offset))
        }
        SyslogLayout::Rfc3164 => {
            format!("<{priority}>{} {hostname} {tag}[{pid}]: ", stamp::bsd(line.nanos, utc_offset))
        }
        SyslogLayout::Rfc5424 | SyslogLayout::Rfc5424Micro => {
            let micros = layout == SyslogLayout::Rfc5424Micro;
            let time = stamp::rfc3339(line.nanos, utc_offset, micros);
            format!("<{priority}>1 {time} {hostname} {tag} {pid} {tag} - ")
        }
    };
    Some(Message::one([head.as_bytes(), text, b"\n"].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(layout: SyslogLayout, stream: Stream, text: &[u8]) -> Option<String> {
        let line = Line { stream, text, nanos: 1_701_468_001_120_000_000, part: None };
        let message = encode(layout, 24, "tag", "host", 0, &line)?;
        let pid = format!("{}", std::process::id());
        Some(String::from_utf8(message.pieces.concat()).unwrap().replace(&pid, "PID"))
    }

    #[test]
    fn layouts() {
        use SyslogLayout::{Rfc3164, Rfc5424, Rfc5424Micro, Unix};
        let of = |layout, stream| text(layout, stream, b"a b\n").unwrap();
        assert_eq!(of(Unix, Stream::Stdout), "<30>Dec  1 22:00:01 tag[PID]: a b\n");
        assert_eq!(of(Rfc3164, Stream::Stderr), "<27>Dec  1 22:00:01 host tag[PID]: a b\n");
        assert_eq!(of(Rfc5424, Stream::Stdout), "<30>1 2023-12-01T22:00:01Z host tag PID tag - a b\n");
        assert_eq!(
            of(Rfc5424Micro, Stream::Stdout),
            "<30>1 2023-12-01T22:00:01.120000Z host tag PID tag - a b\n"
        );
        assert_eq!(text(Unix, Stream::Stdout, b"\n"), None);
    }
}
