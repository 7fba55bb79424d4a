//! IPv6: addresses, ways out, packets.

use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv6Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use ferry_sys::netlink::route::{self, LinkRef};
use ferry_sys::netlink::{Batch, Protocol as Family, Socket};

use super::support::*;
use crate::{
    BridgeConfig, BridgeNetwork, ChildKind, Endpoint, EndpointRequest, GatewayMode, MacvlanMode,
    NetworkError, ParentConfig, ParentNetwork, Subnet6, Ways,
};

const GATEWAY6: &str = "fd00:213::1";

fn at6(bridge: &str) -> Option<Subnet6> {
    bridge.parse().ok().map(Subnet6::at)
}

fn dual() -> BridgeConfig {
    BridgeConfig { ipv6: at6("fd00:213::1/64"), ..config() }
}

fn v6(endpoint: &Endpoint) -> Ipv6Addr {
    endpoint.record.ipv6.expect("an IPv6 address")
}

fn serve(netns: &OwnedFd, port: u16) {
    let listener = inside(netns, || TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap());
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let Ok(mut client) = client else { return };
            let who = client.peer_addr().map(|a| a.ip().to_string()).unwrap_or_default();
            let _ = client.write_all(who.as_bytes());
        }
    });
}

#[test]
fn containers_reach_each_other_and_the_host_at_once() {
    on_a_host(|| {
        let stack = stack(2);
        let bridge = BridgeNetwork::open(&stack, dual()).unwrap();
        let (a, b) = (container(&bridge, vec![]), container(&bridge, vec![]));
        let record = &a.record;
        assert_eq!((record.prefix6, record.gateway6), (64, GATEWAY6.parse().ok()));
        assert_eq!((v6(&a).to_string(), v6(&b).to_string()), ("fd00:213::2".into(), "fd00:213::3".into()));
        serve(&a.sandbox.netns, 80);
        // No address is being searched for duplicates: the first packet gets through.
        let said = inside(&b.sandbox.netns, || ask_tcp((v6(&a), 80)));
        assert_eq!(said, v6(&b).to_string());
        assert_eq!(ask_tcp((v6(&a), 80)), GATEWAY6);
        let host = TcpListener::bind((GATEWAY6.parse::<Ipv6Addr>().unwrap(), 9)).unwrap();
        inside(&b.sandbox.netns, || TcpStream::connect((GATEWAY6, 9)).unwrap());
        assert_eq!(host.accept().unwrap().1.ip(), IpAddr::V6(v6(&b)));
        // By the address of the link, too.
        let link = inside(&a.sandbox.netns, || {
            let addresses = fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap();
            addresses.lines().filter(|l| l.ends_with("eth0")).map(str::to_owned).collect::<Vec<_>>()
        });
        assert_eq!(link.len(), 2, "{link:?}");
        assert!(link.iter().any(|l| l.starts_with("fe8000000000000000420afffed50002")), "{link:?}");
        // IFA_F_PERMANENT, IFA_F_NODAD
        assert!(link.iter().all(|l| l.split_whitespace().nth(4) == Some("82")), "{link:?}");
    });
}

#[test]
fn settings_of_interfaces_follow_the_network() {
    on_a_host(|| {
        let stack = stack(1);
        let bridge = BridgeNetwork::open(&stack, dual()).unwrap();
        let plain_config = BridgeConfig { ipv4: at("10.214.0.1/24"), ..BridgeConfig::new("ferry1") };
        let plain = BridgeNetwork::open(&stack, plain_config).unwrap();
        let setting = |interface: &str, name: &str| {
            fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{interface}/{name}"))
                .unwrap()
                .trim()
                .to_owned()
        };
        assert_eq!(setting("all", "forwarding"), "1");
        assert_eq!(
            (setting("ferry0", "accept_ra"), setting("ferry1", "accept_ra")),
            ("0".into(), "0".into())
        );
        let a = container(&bridge, vec![]);
        let joined = plain.join(a.sandbox.netns.as_fd(), &request(vec![])).unwrap();
        inside(&a.sandbox.netns, || {
            assert_eq!(setting("eth0", "accept_ra"), "0");
            assert_eq!(
                (setting("eth0", "disable_ipv6"), setting("eth1", "disable_ipv6")),
                ("0".into(), "1".into())
            );
        });
        assert_eq!((joined.record.ipv6, joined.record.gateway6, joined.record.prefix6), (None, None, 0));
        let host_veth = &a.record.host_veth;
        let addresses = fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap();
        assert!(!addresses.contains(host_veth.as_str()), "{addresses}");
    });
}

