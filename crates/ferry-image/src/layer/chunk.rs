//! Bounded channels of byte chunks between the threads of an ingest, readable without copying.

use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Bytes per chunk.
pub const CHUNK: usize = 256 * 1024;
/// Chunks under way between two threads.
const DEPTH: usize = 12;

/// A message of the channel. An end that is not announced is an abort, never an end of file.
#[derive(Debug)]
enum Message {
    Data(Arc<Vec<u8>>),
    End,
}

/// Sending side.
#[derive(Debug, Clone)]
pub struct ChunkSender(SyncSender<Message>);

/// Receiving side, a buffered reader.
#[derive(Debug)]
pub struct ChunkReader {
    receiver: Receiver<Message>,
    current: Arc<Vec<u8>>,
    position: usize,
    ended: bool,
}

/// A new channel.
pub fn chunks() -> (ChunkSender, ChunkReader) {
    let (sender, receiver) = sync_channel(DEPTH);
    let reader = ChunkReader { receiver, current: Arc::new(Vec::new()), position: 0, ended: false };
    (ChunkSender(sender), reader)
}

impl ChunkSender {
    /// Sends a chunk; false when the receiver is gone.
    pub fn send(&self, chunk: Arc<Vec<u8>>) -> bool {
        self.0.send(Message::Data(chunk)).is_ok()
    }

    /// Announces the end; false when the receiver is gone.
    pub fn end(self) -> bool {
        self.0.send(Message::End).is_ok()
    }
}

impl ChunkReader {
    /// The next whole chunk, `None` at the end.
    ///
    /// # Errors
    /// `ConnectionAborted` when the sender went away without announcing the end.
    pub fn next_chunk(&mut self) -> io::Result<Option<Arc<Vec<u8>>>> {
        if self.position < self.current.len() {
            let rest = if self.position == 0 {
                std::mem::take(&mut self.current)
            } else {
                Arc::new(self.current[self.position..].to_vec())
            };
            self.current = Arc::new(Vec::new());
            self.position = 0;
            return Ok(Some(rest));
        }
        if self.ended {
            return Ok(None);
        }
        match self.receiver.recv() {
            Ok(Message::Data(chunk)) => Ok(Some(chunk)),
            Ok(Message::End) => {
                self.ended = true;
                Ok(None)
            }
            Err(_) => Err(io::Error::new(io::ErrorKind::ConnectionAborted, "sender went away")),
        }
    }

    /// Takes whatever still comes, so that the sender is never blocked by a receiver that has all it
    /// wants.
    pub fn drain(&mut self) -> io::Result<()> {
        while self.next_chunk()?.is_some() {}
        Ok(())
    }
}

impl BufRead for ChunkReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.position >= self.current.len() {
            match self.next_chunk()? {
                Some(chunk) => {
                    self.current = chunk;
                    self.position = 0;
                }
                None => return Ok(&[]),
            }
        }
        Ok(&self.current[self.position..])
    }

    fn consume(&mut self, n: usize) {
        self.position += n;
    }
}

impl Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let n = available.len().min(buffer.len());
        buffer[..n].copy_from_slice(&available[..n]);
        self.consume(n);
        Ok(n)
    }
}
