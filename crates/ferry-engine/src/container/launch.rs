//! The steps of a start: network, generated files, bundle, shim. Each is undone when a later one fails.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ferry_shim_proto::{AttachStreams, Event, Launch, Relay, Reply, Request as ShimRequest, ShimErrorKind};
use ferry_types::{Classify, ErrorKind};
use tokio::sync::mpsc;

use super::network_mode::NetworkMode;
use super::owner::unexpected;
use super::record::ContainerRecord;
use super::state::{Live, State};
use super::{extra_hosts, links, net_files, network_mode};
use crate::error::{EngineError, Result};
use crate::inner::Inner;
use crate::logging;
use crate::network::endpoints;
use crate::paths::{BundleDir, ContainerDir};
use crate::runtimes;
use crate::shim::{ShimClient, ShimNotice};
use crate::spec::{self, NamespaceChoice, Namespaces, SpecInput};
use crate::steps::Steps;

/// A container that runs.
pub(crate) struct Started {
    pub record: ContainerRecord,
    pub live: Live,
    pub shim: ShimClient,
    pub notices: mpsc::UnboundedReceiver<ShimNotice>,
}

/// A start that failed; everything it did is undone.
pub(crate) struct LaunchFailure {
    pub error: EngineError,
    /// Docker's exit code for it: 127 not found, 126 not executable, 128 otherwise.
    pub exit_code: i32,
}

impl From<EngineError> for LaunchFailure {
    fn from(error: EngineError) -> Self {
        Self { error, exit_code: 128 }
    }
}

/// What is ready before the shim is told.
struct Prepared {
    record: ContainerRecord,
    request: Launch,
    fds: Vec<OwnedFd>,
}

/// Starts a container. `clients` are connected before its process runs.
pub(crate) async fn launch(
    inner: &Arc<Inner>,
    record: ContainerRecord,
    clients: Vec<(AttachStreams, OwnedFd)>,
) -> std::result::Result<Started, LaunchFailure> {
    let began = std::time::Instant::now();
    let task_inner = Arc::clone(inner);
    // Most containers have none.
    let volumes = super::mount_sources::mounted_volumes(inner, &record);
    let mounted = (!volumes.is_empty()).then(|| (record.id.clone(), volumes));
    let (prepared, steps) = crate::blocking_raw(move || {
        let mut steps = Steps::default();
        let prepared = prepare(&task_inner, &mut steps, record);
        (prepared, steps)
    })
    .await?;
    let prepared_after = began.elapsed();
    let result = match prepared {
        Ok(prepared) => run(inner, prepared, clients).await,
        Err(error) => Err(error.into()),
    };
    if let (Err(_), Some((id, volumes))) = (&result, mounted) {
        super::teardown::release_volumes(inner, id, volumes).await;
    }
    tracing::debug!(prepare = ?prepared_after, total = ?began.elapsed(), ok = result.is_ok(), "start");
    if result.is_err() {
        let _ = crate::blocking_raw(move || steps.roll_back()).await;
    }
    result
}

async fn run(
    inner: &Arc<Inner>,
    prepared: Prepared,
    clients: Vec<(AttachStreams, OwnedFd)>,
) -> std::result::Result<Started, LaunchFailure> {
    let Prepared { record, mut request, mut fds } = prepared;
    for (streams, socket) in clients {
        request.attach.push(streams);
        fds.push(socket);
    }
    let failed = |what: &str, e: io::Error| EngineError::System(format!("{what}: {e}"));
    let warm = inner.shims.take().map_err(|e| failed("start a shim", e))?;
    let (sender, notices) = mpsc::unbounded_channel();
    let shim = ShimClient::new(warm.socket, sender.clone(), Arc::clone(&inner.execs))
        .map_err(|e| failed("connect to the shim", e))?;
    // Before the shim knows its container: should this engine be killed now, the next one must know that a shim may be
    // about to launch it.
    let process = serde_json::to_vec(&warm.process).map_err(|e| failed("encode the shim's pid", e.into()))?;
    write(&request.pid_file, &process)?;
    // Both are sent at once; the shim answers in order.
    let (reply, subscribed) = tokio::join!(
        shim.call(ShimRequest::Launch(Box::new(request)), &fds),
        shim.call(ShimRequest::Subscribe, &[]),
    );
    drop(fds);
    let reply = reply.map_err(|e| {
        let exit_code = match e.kind {
            ShimErrorKind::CommandNotFound => 127,
            ShimErrorKind::CommandNotExecutable => 126,
            ShimErrorKind::State | ShimErrorKind::Invalid | ShimErrorKind::Log | ShimErrorKind::System => 128,
        };
        let own = runtimes::is_own(&record.host_config.runtime);
        LaunchFailure { error: EngineError::from_launch(e, own), exit_code }
    })?;
    let Reply::Started { .. } = reply else { return Err(unexpected(&reply).into()) };
    match subscribed.map_err(|e| EngineError::from_shim(&record.id, e))? {
        Reply::State(state) => {
            let live = Live { pid: state.pid, started_at: state.started_at };
            // A run that was over before we subscribed will not be reported again.
            if let Some(exit) = state.exited {
                let _ = sender.send(ShimNotice::Event(Event::Exited(exit)));
            }
            if record.endpoints.keys().any(|name| name != endpoints::BRIDGE) {
                inner.names.watch_process(&record.id, live.pid);
            }
            Ok(Started { record, live, shim, notices })
        }
        other => Err(unexpected(&other).into()),
    }
}

