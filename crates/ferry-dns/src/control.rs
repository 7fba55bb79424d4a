//! How the engine tells the name server what there is: requests and replies in the frames of `ferry-shim-proto`, over a
//! unix socket, one reply per request. Sockets travel with the request that names them.

use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use ferry_shim_proto::codec::{CodecError, FrameReader, Incoming, encode, send_frame};
use serde::{Deserialize, Serialize};

use crate::server::Server;
use crate::table::{Network, View};

/// How long the name server may take for a reply; it never waits for anything itself.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the engine says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// What a network's containers know of each other, in place of what was known.
    SetNetwork { id: String, network: Network },
    /// A network is gone.
    RemoveNetwork { id: String },
    /// Serve a container; comes with its UDP and its TCP socket.
    Add { id: String, view: View },
    /// A container sees something else now. Refused when it is not served.
    SetView { id: String, view: View },
    /// The container's first process, as a pidfd: when it ends the container is served no more.
    Watch { id: String },
    /// A container ended: close its sockets.
    Remove { id: String },
    /// Know only these containers and networks.
    Retain { clients: Vec<String>, networks: Vec<String> },
    /// Which containers are served?
    Served,
}

/// What the name server answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    Done,
    /// Ids, in no order.
    Served {
        clients: Vec<String>,
    },
    /// The request was not carried out.
    Refused {
        reason: String,
    },
}

/// Why the name server did not do something.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("name server: {0}")]
    Codec(#[from] CodecError),
    #[error("name server: {0}")]
    Io(#[from] io::Error),
    #[error("the name server closed the connection")]
    Closed,
    #[error("the name server refused: {0}")]
    Refused(String),
}

/// A connection of the engine's.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    reader: FrameReader,
}

impl Connection {
    /// Connects to the name server at a socket.
    pub fn open(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::from(ferry_sys::socket::connect_unix(path)?);
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, reader: FrameReader::new() })
    }

    /// Sends a request and waits for the reply. After an error other than [`ControlError::Refused`] the connection is
    /// of no further use.
    pub fn call(&mut self, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<Reply, ControlError> {
        send_frame(&self.stream, &encode(request)?, fds)?;
        match self.reader.read(&self.stream)? {
            Incoming::Frame(frame) => match serde_json::from_slice(&frame.body).map_err(CodecError::from)? {
                Reply::Refused { reason } => Err(ControlError::Refused(reason)),
                reply => Ok(reply),
            },
            Incoming::End => Err(ControlError::Closed),
            Incoming::Pending => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
        }
    }
}

/// Carries out the requests of one connection until it ends. Blocks; to be called within a tokio runtime's context,
/// whose tasks then serve the containers.
pub fn serve(server: &Server, stream: impl AsFd) -> Result<(), CodecError> {
    let mut reader = FrameReader::new();
    loop {
        let frame = match reader.read(&stream)? {
            Incoming::Frame(frame) => frame,
            Incoming::End => return Ok(()),
            Incoming::Pending => return Err(io::Error::from(io::ErrorKind::WouldBlock).into()),
        };
        let reply = match serde_json::from_slice(&frame.body) {
            Ok(request) => carry_out(server, request, frame.fds),
            Err(error) => Reply::Refused { reason: format!("malformed request: {error}") },
        };
        send_frame(&stream, &encode(&reply)?, &[])?;
    }
}

fn carry_out(server: &Server, request: Request, fds: Vec<OwnedFd>) -> Reply {
    match request {
        Request::SetNetwork { id, network } => server.set_network(&id, &network),
        Request::RemoveNetwork { id } => server.remove_network(&id),
        Request::Add { id, view } => {
            let sockets: Result<[OwnedFd; 2], _> = fds.try_into();
            let Ok([udp, tcp]) = sockets else {
                return Reply::Refused { reason: "a container needs two sockets".to_owned() };
            };
            if let Err(error) = server.add(&id, view, UdpSocket::from(udp), TcpListener::from(tcp)) {
                return Reply::Refused { reason: format!("serve {id}: {error}") };
            }
        }
        Request::SetView { id, view } => {
            if !server.set_view(&id, view) {
                return Reply::Refused { reason: format!("{id} is not served") };
            }
        }
        Request::Watch { id } => {
            let pidfd: Result<[OwnedFd; 1], _> = fds.try_into();
            let Ok([pidfd]) = pidfd else {
                return Reply::Refused { reason: "to watch a container takes its process".to_owned() };
            };
            match server.watch(&id, pidfd) {
                Ok(true) => {}
                Ok(false) => return Reply::Refused { reason: format!("{id} is not served") },
                Err(error) => return Reply::Refused { reason: format!("watch {id}: {error}") },
            }
        }
        Request::Remove { id } => server.remove(&id),
        Request::Retain { clients, networks } => {
            let (clients, networks) = (set(clients), set(networks));
            server.retain(|id| clients.contains(id), |id| networks.contains(id));
        }
        Request::Served => return Reply::Served { clients: server.served() },
    }
    Reply::Done
}

fn set(ids: Vec<String>) -> std::collections::HashSet<String> {
    ids.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn requests_are_carried_out_and_errors_told() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let _context = runtime.enter();
        let server = Server::new(4, "/nonexistent".into());
        let (ours, theirs) = UnixStream::pair().unwrap();
        std::thread::scope(|scope| {
            let serving = scope.spawn(|| {
                let _context = runtime.enter();
                serve(&server, theirs)
            });
            let mut connection = Connection { stream: ours, reader: FrameReader::new() };
            let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let add = Request::Add { id: "c".into(), view: View::default() };
            let reply = connection.call(&add, &[udp.as_fd(), tcp.as_fd()]).unwrap();
            assert_eq!(reply, Reply::Done);
            let error = connection.call(&add, &[]).unwrap_err().to_string();
            assert_eq!(error, "the name server refused: a container needs two sockets");
            let other = Request::SetView { id: "d".into(), view: View::default() };
            assert!(matches!(connection.call(&other, &[]), Err(ControlError::Refused(_))));
            let served = connection.call(&Request::Served, &[]).unwrap();
            assert_eq!(served, Reply::Served { clients: vec!["c".into()] });
            let none = Request::Retain { clients: vec![], networks: vec![] };
            assert_eq!(connection.call(&none, &[]).unwrap(), Reply::Done);
            let served = connection.call(&Request::Served, &[]).unwrap();
            assert_eq!(served, Reply::Served { clients: vec![] });
            drop(connection);
            serving.join().unwrap().unwrap();
        });
    }
}
