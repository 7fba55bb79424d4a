//! From a snapshot to what `inspect` and `ps` show. Pure; wording and shapes are Docker's.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ferry_api::container::{
    ContainerInspect, ContainerState, ContainerSummary, GraphDriver, HealthSummary, HostConfig, Port,
    SummaryHostConfig, SummaryNetworkSettings,
};
use ferry_api::{EndpointSettings, List, Map, NetworkSettings, PortBinding, PortMap, Time};
use ferry_network::EndpointRecord;

use super::health::{Health, Status};
use super::links;
use super::record::ContainerRecord;
use super::state::{Snapshot, State};
use crate::config::parse_port_proto;
use crate::inner::Inner;

fn time(nanos: i64) -> Time {
    if nanos == 0 { Time::default() } else { Time::from_unix_nanos(i128::from(nanos)) }
}

/// `GET /containers/{id}/json`, less sizes.
pub(crate) fn inspect(inner: &Inner, snapshot: &Snapshot) -> ContainerInspect {
    let record = &snapshot.record;
    let dir = inner.paths.container(&record.id);
    let path = |p: std::path::PathBuf| p.to_string_lossy().into_owned();
    let never_ran = matches!(snapshot.state, State::Created { .. });
    let log_path = if record.host_config.log_config.kind != "json-file" || never_ran {
        String::new()
    } else {
        path(dir.log())
    };
    let mut data = BTreeMap::from([
        ("ID".to_owned(), record.id.to_string()),
        ("UpperDir".to_owned(), path(dir.upper())),
        ("WorkDir".to_owned(), path(dir.work())),
        ("MergedDir".to_owned(), path(inner.paths.bundle(&record.id).rootfs())),
    ]);
    if let Ok(layers) = inner.images.layer_dirs(&record.image_id) {
        let joined: Vec<String> = layers.into_iter().map(path).collect();
        data.insert("LowerDir".to_owned(), joined.join(":"));
    }
    let execs = inner.execs.running_in(&record.id);
    ContainerInspect {
        id: record.id.to_string(),
        created: time(record.created_at),
        path: record.args.first().cloned().unwrap_or_default(),
        args: record.args.get(1..).unwrap_or_default().to_vec(),
        state: state(inner, snapshot),
        image: record.image_id.to_string(),
        resolv_conf_path: if never_ran { String::new() } else { path(dir.resolv_conf()) },
        hostname_path: if never_ran { String::new() } else { path(dir.hostname()) },
        hosts_path: if never_ran { String::new() } else { path(dir.hosts()) },
        log_path,
        name: format!("/{}", record.name),
        restart_count: i64::from(record.restart_count),
        driver: "overlay2".to_owned(),
        platform: "linux".to_owned(),
        exec_ids: if execs.is_empty() { List::default() } else { execs.into() },
        host_config: host_config(inner, record),
        graph_driver: Some(GraphDriver { id: String::new(), data: data.into(), name: "overlay2".to_owned() }),
        mounts: record.mounts.clone(),
        config: config(record),
        network_settings: network_settings(inner, snapshot),
        ..ContainerInspect::default()
    }
}

/// The container's config, with the address asked for on its own network, which is an old member's place for it.
fn config(record: &ContainerRecord) -> ferry_api::container::ContainerConfig {
    let mut config = record.config.clone();
    if config.mac_address.is_empty()
        && let Some(own) = record.networks.get(&record.host_config.network_mode)
    {
        config.mac_address.clone_from(&own.mac_address);
    }
    config
}

fn host_config(inner: &Inner, record: &ContainerRecord) -> HostConfig {
    let mut host_config = record.host_config.clone();
    if !record.links.is_empty() {
        host_config.links = links::shown(inner, record).into();
    }
    // What is in force is shown, not only what was asked for.
    if !host_config.privileged {
        let shown = |list: &List<String>, own: &[&str]| {
            let own: Vec<String> = own.iter().map(|p| (*p).to_owned()).collect();
            if list.is_null() { own.into() } else { list.clone() }
        };
        host_config.masked_paths = shown(&host_config.masked_paths, &crate::spec::MASKED_PATHS);
        host_config.readonly_paths = shown(&host_config.readonly_paths, &crate::spec::READONLY_PATHS);
    }
    let unconfined =
        host_config.privileged || host_config.pid_mode == "host" || host_config.ipc_mode == "host";
    if unconfined && host_config.security_opt.is_empty() {
        host_config.security_opt = vec!["label=disable".to_owned()].into();
    }
    host_config
}

