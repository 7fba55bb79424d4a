//! The nft table of an engine, as data: which chains and rules, which map elements. Decides everything
//! about packets and executes nothing.
//!
//! One table of family `ip`. Rules are rewritten as a whole, in one transaction, when a bridge comes or goes; published
//! ports come and go as elements of two maps. In nft's words, for a bridge `br0` of 172.17.0.0/16:
//!
//! ```text
//! map published    { type inet_proto . inet_service : ipv4_addr . inet_service; }
//! map published-on { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }
//! chain raw         { type filter hook prerouting priority raw
//!   iifname "br0" ip daddr 127.0.0.0/8 drop        # route_localnet must not open the host's loopback
//!   iifname "br0" ip saddr 127.0.0.0/8 drop }
//! chain publish     { dnat ip to ip daddr . meta l4proto . th dport map @published-on
//!                     dnat ip to meta l4proto . th dport map @published }
//! chain prerouting  { type nat hook prerouting priority dstnat
//!   ip daddr 127.0.0.0/8 return                    # a neighbour may not reach what is bound to loopback
//!   fib daddr type local jump publish }
//! chain output      { type nat hook output priority -100;  fib daddr type local jump publish }
//! chain postrouting { type nat hook postrouting priority srcnat
//!   oifname "br0" ip saddr 127.0.0.0/8 masquerade  # from 127.0.0.1 of the host
//!   oifname "br0" ip saddr 172.17.0.0/16 ct status dnat masquerade     # container to a port of its own bridge
//!   oifname != "br0" ip saddr 172.17.0.0/16 masquerade }               # when masquerading
//! chain forward     { type filter hook forward priority filter
//!   ct state established,related accept
//!   oifname "br0" ct status dnat accept
//!   iifname "br0" oifname != "br0" drop            # when internal
//!   iifname "br0" oifname "br0" accept             # when icc
//!   oifname "br0" drop }                           # unpublished ports, other bridges
//! ```

use std::net::{IpAddr, Ipv4Addr};

use ferry_sys::netlink::nft::{BaseChain, Element, Hook, Part, Transaction};
use ferry_sys::netlink::nft_expr::{Base, CtKey, Expr, MetaKey, REG_1, REG_1_1, REG_1_2, Verdict};
use ferry_types::net::PublishedPort;
use ipnet::Ipv4Net;

/// Ports published on every address: protocol and port to container address and port.
pub(crate) const ANY: &str = "published";
/// Ports published on one address: address, protocol and port to container address and port.
pub(crate) const ADDRESS: &str = "published-on";

const ANY_KEY: &[Part] = &[Part::Transport, Part::Port];
const ADDRESS_KEY: &[Part] = &[Part::Ipv4, Part::Transport, Part::Port];
const TARGET: &[Part] = &[Part::Ipv4, Part::Port];

const CHAINS: &[(&str, Option<BaseChain>)] = &[
    ("publish", None),
    ("raw", Some(BaseChain { kind: "filter", hook: Hook::Prerouting, priority: -300 })),
    ("prerouting", Some(BaseChain { kind: "nat", hook: Hook::Prerouting, priority: -100 })),
    ("output", Some(BaseChain { kind: "nat", hook: Hook::Output, priority: -100 })),
    ("postrouting", Some(BaseChain { kind: "nat", hook: Hook::Postrouting, priority: 100 })),
    ("forward", Some(BaseChain { kind: "filter", hook: Hook::Forward, priority: 0 })),
];

/// What the rules depend on of one bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BridgeRules {
    /// Name of the device.
    pub(crate) device: String,
    /// Its subnet.
    pub(crate) subnet: Ipv4Net,
    /// Whether its containers reach each other.
    pub(crate) icc: bool,
    /// Whether its traffic to the outside is masqueraded.
    pub(crate) masquerade: bool,
    /// Whether there is no traffic to the outside.
    pub(crate) internal: bool,
}

/// Adds everything but the elements: creates what is missing, replaces all rules.
pub(crate) fn skeleton<'a>(
    tx: &mut Transaction,
    table: &str,
    bridges: impl Iterator<Item = &'a BridgeRules>,
) {
    tx.add_table(table);
    tx.add_map(table, ANY, ANY_KEY, TARGET);
    tx.add_map(table, ADDRESS, ADDRESS_KEY, TARGET);
    for (name, base) in CHAINS {
        tx.add_chain(table, name, *base);
    }
    tx.delete_rules(table);
    for (chain, rule) in rules(bridges) {
        tx.add_rule(table, chain, &rule);
    }
}

