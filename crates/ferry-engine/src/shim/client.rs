//! A connection to one container's shim.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ferry_shim_proto::codec::{Decoder, encode};
use ferry_shim_proto::{Event, Reply, Request, RequestFrame, Response, ShimError, ShimErrorKind, ShimState};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Mutex as AsyncMutex, mpsc, oneshot};

use crate::exec::ExecTable;

/// What a shim sends unasked.
#[derive(Debug)]
pub(crate) enum ShimNotice {
    /// An event of the container.
    Event(Event),
    /// How things are, from a shim that took long to say so after an engine had connected to it.
    State(ShimState),
    /// The connection ended; nothing follows.
    Closed,
}

/// Where events go. The end of an exec is noted before anything that arrives after it is handed on, so that whoever asks
/// the shim once more afterwards finds it in the table.
struct Sink {
    notices: mpsc::UnboundedSender<ShimNotice>,
    execs: Arc<ExecTable>,
}

type Pending = Arc<Mutex<Option<HashMap<u64, oneshot::Sender<Result<Reply, ShimError>>>>>>;

/// Sends requests to a shim. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ShimClient {
    writer: Arc<AsyncMutex<OwnedWriteHalf>>,
    pending: Pending,
    next_seq: Arc<AtomicU64>,
}

impl ShimClient {
    /// Takes over a connected, non-blocking socket. Events go to `notices`.
    pub fn new(
        socket: std::os::unix::net::UnixStream,
        notices: mpsc::UnboundedSender<ShimNotice>,
        execs: Arc<ExecTable>,
    ) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let (reader, writer) = UnixStream::from_std(socket)?.into_split();
        let pending: Pending = Arc::new(Mutex::new(Some(HashMap::new())));
        tokio::spawn(read_loop(reader, Arc::clone(&pending), Sink { notices, execs }));
        Ok(Self { writer: Arc::new(AsyncMutex::new(writer)), pending, next_seq: Arc::new(AtomicU64::new(1)) })
    }

    /// Connects to the socket of a running shim.
    pub async fn connect(
        path: &Path,
        notices: mpsc::UnboundedSender<ShimNotice>,
        execs: Arc<ExecTable>,
    ) -> io::Result<Self> {
        let stream = UnixStream::connect(path).await?.into_std()?;
        Self::new(stream, notices, execs)
    }

    /// Sends a request with descriptors and waits for its answer. A lost connection is an error of kind
    /// `System`.
    pub async fn call(&self, request: Request, fds: &[OwnedFd]) -> Result<Reply, ShimError> {
        let seq = self.next_seq.fetch_add(1, Ordering::Relaxed);
        let frame = encode(&RequestFrame { seq, request }).map_err(|e| system(e.to_string()))?;
        let (sender, receiver) = oneshot::channel();
        match self.pending.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            Some(pending) => pending.insert(seq, sender),
            None => return Err(system("the shim has ended".to_owned())),
        };
        self.send(&frame, fds).await.map_err(|e| system(e.to_string()))?;
        receiver.await.unwrap_or_else(|_| Err(system("the shim has ended".to_owned())))
    }

    /// As [`Self::call`], but gives up on a shim that does not answer (it may be stopped, or wait for a disk): `None`.
    pub async fn call_within(
        &self,
        request: Request,
        fds: &[OwnedFd],
        patience: Duration,
    ) -> Option<Result<Reply, ShimError>> {
        tokio::time::timeout(patience, self.call(request, fds)).await.ok()
    }

    async fn send(&self, frame: &[u8], fds: &[OwnedFd]) -> io::Result<()> {
        let mut writer = self.writer.lock().await;
        let mut sent = 0;
        if !fds.is_empty() {
            let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
            let stream: &UnixStream = writer.as_ref();
            sent = stream
                .async_io(Interest::WRITABLE, || ferry_sys::socket::send_with_fds(stream, frame, &borrowed))
                .await?;
        }
        writer.write_all(&frame[sent..]).await
    }
}

fn system(message: String) -> ShimError {
    ShimError { kind: ShimErrorKind::System, message }
}

async fn read_loop(mut reader: OwnedReadHalf, pending: Pending, sink: Sink) {
    let mut decoder = Decoder::new();
    let mut buffer = vec![0_u8; 4096];
    'connection: loop {
        match reader.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(n) => decoder.push(&buffer[..n]),
        }
        loop {
            match decoder.next::<Response>() {
                Ok(Some(response)) => dispatch(response, &pending, &sink),
                Ok(None) => break,
                Err(error) => {
                    tracing::error!(%error, "a shim sent an unreadable frame");
                    break 'connection;
                }
            }
        }
    }
    // Dropping the senders fails every call that still waits.
    pending.lock().unwrap_or_else(PoisonError::into_inner).take();
    let _ = sink.notices.send(ShimNotice::Closed);
}

fn dispatch(response: Response, pending: &Pending, sink: &Sink) {
    let (seq, result) = match response {
        Response::Ok { seq, reply } => (seq, Ok(reply)),
        Response::Error { seq, error } => (seq, Err(error)),
        Response::Event { event } => {
            if let Event::ExecExited { exec, code, .. } = &event {
                sink.execs.exited(exec, *code);
            }
            let _ = sink.notices.send(ShimNotice::Event(event));
            return;
        }
    };
    let waiting =
        pending.lock().unwrap_or_else(PoisonError::into_inner).as_mut().and_then(|p| p.remove(&seq));
    if let Some(waiting) = waiting {
        let _ = waiting.send(result);
    }
}
