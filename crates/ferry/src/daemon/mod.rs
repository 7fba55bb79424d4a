//! `ferry daemon`: the edge where flags, the configuration file, signals and logging meet the engine and the server.

mod config;

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Parser;
use ferry_engine::{Engine, EngineConfig};
use ferry_server::{Bound, ListenSpec, TlsFiles};
use tokio::signal::unix::{SignalKind, signal};

use config::FileConfig;

/// Where clients look for the daemon.
const DEFAULT_SOCKET: &str = "unix:///run/ferry/ferry.sock";
/// Where a configuration file is looked for when none is named; it may be missing.
const DEFAULT_CONFIG: &str = "/etc/ferry/daemon.json";
/// Threads that wait for the kernel on behalf of requests, at most.
const MAX_BLOCKING_THREADS: usize = 64;

/// When a start is over.
const SETTLED: Duration = Duration::from_secs(3);
/// Between two rounds of giving memory back.
const TRIM_INTERVAL: Duration = Duration::from_secs(60);

/// Runs the ferry engine and serves the Docker Engine API
#[derive(Parser, Debug, Default)]
#[command(name = "ferry daemon", disable_help_subcommand = true, version)]
pub struct DaemonArgs {
    /// Socket(s) to listen on: unix:///PATH, tcp://HOST:PORT or fd://
    #[arg(short = 'H', long = "host", value_name = "ADDRESS")]
    hosts: Vec<String>,
    /// Root directory of persistent state
    #[arg(long, value_name = "DIR")]
    data_root: Option<PathBuf>,
    /// Root directory of run-time state
    #[arg(long, value_name = "DIR")]
    exec_root: Option<PathBuf>,
    /// Interface name of the default bridge
    #[arg(short, long, value_name = "NAME")]
    bridge: Option<String>,
    /// Address and prefix length of the default bridge, e.g. 172.17.0.1/16
    #[arg(long, value_name = "CIDR")]
    bip: Option<String>,
    /// MTU of the default bridge
    #[arg(long, value_name = "BYTES")]
    mtu: Option<u32>,
    /// Whether containers on the default bridge reach each other
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    icc: Option<bool>,
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    config_file: Option<PathBuf>,
    /// File the daemon's pid is written to
    #[arg(short, long, value_name = "FILE")]
    pidfile: Option<PathBuf>,
    /// Least severe messages shown: trace, debug, info, warn, error
    #[arg(short, long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Same as --log-level debug
    #[arg(short = 'D', long)]
    debug: bool,
    /// Serve TCP without TLS on addresses other hosts can reach
    #[arg(long)]
    insecure_tcp: bool,
    /// Serve TCP with TLS
    #[arg(long)]
    tls: bool,
    /// Serve TCP with TLS and demand a client certificate
    #[arg(long)]
    tlsverify: bool,
    /// CA whose client certificates are accepted
    #[arg(long, value_name = "FILE")]
    tlscacert: Option<PathBuf>,
    /// Server certificate
    #[arg(long, value_name = "FILE")]
    tlscert: Option<PathBuf>,
    /// Key of the server certificate
    #[arg(long, value_name = "FILE")]
    tlskey: Option<PathBuf>,
    /// DNS server for containers
    #[arg(long, value_name = "ADDRESS")]
    dns: Vec<String>,
    /// DNS search domain for containers
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String>,
    /// Resolver option for containers
    #[arg(long = "dns-opt", value_name = "OPTION")]
    dns_opts: Vec<String>,
    /// Registry that may be reached without TLS
    #[arg(long = "insecure-registry", value_name = "HOST")]
    insecure_registries: Vec<String>,
    /// Mirror to ask before Docker Hub
    #[arg(long = "registry-mirror", value_name = "URL")]
    registry_mirrors: Vec<String>,
    /// cgroup the containers' groups are made in
    #[arg(long, value_name = "PATH")]
    cgroup_parent: Option<String>,
    /// Default option of the json-file log driver
    #[arg(long = "log-opt", value_name = "KEY=VALUE")]
    log_opts: Vec<String>,
    /// Label shown by info
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    /// How containers get their IPC namespace: private or shareable
    #[arg(long, value_name = "MODE")]
    default_ipc_mode: Option<String>,
    /// Run an init in containers that forwards signals and reaps processes
    #[arg(long)]
    init: bool,
    /// The program to use as init, in place of ferry's own
    #[arg(long, value_name = "FILE")]
    init_path: Option<PathBuf>,
    /// The ferry-shim program; next to this one unless given
    #[arg(long, value_name = "FILE")]
    shim: Option<PathBuf>,
}

