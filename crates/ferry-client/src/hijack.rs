//! Connections taken over by a raw stream: attach and exec.

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;

/// A connection after the engine switched it to a raw stream.
///
/// Reads yield the container's output (framed unless it has a terminal), writes are its stdin;
/// shutting the write side down closes that stdin and leaves reading open.
#[derive(Debug)]
pub struct Hijacked {
    /// The stream, including bytes the engine sent right behind its answer.
    pub io: TokioIo<Upgraded>,
    /// Whether the engine announced `application/vnd.docker.multiplexed-stream`; `None` when it did not
    /// say (API before 1.42).
    pub multiplexed: Option<bool>,
}
