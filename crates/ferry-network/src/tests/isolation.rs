//! Who must not reach whom, and what the modes and options of a bridge change about it.

use std::net::{IpAddr, Ipv4Addr};

use rustix::net::accept;

use super::support::*;
use crate::{BridgeConfig, BridgeNetwork, FirewallConfig, GatewayMode};

fn bridge_with(change: impl FnOnce(&mut BridgeConfig)) -> (crate::NetworkStack, BridgeNetwork) {
    let stack = stack(0);
    let mut config = config();
    change(&mut config);
    let bridge = BridgeNetwork::open(&stack, config).unwrap();
    (stack, bridge)
}

/// Makes the machine send to 127.0.0.1 by the gateway instead of keeping it.
fn sends_loopback_out(gateway: Ipv4Addr) -> bool {
    std::fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1").unwrap();
    program("ip addr del 127.0.0.1/8 dev lo")
        && program("ip rule add pref 1 lookup 100")
        && program(&format!("ip route add 127.0.0.1 via {gateway} dev eth0 table 100"))
        && program("ip rule add pref 2 lookup local")
        && program("ip rule del pref 0")
}

#[test]
fn a_port_published_on_loopback_is_none_of_a_neighbours() {
    with_each_backend(|| {
        let (_stack, bridge) = bridge();
        let outside = neighbour();
        let local = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let web = container(&bridge, vec![publish(local, 8080, 80, ferry_types::net::Protocol::Tcp)]);
        serve_tcp(&web.sandbox.netns, 80, "web");
        ask_tcp((Ipv4Addr::LOCALHOST, 8080));
        inside(&outside, || assert_no_tcp((HOST, 8080)));
        // Some set this for all interfaces; then the kernel takes such packets in.
        std::fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1").unwrap();
        std::fs::write("/proc/sys/net/ipv4/conf/uplink/rp_filter", "0").unwrap();
        let open = std::net::TcpListener::bind("127.0.0.1:9999").unwrap();
        open.set_nonblocking(true).unwrap();
        let tried = inside(&outside, || {
            let tricked = sends_loopback_out(HOST);
            if tricked {
                let _ = std::net::TcpStream::connect_timeout(
                    &(Ipv4Addr::LOCALHOST, 9999).into(),
                    std::time::Duration::from_millis(300),
                );
                assert_no_tcp((Ipv4Addr::LOCALHOST, 8080));
            }
            tricked
        });
        if !tried {
            return say("skipped: ip is not installed");
        }
        assert!(open.accept().is_ok(), "the trick does not work, the test proves nothing");
        assert!(accept(&web.relays[0].socket).is_err(), "a neighbour reached a port of 127.0.0.1");
    });
}

#[test]
fn internal_networks_are_cut_off_but_from_the_host() {
    with_each_backend(|| {
        let (_stack, bridge) = bridge_with(|c| c.internal = true);
        let outside = neighbour();
        serve_tcp(&outside, 443, "internet");
        let (web, other) = (container(&bridge, vec![]), container(&bridge, vec![]));
        serve_tcp(&web.sandbox.netns, 80, "web");
        let ip = v4(&web);
        inside(&outside, || assert_no_tcp((ip, 80)));
        // Also with a route of its own making.
        inside(&web.sandbox.netns, || {
            program(&format!("ip route add default via {GATEWAY}"));
            assert_no_tcp((NEIGHBOUR, 443));
        });
        assert_eq!(inside(&other.sandbox.netns, || ask_tcp((ip, 80))), format!("web {}", v4(&other)));
        assert_eq!(ask_tcp((ip, 80)), format!("web {GATEWAY}"));
        let listener = std::net::TcpListener::bind((GATEWAY, 7777)).unwrap();
        inside(&web.sandbox.netns, || std::net::TcpStream::connect((GATEWAY, 7777)).unwrap());
        drop(listener);
    });
}

