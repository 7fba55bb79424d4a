//! From flags to the body of `POST /containers/create`.

use serde_json::{Map, Value, json};

use super::network::Attachment;
use super::process::ContainerFlags;
use super::{device, env, mount, network, ports, security, values};

/// Streams of the container the client connects to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Streams {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

/// A request to create a container, and what the client itself needs to know of it.
#[derive(Debug)]
pub struct Creation {
    pub body: Value,
    pub streams: Streams,
    pub tty: bool,
}

/// An object under construction: fields left at their default are not sent.
struct Object(Map<String, Value>);

impl Object {
    fn set(&mut self, key: &str, value: impl Into<Value>) {
        let value = value.into();
        let empty = match &value {
            Value::Null => true,
            Value::Bool(b) => !b,
            Value::String(s) => s.is_empty(),
            Value::Array(a) => a.is_empty(),
            Value::Object(o) => o.is_empty(),
            Value::Number(_) => false,
        };
        if !empty {
            self.0.insert(key.to_owned(), value);
        }
    }

    fn set_opt<T: Into<Value>>(&mut self, key: &str, value: Option<T>) {
        if let Some(value) = value {
            self.set(key, value);
        }
    }
}

/// Builds the request; `proxies` are variables the configuration adds.
///
/// # Errors
/// Docker's text for flags that are malformed or exclude each other.
pub fn build(flags: &ContainerFlags, proxies: Vec<String>) -> Result<Creation, String> {
    refuse_unsupported(flags)?;
    let has = |name: &str| flags.attach.iter().any(|a| a == name);
    let streams = Streams {
        stdin: flags.interactive || has("stdin"),
        stdout: flags.attach.is_empty() || has("stdout"),
        stderr: flags.attach.is_empty() || has("stderr"),
    };
    let (host, exposed, anonymous) = host_config(flags)?;
    let mut config = Object(Map::new());
    config.set_opt("Hostname", flags.hostname.as_deref());
    config.set_opt("Domainname", flags.domainname.as_deref());
    config.set("ExposedPorts", exposed);
    config.set_opt("User", flags.user.as_deref());
    config.set("Tty", flags.tty);
    config.set("OpenStdin", flags.interactive);
    config.set("StdinOnce", streams.stdin && flags.interactive);
    config.set("AttachStdin", streams.stdin);
    config.set("AttachStdout", streams.stdout);
    config.set("AttachStderr", streams.stderr);
    let mut variables = env::variables(&flags.env_file, &flags.env)?;
    variables.extend(proxies);
    config.set("Env", variables);
    config.set("Cmd", flags.args.get(1..).unwrap_or_default().to_vec());
    config.set("Image", flags.args.first().map(String::as_str).unwrap_or_default());
    config.set("Volumes", anonymous);
    if let Some(entrypoint) = &flags.entrypoint {
        // An empty one resets the image's: it is sent as a list with one empty string.
        config.set("Entrypoint", vec![entrypoint.clone()]);
    }
    config.set_opt("WorkingDir", flags.workdir.as_deref());
    config.set("Labels", env::labels(&flags.label_file, &flags.label)?);
    config.set_opt("StopSignal", flags.stop_signal.as_deref());
    config.set_opt("StopTimeout", flags.stop_timeout);
    config.set("Healthcheck", health(flags)?);
    config.set("HostConfig", host);
    let endpoints = endpoints(flags)?;
    config.set(
        "NetworkingConfig",
        if endpoints.is_empty() { Value::Null } else { json!({"EndpointsConfig": endpoints}) },
    );
    Ok(Creation { body: Value::Object(config.0), streams, tty: flags.tty })
}

fn refuse_unsupported(flags: &ContainerFlags) -> Result<(), String> {
    if flags.use_api_socket {
        return Err("--use-api-socket is not supported".to_owned());
    }
    Ok(())
}

/// A JSON object's fields.
type Fields = Map<String, Value>;
type HostParts = (Fields, Fields, Fields);

