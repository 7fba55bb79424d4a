//! Which engine to talk to: `--host`, `DOCKER_HOST`, contexts, the default sockets.

use std::path::{Path, PathBuf};

use ferry_client::TlsOptions;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::app::App;
use crate::failure::Failure;

/// ferry's own socket.
const FERRY_SOCKET: &str = "unix:///run/ferry/ferry.sock";
/// Docker's socket, which ferry serves too when nobody else does.
pub const DOCKER_SOCKET: &str = "unix:///var/run/docker.sock";

/// An engine's address and how to secure the way to it.
#[derive(Debug)]
pub struct Target {
    pub host: String,
    pub tls: Option<TlsOptions>,
}

/// A stored context.
#[derive(Debug)]
pub struct Context {
    pub name: String,
    pub description: String,
    pub host: String,
    /// The file's content, for `context inspect`.
    pub meta: Value,
    /// Where certificates lie.
    pub tls_dir: PathBuf,
    pub meta_dir: PathBuf,
}

/// The socket used when nothing says otherwise.
pub fn default_host(prog: &str) -> &'static str {
    let there = |host: &str| crate::app::exists(Path::new(host.trim_start_matches("unix://")));
    if there(FERRY_SOCKET) {
        FERRY_SOCKET
    } else if there(DOCKER_SOCKET) || prog == "docker" {
        DOCKER_SOCKET
    } else {
        FERRY_SOCKET
    }
}

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|v| !v.is_empty())
}

/// The name of the context in force.
pub fn current(app: &App) -> String {
    if let Some(context) = &app.globals.context {
        return context.clone();
    }
    if !app.globals.host.is_empty() || env("DOCKER_HOST").is_some() {
        return "default".to_owned();
    }
    env("DOCKER_CONTEXT")
        .or_else(|| app.config().current_context.clone().filter(|c| !c.is_empty()))
        .unwrap_or_else(|| "default".to_owned())
}

/// Where commands of this run go to.
pub fn resolve(app: &App) -> Result<Target, Failure> {
    if app.globals.context.is_some() && !app.globals.host.is_empty() {
        return Err(Failure::new("conflicting options: cannot specify both --host and --context"));
    }
    find_target(app).map_err(|e| {
        Failure::new(format!("Failed to initialize: unable to resolve docker endpoint: {}", e.message))
    })
}

fn find_target(app: &App) -> Result<Target, Failure> {
    let name = current(app);
    if name != "default" {
        let context = load(app, &name)?;
        let tls = context_tls(&context);
        return Ok(Target { host: context.host, tls });
    }
    let given = app.globals.host.first().cloned().or_else(|| {
        // An explicit `--context default` still honours the environment, as Docker does.
        env("DOCKER_HOST")
    });
    let tls = tls_options(app)?;
    let host = given.map_or_else(|| default_host(&app.prog).to_owned(), |h| normalize(&h, tls.is_some()));
    if host.parse::<ferry_client::Endpoint>().is_err() {
        return Err(Failure::new(format!("invalid bind address format: {host}")));
    }
    Ok(Target { host, tls })
}

/// Adds what people leave out: the scheme, the socket's path, the port of a secured engine.
fn normalize(host: &str, secured: bool) -> String {
    let host = host.trim();
    match host {
        "unix://" => return DOCKER_SOCKET.to_owned(),
        "tcp://" => return format!("tcp://localhost:{}", if secured { 2376 } else { 2375 }),
        _ => {}
    }
    let host = if host.contains("://") { host.to_owned() } else { format!("tcp://{host}") };
    let Some(authority) = host.strip_prefix("tcp://") else { return host };
    let has_port = authority.rsplit_once(':').is_some_and(|(_, p)| p.bytes().all(|b| b.is_ascii_digit()));
    if secured && !has_port && !authority.contains('/') { format!("{host}:2376") } else { host }
}

fn tls_options(app: &App) -> Result<Option<TlsOptions>, Failure> {
    let g = &app.globals;
    let verify = g.tlsverify || env("DOCKER_TLS_VERIFY").is_some();
    if !(verify || g.tls || env("DOCKER_TLS").is_some()) {
        return Ok(None);
    }
    let dir = env("DOCKER_CERT_PATH").map_or_else(|| app.config_dir(), PathBuf::from);
    // A client may have no certificate of its own, but what it trusts must be there.
    let file = |given: &Option<String>, name: &str, optional: bool| {
        let path = match given {
            Some(path) if path.is_empty() => return Ok(None),
            Some(path) => PathBuf::from(path),
            None => dir.join(name),
        };
        match std::fs::File::open(&path) {
            Ok(_) => Ok(Some(path)),
            Err(_) if optional && given.is_none() => Ok(None),
            Err(e) => Err(Failure::new(crate::text::open_error(&path.to_string_lossy(), &e))),
        }
    };
    Ok(Some(TlsOptions {
        verify,
        ca: file(&g.tlscacert, "ca.pem", false)?,
        cert: file(&g.tlscert, "cert.pem", true)?,
        key: file(&g.tlskey, "key.pem", true)?,
    }))
}

fn context_tls(context: &Context) -> Option<TlsOptions> {
    let file = |name: &str| Some(context.tls_dir.join(name)).filter(|p| p.exists());
    let skip = context.meta["Endpoints"]["docker"]["SkipTLSVerify"].as_bool().unwrap_or(false);
    let (ca, cert, key) = (file("ca.pem"), file("cert.pem"), file("key.pem"));
    if ca.is_none() && cert.is_none() && !skip {
        return None;
    }
    Some(TlsOptions { verify: !skip, ca, cert, key })
}

