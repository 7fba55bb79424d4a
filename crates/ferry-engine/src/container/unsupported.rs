//! What Docker has and ferry does not have yet: refused by name, never taken and ignored. An entry leaves
//! this file when its feature arrives.

use ferry_api::container::HostConfig;

use crate::config::LiveSettings;
use crate::error::{EngineError, Result};

/// Refuses a create that asks for something missing.
pub(crate) fn refuse(h: &HostConfig, image: &str, platform: Option<&str>, live: &LiveSettings) -> Result<()> {
    let later = |what: &str| Err(EngineError::NotSupported(format!("{what} is not supported by ferry yet")));
    let r = &h.resources;
    if let Some(platform) = platform.filter(|p| !p.is_empty()) {
        check_platform(image, platform)?;
    }
    if let Some(unknown) = h.storage_opt.keys().find(|k| k.as_str() != "size") {
        return Err(EngineError::InvalidParameter(format!("Unknown option {unknown}")));
    }
    if h.storage_opt.contains_key("size") {
        return Err(EngineError::InvalidParameter(
            "--storage-opt is supported only for overlay over xfs with 'pquota' mount option".to_owned(),
        ));
    }
    if !matches!(h.userns_mode.as_str(), "" | "host") {
        return later("--userns");
    }
    if !h.cgroup.is_empty() {
        return later("joining another container's cgroup");
    }
    crate::runtimes::check(&h.runtime, live)?;
    if !matches!(h.isolation.as_str(), "" | "default") {
        let text = format!("invalid isolation ({}): linux only supports 'default'", h.isolation);
        return Err(EngineError::InvalidParameter(text));
    }
    if let Some(request) = r.device_requests.iter().find(|request| request.driver != "cdi") {
        return Err(EngineError::InvalidParameter(format!(
            "could not select device driver \"{}\" with capabilities: [{}]",
            request.driver,
            request.capabilities.iter().map(|c| format!("[{}]", c.join(" "))).collect::<Vec<_>>().join(" ")
        )));
    }
    if r.cpu_count != 0 || r.cpu_percent != 0 || r.io_maximum_iops != 0 || r.io_maximum_bandwidth != 0 {
        return Err(EngineError::InvalidParameter(
            "CPU count, CPU percent and IO maximum limits exist on Windows only".into(),
        ));
    }
    if !matches!(h.ipc_mode.as_str(), "" | "private" | "shareable" | "host" | "none")
        && !h.ipc_mode.starts_with("container:")
    {
        return Err(EngineError::InvalidParameter(format!("invalid IPC mode: {}", h.ipc_mode)));
    }
    let joins = |mode: &str| mode.strip_prefix("container:").is_some_and(|id| !id.is_empty());
    if !matches!(h.pid_mode.as_str(), "" | "private" | "host") && !joins(&h.pid_mode) {
        return Err(EngineError::InvalidParameter(format!("invalid PID mode: {}", h.pid_mode)));
    }
    if !matches!(h.uts_mode.as_str(), "" | "private" | "host") {
        return Err(EngineError::InvalidParameter(format!("invalid UTS mode: {}", h.uts_mode)));
    }
    if !matches!(h.cgroupns_mode.as_str(), "" | "private" | "host") {
        return Err(EngineError::InvalidParameter(format!(
            "invalid cgroup namespace mode: {}",
            h.cgroupns_mode
        )));
    }
    Ok(())
}

fn check_platform(image: &str, platform: &str) -> Result<()> {
    let wanted = crate::image::parse_platform(platform)?;
    let host = ferry_image::Platform::host();
    if wanted.os == host.os && wanted.architecture == host.architecture {
        return Ok(());
    }
    // Images here are for this host, so there is none that fits.
    Err(EngineError::OtherPlatform {
        image: image.to_owned(),
        own: format!("{}/{}", host.os, host.architecture),
        wanted: format!("{}/{}", wanted.os, wanted.architecture),
    })
}