#[test]
fn routed_networks_are_reached_at_their_own_addresses() {
    with_each_backend(|| {
        let (_stack, bridge) = bridge_with(|c| c.gateway_mode_ipv4 = GatewayMode::Routed);
        let outside = neighbour();
        serve_tcp(&outside, 443, "internet");
        let web = container(&bridge, vec![tcp(8080, 80), tcp(9090, 80)]);
        serve_tcp(&web.sandbox.netns, 80, "web");
        serve_tcp(&web.sandbox.netns, 81, "admin");
        let ip = v4(&web);
        assert!(web.record.published.iter().filter(|p| p.host_ip.is_ipv4()).all(|p| p.host_port == 0));
        assert_eq!(inside(&outside, || ask_tcp((ip, 80))), format!("web {NEIGHBOUR}"));
        inside(&outside, || {
            assert_no_tcp((ip, 81));
            assert_no_tcp((HOST, 8080));
            if program("ping -V") {
                assert!(program(&format!("ping -c 1 -W 5 {ip}")), "ping");
            }
        });
        assert_no_tcp((HOST, 8080));
        // Nothing hides where it comes from.
        let said = inside(&web.sandbox.netns, || ask_tcp((NEIGHBOUR, 443)));
        assert_eq!(said, format!("internet {ip}"));
        bridge.release(&web.record).unwrap();
        inside(&outside, || assert_no_tcp((ip, 80)));
    });
}

#[test]
fn unprotected_networks_are_open_to_whoever_has_a_route() {
    with_each_backend(|| {
        let (_stack, bridge) = bridge_with(|c| c.gateway_mode_ipv4 = GatewayMode::NatUnprotected);
        let outside = neighbour();
        serve_tcp(&outside, 443, "internet");
        let web = container(&bridge, vec![tcp(8080, 80)]);
        serve_tcp(&web.sandbox.netns, 80, "web");
        serve_tcp(&web.sandbox.netns, 81, "admin");
        let ip = v4(&web);
        for port in [80, 81] {
            inside(&outside, || ask_tcp((ip, port)));
        }
        assert_eq!(inside(&outside, || ask_tcp((HOST, 8080))), format!("web {NEIGHBOUR}"));
        assert_eq!(inside(&web.sandbox.netns, || ask_tcp((NEIGHBOUR, 443))), format!("internet {HOST}"));
    });
}

#[test]
fn published_ports_are_opened_for_trusted_interfaces_or_for_everybody() {
    with_each_backend(|| {
        for trusted in ["uplink", "elsewhere"] {
            let (_stack, bridge) = bridge_with(|c| c.trusted_interfaces = vec![trusted.to_owned()]);
            let outside = neighbour();
            let web = container(&bridge, vec![tcp(8080, 80)]);
            serve_tcp(&web.sandbox.netns, 80, "web");
            serve_tcp(&web.sandbox.netns, 81, "admin");
            let ip = v4(&web);
            match trusted {
                "uplink" => drop(inside(&outside, || ask_tcp((ip, 80)))),
                _ => inside(&outside, || assert_no_tcp((ip, 80))),
            }
            inside(&outside, || assert_no_tcp((ip, 81)));
            drop(outside);
            bridge.destroy().unwrap();
            program("ip link del uplink");
        }
    });
    let open = FirewallConfig { direct_routing: true, ..FirewallConfig::default() };
    with_firewall(open, || {
        let (_stack, bridge) = bridge();
        let outside = neighbour();
        let web = container(&bridge, vec![tcp(8080, 80)]);
        serve_tcp(&web.sandbox.netns, 80, "web");
        serve_tcp(&web.sandbox.netns, 81, "admin");
        let ip = v4(&web);
        assert_eq!(inside(&outside, || ask_tcp((ip, 80))), format!("web {NEIGHBOUR}"));
        inside(&outside, || assert_no_tcp((ip, 81)));
    });
}

/// An nft table of the host's administrator, with a chain for what the host receives.
fn input_chain(rule: &str) -> bool {
    nft_script(&format!(
        "table inet admin\ndelete table inet admin\n\
         table inet admin {{ chain input {{ type filter hook input priority filter; policy accept; {rule} }} }}"
    ))
}

