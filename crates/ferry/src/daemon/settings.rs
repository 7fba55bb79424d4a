//! From directives to what engine and server are opened with. Everything is checked here, before anything of the host is
//! touched; the words for mistakes are Docker's where it has some.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ferry_api::container::Ulimit;
use ferry_engine::{DefaultSeccomp, EngineConfig, LiveSettings, OWN_RUNTIMES, ProxyOptions};
use ferry_server::{ListenAddr, ListenSpec, TlsFiles};
use serde_json::Value;

use super::addresses;
use super::directives::{DIRECTIVES, Effect};
use super::logging::LogSettings;
use super::network;
use super::runtimes;
use super::values::Values;

/// Where programs are searched for when the environment does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Everything the daemon needs to know.
#[derive(Debug)]
pub struct Settings {
    pub engine: EngineConfig,
    pub listeners: Vec<ListenSpec>,
    pub pidfile: Option<PathBuf>,
    pub log: LogSettings,
    /// Where metrics are served.
    pub metrics: Option<String>,
    /// Directives that change nothing, and why.
    pub notes: Vec<String>,
}

/// What the program's name and its environment decide.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// Whether it was called as `dockerd`, whose socket and pid file it then has.
    pub is_dockerd: bool,
    /// Of the directory that holds this program.
    pub programs: PathBuf,
    /// This program.
    pub program: PathBuf,
    /// Environment variables.
    pub environment: BTreeMap<String, String>,
}

impl Surroundings {
    fn variable(&self, name: &str) -> Option<String> {
        let get = |name: &str| self.environment.get(name).filter(|v| !v.is_empty()).cloned();
        get(name).or_else(|| get(&name.to_ascii_lowercase()))
    }

    /// Where programs are.
    fn search_path(&self) -> String {
        self.variable("PATH").unwrap_or_else(|| DEFAULT_PATH.to_owned())
    }
}

/// Works the settings out.
///
/// # Errors
/// The first thing that is wrong with them.
pub fn settings(v: &Values, around: &Surroundings) -> Result<Settings, String> {
    let log = log_settings(v)?;
    let notes = effects(v)?;
    if v.text("api-cors-header").is_some() {
        return Err("DEPRECATED: The \"api-cors-header\" config parameter and the dockerd \"--api-cors-header\" option have been removed; use a reverse proxy if you need CORS headers".to_owned());
    }
    storage(v)?;
    let listeners = listeners(v, around)?;
    let pidfile = v.text("pidfile").map(PathBuf::from);
    let pidfile = pidfile.or_else(|| around.is_dockerd.then(|| "/var/run/docker.pid".into()));
    let mut notes = notes;
    let live = live(v, &around.search_path(), &mut notes)?;
    if v.flag("ipv6") != Some(true) {
        for name in ["bip6", "fixed-cidr-v6", "default-gateway-v6"].into_iter().filter(|name| v.is_set(name))
        {
            notes.push(format!("{name} has no effect without ipv6: true"));
        }
    }
    let engine = engine(v, around, live)?;
    for flag in ["allow-direct-routing", "ip-forward-no-drop"] {
        // Both ways of asking get what ferry does.
        if v.flag(flag) == Some(false) {
            notes.push(format!("{flag}: false has no effect: ferry sets no such rule"));
        }
    }
    Ok(Settings { engine, listeners, pidfile, log, metrics: v.text("metrics-addr"), notes })
}

/// Refuses what ferry cannot do, and collects what has no effect.
fn effects(v: &Values) -> Result<Vec<String>, String> {
    let mut notes = Vec::new();
    for directive in DIRECTIVES {
        let name = directive.name();
        let Some(value) = v.get(name) else { continue };
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Array(items) if items.is_empty() => String::new(),
            Value::Object(members) if members.is_empty() => String::new(),
            other => other.to_string(),
        };
        match directive.effect {
            Effect::Refused(usual, why) if text != usual => {
                return Err(format!("{name} ({text}) is not supported: {why}"));
            }
            Effect::Warned(usual, why) if text != usual => {
                notes.push(format!("{name} ({text}) has no effect: {why}"));
            }
            Effect::Applied | Effect::Refused(..) | Effect::Warned(..) => {}
        }
    }
    Ok(notes)
}

