//! The messages between the caller and the container's first process, over a `SOCK_SEQPACKET` pair.
//! Both ends are this program, so the encoding is free to change. The pair is close-on-exec: the
//! caller sees its end close when `execve` succeeds.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

use crate::error::At;
use crate::{Error, Stage};

/// Longest text of an error that is carried over; the rest is cut.
const MAX_TEXT: usize = 4000;

/// What one side tells the other.
#[derive(Debug)]
pub(crate) enum Message {
    /// To the child: its uid and gid maps are written.
    Mapped,
    /// To the child: it is in its control group, with all limits in place.
    Grouped,
    /// To the caller: namespaces exist, the hooks of the runtime's namespace may run.
    Unshared,
    /// To the child: they have run.
    HooksDone,
    /// To the caller: everything is set up; with the terminal's master or the seccomp listener.
    Ready,
    /// To the child: execute the program.
    Start,
    /// To the caller: the end.
    Failed(Error),
}

/// One end of the pair.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

impl Channel {
    /// Both ends.
    pub fn pair() -> Result<(Channel, Channel), Error> {
        let (a, b) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .at(Stage::Channel, || "socketpair".to_owned())?;
        Ok((Channel(a), Channel(b)))
    }

    pub fn from_fd(fd: OwnedFd) -> Channel {
        Channel(fd)
    }

    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Sends a message, with descriptors if any.
    pub fn send(&self, message: &Message, fds: &[BorrowedFd<'_>]) -> Result<(), Error> {
        let mut bytes = Vec::with_capacity(64);
        encode(message, &mut bytes);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(Error::system(Stage::Channel, "send descriptors", Errno::NOBUFS));
        }
        loop {
            match sendmsg(&self.0, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => {
                    return Err(Error::system(Stage::Channel, "send to the container's init", errno));
                }
            }
        }
    }

    /// Waits for a message; `None` when the other end closed.
    pub fn recv(&self) -> Result<Option<(Message, Vec<OwnedFd>)>, Error> {
        let mut bytes = [0u8; MAX_TEXT + 16];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let len = loop {
            let mut slices = [IoSliceMut::new(&mut bytes)];
            match recvmsg(&self.0, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Ok(message) => break message.bytes,
                Err(Errno::INTR) => {}
                // A reset is how a dead peer with unread messages looks.
                Err(Errno::CONNRESET) => return Ok(None),
                Err(errno) => {
                    return Err(Error::system(Stage::Channel, "receive from the container's init", errno));
                }
            }
        };
        let mut fds = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        if len == 0 {
            return Ok(None);
        }
        let message = decode(bytes.get(..len).unwrap_or_default()).ok_or_else(|| {
            Error::system(Stage::Channel, "receive from the container's init", Errno::BADMSG)
        })?;
        Ok(Some((message, fds)))
    }

    /// Waits for one particular message.
    pub fn expect(&self, wanted: fn(&Message) -> bool) -> Result<Vec<OwnedFd>, Error> {
        match self.recv()? {
            Some((Message::Failed(error), _)) => Err(error),
            Some((message, fds)) if wanted(&message) => Ok(fds),
            Some(_) => Err(Error::system(Stage::Channel, "wait for the other side", Errno::BADMSG)),
            None => Err(Error::system(Stage::Channel, "wait for the other side", Errno::PIPE)),
        }
    }
}

fn encode(message: &Message, out: &mut Vec<u8>) {
    let (tag, stage, errno, text) = match message {
        Message::Mapped => (1, 0, 0, ""),
        Message::Grouped => (2, 0, 0, ""),
        Message::Unshared => (3, 0, 0, ""),
        Message::HooksDone => (4, 0, 0, ""),
        Message::Ready => (5, 0, 0, ""),
        Message::Start => (6, 0, 0, ""),
        Message::Failed(error) => match error {
            Error::CommandNotFound { message } => (10, 0, 0, message.as_str()),
            Error::CommandNotExecutable { message } => (11, 0, 0, message.as_str()),
            Error::Invalid { stage, message } => (12, *stage as u8, 0, message.as_str()),
            Error::External { message } => (14, 0, 0, message.as_str()),
            Error::System { stage, what, errno } => (13, *stage as u8, *errno, what.as_str()),
        },
    };
    out.push(tag);
    out.push(stage);
    out.extend_from_slice(&errno.to_le_bytes());
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    out.extend_from_slice(text.as_bytes().get(..end).unwrap_or_default());
}

fn decode(bytes: &[u8]) -> Option<Message> {
    let (&[tag, stage, e0, e1, e2, e3], text) = bytes.split_first_chunk::<6>()?;
    let stage = Stage::from_u8(stage);
    let text = || String::from_utf8_lossy(text).into_owned();
    Some(match tag {
        1 => Message::Mapped,
        2 => Message::Grouped,
        3 => Message::Unshared,
        4 => Message::HooksDone,
        5 => Message::Ready,
        6 => Message::Start,
        10 => Message::Failed(Error::CommandNotFound { message: text() }),
        11 => Message::Failed(Error::CommandNotExecutable { message: text() }),
        12 => Message::Failed(Error::Invalid { stage, message: text() }),
        13 => Message::Failed(Error::System {
            stage,
            what: text(),
            errno: i32::from_le_bytes([e0, e1, e2, e3]),
        }),
        14 => Message::Failed(Error::External { message: text() }),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_travel_whole() {
        let (a, b) = Channel::pair().unwrap();
        let sent = Error::system(Stage::Rootfs, "mount ä", 13);
        a.send(&Message::Failed(sent.clone()), &[]).unwrap();
        assert_eq!(b.expect(|m| matches!(m, Message::Ready)).unwrap_err(), sent);
    }

    #[test]
    fn descriptors_travel_along_and_the_end_is_seen() {
        let (a, b) = Channel::pair().unwrap();
        let (fd, _) = Channel::pair().unwrap();
        a.send(&Message::Ready, &[fd.as_fd()]).unwrap();
        assert_eq!(b.expect(|m| matches!(m, Message::Ready)).unwrap().len(), 1);
        drop(a);
        assert!(b.recv().unwrap().is_none());
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        let (a, b) = Channel::pair().unwrap();
        let message = "ä".repeat(MAX_TEXT);
        a.send(&Message::Failed(Error::CommandNotFound { message }), &[]).unwrap();
        let error = b.expect(|_| false).unwrap_err();
        assert_eq!(error.to_string().chars().count(), MAX_TEXT / 2);
    }
}
