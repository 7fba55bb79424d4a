//! `ferry oci`: a runc-compatible runtime command for podman, containerd and the like. Arguments and
//! output only; the work is done by `ferry_runtime::oci`.

use std::ffi::{CString, OsString};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use ferry_runtime::oci::{CreateOptions, ExecOptions, Runtime, default_spec, ensure_sealed, features};
use oci_spec::runtime::{Capability, LinuxCapabilities, LinuxResources, Process};
use serde_json::json;

/// OCI runtime: runs the containers of OCI bundles.
#[derive(Debug, Parser)]
#[command(name = "ferry oci", version, disable_help_subcommand = true)]
struct Cli {
    /// Log more
    #[arg(long, global = true)]
    debug: bool,
    /// File to log errors to
    #[arg(long, global = true)]
    log: Option<PathBuf>,
    /// Format of the log
    #[arg(long, global = true, value_enum, default_value = "text")]
    log_format: LogFormat,
    /// Directory for the state of containers
    #[arg(long, global = true, default_value = "/run/ferry-oci")]
    root: PathBuf,
    /// Let systemd make the control groups (not supported)
    #[arg(long, global = true)]
    systemd_cgroup: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ListFormat {
    Table,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create a container; its program waits for "start"
    Create(Create),
    /// Start a created container
    Start { id: String },
    /// Print a container's state as JSON
    State { id: String },
    /// Send a signal to a container's init process
    Kill {
        /// To all processes of the container
        #[arg(short, long)]
        all: bool,
        id: String,
        #[arg(default_value = "SIGTERM")]
        signal: String,
    },
    /// Remove a stopped container
    Delete {
        /// Kill it first when it runs
        #[arg(short, long)]
        force: bool,
        id: String,
    },
    /// Create and start a container
    Run {
        #[command(flatten)]
        create: Create,
        /// Return once it runs
        #[arg(short, long)]
        detach: bool,
    },
    /// Run a further process in a container
    Exec(Box<Exec>),
    /// List the processes of a container
    Ps {
        #[arg(short, long, value_enum, default_value = "table")]
        format: ListFormat,
        id: String,
    },
    /// Freeze a container
    Pause { id: String },
    /// Thaw a container
    Resume { id: String },
    /// Change a container's limits
    Update(Box<Update>),
    /// List containers
    List {
        #[arg(short, long, value_enum, default_value = "table")]
        format: ListFormat,
        /// Ids only
        #[arg(short, long)]
        quiet: bool,
    },
    /// Print what this runtime supports
    Features,
    /// Write a first config.json
    Spec {
        /// Directory to write it to
        #[arg(short, long, default_value = ".")]
        bundle: PathBuf,
    },
}

#[derive(Debug, Args)]
struct Create {
    /// Directory with config.json
    #[arg(short, long, default_value = ".")]
    bundle: PathBuf,
    /// Unix socket that is sent the terminal's master
    #[arg(long)]
    console_socket: Option<PathBuf>,
    /// File to write the pid of the init process to
    #[arg(long)]
    pid_file: Option<PathBuf>,
    /// Change the root with chroot (not supported)
    #[arg(long)]
    no_pivot: bool,
    /// Do not make a session keyring (not supported)
    #[arg(long)]
    no_new_keyring: bool,
    /// Pass on this many descriptors after the standard streams
    #[arg(long, default_value_t = 0)]
    preserve_fds: u16,
    id: String,
}

#[derive(Debug, Args)]
struct Exec {
    /// Unix socket that is sent the terminal's master
    #[arg(long)]
    console_socket: Option<PathBuf>,
    /// Working directory
    #[arg(long)]
    cwd: Option<PathBuf>,
    /// Environment variable NAME=VALUE
    #[arg(short, long)]
    env: Vec<String>,
    /// Allocate a terminal
    #[arg(short, long)]
    tty: bool,
    /// User, UID[:GID]
    #[arg(short, long)]
    user: Option<String>,
    /// Additional group
    #[arg(short = 'g', long)]
    additional_gids: Vec<u32>,
    /// File with the process as JSON
    #[arg(short, long)]
    process: Option<PathBuf>,
    /// Return once it runs
    #[arg(short, long)]
    detach: bool,
    /// File to write the pid to
    #[arg(long)]
    pid_file: Option<PathBuf>,
    /// SELinux label
    #[arg(long)]
    process_label: Option<String>,
    /// AppArmor profile
    #[arg(long)]
    apparmor: Option<String>,
    /// Set no_new_privs
    #[arg(long)]
    no_new_privs: bool,
    /// Add a capability
    #[arg(short, long)]
    cap: Vec<String>,
    /// Pass on this many descriptors after the standard streams
    #[arg(long, default_value_t = 0)]
    preserve_fds: u16,
    id: String,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

#[derive(Debug, Args)]
struct Update {
    /// File with the resources as JSON; "-" for standard input
    #[arg(short, long)]
    resources: Option<PathBuf>,
    #[arg(long)]
    blkio_weight: Option<u16>,
    #[arg(long)]
    cpu_period: Option<u64>,
    #[arg(long)]
    cpu_quota: Option<i64>,
    #[arg(long)]
    cpu_share: Option<u64>,
    #[arg(long)]
    cpuset_cpus: Option<String>,
    #[arg(long)]
    cpuset_mems: Option<String>,
    /// Bytes
    #[arg(long)]
    memory: Option<i64>,
    /// Bytes
    #[arg(long)]
    memory_reservation: Option<i64>,
    /// Bytes, memory and swap together; -1 for no limit
    #[arg(long, allow_hyphen_values = true)]
    memory_swap: Option<i64>,
    #[arg(long, allow_hyphen_values = true)]
    pids_limit: Option<i64>,
    id: String,
}

/// Runs `ferry oci` with its arguments, the program's name first.
pub fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors and go to stdout; clap knows.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    match execute(&cli) {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)),
        Err(error) => {
            report(&cli, &message(&error));
            if matches!(cli.command, Command::Exec(_)) { ExitCode::from(255) } else { ExitCode::FAILURE }
        }
    }
}

