//! The daemon's settings: `daemon.json` (Docker's keys) and flags put together. A setting given in both places is an
//! error, as in Docker; a key nobody knows is one too.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use ferry_engine::{EngineConfig, ProxyOptions};
use ferry_server::{ListenAddr, ListenSpec};
use serde::Deserialize;

use super::{DEFAULT_SOCKET, DaemonArgs, Settings, tls_files};

/// `daemon.json`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct FileConfig {
    hosts: Vec<String>,
    data_root: Option<PathBuf>,
    exec_root: Option<PathBuf>,
    bridge: Option<String>,
    bip: Option<String>,
    mtu: Option<u32>,
    icc: Option<bool>,
    pidfile: Option<PathBuf>,
    log_level: Option<String>,
    debug: Option<bool>,
    tls: Option<bool>,
    tlsverify: Option<bool>,
    tlscacert: Option<PathBuf>,
    tlscert: Option<PathBuf>,
    tlskey: Option<PathBuf>,
    dns: Vec<String>,
    dns_search: Vec<String>,
    dns_opts: Vec<String>,
    insecure_registries: Vec<String>,
    registry_mirrors: Vec<String>,
    cgroup_parent: Option<String>,
    log_driver: Option<String>,
    log_opts: BTreeMap<String, String>,
    labels: Vec<String>,
    init: Option<bool>,
    default_ipc_mode: Option<String>,
    init_path: Option<PathBuf>,
    /// How ferry always works; `false` is refused.
    live_restore: Option<bool>,
}

impl FileConfig {
    /// Reads a file; what is wrong is named with its place.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("read configuration file {}", path.display()))?;
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_str(&text).with_context(|| format!("configuration file {}", path.display()))
    }
}

/// Flags over the file over the defaults.
pub fn merge(mut args: DaemonArgs, file: FileConfig) -> anyhow::Result<Settings> {
    if file.live_restore == Some(false) {
        bail!("\"live-restore\": false is not supported: containers always outlive the daemon");
    }
    if let Some(driver) = file.log_driver.as_deref().filter(|d| *d != "json-file") {
        bail!("\"log-driver\": {driver:?} is not supported yet as the default, only \"json-file\" is");
    }
    let mut both = Vec::new();
    macro_rules! single {
        ($($field:ident),*) => { $( match (&args.$field, file.$field) {
            (Some(_), Some(_)) => both.push(stringify!($field)),
            (None, Some(value)) => args.$field = Some(value),
            _ => {}
        } )* };
    }
    macro_rules! list {
        ($($field:ident),*) => { $( match (args.$field.is_empty(), file.$field.is_empty()) {
            (false, false) => both.push(stringify!($field)),
            (true, false) => args.$field = file.$field,
            _ => {}
        } )* };
    }
    single!(
        data_root,
        exec_root,
        bridge,
        bip,
        mtu,
        icc,
        pidfile,
        log_level,
        tlscacert,
        tlscert,
        tlskey,
        cgroup_parent,
        init_path,
        default_ipc_mode
    );
    list!(hosts, dns, dns_search, dns_opts, insecure_registries, registry_mirrors, labels);
    args.init |= file.init.unwrap_or(false);
    args.debug |= file.debug.unwrap_or(false);
    args.tls |= file.tls.unwrap_or(false);
    args.tlsverify |= file.tlsverify.unwrap_or(false);
    let mut log_opts = file.log_opts;
    for option in &args.log_opts {
        let (key, value) =
            option.split_once('=').with_context(|| format!("--log-opt {option:?} is not KEY=VALUE"))?;
        if log_opts.insert(key.to_owned(), value.to_owned()).is_some() {
            both.push("log_opts");
        }
    }
    if !both.is_empty() {
        let names: Vec<String> = both.iter().map(|b| b.replace('_', "-")).collect();
        bail!(
            "the following directives are specified both as a flag and in the configuration file: {}",
            names.join(", ")
        );
    }
    let log_level = match (args.debug, args.log_level.clone()) {
        (_, Some(level)) => level,
        (true, None) => "debug".to_owned(),
        (false, None) => "info".to_owned(),
    };
    let listeners = listeners(&args)?;
    let pidfile = args.pidfile.clone();
    Ok(Settings { engine: engine(args, log_opts)?, listeners, pidfile, log_level })
}

fn listeners(args: &DaemonArgs) -> anyhow::Result<Vec<ListenSpec>> {
    let tls = tls_files(args)?;
    let hosts = if args.hosts.is_empty() { vec![DEFAULT_SOCKET.to_owned()] } else { args.hosts.clone() };
    let mut listeners = Vec::new();
    for host in hosts {
        let mut spec = ListenSpec::parse(&host)?;
        spec.insecure_tcp = args.insecure_tcp;
        if matches!(spec.addr, ListenAddr::Tcp(_)) {
            spec.tls.clone_from(&tls);
        }
        listeners.push(spec);
    }
    Ok(listeners)
}

