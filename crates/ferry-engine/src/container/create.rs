//! `create`: checks everything that can be checked, puts the image's config and the request together, and
//! writes the record. Nothing of the host is touched before all checks have passed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use ferry_api::container::{ContainerCreateRequest, ContainerCreateResponse, HostConfig};
use ferry_api::{ContainerConfig, Empty, EndpointSettings};
use ferry_image::Image;
use ferry_types::{ContainerId, ContainerName};

use super::health;
use super::links;
use super::network_mode;
use super::network_mode::NetworkMode;
use super::owner;
use super::record::{ContainerRecord, FORMAT, Lifecycle};
use super::state::State;
use super::unsupported;
use crate::config::parse_port_proto;
use crate::error::{EngineError, Result};
use crate::events::EventKind;
use crate::inner::Inner;
use crate::logging;
use crate::names;
use crate::spec::{capabilities, devices, resources, security};
use crate::steps::Steps;
use crate::time::now_nanos;

/// Creates a container and starts its owner.
pub(crate) async fn create(
    inner: &Arc<Inner>,
    name: Option<&str>,
    platform: Option<&str>,
    request: ContainerCreateRequest,
) -> Result<ContainerCreateResponse> {
    let task_inner = Arc::clone(inner);
    let name = name.map(str::to_owned);
    let platform = platform.map(str::to_owned);
    let create = move || create_record(&task_inner, name.as_deref(), platform.as_deref(), request);
    let (record, warnings) = crate::blocking(create).await?;
    let id = record.id.clone();
    let state = State::Created { code: 0, error: String::new() };
    let handle = owner::spawn(Arc::clone(inner), record, state, None);
    inner.containers.insert(id.clone(), Arc::clone(&handle));
    inner.events.container(EventKind::Create, &handle.snapshot().record, &[]);
    Ok(ContainerCreateResponse { id: id.to_string(), warnings })
}

fn invalid(message: impl Into<String>) -> EngineError {
    EngineError::InvalidParameter(message.into())
}

fn create_record(
    inner: &Inner,
    name: Option<&str>,
    platform: Option<&str>,
    request: ContainerCreateRequest,
) -> Result<(ContainerRecord, Vec<String>)> {
    let mut warnings = Vec::new();
    let host_config = request.host_config.unwrap_or_default();
    let networking = request.networking_config.unwrap_or_default();
    let mut config = request.config;
    let name: Option<ContainerName> = name
        .filter(|n| !n.is_empty())
        .map(|n| n.parse().map_err(|e: ferry_types::NameError| invalid(e.to_string())))
        .transpose()?;
    unsupported::refuse(&host_config, &config.image, platform, &inner.live.settings())?;
    if config.image.is_empty() {
        return Err(invalid("no image specified"));
    }
    let image_id = inner.images.resolve(&config.image).map_err(|error| match &error {
        // What is no name of an image is the request's fault.
        e if ferry_types::Classify::kind(e) == ferry_types::ErrorKind::NotFound => {
            match config.image.parse::<ferry_types::ImageRef>() {
                Err(wrong) if !matches!(wrong, ferry_types::ImageRefError::LooksLikeId(_)) => {
                    invalid(wrong.to_string())
                }
                _ => EngineError::from(error),
            }
        }
        _ => EngineError::from(error),
    })?;
    let image = inner.images.get(&image_id)?;
    health::validate(&config).map_err(invalid)?;
    merge_image_config(&mut config, &image);
    let mut host_config = normalize_host_config(host_config, inner, &mut warnings)?;
    let mode = NetworkMode::parse(&host_config.network_mode);
    validate(inner, &mut config, &host_config, &mode, &mut warnings)?;
    if !config.mac_address.is_empty() {
        network_mode::parse_mac(&config.mac_address)
            .map_err(|e| invalid(format!("invalid config for network bridge: {e}")))?;
    }
    let find = |name: &str| crate::network::fixed_addresses(inner, name);
    let networks = network_mode::networks(&mode, &host_config, networking, find).map_err(invalid)?;
    let args: Vec<String> = config.entrypoint.iter().chain(config.cmd.iter()).cloned().collect();
    if args.is_empty() {
        return Err(invalid("no command specified"));
    }
    let links = links::of_request(inner, &host_config, &mut warnings)?;
    host_config.links = ferry_api::List::default();
    let mounts = super::mounts::wanted(inner, &config, &host_config)?;
    if host_config.mounts.iter().any(|m| m.kind == "image") {
        warnings.push("Image mount is an experimental feature".to_owned());
    }

    let id = ContainerId::random();
    if config.hostname.is_empty() {
        let shares_host = mode == NetworkMode::Host;
        config.hostname = if shares_host { inner.host.hostname.clone() } else { id.short().to_owned() };
    }
    let mut steps = Steps::default();
    let result = create_on_disk(
        inner,
        &mut steps,
        &id,
        name,
        config,
        host_config,
        networks,
        image_id,
        args,
        links,
        &mounts,
    );
    match result {
        Ok(record) => Ok((record, warnings)),
        Err(error) => {
            steps.roll_back();
            for volume in inner.volumes.made_for(id.as_str()) {
                if let Err(error) = inner.volumes.remove(&volume) {
                    tracing::warn!(volume, %error, "cannot remove the volume of a failed create");
                }
            }
            if let Some(taken) = error.1 {
                inner.containers.release_name(&taken, &id);
            }
            Err(error.0)
        }
    }
}

