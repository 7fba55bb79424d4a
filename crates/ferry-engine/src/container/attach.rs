//! `attach`: handing a client's connection to the container's shim, and `--detach-keys`.

use std::sync::Arc;

use ferry_shim_proto::AttachStreams;

use super::handle::{Attaching, ContainerHandle, OwnerRequest};
use super::state::State;
use crate::Engine;
use crate::api::{AttachOptions, Hijacked};
use crate::error::{EngineError, Result};
use crate::logging;
use crate::logging::read::{Formatter, Layout, LogFiles, ReadOutcome};

/// Docker's default, Ctrl-P Ctrl-Q.
const DEFAULT_DETACH_KEYS: [u8; 2] = [16, 17];

/// A client about to be attached.
pub struct Attachment {
    engine: Engine,
    handle: Arc<ContainerHandle>,
    options: AttachOptions,
    keys: Vec<u8>,
    multiplexed: bool,
    /// Starts wait for it.
    _announced: Attaching,
}

impl Engine {
    /// Checks an attach; the errors still fit into an HTTP answer.
    pub fn container_attach_prepare(&self, id: &str, options: AttachOptions) -> Result<Attachment> {
        let handle = self.inner.containers.find(id)?;
        let snapshot = handle.snapshot();
        match snapshot.state {
            State::Paused(_) => {
                return Err(EngineError::Conflict(format!(
                    "container {id} is paused, unpause the container before attach"
                )));
            }
            State::Restarting(_) => {
                return Err(EngineError::Conflict(format!(
                    "container {id} is restarting, wait until the container is running"
                )));
            }
            _ => {}
        }
        let keys = detach_keys(options.detach_keys.as_deref())?;
        let announced = handle.attaching();
        let multiplexed = !snapshot.record.tty();
        Ok(Attachment { engine: self.clone(), handle, options, keys, multiplexed, _announced: announced })
    }
}

impl Attachment {
    /// Whether output is framed (no terminal).
    pub fn multiplexed(&self) -> bool {
        self.multiplexed
    }

    /// Never frames the output, for clients that have a framing of their own.
    #[must_use]
    pub fn raw(self) -> Self {
        Self { multiplexed: false, ..self }
    }

    /// Hands the connection over. The engine is out of the data path afterwards.
    pub async fn connect(self, client: Hijacked) -> Result<()> {
        let mut client = client;
        if self.options.logs {
            client = self.replay_log(client).await?;
        }
        if !self.options.stream {
            return Ok(());
        }
        let record = &self.handle.snapshot().record;
        let streams = AttachStreams {
            stdin: self.options.stdin && record.config.open_stdin,
            stdout: self.options.stdout,
            stderr: self.options.stderr,
            multiplexed: self.multiplexed,
            pending_input: client.pending_input,
            detach_keys: self.keys.clone(),
        };
        self.handle.ask(|reply| OwnerRequest::Attach { streams, socket: client.socket, reply }).await
    }

    /// Sends what the log has so far.
    async fn replay_log(&self, client: Hijacked) -> Result<Hijacked> {
        let record = Arc::clone(&self.handle.snapshot().record);
        let dir = self.engine.inner.paths.container(&record.id);
        let Some((path, format)) = logging::stored(&record, &dir) else {
            return Err(EngineError::NotSupported(
                "configured logging driver does not support reading".to_owned(),
            ));
        };
        let layout = Layout {
            stdout: self.options.stdout,
            stderr: self.options.stderr,
            timestamps: false,
            details: false,
            multiplexed: self.multiplexed,
            json: false,
            since: None,
            until: None,
        };
        let replay = move || {
            let fail = |source| EngineError::File { action: "read", path: path.clone(), source };
            let mut files = LogFiles::open(&path, format).map_err(fail)?;
            let mut formatter = Formatter::new(layout, format);
            let mut out = Vec::new();
            loop {
                let outcome = files.read(&mut formatter, &mut out, 1 << 16).map_err(fail)?;
                if write_all(&client.socket, &out).is_err() {
                    // The client has left; the attach finds out by itself.
                    break;
                }
                out.clear();
                if outcome != ReadOutcome::More {
                    break;
                }
            }
            Ok(client)
        };
        crate::blocking(replay).await
    }
}

/// Writes to a socket that may be non-blocking.
fn write_all(socket: &std::os::fd::OwnedFd, mut bytes: &[u8]) -> std::io::Result<()> {
    use rustix::event::{PollFd, PollFlags, poll};
    while !bytes.is_empty() {
        match rustix::net::send(socket, bytes, rustix::net::SendFlags::NOSIGNAL) {
            Ok(n) => bytes = &bytes[n..],
            Err(rustix::io::Errno::AGAIN) => {
                poll(&mut [PollFd::new(socket, PollFlags::OUT)], None)?;
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Reads Docker's notation: comma-separated characters or `ctrl-` and one of `a`–`z @ [ \ ] ^ _`.
pub(crate) fn detach_keys(text: Option<&str>) -> Result<Vec<u8>> {
    let Some(text) = text.filter(|t| !t.is_empty()) else { return Ok(DEFAULT_DETACH_KEYS.to_vec()) };
    let invalid = || EngineError::InvalidParameter(format!("Invalid detach keys ({text}) provided"));
    let mut keys = Vec::new();
    for key in text.split(',') {
        let byte = match key.strip_prefix("ctrl-") {
            Some(letter) => match letter.as_bytes() {
                [b @ b'a'..=b'z'] => b - b'a' + 1,
                [b'@'] => 0,
                [b'['] => 27,
                [b'\\'] => 28,
                [b']'] => 29,
                [b'^'] => 30,
                [b'_'] => 31,
                _ => return Err(invalid()),
            },
            None => match key.as_bytes() {
                [b] => *b,
                _ => return Err(invalid()),
            },
        };
        keys.push(byte);
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_sequences() {
        assert_eq!(detach_keys(None).unwrap(), [16, 17]);
        assert_eq!(detach_keys(Some("")).unwrap(), [16, 17]);
        assert_eq!(detach_keys(Some("ctrl-a,x,ctrl-]")).unwrap(), [1, b'x', 29]);
        for bad in ["ctrl-", "ctrl-A", "xy", "a,,b", "ctrl-1"] {
            assert!(detach_keys(Some(bad)).is_err(), "{bad}");
        }
    }
}
