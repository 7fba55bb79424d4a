//! The nft table of an engine, as data: which chains and rules, which elements. Decides everything
//! about packets and executes nothing.
//!
//! One table of family `inet`. Its own chains never change: they find a bridge's chains by the name of its interface, and
//! a published port, as elements of maps. So a bridge or a port comes and goes in one small transaction, and a packet's
//! way is as long with 500 bridges as with one. In nft's words, for a bridge `br0` of 172.17.0.0/16 and fd00::/64:
//!
//! ```text
//! map published     { type inet_proto . inet_service : ipv4_addr . inet_service; }
//! map published-on  { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }
//! map published6, published6-on                    # the same for IPv6
//! set open, open6   { type ipv4_addr . inet_proto . inet_service; }    # published ports of routed bridges
//! set bridges       { type ifname; elements = { "br0" } }
//! map from-bridge   { type ifname : verdict; }     # internal bridges only
//! map to-bridge     { type ifname : verdict; elements = { "br0" : jump to-br0 } }
//! map leave-from    { type ifname : verdict; elements = { "br0" : jump leave-from-br0 } }
//! map leave-to      { type ifname : verdict; elements = { "br0" : jump leave-to-br0 } }
//!
//! chain publish     { dnat ip to ip daddr . meta l4proto . th dport map @published-on
//!                     meta nfproto ipv4 dnat ip to meta l4proto . th dport map @published
//!                     dnat ip6 to ip6 daddr . meta l4proto . th dport map @published6-on
//!                     meta nfproto ipv6 dnat ip6 to meta l4proto . th dport map @published6 }
//! chain raw         { type filter hook prerouting priority raw
//!   iifname @bridges ip daddr 127.0.0.0/8 drop     # route_localnet must not open the host's loopback
//!   iifname @bridges ip saddr 127.0.0.0/8 drop }
//! chain prerouting  { type nat hook prerouting priority dstnat
//!   ip daddr 127.0.0.0/8 return                    # a neighbour may not reach what is bound to loopback
//!   ip6 saddr fe80::/10 return                     # nothing of one link leads to another: the relays serve it
//!   fib daddr type local jump publish }            # with the host's firewall in force: only iifname @bridges
//! chain output      { type nat hook output priority -100
//!   ip6 daddr ::1 return                           # the kernel routes no answer to ::1: the relays serve it
//!   ip6 saddr fe80::/10 return
//!   fib daddr type local jump publish }
//! chain postrouting { type nat hook postrouting priority srcnat
//!   oifname vmap @leave-to
//!   iifname vmap @leave-from }
//! chain forward     { type filter hook forward priority filter
//!   ct state established,related accept
//!   iifname vmap @from-bridge
//!   oifname vmap @to-bridge }
//!
//! chain leave-to-br0   { ip saddr 127.0.0.0/8 masquerade                # from 127.0.0.1 of the host
//!                        ip saddr 172.17.0.0/16 ct status dnat masquerade   # container to a port of its own bridge
//!                        ip6 saddr fd00::/64 ct status dnat masquerade }
//! chain leave-from-br0 { oifname != "br0" ip saddr 172.17.0.0/16 masquerade # when masquerading; or snat to 192.0.2.1
//!                        oifname != "br0" ip6 saddr fd00::/64 masquerade }
//! chain from-br0       { oifname != "br0" drop }                            # when internal
//! chain to-br0         { ct status dnat accept                              # unless internal
//!                        ip daddr . meta l4proto . th dport @open accept    # when routed, and the same for IPv6; with
//!                                                                           # iifname, for trusted interfaces only
//!                        iifname "br0" accept                               # when icc, else drop
//!                        meta l4proto icmp accept                           # when routed
//!                        meta nfproto ipv4 accept                           # when nat-unprotected
//!                        drop }                                             # unpublished ports, other bridges
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ferry_sys::netlink::nft::{BaseChain, Hook, Part, Transaction};
use ferry_sys::netlink::nft_expr::{
    AddressFamily, Base, CtKey, Expr, MetaKey, REG_1, REG_1_1, REG_1_2, REG_2, REG_2_1, Verdict,
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::stores::{ADDRESS, ADDRESS6, ANY, ANY6, OPEN, OPEN6, STORES};
use crate::config::{DirectRouting, GatewayMode};

/// The set of all bridges' interfaces.
pub(crate) const BRIDGES: &str = "bridges";
const FROM: &str = "from-bridge";
const TO: &str = "to-bridge";
const LEAVE_FROM: &str = "leave-from";
const LEAVE_TO: &str = "leave-to";
/// The maps that lead to bridges' chains, with what their chains' names begin with.
pub(crate) const DISPATCH: &[(&str, &str)] =
    &[(FROM, "from-"), (TO, "to-"), (LEAVE_FROM, "leave-from-"), (LEAVE_TO, "leave-to-")];

const CHAINS: &[(&str, Option<BaseChain>)] = &[
    ("publish", None),
    ("raw", Some(BaseChain { kind: "filter", hook: Hook::Prerouting, priority: -300 })),
    ("prerouting", Some(BaseChain { kind: "nat", hook: Hook::Prerouting, priority: -100 })),
    ("output", Some(BaseChain { kind: "nat", hook: Hook::Output, priority: -100 })),
    ("postrouting", Some(BaseChain { kind: "nat", hook: Hook::Postrouting, priority: 100 })),
    ("forward", Some(BaseChain { kind: "filter", hook: Hook::Forward, priority: 0 })),
];

/// One value for each address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct PerFamily<T> {
    /// IPv4's.
    pub(crate) ipv4: T,
    /// IPv6's.
    pub(crate) ipv6: T,
}

