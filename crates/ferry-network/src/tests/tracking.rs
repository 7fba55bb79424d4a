//! Connections among the containers of a bridge, which nobody tracks unless somebody's rules ask for it.

use std::net::IpAddr;

use ferry_sys::netlink::nft_expr::AddressFamily;
use ferry_sys::netlink::{Protocol as Family, Socket, conntrack};

use super::support::*;
use crate::{BridgeConfig, BridgeNetwork, Endpoint};

/// Whether bridged packets pass netfilter here, as where Kubernetes or Docker have been.
fn bridged_packets_are_filtered() -> bool {
    let set = std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", "1").is_ok();
    if !set {
        say("skipped: the kernel has no br_netfilter");
    }
    set
}

/// Whether a flow to an address is tracked.
fn is_tracked(to: IpAddr) -> bool {
    let seen = std::cell::Cell::new(false);
    let look = |flow: &conntrack::UdpFlow| {
        seen.set(seen.get() || flow.original_address == to || flow.reply_address == to);
        false
    };
    let mut socket = Socket::open(Family::Netfilter).unwrap();
    conntrack::delete_udp(&mut socket, AddressFamily::Ipv4, look).unwrap();
    seen.get()
}

fn asks(from: &Endpoint, to: &Endpoint) -> bool {
    inside(&from.sandbox.netns, || ask_udp((v4(to), 53)));
    is_tracked(v4(to).into())
}

#[test]
fn connections_within_a_bridge_are_tracked_only_where_others_need_it() {
    with_an_open_table(|| {
        let (_stack, bridge) = bridge();
        if !bridged_packets_are_filtered() {
            return;
        }
        let server = || {
            let server = container(&bridge, vec![]);
            serve_udp(&server.sandbox.netns, 53, "dns");
            server
        };
        let client = container(&bridge, vec![]);
        assert!(!asks(&client, &server()));
        // What somebody does to what the host itself receives is no reason.
        if !nft_script(
            "table inet other { chain in { type filter hook input priority 0; ct state established accept; } }",
        ) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert!(!asks(&client, &server()));
        let forward = "table ip theirs { chain user { ct state established accept; }\n\
             chain passing { type filter hook forward priority 0; jump user; } }";
        assert!(nft_script(forward));
        eventually("the connections are tracked", || asks(&client, &server()));
        assert!(nft_list().unwrap().contains("map within"));
        assert!(program("nft delete table ip theirs"));
        eventually("nobody asks for it any more", || !asks(&client, &server()));
    });
}

#[test]
fn iptables_rules_of_others_are_looked_at() {
    for variant in ["legacy", "nft"] {
        with_an_open_table(move || {
            let rule = format!("iptables-{variant} -A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT");
            if !bridged_packets_are_filtered() || !program(&rule) {
                return say(&format!("skipped with iptables-{variant}"));
            }
            let (_stack, bridge) = bridge();
            let (client, server) = (container(&bridge, vec![]), container(&bridge, vec![]));
            serve_udp(&server.sandbox.netns, 53, "dns");
            assert!(asks(&client, &server));
        });
    }
}

#[test]
fn published_ports_and_the_host_are_tracked_as_ever() {
    on_a_host(|| {
        let (_stack, bridge) = bridge();
        if !bridged_packets_are_filtered() {
            return;
        }
        let web = container(&bridge, vec![tcp(8080, 80)]);
        serve_tcp(&web.sandbox.netns, 80, "web");
        let other = container(&bridge, vec![]);
        // By the bridge's address, by another of the host's in the same subnet, and directly.
        assert_eq!(inside(&other.sandbox.netns, || ask_tcp((GATEWAY, 8080))), format!("web {GATEWAY}"));
        assert!(program("ip addr add 10.213.0.99/24 dev ferry0"), "ip is there");
        let second = inside(&other.sandbox.netns, || ask_tcp(([10, 213, 0, 99], 8080)));
        assert!(second.starts_with("web 10.213.0."), "{second}");
        assert_eq!(inside(&other.sandbox.netns, || ask_tcp((v4(&web), 80))), format!("web {}", v4(&other)));
        assert!(inside(&web.sandbox.netns, || ask_tcp((GATEWAY, 8080))).starts_with("web"));
        // Where containers must not reach each other, published ports are told from others by their connections.
        let apart = BridgeConfig { ipv4: at("10.214.0.1/24"), icc: false, ..BridgeConfig::new("ferry1") };
        let apart = BridgeNetwork::open(&_stack, apart).unwrap();
        let (one, two) = (container(&apart, vec![tcp(8081, 80)]), container(&apart, vec![]));
        serve_tcp(&one.sandbox.netns, 80, "one");
        inside(&two.sandbox.netns, || {
            assert!(ask_tcp(([10, 214, 0, 1], 8081)).starts_with("one"));
            assert_no_tcp((v4(&one), 80));
        });
    });
}
