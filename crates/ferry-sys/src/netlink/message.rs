//! Netlink messages as bytes: building several into one buffer, and walking received ones.
//!
//! Layout: netlink(7), `linux/netlink.h` (`struct nlmsghdr`, `struct nlattr`). Everything is in host byte order
//! unless a family says otherwise; messages and attributes are padded to four bytes.

/// `NLM_F_REQUEST` (`linux/netlink.h`).
pub const REQUEST: u16 = 0x1;
/// `NLM_F_ACK`.
pub const ACK: u16 = 0x4;
/// `NLM_F_REPLACE`.
pub const REPLACE: u16 = 0x100;
/// `NLM_F_EXCL`.
pub const EXCL: u16 = 0x200;
/// `NLM_F_CREATE`.
pub const CREATE: u16 = 0x400;
/// `NLM_F_APPEND`.
pub const APPEND: u16 = 0x800;
/// `NLM_F_DUMP`: `NLM_F_ROOT | NLM_F_MATCH`.
pub const DUMP: u16 = 0x300;

/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;
/// Bits of an attribute's type that are flags: `NLA_F_NESTED | NLA_F_NET_BYTEORDER`.
const TYPE_FLAGS: u16 = 0xc000;

pub(crate) const HEADER: usize = 16;

/// Requests that travel in one sendmsg(2) and are executed in order.
#[derive(Debug, Default, Clone)]
pub struct Batch {
    pub(crate) buf: Vec<u8>,
    pub(crate) starts: Vec<usize>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Number of messages.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Size in bytes.
    pub fn bytes(&self) -> usize {
        self.buf.len()
    }

    /// Begins a message of type `kind`; it is complete when the returned value is dropped.
    pub fn message(&mut self, kind: u16, flags: u16) -> Message<'_> {
        let start = self.buf.len();
        self.starts.push(start);
        self.buf.extend_from_slice(&[0; 4]);
        self.buf.extend_from_slice(&kind.to_ne_bytes());
        self.buf.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        self.buf.extend_from_slice(&[0; 8]);
        Message { buf: &mut self.buf, start }
    }

    /// Sets flags of the last message.
    pub(crate) fn flag_last(&mut self, flags: u16) {
        if let Some(&start) = self.starts.last() {
            let at = start + 6;
            let old = u16::from_ne_bytes([self.buf[at], self.buf[at + 1]]);
            self.buf[at..at + 2].copy_from_slice(&(old | flags).to_ne_bytes());
        }
    }

    /// Numbers the messages from `first` on.
    pub(crate) fn number(&mut self, first: u32) {
        for (n, &start) in self.starts.iter().enumerate() {
            let seq = first.wrapping_add(n as u32);
            self.buf[start + 8..start + 12].copy_from_slice(&seq.to_ne_bytes());
        }
    }
}

/// A message under construction.
#[derive(Debug)]
pub struct Message<'a> {
    buf: &'a mut Vec<u8>,
    start: usize,
}

impl Message<'_> {
    /// Appends the family's fixed header.
    pub fn header(&mut self, bytes: &[u8]) -> &mut Self {
        self.buf.extend_from_slice(bytes);
        self.pad();
        self
    }

    /// Appends an attribute.
    pub fn attr(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        self.buf.extend_from_slice(&((value.len() + 4) as u16).to_ne_bytes());
        self.buf.extend_from_slice(&kind.to_ne_bytes());
        self.buf.extend_from_slice(value);
        self.pad();
        self
    }

    /// Appends a 32-bit attribute in host byte order.
    pub fn u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attr(kind, &value.to_ne_bytes())
    }

    /// Appends a 32-bit attribute in network byte order.
    pub fn be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attr(kind, &value.to_be_bytes())
    }

    /// Appends a NUL-terminated string.
    pub fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        self.buf.extend_from_slice(&((value.len() + 5) as u16).to_ne_bytes());
        self.buf.extend_from_slice(&kind.to_ne_bytes());
        self.buf.extend_from_slice(value.as_bytes());
        self.buf.push(0);
        self.pad();
        self
    }

    /// Appends an attribute that holds what `fill` appends.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let at = self.buf.len();
        self.buf.extend_from_slice(&[0; 2]);
        self.buf.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        fill(self);
        let len = (self.buf.len() - at) as u16;
        self.buf[at..at + 2].copy_from_slice(&len.to_ne_bytes());
        self
    }

    fn pad(&mut self) {
        let padded = self.buf.len().next_multiple_of(4);
        self.buf.resize(padded, 0);
    }
}

