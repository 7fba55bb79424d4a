//! Older requests in the newest form.

use ferry_types::{Classify, ErrorKind};

use crate::container::{ContainerCreateRequest, ContainerUpdateRequest, HostConfig};
use crate::exec::{ExecCreateRequest, ExecStartRequest};
use crate::json::{List, Map};
use crate::mount::Mount;
use crate::network::{NetworkingConfig, PortBinding};
use crate::version::ApiVersion;

/// What a request may not say in the version it speaks; the texts are Docker's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// A body without any configuration.
    #[error("config cannot be empty in order to create a container")]
    NoConfig,
    /// Options of one kind of mount on another.
    #[error("{options} must not be specified on mount type {kind:?}")]
    MountOptions {
        /// Which options.
        options: &'static str,
        /// The mount's type.
        kind: String,
    },
    /// A newer option.
    #[error("{what} needs API v1.{since} or newer")]
    TooNew {
        /// The option.
        what: &'static str,
        /// Minor version that brought it.
        since: u16,
    },
    /// Several endpoints before API 1.44.
    #[error("Container cannot be created with multiple network endpoints: {0}")]
    ManyEndpoints(String),
    /// A container-wide MAC address with a network that has none.
    #[error("conflicting options: mac-address and the network mode")]
    MacAndMode,
    /// A container-wide MAC address since API 1.52.
    #[error("container-wide MAC address no longer supported; use endpoint-specific MAC address instead")]
    MacGone,
    /// Two MAC addresses that differ.
    #[error(
        "the container-wide MAC address must match the endpoint-specific MAC address for the main \
         network, or be left empty"
    )]
    MacMismatch,
}

impl Classify for ConvertError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidParameter
    }
}

/// Brings a create request to the newest form; returns warnings for the client.
///
/// # Errors
/// When the request says what its version does not allow.
pub fn container_create(
    request: &mut ContainerCreateRequest,
    version: ApiVersion,
) -> Result<Vec<String>, ConvertError> {
    if *request == ContainerCreateRequest::default() {
        return Err(ConvertError::NoConfig);
    }
    let mut warnings = Vec::new();
    let host = request.host_config.get_or_insert_default();
    for mount in host.mounts.get_mut_if_any() {
        mount_options(mount, version)?;
    }
    old_defaults(host, version);
    if version < ApiVersion(44) {
        if let Some(check) = &mut request.config.healthcheck {
            check.start_interval = 0;
        }
        let names: Vec<&str> = request
            .networking_config
            .iter()
            .flat_map(|n| n.endpoints_config.keys())
            .map(String::as_str)
            .collect();
        if names.len() > 1 {
            return Err(ConvertError::ManyEndpoints(names.join(", ")));
        }
    }
    if let (Some(networking), true) = (&mut request.networking_config, version < ApiVersion(48)) {
        for endpoint in networking.endpoints_config.get_mut().values_mut().flatten() {
            endpoint.gw_priority = 0;
        }
    }
    let mac = std::mem::take(&mut request.config.mac_address);
    warnings.extend(mac_address(mac, host, &mut request.networking_config, version)?);
    warnings.extend(empty_bindings(host, version));
    if host.resources.pids_limit.is_some_and(|limit| limit <= 0) {
        host.resources.pids_limit = None;
    }
    Ok(warnings)
}

