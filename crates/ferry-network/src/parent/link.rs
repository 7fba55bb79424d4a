//! The parent interface: one of the host's, a VLAN on one, or one that leads nowhere. The error texts are Docker's.

use std::io;

use ferry_sys::netlink::child::{self, ChildKind};
use ferry_sys::netlink::route::{self, LinkChange, LinkRef};
use ferry_sys::netlink::{Batch, NetlinkError, Socket};
use rustix::io::Errno;

use super::ParentConfig;
use crate::error::NetworkError;

/// A parent interface that is there.
#[derive(Debug, Clone)]
pub(super) struct Parent {
    pub(super) name: String,
    pub(super) index: u32,
    /// Whether it was made for a network.
    pub(super) made: bool,
}

fn refused(reason: String) -> NetworkError {
    NetworkError::Parent(reason)
}

/// Refuses what the kernel cannot do at all.
pub(super) fn check_driver(socket: &mut Socket, kind: ChildKind) -> Result<(), NetworkError> {
    let name = kind.name();
    match child::has_kind(socket, name) {
        Ok(true) => Ok(()),
        Ok(false) => Err(NetworkError::NoDriver(name)),
        Err(e) => Err(NetworkError::Kernel {
            action: "look for the driver of",
            object: name.to_owned(),
            source: e.into(),
        }),
    }
}

/// Finds or makes the parent, with the interface index it had (0: any). On an error one made here is gone again.
pub(super) fn open(socket: &mut Socket, config: &ParentConfig, index: u32) -> Result<Parent, NetworkError> {
    let Some(name) = &config.parent else { return nowhere(socket, &config.tag(), index) };
    if name == "lo" {
        return Err(refused(format!("loopback interface is not a valid {} parent link", config.kind.name())));
    }
    if let Some(index) = find(socket, name)? {
        return Ok(Parent { name: name.clone(), index, made: config.made_parent });
    }
    vlan(socket, name, index)
}

fn find(socket: &mut Socket, name: &str) -> Result<Option<u32>, NetworkError> {
    if name.len() > 15 {
        return Ok(None);
    }
    let link = route::link(socket, LinkRef::Name(name)).map_err(failed("inspect", name))?;
    Ok(link.map(|link| link.index))
}

fn failed(action: &'static str, name: &str) -> impl Fn(NetlinkError) -> NetworkError {
    move |e| NetworkError::Kernel { action, object: name.to_owned(), source: e.into() }
}

/// The interface and the number in `eth0.10`.
pub(super) fn parse_vlan(name: &str) -> Result<(&str, i64), String> {
    if !name.contains('.') {
        return Err(format!("invalid subinterface vlan name {name}, example formatting is eth0.10"));
    }
    let mut parts = name.split('.');
    let (Some(parent), Some(id), None) = (parts.next(), parts.next(), parts.next()) else {
        return Err(format!(
            "required interface name format is: name.vlan_id, ex. eth0.10 for vlan 10, instead received {name}"
        ));
    };
    let id = id
        .parse()
        .map_err(|_| format!("unable to parse a valid vlan id from: {id} (ex. eth0.10 for vlan 10)"))?;
    Ok((parent, id))
}

fn vlan(socket: &mut Socket, name: &str, index: u32) -> Result<Parent, NetworkError> {
    let (below, id) = parse_vlan(name).map_err(refused)?;
    let Some(parent) = find(socket, below)? else {
        return Err(refused(format!("-o parent interface was not found on the host: {below}")));
    };
    // IEEE 802.1Q: 0 and 4095 are reserved.
    let id = u16::try_from(id)
        .ok()
        .filter(|id| (1..=4094).contains(id))
        .ok_or_else(|| refused(format!("vlan id must be between 1-4094, received: {id}")))?;
    let mut batch = Batch::new();
    child::create_vlan(&mut batch, index, name, parent, id);
    socket
        .execute(batch)
        .map_err(|e| refused(format!("failed to create {name} vlan link: {}", reason(&e))))?;
    bring_up(socket, name)
}

/// An interface that leads nowhere, on which the network's containers reach each other. `ifb` does as well as `dummy`: what
/// is sent to it is dropped as long as nobody redirects traffic to it.
fn nowhere(socket: &mut Socket, name: &str, index: u32) -> Result<Parent, NetworkError> {
    if let Some(index) = find(socket, name)? {
        return Ok(Parent { name: name.to_owned(), index, made: true });
    }
    let mut made = Ok(());
    for kind in ["dummy", "ifb"] {
        let mut batch = Batch::new();
        child::create_plain(&mut batch, index, name, kind);
        made = socket.execute(batch);
        if !matches!(&made, Err(e) if e.errno() == Some(Errno::OPNOTSUPP.raw_os_error())) {
            break;
        }
    }
    made.map_err(failed("create parent interface", name))?;
    bring_up(socket, name)
}

fn bring_up(socket: &mut Socket, name: &str) -> Result<Parent, NetworkError> {
    let up = |socket: &mut Socket| -> Result<u32, NetworkError> {
        let gone = || NetworkError::Kernel {
            action: "inspect",
            object: name.to_owned(),
            source: io::ErrorKind::NotFound.into(),
        };
        let index = find(socket, name)?.ok_or_else(gone)?;
        let mut batch = Batch::new();
        // The host itself has no business there.
        route::no_ipv6_autoconfiguration(&mut batch, LinkRef::Index(index));
        let change = LinkChange { up: Some(true), ..LinkChange::default() };
        route::set_link(&mut batch, LinkRef::Index(index), &change);
        socket.execute_lenient(batch, &|at, _| at == 0).map_err(failed("bring up", name))?;
        Ok(index)
    };
    match up(socket) {
        Ok(index) => Ok(Parent { name: name.to_owned(), index, made: true }),
        Err(error) => {
            let parent = Parent { name: name.to_owned(), index: 0, made: true };
            // The first error is what the caller needs to know.
            let _ = delete(socket, &parent);
            Err(error)
        }
    }
}

/// Deletes a parent that was made here; one that is gone is no error, and so is one that is something else by now.
pub(super) fn delete(socket: &mut Socket, parent: &Parent) -> Result<(), NetworkError> {
    let link = route::link(socket, LinkRef::Name(&parent.name)).map_err(failed("inspect", &parent.name))?;
    let Some(link) = link.filter(|l| matches!(l.kind.as_str(), "dummy" | "ifb" | "vlan")) else {
        return Ok(());
    };
    let mut batch = Batch::new();
    route::delete_link(&mut batch, link.index);
    let gone = |_, errno| errno == Errno::NODEV.raw_os_error();
    socket.execute_lenient(batch, &gone).map_err(failed("delete", &parent.name))
}

/// strerror(3) as Go prints it, without Rust's `(os error N)`.
pub(super) fn reason(error: &NetlinkError) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::parse_vlan;

    #[test]
    fn vlans_are_named_by_interface_and_number() {
        assert_eq!(parse_vlan("eth0.10"), Ok(("eth0", 10)));
        assert_eq!(parse_vlan("eth0.5000"), Ok(("eth0", 5000)));
        for (name, wanted) in [
            ("eth0", "invalid subinterface vlan name eth0, example formatting is eth0.10"),
            ("eth0.1.2", "required interface name format is: name.vlan_id"),
            ("eth0.x", "unable to parse a valid vlan id from: x"),
            ("eth0.", "unable to parse a valid vlan id from: "),
        ] {
            let error = parse_vlan(name).unwrap_err();
            assert!(error.starts_with(wanted), "{error}");
        }
    }
}