#[test]
fn a_host_that_learns_its_routes_goes_on_learning() {
    on_a_host(|| {
        let _outside = neighbour();
        let setting = "/proc/sys/net/ipv6/conf/uplink/accept_ra";
        let status = std::process::Command::new("ip")
            .args(["-6", "route", "add", "default", "dev", "uplink", "proto", "ra"])
            .status();
        // Without iproute2 nothing is to be seen.
        if !status.is_ok_and(|s| s.success()) {
            return;
        }
        assert_eq!(fs::read_to_string(setting).unwrap().trim(), "1");
        let stack = stack(0);
        let _bridge = BridgeNetwork::open(&stack, dual()).unwrap();
        assert_eq!(fs::read_to_string(setting).unwrap().trim(), "2");
    });
}

#[test]
fn only_ipv6() {
    on_a_host(|| {
        fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        let stack = stack(1);
        let config = BridgeConfig { ipv4: None, ..dual() };
        let bridge = BridgeNetwork::open(&stack, config).unwrap();
        let (a, b) = (container(&bridge, vec![]), container(&bridge, vec![]));
        assert_eq!((a.record.ipv4, a.record.gateway, a.record.prefix), (None, None, 0));
        assert_eq!(a.record.mac, [0x02, 0x42, 0, 0, 0, 2]);
        serve(&a.sandbox.netns, 80);
        assert_eq!(inside(&b.sandbox.netns, || ask_tcp((v6(&a), 80))), v6(&b).to_string());
        // Forwarding of IPv4 is none of its business.
        assert_eq!(fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap().trim(), "0");
    });
}

#[test]
fn fixed_addresses_are_checked_and_reused() {
    on_a_host(|| {
        let stack = stack(0);
        let config = BridgeConfig { ipv6: at6("fd00:213::1/126"), ..config() };
        let bridge = BridgeNetwork::open(&stack, config).unwrap();
        let fixed =
            |address: &str| bridge.attach(&EndpointRequest { ipv6: address.parse().ok(), ..request(vec![]) });
        let a = fixed("fd00:213::3").unwrap();
        for taken in ["fd00:213::3", "fd00:213::1", "fd00:213::"] {
            assert!(matches!(fixed(taken).unwrap_err(), NetworkError::AddressInUse(_)), "{taken}");
        }
        assert!(matches!(fixed("fd00:214::3").unwrap_err(), NetworkError::AddressOutside { .. }));
        let b = container(&bridge, vec![]);
        assert_eq!((v6(&b).to_string().as_str(), v4(&b).octets()[3]), ("fd00:213::2", 3));
        let spent = bridge.attach(&request(vec![])).unwrap_err().to_string();
        assert!(
            spent.starts_with("no available IPv6 addresses on this network's address pools: bridge ("),
            "{spent}"
        );
        // What failed kept nothing of the other family.
        let plain = EndpointRequest { without_ipv6: true, ..request(vec![]) };
        let c = bridge.attach(&plain).unwrap();
        assert_eq!((v4(&c).octets()[3], c.record.ipv6), (4, None));
        bridge.release(&a.record).unwrap();
        assert_eq!(v6(&container(&bridge, vec![])).to_string(), "fd00:213::3");
    });
}

#[test]
fn endpoints_survive_a_restart() {
    on_a_host(|| {
        let stack = stack(0);
        let bridge = BridgeNetwork::open(&stack, dual()).unwrap();
        let (a, b) = (container(&bridge, vec![]), container(&bridge, vec![]));
        drop(bridge);
        let bridge = BridgeNetwork::open(&stack, dual()).unwrap();
        let text = serde_json::to_string(&[&a.record, &b.record]).unwrap();
        let mut records: Vec<crate::EndpointRecord> = serde_json::from_str(&text).unwrap();
        // Somebody else says he has the other one's address.
        let mut liar = records[1].clone();
        liar.endpoint = ferry_types::EndpointId::random();
        liar.ipv4 = "10.213.0.9".parse().ok();
        records.push(liar);
        let report = bridge.adopt(&records).unwrap();
        assert_eq!((report.adopted, report.conflicting.len()), (2, 1));
        let c = container(&bridge, vec![]);
        assert_eq!((v6(&c).to_string().as_str(), v4(&c).octets()[3]), ("fd00:213::4", 4));
        serve(&a.sandbox.netns, 80);
        assert_eq!(inside(&c.sandbox.netns, || ask_tcp((v6(&a), 80))), v6(&c).to_string());
    });
}

