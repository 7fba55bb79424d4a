//! `context` commands: reading stored contexts and choosing one.

use clap::Args;
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::failure::{CmdResult, Failure};
use crate::format::json as layout;
use crate::format::listing::{Listing, Row};
use crate::format::template::Format;
use crate::verb::{Arity, Verb};
use crate::{context, out, text};

/// List contexts
#[derive(Debug, Args)]
pub struct List {
    #[arg(long, value_name = "string", help = super::LIST_FORMAT_HELP)]
    format: Option<String>,
    /// Only show context names
    #[arg(long, short = 'q')]
    quiet: bool,
    #[arg(hide = true)]
    args: Vec<String>,
}

/// Set the current docker context
#[derive(Debug, Args)]
pub struct Use {
    #[arg(hide = true)]
    args: Vec<String>,
}

/// Print the name of the current context
#[derive(Debug, Args)]
pub struct Show {
    #[arg(hide = true)]
    args: Vec<String>,
}

/// Display detailed information on one or more contexts
#[derive(Debug, Args)]
pub struct Inspect {
    #[arg(long, short = 'f', value_name = "string", help = super::INSPECT_FORMAT_HELP)]
    format: Option<String>,
    #[arg(hide = true)]
    args: Vec<String>,
}

/// Address of the default context: what the environment says, or the default socket.
pub fn default_host(app: &App) -> String {
    let env = std::env::var("DOCKER_HOST").ok().filter(|h| !h.is_empty());
    app.globals.host.first().cloned().or(env).unwrap_or_else(|| context::default_host(&app.prog).to_owned())
}

/// Says that the environment has the last word over `wanted`.
fn warn_overridden(wanted: &str) {
    if std::env::var("DOCKER_HOST").is_ok_and(|h| !h.is_empty()) {
        out::note(format!(
            "Warning: DOCKER_HOST environment variable overrides the active context. To use {wanted}, either set the global --context flag, or unset DOCKER_HOST environment variable.",
        ));
    }
}

impl Verb for List {
    const PATHS: &'static [&'static str] = &["context ls", "context list"];
    const USAGE: &'static str = "[OPTIONS]";
    const ARITY: Arity = Arity::None;

    async fn run(self, app: &App) -> CmdResult {
        let current = context::current(app);
        let table = self.format.as_deref().is_none_or(|f| f.is_empty() || f.starts_with("table"));
        let row = |name: &str, description: &str, host: &str| {
            let is_current = name == current;
            let shown =
                if is_current && table && !self.quiet { format!("{name} *") } else { name.to_owned() };
            Row::new([
                ("Name", shown),
                ("Description", description.to_owned()),
                ("DockerEndpoint", host.to_owned()),
                ("Error", String::new()),
            ])
            .with_flag("Current", is_current)
        };
        let mut rows = vec![row("default", "Current DOCKER_HOST based configuration", &default_host(app))];
        rows.extend(context::all(app).iter().map(|c| row(&c.name, &c.description, &c.host)));
        rows.sort_by(|a, b| a.get("Name").cmp(b.get("Name")));
        let listing = Listing {
            type_name: "*formatter.clientContextContext",
            raw: "",
            headers: &[
                ("Name", "NAME"),
                ("Description", "DESCRIPTION"),
                ("DockerEndpoint", "DOCKER ENDPOINT"),
                ("Error", "ERROR"),
                ("Current", "CURRENT"),
            ],
            columns: &["Name", "Description", "DockerEndpoint", "Error"],
            quiet: self.quiet.then_some("Name"),
        };
        out::print(listing.render(self.format.as_deref(), &rows)?)?;
        warn_overridden("a context");
        Ok(0)
    }
}

impl Verb for Show {
    const PATHS: &'static [&'static str] = &["context show"];
    const USAGE: &'static str = "";
    const ARITY: Arity = Arity::None;

    async fn run(self, app: &App) -> CmdResult {
        out::println(context::current(app))?;
        Ok(0)
    }
}

impl Verb for Use {
    const PATHS: &'static [&'static str] = &["context use"];
    const USAGE: &'static str = "CONTEXT";
    const ARITY: Arity = Arity::Exact(1);
    const BARE_COUNT: bool = true;

    async fn run(self, app: &App) -> CmdResult {
        let name = self.args[0].as_str();
        if name != "default" {
            context::load(app, name)?;
        }
        store_current(app, if name == "default" { "" } else { name })?;
        out::println(name)?;
        out::note(format!("Current context is now {}", text::quote(name)));
        if name != "default" {
            warn_overridden(&text::quote(name));
        }
        Ok(0)
    }
}