/// How many rules [`skeleton`] writes.
pub(crate) fn rule_count<'a>(bridges: impl Iterator<Item = &'a BridgeRules>) -> usize {
    rules(bridges).len()
}

type Rule = Vec<Expr>;

fn rules<'a>(bridges: impl Iterator<Item = &'a BridgeRules>) -> Vec<(&'static str, Rule)> {
    let loopback = Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8);
    let local = vec![Expr::FibDestinationType { to: REG_1 }, equals(&2_u32.to_ne_bytes()), jump("publish")];
    let mut rules = vec![
        ("publish", publish_on_address()),
        ("publish", publish_on_any()),
        ("prerouting", join([to(loopback), vec![verdict(Verdict::Return)]])),
        ("prerouting", local.clone()),
        ("output", local),
        ("forward", join([ct(CtKey::State, 2 | 4), vec![verdict(Verdict::Accept)]])),
    ];
    for b in bridges {
        let (input, output) = (device(MetaKey::InputName, b, false), device(MetaKey::OutputName, b, false));
        let dnat = ct(CtKey::Status, 32);
        let (accept, drop) = (vec![verdict(Verdict::Accept)], vec![verdict(Verdict::Drop)]);
        let masquerade = vec![Expr::Masquerade];
        rules.push(("raw", join([input.clone(), to(loopback), drop.clone()])));
        rules.push(("raw", join([input.clone(), from(loopback), drop.clone()])));
        rules.push(("postrouting", join([output.clone(), from(loopback), masquerade.clone()])));
        rules.push(("postrouting", join([output.clone(), from(b.subnet), dnat.clone(), masquerade.clone()])));
        if b.masquerade && !b.internal {
            let elsewhere = device(MetaKey::OutputName, b, true);
            rules.push(("postrouting", join([elsewhere, from(b.subnet), masquerade])));
        }
        if b.internal {
            let elsewhere = device(MetaKey::OutputName, b, true);
            rules.push(("forward", join([input.clone(), elsewhere, drop.clone()])));
        }
        rules.push(("forward", join([output.clone(), dnat, accept.clone()])));
        if b.icc {
            rules.push(("forward", join([input, output.clone(), accept])));
        }
        rules.push(("forward", join([output, drop])));
    }
    rules
}

fn publish_on_address() -> Rule {
    vec![
        Expr::Payload { base: Base::Network, offset: 16, len: 4, to: REG_1 },
        Expr::Meta { key: MetaKey::Transport, to: REG_1_1 },
        Expr::Payload { base: Base::Transport, offset: 2, len: 2, to: REG_1_2 },
        Expr::Lookup { map: ADDRESS, from: REG_1, to: REG_1 },
        Expr::Dnat { address: REG_1, port: REG_1_1 },
    ]
}

fn publish_on_any() -> Rule {
    vec![
        Expr::Meta { key: MetaKey::Transport, to: REG_1 },
        Expr::Payload { base: Base::Transport, offset: 2, len: 2, to: REG_1_1 },
        Expr::Lookup { map: ANY, from: REG_1, to: REG_1 },
        Expr::Dnat { address: REG_1, port: REG_1_1 },
    ]
}

fn join<const N: usize>(parts: [Rule; N]) -> Rule {
    parts.into_iter().flatten().collect()
}

fn verdict(verdict: Verdict) -> Expr {
    Expr::Verdict(verdict)
}

fn jump(chain: &'static str) -> Expr {
    Expr::Verdict(Verdict::Jump(chain))
}

fn equals(value: &[u8]) -> Expr {
    Expr::Compare { register: REG_1, value: value.to_vec(), not: false }
}

/// The packet comes in by, or leaves by, the bridge (or leaves by anything else).
fn device(key: MetaKey, bridge: &BridgeRules, not: bool) -> Rule {
    // IFNAMSIZ bytes, padded with NULs
    let mut name = bridge.device.clone().into_bytes();
    name.resize(16, 0);
    vec![Expr::Meta { key, to: REG_1 }, Expr::Compare { register: REG_1, value: name, not }]
}

