//! `load`, and feeding files to the engine.

use std::fs::File;
use std::io::Read;

use clap::Args;
use ferry_client::{Request, RequestBody, Sender};

use super::inspect::platform;
use crate::app::App;
use crate::failure::{CmdResult, Failure};
use crate::format::progress::Progress;
use crate::out::Stream;
use crate::session::terminal;
use crate::text;
use crate::verb::{Arity, Verb};

/// Load an image from a tar archive or STDIN
#[derive(Debug, Args)]
pub struct Load {
    /// Read from tar archive file, instead of STDIN
    #[arg(long, short = 'i', value_name = "string")]
    input: Option<String>,
    /// Load only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    /// Suppress the load output
    #[arg(long, short = 'q')]
    quiet: bool,
    #[arg(hide = true)]
    args: Vec<String>,
}

impl Verb for Load {
    const PATHS: &'static [&'static str] = &["image load", "load"];
    const USAGE: &'static str = "[OPTIONS]";
    const ARITY: Arity = Arity::None;

    async fn run(self, app: &App) -> CmdResult {
        let platform =
            platform(self.platform.as_deref()).map_err(|e| Failure::new(format!("invalid platform: {e}")))?;
        let input = self.input.as_deref().filter(|i| !i.is_empty());
        if input.is_none() && terminal::stdin_is_terminal() {
            return Err(Failure::new("requested load from stdin, but stdin is empty"));
        }
        let body = file_body(input)?;
        let quiet = self.quiet || !Stream::Stdout.is_terminal();
        let request = Request::post("/images/load")
            .query("quiet", if quiet { "1" } else { "0" })
            .query_opt("platform", &platform)
            .body(body);
        let response = app.send(request).await?;
        // The names of what was loaded are part of the stream and are shown even when quiet.
        Progress::new(Stream::Stdout, false).follow(response).await?;
        Ok(0)
    }
}

/// A body that streams a file, or stdin when there is none.
///
/// # Errors
/// When the file cannot be opened.
pub fn file_body(path: Option<&str>) -> Result<RequestBody, Failure> {
    let (tx, body) = RequestBody::tar_channel();
    match path {
        Some(path) => {
            let file = File::open(path).map_err(|e| Failure::new(text::open_error(path, &e)))?;
            if file.metadata().is_ok_and(|m| m.is_dir()) {
                return Err(Failure::new(format!("read {path}: is a directory")));
            }
            feed(file, tx);
        }
        None => feed(Stdin, tx),
    }
    Ok(body)
}

/// Sends what `from` yields from a thread of its own: files cannot be read without blocking.
fn feed(mut from: impl Read + Send + 'static, to: Sender) {
    let _ = std::thread::Builder::new().name("upload".to_owned()).spawn(move || {
        let mut buffer = vec![0; 128 * 1024];
        loop {
            match from.read(&mut buffer) {
                Ok(0) => return,
                Ok(n) => {
                    let chunk = buffer[..n].to_vec().into();
                    if to.blocking_send(Ok(chunk)).is_err() {
                        return;
                    }
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => {
                    let _ = to.blocking_send(Err(e));
                    return;
                }
            }
        }
    });
}

/// Stdin without the standard library's buffer and lock.
#[derive(Debug)]
struct Stdin;

impl Read for Stdin {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        Ok(rustix::io::read(rustix::stdio::stdin(), buffer)?)
    }
}