fn log_settings(v: &Values) -> Result<LogSettings, String> {
    let level = v.text("log-level").unwrap_or_else(|| "info".to_owned()).to_lowercase();
    if !["trace", "debug", "info", "warn", "error", "fatal", "panic"].contains(&level.as_str()) {
        return Err(format!("invalid logging level: {level}"));
    }
    let json = match v.text("log-format").as_deref() {
        None | Some("text") => false,
        Some("json") => true,
        Some(other) => return Err(format!("invalid log format: {other}")),
    };
    let debug = v.flag("debug").unwrap_or(false);
    Ok(LogSettings { level, debug, json, raw: v.flag("raw-logs").unwrap_or(false) })
}

fn storage(v: &Values) -> Result<(), String> {
    if let Some(driver) = v.text("storage-driver").filter(|d| d != "overlay2") {
        return Err(format!(
            "error initializing graphdriver: driver not supported: {driver} (ferry has overlay2)"
        ));
    }
    for option in v.list("storage-opts") {
        let (key, value) = option
            .split_once('=')
            .ok_or_else(|| format!("unable to parse storage-opt key/value: {option}"))?;
        match key.to_ascii_lowercase().as_str() {
            // Docker has no use for it since kernel 4, either.
            "overlay2.override_kernel_check" if matches!(value, "true" | "false" | "1" | "0") => {}
            "overlay2.size" => {
                return Err("storage-opt overlay2.size is not supported by ferry yet".to_owned());
            }
            _ => return Err(format!("overlay2: unknown option {key}")),
        }
    }
    Ok(())
}

fn listeners(v: &Values, around: &Surroundings) -> Result<Vec<ListenSpec>, String> {
    let mut hosts = v.list("hosts");
    if hosts.is_empty() {
        hosts.push(match around.is_dockerd {
            true => "unix:///var/run/docker.sock".to_owned(),
            false => super::DEFAULT_SOCKET.to_owned(),
        });
    }
    let tls = tls_files(v, around)?;
    let group = v.text("group");
    let insecure = v.flag("insecure-tcp").unwrap_or(false);
    hosts
        .iter()
        .map(|host| {
            // Docker takes what is not a URL for a TCP address.
            let host = if host.contains("://") { host.clone() } else { format!("tcp://{host}") };
            let mut spec = ListenSpec::parse(&host).map_err(|e| e.to_string())?;
            spec.insecure_tcp = insecure;
            spec.group.clone_from(&group);
            if matches!(spec.addr, ListenAddr::Tcp(_)) {
                spec.tls.clone_from(&tls);
            }
            Ok(spec)
        })
        .collect()
}

/// TLS settings of TCP listeners. Files that are not named are where Docker looks for them.
fn tls_files(v: &Values, around: &Surroundings) -> Result<Option<TlsFiles>, String> {
    let directory = match (around.variable("DOCKER_CERT_PATH"), around.variable("HOME")) {
        (Some(directory), _) => PathBuf::from(directory),
        (None, home) => PathBuf::from(home.unwrap_or_else(|| "/root".to_owned())).join(".docker"),
    };
    let file = |name: &str, usual: &str| v.text(name).map_or_else(|| directory.join(usual), PathBuf::from);
    let (ca, cert, key) =
        (file("tlscacert", "ca.pem"), file("tlscert", "cert.pem"), file("tlskey", "key.pem"));
    let verify = v.flag("tlsverify");
    if !v.flag("tls").unwrap_or(false) && verify != Some(true) {
        return Ok(None);
    }
    for file in [&cert, &key].into_iter().chain((verify == Some(true)).then_some(&ca)) {
        std::fs::metadata(file).map_err(|e| format!("could not read TLS file {}: {e}", file.display()))?;
    }
    Ok(Some(TlsFiles { cert, key, client_ca: (verify == Some(true)).then_some(ca) }))
}

