//! Which packets get where.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};

use ferry_sys::netlink::{Batch, Protocol as Family, Socket, route};
use ferry_types::net::Protocol;
use rustix::net::accept;

use super::support::*;
use crate::{BridgeConfig, BridgeNetwork};

#[test]
fn a_published_tcp_port_is_reached_from_everywhere() {
    published_everywhere(true);
}

#[test]
fn a_published_tcp_port_is_reached_from_everywhere_without_br_netfilter() {
    published_everywhere(false);
}

/// Whether bridged frames pass netfilter (`br_netfilter`) decides how a container reaches its own bridge's ports: by
/// rewriting while bridging, or by routing.
fn filter_bridged(on: bool) {
    // Without the module it is off anyway.
    let _ = std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", if on { "1" } else { "0" });
}

fn published_everywhere(bridged_are_filtered: bool) {
    with_each_backend(move || {
        filter_bridged(bridged_are_filtered);
        let (_stack, bridge) = bridge();
        let outside = neighbour();
        let web = container(&bridge, vec![tcp(8080, 80)]);
        let other = container(&bridge, vec![]);
        serve_tcp(&web.sandbox.netns, 80, "web");
        let ip = v4(&web);
        let gateway = format!("web {GATEWAY}");

        assert_eq!(ask_tcp((Ipv4Addr::LOCALHOST, 8080)), gateway);
        assert_eq!(ask_tcp((GATEWAY, 8080)), gateway);
        assert_eq!(ask_tcp((HOST, 8080)).split(' ').next(), Some("web"));
        assert_eq!(ask_tcp((ip, 80)), gateway);
        let neighbour = inside(&outside, || ask_tcp((HOST, 8080)));
        assert_eq!(neighbour, format!("web {NEIGHBOUR}"), "the client's address is kept");
        let direct = inside(&other.sandbox.netns, || ask_tcp((ip, 80)));
        assert_eq!(direct, format!("web {}", v4(&other)));
        for at in [GATEWAY, HOST] {
            assert_eq!(inside(&other.sandbox.netns, || ask_tcp((at, 8080))), gateway, "{at}");
            assert_eq!(inside(&web.sandbox.netns, || ask_tcp((at, 8080))), gateway, "hairpin {at}");
        }
        drop(web.relays);
        bridge.release(&web.record).unwrap();
        for at in [Ipv4Addr::LOCALHOST, GATEWAY, HOST] {
            assert_no_tcp((at, 8080));
        }
        assert_no_tcp((ip, 80));
    });
}

#[test]
fn a_published_udp_port_is_reached_from_everywhere() {
    with_each_backend(|| {
        let (_stack, bridge) = bridge();
        let outside = neighbour();
        let dns = container(&bridge, vec![publish(None, 5353, 53, Protocol::Udp)]);
        serve_udp(&dns.sandbox.netns, 53, "dns");
        for at in [Ipv4Addr::LOCALHOST, GATEWAY, HOST] {
            assert_eq!(ask_udp((at, 5353)).split(' ').next(), Some("dns"), "{at}");
        }
        let neighbour = inside(&outside, || ask_udp((HOST, 5353)));
        assert_eq!(neighbour, format!("dns {NEIGHBOUR}"));
        let hairpin = inside(&dns.sandbox.netns, || ask_udp((GATEWAY, 5353)));
        assert_eq!(hairpin, format!("dns {GATEWAY}"));
    });
}

