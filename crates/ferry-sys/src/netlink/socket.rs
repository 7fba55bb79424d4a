//! A netlink socket: batches of requests with checked acknowledgements, dumps, notifications.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::message::{self, Attributes, Batch, HEADER, split_message, u32_at};

/// Netlink families (netlink(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Links, addresses, routes, neighbours (rtnetlink(7)).
    Route,
    /// nf_tables and conntrack.
    Netfilter,
    /// Sockets (sock_diag(7)).
    SockDiag,
}

/// Why a netlink exchange failed.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The socket failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The kernel refused a request.
    #[error("{}{}", error, message.as_ref().map(|m| format!(" ({m})")).unwrap_or_default())]
    Refused {
        /// Position of the request in its batch.
        index: usize,
        /// errno(3).
        error: io::Error,
        /// The kernel's own explanation (`NLMSGERR_ATTR_MSG`).
        message: Option<String>,
    },
    /// What was received is no netlink message.
    #[error("malformed netlink answer")]
    Malformed,
}

impl NetlinkError {
    /// The errno(3) value behind it.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Io(e) | Self::Refused { error: e, .. } => e.raw_os_error(),
            Self::Malformed => None,
        }
    }
}

impl From<NetlinkError> for io::Error {
    fn from(error: NetlinkError) -> Self {
        match error {
            NetlinkError::Io(e) | NetlinkError::Refused { error: e, message: None, .. } => e,
            NetlinkError::Refused { error: ref cause, .. } => Self::new(cause.kind(), error.to_string()),
            NetlinkError::Malformed => Self::new(io::ErrorKind::InvalidData, NetlinkError::Malformed),
        }
    }
}

/// A socket of the network namespace it was opened in, wherever it is used later.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    seq: u32,
    buf: Vec<u8>,
    send_buffer: usize,
}

/// Smallest receive buffer that holds every dump datagram (`NLMSG_GOODSIZE` is at most 32 KiB).
const RECEIVE: usize = 32 * 1024;
/// Batches beyond this size need a larger send buffer than the usual `net.core.wmem_default`.
const SEND_BUFFER: usize = 128 * 1024;