/// Runs the daemon until SIGTERM or SIGINT. Containers run on.
pub fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args = std::iter::once(OsString::from("ferry daemon")).chain(args);
    let args = match DaemonArgs::try_parse_from(args) {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1));
        }
    };
    match start(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not through tracing: what is wrong with the settings is found before logging is set up.
            let _ = writeln!(std::io::stderr(), "ferry daemon: {}", explain(&error));
            ExitCode::FAILURE
        }
    }
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

fn start(args: DaemonArgs) -> anyhow::Result<()> {
    let path = args.config_file.clone();
    let file = match &path {
        Some(path) => FileConfig::read(path)?,
        None => match Path::new(DEFAULT_CONFIG).exists() {
            true => FileConfig::read(Path::new(DEFAULT_CONFIG))?,
            false => FileConfig::default(),
        },
    };
    let settings = config::merge(args, file)?;
    init_logging(&settings.log_level)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 4))
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .thread_name("ferry")
        .enable_all()
        .build()
        .context("start the asynchronous runtime")?;
    runtime.block_on(serve(settings))?;
    // Work that blocks (a tar being written for a client that has left) does not hold up the end.
    runtime.shutdown_timeout(Duration::from_secs(2));
    Ok(())
}

/// Everything the daemon needs to know.
pub(crate) struct Settings {
    engine: EngineConfig,
    listeners: Vec<ListenSpec>,
    pidfile: Option<PathBuf>,
    log_level: String,
}

async fn serve(settings: Settings) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("handle SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("handle SIGINT")?;
    let mut hangup = signal(SignalKind::hangup()).context("handle SIGHUP")?;
    let pidfile = settings.pidfile.map(PidFile::write).transpose()?;
    // Before the engine: a listener that is refused shall leave no bridge behind.
    let bound = Bound::open(settings.listeners).await?;
    let engine = Engine::open(settings.engine).await.context("start the engine")?;
    tracing::info!(data_root = %engine.data_root().display(), "ferry {} is ready", ferry_engine::VERSION);
    tokio::spawn(give_back_memory());
    let shutdown = async {
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => tracing::warn!("reloading the configuration is not supported yet; restart the daemon, containers run on"),
            }
        }
        tracing::info!("stopping; containers run on");
    };
    ferry_server::serve_bound(engine, bound, shutdown).await;
    drop(pidfile);
    Ok(())
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

fn init_logging(level: &str) -> anyhow::Result<()> {
    let known = ["trace", "debug", "info", "warn", "error", "fatal"];
    if !known.contains(&level) {
        bail!("invalid log level {level:?}: want one of {}", known.join(", "));
    }
    let level = if level == "fatal" { "error" } else { level };
    // The libraries' own chatter is of use to nobody below debug.
    let filter = format!(
        "warn,ferry={level},ferry_engine={level},ferry_server={level},ferry_network={level},ferry_image={level},ferry_registry_client={level}"
    );
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(rustix::termios::isatty(std::io::stderr()))
        .with_env_filter(tracing_subscriber::EnvFilter::new(filter))
        .try_init()
        .map_err(|e| anyhow::anyhow!("start logging: {e}"))
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

/// TLS settings of TCP listeners.
fn tls_files(args: &DaemonArgs) -> anyhow::Result<Option<TlsFiles>> {
    if !args.tls && !args.tlsverify {
        return Ok(None);
    }
    let (Some(cert), Some(key)) = (args.tlscert.clone(), args.tlskey.clone()) else {
        bail!("TLS needs --tlscert and --tlskey");
    };
    let client_ca = match (args.tlsverify, args.tlscacert.clone()) {
        (true, None) => bail!("--tlsverify needs --tlscacert"),
        (true, Some(ca)) => Some(ca),
        (false, _) => None,
    };
    Ok(Some(TlsFiles { cert, key, client_ca }))
}
