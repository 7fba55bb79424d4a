//! Passing file descriptors over unix stream sockets (`SCM_RIGHTS`, unix(7)), without any notion of
//! messages: callers frame the bytes themselves.
//!
//! The kernel delivers descriptors with the first byte of the sendmsg(2) that carried them and never
//! lets one recvmsg(2) run past such a message into the next. A receiver that never asks for more
//! bytes than belong to the message it is reading can therefore tell whose descriptors it got.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, bind, connect, recvmsg,
    sendmsg, socket_with,
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
            Err(Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

/// Sends a datagram that consists of a descriptor and nothing else.
pub fn send_fd_alone(socket: impl AsFd, fd: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let fds = [fd];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(Errno::INVAL);
    }
    sendmsg(&socket, &[], &mut control, SendFlags::NOSIGNAL).map(drop)
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
                Err(Errno::INTR) => continue,
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

/// Binds a unix stream socket (close-on-exec, non-blocking) to `path` and listens.
///
/// A path too long for `sockaddr_un` is reached through its directory's descriptor.
pub fn listen_unix(path: &Path) -> io::Result<OwnedFd> {
    let socket = unix_socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    with_address(path, |address| bind(&socket, address))?;
    rustix::net::listen(&socket, 128)?;
    Ok(socket)
}

/// Connects a blocking, close-on-exec unix stream socket to `path`, however long that is.
pub fn connect_unix(path: &Path) -> io::Result<OwnedFd> {
    let socket = unix_socket(SocketFlags::CLOEXEC)?;
    with_address(path, |address| connect(&socket, address))?;
    Ok(socket)
}

fn unix_socket(flags: SocketFlags) -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

fn with_address(path: &Path, call: impl FnOnce(&SocketAddrUnix) -> rustix::io::Result<()>) -> io::Result<()> {
    match SocketAddrUnix::new(path) {
        Err(Errno::NAMETOOLONG) => {}
        address => return Ok(call(&address?)?),
    }
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let directory = open(directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let short = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
    Ok(call(&SocketAddrUnix::new(short)?)?)
}

/// Bytes sent over a unix stream socket that its peer has not read yet (`SIOCOUTQ`, unix(7)). Zero only when it has read
/// all; otherwise the count includes the kernel's own overhead.
///
/// # Errors
/// The kernel's.
pub fn unread_by_peer(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: SIOCOUTQ, which is TIOCOUTQ, writes one int to its argument.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ as _, &raw mut count) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(usize::try_from(count).unwrap_or_default())
}

/// Lets a socket receive by one interface only (`SO_BINDTODEVICE`, socket(7)).
///
/// # Errors
/// setsockopt(2).
pub fn bind_to_device(socket: impl AsFd, interface: &str) -> io::Result<()> {
    let fd = socket.as_fd().as_raw_fd();
    let length = interface.len() as libc::socklen_t;
    // SAFETY: the pointer and length describe the name; the kernel copies it and needs no terminator.
    let rc = unsafe {
        libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, interface.as_ptr().cast(), length)
    };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
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
    fn long_paths_can_be_bound_and_connected() {
        let base = std::env::temp_dir().join(format!("ferry-sys-socket-{}", std::process::id()));
        let directory = base.join("x".repeat(150));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("sock");
        let listener = listen_unix(&path).unwrap();
        let mut client = UnixStream::from(connect_unix(&path).unwrap());
        client.write_all(b"hi").unwrap();
        drop(client);
        let mut server = UnixStream::from(rustix::net::accept(&listener).unwrap());
        let mut text = String::new();
        server.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hi");
        std::fs::remove_dir_all(&base).unwrap();
    }

    #[test]
    fn a_vanished_peer_is_an_error_not_a_signal() {
        let (a, b) = UnixStream::pair().unwrap();
        drop(b);
        let err = send_with_fds(&a, b"x", &[]).unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::BrokenPipe);
    }
}
