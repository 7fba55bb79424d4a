//! `cp`.

mod extract;
mod pack;
mod plan;
mod progress;

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use clap::Args;
use ferry_client::{Request, RequestBody, Response};
use serde_json::Value;
use tokio::sync::mpsc;

use self::plan::{Destination, Place, Source};
use self::progress::Progress;
use super::load::file_body;
use crate::app::App;
use crate::failure::{CmdResult, Failure};
use crate::out::Stream;
use crate::text;
use crate::verb::{Arity, Verb};

/// Copy files/folders between a container and the local filesystem
///
/// Use '-' as the source to read a tar archive from stdin
/// and extract it to a directory destination in a container.
/// Use '-' as the destination to stream a tar archive of a
/// container source to stdout.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Copy {
    /// Archive mode (copy all uid/gid information)
    #[arg(long, short = 'a')]
    archive: bool,
    /// Always follow symbol link in SRC_PATH
    #[arg(long, short = 'L')]
    follow_link: bool,
    /// Suppress progress output during copy. Progress output is automatically suppressed if no terminal is
    /// attached
    #[arg(long, short = 'q')]
    quiet: bool,
    #[arg(hide = true)]
    args: Vec<String>,
}

impl Verb for Copy {
    const PATHS: &'static [&'static str] = &["container cp", "cp"];
    const USAGE: &'static str =
        "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\ncp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH";
    const ARITY: Arity = Arity::Exact(2);

    async fn run(self, app: &App) -> CmdResult {
        for (argument, role) in self.args.iter().zip(["source", "destination"]) {
            if argument.is_empty() {
                return Err(Failure::new(format!("{role} can not be empty")));
            }
        }
        match (Place::parse(&self.args[0]), Place::parse(&self.args[1])) {
            (Place::Container { name, path }, Place::Local(to)) => self.download(app, name, path, to).await,
            (Place::Local(from), Place::Container { name, path }) => self.upload(app, from, name, path).await,
            (Place::Container { .. }, Place::Container { .. }) => {
                Err(Failure::new("copying between containers is not supported"))
            }
            (Place::Local(_), Place::Local(_)) => {
                Err(Failure::new("must specify at least one container source"))
            }
        }
    }
}

/// What the engine says about a path: Go's file mode and, for a symlink, where it leads.
#[derive(Debug)]
struct RemoteStat {
    mode: u64,
    link: String,
}

/// Bits of Go's `os.FileMode`.
const GO_DIR: u64 = 1 << 31;
const GO_SYMLINK: u64 = 1 << 27;

impl RemoteStat {
    fn of(response: &Response) -> Option<Self> {
        let header = response.header("x-docker-container-path-stat")?;
        let stat: Value = serde_json::from_slice(&super::base64_decode(header)?).ok()?;
        Some(Self {
            mode: stat["mode"].as_u64().unwrap_or(0),
            link: stat["linkTarget"].as_str().unwrap_or_default().to_owned(),
        })
    }

    fn is_dir(&self) -> bool {
        self.mode & GO_DIR != 0
    }

    fn is_symlink(&self) -> bool {
        self.mode & GO_SYMLINK != 0
    }
}

fn archive_path(container: &str) -> String {
    format!("/containers/{}/archive", Request::escape(container))
}

