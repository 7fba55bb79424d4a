//! What neighbours are told of a container's addresses, and by which address the outside knows it.

use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use ferry_sys::netlink::child;
use ferry_sys::netlink::route::{self, LinkRef};
use ferry_sys::netlink::{Batch, Protocol as Family, Socket};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType};

use super::support::*;
use crate::{
    Announcements, BridgeConfig, BridgeNetwork, ChildKind, MacvlanMode, ParentConfig, ParentNetwork, Subnet4,
};

/// A socket that gets every ARP packet of a namespace.
fn arp(netns: &OwnedFd) -> OwnedFd {
    // ETH_P_ARP, in network byte order (packet(7)).
    let protocol = NonZeroU32::new(u32::from(0x0806_u16.to_be())).map(Protocol::from_raw);
    inside(netns, || {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        rustix::net::socket_with(AddressFamily::PACKET, SocketType::DGRAM, flags, protocol).unwrap()
    })
}

/// How many packets of these told that the sender has `address`, asking for the same (RFC 5227 section 3).
fn announced(socket: &OwnedFd, address: std::net::Ipv4Addr, within: Duration) -> usize {
    let begin = Instant::now();
    let mut count = 0;
    while begin.elapsed() < within {
        let mut packet = [0_u8; 64];
        match rustix::net::recv(socket, &mut packet, RecvFlags::empty()) {
            Ok(_) => {
                let is = |at: usize| packet[at..at + 4] == address.octets();
                count += usize::from(is(14) && is(24));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
    count
}

fn times(times: u8) -> Option<Announcements> {
    Some(Announcements { times, interval: Duration::from_millis(100) })
}

#[test]
fn neighbours_are_told_as_often_as_asked_for() {
    on_a_host(|| {
        let stack = stack(2);
        for (number, wanted) in [(1, 3), (2, 0), (3, 1)] {
            let config = BridgeConfig {
                ipv4: at(&format!("10.213.{number}.1/24")),
                announcements: times(wanted),
                ..BridgeConfig::new(&format!("ferry{number}"))
            };
            let bridge = BridgeNetwork::open(&stack, config).unwrap();
            let listener = container(&bridge, vec![]);
            let socket = arp(&listener.sandbox.netns);
            announced(&socket, v4(&listener), Duration::from_millis(500));
            let loud = container(&bridge, vec![]);
            assert_eq!(announced(&socket, v4(&loud), Duration::from_millis(600)), usize::from(wanted));
            // One that is gone is not told of any more.
            let brief = container(&bridge, vec![]);
            bridge.release(&brief.record).unwrap();
            assert!(announced(&socket, v4(&brief), Duration::from_millis(400)) <= 1);
        }
    });
}

#[test]
fn neighbours_on_a_parent_are_told_as_often_as_asked_for() {
    on_a_host(|| {
        let kind = ChildKind::Macvlan(MacvlanMode::Bridge);
        if !child::has_kind(&mut Socket::open(Family::Route).unwrap(), kind.name()).unwrap() {
            return say("skipped: the kernel has no macvlan");
        }
        let _outside = neighbour();
        for wanted in [0, 1, 3] {
            let config = ParentConfig { announcements: times(wanted), ..on_parent(Some("uplink"), kind) };
            let network = ParentNetwork::open(&stack(0), config).unwrap();
            let listener = network.attach(&request(vec![])).unwrap();
            let socket = arp(&listener.sandbox.netns);
            announced(&socket, v4(&listener), Duration::from_millis(500));
            let loud = network.attach(&request(vec![])).unwrap();
            assert_eq!(announced(&socket, v4(&loud), Duration::from_millis(600)), usize::from(wanted));
        }
    });
}

#[test]
fn containers_on_a_parent_have_the_router_of_their_subnet() {
    on_a_host(|| {
        let kind = ChildKind::Macvlan(MacvlanMode::Bridge);
        if !child::has_kind(&mut Socket::open(Family::Route).unwrap(), kind.name()).unwrap() {
            return say("skipped: the kernel has no macvlan");
        }
        let _outside = neighbour();
        let subnet = |net: &str| at(net).map(|s| Subnet4 { bridge: None, ..s });
        let ipv4 = [subnet("10.213.0.1/24"), subnet("10.214.0.9/16")].into_iter().flatten().collect();
        let config = ParentConfig { ipv4, ..on_parent(Some("uplink"), kind) };
        let stack = stack(0);
        let network = ParentNetwork::open(&stack, config.clone()).unwrap();
        let first = network.attach(&request(vec![])).unwrap();
        assert_eq!((v4(&first).octets(), first.record.prefix), ([10, 213, 0, 2], 24));
        let fixed = crate::EndpointRequest { ipv4: "10.214.5.5".parse().ok(), ..request(vec![]) };
        let second = network.attach(&fixed).unwrap();
        assert_eq!((second.record.prefix, second.record.gateway), (16, "10.214.0.9".parse().ok()));
        let gateways = inside(&second.sandbox.netns, || {
            let routes = route::routes(&mut Socket::open(Family::Route).unwrap()).unwrap();
            routes.iter().filter(|r| r.prefix == 0).count()
        });
        assert_eq!(gateways, 1);
        // The next engine knows whose they are.
        drop(network);
        let network = ParentNetwork::open(&stack, config).unwrap();
        network.adopt(&[first.record.clone(), second.record.clone()]).unwrap();
        assert_eq!(network.attach(&fixed).unwrap_err().to_string(), "Address already in use");
    });
}

#[test]
fn the_outside_sees_the_address_that_was_chosen() {
    with_each_backend(|| {
        let stack = stack(0);
        let outside = neighbour();
        serve_tcp(&outside, 80, "hello");
        let chosen: std::net::Ipv4Addr = "192.0.2.77".parse().unwrap();
        let mut socket = Socket::open(Family::Route).unwrap();
        let uplink = route::link(&mut socket, LinkRef::Name("uplink")).unwrap().unwrap().index;
        let mut batch = Batch::new();
        route::add_address(&mut batch, uplink, chosen, 24);
        socket.execute(batch).unwrap();
        let said = |config: BridgeConfig| {
            let bridge = BridgeNetwork::open(&stack, config).unwrap();
            let client = container(&bridge, vec![]);
            let said = inside(&client.sandbox.netns, || ask_tcp((NEIGHBOUR, 80)));
            bridge.release(&client.record).unwrap();
            bridge.destroy().unwrap();
            said
        };
        assert_eq!(said(config()), format!("hello {HOST}"));
        assert_eq!(said(BridgeConfig { source_ipv4: Some(chosen), ..config() }), format!("hello {chosen}"));
    });
}
