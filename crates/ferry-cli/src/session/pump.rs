//! Bytes between the terminal and a hijacked connection.

use std::io;

use ferry_client::Hijacked;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;

use crate::failure::Failure;
use crate::out::Stream;

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The other side closed its output.
    Output,
    /// The user typed the detach sequence.
    Detached,
}

/// What a session connects.
#[derive(Debug)]
pub struct Plan {
    /// The process has a terminal: its output is one unframed stream.
    pub tty: bool,
    /// Pass stdin on.
    pub stdin: bool,
    /// Keys that detach; empty for none.
    pub detach: Vec<u8>,
}

/// Moves bytes until the output ends or the user detaches.
///
/// # Errors
/// When the connection or the local output breaks.
pub async fn run(hijacked: Hijacked, plan: Plan) -> Result<End, Failure> {
    let framed = hijacked.multiplexed.unwrap_or(!plan.tty);
    let (mut reader, mut writer) = tokio::io::split(hijacked.io);
    let output = async { if framed { demultiplex(&mut reader).await } else { copy_raw(&mut reader).await } };
    let detach = if plan.tty { plan.detach } else { Vec::new() };
    let input = async {
        if !plan.stdin {
            return std::future::pending().await;
        }
        match send_input(&mut writer, Detacher::new(detach)).await {
            Ok(true) => {}
            // The end of our input, or of the process's interest in it, leaves the output to come.
            Ok(false) | Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        result = output => result.map(|()| End::Output),
        () = input => Ok(End::Detached),
    }
}

/// Copies unframed output to stdout.
///
/// # Errors
/// When either side breaks.
pub async fn copy_raw<R: AsyncRead + Unpin>(from: &mut R) -> Result<(), Failure> {
    let mut buffer = vec![0; 32 * 1024];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) => return Ok(()),
            Ok(n) => Stream::Stdout.write_async(&buffer[..n]).await?,
            Err(e) if is_gone(&e) => return Ok(()),
            Err(e) => return Err(e.into()),
        }
    }
}

/// A peer that resets an attached connection has ended the stream.
fn is_gone(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof)
}

/// Copies framed output to stdout and stderr. A frame is a stream number, three zero bytes, a
/// big-endian length and the data.
///
/// # Errors
/// When either side breaks, the framing is wrong, or the engine reports an error of its own.
pub async fn demultiplex<R: AsyncRead + Unpin>(from: &mut R) -> Result<(), Failure> {
    let mut frames = Frames::default();
    let mut buffer = vec![0; 32 * 1024];
    loop {
        let n = match from.read(&mut buffer).await {
            Ok(0) => return Ok(()),
            Ok(n) => n,
            Err(e) if is_gone(&e) => return Ok(()),
            Err(e) => return Err(e.into()),
        };
        frames.feed(&buffer[..n]).await?;
    }
}

/// State of the framing between reads.
#[derive(Debug, Default)]
pub struct Frames {
    header: Vec<u8>,
    left: usize,
    stream: u8,
    complaint: Vec<u8>,
}

impl Frames {
    /// Writes what `data` holds to the streams it belongs to.
    ///
    /// # Errors
    /// As [`demultiplex`].
    pub async fn feed(&mut self, mut data: &[u8]) -> Result<(), Failure> {
        // Frames are lines, and a write for each would take longer than all else: what is for the same stream goes at once.
        let mut batch = (Stream::Stdout, Vec::new());
        loop {
            let next = self.next(&mut data);
            match &next {
                Ok(Some((stream, piece))) if *stream == batch.0 || batch.1.is_empty() => {
                    batch.0 = *stream;
                    batch.1.extend_from_slice(piece);
                    continue;
                }
                Ok(_) | Err(_) => {}
            }
            if !batch.1.is_empty() {
                batch.0.write_async(&batch.1).await?;
                batch.1.clear();
            }
            match next? {
                Some((stream, piece)) => {
                    batch.0 = stream;
                    batch.1.extend_from_slice(piece);
                }
                None => return Ok(()),
            }
        }
    }