/// One of the bits is set; the kernel keeps both masks in host byte order.
fn ct(key: CtKey, bits: u32) -> Rule {
    vec![
        Expr::Ct { key, to: REG_1 },
        Expr::Mask { register: REG_1, mask: bits.to_ne_bytes().to_vec() },
        Expr::Compare { register: REG_1, value: vec![0; 4], not: true },
    ]
}

fn from(net: Ipv4Net) -> Rule {
    address_in(12, net)
}

fn to(net: Ipv4Net) -> Rule {
    address_in(16, net)
}

/// The address at `offset` of the IPv4 header lies in `net`.
fn address_in(offset: u32, net: Ipv4Net) -> Rule {
    let load = Expr::Payload { base: Base::Network, offset, len: 4, to: REG_1 };
    let address = net.network().octets();
    if net.prefix_len() == 32 {
        return vec![load, equals(&address)];
    }
    let mask = net.netmask().octets().to_vec();
    vec![load, Expr::Mask { register: REG_1, mask }, equals(&address)]
}

/// The map a published port goes into and its element; none for IPv6, which the relays serve.
pub(crate) fn element(port: &PublishedPort, container: Ipv4Addr) -> Option<(&'static str, Element)> {
    let IpAddr::V4(host) = port.host_ip else { return None };
    let protocol_and_port = [&[port.protocol.number(), 0, 0, 0][..], &padded(port.host_port)].concat();
    let value = [container.octets(), padded(port.container_port)].concat();
    if host.is_unspecified() {
        Some((ANY, Element { key: protocol_and_port, value }))
    } else {
        Some((ADDRESS, Element { key: [&host.octets()[..], &protocol_and_port].concat(), value }))
    }
}

/// The container's address an element leads to.
pub(crate) fn target(element: &Element) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from(<[u8; 4]>::try_from(element.value.get(..4)?).ok()?))
}

fn padded(port: u16) -> [u8; 4] {
    let [a, b] = port.to_be_bytes();
    [a, b, 0, 0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferry_types::net::Protocol;

    fn bridge(icc: bool, masquerade: bool) -> BridgeRules {
        BridgeRules {
            device: "br0".to_owned(),
            subnet: "172.17.0.0/16".parse().unwrap(),
            icc,
            masquerade,
            internal: false,
        }
    }

    #[test]
    fn elements_hold_padded_parts() {
        let port = |ip: &str, protocol| PublishedPort {
            host_ip: ip.parse().unwrap(),
            host_port: 8080,
            container_port: 80,
            protocol,
        };
        let c = Ipv4Addr::new(172, 17, 0, 2);
        let (map, any) = element(&port("0.0.0.0", Protocol::Tcp), c).unwrap();
        assert_eq!((map, &any.key[..]), (ANY, &[6, 0, 0, 0, 0x1f, 0x90, 0, 0][..]));
        assert_eq!(any.value, [172, 17, 0, 2, 0, 80, 0, 0]);
        assert_eq!(target(&any), Some(c));
        let (map, one) = element(&port("10.1.2.3", Protocol::Udp), c).unwrap();
        assert_eq!((map, &one.key[..]), (ADDRESS, &[10, 1, 2, 3, 17, 0, 0, 0, 0x1f, 0x90, 0, 0][..]));
        assert_eq!(element(&port("::", Protocol::Tcp), c), None);
    }

    #[test]
    fn every_bridge_ends_with_a_drop_and_options_add_rules() {
        let (open, closed) = (bridge(true, true), bridge(false, false));
        let count =
            |b: &BridgeRules, chain: &str| rules([b].into_iter()).iter().filter(|r| r.0 == chain).count();
        assert_eq!(count(&open, "forward"), count(&closed, "forward") + 1);
        assert_eq!(count(&open, "postrouting"), count(&closed, "postrouting") + 1);
        let internal = BridgeRules { internal: true, ..bridge(true, true) };
        assert_eq!(count(&internal, "forward"), count(&open, "forward") + 1);
        assert_eq!(count(&internal, "postrouting"), count(&closed, "postrouting"));
        for b in [&open, &closed] {
            let rules = rules([b].into_iter());
            let last = rules.iter().rfind(|r| r.0 == "forward").unwrap();
            assert_eq!(last.1.last(), Some(&Expr::Verdict(Verdict::Drop)));
        }
    }
}