fn engine(args: DaemonArgs, log_opts: BTreeMap<String, String>) -> anyhow::Result<EngineConfig> {
    let bip = args.bip.as_deref().map(parse_bip).transpose()?;
    let bridge = args.bridge;
    if let Some(name) = bridge.as_deref().filter(|n| n.is_empty() || n.len() > 15 || n.contains(['/', ' '])) {
        bail!("invalid bridge name {name:?}: want 1 to 15 bytes without slash and blank");
    }
    let variable = |name: &str| {
        let value = std::env::var(name).or_else(|_| std::env::var(name.to_ascii_lowercase())).ok();
        value.filter(|v| !v.is_empty())
    };
    let absolute =
        |path: PathBuf| std::path::absolute(&path).with_context(|| format!("resolve {}", path.display()));
    let shim_path = match args.shim {
        Some(path) => path,
        None => std::env::current_exe().context("find this program")?.with_file_name("ferry-shim"),
    };
    Ok(EngineConfig {
        data_root: absolute(args.data_root.unwrap_or_else(|| "/var/lib/ferry".into()))?,
        exec_root: absolute(args.exec_root.unwrap_or_else(|| "/run/ferry".into()))?,
        bridge,
        bip,
        mtu: args.mtu,
        icc: args.icc.unwrap_or(true),
        dns: args.dns,
        dns_search: args.dns_search,
        dns_opts: args.dns_opts,
        shim_path,
        warm_shims: 3,
        warm_sandboxes: 4,
        insecure_registries: args.insecure_registries,
        cdi_spec_dirs: ferry_engine::DEFAULT_CDI_DIRS.map(PathBuf::from).to_vec(),
        registry_mirrors: args.registry_mirrors,
        proxy: ProxyOptions {
            http: variable("HTTP_PROXY"),
            https: variable("HTTPS_PROXY"),
            no_proxy: variable("NO_PROXY"),
        },
        cgroup_parent: args.cgroup_parent.unwrap_or_else(|| "/ferry".to_owned()),
        log_driver: "json-file".to_owned(),
        log_opts,
        labels: args.labels,
        default_ipc_mode: ipc_mode(args.default_ipc_mode)?,
        init: args.init,
        init_path: args.init_path.map(absolute).transpose()?,
    })
}

fn ipc_mode(mode: Option<String>) -> anyhow::Result<String> {
    match mode.as_deref() {
        None | Some("private") => Ok("private".to_owned()),
        Some("shareable") => Ok("shareable".to_owned()),
        Some(other) => bail!("IPC is not supported for mode {other:?}: want private or shareable"),
    }
}

fn parse_bip(text: &str) -> anyhow::Result<(Ipv4Addr, u8)> {
    let parsed = text.split_once('/').and_then(|(address, prefix)| {
        let prefix: u8 = prefix.parse().ok()?;
        (prefix <= 30).then_some((address.parse().ok()?, prefix))
    });
    parsed.with_context(|| format!("invalid bip {text:?}: want ADDRESS/PREFIX such as 172.17.0.1/16"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(json: &str) -> anyhow::Result<FileConfig> {
        Ok(serde_json::from_str(json)?)
    }

    #[test]
    fn unknown_keys_are_refused_by_name() {
        let error = file(r#"{"data-rooot": "/x"}"#).unwrap_err().to_string();
        assert!(error.contains("data-rooot"), "{error}");
    }

    #[test]
    fn a_setting_in_both_places_is_an_error() {
        let args = DaemonArgs { mtu: Some(1400), ..DaemonArgs::default() };
        let error = merge(args, file(r#"{"mtu": 1500}"#).unwrap()).err().unwrap().to_string();
        assert!(error.contains("mtu"), "{error}");
    }

    #[test]
    fn the_file_fills_in() {
        let settings =
            merge(DaemonArgs::default(), file(r#"{"data-root": "/d", "bip": "10.1.0.1/24"}"#).unwrap())
                .unwrap();
        assert_eq!(settings.engine.data_root, Path::new("/d"));
        assert_eq!(settings.engine.bip, Some(([10, 1, 0, 1].into(), 24)));
    }

    #[test]
    fn bad_values_are_refused() {
        for bad in ["10.0.0.1", "10.0.0.1/33", "x/24", "10.0.0.1/31"] {
            assert!(parse_bip(bad).is_err(), "{bad}");
        }
        assert!(merge(DaemonArgs::default(), file(r#"{"live-restore": false}"#).unwrap()).is_err());
    }
}
