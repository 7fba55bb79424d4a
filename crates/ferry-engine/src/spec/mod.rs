//! From a container's record to its OCI `config.json`. Pure but for look-ups in the image's user database and
//! the host's device nodes.

pub(crate) mod capabilities;
pub(crate) mod devices;
pub(crate) mod document;
pub(crate) mod mounts;
pub(crate) mod resources;
pub(crate) mod security;
pub(crate) mod user;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ferry_types::Overlay;
use serde_json::value::RawValue;

use crate::cdi::edits::{Hooks, Target};
use crate::cdi::{CdiError, Registry};
use crate::container::record::ContainerRecord;
use crate::init_program::IN_CONTAINER;
use document::{Capabilities, Document, Linux, Namespace, OCI_VERSION, Process, Rlimit, Root, User};
use security::SeccompChoice;

/// The search path of containers whose image sets none, Docker's.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Under `/proc` and `/sys`: what tells too much or changes the host. Docker's lists.
pub(crate) const MASKED_PATHS: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
pub(crate) const READONLY_PATHS: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Facts about the host that do not change while the engine runs.
#[derive(Debug)]
pub(crate) struct HostFacts {
    /// `uname -r`.
    pub kernel_release: String,
    /// `uname -n`.
    pub hostname: String,
    /// Capabilities the engine itself could pass on.
    pub bounding_set: u64,
    /// Whether the pure cgroup v2 hierarchy is in use.
    pub cgroup_v2: bool,
    /// Whether swap can be limited.
    pub swap_limit: bool,
    /// The engine's own oom_score_adj, which containers would inherit.
    pub oom_score_adj: i32,
    /// Processors.
    pub cpus: usize,
    /// Bytes of memory.
    pub memory: u64,
    /// The daemon's: resource limits of containers that do not set them.
    pub default_ulimits: Vec<ferry_api::container::Ulimit>,
    /// The daemon's: security options that come before a container's own.
    pub default_security: Vec<String>,
}

impl HostFacts {
    /// Reads them.
    pub fn read(config: &crate::EngineConfig) -> Self {
        let uname = rustix::system::uname();
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let mode = ferry_runtime::cgroup::detect();
        let meminfo = text("/proc/meminfo");
        let total_kib = meminfo
            .lines()
            .find_map(|l| l.strip_prefix("MemTotal:"))
            .and_then(|l| l.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
        Self {
            kernel_release: uname.release().to_string_lossy().into_owned(),
            hostname: uname.nodename().to_string_lossy().into_owned(),
            bounding_set: capabilities::host_bounding_set(&text("/proc/self/status")),
            cgroup_v2: matches!(mode, Ok(ferry_runtime::cgroup::Mode::V2)),
            swap_limit: ferry_runtime::cgroup::limits_swap(),
            oom_score_adj: text("/proc/self/oom_score_adj").trim().parse().unwrap_or(0),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            memory: total_kib.unwrap_or(0) * 1024,
            default_ulimits: config.default_ulimits.clone(),
            default_security: security::defaults(config),
        }
    }
}

/// Checks a seccomp profile in Docker's format.
///
/// # Errors
/// What is wrong with it.
pub fn check_seccomp_profile(json: &str) -> Result<(), String> {
    security::profile_to_oci(json, &[], "").map(drop)
}

/// How a container gets one of its namespaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NamespaceChoice {
    /// A new one.
    New,
    /// The host's.
    Host,
    /// Another container's, by its `/proc/PID/ns/…` path.
    Join(PathBuf),
}

/// The namespaces that can be shared.
#[derive(Debug, Clone)]
pub(crate) struct Namespaces {
    pub network: NamespaceChoice,
    pub pid: NamespaceChoice,
    pub ipc: NamespaceChoice,
    pub uts: NamespaceChoice,
    pub cgroup: NamespaceChoice,
}

/// What [`build`] needs.
pub(crate) struct SpecInput<'a> {
    pub record: &'a ContainerRecord,
    pub overlay: &'a Overlay,
    pub rootfs: PathBuf,
    pub host: &'a HostFacts,
    pub namespaces: Namespaces,
    /// Bind mounts of the generated files, e.g. `/etc/hosts`.
    pub generated: Vec<(PathBuf, &'static str)>,
    pub cgroup_parent: &'a str,
    /// To find the images that are mounted.
    pub image_layers: &'a mounts::ImageLayers<'a>,
    /// The init to run it under, on the host.
    pub init: Option<&'a Path>,
    pub seccomp: &'a SeccompCache,
    /// Directories with descriptions of CDI devices.
    pub cdi_dirs: &'a [PathBuf],
}

