//! `context create`, `update` and `rm`.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::failure::{CmdResult, Failure};
use crate::verb::{Arity, Verb};
use crate::{context, opts, out, text};

/// Create a context
///
/// Docker endpoint config:
///
/// NAME                DESCRIPTION
/// from                Copy named context's Docker endpoint configuration
/// host                Docker endpoint on which to connect
/// ca                  Trust certs signed only by this CA
/// cert                Path to TLS certificate file
/// key                 Path to TLS key file
/// skip-tls-verify     Skip TLS certificate validation
///
/// Example:
///
/// $ {prog} context create my-context --description "some description" --docker "host=tcp://myserver:2376,ca=~/ca-file,cert=~/cert-file,key=~/key-file"
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Create {
    /// Description of the context
    #[arg(long, value_name = "string")]
    description: Option<String>,
    /// set the docker endpoint (default [])
    #[arg(long, value_name = "stringToString")]
    docker: Option<String>,
    /// create context from a named context
    #[arg(long, value_name = "string")]
    from: Option<String>,
    #[arg(hide = true)]
    args: Vec<String>,
}

/// Update a context
///
/// Docker endpoint config:
///
/// NAME                DESCRIPTION
/// from                Copy named context's Docker endpoint configuration
/// host                Docker endpoint on which to connect
/// ca                  Trust certs signed only by this CA
/// cert                Path to TLS certificate file
/// key                 Path to TLS key file
/// skip-tls-verify     Skip TLS certificate validation
///
/// Example:
///
/// $ {prog} context update my-context --description "some description" --docker "host=tcp://myserver:2376,ca=~/ca-file,cert=~/cert-file,key=~/key-file"
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Update {
    /// Description of the context
    #[arg(long, value_name = "string")]
    description: Option<String>,
    /// set the docker endpoint (default [])
    #[arg(long, value_name = "stringToString")]
    docker: Option<String>,
    #[arg(hide = true)]
    args: Vec<String>,
}

/// Remove one or more contexts
#[derive(Debug, Args)]
pub struct Remove {
    /// Force the removal of a context in use
    #[arg(long, short = 'f')]
    force: bool,
    #[arg(hide = true)]
    args: Vec<String>,
}

/// An endpoint's description and its certificates.
struct Endpoint {
    meta: Value,
    tls: Vec<(String, Vec<u8>)>,
}

impl Verb for Create {
    const PATHS: &'static [&'static str] = &["context create"];
    const USAGE: &'static str = "[OPTIONS] CONTEXT";
    const ARITY: Arity = Arity::Exact(1);

    async fn run(self, app: &App) -> CmdResult {
        let name = self.args[0].as_str();
        context::check_name(name)?;
        if context::load(app, name).is_ok() {
            return Err(Failure::new(format!("context {} already exists", text::quote(name))));
        }
        if self.docker.is_some() && self.from.is_some() {
            return Err(Failure::new("cannot use --docker flag when --from is set"));
        }
        let (endpoint, description) = match (&self.docker, &self.from) {
            (Some(config), _) => (endpoint(app, config)?, None),
            (None, from) => {
                let current = context::current(app);
                copy(app, from.as_deref().unwrap_or(&current))?
            }
        };
        let description = self.description.or(description).unwrap_or_default();
        context::save(app, name, &described(name, &description, endpoint.meta))?;
        context::save_tls(app, name, &endpoint.tls)?;
        out::println(name)?;
        out::note(format!("Successfully created context {}", text::quote(name)));
        Ok(0)
    }
}

impl Verb for Update {
    const PATHS: &'static [&'static str] = &["context update"];
    const USAGE: &'static str = "[OPTIONS] CONTEXT";
    const ARITY: Arity = Arity::Exact(1);

    async fn run(self, app: &App) -> CmdResult {
        let name = self.args[0].as_str();
        context::check_name(name)?;
        let mut meta = context::load(app, name)?.meta;
        if let Some(description) = self.description.filter(|d| !d.is_empty()) {
            meta["Metadata"]["Description"] = description.into();
        }
        let endpoint = match &self.docker {
            Some(config) => Some(endpoint(app, config)?),
            None => None,
        };
        if let Some(endpoint) = &endpoint {
            meta["Endpoints"]["docker"] = endpoint.meta.clone();
        }
        context::save(app, name, &meta)?;
        if let Some(endpoint) = endpoint {
            context::save_tls(app, name, &endpoint.tls)?;
        }
        out::println(name)?;
        out::note(format!("Successfully updated context {}", text::quote(name)));
        Ok(0)
    }
}

