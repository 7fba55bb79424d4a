//! `logs`: streaming a container's log file, with or without following.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use ferry_shim_proto::log::LogFormat;
use rustix::fs::inotify;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, watch};

use super::state::{Snapshot, State};
use crate::Engine;
use crate::api::{LogOptions, LogStream};
use crate::error::{EngineError, Result};
use crate::logging;
use crate::logging::read::{Formatter, Layout, LogFiles, ReadOutcome};
use crate::time::parse_log_instant;

/// Bytes handed to the client at once.
const BLOCK: usize = 64 * 1024;

impl Engine {
    /// A container's output so far, and what follows when asked.
    pub async fn container_logs(&self, id: &str, o: LogOptions) -> Result<LogStream> {
        let handle = self.inner.containers.find(id)?;
        let snapshot = handle.snapshot();
        if !o.stdout && !o.stderr {
            return Err(EngineError::InvalidParameter(
                "Bad parameters: you must choose at least one stream".to_owned(),
            ));
        }
        let dir = self.inner.paths.container(&snapshot.record.id);
        let Some((path, format)) = logging::stored(&snapshot.record, &dir) else {
            return Err(EngineError::NotSupported(
                "configured logging driver does not support reading".to_owned(),
            ));
        };
        let instant = |field: &str, text: &Option<String>| {
            text.as_deref()
                .filter(|t| !t.is_empty() && *t != "0")
                .map(|t| parse_log_instant(field, t))
                .transpose()
        };
        let multiplexed = !snapshot.record.tty() && !o.json;
        let layout = Layout {
            stdout: o.stdout,
            stderr: o.stderr,
            timestamps: o.timestamps,
            details: o.details,
            multiplexed,
            json: o.json,
            since: instant("since", &o.since)?,
            until: instant("until", &o.until)?,
        };
        let (sender, receiver) = mpsc::channel(8);
        let reader = Reader { sender, watch: handle.watch(), follow: o.follow, tail: o.tail };
        tokio::spawn(async move {
            if let Err(error) = reader.run(&path, format, layout).await {
                let source = error;
                let error = EngineError::File { action: "read", path, source };
                tracing::warn!(%error, "a log cannot be read");
            }
        });
        let body =
            futures_util::stream::unfold(receiver, |mut r| async move { r.recv().await.map(|b| (Ok(b), r)) });
        Ok(LogStream { body: Box::pin(body), multiplexed })
    }
}

struct Reader {
    sender: mpsc::Sender<Bytes>,
    watch: watch::Receiver<Arc<Snapshot>>,
    follow: bool,
    tail: Option<usize>,
}

impl Reader {
    async fn run(mut self, path: &Path, format: LogFormat, layout: Layout) -> std::io::Result<()> {
        // Watching begins before the first read, so that nothing appended in between is missed.
        let changes = if self.follow { Some(watch_directory(path)?) } else { None };
        let mut files = LogFiles::open(path, format)?;
        if let Some(lines) = self.tail {
            files = tokio::task::spawn_blocking(move || files.seek_tail(lines).map(|()| files))
                .await
                .map_err(std::io::Error::other)??;
        } else if let Some(since) = layout.since {
            files.skip_before(since);
        }
        let mut formatter = Formatter::new(layout, format);
        loop {
            let ended = !is_live(&self.watch.borrow_and_update());
            let (f, fmt, outcome) = self.drain(files, formatter).await?;
            (files, formatter) = (f, fmt);
            if outcome == ReadOutcome::PastEnd || self.sender.is_closed() {
                return Ok(());
            }
            let Some(changes) = &changes else { return Ok(()) };
            if files.reopen_if_rotated()? {
                continue;
            }
            // Whatever the container wrote was in the file before its end was announced.
            if ended {
                return Ok(());
            }
            files.rest();
            tokio::select! {
                ready = changes.readable() => drop_events(&mut ready?),
                changed = self.watch.changed() => if changed.is_err() { return Ok(()) },
                () = self.sender.closed() => return Ok(()),
            }
        }
    }

    /// Sends everything that can be read now. Reading happens where blocking is allowed: a log may be gigabytes on
    /// a slow disk.
    async fn drain(
        &self,
        files: LogFiles,
        formatter: Formatter,
    ) -> std::io::Result<(LogFiles, Formatter, ReadOutcome)> {
        let sender = self.sender.clone();
        let read = move || {
            let (mut files, mut formatter) = (files, formatter);
            loop {
                let mut out = Vec::with_capacity(BLOCK + 1024);
                let outcome = files.read(&mut formatter, &mut out, BLOCK)?;
                let gone = !out.is_empty() && sender.blocking_send(Bytes::from(out)).is_err();
                if gone || outcome != ReadOutcome::More {
                    return Ok((files, formatter, outcome));
                }
            }
        };
        tokio::task::spawn_blocking(read).await.map_err(std::io::Error::other)?
    }
}

/// Whether more output may come.
fn is_live(snapshot: &Snapshot) -> bool {
    match snapshot.state {
        State::Running(_) | State::Paused(_) | State::Restarting(_) | State::Starting { .. } => true,
        State::Created { .. } | State::Exited(_) | State::Removing(_) | State::Removed(_) => false,
    }
}

fn watch_directory(log: &Path) -> std::io::Result<AsyncFd<std::os::fd::OwnedFd>> {
    let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    let directory = log.parent().unwrap_or(Path::new("/"));
    // Of a container that never ran, the driver's directory may be missing.
    std::fs::create_dir_all(directory)?;
    let events = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
    inotify::add_watch(&fd, directory, events)?;
    crate::readiness::readable(fd)
}

/// The events say only that something changed; what, the files tell.
fn drop_events(ready: &mut tokio::io::unix::AsyncFdReadyGuard<'_, std::os::fd::OwnedFd>) {
    let mut buffer = [0_u8; 4096];
    while rustix::io::read(ready.get_inner(), &mut buffer).is_ok_and(|n| n > 0) {}
    ready.clear_ready();
}