/// The `config.json` of a container.
pub(crate) fn build(input: &SpecInput<'_>) -> Result<Vec<u8>, String> {
    let record = input.record;
    let host_config = &record.host_config;
    let privileged = host_config.privileged;
    let security = security::resolve(&input.host.default_security, &host_config.security_opt, privileged)?;
    let caps = capabilities::resolve(
        &host_config.cap_add,
        &host_config.cap_drop,
        privileged,
        input.host.bounding_set,
    )?;
    let mut devices = devices::resolve(
        &host_config.resources.devices,
        &host_config.resources.device_cgroup_rules,
        privileged,
    )?;
    let mut resources = resources::to_oci(&host_config.resources)?;
    let mut process =
        process(record, input.overlay, input.host, &caps, security.no_new_privileges, security.apparmor)?;
    let seccomp = match (&security.seccomp, privileged) {
        (SeccompChoice::Unconfined, _) | (SeccompChoice::Default, true) => None,
        (SeccompChoice::Default, false) => Some(input.seccomp.default_profile(&caps)?),
        (SeccompChoice::Profile(profile), _) => {
            Some(security::profile_to_oci(profile, &caps, &input.host.kernel_release)?)
        }
    };
    let own_list = |given: &ferry_api::List<String>, default: &[&str]| -> Vec<String> {
        match (given.is_null(), privileged || security.unconfined_paths) {
            (false, _) => given.to_vec(),
            (true, true) => Vec::new(),
            (true, false) => default.iter().map(|p| (*p).to_owned()).collect(),
        }
    };
    let mut mounts = mounts::all(
        record,
        &input.generated,
        &input.namespaces,
        input.image_layers,
        security.writable_cgroups.unwrap_or(privileged),
    )?;
    if let Some(init) = input.init {
        mounts.push(mounts::init(init));
        process.args.splice(0..0, [IN_CONTAINER.to_owned(), "--".to_owned()]);
    }
    let hooks = add_cdi_devices(input, &mut process, &mut devices, &mut mounts)?;
    resources.set_devices(Some(devices.rules));
    let shared = record.mounts.iter().any(|m| m.propagation.contains("shared"));
    let slave = record.mounts.iter().any(|m| m.propagation.contains("slave"));
    let new_uts = input.namespaces.uts != NamespaceChoice::Host;
    let document = Document {
        oci_version: OCI_VERSION,
        process,
        root: Root { path: input.rootfs.clone(), readonly: host_config.readonly_rootfs },
        hostname: if new_uts { record.config.hostname.clone() } else { String::new() },
        domainname: if new_uts { record.config.domainname.clone() } else { String::new() },
        mounts,
        annotations: host_config.annotations.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
        hooks,
        linux: Linux {
            namespaces: namespace_list(&input.namespaces),
            devices: devices.nodes,
            cgroups_path: cgroup_path(record, input.cgroup_parent),
            resources,
            seccomp,
            sysctl: sysctls(record, &input.namespaces),
            rootfs_propagation: if shared {
                Some("shared")
            } else if slave {
                Some("slave")
            } else {
                None
            },
            masked_paths: own_list(&host_config.masked_paths, &MASKED_PATHS),
            readonly_paths: own_list(&host_config.readonly_paths, &READONLY_PATHS),
            mount_label: None,
        },
    };
    serde_json::to_vec(&document).map_err(|e| e.to_string())
}

/// Adds the CDI devices a container asks for; the hooks are theirs. The directories are read each time: what
/// vendors' tools write there must be seen without a reload.
fn add_cdi_devices(
    input: &SpecInput<'_>,
    process: &mut Process,
    devices: &mut devices::Devices,
    mounts: &mut Vec<document::Mount>,
) -> Result<Option<Hooks>, String> {
    let requests = input.record.host_config.resources.device_requests.iter();
    let names: Vec<String> = requests
        .filter(|request| request.driver == "cdi")
        .flat_map(|request| request.device_ids.iter().cloned())
        .collect();
    if names.is_empty() {
        return Ok(None);
    }
    let failed = |e: CdiError| format!("CDI device injection failed: {e}");
    let mut hooks = Hooks::default();
    let mut target = Target {
        uid: process.user.uid,
        gid: process.user.gid,
        env: &mut process.env,
        additional_gids: &mut process.user.additional_gids,
        nodes: &mut devices.nodes,
        rules: &mut devices.rules,
        mounts,
        hooks: &mut hooks,
    };
    for (device, edits) in Registry::load(input.cdi_dirs).edits(&names).map_err(failed)? {
        edits.apply(&device, &mut target).map_err(failed)?;
    }
    Ok(Some(hooks))
}

