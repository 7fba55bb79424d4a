//! The name server of containers: a process of its own, started by the engine, which it outlives.

use std::ffi::OsString;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use ferry_dns::control;
use ferry_dns::server::Server;
use rustix::process::{Resource, getrlimit, setrlimit};

/// What `ferry` is called with to be the name server. Not for users.
pub(crate) const COMMAND: &str = "name-server";

/// A name server that serves nobody ends after this time, and the engine starts another one when it needs it.
const IDLE: Duration = Duration::from_secs(5);

/// Descriptors that are not for questions to other servers: three per container and what the process needs itself.
const RESERVED: u64 = 256;

/// Sockets a question may need at once: one for each server that is asked, and one in reserve.
const SOCKETS: u64 = 4;

/// Runs the name server; the only argument is the path of its control socket.
pub(crate) fn run(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let (Some(socket), None) = (args.next(), args.next()) else {
        say("takes the path of a socket and nothing else");
        return ExitCode::from(2);
    };
    match serve(&PathBuf::from(socket)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn say(what: &str) {
    // Without a standard error nobody is to be told.
    let _ = writeln!(std::io::stderr(), "{COMMAND}: {what}");
}

fn serve(path: &Path) -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // With fewer descriptors it serves fewer containers, that is all.
    let _ = setrlimit(Resource::Nofile, limit);
    let descriptors = limit.current.unwrap_or(1 << 20);
    let questions =
        usize::try_from(descriptors.saturating_sub(RESERVED) / SOCKETS).unwrap_or(1024).clamp(64, 16_384);

    // Whoever held the name before does not answer any more, or this process would not have been started.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("remove {}", path.display()));
        }
        _ => {}
    }
    let listener =
        ferry_sys::socket::listen_unix(path).with_context(|| format!("listen on {}", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
        .with_context(|| format!("set the mode of {}", path.display()))?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    runtime
        .block_on(accept(listener, Arc::new(Server::new(questions, PathBuf::from("/etc/resolv.conf")))))?;
    let _ = std::fs::remove_file(path);
    Ok(())
}

/// Takes the engine's connections until nobody is served any more.
async fn accept(listener: OwnedFd, server: Arc<Server>) -> Result<()> {
    let listener = std::os::unix::net::UnixListener::from(listener);
    listener.set_nonblocking(true)?;
    let listener = tokio::net::UnixListener::from_std(listener)?;
    loop {
        let stream = match tokio::time::timeout(IDLE, listener.accept()).await {
            Ok(accepted) => accepted.context("accept")?.0.into_std()?,
            Err(_) if server.served().is_empty() => return Ok(()),
            Err(_) => continue,
        };
        stream.set_nonblocking(false)?;
        let (server, runtime) = (Arc::clone(&server), tokio::runtime::Handle::current());
        std::thread::spawn(move || {
            let _context = runtime.enter();
            // A connection that breaks is the engine's to notice.
            let _ = control::serve(&server, stream);
        });
    }
}