/// The part of the settings that may change while the daemon runs.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn live(v: &Values, search_path: &str, notes: &mut Vec<String>) -> Result<LiveSettings, String> {
    let defaults = LiveSettings::default();
    let number = |name: &str, what: &str, default: i64| match v.int(name) {
        Some(n) if n < 0 => Err(format!("invalid max {what}: {n}")),
        // Docker takes 0 for "not given".
        Some(n) if n > 0 => Ok(n),
        _ => Ok(default),
    };
    let downloads = number("max-concurrent-downloads", "concurrent downloads", 3)?;
    let uploads = number("max-concurrent-uploads", "concurrent uploads", 5)?;
    let attempts = number("max-download-attempts", "download attempts", 5)?;
    let labels = v.list("labels");
    check_labels(&labels)?;
    let ipc = v.text("default-ipc-mode").unwrap_or(defaults.default_ipc_mode);
    if !matches!(ipc.as_str(), "private" | "shareable") {
        let known = matches!(ipc.as_str(), "host" | "none") || ipc.starts_with("container:");
        return Err(match known {
            true => format!(
                "IPC mode \"{ipc}\" is not supported as default value; use \"shareable\" or \"private\""
            ),
            false => format!("default IPC mode setting ({ipc}) is invalid; use \"shareable\" or \"private\""),
        });
    }
    let cgroupns = v.text("default-cgroupns-mode");
    if let Some(mode) = cgroupns.as_deref().filter(|m| !matches!(*m, "host" | "private")) {
        return Err(format!("invalid default cgroup namespace ({mode}): use \"host\" or \"private\""));
    }
    let runtimes = runtimes::read(v, search_path, notes)?;
    let default_runtime = v.text("default-runtime").unwrap_or(defaults.default_runtime);
    if !OWN_RUNTIMES.contains(&default_runtime.as_str()) && !runtimes.contains_key(&default_runtime) {
        return Err(format!("specified default runtime '{default_runtime}' does not exist"));
    }
    let features = switches(v);
    for (name, _) in features.iter().filter(|(name, on)| **on && *name != "cdi") {
        notes.push(format!("feature {name} has no effect: ferry has no such part of Docker's daemon"));
    }
    let shm_size = v.int("default-shm-size").filter(|n| *n > 0).unwrap_or(defaults.default_shm_size);
    Ok(LiveSettings {
        debug: v.flag("debug").unwrap_or(false),
        labels,
        insecure_registries: v.list("insecure-registries"),
        registry_mirrors: v.list("registry-mirrors"),
        max_concurrent_downloads: usize::try_from(downloads).unwrap_or(usize::MAX),
        max_concurrent_uploads: usize::try_from(uploads).unwrap_or(usize::MAX),
        max_download_attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
        shutdown_timeout: v.int("shutdown-timeout").unwrap_or(defaults.shutdown_timeout),
        default_runtime,
        runtimes,
        default_shm_size: shm_size,
        default_ipc_mode: ipc,
        default_cgroupns_mode: cgroupns,
        features,
    })
}

fn check_labels(labels: &[String]) -> Result<(), String> {
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for (key, value) in labels.iter().filter_map(|label| label.split_once('=')) {
        if let Some(other) = seen.insert(key, value).filter(|other| *other != value) {
            return Err(format!("conflict labels for {key}={value} and {key}={other}"));
        }
    }
    Ok(())
}

fn switches(v: &Values) -> BTreeMap<String, bool> {
    let on = |value: &Value| value.as_bool().unwrap_or(false);
    v.map("features").iter().map(|(name, value)| (name.clone(), on(value))).collect()
}