fn prepare(inner: &Arc<Inner>, steps: &mut Steps, mut record: ContainerRecord) -> Result<Prepared> {
    let id = record.id.clone();
    let dir = inner.paths.container(&id);
    let bundle = inner.paths.bundle(&id);
    // It may have been registered when the container was created, and not any more.
    let settings = inner.live.settings();
    let runtime = runtimes::program(&record.host_config.runtime, &settings, &inner.config.search_path)?;
    let overlay = inner.overlay(&id, &record.image_id)?;
    let mode = NetworkMode::parse(&record.host_config.network_mode);
    let namespaces = namespaces(inner, &record, &mode)?;
    super::mount_sources::prepare(inner, &record)?;
    let links = links::resolve(inner, &record)?;
    if let NetworkMode::Container(id) = &mode {
        // It is the name that leads to the shared address in the shared hosts file.
        let other = inner.containers.find(id)?.snapshot();
        record.config.hostname.clone_from(&other.record.config.hostname);
        record.config.domainname.clone_from(&other.record.config.domainname);
    }
    make_bundle(steps, &bundle)?;
    remove_stale(&dir.exit_record())?;
    // As in Docker, whose containers on a default bridge that is not there have no network.
    let nowhere = mode == NetworkMode::Bridge && inner.bridge.is_none() && record.networks.len() <= 1;
    let joined = match record.config.network_disabled || nowhere {
        true => None,
        false => endpoints::join_all(inner, steps, &record).map_err(in_networking)?,
    };
    record.endpoints = joined.as_ref().map(|j| j.endpoints.clone()).unwrap_or_default();
    record.link_env = links.iter().flat_map(|l| l.env.iter().cloned()).collect();
    let generated = write_net_files(inner, &dir, &record, &mode, &links)?;
    let init = match wants_init(&record, inner.config.init) {
        true => Some(inner.init_program.prepare(&inner.shims)?),
        false => None,
    };
    let config = spec::build(&SpecInput {
        record: &record,
        overlay: &overlay,
        rootfs: bundle.rootfs(),
        host: &inner.host,
        namespaces,
        generated,
        cgroup_parent: &inner.config.cgroup_parent,
        image_layers: &|image| inner.images.layer_dirs(image).map_err(|e| e.to_string()),
        init,
        seccomp: &inner.seccomp,
        cdi_dirs: &inner.config.cdi_spec_dirs,
    })
    .map_err(EngineError::InvalidParameter)?;
    write(&bundle.config(), &config)?;
    record.save(&dir.record())?;
    let subject = logging::Subject { record: &record, hostname: &inner.host.hostname };
    let log = logging::plan(&subject, &dir).map_err(EngineError::from_log_driver)?;
    let [height, width] = record.host_config.console_size.map(|n| u16::try_from(n).unwrap_or(u16::MAX));
    let mut request = Launch {
        id,
        bundle: bundle.path().to_owned(),
        overlay: Some(overlay),
        runtime,
        netns_fd: joined.is_some(),
        socket: bundle.socket(),
        exit_record: dir.exit_record(),
        pid_file: bundle.pid_file(),
        log,
        open_stdin: record.config.open_stdin,
        stdin_once: record.config.stdin_once,
        console_size: (height > 0 && width > 0).then_some((height, width)),
        attach: Vec::new(),
        relays: Vec::new(),
    };
    let mut fds = Vec::new();
    if let Some(joined) = joined {
        fds.push(joined.netns);
        for relay in joined.relays {
            request.relays.push(Relay { protocol: relay.protocol, target: relay.target });
            fds.push(relay.socket);
        }
    }
    Ok(Prepared { record, request, fds })
}

fn write(path: &Path, contents: &[u8]) -> Result<()> {
    fs::write(path, contents).map_err(|source| EngineError::File {
        action: "write",
        path: path.to_owned(),
        source,
    })
}

fn remove_stale(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(EngineError::File { action: "remove", path: path.to_owned(), source: e })
        }
        _ => Ok(()),
    }
}