/// The steps of a create that leave traces. On failure names the name that was reserved.
#[allow(clippy::too_many_arguments)]
fn create_on_disk(
    inner: &Inner,
    steps: &mut Steps,
    id: &ContainerId,
    name: Option<ContainerName>,
    config: ContainerConfig,
    host_config: HostConfig,
    networks: BTreeMap<String, EndpointSettings>,
    image_id: ferry_types::Digest,
    args: Vec<String>,
    links: Vec<links::Link>,
    wanted: &super::mounts::Wanted,
) -> std::result::Result<ContainerRecord, (EngineError, Option<ContainerName>)> {
    let name = match name {
        Some(name) => inner.containers.reserve_name(&name, id).map(|()| name),
        None => generate_name(inner, id),
    }
    .map_err(|e| (e, None))?;
    let work = || -> Result<ContainerRecord> {
        let dir = inner.paths.container(id);
        let make = |path: &Path| {
            fs::create_dir(path).map_err(|source| EngineError::File {
                action: "create",
                path: path.to_owned(),
                source,
            })
        };
        make(dir.path())?;
        let undo = dir.path().to_owned();
        steps.done("container directory", move || fs::remove_dir_all(&undo).map_err(|e| e.to_string()));
        make(&dir.upper())?;
        make(&dir.work())?;
        let hostname = format!("{}\n", config.hostname);
        fs::write(dir.hostname(), hostname).map_err(|source| EngineError::File {
            action: "write",
            path: dir.hostname(),
            source,
        })?;
        let mounts = super::mounts::resolve(inner, id, &image_id, wanted)?;
        let record = ContainerRecord {
            format: FORMAT,
            id: id.clone(),
            name: name.clone(),
            created_at: now_nanos(),
            image_id,
            config,
            host_config,
            networks,
            args,
            mounts: mounts.points,
            mount_details: mounts.details,
            anonymous_volumes: mounts.anonymous,
            lifecycle: Lifecycle::Created { code: 0, error: String::new() },
            endpoints: BTreeMap::new(),
            restart_count: 0,
            stopped_by_user: false,
            health: None,
            links,
            link_env: Vec::new(),
        };
        record.save(&dir.record())?;
        Ok(record)
    };
    work().map_err(|e| (e, Some(name.clone())))
}

fn generate_name(inner: &Inner, id: &ContainerId) -> Result<ContainerName> {
    for attempt in 0..20 {
        let Ok(name) = names::generate(attempt).parse::<ContainerName>() else { continue };
        if inner.containers.reserve_name(&name, id).is_ok() {
            return Ok(name);
        }
    }
    let name: ContainerName =
        id.short().parse().map_err(|e: ferry_types::NameError| EngineError::System(e.to_string()))?;
    inner.containers.reserve_name(&name, id)?;
    Ok(name)
}

