//! Restarts, foreign hands on the ruleset, existing devices.

use std::os::fd::AsFd;

use ferry_sys::netlink::nft::{self, Transaction};
use ferry_sys::netlink::route::{self, LinkRef};
use ferry_sys::netlink::{Batch, Protocol as Family, Socket};
use ferry_types::net::Protocol;

use super::support::*;
use crate::{AddressPool, BridgeConfig, BridgeNetwork, NetworkError, Subnet6};

fn table_exists() -> bool {
    nft::table_exists(&mut Socket::open(Family::Netfilter).unwrap(), nft::Family::Inet, TABLE).unwrap()
}

#[test]
fn a_restart_takes_everything_over_and_removes_strays() {
    with_each_backend(|| {
        let (stack, bridge) = bridge();
        let web = container(&bridge, vec![tcp(8080, 80)]);
        let gone = container(&bridge, vec![tcp(8081, 80)]);
        serve_tcp(&web.sandbox.netns, 80, "web");
        drop((bridge, stack));
        ask_tcp((GATEWAY, 8080));
        eventually("the pool of the former engine is gone", || veths().len() == 2);

        let (stack, bridge) = super::support::bridge();
        drop(gone.relays);
        let report = bridge.adopt(std::slice::from_ref(&web.record)).unwrap();
        assert_eq!(
            (report.adopted, report.republished, report.stray_ports, report.stray_veths),
            (1, 0, 1, 1)
        );
        assert!(report.without_veth.is_empty() && report.conflicting.is_empty());
        bridge.flush();
        ask_tcp((GATEWAY, 8080));
        assert_no_tcp((GATEWAY, 8081));
        assert!(!veths().contains(&gone.record.host_veth));
        let error = bridge.attach(&request(vec![tcp(8080, 80)])).unwrap_err().to_string();
        assert!(error.ends_with("Bind for 0.0.0.0:8080 failed: port is already allocated"), "{error}");
        assert_eq!(v4(&container(&bridge, vec![])).octets()[3], 3);
        bridge.release(&web.record).unwrap();
        assert_no_tcp((GATEWAY, 8080));
        assert_eq!(bridge.adopt(&[]).unwrap(), crate::AdoptReport::default());
        drop(stack);
    });
}

#[test]
fn a_restart_puts_missing_ports_back_and_reports_dead_endpoints() {
    on_a_host(|| {
        let (stack, bridge) = bridge();
        let web = container(&bridge, vec![tcp(8080, 80)]);
        serve_tcp(&web.sandbox.netns, 80, "web");
        let dead = container(&bridge, vec![]);
        drop((bridge, dead.sandbox));
        stack.destroy().unwrap();
        assert!(!table_exists());
        eventually("the dead container's veth is gone", || !veths().contains(&dead.record.host_veth));

        let (_stack, bridge) = super::support::bridge();
        let report = bridge.adopt(&[web.record.clone(), dead.record.clone()]).unwrap();
        assert_eq!((report.adopted, report.republished), (2, 1));
        assert_eq!(report.without_veth, [dead.record.endpoint]);
        assert!(ask_tcp((GATEWAY, 8080)).starts_with("web"));
    });
}

#[test]
fn a_deleted_bridge_is_made_anew_and_its_endpoints_plugged_in() {
    on_a_host(|| {
        let (stack, bridge) = bridge();
        let web = container(&bridge, vec![tcp(8080, 80)]);
        serve_tcp(&web.sandbox.netns, 80, "web");
        let mut route = Socket::open(Family::Route).unwrap();
        let device = route::link(&mut route, LinkRef::Name(&web.record.bridge)).unwrap().unwrap();
        let mut batch = Batch::new();
        route::delete_link(&mut batch, device.index);
        route.execute(batch).unwrap();
        drop((bridge, stack));

        let (_stack, bridge) = super::support::bridge();
        let report = bridge.adopt(std::slice::from_ref(&web.record)).unwrap();
        assert_eq!((report.adopted, report.without_veth.len()), (1, 0));
        assert!(ask_tcp((GATEWAY, 8080)).starts_with("web"));
        bridge.release(&web.record).unwrap();
    });
}