fn state(inner: &Inner, snapshot: &Snapshot) -> ContainerState {
    let state = &snapshot.state;
    let exit = state.last_exit();
    let live = state.live();
    let error = match state {
        State::Created { error, .. } => error.clone(),
        other => other.last_exit().map(|e| e.error.clone()).unwrap_or_default(),
    };
    ContainerState {
        status: state.status().to_owned(),
        running: state.is_active(),
        paused: matches!(state, State::Paused(_)),
        restarting: matches!(state, State::Restarting(_) | State::Starting { by_policy: true, .. }),
        oom_killed: exit.is_some_and(|e| e.oom_killed),
        dead: false,
        pid: live.map_or(0, |l| l.pid),
        exit_code: state.exit_code(),
        error,
        started_at: time(live.map_or_else(|| exit.map_or(0, |e| e.started_at), |l| l.started_at)),
        finished_at: time(exit.map_or(0, |e| e.finished_at)),
        health: snapshot.health.as_ref().map(|h| h.to_wire()),
        log_entries_lost: inner.log_losses.get(&snapshot.record.id),
    }
}

/// The container's networks as asked for and, while it runs, as they are.
fn networks(inner: &Inner, snapshot: &Snapshot) -> BTreeMap<String, EndpointSettings> {
    let record = &snapshot.record;
    let runs = snapshot.state.live().is_some();
    let never_ran = matches!(snapshot.state, State::Created { .. });
    let show = |(name, asked): (&String, &EndpointSettings)| {
        let endpoint = record.endpoints.get(name).filter(|_| runs);
        let mut settings = endpoint_settings(inner, record, name, asked, endpoint, never_ran);
        if runs && matches!(name.as_str(), "host" | "none") {
            settings.endpoint_id = crate::network::shared_endpoint_id(&record.id, name);
        }
        (name.clone(), settings)
    };
    record.networks.iter().map(show).collect()
}

fn endpoint_settings(
    inner: &Inner,
    record: &ContainerRecord,
    name: &str,
    asked: &EndpointSettings,
    endpoint: Option<&EndpointRecord>,
    never_ran: bool,
) -> EndpointSettings {
    let mut settings = EndpointSettings {
        ipam_config: asked.ipam_config.clone(),
        links: asked.links.clone(),
        aliases: asked.aliases.clone(),
        driver_opts: asked.driver_opts.clone(),
        gw_priority: asked.gw_priority,
        mac_address: asked.mac_address.clone(),
        // Before its first start a container is in no network yet.
        network_id: if never_ran { String::new() } else { crate::network::id_of(inner, name) },
        ..EndpointSettings::default()
    };
    if let Some(endpoint) = endpoint {
        settings.endpoint_id = endpoint.endpoint.to_string();
        let text = |address: Option<IpAddr>| address.map(|a| a.to_string()).unwrap_or_default();
        settings.gateway = text(endpoint.gateway.map(IpAddr::V4));
        settings.ip_address = text(endpoint.ipv4.map(IpAddr::V4));
        settings.ip_prefix_len = endpoint.prefix;
        settings.ipv6_gateway = text(endpoint.gateway6.map(IpAddr::V6));
        settings.global_ipv6_address = text(endpoint.ipv6.map(IpAddr::V6));
        settings.global_ipv6_prefix_len = endpoint.prefix6;
        settings.mac_address = endpoint.mac_string();
    }
    // What is on a network, or was or will be at the next start, has names there.
    if !matches!(name, crate::network::endpoints::BRIDGE | "host" | "none")
        && (endpoint.is_some() || !never_ran || !asked.dns_names.is_empty())
    {
        settings.dns_names = crate::network::endpoints::dns_names(record, asked).into();
    }
    settings
}

