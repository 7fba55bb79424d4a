//! Listeners: what `-H` names, how it is opened, and the accept loops.

use std::fs;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::socket::Socket;
use super::tls::{TlsError, TlsFiles};
use super::{Service, conn};

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a request's head may take on sockets anybody may reach.
const REMOTE_HEAD: Duration = Duration::from_secs(60);
/// … and on sockets only trusted users reach; Docker's own figure.
const LOCAL_HEAD: Duration = Duration::from_secs(300);
/// Groups whose members may use the unix socket, the first that exists.
const GROUPS: [&str; 2] = ["docker", "ferry"];

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddr {
    /// `unix:///path`.
    Unix(PathBuf),
    /// `tcp://host:port`, still to be resolved.
    Tcp(String),
    /// `fd://`: the sockets systemd passed (sd_listen_fds(3)).
    Inherited,
}

/// A listener to open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenSpec {
    /// Where.
    pub addr: ListenAddr,
    /// TLS; only for TCP.
    pub tls: Option<TlsFiles>,
    /// Allow TCP without TLS on addresses other hosts can reach.
    pub insecure_tcp: bool,
    /// Group whose members may use a unix socket, by name or number; the first of `docker` and `ferry` when absent.
    pub group: Option<String>,
}

/// Why listening failed.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Not `unix://`, `tcp://` or `fd://`.
    #[error("invalid bind address ({0}): want unix://PATH, tcp://HOST:PORT or fd://")]
    Address(String),
    /// Plain TCP that other hosts can reach.
    #[error(
        "refusing to listen on tcp://{0} without TLS: whoever can connect is root on this host; \
         use --tlsverify, a loopback address, or --insecure-tcp"
    )]
    Insecure(SocketAddr),
    /// Somebody answers on the socket.
    #[error("another daemon is listening on {0}")]
    InUse(PathBuf),
    /// The path exists and is no socket.
    #[error("{0} exists and is not a socket")]
    NotASocket(PathBuf),
    /// `fd://` without sockets.
    #[error("no sockets found via socket activation: make sure the service was started by systemd")]
    NothingInherited,
    /// The group of the unix socket does not exist.
    #[error("group {0} not found")]
    NoGroup(String),
    /// TLS files.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The host refused.
    #[error("can't create listener on {addr}: {source}")]
    Io {
        /// Where.
        addr: String,
        /// Why.
        source: io::Error,
    },
}

impl FromStr for ListenSpec {
    type Err = ServeError;

    /// Parses Docker's notation; a TCP port left out is 2375, a host left out is loopback.
    fn from_str(s: &str) -> Result<Self, ServeError> {
        let refuse = || ServeError::Address(s.to_owned());
        let addr = match s.split_once("://") {
            Some(("unix", path)) if path.starts_with('/') => ListenAddr::Unix(path.into()),
            Some(("tcp", host)) => ListenAddr::Tcp(tcp_address(host).ok_or_else(refuse)?),
            Some(("fd", "" | "*")) => ListenAddr::Inherited,
            _ => return Err(refuse()),
        };
        Ok(Self { addr, tls: None, insecure_tcp: false, group: None })
    }
}

fn tcp_address(host: &str) -> Option<String> {
    let host = host.trim_end_matches('/');
    // A colon inside brackets belongs to an IPv6 address.
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port),
        _ => (host, "2375"),
    };
    port.parse::<u16>().ok()?;
    let unbracketed_v6 = name.contains(':') && !name.starts_with('[');
    if unbracketed_v6 || name.contains('/') {
        return None;
    }
    Some(format!("{}:{port}", if name.is_empty() { "127.0.0.1" } else { name }))
}

impl ListenSpec {
    /// Parses Docker's notation, see [`FromStr`].
    ///
    /// # Errors
    /// When it names nothing to listen on.
    pub fn parse(s: &str) -> Result<Self, ServeError> {
        s.parse()
    }
}

enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener, Option<TlsAcceptor>),
}

/// Open listeners.
#[derive(Default)]
pub struct Bound {
    listeners: Vec<Listener>,
    /// Socket files this process made, with their inodes.
    made: Vec<(PathBuf, u64)>,
}

impl Bound {
    /// Opens all of them, or none. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// For the first that cannot be opened.
    pub async fn open(specs: Vec<ListenSpec>) -> Result<Self, ServeError> {
        let mut bound = Self::default();
        for spec in specs {
            let tls = spec.tls.as_ref().map(TlsFiles::acceptor).transpose()?;
            match &spec.addr {
                ListenAddr::Unix(path) => bound.open_unix(path, spec.group.as_deref())?,
                ListenAddr::Tcp(addr) => bound.open_tcp(addr, tls, spec.insecure_tcp).await?,
                ListenAddr::Inherited => bound.inherit(&tls, spec.insecure_tcp)?,
            }
        }
        Ok(bound)
    }