/// Where a stored context's description and its certificates lie.
pub fn folders(app: &App, name: &str) -> (PathBuf, PathBuf) {
    let id = hex(&Sha256::digest(name.as_bytes()));
    (store(app).join("meta").join(&id), store(app).join("tls").join(&id))
}

/// Whether a context can be called so.
///
/// # Errors
/// Docker's text when it cannot.
pub fn check_name(name: &str) -> Result<(), Failure> {
    if name == "default" {
        return Err(Failure::new("\"default\" is a reserved context name"));
    }
    let word = |b: u8| b.is_ascii_alphanumeric();
    let mut bytes = name.bytes();
    let good =
        bytes.next().is_some_and(word) && bytes.len() > 0 && bytes.all(|b| word(b) || b"_.+-".contains(&b));
    if good {
        return Ok(());
    }
    let shown = crate::text::quote(name);
    Err(Failure::new(format!(
        "context name {shown} is invalid, names are validated against regexp \"^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$\""
    )))
}

/// Writes a context's description; the file is replaced as a whole.
///
/// # Errors
/// When it cannot be written.
pub fn save(app: &App, name: &str, meta: &Value) -> Result<(), Failure> {
    let (dir, _) = folders(app, name);
    let failed = |e: std::io::Error| Failure::new(crate::text::open_error(&dir.to_string_lossy(), &e));
    std::fs::create_dir_all(&dir).map_err(failed)?;
    let partial = dir.join(format!("meta.json.{}", std::process::id()));
    std::fs::write(&partial, meta.to_string()).map_err(failed)?;
    std::fs::rename(&partial, dir.join("meta.json")).map_err(failed)
}

/// Replaces a context's certificates; only their owner may read them.
///
/// # Errors
/// When they cannot be written.
pub fn save_tls(app: &App, name: &str, files: &[(String, Vec<u8>)]) -> Result<(), Failure> {
    use std::io::Write as _;
    use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
    let (_, dir) = folders(app, name);
    let failed = |e: std::io::Error| Failure::new(crate::text::open_error(&dir.to_string_lossy(), &e));
    if dir.exists() {
        std::fs::remove_dir_all(&dir).map_err(failed)?;
    }
    for (path, content) in files {
        let file = dir.join(path);
        let parent = file.parent().unwrap_or(&dir);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(failed)?;
        let mut open = std::fs::OpenOptions::new();
        let mut out = open.write(true).create(true).truncate(true).mode(0o600).open(&file).map_err(failed)?;
        out.write_all(content).map_err(failed)?;
    }
    Ok(())
}

/// The certificates of a context, by path within it: `docker/ca.pem`.
pub fn tls_files(app: &App, name: &str) -> Vec<(String, Vec<u8>)> {
    let (_, dir) = folders(app, name);
    let mut all = Vec::new();
    for endpoint in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
        for file in std::fs::read_dir(endpoint.path()).into_iter().flatten().flatten() {
            let Ok(content) = std::fs::read(file.path()) else { continue };
            let (a, b) = (endpoint.file_name(), file.file_name());
            all.push((format!("{}/{}", a.to_string_lossy(), b.to_string_lossy()), content));
        }
    }
    all.sort();
    all
}

/// Removes a stored context.
///
/// # Errors
/// When it cannot be removed.
pub fn remove(app: &App, name: &str) -> Result<(), Failure> {
    let (meta, tls) = folders(app, name);
    for dir in [meta, tls] {
        match std::fs::remove_dir_all(&dir) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(Failure::new(crate::text::open_error(&dir.to_string_lossy(), &e)));
            }
            _ => {}
        }
    }
    Ok(())
}

fn store(app: &App) -> PathBuf {
    app.config_dir().join("contexts")
}

/// The stored context `name`.
pub fn load(app: &App, name: &str) -> Result<Context, Failure> {
    let id = hex(&Sha256::digest(name.as_bytes()));
    let meta_dir = store(app).join("meta").join(&id);
    let file = meta_dir.join("meta.json");
    let bytes = std::fs::read(&file).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Failure::new(format!(
            "context {q}: context not found: open {}: no such file or directory",
            file.display(),
            q = crate::text::quote(name)
        )),
        _ => Failure::new(crate::text::open_error(&file.to_string_lossy(), &e)),
    })?;
    let meta: Value = serde_json::from_slice(&bytes)?;
    let field = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    Ok(Context {
        name: field(&meta["Name"]),
        description: field(&meta["Metadata"]["Description"]),
        host: field(&meta["Endpoints"]["docker"]["Host"]),
        tls_dir: store(app).join("tls").join(&id).join("docker"),
        meta_dir,
        meta,
    })
}

/// All stored contexts by name. Folders that hold no context are passed over.
pub fn all(app: &App) -> Vec<Context> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(store(app).join("meta")) else { return found };
    for entry in entries.flatten() {
        let Ok(bytes) = std::fs::read(entry.path().join("meta.json")) else { continue };
        let Ok(meta) = serde_json::from_slice::<Value>(&bytes) else { continue };
        if let Some(context) = meta["Name"].as_str().and_then(|name| load(app, name).ok()) {
            found.push(context);
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_completed() {
        assert_eq!(normalize("unix://", false), DOCKER_SOCKET);
        assert_eq!(normalize("h:1", false), "tcp://h:1");
        assert_eq!(normalize("tcp://h", true), "tcp://h:2376");
        assert_eq!(normalize("tcp://h:5", true), "tcp://h:5");
        assert_eq!(normalize("unix:///a", true), "unix:///a");
    }
}