/// The cgroup of a container, from the root of the hierarchies.
pub(crate) fn cgroup_path(record: &ContainerRecord, default_parent: &str) -> String {
    let own = &record.host_config.resources.cgroup_parent;
    let parent = if own.is_empty() { default_parent } else { own };
    // As a path from the root that cannot lead above it, which is what Docker makes of any parent.
    let mut path: Vec<&str> = Vec::new();
    for part in parent.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(path.pop()),
            part => path.push(part),
        }
    }
    path.push(record.id.as_str());
    format!("/{}", path.join("/"))
}

/// The process object of the container's init process.
fn process(
    record: &ContainerRecord,
    overlay: &Overlay,
    host: &HostFacts,
    caps: &[&'static str],
    no_new_privileges: bool,
    apparmor_profile: Option<String>,
) -> Result<Process, String> {
    let user = resolve_user(record, overlay, &record.config.user)?;
    let wanted_score = record.host_config.oom_score_adj;
    Ok(Process {
        terminal: record.tty(),
        capabilities: Capabilities::for_uid(user.uid, caps),
        env: environment(record, record.tty(), &[], &user.home),
        user: User { uid: user.uid, gid: user.gid, additional_gids: user.additional_gids },
        args: record.args.clone(),
        cwd: working_dir(&record.config.working_dir),
        rlimits: rlimits(record, &host.default_ulimits),
        no_new_privileges,
        // Setting the inherited value again is not needed, and lowering one may not be allowed.
        oom_score_adj: (wanted_score != host.oom_score_adj).then_some(wanted_score),
        apparmor_profile,
        selinux_label: None,
    })
}

/// What `exec` asks for beyond the container's own settings.
pub(crate) struct ExecInput<'a> {
    pub args: &'a [String],
    pub env: &'a [String],
    pub user: &'a str,
    pub working_dir: &'a str,
    pub tty: bool,
    pub privileged: bool,
}

/// The process object of an exec.
pub(crate) fn exec_process(
    record: &ContainerRecord,
    overlay: &Overlay,
    host: &HostFacts,
    exec: &ExecInput<'_>,
) -> Result<Vec<u8>, String> {
    let host_config = &record.host_config;
    let privileged = exec.privileged || host_config.privileged;
    let security = security::resolve(&host.default_security, &host_config.security_opt, privileged)?;
    let caps =
        capabilities::resolve(&host_config.cap_add, &host_config.cap_drop, privileged, host.bounding_set)?;
    let user_spec = if exec.user.is_empty() { &record.config.user } else { exec.user };
    let user = resolve_user(record, overlay, user_spec)?;
    let cwd = if exec.working_dir.is_empty() { &record.config.working_dir } else { exec.working_dir };
    let process = Process {
        terminal: exec.tty,
        capabilities: Capabilities::for_uid(user.uid, &caps),
        env: environment(record, exec.tty, exec.env, &user.home),
        user: User { uid: user.uid, gid: user.gid, additional_gids: user.additional_gids },
        args: exec.args.to_vec(),
        cwd: working_dir(cwd),
        rlimits: rlimits(record, &host.default_ulimits),
        no_new_privileges: security.no_new_privileges,
        oom_score_adj: None,
        apparmor_profile: security.apparmor,
        selinux_label: None,
    };
    serde_json::to_vec(&process).map_err(|e| e.to_string())
}

/// Whether a container has a user.
pub(crate) fn check_user(record: &ContainerRecord, overlay: &Overlay, user: &str) -> Result<(), String> {
    resolve_user(record, overlay, user).map(drop)
}

fn resolve_user(
    record: &ContainerRecord,
    overlay: &Overlay,
    spec: &str,
) -> Result<user::ResolvedUser, String> {
    let layers = user::Layers::new(Some(&overlay.upper), &overlay.lower);
    let read = |path: &str| layers.read(path).map_err(|e| format!("read /{path} of the image: {e}"));
    let (passwd, group) = (read("etc/passwd")?, read("etc/group")?);
    user::resolve(spec, &record.host_config.group_add, &passwd, &group)
}

fn working_dir(dir: &str) -> String {
    if dir.is_empty() { "/".to_owned() } else { dir.to_owned() }
}