#[test]
fn udp_flows_do_not_stick_to_a_former_container() {
    with_each_backend(|| {
        let (_stack, bridge) = bridge();
        let outside = neighbour();
        let client = inside(&outside, || UdpSocket::bind("0.0.0.0:0").unwrap());
        let port = || vec![publish(None, 5353, 53, Protocol::Udp)];
        // A flow to the bare host, before anything is published.
        assert_no_udp_from(&client, (HOST, 5353));
        let first = container(&bridge, port());
        serve_udp(&first.sandbox.netns, 53, "first");
        bridge.flush();
        assert_eq!(ask_udp_from(&client, (HOST, 5353)), format!("first {NEIGHBOUR}"));
        let keeps_address = container(&bridge, vec![]);
        drop(first.relays);
        bridge.release(&first.record).unwrap();
        bridge.release(&keeps_address.record).unwrap();
        let second =
            bridge.attach(&crate::EndpointRequest { ipv4: Some([10, 213, 0, 9].into()), ..request(port()) });
        let second = second.unwrap();
        serve_udp(&second.sandbox.netns, 53, "second");
        bridge.flush();
        assert_eq!(ask_udp_from(&client, (HOST, 5353)), format!("second {NEIGHBOUR}"));
    });
}

#[test]
fn a_port_published_on_one_address_is_reached_on_that_one_only() {
    with_each_backend(|| {
        let (_stack, bridge) = bridge();
        let outside = neighbour();
        let local = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let web = container(
            &bridge,
            vec![
                publish(local, 8080, 80, Protocol::Tcp),
                publish(Some(HOST.into()), 8081, 80, Protocol::Tcp),
            ],
        );
        serve_tcp(&web.sandbox.netns, 80, "web");
        ask_tcp((Ipv4Addr::LOCALHOST, 8080));
        assert_no_tcp((HOST, 8080));
        inside(&outside, || assert_no_tcp((HOST, 8080)));
        inside(&outside, || ask_tcp((HOST, 8081)));
        assert_no_tcp((Ipv4Addr::LOCALHOST, 8081));
    });
}

#[test]
fn unpublished_ports_are_out_of_a_neighbours_reach() {
    with_each_backend(|| {
        let (_stack, bridge) = bridge();
        let outside = neighbour();
        let web = container(&bridge, vec![tcp(8080, 80)]);
        serve_tcp(&web.sandbox.netns, 80, "web");
        serve_tcp(&web.sandbox.netns, 81, "admin");
        let ip = v4(&web);
        for port in [80, 81] {
            ask_tcp((ip, port));
            inside(&outside, || assert_no_tcp((ip, port)));
        }
    });
}

#[test]
fn containers_reach_the_outside_with_the_hosts_address_and_never_its_loopback() {
    with_each_backend(|| {
        let (_stack, bridge) = bridge();
        let outside = neighbour();
        serve_tcp(&outside, 443, "internet");
        let c = container(&bridge, vec![]);
        let said = inside(&c.sandbox.netns, || ask_tcp((NEIGHBOUR, 443)));
        assert_eq!(said, format!("internet {HOST}"));

        // A container that sends 127.0.0.1 out of eth0 instead of keeping it.
        let secret = std::net::TcpListener::bind("127.0.0.1:9999").unwrap();
        secret.set_nonblocking(true).unwrap();
        inside(&c.sandbox.netns, || {
            std::fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1").unwrap();
            let run = |args: &[&str]| {
                std::process::Command::new("ip").args(args).status().is_ok_and(|s| s.success())
            };
            // Without iproute2 there is nothing to try.
            let tricked = run(&["addr", "del", "127.0.0.1/8", "dev", "lo"])
                && run(&["rule", "add", "pref", "1", "lookup", "100"])
                && run(&["route", "add", "127.0.0.1", "via", "10.213.0.1", "dev", "eth0", "table", "100"])
                && run(&["rule", "add", "pref", "2", "lookup", "local"])
                && run(&["rule", "del", "pref", "0"]);
            if tricked {
                assert_no_tcp((Ipv4Addr::LOCALHOST, 9999));
            }
        });
        assert!(secret.accept().is_err(), "a container reached the host's loopback");
    });
}