/// `HostConfig`, with the exposed ports and anonymous volumes that belong into the configuration.
fn host_config(flags: &ContainerFlags) -> Result<HostParts, String> {
    if let Some(swappiness) = flags.memory_swappiness
        && swappiness != -1
        && !(0..=100).contains(&swappiness)
    {
        return Err(format!("invalid value: {swappiness}. Valid memory swappiness range is 0-100"));
    }
    let mut host = Object(Map::new());
    let (binds, anonymous) = mount::volumes(&flags.volume)?;
    host.set("Binds", binds);
    host.set_opt("ContainerIDFile", flags.cidfile.as_deref());
    host.set("LogConfig", log_config(flags)?);
    host.set("NetworkMode", network_mode(flags));
    let (bindings, exposed) = published(flags)?;
    host.set("PortBindings", bindings);
    if let Some(policy) = &flags.restart {
        let policy = values::restart(policy)?;
        if flags.rm && policy["Name"] != "no" && policy["Name"] != "" {
            return Err("conflicting options: cannot specify both --restart and --rm".to_owned());
        }
        host.set("RestartPolicy", policy);
    }
    host.set("AutoRemove", flags.rm);
    host.set_opt("VolumeDriver", flags.volume_driver.as_deref());
    host.set("VolumesFrom", flags.volumes_from.clone());
    host.set("Annotations", mount::pairs(&flags.annotation, "invalid annotation {}: must be key=value")?);
    host.set("CapAdd", values::capabilities(&flags.cap_add));
    host.set("CapDrop", values::capabilities(&flags.cap_drop));
    host.set("Dns", flags.dns.clone());
    host.set("DnsOptions", flags.dns_option.clone());
    host.set("DnsSearch", flags.dns_search.clone());
    host.set("ExtraHosts", flags.add_host.clone());
    host.set("GroupAdd", flags.group_add.clone());
    host.set("Links", flags.link.clone());
    namespaces(flags, &mut host)?;
    host.set("Privileged", flags.privileged);
    host.set("PublishAllPorts", flags.publish_all);
    host.set("ReadonlyRootfs", flags.read_only);
    let security = security::parse(&flags.security_opt)?;
    host.set("SecurityOpt", security.opts);
    if security.system_paths {
        // Empty lists are the request itself here, so they must not be left out.
        host.0.insert("MaskedPaths".to_owned(), json!([]));
        host.0.insert("ReadonlyPaths".to_owned(), json!([]));
    }
    host.set("StorageOpt", mount::pairs(&flags.storage_opt, "invalid storage option")?);
    host.set("Sysctls", mount::pairs(&flags.sysctl, "invalid argument {} for sysctl")?);
    host.set("Tmpfs", mount::tmpfs(&flags.tmpfs));
    host.set("Mounts", flags.mount.clone());
    host.set_opt("ShmSize", flags.shm_size);
    host.set_opt("Runtime", flags.runtime.as_deref());
    host.set_opt("Isolation", flags.isolation.as_deref());
    host.set("Init", flags.init);
    host.set_opt("OomScoreAdj", flags.oom_score_adj);
    resources(flags, &mut host)?;
    // What Docker's client always sends, and `inspect` therefore shows.
    for key in SENT_LISTS {
        host.0.entry(key).or_insert_with(|| json!([]));
    }
    host.0.entry("PortBindings").or_insert_with(|| json!({}));
    host.0.entry("OomKillDisable").or_insert(Value::Bool(false));
    Ok((host.0, exposed, anonymous))
}

/// Lists that are sent empty.
const SENT_LISTS: [&str; 10] = [
    "Dns",
    "DnsOptions",
    "DnsSearch",
    "BlkioWeightDevice",
    "BlkioDeviceReadBps",
    "BlkioDeviceWriteBps",
    "BlkioDeviceReadIOps",
    "BlkioDeviceWriteIOps",
    "Devices",
    "Ulimits",
];