impl Socket {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// socket(2) and bind(2).
    pub fn open(protocol: Protocol) -> io::Result<Self> {
        let family = match protocol {
            // NETLINK_ROUTE is 0, the default.
            Protocol::Route => None,
            Protocol::Netfilter => Some(netlink::NETFILTER),
            Protocol::SockDiag => Some(netlink::SOCK_DIAG),
        };
        let fd =
            rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, family)?;
        rustix::net::bind(&fd, &SocketAddrNetlink::new(0, 0))?;
        // Explanations with errors, and errors without a copy of the request; both best effort (Linux 4.12).
        let _ = set_option(&fd, libc::SOL_NETLINK, libc::NETLINK_EXT_ACK, 1);
        let _ = set_option(&fd, libc::SOL_NETLINK, libc::NETLINK_CAP_ACK, 1);
        Ok(Self { fd, seq: 1, buf: Vec::new(), send_buffer: SEND_BUFFER })
    }

    /// The socket's port id, which notifications name as the origin of a change.
    ///
    /// # Errors
    /// getsockname(2).
    pub fn port(&self) -> io::Result<u32> {
        let address = rustix::net::getsockname(&self.fd)?;
        Ok(SocketAddrNetlink::try_from(address)?.pid())
    }

    /// Receives the notifications of a multicast group from now on; use with [`Socket::receive`].
    ///
    /// # Errors
    /// setsockopt(2).
    pub fn join(&self, group: u32) -> io::Result<()> {
        set_option(&self.fd, libc::SOL_NETLINK, libc::NETLINK_ADD_MEMBERSHIP, group as libc::c_int)
    }

    /// Lets no other messages in than those of one type, on a socket that only listens: classic BPF (`linux/filter.h`) on
    /// `nlmsg_type`.
    ///
    /// # Errors
    /// setsockopt(2).
    pub fn only(&self, kind: u16) -> io::Result<()> {
        let op = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
        let mut program = [
            // The filter reads in network byte order.
            op(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, 0, 0, 4),
            op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, u32::from(kind.to_be())),
            op(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
            op(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
        ];
        let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
        // SAFETY: the pointer and length describe a live sock_fprog, whose filter outlives the call; the kernel copies both.
        let rc = unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_FILTER,
                std::ptr::from_ref(&program).cast(),
                size_of::<libc::sock_fprog>() as libc::socklen_t,
            )
        };
        if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Sends a batch and waits until the kernel has executed all of it.
    ///
    /// Requests of rtnetlink are executed one by one also when one fails; those of nf_tables
    /// (see [`super::nft::Transaction`]) all or none.
    ///
    /// # Errors
    /// The first refusal.
    pub fn execute(&mut self, batch: Batch) -> Result<(), NetlinkError> {
        self.execute_lenient(batch, &|_, _| false)
    }

    /// As [`Socket::execute`], but refusals for which `tolerate(index, errno)` holds are no errors.
    ///
    /// # Errors
    /// The first refusal not tolerated.
    pub fn execute_lenient(
        &mut self,
        mut batch: Batch,
        tolerate: &dyn Fn(usize, i32) -> bool,
    ) -> Result<(), NetlinkError> {
        if batch.is_empty() {
            return Ok(());
        }
        batch.flag_last(message::ACK);
        let first = self.send(&mut batch)?;
        self.collect(first, batch.len(), tolerate)
    }

    /// Sends a nf_tables transaction whose messages are framed by begin and end messages; the acknowledgement asked
    /// for is that of the last message inside.
    pub(super) fn execute_framed(&mut self, mut batch: Batch) -> Result<(), NetlinkError> {
        let first = self.send(&mut batch)?;
        self.collect(first, batch.len() - 1, &|_, _| false)
    }

    /// Sends the only request of `batch` and hands every answer's type and payload to `each`.
    ///
    /// # Errors
    /// A refusal, or a dump the kernel could not finish (`EINTR` when it changed meanwhile).
    pub fn query(&mut self, mut batch: Batch, mut each: impl FnMut(u16, &[u8])) -> Result<(), NetlinkError> {
        let dump = batch.buf.get(6..8).is_some_and(|f| u16::from_ne_bytes([f[0], f[1]]) & message::DUMP != 0);
        if !dump {
            batch.flag_last(message::ACK);
        }
        let first = self.send(&mut batch)?;
        let mut interrupted = false;
        loop {
            let len = self.receive_datagram(RecvFlags::empty())?;
            let mut rest = &self.buf[..len];
            while let Some((m, tail)) = split_message(rest) {
                rest = tail;
                if m.seq != first {
                    continue;
                }
                // NLM_F_DUMP_INTR
                interrupted |= m.flags & 0x10 != 0 && dump;
                match m.kind {
                    NLMSG_ERROR => {
                        return match refusal(0, &m)? {
                            Some(refused) => Err(refused),
                            None => Ok(()),
                        };
                    }
                    NLMSG_DONE => {
                        return if interrupted {
                            Err(io::Error::from_raw_os_error(libc::EINTR).into())
                        } else {
                            Ok(())
                        };
                    }
                    NLMSG_NOOP => {}
                    kind => each(kind, m.payload),
                }
            }
        }
    }

    /// Waits for one datagram of notifications and hands each message's type, the port id of the socket that caused
    /// it, and payload to `each`. `ENOBUFS` as an error means that some were lost.
    ///
    /// # Errors
    /// recvmsg(2).
    pub fn receive(&mut self, mut each: impl FnMut(u16, u32, &[u8])) -> io::Result<()> {
        let len = self.receive_datagram(RecvFlags::empty())?;
        let mut rest = &self.buf[..len];
        while let Some((m, tail)) = split_message(rest) {
            rest = tail;
            each(m.kind, m.port, m.payload);
        }
        Ok(())
    }

    fn send(&mut self, batch: &mut Batch) -> Result<u32, NetlinkError> {
        let first = self.seq;
        self.seq = self.seq.wrapping_add(batch.len() as u32).max(1);
        batch.number(first);
        if batch.buf.len() > self.send_buffer {
            self.send_buffer = (batch.buf.len() * 2).next_power_of_two();
            let size = libc::c_int::try_from(self.send_buffer).unwrap_or(libc::c_int::MAX);
            set_option(&self.fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, size)?;
        }
        rustix::io::retry_on_intr(|| rustix::net::send(&self.fd, &batch.buf, SendFlags::empty()))
            .map_err(io::Error::from)?;
        Ok(first)
    }

    /// Reads answers up to that of the message at `last - 1`; the kernel has queued all of them
    /// before sendmsg(2) returned.
    fn collect(
        &mut self,
        first: u32,
        last: usize,
        tolerate: &dyn Fn(usize, i32) -> bool,
    ) -> Result<(), NetlinkError> {
        let mut failure = None;
        let mut done = false;
        while !done {
            let len = match self.receive_datagram(RecvFlags::DONTWAIT) {
                Ok(len) => len,
                // A whole batch refused before its last message is answered for one message only.
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    return Err(failure.unwrap_or(NetlinkError::Io(e)));
                }
                Err(e) => return Err(failure.unwrap_or(NetlinkError::Io(e))),
            };
            let mut rest = &self.buf[..len];
            while let Some((m, tail)) = split_message(rest) {
                rest = tail;
                let index = m.seq.wrapping_sub(first) as usize;
                if m.kind != NLMSG_ERROR || index > last {
                    continue;
                }
                if let Some(refused) = refusal(index, &m)?
                    && failure.is_none()
                    && !refused.errno().is_some_and(|e| tolerate(index, e))
                {
                    failure = Some(refused);
                }
                done |= index + 1 >= last;
            }
        }
        failure.map_or(Ok(()), Err)
    }

    fn receive_datagram(&mut self, flags: RecvFlags) -> io::Result<usize> {
        if self.buf.is_empty() {
            self.buf.resize(RECEIVE, 0);
        }
        loop {
            match rustix::net::recv(&self.fd, &mut self.buf[..], flags | RecvFlags::TRUNC) {
                Ok((_, len)) if len > self.buf.len() => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, NetlinkError::Malformed));
                }
                Ok((_, len)) => return Ok(len),
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// `linux/netlink.h`.
const NLMSG_NOOP: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// The answer repeats only the request's header.
const NLM_F_CAPPED: u16 = 0x100;
/// Attributes follow.
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;