impl Drop for Message<'_> {
    fn drop(&mut self) {
        let len = (self.buf.len() - self.start) as u32;
        self.buf[self.start..self.start + 4].copy_from_slice(&len.to_ne_bytes());
    }
}

/// A received message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) seq: u32,
    pub(crate) port: u32,
    pub(crate) payload: &'a [u8],
}

/// Splits the first message off a datagram; `None` when what is left is no message.
pub(crate) fn split_message(bytes: &[u8]) -> Option<(Received<'_>, &[u8])> {
    let len = u32_at(bytes, 0)? as usize;
    if len < HEADER || len > bytes.len() {
        return None;
    }
    let message = Received {
        kind: u16_at(bytes, 4)?,
        flags: u16_at(bytes, 6)?,
        seq: u32_at(bytes, 8)?,
        port: u32_at(bytes, 12)?,
        payload: &bytes[HEADER..len],
    };
    Some((message, bytes.get(len.next_multiple_of(4)..).unwrap_or_default()))
}

/// The attributes of a message or of a nested attribute, as type (without flags) and value. Ends at the first
/// malformed one.
#[derive(Debug, Clone)]
pub struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    /// Attributes that fill `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Attributes after a fixed header of `header` bytes.
    pub fn after(payload: &'a [u8], header: usize) -> Self {
        Self(payload.get(header.next_multiple_of(4)..).unwrap_or_default())
    }

    /// The first attribute of this type.
    pub fn find(&self, kind: u16) -> Option<&'a [u8]> {
        self.clone().find_map(|(k, v)| (k == kind).then_some(v))
    }

    /// The attributes nested in the first one of this type; none when there is no such.
    pub fn nested(&self, kind: u16) -> Self {
        Self(self.find(kind).unwrap_or_default())
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let len = u16_at(self.0, 0)? as usize;
        let kind = u16_at(self.0, 2)? & !TYPE_FLAGS;
        let value = self.0.get(4..len)?;
        self.0 = self.0.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

/// A NUL-terminated string attribute.
pub fn text(value: &[u8]) -> String {
    let end = value.iter().position(|&b| b == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

/// A 16-bit integer in host byte order at an offset.
pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// A 32-bit integer in host byte order at an offset.
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_is_parsed() {
        let mut batch = Batch::new();
        batch.message(16, CREATE).header(&[1, 2, 3]).text(3, "eth0").nest(18, |m| {
            m.u32(1, 7).attr(2, &[9]);
        });
        batch.message(17, 0).header(&[0; 4]);
        batch.number(5);
        batch.flag_last(ACK);
        let (first, rest) = split_message(&batch.buf).unwrap();
        assert_eq!((first.kind, first.flags, first.seq), (16, CREATE | REQUEST, 5));
        let attrs = Attributes::after(first.payload, 3);
        assert_eq!(text(attrs.find(3).unwrap()), "eth0");
        let inner = attrs.nested(18);
        assert_eq!(inner.find(1), Some(&7_u32.to_ne_bytes()[..]));
        assert_eq!(inner.find(2), Some(&[9_u8][..]));
        let (second, rest) = split_message(rest).unwrap();
        assert_eq!((second.kind, second.flags, second.seq), (17, ACK | REQUEST, 6));
        assert!(rest.is_empty());
    }

    #[test]
    fn malformed_bytes_end_the_walk() {
        assert!(split_message(&[0; 15]).is_none());
        assert!(split_message(&[8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).is_none());
        assert!(split_message(&[255, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).is_none());
        for bad in [&[0_u8, 0, 1, 0][..], &[3, 0, 1, 0], &[9, 0, 1, 0, 0, 0, 0, 0], &[4]] {
            assert_eq!(Attributes::new(bad).count(), 0, "{bad:?}");
        }
    }
}
