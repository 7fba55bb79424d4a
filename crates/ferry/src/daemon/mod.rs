//! `ferry daemon`, or `dockerd` when linked so: the edge where flags, the configuration file, signals and logging meet the
//! engine and the server.

mod addresses;
mod directives;
mod file;
mod flags;
mod logging;
mod metrics;
mod network;
mod reload;
mod runtimes;
mod settings;
mod values;

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use ferry_engine::Engine;
use ferry_server::{Bound, ListenAddr, ListenSpec};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use logging::{LogSettings, Logging};
use settings::{Settings, Surroundings};
use values::Values;

/// Where clients look for the daemon.
const DEFAULT_SOCKET: &str = "unix:///run/ferry/ferry.sock";
/// Threads that wait for the kernel on behalf of requests, at most.
const MAX_BLOCKING_THREADS: usize = 64;

/// When a start is over.
const SETTLED: Duration = Duration::from_secs(3);
/// Between two rounds of giving memory back.
const TRIM_INTERVAL: Duration = Duration::from_secs(60);

/// How the daemon was called.
struct Call {
    /// As messages name it.
    program: &'static str,
    flags: Values,
    /// The configuration file, and whether it has to be there.
    config_file: (PathBuf, bool),
    around: Surroundings,
}

/// Runs the daemon until SIGTERM or SIGINT. Containers run on.
pub fn run(args: impl Iterator<Item = OsString>, is_dockerd: bool) -> ExitCode {
    let program = if is_dockerd { "dockerd" } else { "ferry daemon" };
    let args: Vec<String> = args.map(|arg| arg.to_string_lossy().into_owned()).collect();
    let flags = match flags::parse(&args) {
        Ok(flags) => flags,
        Err(error) => {
            let usage = flags::usage(program);
            let text = format!("Status: {error}\nSee '{program} --help'.\n{usage}, Code: 125");
            let _ = writeln!(std::io::stderr(), "{text}");
            return ExitCode::FAILURE;
        }
    };
    if flags.flag("help") == Some(true) {
        return print(&flags::usage(program));
    }
    if flags.flag("version") == Some(true) {
        return print(&format!("ferry daemon version {}\n", ferry_engine::VERSION));
    }
    match prepare(program, flags, is_dockerd).and_then(start) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not through tracing: what is wrong with the settings is found before logging is set up.
            let text = explain(&error);
            // As dockerd itself, whose output scripts compare.
            let _ = match is_dockerd {
                true => writeln!(std::io::stderr(), "{text}"),
                false => writeln!(std::io::stderr(), "{program}: {text}"),
            };
            ExitCode::FAILURE
        }
    }
}

fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn prepare(program: &'static str, flags: Values, is_dockerd: bool) -> anyhow::Result<Call> {
    let default = if is_dockerd { "/etc/docker/daemon.json" } else { "/etc/ferry/daemon.json" };
    let config_file = match flags.text("config-file") {
        Some(path) => (path.into(), true),
        None => (default.into(), false),
    };
    let executable = std::env::current_exe().context("find this program")?;
    let programs = executable.parent().unwrap_or(Path::new("/")).to_owned();
    let environment =
        std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
    let around =
        Surroundings { is_dockerd, program: executable, programs, environment: environment.collect() };
    Ok(Call { program, flags, config_file, around })
}

impl Call {
    /// Reads the configuration file.
    fn file(&self) -> anyhow::Result<Values> {
        let (path, needed) = &self.config_file;
        let text = match std::fs::read_to_string(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && !needed => return Ok(Values::default()),
            text => text.map_err(|e| self.wrong(&format!("open {}: {}", path.display(), lower(&e))))?,
        };
        file::parse(&text, &self.flags).map_err(|e| self.wrong(&e))
    }

    fn wrong(&self, why: &str) -> anyhow::Error {
        let whose = if self.program == "dockerd" { "Docker daemon" } else { "daemon" };
        anyhow::anyhow!("unable to configure the {whose} with file {}: {why}", self.config_file.0.display())
    }

    /// Settings of the file and the flags.
    fn settings(&self, file: &Values) -> anyhow::Result<Settings> {
        let values = file.clone().overlaid(self.flags.clone());
        settings::settings(&values, &self.around).map_err(|e| match file.iter().next() {
            Some(_) => self.wrong(&format!(
                "merged configuration validation from file and command line flags failed: {e}"
            )),
            None => anyhow::anyhow!("{e}"),
        })
    }
}

/// An I/O error as Go prints it.
fn lower(error: &std::io::Error) -> String {
    error.to_string().split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// An error with its causes, each said once: many of ours name theirs in their own text.
fn explain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

fn start(call: Call) -> anyhow::Result<()> {
    let file = call.file()?;
    let mut settings = call.settings(&file)?;
    if call.flags.flag("validate") == Some(true) {
        let _ = writeln!(std::io::stderr(), "configuration OK");
        return Ok(());
    }
    let logging = Logging::start(&settings.log).map_err(anyhow::Error::msg)?;
    for note in &settings.notes {
        tracing::warn!("{note}");
    }
    settings.engine.warnings = exposure(&settings.listeners);
    for warning in &settings.engine.warnings {
        tracing::warn!("{}", warning.replace('\n', " "));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 4))
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .thread_name("ferry")
        .enable_all()
        .build()
        .context("start the asynchronous runtime")?;
    runtime.block_on(serve(call, file, settings, logging))?;
    // Work that blocks (a tar being written for a client that has left) does not hold up the end.
    runtime.shutdown_timeout(Duration::from_secs(2));
    Ok(())
}