fn mount_options(mount: &mut Mount, version: ApiVersion) -> Result<(), ConvertError> {
    let kind = mount.kind.clone();
    let too_new = |what, since| Err(ConvertError::TooNew { what, since });
    if version < ApiVersion(42) {
        mount.volume_options = mount.volume_options.take().filter(|_| kind == "volume");
        mount.tmpfs_options = mount.tmpfs_options.take().filter(|_| kind == "tmpfs");
        if let Some(options) = &mut mount.bind_options {
            options.create_mountpoint = false;
            options.non_recursive &= version >= ApiVersion(40);
        }
    } else {
        let misplaced = [
            ("VolumeOptions", mount.volume_options.is_some() && kind != "volume"),
            ("BindOptions", mount.bind_options.is_some() && kind != "bind"),
            ("TmpfsOptions", mount.tmpfs_options.is_some() && kind != "tmpfs"),
        ];
        if let Some((options, _)) = misplaced.into_iter().find(|(_, wrong)| *wrong) {
            return Err(ConvertError::MountOptions { options, kind });
        }
    }
    if version < ApiVersion(44) && mount.bind_options.as_ref().is_some_and(|o| o.read_only_force_recursive) {
        return too_new("BindOptions.ReadOnlyForceRecursive", 44);
    }
    if version < ApiVersion(45) && mount.volume_options.as_ref().is_some_and(|o| !o.subpath.is_empty()) {
        return too_new("VolumeOptions.Subpath", 45);
    }
    if version < ApiVersion(48) && kind == "image" {
        return too_new("Mount type \"Image\"", 48);
    }
    if version < ApiVersion(44) && kind == "bind" && mount.read_only {
        // Recursive read-only binds came with 1.44; before, only the top was read-only.
        mount.bind_options.get_or_insert_default().read_only_non_recursive = true;
    }
    Ok(())
}

/// Fields that did not exist yet, and what older clients mean by leaving one empty.
fn old_defaults(host: &mut HostConfig, version: ApiVersion) {
    if version < ApiVersion(40) && host.ipc_mode.is_empty() {
        host.ipc_mode = "shareable".to_owned();
    }
    if version < ApiVersion(42) {
        host.console_size = [0, 0];
    }
    if version < ApiVersion(43) {
        host.annotations = Map::default();
    }
}

/// Moves the container-wide MAC address to the main network's endpoint.
fn mac_address(
    mac: String,
    host: &HostConfig,
    networking: &mut Option<NetworkingConfig>,
    version: ApiVersion,
) -> Result<Option<String>, ConvertError> {
    if mac.is_empty() {
        return Ok(None);
    }
    if version >= ApiVersion(52) {
        return Err(ConvertError::MacGone);
    }
    let mode = host.network_mode.as_str();
    let has_endpoint = !matches!(mode, "host" | "none") && !mode.starts_with("container:");
    let deprecated = (version >= ApiVersion(44)).then(|| {
        "The container-wide MacAddress field is now deprecated. \
         It should be specified in EndpointsConfig instead."
            .to_owned()
    });
    if !has_endpoint {
        return deprecated.map_or(Err(ConvertError::MacAndMode), |warning| Ok(Some(warning)));
    }
    let network = if matches!(mode, "" | "default") { "bridge" } else { mode };
    let endpoints = networking.get_or_insert_default().endpoints_config.get_mut();
    let endpoint = endpoints.entry(network.to_owned()).or_default().get_or_insert_default();
    if deprecated.is_some() && !endpoint.mac_address.is_empty() && endpoint.mac_address != mac {
        return Err(ConvertError::MacMismatch);
    }
    endpoint.mac_address = mac;
    Ok(deprecated)
}

/// A port with no bindings at all means one on any port; clients since 1.52 are told not to.
fn empty_bindings(host: &mut HostConfig, version: ApiVersion) -> Option<String> {
    if host.port_bindings.is_null() {
        return None;
    }
    let mut ports = Vec::new();
    for (port, bindings) in host.port_bindings.get_mut().iter_mut().filter(|(_, b)| b.is_empty()) {
        *bindings = List::from(vec![PortBinding::default()]);
        ports.push(port.clone());
    }
    let warn = version >= ApiVersion(52) && !ports.is_empty();
    warn.then(|| {
        format!(
            "Following container port(s) have an empty list of port-bindings: {}. \
             Such bindings will be discarded in a future version.",
            ports.join(", ")
        )
    })
}

