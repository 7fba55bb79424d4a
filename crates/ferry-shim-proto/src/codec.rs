//! Frames: a little-endian `u32` body length and that many bytes of JSON.
//!
//! Descriptors travel with a frame's first byte. A receiver of descriptors MUST NOT read past the
//! end of the frame it is reading (header exactly, then body exactly): then every descriptor that
//! arrives belongs to that frame. [`FrameReader`] does so. [`Decoder`] is for the direction that
//! carries no descriptors (shim to engine) and may be fed any amount of bytes.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ferry_types::{Classify, ErrorKind};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::MAX_FRAME;

const HEADER: usize = 4;

/// Why a frame could not be made, read or sent. The connection it happened on cannot be used further.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The body is longer than [`MAX_FRAME`].
    #[error("shim frame of {0} bytes exceeds the limit of {MAX_FRAME}")]
    TooLong(usize),
    /// The body is not the expected message, or the message cannot be expressed in JSON.
    #[error("malformed shim message: {0}")]
    Json(#[from] serde_json::Error),
    /// The stream ended inside a frame.
    #[error("shim connection ended inside a frame")]
    Truncated,
    /// The socket failed.
    #[error("shim connection: {0}")]
    Io(#[from] io::Error),
}

impl Classify for CodecError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::TooLong(_) => ErrorKind::InvalidParameter,
            Self::Json(_) => ErrorKind::System,
            Self::Truncated | Self::Io(_) => ErrorKind::Unavailable,
        }
    }
}

/// The frame of `message`, header and body.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, CodecError> {
    let mut frame = vec![0; HEADER];
    serde_json::to_writer(&mut frame, message)?;
    let body = frame.len() - HEADER;
    match u32::try_from(body) {
        Ok(length) if body <= MAX_FRAME => frame[..HEADER].copy_from_slice(&length.to_le_bytes()),
        _ => return Err(CodecError::TooLong(body)),
    }
    Ok(frame)
}

/// Body length a frame header announces.
fn body_length(header: [u8; HEADER]) -> Result<usize, CodecError> {
    let length = u32::from_le_bytes(header) as usize;
    if length > MAX_FRAME {
        return Err(CodecError::TooLong(length));
    }
    Ok(length)
}

/// Cuts a byte stream into messages.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// Bytes of `buffer` already returned as messages.
    taken: usize,
}

impl Decoder {
    /// An empty decoder.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes received from the peer.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.taken > 0 {
            self.buffer.drain(..self.taken);
            self.taken = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next complete message, `None` until enough bytes were pushed.
    ///
    /// Not an iterator: the message type may differ from call to call.
    #[expect(clippy::should_implement_trait, reason = "generic in the message type")]
    pub fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, CodecError> {
        let rest = &self.buffer[self.taken..];
        let Some((header, rest)) = rest.split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let length = body_length(*header)?;
        let Some(body) = rest.get(..length) else {
            return Ok(None);
        };
        let message = serde_json::from_slice(body)?;
        self.taken += HEADER + length;
        Ok(Some(message))
    }

    /// Whether a frame has begun that is not complete: the stream must not end now.
    pub fn is_mid_frame(&self) -> bool {
        self.taken < self.buffer.len()
    }
}

/// One received frame: its body and the descriptors that came with it, in the sender's order.
#[derive(Debug)]
pub struct Frame {
    /// JSON.
    pub body: Vec<u8>,
    /// Close-on-exec.
    pub fds: Vec<OwnedFd>,
}

/// What [`FrameReader::read`] found.
#[derive(Debug)]
pub enum Incoming {
    /// A whole frame.
    Frame(Frame),
    /// The peer closed the stream between two frames.
    End,
    /// A non-blocking socket has no more bytes now; call again when it is readable.
    Pending,
}

/// Reads frames with their descriptors from a blocking or non-blocking socket, never past the
/// current frame's end. Bodies of less than [`MAX_FRAME`] are buffered as they arrive.
#[derive(Debug, Default)]
pub struct FrameReader {
    header: [u8; HEADER],
    /// Bytes received of header and body together.
    filled: usize,
    body: Vec<u8>,
    fds: Vec<OwnedFd>,
}

impl FrameReader {
    /// A reader at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads from `socket` until a frame is complete, the stream ends or the socket would block.
    pub fn read(&mut self, socket: impl AsFd) -> Result<Incoming, CodecError> {
        loop {
            let target = if self.filled < HEADER {
                &mut self.header[self.filled..]
            } else {
                let length = body_length(self.header)?;
                if self.filled == HEADER + length {
                    self.filled = 0;
                    return Ok(Incoming::Frame(Frame {
                        body: std::mem::take(&mut self.body),
                        fds: std::mem::take(&mut self.fds),
                    }));
                }
                self.body.resize(length, 0);
                &mut self.body[self.filled - HEADER..]
            };
            match ferry_sys::socket::recv_with_fds(&socket, target, &mut self.fds) {
                Ok(0) if self.filled == 0 => return Ok(Incoming::End),
                Ok(0) => return Err(CodecError::Truncated),
                Ok(n) => self.filled += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(Incoming::Pending),
                Err(e) => return Err(e.into()),
            }
        }
    }
}