/// Docker's warnings about sockets that anybody may use.
fn exposure(listeners: &[ListenSpec]) -> Vec<String> {
    const READ_MORE: &str = "         Access to the remote API is equivalent to root access on the host. Refer\n         to the 'Docker daemon attack surface' section in the documentation for\n         more information: https://docs.docker.com/go/attack-surface/";
    let warning = |spec: &ListenSpec| {
        let ListenAddr::Tcp(address) = &spec.addr else { return None };
        match &spec.tls {
            None => Some(format!(
                "WARNING: API is accessible on http://{address} without encryption.\n{READ_MORE}"
            )),
            Some(tls) if tls.client_ca.is_none() => Some(format!(
                "WARNING: API is accessible on https://{address} without TLS client verification.\n{READ_MORE}"
            )),
            Some(_) => None,
        }
    };
    listeners.iter().filter_map(warning).collect()
}

async fn serve(call: Call, file: Values, settings: Settings, logging: Logging) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("handle SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("handle SIGINT")?;
    let hangup = signal(SignalKind::hangup()).context("handle SIGHUP")?;
    let pidfile = settings.pidfile.map(PidFile::write).transpose()?;
    // Before the engine: a listener that is refused shall leave no bridge behind.
    let bound = Bound::open(settings.listeners).await?;
    let metrics = match &settings.metrics {
        Some(address) => {
            let listener = TcpListener::bind(address).await;
            Some(listener.with_context(|| format!("serve metrics on {address}"))?)
        }
        None => None,
    };
    let engine = Engine::open(settings.engine).await.context("failed to start daemon")?;
    tracing::info!(data_root = %engine.data_root().display(), "ferry {} is ready", ferry_engine::VERSION);
    tokio::spawn(give_back_memory());
    if let Some(listener) = metrics {
        tokio::spawn(metrics::serve(engine.clone(), listener));
    }
    tokio::spawn(reload_on(hangup, call, file, settings.log, logging, engine.clone()));
    let ending = engine.clone();
    let shutdown = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping; containers run on");
        // As in Docker, a negative number of seconds stands for ever.
        let seconds = u64::try_from(ending.live_settings().shutdown_timeout);
        Duration::from_secs(seconds.unwrap_or(u64::from(u32::MAX)))
    };
    let last = engine.clone();
    ferry_server::serve_bound(engine, bound, shutdown).await;
    last.shut_down().await;
    drop(pidfile);
    Ok(())
}

/// Reads the configuration again at each SIGHUP.
async fn reload_on(
    mut hangup: Signal,
    call: Call,
    mut file: Values,
    mut log: LogSettings,
    logging: Logging,
    engine: Engine,
) {
    while hangup.recv().await.is_some() {
        let path = call.config_file.0.display();
        tracing::info!("got signal to reload configuration, reloading from: {path}");
        let read = call.file().and_then(|file| Ok((call.settings(&file)?, file)));
        let (settings, new_file) = match read {
            Ok(read) => read,
            Err(error) => {
                tracing::error!(error = %explain(&error), "the configuration is not reloaded");
                continue;
            }
        };
        let restart = reload::needing_restart(&file, &new_file);
        if !restart.is_empty() {
            tracing::warn!("changed, but in force only after a restart: {}", restart.join(", "));
        }
        let live = reload::merge(&engine.live_settings(), &new_file, settings.engine.live);
        log.debug = live.debug;
        if let Err(error) = logging.change(&log) {
            tracing::error!(error, "the log level is not changed");
        }
        engine.reload(live);
        tracing::info!("reloaded configuration");
        file = new_file;
    }
}

/// Gives memory back that was needed for a start or a burst of requests: freed heap, and pages of code that are mapped
/// again when they are used again.
async fn give_back_memory() {
    tokio::time::sleep(SETTLED).await;
    loop {
        ferry_sys::supervisor::trim_heap();
        // Failing changes nothing but the memory in use.
        let _ = ferry_sys::supervisor::release_code();
        tokio::time::sleep(TRIM_INTERVAL).await;
    }
}

/// Removed when the daemon ends in an orderly way.
struct PidFile(PathBuf);

impl PidFile {
    fn write(path: PathBuf) -> anyhow::Result<Self> {
        if let Ok(old) = std::fs::read_to_string(&path)
            && let Ok(pid) = old.trim().parse::<i32>()
            && pid != std::process::id().cast_signed()
            && is_ferry(pid)
        {
            bail!("pid file {} belongs to a running daemon, process {pid}", path.display());
        }
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
        }
        std::fs::write(&path, std::process::id().to_string())
            .with_context(|| format!("write pid file {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Whether a process runs the same program; a pid file outlives reboots.
fn is_ferry(pid: i32) -> bool {
    let name = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/comm")).ok();
    // A zombie, which only waits for its parent to look, has no program any more.
    let lives = std::fs::read_link(format!("/proc/{pid}/exe")).is_ok();
    lives && name(&pid.to_string()).is_some_and(|n| Some(n) == name("self"))
}