/// The subnets of one bridge.
pub(crate) type Subnets = PerFamily<Option<IpNet>>;

impl Subnets {
    /// Of what a bridge has.
    pub(crate) fn new(ipv4: Option<Ipv4Net>, ipv6: Option<Ipv6Net>) -> Self {
        Self { ipv4: ipv4.map(IpNet::V4), ipv6: ipv6.map(IpNet::V6) }
    }

    /// Whether the address is in one of them.
    pub(crate) fn contain(&self, address: IpAddr) -> bool {
        [self.ipv4, self.ipv6].into_iter().flatten().any(|net| net.contains(&address))
    }
}

/// What the rules depend on of one bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BridgeRules {
    /// Name of the device.
    pub(crate) device: String,
    /// Its IPv4 subnet.
    pub(crate) ipv4: Option<Ipv4Net>,
    /// Its IPv6 subnet.
    pub(crate) ipv6: Option<Ipv6Net>,
    /// Whether its containers reach each other.
    pub(crate) icc: bool,
    /// Whether its traffic to the outside is masqueraded.
    pub(crate) masquerade: PerFamily<bool>,
    /// The address it gets then, in place of that of the interface it leaves by.
    pub(crate) source: PerFamily<Option<IpAddr>>,
    /// Whether there is no traffic to the outside.
    pub(crate) internal: bool,
    /// How its containers are reached from the outside.
    pub(crate) mode: PerFamily<GatewayMode>,
    /// Who reaches published ports at the containers' own addresses.
    pub(crate) direct: DirectRouting,
    /// The families there are rules for.
    pub(crate) filtered: PerFamily<bool>,
}

impl<T> PerFamily<T> {
    /// That of one family.
    pub(crate) fn of(self, family: AddressFamily) -> T {
        match family {
            AddressFamily::Ipv4 => self.ipv4,
            AddressFamily::Ipv6 => self.ipv6,
        }
    }
}

impl BridgeRules {
    pub(crate) fn subnets(&self) -> Subnets {
        Subnets::new(self.ipv4, self.ipv6)
    }

    /// The families it has rules for, each with its subnet, mode, and whether it is masqueraded.
    pub(crate) fn families(&self) -> impl Iterator<Item = (AddressFamily, IpNet, GatewayMode, bool)> {
        let Subnets { ipv4, ipv6 } = self.subnets();
        let v4 = ipv4.map(|net| (AddressFamily::Ipv4, net, self.mode.ipv4, self.masquerade.ipv4));
        let v6 = ipv6.map(|net| (AddressFamily::Ipv6, net, self.mode.ipv6, self.masquerade.ipv6));
        v4.into_iter().chain(v6).filter(|f| self.filtered.of(f.0))
    }