impl Copy {
    async fn download(&self, app: &App, container: &str, from: &str, to: &str) -> CmdResult {
        // An empty path is for the engine to refuse.
        let mut from = if from.is_empty() { String::new() } else { plan::container_path(from) };
        let named = plan::base(&from).to_owned();
        if self.follow_link
            && let Some(stat) = stat(app, container, &from).await?
            && stat.is_symlink()
        {
            from = plan::follow(&from, &stat.link);
        }
        let response = app.send(Request::get(archive_path(container)).query("path", &from)).await?;
        let stat = RemoteStat::of(&response)
            .ok_or_else(|| Failure::new("the engine does not say what the source is"))?;
        if to == "-" {
            let mut response = response;
            while let Some(chunk) = response.chunk().await? {
                Stream::Stdout.write_async(&chunk).await?;
            }
            return Ok(0);
        }
        let source = Source { base: named, is_dir: stat.is_dir(), contents: plan::means_contents(&from) };
        let to = plan::absolute(to);
        let known = match std::fs::metadata(&to) {
            Ok(known) => Some(known),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(Failure::new(format!("stat {to}: {}", text::io_reason(&e)))),
        };
        let destination =
            Destination { path: &to, exists: known.is_some(), is_dir: known.is_some_and(|m| m.is_dir()) };
        let target = plan::target(&source, &destination)?;
        if !Path::new(&target.dir).is_dir() {
            return Err(Failure::new(format!(
                "invalid output path: directory {} does not exist",
                text::quote(&target.dir)
            )));
        }
        let keep_owner = self.archive;
        let (tx, rx) = mpsc::channel(4);
        let unpacking =
            tokio::task::spawn_blocking(move || extract::extract(Chunks::new(rx), &target, keep_owner));
        let mut response = response;
        let progress = Progress::start("Copying from container - ", self.is_quiet());
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) => {
                    progress.bytes.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                    // The extractor stopped: it says why.
                    if tx.send(Ok(chunk)).await.is_err() {
                        break;
                    }
                }
                Ok(None) => break,
                Err(e) => {
                    let _ = tx.send(Err(io::Error::other(e.to_string()))).await;
                    break;
                }
            }
        }
        drop(tx);
        unpacking.await.map_err(|e| Failure::new(e.to_string()))??;
        progress.end(Some(&to));
        Ok(0)
    }

    async fn upload(&self, app: &App, from: &str, container: &str, to: &str) -> CmdResult {
        let named = to;
        let mut to = plan::container_path(to);
        let mut known = stat(app, container, &to).await?;
        if let Some(link) = known.as_ref().filter(|s| s.is_symlink()).map(|s| s.link.clone()) {
            to = plan::follow(&to, &link);
            known = stat(app, container, &to).await?;
        }
        let destination = Destination {
            path: &to,
            exists: known.is_some(),
            is_dir: known.as_ref().is_some_and(RemoteStat::is_dir),
        };
        if from == "-" {
            if !destination.is_dir {
                return Err(Failure::new(format!(
                    "destination {} must be a directory",
                    text::quote(&format!("{container}:{to}"))
                )));
            }
            self.put(app, container, &to, file_body(None)?).await?;
            return Ok(0);
        }
        let absolute = plan::absolute(from);
        let metadata = self.look_at(&absolute)?;
        if named.is_empty() && !metadata.is_dir() {
            return Err(Failure::new("no such directory"));
        }
        let source = Source {
            base: plan::base(&absolute).to_owned(),
            is_dir: metadata.is_dir(),
            contents: plan::means_contents(from),
        };
        let target = plan::target(&source, &destination)?;
        let (tx, body) = RequestBody::tar_channel();
        let (path, name) = (from.to_owned(), target.name.clone());
        let follow = self.follow_link;
        let progress = Progress::start("Copying to container - ", self.is_quiet());
        let bytes = Arc::clone(&progress.bytes);
        let packing = std::thread::Builder::new()
            .name("pack".to_owned())
            .spawn(move || pack::pack(Path::new(&path), &name, follow, tx, &bytes))?;
        let sent = self.put(app, container, &target.dir, body).await;
        // The request is over, so the packer is: its own complaint is the better one.
        packing.join().map_err(|_| Failure::new("packing failed"))??;
        sent?;
        progress.end(Some(&format!("{container}:{}", if named.starts_with('/') { &to } else { named })));
        Ok(0)
    }

    async fn put(&self, app: &App, container: &str, dir: &str, body: RequestBody) -> Result<(), Failure> {
        let request = Request::new(ferry_client::Method::PUT, archive_path(container))
            .query("path", dir)
            .query("noOverwriteDirNonDir", "true")
            .flag("copyUIDGID", self.archive)
            .body(body);
        app.done(request).await
    }

    /// As Docker: whoever redirects stdout is no person.
    fn is_quiet(&self) -> bool {
        self.quiet || !Stream::Stdout.is_terminal()
    }

    /// What a local source is; the errors name what Docker's do.
    fn look_at(&self, from: &str) -> Result<std::fs::Metadata, Failure> {
        let bare = plan::trim(from);
        let shown = |path: &Path, e: &io::Error| {
            Failure::new(format!("lstat {}: {}", path.display(), text::io_reason(e)))
        };
        let found = std::fs::symlink_metadata(bare).map_err(|e| shown(Path::new(bare), &e))?;
        let follow = self.follow_link || bare.len() < from.len();
        if !(follow && found.is_symlink()) {
            let asserts_dir = bare.len() < from.len() && !found.is_dir();
            return if asserts_dir { Err(Failure::new("not a directory")) } else { Ok(found) };
        }
        std::fs::metadata(from).map_err(|e| match e.kind() {
            io::ErrorKind::NotADirectory => Failure::new("not a directory"),
            _ => {
                let link = std::fs::read_link(bare).unwrap_or_default();
                shown(&Path::new(bare).parent().unwrap_or(Path::new("/")).join(link), &e)
            }
        })
    }
}

/// What is at `path` in the container; `None` when nothing is.
async fn stat(app: &App, container: &str, path: &str) -> Result<Option<RemoteStat>, Failure> {
    let request = Request::new(ferry_client::Method::HEAD, archive_path(container)).query("path", path);
    match app.send(request).await {
        Ok(response) => Ok(RemoteStat::of(&response)),
        Err(e) if e.status == Some(404) => {
            // An answer to HEAD has no body: whether it is the container that is missing shows only by
            // asking for the container.
            app.done(Request::get(format!("/containers/{}/json", Request::escape(container)))).await?;
            Ok(None)
        }
        Err(e) => Err(e),
    }
}

/// A blocking reader of the chunks another task receives.
struct Chunks {
    rx: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
}

impl Chunks {
    fn new(rx: mpsc::Receiver<io::Result<Bytes>>) -> Self {
        Self { rx, current: Bytes::new() }
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.rx.blocking_recv() {
                Some(chunk) => self.current = chunk?,
                None => return Ok(0),
            }
        }
        let n = self.current.len().min(buffer.len());
        buffer[..n].copy_from_slice(&self.current.split_to(n));
        Ok(n)
    }
}
