//! Running containers whose record cannot be read. Nothing can be done for them until the record is repaired, but what they
//! have in the network must not be given to others or taken for left over: it is found out from the running container.
//! Published ports are not among it.

use std::collections::HashSet;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ferry_network::EndpointRecord;
use ferry_types::{ContainerId, EndpointId};

use super::record::ContainerRecord;
use crate::inner::Inner;
use crate::shim::{child_of, named_in};

/// Endpoints of containers that run and are not among `records`.
pub(crate) fn endpoints(inner: &Inner, records: &[ContainerRecord]) -> Vec<EndpointRecord> {
    let known: HashSet<&str> = records.iter().map(|r| r.id.as_str()).collect();
    let mut found = Vec::new();
    for entry in fs::read_dir(inner.paths.containers()).into_iter().flatten().flatten() {
        let Ok(id) = entry.file_name().to_string_lossy().parse::<ContainerId>() else { continue };
        if !known.contains(id.as_str())
            && let Some(endpoint) = endpoint(inner, id)
        {
            tracing::warn!(container = %endpoint.container, address = ?endpoint.ipv4, "keeping the address of a container without a readable record");
            found.push(endpoint);
        }
    }
    found
}

fn endpoint(inner: &Inner, id: ContainerId) -> Option<EndpointRecord> {
    let init = child_of(&named_in(&inner.paths.bundle(&id).pid_file())?)?;
    let process = Path::new("/proc").join(init.to_string());
    // As the container sees its interface; the other end is on the bridge.
    let read = |file: &str| {
        fs::read_to_string(process.join("root/sys/class/net/eth0").join(file))
            .ok()
            .map(|t| t.trim().to_owned())
    };
    let host_ifindex: u32 = read("iflink")?.parse().ok()?;
    let host_veth = fs::read_dir("/sys/class/net").ok()?.flatten().find_map(|link| {
        let index = fs::read_to_string(link.path().join("ifindex")).ok()?;
        (index.trim().parse() == Ok(host_ifindex)).then(|| link.file_name().to_string_lossy().into_owned())
    })?;
    let mut mac = [0; 6];
    for (byte, text) in mac.iter_mut().zip(read("address")?.split(':')) {
        *byte = u8::from_str_radix(text, 16).ok()?;
    }
    // The container's own lines come last.
    let config = inner.bridge_config()?;
    let (subnet, subnet6) = (config.ipv4?, config.ipv6);
    let hosts = fs::read_to_string(inner.paths.container(&id).hosts()).ok()?;
    let addresses =
        || hosts.lines().rev().filter_map(|l| l.split_whitespace().next()?.parse::<IpAddr>().ok());
    let ipv4 = addresses().find_map(|a| match a {
        IpAddr::V4(v4) => Some(v4).filter(|v4| subnet.net.contains(v4)),
        IpAddr::V6(_) => None,
    })?;
    let ipv6 = subnet6.and_then(|subnet| {
        addresses().find_map(|a| match a {
            IpAddr::V6(v6) => Some(v6).filter(|v6| subnet.net.contains(v6)),
            IpAddr::V4(_) => None,
        })
    });
    Some(EndpointRecord {
        endpoint: EndpointId::random(),
        container: id,
        bridge: config.device.clone(),
        netns_inode: fs::metadata(process.join("ns/net")).ok()?.ino(),
        host_veth,
        host_ifindex,
        ipv4: Some(ipv4),
        prefix: subnet.net.prefix_len(),
        gateway: subnet.gateway,
        ipv6,
        prefix6: subnet6.filter(|_| ipv6.is_some()).map_or(0, |s| s.net.prefix_len()),
        gateway6: subnet6.filter(|_| ipv6.is_some()).and_then(|s| s.gateway),
        mac,
        interface: "eth0".to_owned(),
        published: Vec::new(),
    })
}