#[test]
fn without_icc_only_published_ports_connect_containers() {
    for (bridged_are_filtered, isolate) in [(true, false), (false, false), (false, true)] {
        with_each_backend(move || {
            filter_bridged(bridged_are_filtered);
            let stack = stack(0);
            let mut bridge = BridgeNetwork::open(&stack, BridgeConfig { icc: false, ..config() }).unwrap();
            if isolate {
                // As on a host without the module br_netfilter.
                bridge.device.isolate_ports = true;
                let mut batch = Batch::new();
                route::filter_bridged(&mut batch, bridge.device.index, false);
                Socket::open(Family::Route).unwrap().execute(batch).unwrap();
            }
            let web = container(&bridge, vec![tcp(8080, 80)]);
            let other = container(&bridge, vec![]);
            serve_tcp(&web.sandbox.netns, 80, "web");
            let ip = v4(&web);
            ask_tcp((ip, 80));
            inside(&other.sandbox.netns, || assert_no_tcp((ip, 80)));
            inside(&other.sandbox.netns, || ask_tcp((GATEWAY, 8080)));
        });
    }
}

#[test]
fn bridges_are_kept_apart() {
    with_each_backend(|| {
        let (stack, one) = bridge();
        let second = BridgeConfig { ipv4: at("10.214.0.1/24"), ..BridgeConfig::new("ferry1") };
        let two = BridgeNetwork::open(&stack, second).unwrap();
        let web = container(&one, vec![tcp(8080, 80)]);
        let other = container(&two, vec![]);
        serve_tcp(&web.sandbox.netns, 80, "web");
        let ip = v4(&web);
        inside(&other.sandbox.netns, || assert_no_tcp((ip, 80)));
        inside(&other.sandbox.netns, || ask_tcp((GATEWAY, 8080)));
        two.destroy().unwrap();
        ask_tcp((Ipv4Addr::LOCALHOST, 8080));
    });
}

#[test]
fn ipv6_clients_arrive_at_the_relay_socket() {
    with_each_backend(|| {
        let (_stack, bridge) = bridge();
        let web = container(&bridge, vec![tcp(8080, 80)]);
        let host: Vec<_> = web.relays.iter().map(|r| r.host).collect();
        let any4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8080));
        let any6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 8080));
        assert_eq!(host, [any4, any6]);
        let _client = TcpStream::connect((Ipv6Addr::LOCALHOST, 8080)).unwrap();
        accept(&web.relays[1].socket).unwrap();
        assert!(accept(&web.relays[0].socket).is_err());
        assert_eq!(web.relays[1].target, SocketAddr::from((v4(&web), 80)));
    });
}

#[test]
fn routed_ports_are_open_where_they_are_not_published() {
    with_each_backend(|| {
        let (stack, nat) = bridge();
        let outside = neighbour();
        let routed = BridgeConfig {
            ipv4: at("10.214.0.1/24"),
            gateway_mode_ipv4: crate::GatewayMode::Routed,
            ..BridgeConfig::new("ferry1")
        };
        let routed = BridgeNetwork::open(&stack, routed).unwrap();
        let open = crate::EndpointRequest { open: vec![tcp(8080, 80)], ..request(vec![]) };
        let web = routed.attach(&open).unwrap();
        for port in [80, 81] {
            serve_tcp(&web.sandbox.netns, port, "web");
        }
        assert_eq!((web.record.published.len(), web.relays.len()), (1, 0));
        let reached = || {
            inside(&outside, || ask_tcp((v4(&web), 80)));
            inside(&outside, || assert_no_tcp((v4(&web), 81)));
            inside(&outside, || assert_no_tcp((HOST, 8080)));
        };
        reached();
        // What is published besides and taken back again leaves it open.
        let (published, _) = routed.publish(&web.record, "web", &[tcp(8080, 80)]).unwrap();
        let again = routed.unpublish(&published).unwrap();
        assert_eq!(again.published, web.record.published);
        reached();
        // Where addresses are translated, nothing is open.
        assert!(nat.attach(&open).unwrap().record.published.is_empty());
        routed.release(&web.record).unwrap();
        inside(&outside, || assert_no_tcp((v4(&web), 80)));
    });
}