fn engine(v: &Values, around: &Surroundings, live: LiveSettings) -> Result<EngineConfig, String> {
    exec_options(v)?;
    let addresses = addresses::read(v)?;
    let mtu = match v.int("mtu") {
        Some(n) if n < 0 => return Err(format!("invalid default MTU: {n}")),
        Some(0) | None => None,
        Some(n) => Some(u32::try_from(n).map_err(|_| format!("invalid default MTU: {n}"))?),
    };
    let absolute = |path: String| std::path::absolute(&path).map_err(|e| format!("resolve {path}: {e}"));
    let data_root = absolute(v.text("data-root").unwrap_or_else(|| "/var/lib/ferry".to_owned()))?;
    if data_root.join("overlay2").is_dir() && !data_root.join("ferry.redb").exists() {
        return Err(format!(
            "{} holds the data of a Docker daemon: give ferry a directory of its own with --data-root",
            data_root.display()
        ));
    }
    let driver = v.text("log-driver").unwrap_or_else(|| "json-file".to_owned());
    let text_of = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let log_opts: BTreeMap<String, String> =
        v.map("log-opts").iter().map(|(key, value)| (key.clone(), text_of(value))).collect();
    ferry_engine::check_log_defaults(&driver, &log_opts)
        .map_err(|e| format!("failed to set log opts: {e}"))?;
    let cdi = v.list("cdi-spec-dirs");
    let off = switches(v).get("cdi") == Some(&false) || cdi.iter().any(String::is_empty);
    let cdi_spec_dirs = match v.get("cdi-spec-dirs") {
        _ if off => Vec::new(),
        None => ferry_engine::DEFAULT_CDI_DIRS.iter().map(PathBuf::from).collect(),
        Some(_) => cdi.into_iter().map(PathBuf::from).collect(),
    };
    Ok(EngineConfig {
        data_root,
        exec_root: absolute(v.text("exec-root").unwrap_or_else(|| "/run/ferry".to_owned()))?,
        bridge: network::bridge(v, around.is_dockerd)?,
        bip: addresses.bip,
        ipv6: v.flag("ipv6").unwrap_or(false),
        bip6: addresses.bip6,
        default_gateway: addresses.gateway,
        default_gateway_v6: addresses.gateway_v6,
        mtu,
        icc: v.flag("icc").unwrap_or(true),
        dns: v.list("dns"),
        dns_search: v.list("dns-search"),
        dns_opts: v.list("dns-opts"),
        shim_path: v.text("shim").map_or_else(|| around.programs.join("ferry-shim"), PathBuf::from),
        name_server: vec![around.program.clone(), crate::names::COMMAND.into()],
        search_path: around.search_path(),
        warm_shims: 3,
        warm_sandboxes: 4,
        proxy: ProxyOptions {
            http: v.text("http-proxy").or_else(|| around.variable("HTTP_PROXY")),
            https: v.text("https-proxy").or_else(|| around.variable("HTTPS_PROXY")),
            no_proxy: v.text("no-proxy").or_else(|| around.variable("NO_PROXY")),
        },
        cgroup_parent: v.text("cgroup-parent").unwrap_or_else(|| "/ferry".to_owned()),
        log_driver: driver,
        log_opts,
        log_budget: v.int("log-budget").and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0),
        cdi_spec_dirs,
        init: v.flag("init").unwrap_or(false),
        init_path: v.text("init-path").map(absolute).transpose()?,
        ip_range: addresses.ip_range,
        ip_range_v6: addresses.ip_range_v6,
        default_network_opts: addresses::network_options(v),
        address_pools: addresses::pools(v)?,
        masquerade: v.flag("ip-masq").unwrap_or(true),
        default_host_ip: addresses::one(v, "ip")?.filter(|ip| !ip.is_unspecified()),
        firewall: network::firewall(v)?,
        host_gateway: v
            .list("host-gateway-ips")
            .iter()
            .map(|ip| ip.parse().map_err(|_| format!("ParseAddr({ip:?}): unable to parse IP")))
            .collect::<Result<_, String>>()?,
        default_ulimits: ulimits(v)?,
        no_new_privileges: v.flag("no-new-privileges").unwrap_or(false),
        seccomp: seccomp(v)?,
        experimental: v.flag("experimental").unwrap_or(false),
        warnings: Vec::new(),
        live,
    })
}

fn exec_options(v: &Values) -> Result<(), String> {
    for option in v.list("exec-opts") {
        let Some((key, value)) = option.split_once('=') else {
            return Err(format!("invalid exec-opt ({option}): must be formatted 'opt=value'"));
        };
        match (key, value) {
            ("native.cgroupdriver", "cgroupfs") => {}
            ("native.cgroupdriver", "systemd") => {
                return Err(format!(
                    "exec-opt {option} is not supported: ferry makes control groups itself, use cgroupfs"
                ));
            }
            ("native.cgroupdriver", other) => {
                return Err(format!(
                    "exec-opt native.cgroupdriver={other} is invalid: want cgroupfs or systemd"
                ));
            }
            ("isolation", _) => {
                return Err(format!(
                    "invalid exec-opt ({option}): option 'isolation' is only supported on windows"
                ));
            }
            (key, _) => return Err(format!("invalid exec-opt ({option}): unknown option: '{key}'")),
        }
    }
    Ok(())
}

fn ulimits(v: &Values) -> Result<Vec<Ulimit>, String> {
    const KNOWN: [&str; 16] = [
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
        "as",
    ];
    v.map("default-ulimits")
        .iter()
        .map(|(name, limits)| {
            if !KNOWN.contains(&name.as_str()) {
                return Err(format!("invalid ulimit type: {name}"));
            }
            let number = |key: &str| limits[key].as_i64().unwrap_or(0);
            Ok(Ulimit { name: name.clone(), hard: number("Hard"), soft: number("Soft") })
        })
        .collect()
}