/// Writes `currentContext` into `config.json`; an empty name takes it out.
pub fn store_current(app: &App, name: &str) -> Result<(), Failure> {
    change_config(app, |config| {
        if name.is_empty() {
            if let Some(fields) = config.as_object_mut() {
                fields.remove("currentContext");
            }
        } else {
            config["currentContext"] = name.into();
        }
    })
}

/// Changes `config.json`, leaving everything else in it as it is.
///
/// # Errors
/// When the file is no JSON object or cannot be written.
pub fn change_config(app: &App, change: impl FnOnce(&mut Value)) -> Result<(), Failure> {
    let dir = app.config_dir();
    let path = dir.join("config.json");
    let shown = path.display().to_string();
    let config: Map<String, Value> = match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| Failure::new(format!("{shown}: {e}")))?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Map::new(),
        Err(e) => return Err(Failure::new(text::open_error(&shown, &e))),
    };
    let mut config = Value::Object(config);
    // Other programs expect the key to be there.
    if !config["auths"].is_object() {
        config["auths"] = json!({});
    }
    change(&mut config);
    let content = layout::indent(&config.to_string(), "", "\t");
    let failed = |e: std::io::Error| Failure::new(text::open_error(&shown, &e));
    std::fs::create_dir_all(&dir).map_err(failed)?;
    // The file may hold credentials: it is replaced as a whole, readable by its owner only, unless it
    // had other permissions before.
    let partial = dir.join(format!("config.json.{}", std::process::id()));
    let mode = std::fs::metadata(&path).ok().map(|m| m.permissions());
    {
        use std::io::Write as _;
        use std::os::unix::fs::OpenOptionsExt as _;
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&partial)
            .map_err(failed)?;
        file.write_all(content.as_bytes()).map_err(failed)?;
        if let Some(mode) = mode {
            file.set_permissions(mode).map_err(failed)?;
        }
    }
    std::fs::rename(&partial, &path).map_err(failed)
}

impl Verb for Inspect {
    const PATHS: &'static [&'static str] = &["context inspect"];
    const USAGE: &'static str = "[OPTIONS] [CONTEXT] [CONTEXT...]";
    const ARITY: Arity = Arity::AtLeast(0);

    async fn run(self, app: &App) -> CmdResult {
        let names = if self.args.is_empty() { vec![context::current(app)] } else { self.args.clone() };
        let mut found = Vec::new();
        let mut complaints = Vec::new();
        for name in &names {
            match object(app, name) {
                Ok(object) => found.push(object),
                Err(e) => complaints.push(e.message),
            }
        }
        match self.format.as_deref().filter(|f| !f.is_empty()) {
            None => {
                let all: Vec<String> = found.iter().map(in_order).collect();
                out::println(layout::indent(&format!("[{}]", all.join(",")), "", "    "))?;
            }
            Some("json") => {
                out::println(format!("[{}]", found.iter().map(in_order).collect::<Vec<_>>().join(",")))?
            }
            Some(source) => {
                let template = Format::parse(source)?;
                for object in &found {
                    out::println(template.show(object, "context.inspect")?)?;
                }
            }
        }
        if complaints.is_empty() { Ok(0) } else { Err(Failure::new(complaints.join("\n"))) }
    }
}

fn object(app: &App, name: &str) -> Result<Value, Failure> {
    if name == "default" {
        return Ok(json!({
            "Name": "default",
            "Metadata": {},
            "Endpoints": {"docker": {"Host": default_host(app), "SkipTLSVerify": false}},
            "TLSMaterial": {},
            "Storage": {"MetadataPath": "<IN MEMORY>", "TLSPath": "<IN MEMORY>"},
        }));
    }
    let context = context::load(app, name)?;
    let files: Vec<String> = std::fs::read_dir(&context.tls_dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    let material = if files.is_empty() { json!({}) } else { json!({"docker": files}) };
    let tls_path = context.tls_dir.parent().unwrap_or(&context.tls_dir);
    Ok(json!({
        "Name": context.name,
        "Metadata": context.meta["Metadata"],
        "Endpoints": context.meta["Endpoints"],
        "TLSMaterial": material,
        "Storage": {"MetadataPath": context.meta_dir, "TLSPath": tls_path},
    }))
}

/// The object's fields in the order people know.
fn in_order(object: &Value) -> String {
    let keys = ["Name", "Metadata", "Endpoints", "TLSMaterial", "Storage"];
    let fields: Vec<String> =
        keys.iter().map(|k| format!("\"{k}\":{}", layout::compact(&object[*k]))).collect();
    format!("{{{}}}", fields.join(","))
}
