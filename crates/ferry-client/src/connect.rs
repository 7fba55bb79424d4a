//! Opening connections and keeping idle ones.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::body::WireBody;
use crate::client::ClientOptions;
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::ssh;

/// One HTTP/1.1 connection able to send the next request.
pub(crate) type Connection = SendRequest<WireBody>;

/// Idle connections, most recently used last. A request takes one or opens another; a response gives
/// it back when its body has been read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pool(Arc<Mutex<Vec<Connection>>>);

impl Pool {
    pub(crate) fn take(&self) -> Option<Connection> {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(connection) = idle.pop() {
            if connection.is_ready() {
                return Some(connection);
            }
        }
        None
    }

    pub(crate) fn put(&self, connection: Connection) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    }
}

/// A byte stream to the engine.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Connects; the caller must be inside a tokio runtime.
pub(crate) async fn dial(endpoint: &Endpoint, options: &ClientOptions) -> Result<Box<dyn Stream>, Error> {
    let failed = |source: io::Error| Error::Connect { endpoint: endpoint.to_string(), source };
    Ok(match (endpoint, &options.tls) {
        (Endpoint::Unix(path), _) => Box::new(UnixStream::connect(path).await.map_err(failed)?),
        (Endpoint::Tcp { host, port, .. }, tls) => {
            let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(failed)?;
            stream.set_nodelay(true).map_err(failed)?;
            let Some(tls) = tls else { return Ok(Box::new(stream)) };
            let connector = tls.connector()?;
            let name = rustls::pki_types::ServerName::try_from(host.clone())
                .map_err(|_| Error::Endpoint(endpoint.to_string()))?;
            Box::new(connector.connect(name, stream).await.map_err(failed)?)
        }
        (Endpoint::Ssh { user, host, port, socket }, _) => {
            let way = ssh::Way { user, host, port: *port, socket, command: &options.remote_command };
            Box::new(way.open().map_err(failed)?)
        }
    })
}

/// Connects and starts the task that drives the connection.
pub(crate) async fn open(endpoint: &Endpoint, options: &ClientOptions) -> Result<Connection, Error> {
    let failed = |e| Error::Connect { endpoint: endpoint.to_string(), source: io::Error::other(e) };
    // The two common ways are not boxed: every command pays for them.
    match (endpoint, &options.tls) {
        (Endpoint::Unix(path), _) => {
            let connect = UnixStream::connect(path).await;
            let stream =
                connect.map_err(|source| Error::Connect { endpoint: endpoint.to_string(), source })?;
            start(stream).await.map_err(failed)
        }
        _ => start(dial(endpoint, options).await?).await.map_err(failed),
    }
}

async fn start<S>(stream: S) -> Result<Connection, hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    // The task ends with the connection; a request on it reports whatever broke it.
    tokio::spawn(connection.with_upgrades());
    Ok(sender)
}
