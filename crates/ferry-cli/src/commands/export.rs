//! `export`, and saving a streamed answer to a file.

use std::io::Write as _;
use std::path::Path;

use clap::Args;
use ferry_client::{Request, Response};

use crate::app::App;
use crate::failure::{CmdResult, Failure};
use crate::out::Stream;
use crate::text;
use crate::verb::{Arity, Verb};

/// Export a container's filesystem as a tar archive
#[derive(Debug, Args)]
pub struct Export {
    /// Write to a file, instead of STDOUT
    #[arg(long, short = 'o', value_name = "string")]
    output: Option<String>,
    #[arg(hide = true)]
    args: Vec<String>,
}

impl Verb for Export {
    const PATHS: &'static [&'static str] = &["container export", "export"];
    const USAGE: &'static str = "[OPTIONS] CONTAINER";
    const ARITY: Arity = Arity::Exact(1);

    async fn run(self, app: &App) -> CmdResult {
        let output = Output::new(self.output.as_deref(), "failed to export container")?;
        let request = Request::get(format!("/containers/{}/export", Request::escape(&self.args[0])));
        output.save(app.send(request).await?).await?;
        Ok(0)
    }
}

/// Where an archive goes.
#[derive(Debug)]
pub struct Output<'a> {
    path: Option<&'a str>,
}

impl<'a> Output<'a> {
    /// Checks that the archive has somewhere to go, before the engine is troubled.
    ///
    /// # Errors
    /// When stdout is a terminal, or the file's directory does not exist.
    pub fn new(path: Option<&'a str>, what: &str) -> Result<Self, Failure> {
        let path = path.filter(|p| !p.is_empty());
        match path {
            None if Stream::Stdout.is_terminal() => {
                Err(Failure::new("cowardly refusing to save to a terminal. Use the -o flag or redirect"))
            }
            None => Ok(Self { path }),
            Some(file) => {
                let parent = Path::new(file).parent().filter(|p| !p.as_os_str().is_empty());
                if parent.is_some_and(|p| !p.is_dir()) {
                    let dir = parent.map(|p| p.display().to_string()).unwrap_or_default();
                    return Err(Failure::new(format!(
                        "{what}: invalid output path: stat {dir}: no such file or directory"
                    )));
                }
                if Path::new(file).is_dir() {
                    return Err(Failure::new(format!("{what}: cannot write to a directory")));
                }
                Ok(Self { path })
            }
        }
    }

    /// Writes the answer. A file appears under its name only when it is complete.
    ///
    /// # Errors
    /// When either side breaks.
    pub async fn save(self, mut response: Response) -> Result<(), Failure> {
        let Some(path) = self.path else {
            while let Some(chunk) = response.chunk().await? {
                Stream::Stdout.write_async(&chunk).await?;
            }
            return Ok(());
        };
        let name = Path::new(path).file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let partial = Path::new(path).with_file_name(format!(".{name}.{}.partial", std::process::id()));
        let failed = |e: &std::io::Error| Failure::new(text::open_error(path, e));
        // A device or pipe cannot be replaced by a file: it is written in place.
        let in_place = std::fs::metadata(path).is_ok_and(|m| !m.is_file());
        let target = if in_place { Path::new(path).to_owned() } else { partial.clone() };
        let result = async {
            let mut file = std::fs::File::create(&target).map_err(|e| failed(&e))?;
            while let Some(chunk) = response.chunk().await? {
                file.write_all(&chunk).map_err(|e| failed(&e))?;
            }
            Ok(())
        }
        .await;
        if in_place {
            return result;
        }
        let result = result.and_then(|()| std::fs::rename(&partial, path).map_err(|e| failed(&e)));
        if result.is_err() {
            let _ = std::fs::remove_file(&partial);
        }
        result
    }
}