#[test]
fn a_flushed_ruleset_is_restored_within_a_second() {
    with_an_open_table(|| {
        let (_stack, bridge) = bridge();
        let outside = neighbour();
        let web = container(&bridge, vec![tcp(8080, 80), publish(Some(HOST.into()), 53, 53, Protocol::Udp)]);
        serve_tcp(&web.sandbox.netns, 80, "web");
        serve_udp(&web.sandbox.netns, 53, "dns");
        let mut tx = Transaction::new(nft::Family::Inet);
        tx.delete_table(nft::Family::Inet, TABLE);
        tx.commit(&mut Socket::open(Family::Netfilter).unwrap()).unwrap();
        let begin = std::time::Instant::now();
        eventually("the table is back", table_exists);
        assert!(begin.elapsed() < std::time::Duration::from_secs(1), "{:?}", begin.elapsed());
        assert!(inside(&outside, || ask_tcp((HOST, 8080))).starts_with("web"));
        assert!(inside(&outside, || ask_udp((HOST, 53))).starts_with("dns"));

        // Publishing right after a flush does not depend on the watcher.
        let mut tx = Transaction::new(nft::Family::Inet);
        tx.delete_table(nft::Family::Inet, TABLE);
        tx.commit(&mut Socket::open(Family::Netfilter).unwrap()).unwrap();
        let other = container(&bridge, vec![tcp(8081, 80)]);
        serve_tcp(&other.sandbox.netns, 80, "other");
        assert!(ask_tcp((GATEWAY, 8080)).starts_with("web"));
        assert!(ask_tcp((GATEWAY, 8081)).starts_with("other"));
    });
}

#[test]
fn elements_and_rules_removed_by_others_come_back() {
    with_an_open_table(|| {
        let (_stack, bridge) = bridge();
        let web = container(&bridge, vec![tcp(8080, 80)]);
        serve_tcp(&web.sandbox.netns, 80, "web");
        let other_hands = |change: &dyn Fn(&mut Transaction)| {
            let mut tx = Transaction::new(nft::Family::Inet);
            change(&mut tx);
            tx.commit(&mut Socket::open(Family::Netfilter).unwrap()).unwrap();
        };
        let count = || nft::rules(&mut Socket::open(Family::Netfilter).unwrap(), TABLE).unwrap().len();
        let rules = count();
        assert!(rules > 10);
        for chain in ["forward", "to-ferry0", "leave-to-ferry0"] {
            other_hands(&|tx| tx.delete_rules(TABLE, chain));
            eventually("the rules are back", || count() == rules);
        }
        let published = || {
            nft::elements(
                &mut Socket::open(Family::Netfilter).unwrap(),
                nft::Family::Inet,
                TABLE,
                "published",
            )
            .unwrap()
        };
        let elements = published();
        other_hands(&|tx| tx.delete_elements(TABLE, "published", &elements));
        eventually("the element is back", || published() == elements);
        assert!(ask_tcp((GATEWAY, 8080)).starts_with("web"));
    });
}

#[test]
fn devices_and_subnets_of_others_are_left_alone() {
    on_a_host(|| {
        let stack = stack(0);
        let open = |device: &str, bip: &str| {
            let config = BridgeConfig { ipv4: at(bip), ..BridgeConfig::new(device) };
            BridgeNetwork::open(&stack, config)
        };
        assert!(matches!(open("lo", "10.213.0.1/24").unwrap_err(), NetworkError::NotABridge { .. }));
        let _outside = neighbour();
        let error = open("ferry0", "192.0.2.129/25").unwrap_err();
        assert!(matches!(error, NetworkError::SubnetOverlaps { .. }), "{error}");
        assert!(!links().iter().any(|l| l.name == "ferry0"));
        assert!(!table_exists());
    });
}