fn seccomp(v: &Values) -> Result<DefaultSeccomp, String> {
    match v.text("seccomp-profile").as_deref() {
        None | Some("builtin") => Ok(DefaultSeccomp::Builtin),
        Some("unconfined") => Ok(DefaultSeccomp::Unconfined),
        Some(path) => {
            let fail = |why: String| format!("opening seccomp profile ({path}) failed: {why}");
            let json = std::fs::read_to_string(Path::new(path)).map_err(|e| fail(e.to_string()))?;
            ferry_engine::check_seccomp_profile(&json).map_err(fail)?;
            Ok(DefaultSeccomp::Profile { path: path.into(), json })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{file, flags};
    use ferry_engine::{FirewallBackend, FirewallConfig};

    use super::*;

    fn around() -> Surroundings {
        Surroundings {
            is_dockerd: false,
            programs: "/p".into(),
            program: "/p/ferry".into(),
            environment: BTreeMap::new(),
        }
    }

    fn of(args: &[&str], text: &str) -> Result<Settings, String> {
        let flags = flags::parse(&args.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>())?;
        settings(&file::parse(text, &flags)?.overlaid(flags), &around())
    }

    fn refusal(args: &[&str]) -> String {
        of(args, "").unwrap_err()
    }

    /// A directive that is called applied and that nobody reads would be swallowed.
    #[test]
    fn every_applied_directive_is_read() {
        let all = Values::default();
        settings(&all, &around()).unwrap();
        // These decide what is done at all, before there are settings.
        let early = ["config-file", "help", "validate", "version"];
        let asked = all.asked();
        for directive in DIRECTIVES.iter().filter(|d| d.effect == Effect::Applied) {
            let name = directive.name();
            assert!(asked.contains(name) || early.contains(&name), "nobody reads {name}");
        }
    }

    #[test]
    fn flags_and_file_become_settings() {
        let s = of(
            &["-H", "unix:///a", "--ip", "127.0.0.1", "--default-ulimit", "nofile=1:2", "-D"],
            r#"{"data-root": "/d", "bip": "10.1.0.1/24", "fixed-cidr": "10.1.0.128/25", "labels": ["a=b"],
                "log-driver": "local", "log-opts": {"max-size": "1m"}, "max-concurrent-downloads": 9,
                "default-address-pools": [{"base": "10.9.0.0/16", "size": 24}], "default-shm-size": "1m"}"#,
        )
        .unwrap();
        assert_eq!(s.engine.data_root, Path::new("/d"));
        assert_eq!(s.engine.bip, Some(([10, 1, 0, 1].into(), 24)));
        assert_eq!(s.engine.default_host_ip, Some([127, 0, 0, 1].into()));
        assert_eq!(s.engine.default_ulimits[0].hard, 2);
        assert_eq!((s.engine.log_driver.as_str(), s.engine.log_opts["max-size"].as_str()), ("local", "1m"));
        assert_eq!((s.engine.live.max_concurrent_downloads, s.engine.live.default_shm_size), (9, 1 << 20));
        assert_eq!(s.engine.address_pools[0].size, 24);
        assert!(s.engine.live.debug && s.log.debug);
    }

    #[test]
    fn ipv6_of_the_default_bridge() {
        let s = of(
            &["--ipv6", "--bip6=fd00::9/64", "--fixed-cidr-v6=fd00::100/120", "--default-gateway-v6=fd00::1"],
            r#"{"default-address-pools": [{"base": "fd00:1::/48", "size": 64}],
                "default-network-opts": {"bridge": {"com.docker.network.driver.mtu": "1400"}}}"#,
        )
        .unwrap();
        let e = s.engine;
        assert!(e.ipv6 && s.notes.is_empty(), "{:?}", s.notes);
        assert_eq!(e.bip6, Some(("fd00::9".parse().unwrap(), 64)));
        assert_eq!(
            (e.ip_range_v6, e.default_gateway_v6),
            ("fd00::100/120".parse().ok(), "fd00::1".parse().ok())
        );
        assert_eq!(e.address_pools[0].base.to_string(), "fd00:1::/48");
        assert_eq!(e.default_network_opts["bridge"]["com.docker.network.driver.mtu"], "1400");
        assert_eq!(of(&["--bip6=fd00::9/64"], "").unwrap().notes.len(), 1);
    }

    #[test]
    fn the_firewall_is_configured_by_flags_and_file() {
        assert_eq!(of(&[], "").unwrap().engine.firewall, FirewallConfig::default());
        let file =
            r#"{"publish": "respect-host-firewall", "firewall-backend": "iptables", "ip6tables": false}"#;
        let firewall = of(&["--allow-direct-routing"], file).unwrap().engine.firewall;
        assert!(firewall.host_firewall && firewall.direct_routing && firewall.ipv4 && !firewall.ipv6);
        assert!(matches!(firewall.backend, FirewallBackend::Iptables { ipv4, .. } if ipv4 == "iptables"));
        assert!(!of(&["--userland-proxy=false"], "").unwrap().engine.firewall.relays);
        assert!(!of(&["--ip-forward=false"], "").unwrap().engine.firewall.ip_forward);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert!(
            refusal(&["--userns-remap=default"]).starts_with("userns-remap (default) is not supported: ")
        );
        assert!(refusal(&["--iptables=false", "--userland-proxy=false"]).contains("userland-proxy"));
        let args = ["--publish=respect-host-firewall", "--userland-proxy=false"];
        assert!(refusal(&args).contains("needs userland-proxy"));
        assert_eq!(refusal(&["--firewall-backend=pf"]), "invalid firewall-backend: \"pf\"");
        assert!(refusal(&["--publish=all"]).starts_with("invalid publish: \"all\": want"));
        assert!(refusal(&["--storage-driver=btrfs"]).contains("driver not supported: btrfs"));
        assert!(refusal(&["--exec-opt=native.cgroupdriver=systemd"]).contains("cgroupfs"));
        assert!(refusal(&["--api-cors-header=x"]).starts_with("DEPRECATED: "));
        assert!(refusal(&["--data-root=relative", "--fixed-cidr=x"]).contains("fixed-cidr"));
        for (args, expected) in [
            ("--log-level=foo", "invalid logging level: foo"),
            ("--log-format=foo", "invalid log format: foo"),
            ("--exec-opt=foo", "invalid exec-opt (foo): must be formatted 'opt=value'"),
            ("--exec-opt=foo=bar", "invalid exec-opt (foo=bar): unknown option: 'foo'"),
            ("--mtu=-1", "invalid default MTU: -1"),
            ("--max-concurrent-downloads=-1", "invalid max concurrent downloads: -1"),
            (
                "--default-ipc-mode=host",
                "IPC mode \"host\" is not supported as default value; use \"shareable\" or \"private\"",
            ),
            (
                "--default-cgroupns-mode=x",
                "invalid default cgroup namespace (x): use \"host\" or \"private\"",
            ),
            ("--log-opt=foo=bar", "failed to set log opts: unknown log opt 'foo' for json-file log driver"),
            (
                "--fixed-cidr-v6=fe80::/80",
                "invalid fixed-cidr-v6: 'fe80::/80' clashes with the Link-Local prefix 'fe80::/64'",
            ),
            ("--fixed-cidr-v6=10.0.0.0/8", "invalid fixed-cidr-v6: '10.0.0.0/8' is not a valid IPv6 subnet"),
            ("--bip6=fd00::/64", "invalid bip6 \"fd00::/64\": want ADDRESS/PREFIX such as fd00::1/64"),
            ("--default-gateway=fd00::1", "invalid default-gateway fd00::1: of the wrong family"),
            (
                "--default-address-pool=base=fd00::/8,size=127",
                "default-address-pools: invalid size 127 for fd00::/8: want 8 to 126",
            ),
            ("--bip=10.0.0.1/31", "invalid bip \"10.0.0.1/31\": want ADDRESS/PREFIX such as 172.17.0.1/16"),
        ] {
            assert_eq!(refusal(&[args]), expected);
        }
        assert_eq!(refusal(&["--label=a=1", "--label=a=2"]), "conflict labels for a=2 and a=1");
    }

    #[test]
    fn what_has_no_effect_is_said() {
        let s = of(&["--containerd=/x", "--feature=containerd-snapshotter"], "").unwrap();
        assert_eq!(s.notes.len(), 2, "{:?}", s.notes);
        assert!(
            of(&["--userland-proxy=false", "--live-restore", "--ipv6=false"], "").unwrap().notes.is_empty()
        );
        assert_eq!(of(&[], r#"{"live-restore": false}"#).unwrap().notes.len(), 1);
        assert_eq!(of(&["--default-runtime=runc"], "").unwrap().engine.live.default_runtime, "runc");
    }
}