/// `PATH`, `HOSTNAME`, `TERM`, the container's own variables, `extra`, then `HOME` unless set. Later values win, the first
/// place is kept.
fn environment(record: &ContainerRecord, tty: bool, extra: &[String], home: &str) -> Vec<String> {
    let hostname = &record.config.hostname;
    let mut base = vec![format!("PATH={DEFAULT_PATH}"), format!("HOSTNAME={hostname}")];
    if tty {
        base.push("TERM=xterm".to_owned());
    }
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut env: Vec<String> = Vec::with_capacity(record.config.env.len() + extra.len() + 4);
    let home = format!("HOME={home}");
    for variable in base.iter().chain(&record.link_env).chain(record.config.env.iter()).chain(extra) {
        // A bare name takes nothing from the host here (the client did that) and unsets.
        let name = variable.split('=').next().unwrap_or_default();
        match places.get(name) {
            Some(&place) => env[place].clone_from(variable),
            None => {
                places.insert(name.to_owned(), env.len());
                env.push(variable.clone());
            }
        }
    }
    if !places.contains_key("HOME") {
        env.push(home);
    }
    env.retain(|v| v.contains('='));
    env
}

fn rlimits(record: &ContainerRecord, defaults: &[ferry_api::container::Ulimit]) -> Vec<Rlimit> {
    let unlimited = |n: i64| u64::try_from(n).unwrap_or(u64::MAX);
    let to_oci = |u: &ferry_api::container::Ulimit| Rlimit {
        kind: format!("RLIMIT_{}", u.name.to_ascii_uppercase()),
        soft: unlimited(u.soft),
        hard: unlimited(u.hard),
    };
    let own = &record.host_config.resources.ulimits;
    let inherited = defaults.iter().filter(|d| own.iter().all(|u| u.name != d.name));
    own.iter().chain(inherited).map(to_oci).collect()
}

fn namespace_list(choices: &Namespaces) -> Vec<Namespace> {
    let mut list = vec![Namespace { kind: "mount", path: None }];
    let kinds = [
        ("network", &choices.network),
        ("pid", &choices.pid),
        ("ipc", &choices.ipc),
        ("uts", &choices.uts),
        ("cgroup", &choices.cgroup),
    ];
    for (kind, choice) in kinds {
        match choice {
            NamespaceChoice::New => list.push(Namespace { kind, path: None }),
            NamespaceChoice::Host => {}
            NamespaceChoice::Join(path) => list.push(Namespace { kind, path: Some(path.clone()) }),
        }
    }
    list
}

/// `--sysctl`, and what Docker sets for every container with its own network.
fn sysctls(record: &ContainerRecord, namespaces: &Namespaces) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    // The sandboxes of the bridge have these already.
    if namespaces.network == NamespaceChoice::New && record.endpoints.is_empty() {
        all.insert("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned());
        all.insert("net.ipv4.ping_group_range".to_owned(), "0 2147483647".to_owned());
    }
    all.extend(record.host_config.sysctls.iter().map(|(k, v)| (k.clone(), v.clone())));
    all
}

/// Default seccomp profiles as JSON, by capability set: they are large and almost always the same.
#[derive(Default)]
pub(crate) struct SeccompCache {
    profiles: Mutex<HashMap<Vec<&'static str>, Arc<RawValue>>>,
}

impl SeccompCache {
    fn default_profile(&self, caps: &[&'static str]) -> Result<Arc<RawValue>, String> {
        let mut profiles = self.profiles.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(profile) = profiles.get(caps) {
            return Ok(Arc::clone(profile));
        }
        let named =
            |c: &&str| serde_json::from_value(serde_json::Value::from(*c)).map_err(|e| format!("{c}: {e}"));
        let set = caps.iter().map(named).collect::<Result<_, String>>()?;
        let profile = ferry_runtime::seccomp::docker_default(&set);
        let json: Arc<RawValue> =
            serde_json::value::to_raw_value(&profile).map_err(|e| e.to_string())?.into();
        // Every distinct set costs some kilobytes; nobody needs hundreds at once.
        if profiles.len() > 64 {
            profiles.clear();
        }
        profiles.insert(caps.to_vec(), Arc::clone(&json));
        Ok(json)
    }
}

/// Whether a path is absolute and free of `..`, as mount destinations must be.
pub(crate) fn is_clean_absolute(path: &str) -> bool {
    let path = Path::new(path);
    path.is_absolute() && !path.components().any(|c| matches!(c, std::path::Component::ParentDir))
}