    /// Addresses of the TCP listeners, for those that asked for port 0.
    pub fn tcp_addresses(&self) -> Vec<SocketAddr> {
        let address = |l: &Listener| match l {
            Listener::Tcp(tcp, _) => tcp.local_addr().ok(),
            Listener::Unix(_) => None,
        };
        self.listeners.iter().filter_map(address).collect()
    }

    fn open_unix(&mut self, path: &Path, group: Option<&str>) -> Result<(), ServeError> {
        let io = |source| ServeError::Io { addr: format!("unix://{}", path.display()), source };
        let gid = socket_group(group)?;
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(io)?;
        }
        clear_stale(path)?;
        let listener = UnixListener::bind(path).map_err(io)?;
        let inode = fs::metadata(path).map_err(io)?.ino();
        self.made.push((path.to_owned(), inode));
        // Before the mode: a socket open to its new group only, never to the old one.
        if let Some(gid) = gid {
            std::os::unix::fs::chown(path, None, Some(gid)).map_err(io)?;
        }
        fs::set_permissions(path, fs::Permissions::from_mode(0o660)).map_err(io)?;
        self.listeners.push(Listener::Unix(listener));
        Ok(())
    }

    async fn open_tcp(
        &mut self,
        addr: &str,
        tls: Option<TlsAcceptor>,
        insecure: bool,
    ) -> Result<(), ServeError> {
        let io = |source| ServeError::Io { addr: format!("tcp://{addr}"), source };
        let name = addr.to_owned();
        let resolved = tokio::task::spawn_blocking(move || name.to_socket_addrs().map(Vec::from_iter))
            .await
            .map_err(|e| io(io::Error::other(e)))?
            .map_err(io)?;
        for address in &resolved {
            check_exposure(*address, tls.is_some(), insecure)?;
        }
        let listener = TcpListener::bind(resolved.as_slice()).await.map_err(io)?;
        self.listeners.push(Listener::Tcp(listener, tls));
        Ok(())
    }

    fn inherit(&mut self, tls: &Option<TlsAcceptor>, insecure: bool) -> Result<(), ServeError> {
        let io = |source| ServeError::Io { addr: "fd://".to_owned(), source };
        let mut inherited = listenfd::ListenFd::from_env();
        for index in 0..inherited.len() {
            if let Ok(Some(unix)) = inherited.take_unix_listener(index) {
                unix.set_nonblocking(true).map_err(io)?;
                self.listeners.push(Listener::Unix(UnixListener::from_std(unix).map_err(io)?));
            } else if let Some(tcp) = inherited.take_tcp_listener(index).map_err(io)? {
                check_exposure(tcp.local_addr().map_err(io)?, tls.is_some(), insecure)?;
                tcp.set_nonblocking(true).map_err(io)?;
                self.listeners.push(Listener::Tcp(TcpListener::from_std(tcp).map_err(io)?, tls.clone()));
            }
        }
        if inherited.len() == 0 { Err(ServeError::NothingInherited) } else { Ok(()) }
    }

    /// Accepts and serves until `shutdown`, then lets requests in flight take as long as that says.
    pub(crate) async fn serve<S: Service>(
        mut self,
        service: impl FnOnce(CancellationToken) -> Arc<S>,
        shutdown: impl Future<Output = Duration> + Send,
    ) {
        let stop = CancellationToken::new();
        let service: Arc<dyn Service> = service(stop.clone());
        let connections = TaskTracker::new();
        let accepting = TaskTracker::new();
        for listener in self.listeners.drain(..) {
            let (service, stop, connections) = (service.clone(), stop.clone(), connections.clone());
            accepting.spawn(accept_loop(listener, service, stop, connections));
        }
        // Nobody listens when the service was not started by systemd.
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        let drain = shutdown.await;
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        stop.cancel();
        accepting.close();
        accepting.wait().await;
        connections.close();
        if tokio::time::timeout(drain, connections.wait()).await.is_err() {
            tracing::warn!(open = connections.len(), "gave up waiting for requests in flight");
        }
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        for (path, inode) in &self.made {
            // Another daemon may have put its own socket there meanwhile.
            if fs::symlink_metadata(path).is_ok_and(|m| m.ino() == *inode) {
                let _ = fs::remove_file(path);
            }
        }
    }
}

/// Removes a socket file nobody answers on.
fn clear_stale(path: &Path) -> Result<(), ServeError> {
    let io = |source| ServeError::Io { addr: format!("unix://{}", path.display()), source };
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(io(e)),
        Ok(meta) if !meta.file_type().is_socket() => return Err(ServeError::NotASocket(path.to_owned())),
        Ok(_) => {}
    }
    match StdUnixStream::connect(path) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(io),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(io(e)),
        Ok(answering) if listener_is_gone(&answering) => fs::remove_file(path).map_err(io),
        Ok(_) => Err(ServeError::InUse(path.to_owned())),
    }
}

/// Whether the process that listens has ended. A child of a daemon killed in the middle of a spawn holds its descriptors until
/// it executes its own program, and for so long the socket seems to be answered.
fn listener_is_gone(stream: &StdUnixStream) -> bool {
    let Ok(listener) = rustix::net::sockopt::socket_peercred(stream) else { return false };
    matches!(rustix::process::test_kill_process(listener.pid), Err(rustix::io::Errno::SRCH))
}