fn resources(flags: &ContainerFlags, host: &mut Object) -> Result<(), String> {
    host.set_opt("CpuShares", flags.cpu_shares);
    host.set_opt("Memory", flags.memory);
    host.set_opt("MemoryReservation", flags.memory_reservation);
    host.set_opt("MemorySwap", flags.memory_swap);
    host.set_opt("MemorySwappiness", flags.memory_swappiness.filter(|s| *s != -1));
    host.set_opt("KernelMemory", flags.kernel_memory);
    host.set_opt("NanoCpus", flags.cpus);
    host.set_opt("CgroupParent", flags.cgroup_parent.as_deref());
    host.set_opt("BlkioWeight", flags.blkio_weight);
    host.set("BlkioWeightDevice", flags.blkio_weight_device.clone());
    host.set("BlkioDeviceReadBps", flags.device_read_bps.clone());
    host.set("BlkioDeviceWriteBps", flags.device_write_bps.clone());
    host.set("BlkioDeviceReadIOps", flags.device_read_iops.clone());
    host.set("BlkioDeviceWriteIOps", flags.device_write_iops.clone());
    host.set_opt("CpuPeriod", flags.cpu_period);
    host.set_opt("CpuQuota", flags.cpu_quota);
    host.set_opt("CpuRealtimePeriod", flags.cpu_rt_period);
    host.set_opt("CpuRealtimeRuntime", flags.cpu_rt_runtime);
    host.set_opt("CpusetCpus", flags.cpuset_cpus.as_deref());
    host.set_opt("CpusetMems", flags.cpuset_mems.as_deref());
    let (mut nodes, mut cdi) = (Vec::new(), Vec::new());
    for value in &flags.device {
        match device::parse(value)? {
            device::Device::Node(node) => nodes.push(node),
            device::Device::Cdi(name) => cdi.push(name),
        }
    }
    host.set("Devices", nodes);
    let mut requests = Vec::new();
    if let Some(gpus) = &flags.gpus {
        requests.push(device::gpus(gpus)?);
    }
    if !cdi.is_empty() {
        requests.push(json!({"Driver": "cdi", "DeviceIDs": cdi}));
    }
    host.set("DeviceRequests", requests);
    host.set("DeviceCgroupRules", flags.device_cgroup_rule.clone());
    host.set("OomKillDisable", flags.oom_kill_disable);
    host.set_opt("PidsLimit", flags.pids_limit);
    let mut ulimits = flags.ulimit.clone();
    ulimits.sort_by(|a, b| a["Name"].as_str().cmp(&b["Name"].as_str()));
    host.set("Ulimits", ulimits);
    Ok(())
}

fn namespaces(flags: &ContainerFlags, host: &mut Object) -> Result<(), String> {
    let container = |mode: &str| mode.strip_prefix("container:").is_some_and(|c| !c.is_empty());
    let check = |value: &Option<String>, good: &dyn Fn(&str) -> bool, complaint: &str| match value {
        Some(mode) if !mode.is_empty() && !good(mode) => Err(complaint.to_owned()),
        _ => Ok(value.clone()),
    };
    host.set_opt("IpcMode", flags.ipc.clone());
    host.set_opt("PidMode", check(&flags.pid, &|m| m == "host" || container(m), "--pid: invalid PID mode")?);
    host.set_opt("UTSMode", check(&flags.uts, &|m| m == "host", "--uts: invalid UTS mode")?);
    host.set_opt("UsernsMode", check(&flags.userns, &|m| m == "host", "--userns: invalid USER mode")?);
    host.set_opt(
        "CgroupnsMode",
        check(&flags.cgroupns, &|m| m == "host" || m == "private", "--cgroupns: invalid CGROUP mode")?,
    );
    Ok(())
}

fn log_config(flags: &ContainerFlags) -> Result<Value, String> {
    if flags.log_driver.as_deref() == Some("none") && !flags.log_opt.is_empty() {
        return Err("invalid logging opts for driver none".to_owned());
    }
    if flags.log_driver.is_none() && flags.log_opt.is_empty() {
        return Ok(Value::Null);
    }
    // An option without `=` has an empty value.
    let options: Map<String, Value> = flags
        .log_opt
        .iter()
        .map(|o| o.split_once('=').unwrap_or((o, "")))
        .map(|(k, v)| (k.to_owned(), v.into()))
        .collect();
    Ok(json!({"Type": flags.log_driver.clone().unwrap_or_default(), "Config": options}))
}

fn published(flags: &ContainerFlags) -> Result<(Fields, Fields), String> {
    let mut bindings = ports::Bindings::new();
    for spec in &flags.publish {
        ports::publish(spec, &mut bindings)?;
    }
    let mut exposed: Map<String, Value> = bindings.keys().map(|p| (p.clone(), json!({}))).collect();
    for spec in &flags.expose {
        exposed.extend(ports::expose(spec)?.into_iter().map(|p| (p, json!({}))));
    }
    let wire = |list: &Vec<ports::Binding>| -> Value {
        list.iter().map(|b| json!({"HostIp": b.host_ip, "HostPort": b.host_port})).collect()
    };
    Ok((bindings.iter().map(|(port, list)| (port.clone(), wire(list))).collect(), exposed))
}

