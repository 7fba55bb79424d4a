//! What of the engine reads text and files from strangers, for the fuzz targets of `ferry-testkit`.

use std::path::Path;

use ferry_api::container::ContainerCreateRequest;
use ferry_api::{ApiVersion, Filters};
use ferry_shim_proto::log::LogFormat;

use crate::container::{mount_spec, network_mode};
use crate::logging::read::{Formatter, Layout, LogFiles, ReadOutcome};

/// A body of `POST /containers/create`, as far as it is looked at without an engine.
pub fn create_body(data: &[u8]) {
    for version in [24, 40, 44, 55].map(ApiVersion) {
        let Ok(mut request) = ferry_api::json::from_slice::<ContainerCreateRequest>(data) else { return };
        if ferry_api::convert::request::container_create(&mut request, version).is_err() {
            continue;
        }
        let Some(host) = &request.host_config else { continue };
        for bind in host.binds.iter() {
            self::bind(bind);
        }
        for mount in host.mounts.iter() {
            let _ = mount_spec::parse_mount(mount);
        }
        let _ = network_mode::publish_requests(host, &request.config);
        let options = host.log_config.config.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        let _ = crate::logging::check_log_defaults(&host.log_config.kind, &options);
    }
}

/// Ports as a client may ask for them: everything up to the last colon is an address and a port of the host's, the rest a
/// port of the container's.
pub fn ports(text: &str) {
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    let (ip, host_port) = host.rsplit_once(':').unwrap_or(("", host));
    let binding = ferry_api::PortBinding { host_ip: ip.to_owned(), host_port: host_port.to_owned() };
    let mut host = ferry_api::container::HostConfig { publish_all_ports: true, ..Default::default() };
    host.port_bindings.get_mut().insert(port.to_owned(), vec![binding].into());
    let mut config = ferry_api::container::ContainerConfig::default();
    config.exposed_ports.get_mut().insert(text.to_owned(), Default::default());
    let Ok(requests) = network_mode::publish_requests(&host, &config) else { return };
    for request in requests {
        let (first, last) = request.host_ports;
        assert!(first <= last, "{text:?}: {first}-{last}");
    }
}

/// A value of `Binds`.
pub fn bind(text: &str) {
    if let Ok(request) = mount_spec::parse_bind(text) {
        assert!(request.destination.starts_with('/'), "{text:?} is mounted at {:?}", request.destination);
        assert!(
            !request.destination.split('/').any(|part| part == ".."),
            "{text:?}: {:?}",
            request.destination
        );
    }
}

/// Filters of lists.
pub fn list_filters(filters: &Filters) {
    for until in filters.get("until") {
        let _ = crate::time::parse_instant("until", until);
    }
}

/// A log, with bits that choose options; how many bytes come out.
pub fn log_file(path: &Path, options: u8, tail: usize) -> usize {
    let on = |bit: u8| options & bit != 0;
    let format = if on(0x40) { LogFormat::Local } else { LogFormat::Json };
    let layout = Layout {
        stdout: !on(1),
        stderr: !on(2),
        timestamps: on(4),
        details: on(8),
        multiplexed: on(16),
        json: tail % 7 == 3,
        since: on(32).then_some(1_763_632_800_000_000_000),
        until: on(128).then_some(1_763_632_800_000_000_001),
    };
    let mut formatter = Formatter::new(layout, format);
    let (mut out, mut total) = (Vec::new(), 0);
    let Ok(mut files) = LogFiles::open(path, format) else { return 0 };
    if tail < 255 && files.seek_tail(tail).is_err() {
        return 0;
    }
    loop {
        out.clear();
        let outcome = files.read(&mut formatter, &mut out, 4096);
        total += out.len();
        if !matches!(outcome, Ok(ReadOutcome::More)) {
            return total;
        }
    }
}