/// Gid of the wanted group, or of the first of [`GROUPS`], in `/etc/group`.
fn socket_group(wanted: Option<&str>) -> Result<Option<u32>, ServeError> {
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    let Some(wanted) = wanted else { return Ok(GROUPS.iter().find_map(|name| group_id(&groups, name))) };
    match group_id(&groups, wanted).or_else(|| wanted.parse().ok()) {
        // Docker's default, which need not exist even when it is asked for.
        None if wanted == GROUPS[0] => Ok(None),
        None => Err(ServeError::NoGroup(wanted.to_owned())),
        gid => Ok(gid),
    }
}

/// Gid of a group in the text of group(5).
fn group_id(groups: &str, wanted: &str) -> Option<u32> {
    let mut entries = groups.lines().map(|line| line.split(':'));
    entries.find_map(|mut fields| (fields.next() == Some(wanted)).then(|| fields.nth(1)?.parse().ok())?)
}

fn check_exposure(address: SocketAddr, tls: bool, insecure: bool) -> Result<(), ServeError> {
    if tls || insecure || address.ip().is_loopback() { Ok(()) } else { Err(ServeError::Insecure(address)) }
}

async fn accept_loop(
    listener: Listener,
    service: Arc<dyn Service>,
    stop: CancellationToken,
    connections: TaskTracker,
) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = accept(&listener) => accepted,
        };
        match accepted {
            Ok((socket, tls)) => {
                connections.spawn(serve_one(socket, tls, service.clone(), stop.clone()));
            }
            Err(error) => {
                // Out of descriptors or memory: others must end first.
                tracing::warn!(%error, "accepting a connection failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn accept(listener: &Listener) -> io::Result<(Socket, Option<TlsAcceptor>)> {
    match listener {
        Listener::Unix(unix) => Ok((Socket::Unix(unix.accept().await?.0), None)),
        Listener::Tcp(tcp, tls) => {
            let (stream, _) = tcp.accept().await?;
            stream.set_nodelay(true)?;
            Ok((Socket::Tcp(stream), tls.clone()))
        }
    }
}

async fn serve_one(
    socket: Socket,
    tls: Option<TlsAcceptor>,
    service: Arc<dyn Service>,
    stop: CancellationToken,
) {
    let head_timeout = if matches!(socket, Socket::Unix(_)) { LOCAL_HEAD } else { REMOTE_HEAD };
    let socket = match (socket, tls) {
        (Socket::Tcp(stream), Some(tls)) => match tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
            Ok(Ok(stream)) => Socket::Tls(Box::new(stream)),
            Ok(Err(error)) => return tracing::debug!(%error, "TLS handshake failed"),
            Err(_) => return tracing::debug!("TLS handshake timed out"),
        },
        (socket, _) => socket,
    };
    conn::serve(socket, service, stop, head_timeout).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(s: &str) -> Option<ListenAddr> {
        s.parse::<ListenSpec>().ok().map(|spec| spec.addr)
    }

    #[test]
    fn addresses() {
        assert_eq!(parse("unix:///run/x.sock"), Some(ListenAddr::Unix("/run/x.sock".into())));
        assert_eq!(parse("tcp://0.0.0.0:2376"), Some(ListenAddr::Tcp("0.0.0.0:2376".into())));
        assert_eq!(parse("tcp://:80"), Some(ListenAddr::Tcp("127.0.0.1:80".into())));
        assert_eq!(parse("tcp://host"), Some(ListenAddr::Tcp("host:2375".into())));
        assert_eq!(parse("tcp://[::1]"), Some(ListenAddr::Tcp("[::1]:2375".into())));
        assert_eq!(parse("tcp://[::1]:5"), Some(ListenAddr::Tcp("[::1]:5".into())));
        assert_eq!(parse("fd://"), Some(ListenAddr::Inherited));
        for bad in
            ["", "/x", "unix://x", "tcp://a:b", "tcp://a:99999", "tcp://::1:5", "tcp://a/b", "npipe://x"]
        {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn plain_tcp_stays_on_this_host() {
        let public = "192.0.2.1:2375".parse().unwrap();
        let loopback = "127.0.0.1:2375".parse().unwrap();
        assert!(matches!(check_exposure(public, false, false), Err(ServeError::Insecure(_))));
        assert!(check_exposure("0.0.0.0:2375".parse().unwrap(), false, false).is_err());
        assert!(check_exposure(public, true, false).is_ok() && check_exposure(public, false, true).is_ok());
        assert!(check_exposure(loopback, false, false).is_ok());
    }

    #[test]
    fn groups() {
        let text = "root:x:0:\ndocker:x:998:me\nbad\n";
        assert_eq!(group_id(text, "docker"), Some(998));
        assert_eq!(group_id(text, "ferry"), None);
        assert_eq!(group_id(text, "bad"), None);
    }
}