fn health(flags: &ContainerFlags) -> Result<Value, String> {
    let settings = flags.health_interval.is_some()
        || flags.health_timeout.is_some()
        || flags.health_start_period.is_some()
        || flags.health_start_interval.is_some()
        || flags.health_retries.is_some();
    if flags.no_healthcheck {
        if settings || flags.health_cmd.is_some() {
            return Err("--no-healthcheck conflicts with --health-* options".to_owned());
        }
        return Ok(json!({"Test": ["NONE"]}));
    }
    let times = [
        ("--health-interval", flags.health_interval),
        ("--health-timeout", flags.health_timeout),
        ("--health-start-period", flags.health_start_period),
        ("--health-start-interval", flags.health_start_interval),
        ("--health-retries", flags.health_retries),
    ];
    for (name, value) in times {
        if value.is_some_and(|v| v < 0) {
            return Err(format!("{name} cannot be negative"));
        }
    }
    let mut check = Object(Map::new());
    if let Some(command) = flags.health_cmd.as_ref().filter(|c| !c.is_empty()) {
        check.set("Test", json!(["CMD-SHELL", command]));
    }
    check.set_opt("Interval", flags.health_interval);
    check.set_opt("Timeout", flags.health_timeout);
    check.set_opt("StartPeriod", flags.health_start_period);
    check.set_opt("StartInterval", flags.health_start_interval);
    check.set_opt("Retries", flags.health_retries);
    Ok(Value::Object(check.0))
}

fn network_mode(flags: &ContainerFlags) -> String {
    flags.network.first().map_or_else(|| "default".to_owned(), |n| n.name.clone())
}

fn is_user_defined(name: &str) -> bool {
    !matches!(name, "default" | "bridge" | "host" | "none") && !name.starts_with("container:")
}

/// `EndpointsConfig`: the settings of every network, those of the separate flags going to the first.
fn endpoints(flags: &ContainerFlags) -> Result<Map<String, Value>, String> {
    let mut networks = flags.network.clone();
    if networks.is_empty() {
        networks.push(Attachment { name: "default".to_owned(), ..Attachment::default() });
    }
    let own = networks.iter().filter(|n| is_user_defined(&n.name)).count();
    if own > 0 && own < networks.len() {
        let text = "conflicting options: cannot attach both user-defined and non-user-defined network-modes";
        return Err(text.to_owned());
    }
    let mut all = Map::new();
    for (i, attachment) in networks.iter_mut().enumerate() {
        if i == 0 {
            from_flags(flags, attachment)?;
        }
        if let Some(mac) = &attachment.mac {
            network::mac(mac)?;
        }
        let endpoint = endpoint(attachment, if i == 0 { &flags.link } else { &[] });
        if all.insert(attachment.name.clone(), endpoint).is_some() {
            return Err(format!(
                "network {} is specified multiple times",
                crate::text::quote(&attachment.name)
            ));
        }
    }
    // Nothing to say about the default network: the engine knows what to do.
    if all.len() == 1 {
        all.retain(|name, settings| {
            is_user_defined(name) || settings.as_object().is_some_and(|s| !s.is_empty())
        });
    }
    Ok(all)
}

fn from_flags(flags: &ContainerFlags, to: &mut Attachment) -> Result<(), String> {
    let conflict = |flag: &str, field: &str| {
        Err(format!("conflicting options: cannot specify both --{flag} and per-network {field}"))
    };
    if !flags.network_alias.is_empty() && !to.aliases.is_empty() {
        return conflict("network-alias", "alias");
    }
    if flags.ip.is_some() && to.ip.is_some() {
        return conflict("ip", "IPv4 address");
    }
    if flags.ip6.is_some() && to.ip6.is_some() {
        return conflict("ip6", "IPv6 address");
    }
    if flags.mac_address.is_some() && to.mac.is_some() {
        return conflict("mac-address", "MAC address");
    }
    if !flags.network_alias.is_empty() && !is_user_defined(&to.name) {
        return Err("network-scoped aliases are only supported for user-defined networks".to_owned());
    }
    to.aliases.extend(flags.network_alias.iter().cloned());
    to.link_local.extend(flags.link_local_ip.iter().cloned());
    if let Some(ip) = flags.ip.as_deref().filter(|i| !i.is_empty()) {
        to.ip = Some(ip.to_owned());
    }
    if let Some(ip) = flags.ip6.as_deref().filter(|i| !i.is_empty()) {
        to.ip6 = Some(ip.to_owned());
    }
    if let Some(mac) = flags.mac_address.as_deref().filter(|m| !m.is_empty()) {
        to.mac = Some(mac.to_owned());
    }
    Ok(())
}

