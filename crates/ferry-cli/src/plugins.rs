//! Programs that add commands: `docker-compose`, `docker-buildx` and others, found and run as Docker's
//! client does.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::app::App;
use crate::failure::Failure;

/// What a plugin is called with to say what it is.
const METADATA: &str = "docker-cli-plugin-metadata";
/// Tells a plugin which program it belongs to.
const ORIGINAL: &str = "DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND";
/// Folders of all users.
const FOLDERS: [&str; 4] = [
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
];

/// What a plugin says of itself.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Metadata {
    pub schema_version: String,
    pub vendor: String,
    pub version: String,
    pub short_description: String,
    pub hidden: bool,
}

/// A plugin.
#[derive(Debug, Clone)]
pub struct Plugin {
    /// The command it adds.
    pub name: String,
    pub path: PathBuf,
    /// What it says of itself, or why it cannot be used.
    pub about: Result<Metadata, String>,
}

fn folders(app: &App) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = app.config().cli_plugins_extra_dirs.iter().map(PathBuf::from).collect();
    all.push(app.config_dir().join("cli-plugins"));
    all.extend(FOLDERS.iter().map(PathBuf::from));
    all
}

/// Whether a command can be called so.
fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_lowercase())
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

/// The program behind a command; the first folder that has one counts.
fn locate(app: &App, name: &str) -> Option<PathBuf> {
    if !is_name(name) {
        return None;
    }
    folders(app).into_iter().map(|dir| dir.join(format!("docker-{name}"))).find(|path| path.is_file())
}

/// The plugin that adds the command `name`, if it is one that works.
pub fn find(app: &App, name: &str) -> Option<Plugin> {
    look_at(app, name).filter(|plugin| plugin.about.is_ok())
}

fn look_at(app: &App, name: &str) -> Option<Plugin> {
    let path = locate(app, name)?;
    let about = metadata(&path);
    Some(Plugin { name: name.to_owned(), path, about })
}

/// All plugins by name.
pub fn all(app: &App) -> Vec<Plugin> {
    let mut names: Vec<String> = folders(app)
        .iter()
        .filter_map(|dir| std::fs::read_dir(dir).ok())
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_prefix("docker-").map(str::to_owned))
        .filter(|name| is_name(name))
        .collect();
    names.sort();
    names.dedup();
    names.iter().filter_map(|name| look_at(app, name)).collect()
}

fn metadata(path: &Path) -> Result<Metadata, String> {
    let output = Command::new(path)
        .arg(METADATA)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .map_err(|e| format!("failed to fetch metadata: {}", crate::text::io_reason(&e)))?;
    if !output.status.success() {
        return Err(format!("failed to fetch metadata: exit status {}", output.status.code().unwrap_or(-1)));
    }
    let about: Metadata =
        serde_json::from_slice(&output.stdout).map_err(|e| format!("invalid metadata: {e}"))?;
    if !about.schema_version.starts_with("0.1.") {
        let shown = crate::text::quote(&about.schema_version);
        return Err(format!("plugin SchemaVersion {shown} is not valid, must be 0.1.0"));
    }
    if about.vendor.is_empty() {
        return Err("plugin metadata does not define a vendor".to_owned());
    }
    Ok(about)
}

/// Becomes the plugin; `args` are all arguments of the program, those before the command too. Returns
/// only when that fails.
pub fn become_it(app: &App, plugin: &Plugin, args: &[OsString]) -> Failure {
    let own = std::env::args_os().next().unwrap_or_else(|| app.prog.clone().into());
    let mut command = Command::new(&plugin.path);
    command.args(args).env(ORIGINAL, own);
    // A plugin knows Docker's socket only; where ours is another one, it must be told.
    let silent = app.globals.host.is_empty() && std::env::var_os("DOCKER_HOST").is_none_or(|h| h.is_empty());
    if silent && crate::context::current(app) == "default" {
        let host = crate::context::default_host(&app.prog);
        if app.globals.context.is_none() && host != crate::context::DOCKER_SOCKET {
            command.env("DOCKER_HOST", host);
        }
    }
    let e = command.exec();
    Failure::new(format!("{}: {}", plugin.path.display(), crate::text::io_reason(&e)))
}

/// Arguments with the command `from` replaced by the words `to`; what comes before it stays.
pub fn replaced(args: &[OsString], from: &[&str], to: &[&str]) -> Vec<OsString> {
    let at = args
        .windows(from.len())
        .position(|w| w.iter().zip(from).all(|(a, b)| a.as_os_str() == OsStr::new(b)))
        .unwrap_or(0);
    let mut all = args[..at].to_vec();
    all.extend(to.iter().map(OsString::from));
    all.extend_from_slice(args.get(at + from.len()..).unwrap_or_default());
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn script(dir: &Path, name: &str, text: &str) -> PathBuf {
        let path = dir.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn plugins_say_what_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let good = script(
            dir.path(),
            "docker-good",
            r#"echo '{"SchemaVersion":"0.1.0","Vendor":"v","ShortDescription":"d"}'"#,
        );
        assert_eq!(metadata(&good).unwrap().short_description, "d");
        for text in [
            "exit 3",
            "echo nonsense",
            r#"echo '{"SchemaVersion":"9","Vendor":"v"}'"#,
            "echo '{\"SchemaVersion\":\"0.1.0\"}'",
        ] {
            assert!(metadata(&script(dir.path(), "docker-bad", text)).is_err(), "{text}");
        }
    }

    #[test]
    fn names_and_arguments() {
        assert!(is_name("compose") && is_name("a1"));
        assert!(!is_name("Compose") && !is_name("1a") && !is_name("a-b") && !is_name(""));
        let args: Vec<OsString> = ["-c", "x", "build", "."].map(OsString::from).into();
        assert_eq!(replaced(&args, &["build"], &["buildx", "build"]), ["-c", "x", "buildx", "build", "."]);
    }
}