    pub(crate) fn is_internal(&self) -> bool {
        self.internal || self.families().any(|(_, _, mode, _)| mode == GatewayMode::Isolated)
    }
}

pub(crate) type Rule = Vec<Expr>;

/// A chain of a bridge with the rules it should have, and the map that leads to it.
#[derive(Debug)]
pub(crate) struct BridgeChain {
    pub(crate) map: &'static str,
    pub(crate) name: String,
    pub(crate) rules: Vec<Rule>,
}

/// Adds what does not depend on bridges to a table that has none of it.
pub(crate) fn skeleton(tx: &mut Transaction, table: &str, host_firewall: bool) {
    STORES.iter().for_each(|store| store.add(tx, table));
    tx.add_set(table, BRIDGES, &[Part::Interface]);
    for (map, _) in DISPATCH {
        tx.add_verdict_map(table, map, &[Part::Interface]);
    }
    for (name, base) in CHAINS {
        tx.add_chain(table, name, *base);
    }
    for (chain, rule) in fixed_rules(host_firewall) {
        tx.add_rule(table, chain, &rule);
    }
}

/// The rules of the chains that never change. With `host_firewall` what comes from outside arrives at the relays' sockets,
/// past the host's own rules for what it receives.
pub(crate) fn fixed_rules(host_firewall: bool) -> Vec<(&'static str, Rule)> {
    let loopback = Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8).into();
    let loopback6 = IpNet::from(IpAddr::V6(Ipv6Addr::LOCALHOST));
    // An address of one link is of no use on another (RFC 4291 section 2.5.6).
    let of_links = Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10).into();
    let bridges = || {
        vec![Expr::Meta { key: MetaKey::InputName, to: REG_1 }, Expr::Member { set: BRIDGES, from: REG_1 }]
    };
    let local = vec![
        Expr::FibDestinationType { to: REG_1 },
        equals(&2_u32.to_ne_bytes()),
        verdict(Verdict::Jump("publish".to_owned())),
    ];
    let (drop, skip) = (vec![verdict(Verdict::Drop)], vec![verdict(Verdict::Return)]);
    vec![
        ("publish", publish_on_address(AddressFamily::Ipv4)),
        ("publish", publish_on_any(AddressFamily::Ipv4)),
        ("publish", publish_on_address(AddressFamily::Ipv6)),
        ("publish", publish_on_any(AddressFamily::Ipv6)),
        ("raw", join([bridges(), to(loopback), drop.clone()])),
        ("raw", join([bridges(), from(loopback), drop])),
        ("prerouting", join([to(loopback), skip.clone()])),
        ("prerouting", join([from(of_links), skip.clone()])),
        ("prerouting", if host_firewall { join([bridges(), local.clone()]) } else { local.clone() }),
        ("output", join([to(loopback6), skip.clone()])),
        ("output", join([from(of_links), skip])),
        ("output", local),
        ("postrouting", dispatch(MetaKey::OutputName, LEAVE_TO)),
        ("postrouting", dispatch(MetaKey::InputName, LEAVE_FROM)),
        ("forward", join([ct(CtKey::State, 2 | 4), vec![verdict(Verdict::Accept)]])),
        ("forward", dispatch(MetaKey::InputName, FROM)),
        ("forward", dispatch(MetaKey::OutputName, TO)),
    ]
}

/// A rule without effect about connections whose addresses are rewritten.
pub(crate) fn any_translated() -> Rule {
    join([ct(CtKey::Status, 32), vec![verdict(Verdict::Return)]])
}

