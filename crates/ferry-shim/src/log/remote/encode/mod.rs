//! From a line to what a log service expects.

mod fluentd;
mod gelf;
mod journald;
mod syslog;

use ferry_shim_proto::log::{LogEncoding, LogTarget};

use super::Message;
use crate::log::lines::Line;

pub use fluentd::acknowledged;

/// Writes messages of one protocol.
#[derive(Debug)]
pub struct Encoder {
    encoding: LogEncoding,
    /// Whether messages are datagrams.
    datagrams: bool,
    /// Numbers the messages of this run.
    ordinal: u64,
    /// Tells this run's messages from those of others.
    epoch: u64,
    fixed: Fixed,
}

/// What is the same in every message, in the protocol's own form.
#[derive(Debug, Default)]
pub struct Fixed {
    /// The message's beginning.
    pub head: Vec<u8>,
    /// Further members or fields, one after the other.
    pub members: Vec<u8>,
    /// How many.
    pub count: usize,
}

impl Encoder {
    /// An encoder for a target.
    pub fn new(encoding: LogEncoding, target: &LogTarget, epoch: u64) -> Self {
        let fixed = match &encoding {
            LogEncoding::Journald { fields } => journald::fixed(fields),
            LogEncoding::Fluentd { tag, record, .. } => fluentd::fixed(tag, record),
            LogEncoding::Syslog { .. } | LogEncoding::Gelf { .. } => Fixed::default(),
        };
        let datagrams = matches!(target, LogTarget::Udp(_) | LogTarget::UnixDatagram(_));
        Self { encoding, datagrams, ordinal: 0, epoch, fixed }
    }

    /// The message for a line; `None` when the protocol has none for it.
    pub fn encode(&mut self, line: &Line<'_>) -> Option<Message> {
        self.ordinal += 1;
        match &self.encoding {
            LogEncoding::Syslog { layout, facility, tag, hostname, utc_offset } => {
                syslog::encode(*layout, *facility, tag, hostname, *utc_offset, line)
            }
            LogEncoding::Gelf { hostname, extra, compression, level } => {
                let text = gelf::json(hostname, extra, line)?;
                if !self.datagrams {
                    return Some(Message::one([&text[..], b"\0"].concat()));
                }
                let id = self.epoch.wrapping_add(self.ordinal.rotate_left(40));
                Some(gelf::datagrams(gelf::compress(text, *compression, *level), id))
            }
            LogEncoding::Fluentd { sub_second, acknowledge, .. } => {
                let chunk = acknowledge.then(|| format!("{:016x}{:016x}", self.epoch, self.ordinal));
                Some(fluentd::encode(&self.fixed, line, *sub_second, chunk, self.part_id(line)))
            }
            LogEncoding::Journald { .. } => {
                Some(journald::encode(&self.fixed, line, self.ordinal, &self.part_id(line)))
            }
        }
    }

    /// What the parts of a long line have in common; 64 hexadecimal digits, as Docker's ids.
    fn part_id(&self, line: &Line<'_>) -> String {
        match line.part {
            Some(_) => format!("{:032x}{:016x}{:016x}", line.stream.index(), self.epoch, line.nanos),
            None => String::new(),
        }
    }
}