fn make_bundle(steps: &mut Steps, bundle: &BundleDir) -> Result<()> {
    let path = bundle.path().to_owned();
    // A run directory that is still there belongs to a run whose end was not tidied up.
    match fs::remove_dir_all(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            return Err(EngineError::File { action: "remove", path, source: e });
        }
        _ => {}
    }
    fs::create_dir_all(bundle.rootfs()).map_err(|source| EngineError::File {
        action: "create",
        path: path.clone(),
        source,
    })?;
    steps.done("bundle", move || match fs::remove_dir_all(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(format!("{}: {e}", path.display())),
        _ => Ok(()),
    });
    Ok(())
}

/// An init is of use only as the first process of its pid namespace, so Docker gives none to containers without an own one.
fn wants_init(record: &ContainerRecord, default: bool) -> bool {
    let h = &record.host_config;
    h.init.unwrap_or(default) && matches!(h.pid_mode.as_str(), "" | "private")
}

fn namespaces(inner: &Inner, record: &ContainerRecord, mode: &NetworkMode) -> Result<Namespaces> {
    let h = &record.host_config;
    let host_or_new = |mode: &str| if mode == "host" { NamespaceChoice::Host } else { NamespaceChoice::New };
    let network = match mode {
        NetworkMode::Host => NamespaceChoice::Host,
        NetworkMode::Container(id) => {
            let other = inner.containers.find(id)?.snapshot();
            let live = other.state.live().ok_or_else(|| {
                EngineError::Conflict(format!(
                    "cannot join network namespace of a non running container: container {} is {}",
                    other.record.name,
                    other.state.status()
                ))
            })?;
            NamespaceChoice::Join(namespace_path(live, "net"))
        }
        NetworkMode::Bridge | NetworkMode::None | NetworkMode::Other(_) => NamespaceChoice::New,
    };
    let pid = match h.pid_mode.strip_prefix("container:") {
        Some(id) => join(inner, id, "pid")?,
        None => host_or_new(&h.pid_mode),
    };
    let ipc = match h.ipc_mode.strip_prefix("container:") {
        Some(id) => join(inner, id, "ipc")?,
        None => host_or_new(&h.ipc_mode),
    };
    let (uts, cgroup) = (host_or_new(&h.uts_mode), host_or_new(&h.cgroupns_mode));
    Ok(Namespaces { network, pid, ipc, uts, cgroup })
}

fn namespace_path(live: &Live, kind: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{}/ns/{kind}", live.pid))
}

/// The pid or ipc namespace of a running container. The texts are Docker's.
fn join(inner: &Inner, id: &str, kind: &str) -> Result<NamespaceChoice> {
    let failed = |why: &dyn std::fmt::Display| {
        format!("failed to join {} namespace: {why}", kind.to_ascii_uppercase())
    };
    let handle = inner.containers.find(id).map_err(|e| EngineError::InvalidParameter(failed(&e)))?;
    let snapshot = handle.snapshot();
    let id = &snapshot.record.id;
    if matches!(snapshot.state, State::Restarting(_)) {
        let why = format!("Container {id} is restarting, wait until the container is running");
        return Err(EngineError::Conflict(failed(&why)));
    }
    let Some(live) = snapshot.state.live() else {
        let why = failed(&format!("container {id} is not running"));
        // As Docker: this is a conflict for one kind of namespace and a failure for the other.
        return Err(if kind == "pid" { EngineError::System(why) } else { EngineError::Conflict(why) });
    };
    // A container that has joined another's memory can be joined itself.
    let shares = |mode: &str| matches!(mode, "shareable" | "host") || mode.starts_with("container:");
    if kind == "ipc" && !shares(&snapshot.record.host_config.ipc_mode) {
        let why = "non-shareable IPC (hint: use IpcMode:shareable for the donor container)";
        return Err(EngineError::InvalidParameter(failed(&format!("container {id}: {why}"))));
    }
    Ok(NamespaceChoice::Join(namespace_path(live, kind)))
}

/// As Docker introduces what goes wrong with networks.
fn in_networking(error: EngineError) -> EngineError {
    let message = format!("failed to set up container networking: {error}");
    match error.kind() {
        ErrorKind::NotFound => EngineError::NotFound(message),
        ErrorKind::InvalidParameter => EngineError::InvalidParameter(message),
        ErrorKind::Forbidden => EngineError::Forbidden(message),
        ErrorKind::NotImplemented => error,
        _ => EngineError::System(message),
    }
}