#[test]
fn the_hosts_input_rules_decide_when_they_are_to() {
    let obey = FirewallConfig { host_firewall: true, ..FirewallConfig::default() };
    for (config, obeys) in [(obey, true), (FirewallConfig::default(), false)] {
        with_firewall(config, move || {
            let (_stack, bridge) = bridge();
            let outside = neighbour();
            let web = container(&bridge, vec![tcp(8080, 80)]);
            let other = container(&bridge, vec![]);
            serve_tcp(&web.sandbox.netns, 80, "web");
            if !input_chain("iifname \"uplink\" tcp dport 8080 drop") {
                return;
            }
            let arrived = || {
                let client = std::net::TcpStream::connect_timeout(
                    &(HOST, 8080).into(),
                    std::time::Duration::from_millis(300),
                );
                client.is_ok()
            };
            assert_eq!(inside(&outside, arrived), !obeys, "dropped by the host");
            assert!(accept(&web.relays[0].socket).is_err());
            assert!(input_chain("iifname \"uplink\" tcp dport 8080 accept"));
            assert!(inside(&outside, arrived), "accepted by the host");
            assert_eq!(accept(&web.relays[0].socket).is_ok(), obeys, "it is the relay that serves it");
            // The host itself and containers go through the kernel in any case.
            assert!(ask_tcp((Ipv4Addr::LOCALHOST, 8080)).starts_with("web"));
            assert!(ask_tcp((HOST, 8080)).starts_with("web"));
            assert_eq!(inside(&other.sandbox.netns, || ask_tcp((HOST, 8080))), format!("web {GATEWAY}"));
        });
    }
}

#[test]
fn without_rules_nothing_is_filtered_and_relays_serve_published_ports() {
    let nothing = FirewallConfig { ipv4: false, ipv6: false, ..FirewallConfig::default() };
    with_firewall(nothing, || {
        let (stack, bridge) = bridge();
        assert_eq!(stack.firewall_driver(), "none");
        let outside = neighbour();
        let web = container(&bridge, vec![tcp(8080, 80)]);
        serve_tcp(&web.sandbox.netns, 80, "web");
        serve_tcp(&web.sandbox.netns, 81, "admin");
        inside(&outside, || drop(std::net::TcpStream::connect((HOST, 8080)).unwrap()));
        accept(&web.relays[0].socket).unwrap();
        let ip = v4(&web);
        inside(&outside, || ask_tcp((ip, 81)));
        eventually("nothing is astray", || bridge.audit().unwrap().is_empty());
        bridge.release(&web.record).unwrap();
    });
}

/// Serves a word and the client's address, of either family.
fn serve_both(netns: &std::os::fd::OwnedFd, port: u16) {
    let listener = inside(netns, || std::net::TcpListener::bind(("::", port)).unwrap());
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let Ok(mut client) = client else { return };
            let from = client.peer_addr().unwrap().ip().to_canonical();
            let _ = std::io::Write::write_all(&mut client, format!("web {from}").as_bytes());
        }
    });
}

#[test]
fn ipv6_ports_are_published_and_unpublished_ones_closed() {
    with_each_backend(|| {
        let subnet = "fd00:213::1/64".parse().ok().map(crate::Subnet6::at);
        let (_stack, bridge) = bridge_with(|c| c.ipv6 = subnet);
        let outside = neighbour();
        let run = |line: &str| program(line);
        if !run("ip -6 address add 2001:db8::1/64 dev uplink nodad") {
            return say("skipped: ip is not installed");
        }
        inside(&outside, || {
            assert!(program("ip -6 address add 2001:db8::2/64 dev eth0 nodad"));
            assert!(program("ip -6 route add default via 2001:db8::1"));
        });
        let (web, other) = (container(&bridge, vec![tcp(8080, 80)]), container(&bridge, vec![]));
        serve_both(&web.sandbox.netns, 80);
        serve_both(&web.sandbox.netns, 81);
        let host: std::net::Ipv6Addr = "2001:db8::1".parse().unwrap();
        let ip = web.record.ipv6.unwrap();
        eventually("the neighbour is connected", || {
            inside(&outside, || try_tcp((host, 8080)).is_ok_and(|said| said == "web 2001:db8::2"))
        });
        // Not even by who has a route.
        for port in [80, 81] {
            inside(&outside, || assert_no_tcp((ip, port)));
            ask_tcp((ip, port));
        }
        assert!(ask_tcp((host, 8080)).starts_with("web"));
        let bridge_address = "web fd00:213::1";
        for from in [&other, &web] {
            assert_eq!(inside(&from.sandbox.netns, || ask_tcp((host, 8080))), bridge_address, "hairpin");
        }
        // The kernel has no way back to ::1: the shim's relay serves it.
        drop(std::net::TcpStream::connect((std::net::Ipv6Addr::LOCALHOST, 8080)).unwrap());
        let relay = web.relays.iter().find(|r| r.host.is_ipv6()).unwrap();
        accept(&relay.socket).unwrap();
        assert_eq!(relay.target, std::net::SocketAddr::from((ip, 80)));
        bridge.release(&web.record).unwrap();
        inside(&outside, || assert_no_tcp((host, 8080)));
    });
}