/// The chains of one bridge; those without a rule are left out.
pub(crate) fn bridge_chains(b: &BridgeRules) -> Vec<BridgeChain> {
    let chain = |map: &'static str, rules: Vec<Rule>| BridgeChain {
        map,
        name: format!("{}{}", prefix(map), b.device),
        rules,
    };
    let elsewhere = device(MetaKey::OutputName, b, true);
    let mut inside = Vec::new();
    if b.is_internal() {
        inside.extend(unfiltered(b));
        inside.push(join([elsewhere, vec![verdict(Verdict::Drop)]]));
    }
    let mut chains = vec![
        chain(FROM, inside),
        chain(TO, to_bridge(b)),
        chain(LEAVE_FROM, leave_from_bridge(b)),
        chain(LEAVE_TO, leave_to_bridge(b)),
    ];
    chains.retain(|c| !c.rules.is_empty());
    chains
}

fn prefix(map: &str) -> &'static str {
    DISPATCH.iter().find(|(m, _)| *m == map).map_or("", |(_, prefix)| prefix)
}

/// What is forwarded to the bridge's containers.
fn to_bridge(b: &BridgeRules) -> Vec<Rule> {
    let accept = || vec![verdict(Verdict::Accept)];
    let mut rules: Vec<Rule> = unfiltered(b).collect();
    if !b.is_internal() {
        rules.push(join([ct(CtKey::Status, 32), accept()]));
    }
    let routed = || b.families().filter(|(_, _, mode, _)| *mode == GatewayMode::Routed).map(|f| f.0);
    for (family, _, mode, _) in b.families() {
        match &b.direct {
            _ if mode == GatewayMode::Routed => rules.push(join([open_port(family), accept()])),
            DirectRouting::Everybody => rules.push(join([open_port(family), accept()])),
            DirectRouting::Interfaces(trusted) => rules.extend(trusted.iter().map(|name| {
                let from = interface(MetaKey::InputName, name, false);
                join([from, open_port(family), accept()])
            })),
        }
    }
    let own = if b.icc { Verdict::Accept } else { Verdict::Drop };
    rules.push(join([device(MetaKey::InputName, b, false), vec![verdict(own)]]));
    for family in routed() {
        // A routed address is to be found: errors and echo requests, as in Docker.
        let number = if family == AddressFamily::Ipv4 { 1 } else { 58 };
        let icmp = vec![Expr::Meta { key: MetaKey::Transport, to: REG_1 }, equals(&[number])];
        rules.push(join([icmp, accept()]));
    }
    for (family, ..) in b.families().filter(|(_, _, mode, _)| *mode == GatewayMode::NatUnprotected) {
        rules.push(join([of_family(family), accept()]));
    }
    rules.push(vec![verdict(Verdict::Drop)]);
    rules
}

/// Lets packets of the families alone that there are no rules for.
fn unfiltered(b: &BridgeRules) -> impl Iterator<Item = Rule> {
    let families = [AddressFamily::Ipv4, AddressFamily::Ipv6];
    let without = families.into_iter().filter(|family| !b.filtered.of(*family));
    without.map(|family| join([of_family(family), vec![verdict(Verdict::Return)]]))
}

/// Whose address what leaves to the bridge's containers gets.
fn leave_to_bridge(b: &BridgeRules) -> Vec<Rule> {
    let loopback = Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8).into();
    let mut rules = Vec::new();
    for (family, subnet, mode, _) in b.families() {
        if family == AddressFamily::Ipv4 {
            rules.push(join([from(loopback), vec![Expr::Masquerade]]));
        }
        if mode != GatewayMode::Routed {
            rules.push(join([from(subnet), ct(CtKey::Status, 32), vec![Expr::Masquerade]]));
        }
    }
    rules
}

/// Whose address what the bridge's containers send to the outside gets.
fn leave_from_bridge(b: &BridgeRules) -> Vec<Rule> {
    let nat = |mode| matches!(mode, GatewayMode::Nat | GatewayMode::NatUnprotected);
    let masqueraded = b.families().filter(|(_, _, mode, on)| *on && nat(*mode) && !b.is_internal());
    masqueraded
        .map(|(family, subnet, ..)| {
            let rewritten = match b.source.of(family) {
                Some(source) => {
                    let value = octets(source);
                    vec![Expr::Load { value, to: REG_1 }, Expr::Snat { family, address: REG_1 }]
                }
                None => vec![Expr::Masquerade],
            };
            join([device(MetaKey::OutputName, b, true), from(subnet), rewritten])
        })
        .collect()
}