/// Whether the container is on a network of which ports are published, and exposed ones shown.
fn publishes(record: &ContainerRecord) -> bool {
    record.endpoints.values().any(EndpointRecord::is_on_bridge)
}

/// Published ports by container port, exposed ones with null.
fn ports(record: &ContainerRecord) -> PortMap {
    let mut map: BTreeMap<String, List<PortBinding>> = BTreeMap::new();
    for port in record.config.exposed_ports.keys() {
        let key = if port.contains('/') { port.clone() } else { format!("{port}/tcp") };
        map.insert(key, List::default());
    }
    let mut published: Vec<_> = record.published().collect();
    published.sort_by_key(|p| p.host_port == 0);
    for p in published {
        // A port that is open but has none on the host, where packets are routed.
        let host_port = if p.host_port == 0 { String::new() } else { p.host_port.to_string() };
        let binding = PortBinding { host_ip: p.host_ip.to_string(), host_port };
        map.entry(format!("{}/{}", p.container_port, p.protocol)).or_default().get_mut().push(binding);
    }
    map.into()
}

fn network_settings(inner: &Inner, snapshot: &Snapshot) -> NetworkSettings {
    let record = &snapshot.record;
    let live = snapshot.state.live();
    let first = record.endpoints.values().next().filter(|_| live.is_some());
    NetworkSettings {
        sandbox_id: first.map(|e| e.endpoint.to_string()).unwrap_or_default(),
        // A path that really names the namespace, for nsenter(1) and the like.
        sandbox_key: live.map(|l| format!("/proc/{}/ns/net", l.pid)).unwrap_or_default(),
        ports: if first.is_some() && publishes(record) { ports(record) } else { Map::empty() },
        networks: networks(inner, snapshot).into(),
        ..NetworkSettings::default()
    }
}

/// One line of `ps`, less sizes. `now` in nanoseconds since the epoch.
pub(crate) fn summary(inner: &Inner, snapshot: &Snapshot, now: i64) -> ContainerSummary {
    let record = &snapshot.record;
    ContainerSummary {
        id: record.id.to_string(),
        names: std::iter::once(format!("/{}", record.name))
            .chain(links::names_elsewhere(inner, &record.id))
            .collect(),
        image: image_name(inner, record),
        image_id: record.image_id.to_string(),
        command: command(&record.args),
        created: record.created_at / 1_000_000_000,
        ports: summary_ports(snapshot),
        labels: record.config.labels.clone().or_empty(),
        state: snapshot.state.status().to_owned(),
        status: status(&snapshot.state, snapshot.health.as_deref(), now),
        health: Some(health_summary(snapshot)),
        host_config: SummaryHostConfig {
            network_mode: record.host_config.network_mode.clone(),
            annotations: record.host_config.annotations.clone(),
        },
        network_settings: SummaryNetworkSettings { networks: networks(inner, snapshot).into() },
        mounts: record.mounts.clone(),
        ..ContainerSummary::default()
    }
}

/// The image as the user named it; its id when that name means another image by now.
fn image_name(inner: &Inner, record: &ContainerRecord) -> String {
    match inner.images.resolve(&record.config.image) {
        Ok(id) if id == record.image_id => record.config.image.clone(),
        _ => record.image_id.to_string(),
    }
}

/// Program and arguments in one string, arguments with blanks quoted as Docker does.
fn command(args: &[String]) -> String {
    let quote = |a: &String| if a.contains(' ') { format!("'{a}'") } else { a.clone() };
    let mut words = args.iter();
    let program = words.next().cloned().unwrap_or_default();
    std::iter::once(program).chain(words.map(quote)).collect::<Vec<_>>().join(" ")
}