    /// The next piece of output in `data`, which is advanced.
    fn next<'a>(&mut self, data: &mut &'a [u8]) -> Result<Option<(Stream, &'a [u8])>, Failure> {
        while !data.is_empty() {
            if self.left == 0 {
                let take = (8 - self.header.len()).min(data.len());
                self.header.extend_from_slice(&data[..take]);
                *data = &data[take..];
                if let Ok(header) = <[u8; 8]>::try_from(self.header.as_slice()) {
                    self.header.clear();
                    self.stream = header[0];
                    self.left = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
                    if self.stream > 3 {
                        return Err(Failure::new(format!("Unrecognized input header: {}", self.stream)));
                    }
                }
                continue;
            }
            let (piece, rest) = data.split_at(self.left.min(data.len()));
            *data = rest;
            self.left -= piece.len();
            match self.stream {
                2 => return Ok(Some((Stream::Stderr, piece))),
                3 => {
                    self.complaint.extend_from_slice(piece);
                    if self.left == 0 {
                        let text = String::from_utf8_lossy(&self.complaint).into_owned();
                        return Err(Failure::new(format!("error from daemon in stream: {text}")));
                    }
                }
                _ => return Ok(Some((Stream::Stdout, piece))),
            }
        }
        Ok(None)
    }
}

/// Sends stdin until it ends, closing the process's stdin then, or until the detach sequence, which
/// yields `true`.
async fn send_input<W: AsyncWrite + Unpin>(to: &mut W, mut detacher: Detacher) -> io::Result<bool> {
    let mut chunks = read_stdin();
    while let Some(chunk) = chunks.recv().await {
        let (passed, detached) = detacher.filter(&chunk);
        if !passed.is_empty() {
            to.write_all(&passed).await?;
            to.flush().await?;
        }
        if detached {
            return Ok(true);
        }
    }
    to.shutdown().await?;
    Ok(false)
}

/// Reads stdin on a thread of its own: it may be a terminal or a pipe nobody writes to, and the
/// descriptor is shared with other programs, so it cannot be made non-blocking.
pub fn read_stdin() -> mpsc::Receiver<Vec<u8>> {
    let (tx, rx) = mpsc::channel(2);
    let _ = std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        let mut buffer = vec![0; 32 * 1024];
        loop {
            match rustix::io::read(rustix::stdio::stdin(), &mut buffer[..]) {
                Ok(0) => return,
                Ok(n) => {
                    if tx.blocking_send(buffer[..n].to_vec()).is_err() {
                        return;
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
        }
    });
    rx
}

/// Looks for the detach sequence in what the user types. Keys that began the sequence and turned out
/// not to be it are passed on.
#[derive(Debug)]
pub struct Detacher {
    keys: Vec<u8>,
    matched: usize,
}

impl Detacher {
    pub fn new(keys: Vec<u8>) -> Self {
        Self { keys, matched: 0 }
    }

    /// What of `typed` goes to the process, and whether the sequence is complete.
    pub fn filter(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut passed = Vec::with_capacity(typed.len());
        for &key in typed {
            if self.keys.is_empty() {
                passed.push(key);
                continue;
            }
            if key == self.keys[self.matched] {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    self.matched = 0;
                    return (passed, true);
                }
                continue;
            }
            passed.extend_from_slice(&self.keys[..self.matched]);
            self.matched = usize::from(key == self.keys[0]);
            if self.matched == 0 {
                passed.push(key);
            }
        }
        (passed, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detach_sequence() {
        let mut d = Detacher::new(vec![16, 17]);
        assert_eq!(d.filter(b"ab"), (b"ab".to_vec(), false));
        assert_eq!(d.filter(&[b'c', 16]), (b"c".to_vec(), false));
        assert_eq!(d.filter(b"x"), (vec![16, b'x'], false), "a false start is passed on");
        assert_eq!(d.filter(&[16, 16]), (vec![16], false));
        assert_eq!(d.filter(&[17, b'z']), (vec![], true));
    }

    #[test]
    fn frames_across_reads() {
        let wire = [1, 0, 0, 0, 0, 0, 0, 3, b'a', b'b', b'c', 2, 0, 0, 0, 0, 0, 0, 1, b'e'];
        for cut in 0..wire.len() {
            let mut frames = Frames::default();
            let (mut out, mut err) = (Vec::new(), Vec::new());
            for part in [&wire[..cut], &wire[cut..]] {
                let mut data = part;
                while let Some((stream, piece)) = frames.next(&mut data).unwrap() {
                    if stream == Stream::Stdout { out.extend(piece) } else { err.extend(piece) }
                }
            }
            assert_eq!((out.as_slice(), err.as_slice()), (&b"abc"[..], &b"e"[..]), "cut at {cut}");
        }
    }

    #[test]
    fn engine_errors_and_garbage() {
        let mut data: &[u8] = &[3, 0, 0, 0, 0, 0, 0, 2, b'n', b'o'];
        let e = Frames::default().next(&mut data).unwrap_err();
        assert_eq!(e.message, "error from daemon in stream: no");
        let mut data: &[u8] = b"plain text";
        assert!(Frames::default().next(&mut data).is_err());
    }
}