fn endpoint(attachment: &Attachment, links: &[String]) -> Value {
    let mut ipam = Object(Map::new());
    ipam.set_opt("IPv4Address", attachment.ip.as_deref());
    ipam.set_opt("IPv6Address", attachment.ip6.as_deref());
    ipam.set("LinkLocalIPs", attachment.link_local.clone());
    let mut endpoint = Object(Map::new());
    endpoint.set("IPAMConfig", ipam.0);
    if is_user_defined(&attachment.name) {
        endpoint.set("Links", links.to_vec());
    }
    endpoint.set("Aliases", attachment.aliases.clone());
    endpoint.set_opt("MacAddress", attachment.mac.as_deref());
    let options: Map<String, Value> =
        attachment.driver_opts.iter().map(|(k, v)| (k.clone(), v.as_str().into())).collect();
    endpoint.set("DriverOpts", options);
    if attachment.gw_priority != 0 {
        endpoint.set("GwPriority", attachment.gw_priority);
    }
    Value::Object(endpoint.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args as _, FromArgMatches as _};

    fn body(args: &str) -> Result<Value, String> {
        let command = crate::usage::prepare(ContainerFlags::augment_args(clap::Command::new("")));
        let args: Vec<std::ffi::OsString> = args.split(' ').map(Into::into).collect();
        match crate::usage::parse_flags(command, &args) {
            crate::usage::Parsed::Matches(m) => {
                build(&ContainerFlags::from_arg_matches(&m).map_err(|e| e.to_string())?, Vec::new())
                    .map(|c| c.body)
            }
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn plain_run() {
        let mut plain = body("debian true").unwrap();
        assert_eq!(plain["HostConfig"]["Dns"], json!([]), "empty lists are sent as Docker's client does");
        for key in SENT_LISTS.iter().chain(&["PortBindings", "OomKillDisable"]) {
            assert!(plain["HostConfig"].as_object_mut().unwrap().remove(*key).is_some(), "{key}");
        }
        assert_eq!(
            plain,
            json!({"Image": "debian", "Cmd": ["true"], "AttachStdout": true, "AttachStderr": true,
                   "HostConfig": {"NetworkMode": "default"}})
        );
    }

    #[test]
    fn flags_end_at_the_image() {
        let got = body("-it --rm -e A=1 --cpus 1.5 -m 64m debian ls --rm -la").unwrap();
        assert_eq!(got["Cmd"], json!(["ls", "--rm", "-la"]));
        assert_eq!(got["Tty"], true);
        assert_eq!(got["OpenStdin"], true);
        assert_eq!(got["HostConfig"]["NanoCpus"], 1_500_000_000_i64);
        assert_eq!(got["HostConfig"]["Memory"], 64 << 20);
        assert_eq!(got["HostConfig"]["AutoRemove"], true);
    }

    #[test]
    fn switches_take_values_and_later_options_win() {
        let got = body("--rm=false --name a --name b --init=true x").unwrap();
        assert_eq!(got["HostConfig"].get("AutoRemove"), None);
        assert_eq!(got["HostConfig"]["Init"], true);
        assert!(body("--rm=x i").unwrap_err().contains("strconv.ParseBool"));
    }

    #[test]
    fn networks() {
        let got = body("--network n --ip 10.0.0.2 --network-alias a x").unwrap();
        assert_eq!(got["HostConfig"]["NetworkMode"], "n");
        assert_eq!(
            got["NetworkingConfig"]["EndpointsConfig"]["n"],
            json!({"IPAMConfig": {"IPv4Address": "10.0.0.2"}, "Aliases": ["a"]})
        );
        assert!(body("--network host x").unwrap().get("NetworkingConfig").is_none());
        assert!(body("--network host --network n x").is_err());
    }

    #[test]
    fn conflicts() {
        for (args, want) in [
            ("--rm --restart always x", "cannot specify both --restart and --rm"),
            ("--no-healthcheck --health-cmd y x", "--no-healthcheck conflicts"),
            ("--log-driver none --log-opt a=b x", "invalid logging opts for driver none"),
            ("--pid foo x", "--pid: invalid PID mode"),
            ("--memory-swappiness 101 x", "Valid memory swappiness range is 0-100"),
            ("--gpus count=x x", "invalid count (x): value must be either \"all\" or an integer"),
        ] {
            assert!(body(args).unwrap_err().contains(want), "{args}");
        }
    }
}