#[test]
fn a_subnet_is_chosen_where_the_host_has_no_route_at_that_moment() {
    on_a_host(|| {
        let stack = stack(0);
        let pools = [AddressPool::defaults(), vec![AddressPool::unique_local([1, 2, 3, 4, 5])]].concat();
        let choose = |ipv6, taken: &[&str]| {
            let taken: Vec<_> = taken.iter().map(|t| t.parse().unwrap()).collect();
            stack.choose_subnet(&pools, ipv6, &taken).map(|net| net.to_string())
        };
        assert_eq!(choose(false, &[]).unwrap(), "172.17.0.0/16");
        let both = BridgeConfig {
            ipv4: at("172.17.0.1/16"),
            ipv6: "fd01:203:405::1/64".parse().ok().map(Subnet6::at),
            ..BridgeConfig::new("ferry0")
        };
        let first = BridgeNetwork::open(&stack, both).unwrap();
        assert_eq!(choose(false, &[]).unwrap(), "172.18.0.0/16");
        assert_eq!(choose(false, &["172.18.5.0/24"]).unwrap(), "172.19.0.0/16");
        assert_eq!(choose(true, &[]).unwrap(), "fd01:203:405:1::/64");
        let of_device = stack.device_addresses("ferry0").unwrap();
        let of_device: Vec<_> = of_device.iter().map(ToString::to_string).collect();
        assert_eq!(of_device, ["172.17.0.1/16", "fd01:203:405::1/64"]);
        assert!(stack.device_addresses("ferry9").unwrap().is_empty());
        first.destroy().unwrap();
        assert_eq!(choose(true, &[]).unwrap(), "fd01:203:405::/64");
        let error = choose(false, &["0.0.0.0/0"]).unwrap_err();
        assert_eq!(error.to_string(), "all predefined address pools have been fully subnetted");
    });
}

#[test]
fn a_bridge_of_somebody_elses_stays() {
    on_a_host(|| {
        let stack = stack(0);
        let mut batch = Batch::new();
        route::create_bridge(&mut batch, "ferry0", [2, 0, 0, 0, 0, 1], None);
        Socket::open(Family::Route).unwrap().execute(batch).unwrap();
        let bridge = BridgeNetwork::open(&stack, config()).unwrap();
        assert!(!bridge.created());
        let endpoint = container(&bridge, vec![]);
        bridge.close(true).unwrap();
        assert!(links().iter().any(|l| l.name == "ferry0"));
        assert!(!links().iter().any(|l| l.name == endpoint.record.host_veth));
        let again = BridgeNetwork::open(&stack, config()).unwrap();
        again.close(false).unwrap();
        assert!(!links().iter().any(|l| l.name == "ferry0"));
    });
}

#[test]
fn an_address_that_is_not_wanted_any_more_goes() {
    on_a_host(|| {
        let stack = stack(0);
        drop(BridgeNetwork::open(&stack, config()).unwrap());
        let moved = BridgeConfig { ipv4: at("10.214.0.1/24"), ..config() };
        drop(BridgeNetwork::open(&stack, moved).unwrap());
        let left = stack.device_addresses("ferry0").unwrap();
        assert_eq!(left.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.214.0.1/24"]);
    });
}

/// People debug with nft(8): what is built here without it must read there as if it had been written there.
#[test]
fn nft_lists_the_table_as_documented() {
    with_an_open_table(|| {
        let (_stack, bridge) = bridge();
        let web = container(
            &bridge,
            vec![tcp(8080, 80), publish(Some([127, 0, 0, 1].into()), 53, 53, Protocol::Udp)],
        );
        let Some(listed) = nft_list() else { return };
        let lines: Vec<&str> = listed.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
        let want = r#"table inet ferry-test {
            map published {
            type inet_proto . inet_service : ipv4_addr . inet_service
            elements = { tcp . 8080 : 10.213.0.2 . 80 }
            }
            map published-on {
            type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service
            elements = { 127.0.0.1 . udp . 53 : 10.213.0.2 . 53 }
            }
            map published6 {
            type inet_proto . inet_service : ipv6_addr . inet_service
            }
            map published6-on {
            type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service
            }
            set open {
            type ipv4_addr . inet_proto . inet_service
            }
            set open6 {
            type ipv6_addr . inet_proto . inet_service
            }
            set bridges {
            type ifname
            elements = { "ferry0" }
            }
            map from-bridge {
            type ifname : verdict
            }
            map to-bridge {
            type ifname : verdict
            elements = { "ferry0" : jump to-ferry0 }
            }
            map leave-from {
            type ifname : verdict
            elements = { "ferry0" : jump leave-from-ferry0 }
            }
            map leave-to {
            type ifname : verdict
            elements = { "ferry0" : jump leave-to-ferry0 }
            }
            chain publish {
            dnat ip to ip daddr . meta l4proto . th dport map @published-on
            meta nfproto ipv4 dnat ip to meta l4proto . th dport map @published
            dnat ip6 to ip6 daddr . meta l4proto . th dport map @published6-on
            meta nfproto ipv6 dnat ip6 to meta l4proto . th dport map @published6
            }
            chain raw {
            type filter hook prerouting priority raw; policy accept;
            iifname @bridges ip daddr 127.0.0.0/8 drop
            iifname @bridges ip saddr 127.0.0.0/8 drop
            }
            chain prerouting {
            type nat hook prerouting priority dstnat; policy accept;
            ip daddr 127.0.0.0/8 return
            ip6 saddr fe80::/10 return
            fib daddr type local jump publish
            }
            chain output {
            type nat hook output priority -100; policy accept;
            ip6 daddr ::1 return
            ip6 saddr fe80::/10 return
            fib daddr type local jump publish
            }
            chain postrouting {
            type nat hook postrouting priority srcnat; policy accept;
            oifname vmap @leave-to
            iifname vmap @leave-from
            }
            chain forward {
            type filter hook forward priority filter; policy accept;
            ct state established,related accept
            iifname vmap @from-bridge
            oifname vmap @to-bridge
            }
            chain to-ferry0 {
            ct status dnat accept
            iifname "ferry0" accept
            drop
            }
            chain leave-from-ferry0 {
            oifname != "ferry0" ip saddr 10.213.0.0/24 masquerade
            }
            chain leave-to-ferry0 {
            ip saddr 127.0.0.0/8 masquerade
            ip saddr 10.213.0.0/24 ct status dnat masquerade
            }
            }"#;
        let want: Vec<&str> = want.lines().map(str::trim).collect();
        assert_eq!(lines, want, "{listed}");
        drop(web);
    });
}

