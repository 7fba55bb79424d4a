//! `create`, and the part of `run` that is the same.

use clap::Args;
use ferry_client::Request;
use serde_json::Value;

use crate::app::App;
use crate::commands::pull;
use crate::failure::{CLIENT_FAILED, CmdResult, Failure};
use crate::opts::create as body;
use crate::opts::process::ContainerFlags;
use crate::verb::{Arity, Verb};
use crate::{out, text};

/// Create a new container
#[derive(Debug, Args)]
#[command(mut_arg("pull", |a| a.help("Pull image before creating (\"always\", \"missing\", \"never\") (default \"missing\")")))]
pub struct Create {
    #[command(flatten)]
    flags: ContainerFlags,
}

impl Verb for Create {
    const PATHS: &'static [&'static str] = &["container create", "create"];
    const USAGE: &'static str = "[OPTIONS] IMAGE [COMMAND] [ARG...]";
    const ARITY: Arity = Arity::AtLeast(1);
    const RUN_STYLE_ERRORS: bool = true;

    async fn run(self, app: &App) -> CmdResult {
        check_pull_policy(&self.flags)?;
        let creation = body::build(&self.flags, proxies(app, &self.flags)?)
            .map_err(|e| Failure::new(e).with_code(CLIENT_FAILED))?;
        let id = create(app, &self.flags, &creation.body).await?;
        out::println(id)?;
        Ok(0)
    }
}

/// Variables for the proxies of the configuration, as far as the flags do not set them.
pub fn proxies(app: &App, flags: &ContainerFlags) -> Result<Vec<String>, Failure> {
    if app.config().proxies.is_empty() {
        return Ok(Vec::new());
    }
    let host = app.client()?.endpoint().to_string();
    Ok(app.config().proxy_environment(&host, &flags.env))
}

/// Refuses an unknown `--pull`.
pub fn check_pull_policy(flags: &ContainerFlags) -> Result<(), Failure> {
    match flags.pull.as_deref() {
        None | Some("" | "always" | "missing" | "never") => Ok(()),
        Some(other) => Err(Failure::new(format!(
            "invalid pull option: '{other}': must be one of \"always\", \"missing\" or \"never\""
        ))
        .with_code(CLIENT_FAILED)),
    }
}

/// Creates the container, pulling its image if need be, and returns its id.
pub async fn create(app: &App, flags: &ContainerFlags, body: &Value) -> Result<String, Failure> {
    let image = flags.args.first().map(String::as_str).unwrap_or_default();
    if let Some(platform) = flags.platform.as_deref().filter(|p| !p.is_empty()) {
        super::inspect::platform(Some(platform))
            .map_err(|e| Failure::new(format!("error parsing specified platform: {e}")))?;
    }
    let reference = match image.parse::<ferry_types::ImageRef>() {
        Ok(reference) => Some(reference.tag_default()),
        Err(ferry_types::ImageRefError::LooksLikeId(_)) => None,
        Err(e) => return Err(Failure::new(e)),
    };
    let mut cid_file = flags.cidfile.as_deref().filter(|p| !p.is_empty()).map(CidFile::open).transpose()?;
    let pull = async || match &reference {
        Some(r) => {
            let how =
                pull::Options { platform: flags.platform.as_deref(), quiet: flags.quiet, to_stderr: true };
            pull::pull(app, r, how).await
        }
        None => Ok(()),
    };
    if flags.pull.as_deref() == Some("always") {
        pull().await?;
    }
    let request = || {
        Request::post("/containers/create")
            .query_opt("name", flags.name.as_deref().unwrap_or(""))
            .query_opt("platform", flags.platform.as_deref().unwrap_or(""))
            .json(body)
    };
    let may_pull = matches!(flags.pull.as_deref(), None | Some("" | "missing"));
    let answer = match app.json(request()?).await {
        Err(e) if e.status == Some(404) && may_pull && reference.is_some() && is_missing_image(&e) => {
            if !flags.quiet {
                let shown = reference.as_ref().map(ferry_types::ImageRef::familiar).unwrap_or_default();
                out::note(format!("Unable to find image '{shown}' locally"));
            }
            pull().await?;
            app.json(request()?).await?
        }
        other => other?,
    };
    for warning in answer["Warnings"].as_array().into_iter().flatten() {
        out::note(format!("WARNING: {}", warning.as_str().unwrap_or_default()));
    }
    let id = answer["Id"].as_str().unwrap_or_default().to_owned();
    if let Some(file) = &mut cid_file {
        file.write(&id)?;
    }
    Ok(id)
}

fn is_missing_image(e: &Failure) -> bool {
    e.message.contains("No such image") || e.message.contains("no such image")
}

/// The file of `--cidfile`, removed again unless an id gets into it.
#[derive(Debug)]
struct CidFile {
    path: String,
    written: bool,
}

impl CidFile {
    fn open(path: &str) -> Result<Self, Failure> {
        if crate::app::exists(path.as_ref()) {
            return Err(Failure::new(format!(
                "container ID file found, make sure the other container isn't running or delete {path}"
            )));
        }
        std::fs::File::create_new(path).map_err(|e| {
            Failure::new(format!("failed to create the container ID file: {}", text::open_error(path, &e)))
        })?;
        Ok(Self { path: path.to_owned(), written: false })
    }

    fn write(&mut self, id: &str) -> Result<(), Failure> {
        std::fs::write(&self.path, id).map_err(|e| {
            Failure::new(format!(
                "failed to write the container ID to the file: {}",
                text::open_error(&self.path, &e)
            ))
        })?;
        self.written = true;
        Ok(())
    }
}

impl Drop for CidFile {
    fn drop(&mut self) {
        if !self.written {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