/// The chain of causes, without those a message above repeats already.
fn message(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |text, cause| {
        if text.is_empty() {
            cause
        } else if text.contains(&cause) {
            text
        } else {
            format!("{text}: {cause}")
        }
    })
}

/// On stderr for people, in the log file for the calling engine, which reads its last line.
fn report(cli: &Cli, message: &str) {
    let _ = writeln!(std::io::stderr(), "ferry oci: {message}");
    let Some(path) = &cli.log else { return };
    let line = match cli.log_format {
        LogFormat::Json => json!({"level": "error", "msg": message, "time": timestamp()}).to_string(),
        LogFormat::Text => format!("time={:?} level=error msg={message:?}", timestamp()),
    };
    if let Ok(mut file) = std::fs::File::options().append(true).create(true).open(path) {
        let _ = writeln!(file, "{line}");
    }
}

fn timestamp() -> String {
    ferry_runtime::oci::timestamp()
}

fn execute(cli: &Cli) -> Result<i32> {
    if cli.systemd_cgroup {
        bail!("--systemd-cgroup is not supported");
    }
    let runtime = Runtime::new(std::path::absolute(&cli.root)?);
    match &cli.command {
        Command::Create(create) => {
            seal()?;
            runtime.create(&create.id, &create_options(create)?)?;
        }
        Command::Run { create, detach } => {
            seal()?;
            return Ok(runtime.run(&create.id, &create_options(create)?, *detach)?);
        }
        Command::Exec(exec) => {
            seal()?;
            return exec_command(&runtime, exec);
        }
        Command::Start { id } => runtime.start(id)?,
        Command::State { id } => print_json(&runtime.state(id)?)?,
        Command::Kill { all, id, signal } => runtime.kill(id, signal_number(signal)?, *all)?,
        Command::Delete { force, id } => runtime.delete(id, *force)?,
        Command::Pause { id } => runtime.pause(id)?,
        Command::Resume { id } => runtime.resume(id)?,
        Command::Update(update) => runtime.update(&update.id, &resources(update)?)?,
        Command::Features => print_json(&features())?,
        Command::Ps { format, id } => ps(&runtime.ps(id)?, *format)?,
        Command::List { format, quiet } => list(&runtime, *format, *quiet)?,
        Command::Spec { bundle } => {
            let path = bundle.join("config.json");
            let mut file = std::fs::File::create_new(&path).with_context(|| path.display().to_string())?;
            serde_json::to_writer_pretty(&mut file, &default_spec())?;
        }
    }
    Ok(0)
}