fn dispatch(key: MetaKey, map: &'static str) -> Rule {
    vec![Expr::Meta { key, to: REG_1 }, Expr::Dispatch { map, from: REG_1 }]
}

fn of_family(family: AddressFamily) -> Rule {
    vec![Expr::Meta { key: MetaKey::Family, to: REG_1 }, equals(&[family.number()])]
}

/// Loads the packet's destination, its protocol and its destination port as one key into register 1 and, for IPv6, 2.
fn destination_key(family: AddressFamily) -> Rule {
    let (load, next, last) = match family {
        AddressFamily::Ipv4 => (destination(IpNet::V4(Ipv4Net::default())), REG_1_1, REG_1_2),
        AddressFamily::Ipv6 => (destination(IpNet::V6(Ipv6Net::default())), REG_2, REG_2_1),
    };
    join([of_family(family), vec![load, Expr::Meta { key: MetaKey::Transport, to: next }, port_to(last)]])
}

fn port_to(register: u32) -> Expr {
    Expr::Payload { base: Base::Transport, offset: 2, len: 2, to: register }
}

fn publish_on_address(family: AddressFamily) -> Rule {
    let map = if family == AddressFamily::Ipv4 { ADDRESS } else { ADDRESS6 };
    join([destination_key(family), rewrite(family, map)])
}

fn publish_on_any(family: AddressFamily) -> Rule {
    let map = if family == AddressFamily::Ipv4 { ANY } else { ANY6 };
    let key = vec![Expr::Meta { key: MetaKey::Transport, to: REG_1 }, port_to(REG_1_1)];
    join([of_family(family), key, rewrite(family, map)])
}

fn rewrite(family: AddressFamily, map: &'static str) -> Rule {
    let port = if family == AddressFamily::Ipv4 { REG_1_1 } else { REG_2 };
    vec![Expr::Lookup { map, from: REG_1, to: REG_1 }, Expr::Dnat { family, address: REG_1, port }]
}

fn open_port(family: AddressFamily) -> Rule {
    let set = if family == AddressFamily::Ipv4 { OPEN } else { OPEN6 };
    join([destination_key(family), vec![Expr::Member { set, from: REG_1 }]])
}

fn join<const N: usize>(parts: [Rule; N]) -> Rule {
    parts.into_iter().flatten().collect()
}

fn verdict(verdict: Verdict) -> Expr {
    Expr::Verdict(verdict)
}

fn equals(value: &[u8]) -> Expr {
    Expr::Compare { register: REG_1, value: value.to_vec(), not: false }
}

/// The packet comes in by, or leaves by, the bridge (or leaves by anything else).
fn device(key: MetaKey, bridge: &BridgeRules, not: bool) -> Rule {
    interface(key, &bridge.device, not)
}

fn interface(key: MetaKey, name: &str, not: bool) -> Rule {
    let value = interface_key(name);
    vec![Expr::Meta { key, to: REG_1 }, Expr::Compare { register: REG_1, value, not }]
}

/// The name of an interface as sets and rules have it: IFNAMSIZ bytes, padded with NULs.
pub(crate) fn interface_key(device: &str) -> Vec<u8> {
    let mut name = device.as_bytes().to_vec();
    name.resize(16, 0);
    name
}

/// One of the bits is set; the kernel keeps both masks in host byte order.
fn ct(key: CtKey, bits: u32) -> Rule {
    vec![
        Expr::Ct { key, to: REG_1 },
        Expr::Mask { register: REG_1, mask: bits.to_ne_bytes().to_vec() },
        Expr::Compare { register: REG_1, value: vec![0; 4], not: true },
    ]
}

/// Loads the packet's source, of the family `net` is of.
fn source(net: IpNet) -> Expr {
    match net {
        IpNet::V4(_) => Expr::Payload { base: Base::Network, offset: 12, len: 4, to: REG_1 },
        IpNet::V6(_) => Expr::Payload { base: Base::Network, offset: 8, len: 16, to: REG_1 },
    }
}

