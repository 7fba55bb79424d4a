//! Passing file descriptors over unix stream sockets (`SCM_RIGHTS`, unix(7)), without any notion of
//! messages: callers frame the bytes themselves.
//!
//! The kernel delivers descriptors with the first byte of the sendmsg(2) that carried them and never
//! lets one recvmsg(2) run past such a message into the next. A receiver that never asks for more
//! bytes than belong to the message it is reading can therefore tell whose descriptors it got.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// Most descriptors one call sends or receives; below the kernel's `SCM_MAX_FD` (253).
pub const MAX_FDS: usize = 128;

const CONTROL_SPACE: usize = rustix::cmsg_space!(ScmRights(MAX_FDS));

/// Sends `bytes`, and `fds` with the first of them, in one sendmsg(2). Never raises SIGPIPE.
///
/// Returns how many bytes the kernel took. Once that is at least one, all descriptors are on their
/// way and the caller sends the rest of the bytes without them. `EINTR` is retried; a non-blocking
/// socket that is full yields `WouldBlock` and has taken nothing.
pub fn send_with_fds(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    if bytes.is_empty() || fds.len() > MAX_FDS {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut space = [MaybeUninit::uninit(); CONTROL_SPACE];
    loop {
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        match sendmsg(&socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL) {
            Err(rustix::io::Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

/// Receives up to `buf.len()` bytes in one recvmsg(2) and appends the descriptors that came with
/// them, close-on-exec, to `fds`.
///
/// Returns the number of bytes, 0 at the end of the stream. `EINTR` is retried. More than
/// [`MAX_FDS`] descriptors, or no room for them in this process (`EMFILE`), yield `InvalidData`;
/// those that did arrive are in `fds` and the stream must be given up.
pub fn recv_with_fds(socket: impl AsFd, buf: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); CONTROL_SPACE];
    loop {
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received =
            match recvmsg(&socket, &mut [IoSliceMut::new(buf)], &mut control, RecvFlags::CMSG_CLOEXEC) {
                Err(rustix::io::Errno::INTR) => continue,
                other => other?,
            };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        if received.flags.contains(ReturnFlags::CTRUNC) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "file descriptors were lost in transit"));
        }
        return Ok(received.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    #[test]
    fn descriptors_come_with_the_first_byte_and_are_close_on_exec() {
        let (a, b) = UnixStream::pair().unwrap();
        let (mut r, w) = std::io::pipe().unwrap();
        assert_eq!(send_with_fds(&a, b"plain", &[]).unwrap(), 5);
        assert_eq!(send_with_fds(&a, b"hello", &[w.as_fd()]).unwrap(), 5);
        drop(w);
        let mut fds = Vec::new();
        let mut buf = [0u8; 5];
        assert_eq!(recv_with_fds(&b, &mut buf, &mut fds).unwrap(), 5);
        assert_eq!((&buf, fds.len()), (b"plain", 0));
        assert_eq!(recv_with_fds(&b, &mut buf[..1], &mut fds).unwrap(), 1);
        assert_eq!(fds.len(), 1);
        let flags = rustix::io::fcntl_getfd(&fds[0]).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        std::fs::File::from(fds.pop().unwrap()).write_all(b"through").unwrap();
        let mut text = String::new();
        r.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
    }

    #[test]
    fn one_receive_never_mixes_descriptors_of_two_messages() {
        let (a, b) = UnixStream::pair().unwrap();
        let (r, w) = std::io::pipe().unwrap();
        send_with_fds(&a, b"one", &[r.as_fd()]).unwrap();
        send_with_fds(&a, b"two", &[w.as_fd(), r.as_fd()]).unwrap();
        let mut fds = Vec::new();
        let mut buf = [0u8; 64];
        assert_eq!(recv_with_fds(&b, &mut buf, &mut fds).unwrap(), 3);
        assert_eq!(fds.len(), 1);
        assert_eq!(recv_with_fds(&b, &mut buf, &mut fds).unwrap(), 3);
        assert_eq!(fds.len(), 3);
    }

    #[test]
    fn a_vanished_peer_is_an_error_not_a_signal() {
        let (a, b) = UnixStream::pair().unwrap();
        drop(b);
        let err = send_with_fds(&a, b"x", &[]).unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::BrokenPipe);
    }
}