/// Nothing a container does may reach the program's file on the host.
fn seal() -> Result<()> {
    let strings = |all: Vec<OsString>| {
        all.into_iter().map(|s| CString::new(s.into_vec())).collect::<std::result::Result<Vec<_>, _>>()
    };
    let args = strings(std::env::args_os().collect())?;
    let env = std::env::vars_os().map(|(mut name, value)| {
        name.push("=");
        name.push(value);
        name
    });
    Ok(ensure_sealed(args, strings(env.collect())?)?)
}

fn create_options(create: &Create) -> Result<CreateOptions> {
    if create.no_pivot {
        bail!("--no-pivot is not supported");
    }
    if create.no_new_keyring {
        bail!("--no-new-keyring is not supported");
    }
    Ok(CreateOptions {
        bundle: std::fs::canonicalize(&create.bundle).with_context(|| create.bundle.display().to_string())?,
        console_socket: create.console_socket.clone(),
        pid_file: create.pid_file.clone(),
        preserve_fds: create.preserve_fds,
    })
}

fn exec_command(runtime: &Runtime, exec: &Exec) -> Result<i32> {
    let process = match &exec.process {
        Some(path) => read_json(path)?,
        None => exec_process(runtime.process_of(&exec.id)?, exec)?,
    };
    let options = ExecOptions {
        console_socket: exec.console_socket.clone(),
        pid_file: exec.pid_file.clone(),
        preserve_fds: exec.preserve_fds,
        detach: exec.detach,
    };
    Ok(runtime.exec(&exec.id, &process, &options)?)
}

/// The container's own process with what the options change.
fn exec_process(mut process: Process, exec: &Exec) -> Result<Process> {
    if exec.args.is_empty() {
        bail!("process args cannot be empty");
    }
    process.set_args(Some(exec.args.clone()));
    process.set_terminal(Some(exec.tty));
    if let Some(cwd) = &exec.cwd {
        process.set_cwd(cwd.clone());
    }
    let mut env = process.env().clone().unwrap_or_default();
    env.extend(exec.env.iter().cloned());
    process.set_env(Some(env));
    if let Some(user) = &exec.user {
        let (uid, gid) = match user.split_once(':') {
            Some((uid, gid)) => (uid, Some(gid.parse().with_context(|| format!("gid {gid:?}"))?)),
            None => (user.as_str(), None),
        };
        let uid = uid.parse().with_context(|| format!("uid {uid:?}"))?;
        process.user_mut().set_uid(uid);
        if let Some(gid) = gid {
            process.user_mut().set_gid(gid);
        }
    }
    if !exec.additional_gids.is_empty() {
        process.user_mut().set_additional_gids(Some(exec.additional_gids.clone()));
    }
    if exec.no_new_privs {
        process.set_no_new_privileges(Some(true));
    }
    if exec.apparmor.is_some() {
        process.set_apparmor_profile(exec.apparmor.clone());
    }
    if exec.process_label.is_some() {
        process.set_selinux_label(exec.process_label.clone());
    }
    if !exec.cap.is_empty() {
        let mut sets = process.capabilities().clone().unwrap_or_default();
        add_capabilities(&mut sets, &exec.cap)?;
        process.set_capabilities(Some(sets));
    }
    Ok(process)
}

fn add_capabilities(sets: &mut LinuxCapabilities, names: &[String]) -> Result<()> {
    for name in names {
        let cap: Capability =
            serde_json::from_value(json!(name)).with_context(|| format!("capability {name:?}"))?;
        let with = |set: &Option<oci_spec::runtime::Capabilities>| {
            let mut set = set.clone().unwrap_or_default();
            set.insert(cap);
            Some(set)
        };
        sets.set_bounding(with(sets.bounding()));
        sets.set_effective(with(sets.effective()));
        sets.set_permitted(with(sets.permitted()));
    }
    Ok(())
}