/// Writes `hosts` and `resolv.conf`; returns what to bind where.
fn write_net_files(
    inner: &Inner,
    dir: &ContainerDir,
    record: &ContainerRecord,
    mode: &NetworkMode,
    links: &[links::Resolved],
) -> Result<Vec<(PathBuf, &'static str)>> {
    let h = &record.host_config;
    let own: Vec<IpAddr> = record.endpoints.values().flat_map(|e| e.addresses()).collect();
    let gateways: Vec<String> = match inner.config.host_gateway.is_empty() {
        true => {
            let config = inner.bridge_config();
            let v4 = config.and_then(|c| c.ipv4?.bridge).map(|a| a.to_string());
            let v6 = config.and_then(|c| c.ipv6?.bridge).map(|a| a.to_string());
            v4.into_iter().chain(v6).collect()
        }
        false => inner.config.host_gateway.iter().map(ToString::to_string).collect(),
    };
    let extra = |gateways: &[String]| {
        extra_hosts::resolve(&h.extra_hosts, gateways).map_err(EngineError::InvalidParameter)
    };
    let (hosts, resolv) = match mode {
        NetworkMode::Container(id) => {
            // The files of the container whose network it is, as they are.
            let other = inner.containers.find(id)?.snapshot();
            return Ok(places(&inner.paths.container(&other.record.id)));
        }
        NetworkMode::Host => {
            let mut hosts = fs::read_to_string("/etc/hosts").unwrap_or_default();
            for (name, address) in extra(&gateways)? {
                hosts.push_str(&format!("{address}\t{name}\n"));
            }
            (hosts, fs::read_to_string("/etc/resolv.conf").unwrap_or_default())
        }
        NetworkMode::Bridge | NetworkMode::None | NetworkMode::Other(_) => {
            let mut extra = extra(&gateways)?;
            extra.extend(links.iter().map(|l| (l.names.clone(), l.address.to_string())));
            let own = net_files::Own {
                addresses: &own,
                hostname: &record.config.hostname,
                domainname: &record.config.domainname,
                without_ipv6: network_mode::switches_ipv6_off(h),
            };
            let hosts = net_files::hosts(&own, &extra);
            let own = own.addresses;
            let ipv6 = own.iter().any(IpAddr::is_ipv6);
            let wanted = net_files::resolver_options(inner, record);
            let resolv = match record.networks.keys().any(|name| name != endpoints::BRIDGE) && !own.is_empty()
            {
                true => net_files::internal_resolv_conf(&net_files::host_resolv_conf(), &wanted),
                false => net_files::resolv_conf(&net_files::host_resolv_conf(), &wanted, ipv6),
            };
            (hosts, resolv)
        }
    };
    write(&dir.hosts(), hosts.as_bytes())?;
    write(&dir.resolv_conf(), resolv.as_bytes())?;
    Ok(places(dir))
}

/// Writes the files of a running container anew after it joined networks: they are bind-mounted, so the container sees it.
/// `joined` is not in the record yet.
pub(crate) fn rewrite_net_files(
    inner: &Inner,
    record: &ContainerRecord,
    joined: &[(String, &ferry_network::EndpointRecord)],
) {
    let mut record = record.clone();
    for (name, endpoint) in joined {
        record.networks.entry(name.clone()).or_default();
        record.endpoints.insert(name.clone(), (*endpoint).clone());
    }
    let mode = NetworkMode::parse(&record.host_config.network_mode);
    let links = links::resolve(inner, &record).unwrap_or_default();
    if let Err(error) = write_net_files(inner, &inner.paths.container(&record.id), &record, &mode, &links) {
        tracing::warn!(container = %record.id, %error, "its hosts and resolv.conf are not up to date");
    }
}

/// Takes a running container's own lines for a network out of its `hosts`, and leaves those that it wrote itself.
pub(crate) fn forget_addresses(inner: &Inner, record: &ContainerRecord, network: &str) {
    let Some(endpoint) = record.endpoints.get(network) else { return };
    let own: Vec<IpAddr> = endpoint.addresses().collect();
    let path = inner.paths.container(&record.id).hosts();
    let changed = fs::read_to_string(&path).and_then(|hosts| {
        // Written in place: the file is what is mounted in the container.
        fs::write(&path, net_files::without(&hosts, &own, &record.config.hostname))
    });
    if let Err(error) = changed {
        tracing::warn!(container = %record.id, %error, "its hosts file is not up to date");
    }
}

/// Where the generated files of a container are, and where it sees them.
fn places(dir: &ContainerDir) -> Vec<(PathBuf, &'static str)> {
    vec![
        (dir.resolv_conf(), "/etc/resolv.conf"),
        (dir.hostname(), "/etc/hostname"),
        (dir.hosts(), "/etc/hosts"),
    ]
}

/// The generated files a container has once it was started, see [`write_net_files`].
pub(crate) fn net_files(inner: &Inner, record: &ContainerRecord) -> Result<Vec<(PathBuf, &'static str)>> {
    let whose = match NetworkMode::parse(&record.host_config.network_mode) {
        NetworkMode::Container(id) => match inner.containers.find(&id) {
            Ok(other) => other.snapshot().record.id.clone(),
            Err(EngineError::NoSuchContainer(_)) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        },
        _ => record.id.clone(),
    };
    Ok(places(&inner.paths.container(&whose)))
}