fn summary_ports(snapshot: &Snapshot) -> Vec<Port> {
    let record = &snapshot.record;
    if snapshot.state.live().is_none() || !publishes(record) {
        return Vec::new();
    }
    let mut all: Vec<Port> = record
        .published()
        .map(|p| Port {
            ip: p.host_ip.to_string(),
            private_port: p.container_port,
            public_port: p.host_port,
            kind: p.protocol.to_string(),
        })
        .collect();
    for exposed in record.config.exposed_ports.keys() {
        if let Some((port, protocol)) = parse_port_proto(exposed)
            && !record.published().any(|p| p.container_port == port && p.protocol == protocol)
        {
            all.push(Port {
                ip: String::new(),
                private_port: port,
                public_port: 0,
                kind: protocol.to_string(),
            });
        }
    }
    // IPv4 before IPv6, as Docker lists them.
    all.sort_by_key(|p| {
        (p.private_port, p.kind.clone(), p.public_port, p.ip.parse::<IpAddr>().is_ok_and(|i| i.is_ipv6()))
    });
    all
}

/// `none` for a container without a check, running or not.
pub(crate) fn health_status(snapshot: &Snapshot) -> &'static str {
    snapshot.health.as_ref().map_or("none", |h| h.status.as_str())
}

fn health_summary(snapshot: &Snapshot) -> HealthSummary {
    let failing_streak = snapshot.health.as_ref().map_or(0, |h| i64::from(h.failing_streak));
    HealthSummary { status: health_status(snapshot).to_owned(), failing_streak }
}

/// `Up 4 hours`, `Exited (137) 2 hours ago`.
fn status(state: &State, health: Option<&Health>, now: i64) -> String {
    match state {
        State::Created { .. } | State::Starting { last: None, .. } => "Created".to_owned(),
        State::Running(live) => {
            let health = match health.map(|h| h.status) {
                None => "",
                Some(Status::Starting) => " (health: starting)",
                Some(Status::Healthy) => " (healthy)",
                Some(Status::Unhealthy) => " (unhealthy)",
            };
            format!("Up {}{health}", human_duration(now - live.started_at))
        }
        State::Paused(live) => format!("Up {} (Paused)", human_duration(now - live.started_at)),
        State::Restarting(exit) | State::Starting { last: Some(exit), by_policy: true } => {
            format!("Restarting ({}) {} ago", exit.code, human_duration(now - exit.finished_at))
        }
        State::Starting { last: Some(exit), by_policy: false } | State::Exited(exit) => {
            format!("Exited ({}) {} ago", exit.code, human_duration(now - exit.finished_at))
        }
        State::Removing(_) | State::Removed(_) => "Removal In Progress".to_owned(),
    }
}

/// A span of time in one unit, by the rules of docker's `units.HumanDuration`.
pub(crate) fn human_duration(nanos: i64) -> String {
    let seconds = nanos.max(0) / 1_000_000_000;
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match (seconds, minutes, hours) {
        (0, ..) => "Less than a second".to_owned(),
        (1, ..) => "1 second".to_owned(),
        (s, ..) if s < 60 => format!("{s} seconds"),
        (_, 1, _) => "About a minute".to_owned(),
        (_, m, _) if m < 60 => format!("{m} minutes"),
        (.., 1) => "About an hour".to_owned(),
        (.., h) if h < 48 => format!("{h} hours"),
        (.., h) if h < 24 * 7 * 2 => format!("{} days", h / 24),
        (.., h) if h < 24 * 30 * 2 => format!("{} weeks", h / 24 / 7),
        (.., h) if h < 24 * 365 * 2 => format!("{} months", h / 24 / 30),
        (.., h) => format!("{} years", h / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_dockers() {
        let text = |seconds: i64| human_duration(seconds * 1_000_000_000);
        assert_eq!(text(0), "Less than a second");
        assert_eq!(text(59), "59 seconds");
        assert_eq!(text(60), "About a minute");
        assert_eq!(text(150), "2 minutes");
        assert_eq!(text(3600), "About an hour");
        assert_eq!(text(3600 * 4), "4 hours");
        assert_eq!(text(3600 * 24 * 3), "3 days");
        assert_eq!(text(3600 * 24 * 20), "2 weeks");
        assert_eq!(text(3600 * 24 * 100), "3 months");
        assert_eq!(text(3600 * 24 * 365 * 3), "3 years");
    }

    #[test]
    fn commands_quote_blanks() {
        let args = ["sh".to_owned(), "-c".to_owned(), "sleep 1".to_owned()];
        assert_eq!(command(&args), "sh -c 'sleep 1'");
    }
}
