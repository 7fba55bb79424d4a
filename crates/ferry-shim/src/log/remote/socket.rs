//! The sockets of log services.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use ferry_shim_proto::log::LogTarget;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, sendmsg, socket_with, sockopt,
};

/// Starts a connection to one of the target's addresses. Returns whether it is up already.
pub fn begin(target: &LogTarget, attempt: usize) -> io::Result<(OwnedFd, bool)> {
    let inet = |addresses: &[SocketAddr], kind| {
        let Some(address) = addresses.get(attempt % addresses.len().max(1)) else {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        };
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let fd = open(family, kind)?;
        if kind == SocketType::STREAM {
            // A service that vanished without a word is noticed some day.
            sockopt::set_socket_keepalive(&fd, true)?;
        }
        finish(connect(&fd, address), fd)
    };
    let unix = |path: &Path, kind| {
        let fd = open(AddressFamily::UNIX, kind)?;
        finish(connect(&fd, &SocketAddrUnix::new(path)?), fd)
    };
    match target {
        LogTarget::Udp(addresses) => inet(addresses, SocketType::DGRAM),
        LogTarget::Tcp(addresses) => inet(addresses, SocketType::STREAM),
        LogTarget::Unix(path) => unix(path, SocketType::STREAM),
        LogTarget::UnixDatagram(path) => unix(path, SocketType::DGRAM),
    }
}

fn open(family: AddressFamily, kind: SocketType) -> io::Result<OwnedFd> {
    Ok(socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?)
}

fn finish(connected: rustix::io::Result<()>, fd: OwnedFd) -> io::Result<(OwnedFd, bool)> {
    match connected {
        Ok(()) => Ok((fd, true)),
        Err(Errno::INPROGRESS) => Ok((fd, false)),
        Err(e) => Err(e.into()),
    }
}

/// Connects to the first of the target's addresses that answers in time.
pub fn connect_now(target: &LogTarget, timeout_ms: u64) -> io::Result<OwnedFd> {
    let attempts = match target {
        LogTarget::Udp(addresses) | LogTarget::Tcp(addresses) => addresses.len().max(1),
        LogTarget::Unix(_) | LogTarget::UnixDatagram(_) => 1,
    };
    let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for attempt in 0..attempts {
        let connected = begin(target, attempt).and_then(|(fd, up)| {
            if !up {
                wait_writable(&fd, timeout_ms)?;
                sockopt::socket_error(&fd)??;
            }
            Ok(fd)
        });
        match connected {
            Ok(fd) => return Ok(fd),
            Err(e) => failure = e,
        }
    }
    Err(failure)
}

fn wait_writable(fd: &OwnedFd, timeout_ms: u64) -> io::Result<()> {
    let timeout = Timespec {
        tv_sec: (timeout_ms / 1000).cast_signed(),
        tv_nsec: (timeout_ms % 1000 * 1_000_000).cast_signed(),
    };
    match poll(&mut [PollFd::new(fd, PollFlags::OUT)], Some(&timeout))? {
        0 => Err(io::Error::new(io::ErrorKind::TimedOut, "i/o timeout")),
        _ => Ok(()),
    }
}

/// Sends one datagram. On a unix socket what is too large for it goes as a sealed memory file, as the journal expects it.
pub fn send_datagram(fd: &OwnedFd, bytes: &[u8]) -> rustix::io::Result<()> {
    match rustix::net::send(fd, bytes, SendFlags::NOSIGNAL) {
        Ok(_) => Ok(()),
        Err(Errno::MSGSIZE | Errno::NOBUFS) if is_unix(fd) => send_as_file(fd, bytes),
        Err(e) => Err(e),
    }
}

fn is_unix(fd: &OwnedFd) -> bool {
    sockopt::socket_domain(fd) == Ok(AddressFamily::UNIX)
}

fn send_as_file(fd: &OwnedFd, bytes: &[u8]) -> rustix::io::Result<()> {
    let file = rustix::fs::memfd_create("journal-entry", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut rest = bytes;
    while !rest.is_empty() {
        let n = rustix::io::write(&file, rest)?;
        rest = &rest[n..];
    }
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, seals)?;
    ferry_sys::socket::send_fd_alone(fd, file.as_fd())
}

/// Sends the pieces one after the other, without the first `skip` bytes; as much as the service takes now.
pub fn send_stream<'a>(
    fd: &OwnedFd,
    pieces: impl Iterator<Item = &'a [u8]>,
    skip: usize,
) -> rustix::io::Result<usize> {
    let mut skip = skip;
    let slices: Vec<IoSlice<'_>> = pieces
        .map(|piece| {
            let cut = skip.min(piece.len());
            skip -= cut;
            IoSlice::new(&piece[cut..])
        })
        .collect();
    sendmsg(fd, &slices, &mut rustix::net::SendAncillaryBuffer::default(), SendFlags::NOSIGNAL)
}