/// Sends a whole frame with its descriptors over a blocking socket.
pub fn send_frame(socket: impl AsFd, frame: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), CodecError> {
    let mut sent = 0;
    while sent < frame.len() {
        let with = if sent == 0 { fds } else { &[] };
        sent += ferry_sys::socket::send_with_fds(&socket, &frame[sent..], with)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AttachStreams, Request, RequestFrame};
    use std::os::unix::net::UnixStream;

    fn signal(seq: u64) -> RequestFrame {
        RequestFrame { seq, request: Request::Signal { signal: 15 } }
    }

    #[test]
    fn decoder_accepts_any_split() {
        let mut stream = encode(&signal(1)).unwrap();
        stream.extend(encode(&signal(2)).unwrap());
        for step in 1..stream.len() {
            let mut decoder = Decoder::new();
            let mut seen = Vec::new();
            for part in stream.chunks(step) {
                decoder.push(part);
                while let Some(frame) = decoder.next::<RequestFrame>().unwrap() {
                    assert!(matches!(frame.request, Request::Signal { signal: 15 }));
                    seen.push(frame.seq);
                }
            }
            assert_eq!(seen, [1, 2], "step {step}");
            assert!(!decoder.is_mid_frame());
        }
    }

    #[test]
    fn long_and_malformed_frames_are_refused() {
        let mut decoder = Decoder::new();
        decoder.push(&(MAX_FRAME as u32 + 1).to_le_bytes());
        assert!(matches!(decoder.next::<RequestFrame>(), Err(CodecError::TooLong(_))));
        let mut decoder = Decoder::new();
        decoder.push(&[2, 0, 0, 0, b'{', b'x']);
        assert!(matches!(decoder.next::<RequestFrame>(), Err(CodecError::Json(_))));
        let huge = RequestFrame {
            seq: 1,
            request: Request::Attach {
                exec: None,
                streams: AttachStreams {
                    stdin: true,
                    stdout: true,
                    stderr: true,
                    multiplexed: false,
                    pending_input: vec![0; MAX_FRAME],
                    detach_keys: Vec::new(),
                },
            },
        };
        assert!(matches!(encode(&huge), Err(CodecError::TooLong(_))));
    }

    #[test]
    fn descriptors_stay_with_their_frame_when_several_are_in_flight() {
        let (a, b) = UnixStream::pair().unwrap();
        let (r, w) = std::io::pipe().unwrap();
        send_frame(&a, &encode(&signal(1)).unwrap(), &[]).unwrap();
        send_frame(&a, &encode(&signal(2)).unwrap(), &[r.as_fd()]).unwrap();
        send_frame(&a, &encode(&signal(3)).unwrap(), &[w.as_fd(), r.as_fd(), w.as_fd()]).unwrap();
        send_frame(&a, &encode(&signal(4)).unwrap(), &[]).unwrap();
        drop(a);
        let mut reader = FrameReader::new();
        for expected in [(1, 0), (2, 1), (3, 3), (4, 0)] {
            let Incoming::Frame(frame) = reader.read(&b).unwrap() else { panic!("no frame") };
            let request: RequestFrame = serde_json::from_slice(&frame.body).unwrap();
            assert_eq!((request.seq, frame.fds.len()), expected);
        }
        assert!(matches!(reader.read(&b).unwrap(), Incoming::End));
    }

    #[test]
    fn reader_resumes_after_a_partial_frame() {
        let (a, b) = UnixStream::pair().unwrap();
        b.set_nonblocking(true).unwrap();
        let (r, _w) = std::io::pipe().unwrap();
        let frame = encode(&signal(9)).unwrap();
        let mut reader = FrameReader::new();
        assert!(matches!(reader.read(&b).unwrap(), Incoming::Pending));
        send_frame(&a, &frame[..3], &[r.as_fd()]).unwrap();
        assert!(matches!(reader.read(&b).unwrap(), Incoming::Pending));
        send_frame(&a, &frame[3..7], &[]).unwrap();
        assert!(matches!(reader.read(&b).unwrap(), Incoming::Pending));
        send_frame(&a, &frame[7..], &[]).unwrap();
        let Incoming::Frame(got) = reader.read(&b).unwrap() else { panic!("no frame") };
        assert_eq!((got.body.as_slice(), got.fds.len()), (&frame[4..], 1));
        send_frame(&a, &frame[..5], &[]).unwrap();
        drop(a);
        assert!(matches!(reader.read(&b), Err(CodecError::Truncated)));
    }
}