#[test]
fn each_family_has_its_own_way_out() {
    on_a_host(|| {
        let stack = stack(0);
        let four = BridgeNetwork::open(&stack, config()).unwrap();
        let six = BridgeConfig {
            ipv6: at6("fd00:214::1/64"),
            network: "six".into(),
            ..BridgeConfig::new("br-six")
        };
        let six = BridgeNetwork::open(&stack, six).unwrap();
        let a = container(&four, vec![]);
        let joined = six.join(a.sandbox.netns.as_fd(), &request(vec![])).unwrap();
        let routes =
            || inside(&a.sandbox.netns, || fs::read_to_string("/proc/thread-self/net/ipv6_route").unwrap());
        let default = |routes: &str| {
            let is_default =
                |l: &&str| l.starts_with(&format!("{:0>32} 00 ", 0)) && !l.trim_end().ends_with("lo");
            routes
                .lines()
                .filter(is_default)
                .map(|l| l.trim_end().rsplit(' ').next().unwrap_or_default().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(default(&routes()), ["eth1"]);
        // A network of both takes both over, and gives them back.
        let both = BridgeConfig {
            ipv4: at("10.215.0.1/24"),
            ipv6: at6("fd00:215::1/64"),
            ..BridgeConfig::new("br-both")
        };
        let both = BridgeNetwork::open(&stack, both).unwrap();
        let nowhere = EndpointRequest { default_route: Ways::default(), ..request(vec![]) };
        let third = both.join(a.sandbox.netns.as_fd(), &nowhere).unwrap();
        assert_eq!(default(&routes()), ["eth1"]);
        let ways = Ways { ipv4: true, ipv6: true };
        both.route_through(a.sandbox.netns.as_fd(), &third.record, ways).unwrap();
        assert_eq!(default(&routes()), ["eth2"]);
        six.route_through(a.sandbox.netns.as_fd(), &joined.record, ways).unwrap();
        assert_eq!(default(&routes()), ["eth1"]);
    });
}

#[test]
fn an_isolated_bridge_has_no_address() {
    on_a_host(|| {
        let stack = stack(0);
        let alone = |subnet: Subnet6| Subnet6 { bridge: None, gateway: None, ..subnet };
        let config = BridgeConfig {
            ipv4: None,
            ipv6: at6("fd00:213::1/64").map(alone),
            internal: true,
            gateway_mode_ipv6: GatewayMode::Isolated,
            ..BridgeConfig::new("ferry0")
        };
        let bridge = BridgeNetwork::open(&stack, config).unwrap();
        let (a, b) = (container(&bridge, vec![]), container(&bridge, vec![]));
        assert_eq!((v6(&a).to_string().as_str(), a.record.gateway6), ("fd00:213::1", None));
        serve(&a.sandbox.netns, 80);
        assert_eq!(inside(&b.sandbox.netns, || ask_tcp((v6(&a), 80))), v6(&b).to_string());
        let addresses = fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap();
        assert!(!addresses.contains("ferry0"), "{addresses}");
    });
}

/// Who had the address before had another hardware address; the neighbours are told.
#[test]
fn neighbours_learn_of_a_new_owner_at_once() {
    on_a_host(|| {
        let stack = stack(0);
        let bridge = BridgeNetwork::open(&stack, dual()).unwrap();
        let asking = container(&bridge, vec![]);
        let with_mac = |last: u8| EndpointRequest {
            mac: Some([2, 0, 0, 0, 0, last]),
            ipv4: "10.213.0.77".parse().ok(),
            ipv6: "fd00:213::77".parse().ok(),
            ..request(vec![])
        };
        let first = bridge.attach(&with_mac(1)).unwrap();
        serve(&first.sandbox.netns, 80);
        inside(&asking.sandbox.netns, || {
            ask_tcp((v6(&first), 80));
            ask_tcp((v4(&first), 80));
        });
        bridge.release(&first.record).unwrap();
        let second = bridge.attach(&with_mac(2)).unwrap();
        serve(&second.sandbox.netns, 80);
        inside(&asking.sandbox.netns, || {
            for address in [IpAddr::V6(v6(&second)), IpAddr::V4(v4(&second))] {
                // What is known of a neighbour is believed for 15 seconds at least.
                let connected = TcpStream::connect_timeout(&(address, 80).into(), Duration::from_secs(8));
                connected.unwrap_or_else(|e| panic!("{address}: {e}"));
            }
        });
    });
}

const HOST6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const NEIGHBOUR6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);

/// The neighbour with an address of IPv6, too, which routes everything through the host.
fn neighbour6() -> OwnedFd {
    let netns = neighbour();
    let give = |interface: &str, address: Ipv6Addr, router: Option<Ipv6Addr>| {
        let mut socket = Socket::open(Family::Route).unwrap();
        let index = route::link(&mut socket, LinkRef::Name(interface)).unwrap().unwrap().index;
        let mut batch = Batch::new();
        route::add_address(&mut batch, index, address, 64);
        if let Some(router) = router {
            route::add_default_route(&mut batch, index, router);
        }
        socket.execute(batch).unwrap();
    };
    give("uplink", HOST6, None);
    inside(&netns, || give("eth0", NEIGHBOUR6, Some(HOST6)));
    netns
}

#[test]
fn the_outside_sees_the_host_and_reaches_published_ports_only() {
    on_a_host(|| {
        let stack = stack(0);
        let outside = neighbour6();
        let bridge = BridgeNetwork::open(&stack, dual()).unwrap();
        let web = container(&bridge, vec![tcp(8080, 80)]);
        for port in [80, 81] {
            serve(&web.sandbox.netns, port);
        }
        serve(&outside, 443);
        let c = &web.sandbox.netns;
        assert_eq!(inside(c, || ask_tcp((NEIGHBOUR6, 443))), HOST6.to_string());
        // Clients keep their addresses.
        assert_eq!(inside(&outside, || ask_tcp((HOST6, 8080))), NEIGHBOUR6.to_string());
        for port in [80, 81] {
            inside(&outside, || assert_no_tcp((v6(&web), port)));
        }
        // A container of the bridge comes back through it.
        let other = container(&bridge, vec![]);
        assert_eq!(inside(&other.sandbox.netns, || ask_tcp((HOST6, 8080))), GATEWAY6);
        bridge.release(&web.record).unwrap();
        inside(&outside, || assert_no_tcp((HOST6, 8080)));
    });
}

#[test]
fn routed_containers_are_reached_at_their_own_addresses() {
    on_a_host(|| {
        let stack = stack(0);
        let outside = neighbour6();
        let config = BridgeConfig { gateway_mode_ipv6: GatewayMode::Routed, ..dual() };
        let bridge = BridgeNetwork::open(&stack, config).unwrap();
        let web = container(&bridge, vec![tcp(8080, 80)]);
        for port in [80, 81] {
            serve(&web.sandbox.netns, port);
        }
        serve(&outside, 443);
        assert_eq!(inside(&web.sandbox.netns, || ask_tcp((NEIGHBOUR6, 443))), v6(&web).to_string());
        assert_eq!(inside(&outside, || ask_tcp((v6(&web), 80))), NEIGHBOUR6.to_string());
        inside(&outside, || assert_no_tcp((v6(&web), 81)));
    });
}

#[test]
fn on_a_parent_interface() {
    on_a_host(|| {
        let macvlan = ChildKind::Macvlan(MacvlanMode::Bridge);
        let mut socket = Socket::open(Family::Route).unwrap();
        if !ferry_sys::netlink::child::has_kind(&mut socket, macvlan.name()).unwrap() {
            return;
        }
        let _outside = neighbour();
        let subnet = at6("fd00:213::1/64").map(|s| Subnet6 { bridge: None, ..s });
        let config = ParentConfig {
            ipv4: Vec::new(),
            ipv6: subnet.into_iter().collect(),
            ..on_parent(Some("uplink"), macvlan)
        };
        let network = ParentNetwork::open(&stack(0), config).unwrap();
        let (a, b) = (network.attach(&request(vec![])).unwrap(), network.attach(&request(vec![])).unwrap());
        assert_eq!((a.record.ipv4, v6(&a).to_string().as_str()), (None, "fd00:213::2"));
        assert_eq!(a.record.gateway6, GATEWAY6.parse().ok());
        serve(&a.sandbox.netns, 80);
        assert_eq!(inside(&b.sandbox.netns, || ask_tcp((v6(&a), 80))), v6(&b).to_string());
        let routes =
            inside(&a.sandbox.netns, || fs::read_to_string("/proc/thread-self/net/ipv6_route").unwrap());
        assert!(routes.contains("fd000213000000000000000000000001"), "{routes}");
    });
}

#[test]
fn link_local_addresses_are_given_besides() {
    on_a_host(|| {
        let stack = stack(0);
        let bridge = BridgeNetwork::open(&stack, dual()).unwrap();
        let wanted: Vec<IpAddr> = vec!["169.254.9.9".parse().unwrap(), "fe80::9".parse().unwrap()];
        let a = bridge.attach(&EndpointRequest { link_local: wanted, ..request(vec![]) }).unwrap();
        let b = bridge
            .attach(&EndpointRequest { link_local: vec!["169.254.9.8".parse().unwrap()], ..request(vec![]) });
        let b = b.unwrap();
        serve_tcp(&a.sandbox.netns, 80, "a");
        assert_eq!(inside(&b.sandbox.netns, || ask_tcp(([169, 254, 9, 9], 80))), "a 169.254.9.8");
        inside(&a.sandbox.netns, || {
            let addresses = fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap();
            assert!(addresses.contains("fe800000000000000000000000000009"), "{addresses}");
        });
    });
}
