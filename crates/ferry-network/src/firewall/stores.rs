//! Where published and opened ports are: maps and sets of the table, and their elements. They are described with the rest of
//! the table in [`super::rules`].

use std::net::IpAddr;

use ferry_sys::netlink::nft::{Element, Part, Transaction};
use ferry_types::net::PublishedPort;

use super::Port;
use super::rules::{PerFamily, octets};

/// A map or set whose elements are ports.
#[derive(Debug)]
pub(crate) struct Store {
    /// Its name.
    pub(crate) name: &'static str,
    key: &'static [Part],
    /// Nothing in a set.
    value: &'static [Part],
}

impl Store {
    /// Adds it to a table that has none of the name.
    pub(super) fn add(&self, tx: &mut Transaction, table: &str) {
        match self.value {
            [] => tx.add_set(table, self.name, self.key),
            value => tx.add_map(table, self.name, self.key, value),
        }
    }
}

/// Ports published on every address: protocol and port to container address and port.
pub(crate) const ANY: &str = "published";
/// Ports published on one address: address, protocol and port to container address and port.
pub(crate) const ADDRESS: &str = "published-on";
/// As [`ANY`], IPv6.
pub(crate) const ANY6: &str = "published6";
/// As [`ADDRESS`], IPv6.
pub(crate) const ADDRESS6: &str = "published6-on";
/// Ports of containers that may be reached directly: container address, protocol and port.
pub(crate) const OPEN: &str = "open";
/// As [`OPEN`], IPv6.
pub(crate) const OPEN6: &str = "open6";

/// Everything ports are elements of.
pub(crate) const STORES: &[Store] = &[
    Store { name: ANY, key: &[Part::Transport, Part::Port], value: &[Part::Ipv4, Part::Port] },
    Store {
        name: ADDRESS,
        key: &[Part::Ipv4, Part::Transport, Part::Port],
        value: &[Part::Ipv4, Part::Port],
    },
    Store { name: ANY6, key: &[Part::Transport, Part::Port], value: &[Part::Ipv6, Part::Port] },
    Store {
        name: ADDRESS6,
        key: &[Part::Ipv6, Part::Transport, Part::Port],
        value: &[Part::Ipv6, Part::Port],
    },
    Store { name: OPEN, key: &[Part::Ipv4, Part::Transport, Part::Port], value: &[] },
    Store { name: OPEN6, key: &[Part::Ipv6, Part::Transport, Part::Port], value: &[] },
];

/// Where a container's port is published: the map, and the element. None when the relay alone serves it: the host address is
/// of a family the container has no address of.
pub(crate) fn element(port: &PublishedPort, container: PerFamily<Option<IpAddr>>) -> Option<Port> {
    let (container, stores) = match port.host_ip {
        IpAddr::V4(_) => (container.ipv4?, [ANY, ADDRESS]),
        IpAddr::V6(_) => (container.ipv6?, [ANY6, ADDRESS6]),
    };
    let key = |port_number| [&[port.protocol.number(), 0, 0, 0][..], &padded(port_number)].concat();
    let value = [&octets(container)[..], &padded(port.container_port)].concat();
    let key = key(port.host_port);
    Some(if port.host_ip.is_unspecified() {
        (stores[0], Element { key, value })
    } else {
        (stores[1], Element { key: [octets(port.host_ip), key].concat(), value })
    })
}

/// The element that opens a container's port for whoever has a way to its address.
pub(crate) fn opened(port: &PublishedPort, container: PerFamily<Option<IpAddr>>) -> Option<Port> {
    let (container, store) = match port.host_ip {
        IpAddr::V4(_) => (container.ipv4?, OPEN),
        IpAddr::V6(_) => (container.ipv6?, OPEN6),
    };
    let number = [port.protocol.number(), 0, 0, 0];
    let key = [&octets(container)[..], &number, &padded(port.container_port)].concat();
    Some((store, Element { key, value: Vec::new() }))
}

/// The container's address an element leads to.
pub(crate) fn target(store: &str, element: &Element) -> Option<IpAddr> {
    let v4 = |bytes: &[u8]| Some(IpAddr::from(<[u8; 4]>::try_from(bytes.get(..4)?).ok()?));
    let v6 = |bytes: &[u8]| Some(IpAddr::from(<[u8; 16]>::try_from(bytes.get(..16)?).ok()?));
    match store {
        ANY | ADDRESS => v4(&element.value),
        ANY6 | ADDRESS6 => v6(&element.value),
        OPEN => v4(&element.key),
        OPEN6 => v6(&element.key),
        _ => None,
    }
}

fn padded(port: u16) -> [u8; 4] {
    let [a, b] = port.to_be_bytes();
    [a, b, 0, 0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferry_types::net::Protocol;

    fn port(ip: &str, protocol: Protocol) -> PublishedPort {
        PublishedPort { host_ip: ip.parse().unwrap(), host_port: 8080, container_port: 80, protocol }
    }

    #[test]
    fn elements_hold_padded_parts() {
        let v4 = IpAddr::from([172, 17, 0, 2]);
        let only_v4 = PerFamily { ipv4: Some(v4), ipv6: None };
        let (map, any) = element(&port("0.0.0.0", Protocol::Tcp), only_v4).unwrap();
        assert_eq!((map, &any.key[..]), (ANY, &[6, 0, 0, 0, 0x1f, 0x90, 0, 0][..]));
        assert_eq!(any.value, [172, 17, 0, 2, 0, 80, 0, 0]);
        assert_eq!(target(map, &any), Some(v4));
        let (map, one) = element(&port("10.1.2.3", Protocol::Udp), only_v4).unwrap();
        assert_eq!((map, &one.key[..]), (ADDRESS, &[10, 1, 2, 3, 17, 0, 0, 0, 0x1f, 0x90, 0, 0][..]));
        assert_eq!(element(&port("::", Protocol::Tcp), only_v4), None);
    }

    #[test]
    fn ipv6_ports_lead_to_ipv6_addresses_and_routed_ports_are_opened() {
        let v6: IpAddr = "fd00::2".parse().unwrap();
        let both = PerFamily { ipv4: Some([172, 17, 0, 2].into()), ipv6: Some(v6) };
        let (map, any) = element(&port("::", Protocol::Tcp), both).unwrap();
        assert_eq!((map, any.key.len(), any.value.len(), target(map, &any)), (ANY6, 8, 20, Some(v6)));
        let (map, one) = element(&port("2001:db8::1", Protocol::Tcp), both).unwrap();
        assert_eq!((map, one.key.len(), target(map, &one)), (ADDRESS6, 24, Some(v6)));
        let (set, open) = opened(&port("::", Protocol::Tcp), both).unwrap();
        assert_eq!((set, open.value.len(), target(set, &open)), (OPEN6, 0, Some(v6)));
        assert_eq!(open.key[16..], [6, 0, 0, 0, 0, 80, 0, 0]);
    }
}