/// The refusal in a `struct nlmsgerr`, `None` when it is an acknowledgement.
fn refusal(index: usize, m: &message::Received<'_>) -> Result<Option<NetlinkError>, NetlinkError> {
    let errno = u32_at(m.payload, 0).ok_or(NetlinkError::Malformed)? as i32;
    if errno == 0 {
        return Ok(None);
    }
    let text = (m.flags & NLM_F_ACK_TLVS != 0)
        .then(|| {
            let echoed = if m.flags & NLM_F_CAPPED != 0 { HEADER } else { u32_at(m.payload, 4)? as usize };
            Attributes::after(m.payload, 4 + echoed).find(NLMSGERR_ATTR_MSG).map(message::text)
        })
        .flatten();
    let error = io::Error::from_raw_os_error(-errno);
    Ok(Some(NetlinkError::Refused { index, error, message: text }))
}

fn set_option(fd: &OwnedFd, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the pointer and length describe a live c_int, which is what all options used here take.
    let rc = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(&value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::super::route;
    use super::*;

    #[test]
    fn refusals_name_the_request_and_the_reason() {
        let mut socket = Socket::open(Protocol::Route).unwrap();
        let mut batch = Batch::new();
        route::delete_link(&mut batch, 1_999_999_999);
        route::delete_link(&mut batch, 1_999_999_998);
        match socket.execute(batch).unwrap_err() {
            NetlinkError::Refused { index, error, .. } => {
                assert_eq!(index, 0);
                assert!(matches!(error.raw_os_error(), Some(libc::ENODEV | libc::EPERM)), "{error}");
            }
            other => panic!("{other}"),
        }
        let mut batch = Batch::new();
        route::delete_link(&mut batch, 1_999_999_999);
        socket.execute_lenient(batch, &|_, e| e == libc::ENODEV || e == libc::EPERM).unwrap();
    }

    #[test]
    fn the_loopback_device_is_listed() {
        let mut socket = Socket::open(Protocol::Route).unwrap();
        let links = route::links(&mut socket).unwrap();
        assert!(links.iter().any(|l| l.name == "lo" && l.index == 1), "{links:?}");
    }
}