fn resources(update: &Update) -> Result<LinuxResources> {
    if let Some(path) = &update.resources {
        return read_json(path);
    }
    let mut value = json!({});
    let mut set = |group: &str, key: &str, entry: serde_json::Value| {
        if !entry.is_null() {
            value[group][key] = entry;
        }
    };
    set("blockIO", "weight", json!(update.blkio_weight));
    set("cpu", "period", json!(update.cpu_period));
    set("cpu", "quota", json!(update.cpu_quota));
    set("cpu", "shares", json!(update.cpu_share));
    set("cpu", "cpus", json!(update.cpuset_cpus));
    set("cpu", "mems", json!(update.cpuset_mems));
    set("memory", "limit", json!(update.memory));
    set("memory", "reservation", json!(update.memory_reservation));
    set("memory", "swap", json!(update.memory_swap));
    set("pids", "limit", json!(update.pids_limit));
    Ok(serde_json::from_value(value)?)
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let text = if path == Path::new("-") {
        let mut text = Vec::new();
        std::io::stdin().read_to_end(&mut text)?;
        text
    } else {
        std::fs::read(path).with_context(|| path.display().to_string())?
    };
    serde_json::from_slice(&text).with_context(|| path.display().to_string())
}

fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)?;
    writeln!(out)?;
    Ok(())
}

fn ps(pids: &[i32], format: ListFormat) -> Result<()> {
    if format == ListFormat::Json {
        return print_json(&pids);
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "{:<10} CMD", "PID")?;
    for pid in pids {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        writeln!(out, "{pid:<10} {}", command.trim_end())?;
    }
    Ok(())
}

fn list(runtime: &Runtime, format: ListFormat, quiet: bool) -> Result<()> {
    let states = runtime.list()?;
    let mut out = std::io::stdout().lock();
    if quiet {
        for state in states {
            writeln!(out, "{}", state.id)?;
        }
        return Ok(());
    }
    if format == ListFormat::Json {
        drop(out);
        return print_json(&states);
    }
    writeln!(out, "{:<20} {:<8} {:<10} {:<40} CREATED", "ID", "PID", "STATUS", "BUNDLE")?;
    for state in states {
        let bundle = state.bundle.display().to_string();
        writeln!(
            out,
            "{:<20} {:<8} {:<10} {bundle:<40} {}",
            state.id, state.pid, state.status, state.created
        )?;
    }
    Ok(())
}

/// `9`, `KILL` and `SIGKILL` are the same.
fn signal_number(text: &str) -> Result<i32> {
    if let Ok(number @ 1..=64) = text.parse() {
        return Ok(number);
    }
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
        "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
        "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    match NAMES.iter().position(|known| *known == name) {
        Some(index) => Ok(i32::try_from(index)? + 1),
        None => bail!("unknown signal {text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_by_name_and_number() {
        for text in ["9", "KILL", "SIGKILL", "sigkill"] {
            assert_eq!(signal_number(text).unwrap(), 9);
        }
        assert_eq!(signal_number("TERM").unwrap(), 15);
        assert_eq!(signal_number("64").unwrap(), 64);
        assert!(signal_number("0").is_err() && signal_number("65").is_err() && signal_number("FOO").is_err());
    }

    #[test]
    fn runcs_command_lines() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' '));
        assert!(parse("oci --root /r --log /l --log-format json create --bundle /b --pid-file /p --console-socket /s id").is_ok());
        assert!(parse("oci --root /r exec --process /p --detach --pid-file /q id").is_ok());
        let Command::Exec(exec) = parse("oci exec -t id ls -l").unwrap().command else { panic!() };
        assert_eq!(exec.args, ["ls", "-l"]);
        assert!(parse("oci kill --all id KILL").is_ok());
        assert!(parse("oci delete --force id").is_ok());
        assert!(parse("oci update --memory-swap -1 id").is_ok());
    }
}