/// Brings an update request to the newest form.
pub fn container_update(request: &mut ContainerUpdateRequest, version: ApiVersion) {
    let resources = &mut request.resources;
    if version < ApiVersion(40) {
        resources.pids_limit = None;
    }
    if version < ApiVersion(55) {
        resources.blkio_weight_device = List::default();
        resources.blkio_device_read_bps = List::default();
        resources.blkio_device_write_bps = List::default();
        resources.blkio_device_read_iops = List::default();
        resources.blkio_device_write_iops = List::default();
    }
    if resources.pids_limit.is_some_and(|limit| limit <= 0) {
        resources.pids_limit = Some(0);
    }
}

/// Brings an exec request to the newest form.
pub fn exec_create(request: &mut ExecCreateRequest, version: ApiVersion) {
    if version < ApiVersion(42) {
        request.console_size = None;
    }
}

/// Brings an exec start to the newest form.
pub fn exec_start(request: &mut ExecStartRequest, version: ApiVersion) {
    if version < ApiVersion(42) || !request.tty {
        request.console_size = None;
    }
}

/// Whether a query parameter counts that came with API 1.`since`.
pub fn knows(version: ApiVersion, since: u16) -> bool {
    version >= ApiVersion(since)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

    fn create(body: &str, minor: u16) -> Result<(ContainerCreateRequest, Vec<String>), ConvertError> {
        let mut request = json::from_slice(body.as_bytes()).unwrap();
        let warnings = container_create(&mut request, ApiVersion(minor))?;
        Ok((request, warnings))
    }

    #[test]
    fn an_empty_body_is_refused() {
        assert_eq!(create("{}", 55).unwrap_err(), ConvertError::NoConfig);
    }

    #[test]
    fn the_mac_address_moves_to_the_endpoint() {
        let body = r#"{"Image":"a","MacAddress":"02:00:00:00:00:01"}"#;
        let mac = |r: &ContainerCreateRequest| {
            r.networking_config.as_ref().unwrap().endpoints_config["bridge"]
                .as_ref()
                .unwrap()
                .mac_address
                .clone()
        };
        let (old, warnings) = create(body, 43).unwrap();
        assert_eq!((mac(&old).as_str(), warnings.len()), ("02:00:00:00:00:01", 0));
        let (middle, warnings) = create(body, 51).unwrap();
        assert_eq!((mac(&middle).as_str(), warnings.len()), ("02:00:00:00:00:01", 1));
        assert_eq!(create(body, 52).unwrap_err(), ConvertError::MacGone);
    }

    #[test]
    fn newer_mount_options_need_a_newer_version() {
        let body = r#"{"Image":"a","HostConfig":{"Mounts":[
            {"Type":"volume","Target":"/x","VolumeOptions":{"Subpath":"y"}}]}}"#;
        assert_eq!(
            create(body, 44).unwrap_err().to_string(),
            "VolumeOptions.Subpath needs API v1.45 or newer"
        );
        assert!(create(body, 45).is_ok());
        let body = r#"{"Image":"a","HostConfig":{"Mounts":[
            {"Type":"bind","Source":"/a","Target":"/x","VolumeOptions":{}}]}}"#;
        assert_eq!(
            create(body, 45).unwrap_err().to_string(),
            "VolumeOptions must not be specified on mount type \"bind\""
        );
        assert!(create(body, 41).unwrap().0.host_config.unwrap().mounts[0].volume_options.is_none());
    }

    #[test]
    fn empty_bindings_mean_any_port() {
        let body = r#"{"Image":"a","HostConfig":{"PortBindings":{"80/tcp":[]}}}"#;
        let (request, warnings) = create(body, 51).unwrap();
        assert_eq!(request.host_config.unwrap().port_bindings["80/tcp"].len(), 1);
        assert!(warnings.is_empty());
        assert_eq!(create(body, 52).unwrap().1.len(), 1);
    }
}