/// Fills what the request leaves open from the image, by Docker's rules.
fn merge_image_config(config: &mut ContainerConfig, image: &Image) {
    let base = &image.config.config;
    if config.user.is_empty() {
        config.user.clone_from(&base.user);
    }
    if config.working_dir.is_empty() {
        config.working_dir.clone_from(&base.working_dir);
    }
    if config.stop_signal.is_empty() {
        config.stop_signal.clone_from(&base.stop_signal);
    }
    if config.stop_timeout.is_none() {
        config.stop_timeout = base.stop_timeout;
    }
    if config.entrypoint.is_empty() {
        // An entrypoint in the request drops the image's command; [""] drops both.
        if config.cmd.is_empty() {
            config.cmd = base.cmd.clone().map(Into::into).unwrap_or_default();
        }
        if config.entrypoint.is_null() {
            config.entrypoint = base.entrypoint.clone().map(Into::into).unwrap_or_default();
        }
    } else if config.entrypoint.len() == 1 && config.entrypoint[0].is_empty() {
        config.entrypoint = ferry_api::List::default();
    }
    let name_of = |variable: &str| variable.split('=').next().unwrap_or_default().to_owned();
    let own: Vec<String> = config.env.iter().map(|v| name_of(v)).collect();
    let inherited = base.env.iter().filter(|v| !own.contains(&name_of(v)));
    let merged: Vec<String> = inherited.cloned().collect();
    // Docker lists the request's variables first and the image's after them.
    config.env.get_mut().extend(merged);
    for (key, value) in &base.labels {
        config.labels.get_mut().entry(key.clone()).or_insert_with(|| value.clone());
    }
    if config.labels.is_null() {
        config.labels = ferry_api::Map::empty();
    }
    for port in base.exposed_ports.keys() {
        config.exposed_ports.get_mut().entry(port.clone()).or_insert(Empty {});
    }
    for volume in base.volumes.keys() {
        config.volumes.get_mut().entry(volume.clone()).or_insert(Empty {});
    }
    if config.volumes.is_empty() {
        // None are `null` on the wire, however the client wrote it.
        config.volumes = ferry_api::Map::default();
    }
    if config.on_build.is_empty() && !base.on_build.is_empty() {
        config.on_build = base.on_build.clone().into();
    }
    if config.shell.is_empty() && !base.shell.is_empty() {
        config.shell = base.shell.clone().into();
    }
    health::inherit(&mut config.healthcheck, base.healthcheck.as_ref());
}

/// Fills defaults as `inspect` shows them.
fn normalize_host_config(mut h: HostConfig, inner: &Inner, warnings: &mut Vec<String>) -> Result<HostConfig> {
    let live = inner.live.settings();
    if matches!(h.network_mode.as_str(), "" | "default") {
        h.network_mode = "bridge".to_owned();
    }
    if let Some(target) = h.network_mode.strip_prefix("container:") {
        if target.is_empty() {
            return Err(invalid("invalid network mode: invalid container format container:<name|id>"));
        }
        // The id is kept, so that renaming the other container changes nothing.
        let handle = inner.containers.find(target).map_err(|e| match e {
            // Not 404: clients take that for a missing image and would pull.
            EngineError::NoSuchContainer(_) => {
                EngineError::System(format!("joining network namespace of container: {e}"))
            }
            other => other,
        })?;
        h.network_mode = format!("container:{}", handle.snapshot().record.id);
    }
    for mode in [&mut h.pid_mode, &mut h.ipc_mode] {
        if let Some(target) = mode.strip_prefix("container:").filter(|target| !target.is_empty()) {
            let handle = inner.containers.find(target).map_err(|e| invalid(e.to_string()))?;
            *mode = format!("container:{}", handle.snapshot().record.id);
        }
    }
    if h.restart_policy.name.is_empty() {
        h.restart_policy.name = "no".to_owned();
    }
    if h.shm_size == 0 {
        h.shm_size = live.default_shm_size;
    }
    if h.shm_size < 0 {
        return Err(invalid("SHM size can not be less than 0"));
    }
    if h.ipc_mode.is_empty() {
        h.ipc_mode.clone_from(&live.default_ipc_mode);
    }
    if h.cgroupns_mode.is_empty() {
        let v2 = inner.host.cgroup_v2;
        let usual = if v2 { "private" } else { "host" };
        h.cgroupns_mode = match &live.default_cgroupns_mode {
            // As Docker, with version 1: a privileged container sees the host's groups whatever the default is.
            Some(default) if v2 || !h.privileged => default.clone(),
            _ => usual.to_owned(),
        };
    }
    if h.runtime.is_empty() {
        h.runtime.clone_from(&live.default_runtime);
    }
    logging::inherit(&mut h.log_config, &inner.config.log_driver, &inner.config.log_opts);
    if h.log_config.config.is_null() {
        h.log_config.config = ferry_api::Map::empty();
    }
    if h.resources.memory > 0 && !inner.host.swap_limit {
        h.resources.memory_swap = -1;
        warnings.push("Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.".to_owned());
    }
    if h.resources.memory_swap == 0 && h.resources.memory > 0 {
        h.resources.memory_swap = h.resources.memory.saturating_mul(2);
    }
    if !inner.host.cgroup_v2 && h.resources.oom_kill_disable == Some(true) && h.resources.memory == 0 {
        warnings.push("OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.".to_owned());
    }
    if inner.host.cgroup_v2 && h.resources.oom_kill_disable == Some(true) {
        h.resources.oom_kill_disable = None;
        warnings.push("Your kernel does not support OomKillDisable. OomKillDisable discarded.".to_owned());
    }
    if inner.host.cgroup_v2 && h.resources.memory_swappiness.is_some_and(|s| s >= 0) {
        h.resources.memory_swappiness = None;
        warnings.push("Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.".to_owned());
    }
    if h.resources.memory_swappiness == Some(-1) {
        h.resources.memory_swappiness = None;
    }
    if h.resources.kernel_memory > 0 {
        h.resources.kernel_memory = 0;
        warnings.push("Specifying a kernel memory limit is deprecated and has no effect.".to_owned());
    }
    Ok(h)
}