/// As [`source`], the destination.
fn destination(net: IpNet) -> Expr {
    match net {
        IpNet::V4(_) => Expr::Payload { base: Base::Network, offset: 16, len: 4, to: REG_1 },
        IpNet::V6(_) => Expr::Payload { base: Base::Network, offset: 24, len: 16, to: REG_1 },
    }
}

fn from(net: IpNet) -> Rule {
    address_in(source(net), net)
}

fn to(net: IpNet) -> Rule {
    address_in(destination(net), net)
}

/// The packet is of the family of `net`, and the address loaded lies in it.
fn address_in(load: Expr, net: IpNet) -> Rule {
    let family = match net {
        IpNet::V4(_) => AddressFamily::Ipv4,
        IpNet::V6(_) => AddressFamily::Ipv6,
    };
    let address = octets(net.network());
    if net.prefix_len() == net.max_prefix_len() {
        return join([of_family(family), vec![load, equals(&address)]]);
    }
    let mask = octets(net.netmask());
    join([of_family(family), vec![load, Expr::Mask { register: REG_1, mask }, equals(&address)]])
}

pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bridge(icc: bool, masquerade: bool) -> BridgeRules {
        BridgeRules {
            device: "br0".to_owned(),
            ipv4: "172.17.0.0/16".parse().ok(),
            ipv6: None,
            icc,
            masquerade: PerFamily { ipv4: masquerade, ipv6: masquerade },
            source: PerFamily::default(),
            internal: false,
            mode: PerFamily::default(),
            direct: DirectRouting::default(),
            filtered: PerFamily { ipv4: true, ipv6: true },
        }
    }

    #[test]
    fn every_bridge_ends_with_a_drop_and_options_add_rules() {
        let (open, closed) = (bridge(true, true), bridge(false, false));
        let rules = |b: &BridgeRules, map: &str| {
            bridge_chains(b).into_iter().find(|c| c.map == map).map(|c| c.rules).unwrap_or_default()
        };
        assert_eq!((rules(&open, LEAVE_FROM).len(), rules(&closed, LEAVE_FROM).len()), (1, 0));
        let internal = BridgeRules { internal: true, ..bridge(true, true) };
        assert_eq!((rules(&internal, FROM).len(), rules(&open, FROM).len()), (1, 0));
        assert_eq!(rules(&internal, LEAVE_FROM).len(), 0);
        let both = BridgeRules { ipv6: "fd00::/64".parse().ok(), ..bridge(true, true) };
        assert_eq!((rules(&both, LEAVE_FROM).len(), rules(&both, LEAVE_TO).len()), (2, 3));
        let routed = BridgeRules {
            mode: PerFamily { ipv4: GatewayMode::Nat, ipv6: GatewayMode::Routed },
            ..both.clone()
        };
        assert_eq!((rules(&routed, LEAVE_FROM).len(), rules(&routed, LEAVE_TO).len()), (1, 2));
        assert_eq!(rules(&routed, TO).len(), rules(&both, TO).len() + 2);
        let trusted = DirectRouting::Interfaces(vec!["eth0".to_owned(), "eth1".to_owned()]);
        let trusting = BridgeRules { direct: trusted, ..both.clone() };
        assert_eq!(rules(&trusting, TO).len(), rules(&both, TO).len() + 4);
        let only_ipv4 = BridgeRules { filtered: PerFamily { ipv4: true, ipv6: false }, ..both.clone() };
        assert_eq!((rules(&only_ipv4, LEAVE_FROM).len(), rules(&only_ipv4, LEAVE_TO).len()), (1, 2));
        assert_eq!(rules(&only_ipv4, TO)[0].last(), Some(&Expr::Verdict(Verdict::Return)));
        for b in [&open, &closed, &internal, &both, &routed, &trusting, &only_ipv4] {
            let rules = rules(b, TO);
            assert_eq!(rules.last().unwrap(), &[Expr::Verdict(Verdict::Drop)]);
        }
        assert_eq!(bridge_chains(&open)[0].name, "to-br0");
    }
}