impl Verb for Remove {
    const PATHS: &'static [&'static str] = &["context rm", "context remove"];
    const USAGE: &'static str = "CONTEXT [CONTEXT...]";
    const ARITY: Arity = Arity::AtLeast(1);

    async fn run(self, app: &App) -> CmdResult {
        let current = context::current(app);
        let mut complaints = Vec::new();
        for name in &self.args {
            match self.remove(app, name, &current) {
                Ok(()) => out::println(name)?,
                Err(e) => complaints.push(e.message),
            }
        }
        if complaints.is_empty() { Ok(0) } else { Err(Failure::new(complaints.join("\n"))) }
    }
}

impl Remove {
    fn remove(&self, app: &App, name: &str, current: &str) -> Result<(), Failure> {
        let shown = text::quote(name);
        if name == "default" {
            return Err(Failure::new(format!("context {shown} cannot be removed")));
        }
        if !self.force && context::load(app, name).is_err() {
            return Err(Failure::new(format!("context {shown} does not exist")));
        }
        if name == current {
            if !self.force {
                return Err(Failure::new(format!("context {shown} is in use, set -f flag to force remove")));
            }
            super::contexts::store_current(app, "")?;
        }
        context::remove(app, name)
    }
}

/// A context's file.
fn described(name: &str, description: &str, endpoint: Value) -> Value {
    let mut metadata = Map::new();
    if !description.is_empty() {
        metadata.insert("Description".to_owned(), description.into());
    }
    json!({"Name": name, "Metadata": metadata, "Endpoints": {"docker": endpoint}})
}

/// What another context says; the default one says what the environment does.
fn copy(app: &App, from: &str) -> Result<(Endpoint, Option<String>), Failure> {
    if from == "default" {
        let host = super::contexts::default_host(app);
        let endpoint = Endpoint { meta: json!({"Host": host, "SkipTLSVerify": false}), tls: Vec::new() };
        return Ok((endpoint, Some("Current DOCKER_HOST based configuration".to_owned())));
    }
    let other = context::load(app, from)?;
    let endpoint =
        Endpoint { meta: other.meta["Endpoints"]["docker"].clone(), tls: context::tls_files(app, from) };
    Ok((endpoint, Some(other.description)))
}

/// `host=tcp://…,ca=…,cert=…,key=…,skip-tls-verify=…`, or `from=…`.
fn endpoint(app: &App, config: &str) -> Result<Endpoint, Failure> {
    let what = "unable to create docker endpoint config";
    let failed = |e: &dyn std::fmt::Display| Failure::new(format!("{what}: {e}"));
    let mut settings = std::collections::BTreeMap::new();
    for field in opts::mount::csv(config)? {
        let Some((key, value)) = field.split_once('=') else {
            return Err(Failure::new(format!("{field} must be formatted as key=value")));
        };
        if !["from", "host", "ca", "cert", "key", "skip-tls-verify"].contains(&key) {
            return Err(failed(&format!("unrecognized config key: {key}")));
        }
        settings.insert(key.to_owned(), value.to_owned());
    }
    if let Some(from) = settings.get("from") {
        return Ok(copy(app, from)?.0);
    }
    let skip = match settings.get("skip-tls-verify") {
        Some(text) => {
            text::parse_bool(text).map_err(|e| failed(&format!("skip-tls-verify: invalid value: {e}")))?
        }
        None => false,
    };
    let mut tls = Vec::new();
    for (key, file) in [("ca", "ca.pem"), ("cert", "cert.pem"), ("key", "key.pem")] {
        let Some(path) = settings.get(key).filter(|p| !p.is_empty()) else { continue };
        let content = std::fs::read(at_home(path)).map_err(|e| failed(&text::open_error(path, &e)))?;
        tls.push((format!("docker/{file}"), content));
    }
    let host = settings.get("host").map(String::as_str).unwrap_or_default();
    let good = host.is_empty() || host.split_once("://").is_some_and(|(_, rest)| !rest.is_empty());
    if !good {
        return Err(failed(&format!(
            "unable to apply docker endpoint options: unable to parse docker host `{host}`"
        )));
    }
    let mut meta = Map::new();
    if !host.is_empty() {
        meta.insert("Host".to_owned(), host.into());
    }
    meta.insert("SkipTLSVerify".to_owned(), skip.into());
    Ok(Endpoint { meta: Value::Object(meta), tls })
}

/// `~/` is the user's home, as shells leave it alone behind `ca=`.
fn at_home(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => PathBuf::from(path),
    }
}