fn validate(
    inner: &Inner,
    config: &mut ContainerConfig,
    h: &HostConfig,
    mode: &NetworkMode,
    warnings: &mut Vec<String>,
) -> Result<()> {
    let policy =
        super::restart::RestartPolicy::parse(&h.restart_policy.name, h.restart_policy.maximum_retry_count)
            .map_err(invalid)?;
    if h.auto_remove && policy != super::restart::RestartPolicy::No {
        return Err(invalid("can't create 'AutoRemove' container with restart policy"));
    }
    if h.auto_remove && health::Check::of(config).is_some_and(|c| c.action == health::Action::Restart) {
        let label = health::ACTION_LABEL;
        return Err(invalid(format!("can't create 'AutoRemove' container with label {label}=restart")));
    }
    resources::validate(&h.resources, inner.host.cpus).map_err(invalid)?;
    if h.annotations.keys().any(String::is_empty) {
        return Err(invalid("invalid Annotations: the empty string is not permitted as an annotation key"));
    }
    capabilities::resolve(&h.cap_add, &h.cap_drop, h.privileged, inner.host.bounding_set).map_err(invalid)?;
    devices::resolve(&[], &h.resources.device_cgroup_rules, h.privileged).map_err(invalid)?;
    security::parse(&h.security_opt).map_err(invalid)?;
    let log_options = h.log_config.config.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    logging::validate(&h.log_config.kind, &log_options).map_err(invalid)?;
    network_mode::validate(mode, config, h, warnings).map_err(invalid)?;
    if !(-1000..=1000).contains(&h.oom_score_adj) {
        let n = h.oom_score_adj;
        return Err(invalid(format!("Invalid value {n}, range for oom score adj is [-1000, 1000]")));
    }
    if !config.stop_signal.is_empty() {
        crate::signal::parse(&config.stop_signal).map_err(invalid)?;
    }
    if !config.working_dir.is_empty() && !config.working_dir.starts_with('/') {
        return Err(invalid(format!(
            "the working directory '{}' is invalid, it needs to be an absolute path",
            config.working_dir
        )));
    }
    if !config.working_dir.is_empty() {
        config.working_dir = super::mount_spec::clean(&config.working_dir);
    }
    for variable in &config.env {
        if variable.is_empty() || variable.starts_with('=') {
            return Err(invalid(format!("invalid environment variable: {variable}")));
        }
    }
    for port in config.exposed_ports.keys().chain(h.port_bindings.keys()) {
        if parse_port_proto(port).is_none() {
            return Err(invalid(format!("invalid port specification: \"{port}\"")));
        }
    }
    for port in h.port_bindings.keys() {
        // A published port counts as exposed.
        if *mode == NetworkMode::Bridge {
            config.exposed_ports.get_mut().entry(port.clone()).or_insert(Empty {});
        }
    }
    for host in &h.extra_hosts {
        super::extra_hosts::parse(host).map_err(invalid)?;
    }
    for name in h.sysctls.keys() {
        let shared = (name.starts_with("net.") && *mode == NetworkMode::Host)
            || (name.starts_with("fs.mqueue.") && h.ipc_mode == "host");
        let namespaced = name.starts_with("net.")
            || name.starts_with("fs.mqueue.")
            || [
                "kernel.msgmax",
                "kernel.msgmnb",
                "kernel.msgmni",
                "kernel.sem",
                "kernel.shmall",
                "kernel.shmmax",
                "kernel.shmmni",
                "kernel.shm_rmid_forced",
            ]
            .contains(&name.as_str());
        if !namespaced || shared {
            return Err(invalid(format!("sysctl '{name}' is not allowed in this container's namespaces")));
        }
    }
    Ok(())
}
