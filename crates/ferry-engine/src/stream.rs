//! Between blocking readers and writers and the server's asynchronous bodies.

use std::io::{self, Write};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::api::{ByteStream, ItemStream};
use crate::error::{EngineError, Result};

/// Bytes collected before they are handed on.
const BLOCK: usize = 128 * 1024;

/// A body that `produce` writes on a blocking thread. It is stopped by a write error when the client leaves.
pub(crate) fn from_writer(produce: impl FnOnce(&mut dyn Write) -> Result<()> + Send + 'static) -> ByteStream {
    let (sender, receiver) = mpsc::channel(4);
    tokio::task::spawn_blocking(move || {
        let mut out = ChannelWriter { sender, buffer: Vec::with_capacity(BLOCK) };
        let outcome =
            produce(&mut out).and_then(|()| out.flush().map_err(|e| EngineError::System(e.to_string())));
        if let Err(error) = outcome
            && !out.sender.is_closed()
        {
            // Ends the body early, so that the client sees a broken one instead of a short one.
            let _ = out.sender.blocking_send(Err(error));
        }
    });
    Box::pin(from_receiver(receiver))
}

/// A stream of what arrives on a channel.
pub(crate) fn from_receiver<T: Send + 'static>(
    receiver: mpsc::Receiver<T>,
) -> impl futures_util::Stream<Item = T> + Send {
    futures_util::stream::unfold(receiver, |mut r| async move { r.recv().await.map(|item| (item, r)) })
}

/// A stream of items that `produce` sends from a blocking thread; its error becomes the last item.
pub(crate) fn from_producer<T: Send + 'static>(
    produce: impl FnOnce(&mut dyn FnMut(T)) -> Result<()> + Send + 'static,
) -> ItemStream<T> {
    let (sender, receiver) = mpsc::channel::<Result<T>>(64);
    tokio::task::spawn_blocking(move || {
        // A client that has left does not stop the work: what it asked for is still wanted.
        let mut send = |item: T| {
            let _ = sender.blocking_send(Ok(item));
        };
        if let Err(error) = produce(&mut send) {
            let _ = sender.blocking_send(Err(error));
        }
    });
    Box::pin(from_receiver(receiver))
}

struct ChannelWriter {
    sender: mpsc::Sender<Result<Bytes>>,
    buffer: Vec<u8>,
}

impl Write for ChannelWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BLOCK {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let block = std::mem::replace(&mut self.buffer, Vec::with_capacity(BLOCK));
        self.sender.blocking_send(Ok(Bytes::from(block))).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
