//! Several networks on one host, several networks of one container, names.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::AsFd;

use super::support::*;
use crate::{BridgeConfig, BridgeNetwork, EndpointRequest, NetworkStack, StackConfig, Ways, name_sockets};

const EVERY_WAY: Ways = Ways { ipv4: true, ipv6: true };

fn second(stack: &NetworkStack, internal: bool) -> BridgeNetwork {
    let config = BridgeConfig {
        ipv4: at("10.214.0.1/24"),
        internal,
        pool_size: Some(0),
        network: "second".to_owned(),
        ..BridgeConfig::new("br-second")
    };
    BridgeNetwork::open(stack, config).unwrap()
}

fn further() -> EndpointRequest {
    EndpointRequest { default_route: Ways::default(), ..request(vec![]) }
}

#[test]
fn networks_are_apart_and_a_container_may_be_on_both() {
    with_each_backend(|| {
        let (stack, bridge) = bridge();
        let other = second(&stack, false);
        let (a, b) = (container(&bridge, vec![]), container(&other, vec![]));
        serve_tcp(&a.sandbox.netns, 80, "a");
        serve_tcp(&b.sandbox.netns, 80, "b");
        inside(&a.sandbox.netns, || assert_no_tcp((v4(&b), 80)));
        inside(&b.sandbox.netns, || assert_no_tcp((v4(&a), 80)));

        let joined = other.join(a.sandbox.netns.as_fd(), &further()).unwrap();
        assert_eq!((a.record.interface.as_str(), joined.record.interface.as_str()), ("eth0", "eth1"));
        assert_eq!(joined.record.netns_inode, a.record.netns_inode);
        let said = inside(&a.sandbox.netns, || ask_tcp((v4(&b), 80)));
        assert_eq!(said, format!("b {}", v4(&joined)));
        let said = inside(&b.sandbox.netns, || ask_tcp((v4(&joined), 80)));
        assert_eq!(said, format!("a {}", v4(&b)));

        other.release(&joined.record).unwrap();
        other.flush();
        inside(&a.sandbox.netns, || assert_no_tcp((v4(&b), 80)));
        let again = other.join(a.sandbox.netns.as_fd(), &further()).unwrap();
        assert_eq!((again.record.interface.clone(), v4(&again)), ("eth1".to_owned(), v4(&joined)));
    });
}

#[test]
fn an_internal_network_has_no_way_out_until_another_is_joined() {
    with_each_backend(|| {
        let outside = neighbour();
        serve_tcp(&outside, 80, "outside");
        let (stack, bridge) = bridge();
        let internal = second(&stack, true);
        let (a, b) = (container(&internal, vec![]), container(&internal, vec![]));
        serve_tcp(&b.sandbox.netns, 80, "b");
        inside(&a.sandbox.netns, || {
            assert_eq!(ask_tcp((v4(&b), 80)), format!("b {}", v4(&a)));
            assert_no_tcp((NEIGHBOUR, 80));
        });
        // Even with a route of its own making.
        internal.route_through(a.sandbox.netns.as_fd(), &a.record, EVERY_WAY).unwrap();
        inside(&a.sandbox.netns, || assert_no_tcp((NEIGHBOUR, 80)));
        let joined = bridge.join(a.sandbox.netns.as_fd(), &further()).unwrap();
        inside(&a.sandbox.netns, || assert_no_tcp((NEIGHBOUR, 80)));
        bridge.route_through(a.sandbox.netns.as_fd(), &joined.record, EVERY_WAY).unwrap();
        assert_eq!(inside(&a.sandbox.netns, || ask_tcp((NEIGHBOUR, 80))), format!("outside {HOST}"));
    });
}

#[test]
fn name_queries_arrive_and_port_53_stays_free() {
    on_a_host(|| {
        let (_stack, bridge) = bridge();
        let c = container(&bridge, vec![]);
        drop(name_sockets(c.sandbox.netns.as_fd()).unwrap());
        let sockets = name_sockets(c.sandbox.netns.as_fd()).unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            let (length, client) = sockets.udp.recv_from(&mut buffer).unwrap();
            sockets.udp.send_to(&buffer[..length], client).unwrap();
            let (mut stream, _) = sockets.tcp.accept().unwrap();
            std::io::Write::write_all(&mut stream, b"names").unwrap();
        });
        inside(&c.sandbox.netns, || {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
            socket.connect((crate::NAME_SERVER, 53)).unwrap();
            socket.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
            socket.send(b"query").unwrap();
            let mut buffer = [0; 64];
            let length = socket.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"query");
            assert_eq!(ask_tcp((crate::NAME_SERVER, 53)), "names");
            UdpSocket::bind(("0.0.0.0", 53)).unwrap();
            TcpListener::bind(("0.0.0.0", 53)).unwrap();
        });
    });
}

#[test]
fn bridges_without_sandboxes_of_their_own_share_spare_ones() {
    on_a_host(|| {
        let config =
            StackConfig { table_name: TABLE.to_owned(), pool_size: 0, spare: 2, ..StackConfig::default() };
        let stack = NetworkStack::open(config).unwrap();
        let (one, two) = (second(&stack, false), small(&stack));
        let spare = || one.spare().unwrap().len();
        eventually("there are spare ones", || spare() == 2);
        assert!(veths().len() == 2 && one.ready().is_empty());
        let (a, b) = (container(&one, vec![]), container(&two, vec![]));
        serve_tcp(&a.sandbox.netns, 80, "a");
        serve_tcp(&b.sandbox.netns, 80, "b");
        let other = container(&one, vec![]);
        assert_eq!(inside(&other.sandbox.netns, || ask_tcp((v4(&a), 80))), format!("a {}", v4(&other)));
        inside(&other.sandbox.netns, || assert_no_tcp((v4(&b), 80)));
        eventually("nothing is astray", || one.audit().unwrap().is_empty());
        let mtu = |netns| inside(netns, || links().into_iter().find(|l| l.name == "eth0").unwrap().mtu);
        assert_eq!((mtu(&a.sandbox.netns), mtu(&b.sandbox.netns)), (1500, 1400));
        for e in [&a, &other] {
            one.release(&e.record).unwrap();
        }
        two.release(&b.record).unwrap();
        drop((a, b, other));
        eventually("there are two spare ones again and nothing else", || spare() == 2 && veths().len() == 2);
    });
}

/// A bridge with a small MTU.
fn small(stack: &NetworkStack) -> BridgeNetwork {
    let config = BridgeConfig {
        ipv4: at("10.215.0.1/24"),
        mtu: Some(1400),
        pool_size: Some(0),
        network: "small".to_owned(),
        ..BridgeConfig::new("br-small")
    };
    BridgeNetwork::open(stack, config).unwrap()
}
