//! Request bodies.

use std::io;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use hyper::body::Frame;
use tokio::sync::mpsc;

/// What hyper sends.
pub(crate) type WireBody = UnsyncBoxBody<Bytes, io::Error>;

/// A request's body.
#[derive(Debug, Default)]
pub enum RequestBody {
    /// No body.
    #[default]
    Empty,
    /// `application/json`.
    Json(Bytes),
    /// `application/x-tar`, sent chunked as it is produced; see [`Sender`].
    Tar(mpsc::Receiver<io::Result<Bytes>>),
}

/// Feeds a streamed body. An error sent through it breaks the request off, so that the engine cannot
/// take a truncated body for a whole one.
pub type Sender = mpsc::Sender<io::Result<Bytes>>;

impl RequestBody {
    /// A streamed body and the end that feeds it, which holds a few chunks before it makes the producer
    /// wait.
    pub fn tar_channel() -> (Sender, Self) {
        let (tx, rx) = mpsc::channel(4);
        (tx, Self::Tar(rx))
    }

    /// Content type to announce.
    pub(crate) fn content_type(&self) -> Option<&'static str> {
        match self {
            Self::Empty => None,
            Self::Json(_) => Some("application/json"),
            Self::Tar(_) => Some("application/x-tar"),
        }
    }

    /// A second copy for a retry; `None` for a stream, which exists once.
    pub(crate) fn replay(&self) -> Option<Self> {
        match self {
            Self::Empty => Some(Self::Empty),
            Self::Json(bytes) => Some(Self::Json(bytes.clone())),
            Self::Tar(_) => None,
        }
    }

    pub(crate) fn into_wire(self) -> WireBody {
        match self {
            Self::Empty => Empty::new().map_err(|never| match never {}).boxed_unsync(),
            Self::Json(bytes) => Full::new(bytes).map_err(|never| match never {}).boxed_unsync(),
            Self::Tar(rx) => {
                let chunks = futures_util::stream::unfold(rx, |mut rx| async move {
                    rx.recv().await.map(|chunk| (chunk, rx))
                });
                StreamBody::new(chunks.map(|chunk| chunk.map(Frame::data))).boxed_unsync()
            }
        }
    }
}