#[test]
fn a_port_that_was_closed_by_an_engine_that_was_killed_is_opened_again() {
    on_a_host(|| {
        let (stack, bridge) = bridge();
        let web = container(&bridge, vec![tcp(8080, 80)]);
        serve_tcp(&web.sandbox.netns, 80, "web");
        ask_tcp((GATEWAY, 8080));
        let mut route = Socket::open(Family::Route).unwrap();
        let mut batch = Batch::new();
        let closed = route::PortChange { closed: true, ..route::PortChange::default() };
        route::set_port(&mut batch, web.record.host_ifindex, &closed);
        route.execute(batch).unwrap();
        assert_no_tcp((GATEWAY, 8080));
        drop((bridge, stack));

        let (_stack, bridge) = super::support::bridge();
        let report = bridge.adopt(std::slice::from_ref(&web.record)).unwrap();
        assert_eq!((report.adopted, report.without_veth.len()), (1, 0));
        assert!(ask_tcp((GATEWAY, 8080)).starts_with("web"));
        // And by itself, as hairpin ports are.
        assert!(inside(&web.sandbox.netns, || ask_tcp((GATEWAY, 8080))).starts_with("web"));
    });
}

#[test]
fn an_address_belongs_to_who_has_the_link() {
    on_a_host(|| {
        let (stack, bridge) = bridge();
        let left = container(&bridge, vec![]);
        bridge.release(&left.record).unwrap();
        let next = container(&bridge, vec![]);
        assert_eq!(v4(&next), v4(&left));
        drop(left.sandbox);
        drop((bridge, stack));

        // That the first one had left was never noted.
        let (_stack, bridge) = super::support::bridge();
        let report = bridge.adopt(&[left.record.clone(), next.record.clone()]).unwrap();
        assert_eq!((report.adopted, report.conflicting), (1, vec![left.record.endpoint]));
        assert!(report.without_veth.is_empty());
        bridge.flush();
        assert!(veths().contains(&next.record.host_veth));
    });
}

#[test]
fn a_link_that_an_engine_was_making_when_it_was_killed_is_on_its_bridge_and_removed() {
    on_a_host(|| {
        let (stack, bridge) = bridge();
        let web = container(&bridge, vec![]);
        drop((bridge, stack));
        eventually("the pool of the former engine is gone", || veths().len() == 1);
        let device = links().into_iter().find(|l| l.name == web.record.bridge).unwrap();
        let mut batch = Batch::new();
        let netns = web.sandbox.netns.as_fd();
        route::create_veth(&mut batch, "veth0123456", Some(device.index), "eth1", netns, None);
        Socket::open(Family::Route).unwrap().execute(batch).unwrap();

        let (_stack, bridge) = super::support::bridge();
        let report = bridge.adopt(std::slice::from_ref(&web.record)).unwrap();
        assert_eq!((report.adopted, report.stray_veths), (1, 1));
        bridge.flush();
        assert!(!veths().contains(&"veth0123456".to_owned()));
    });
}
