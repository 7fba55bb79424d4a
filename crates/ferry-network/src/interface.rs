//! What a user may say of a container's interface: its name, its sysctls.

use std::fs;
use std::io;
use std::os::fd::BorrowedFd;

use ferry_sys::netlink::route::{self, Link, LinkRef};
use ferry_sys::netlink::{Batch, NetlinkError, Protocol, Socket};
use rustix::io::Errno;

use crate::endpoint::Ways;
use crate::error::NetworkError;
use crate::sandbox;

/// The name of an interface about to be made in a namespace: the one asked for, or the first free one of a prefix and a
/// number (`eth0`).
pub(crate) fn name(inside: &mut Socket, wanted: Option<&str>, prefix: &str) -> Result<String, NetworkError> {
    let links = route::links(inside).map_err(failed("list interfaces"))?;
    let taken = |name: &str| links.iter().any(|link| link.name == name);
    let Some(wanted) = wanted else {
        let free = |n: &usize| !taken(&format!("{prefix}{n}"));
        return Ok(format!("{prefix}{}", (0..).find(free).unwrap_or_default()));
    };
    let refused = |errno: Errno| {
        Err(NetworkError::Interface { name: wanted.to_owned(), source: io::Error::from(errno) })
    };
    // dev_valid_name() in the kernel's net/core/dev.c; Docker asks the kernel, which answers the same.
    let bad = |b: u8| b == b'/' || b == b':' || b.is_ascii_whitespace() || b == 0;
    if wanted.len() > 15 {
        refused(Errno::RANGE)
    } else if wanted.is_empty() || wanted == "." || wanted == ".." || wanted.bytes().any(bad) {
        refused(Errno::INVAL)
    } else if taken(wanted) {
        refused(Errno::EXIST)
    } else {
        Ok(wanted.to_owned())
    }
}

/// Sets sysctls of an interface of the calling thread's namespace: `net.ipv4.conf.IFNAME.log_martians=1`, where `IFNAME`
/// stands for its name.
pub(crate) fn set_sysctls(interface: &str, sysctls: &[String]) -> Result<(), NetworkError> {
    sysctls.iter().try_for_each(|sysctl| {
        let refused = |reason: String| NetworkError::Sysctl { reason };
        let Some((key, value)) = sysctl.split_once('=') else {
            return Err(refused(format!("expected sysctl '{sysctl}' to have format name=value")));
        };
        let mut path = String::from("/proc/sys");
        for part in key.splitn(5, '.') {
            path.push('/');
            match part {
                // Docker's client makes it lower case.
                part if part.eq_ignore_ascii_case("IFNAME") => path.push_str(interface),
                part => path.push_str(&part.replace('.', "/")),
            }
        }
        if !path.starts_with("/proc/sys/net/") || path.split('/').any(|part| part == "..") {
            return Err(refused(format!("{path} is not a sysctl file")));
        }
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => {}
            _ => return Err(refused(format!("{path} is not a sysctl file"))),
        }
        fs::write(&path, value).map_err(|e| {
            let text = e.to_string();
            let why = text.split(" (os error").next().unwrap_or_default().to_lowercase();
            refused(format!("unable to write to '{path}': write {path}: {why}"))
        })
    })
}

/// Makes an interface itself, with no router, the way to the outside of a namespace, in place of any other.
pub(crate) fn set_device_routes(
    netns: BorrowedFd<'_>,
    interface: &str,
    ways: Ways,
) -> Result<(), NetworkError> {
    if ways == Ways::default() {
        return Ok(());
    }
    sandbox::in_namespace(netns, || {
        let mut inside = Socket::open(Protocol::Route).map_err(kernel("open netlink socket"))?;
        let link =
            route::link(&mut inside, LinkRef::Name(interface)).map_err(failed("inspect an interface"))?;
        let link = link.ok_or_else(|| kernel("find an interface")(io::ErrorKind::NotFound.into()))?;
        let mut batch = Batch::new();
        for (wanted, ipv6) in [(ways.ipv4, false), (ways.ipv6, true)] {
            if wanted {
                route::replace_device_route(&mut batch, link.index, ipv6);
            }
        }
        inside.execute(batch).map_err(failed("set the default route"))
    })
}

/// Removes an interface from a namespace that stays; see [`delete`].
pub(crate) fn remove_if(
    netns: BorrowedFd<'_>,
    interface: &str,
    kind: &str,
    mac: Option<[u8; 6]>,
) -> Result<(), NetworkError> {
    sandbox::in_namespace(netns, || {
        let mut inside = Socket::open(Protocol::Route).map_err(kernel("open netlink socket"))?;
        delete(&mut inside, interface, kind, mac)
    })
}

/// Removes an interface of this driver and, if given, hardware address. One that is gone is no error.
pub(crate) fn delete(
    inside: &mut Socket,
    interface: &str,
    kind: &str,
    mac: Option<[u8; 6]>,
) -> Result<(), NetworkError> {
    let link = route::link(inside, LinkRef::Name(interface)).map_err(failed("inspect an interface"))?;
    let is_it = |link: &Link| link.kind == kind && mac.is_none_or(|mac| link.mac == mac);
    let Some(link) = link.filter(is_it) else { return Ok(()) };
    let mut batch = Batch::new();
    route::delete_link(&mut batch, link.index);
    let gone = |_, errno| errno == Errno::NODEV.raw_os_error();
    inside.execute_lenient(batch, &gone).map_err(failed("remove an interface"))
}

/// Whether a namespace has an interface of this name and driver.
pub(crate) fn exists(netns: BorrowedFd<'_>, interface: &str, kind: &str) -> Result<bool, NetworkError> {
    sandbox::in_namespace(netns, || {
        let mut inside = Socket::open(Protocol::Route).map_err(kernel("open netlink socket"))?;
        let link =
            route::link(&mut inside, LinkRef::Name(interface)).map_err(failed("inspect an interface"))?;
        Ok(link.is_some_and(|link| link.kind == kind))
    })
}

/// Removes the interfaces of a namespace with this alias, or with none and of this driver on this parent, but for those
/// called as one of `keep`. An interface gets its alias only after it was made.
pub(crate) fn remove_noted(
    netns: BorrowedFd<'_>,
    alias: &str,
    (kind, parent): (&str, u32),
    keep: &[&str],
) -> Result<(), NetworkError> {
    sandbox::in_namespace(netns, || {
        let mut inside = Socket::open(Protocol::Route).map_err(kernel("open netlink socket"))?;
        let links = route::links(&mut inside).map_err(failed("list interfaces"))?;
        let mut batch = Batch::new();
        let unfinished = |l: &Link| l.alias.is_empty() && l.kind == kind && l.lower_elsewhere == Some(parent);
        let made = links.iter().filter(|l| l.alias == alias || unfinished(l));
        for link in made.filter(|l| !keep.contains(&l.name.as_str())) {
            route::delete_link(&mut batch, link.index);
        }
        inside.execute(batch).map_err(failed("remove an interface"))
    })
}

fn failed(action: &'static str) -> impl Fn(NetlinkError) -> NetworkError {
    move |e| kernel(action)(e.into())
}

fn kernel(action: &'static str) -> impl Fn(io::Error) -> NetworkError {
    move |source| NetworkError::Kernel { action, object: "for a container".to_owned(), source }
}
