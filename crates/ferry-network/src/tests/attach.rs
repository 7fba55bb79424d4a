//! What `attach` gives and what is left after it failed.

use std::net::Ipv4Addr;

use super::support::*;
use crate::fault::Step;
use crate::{BridgeConfig, BridgeNetwork, EndpointRequest, NetworkError};

#[test]
fn an_endpoint_is_complete() {
    on_a_host(|| {
        let (_stack, bridge) = bridge();
        let e = container(&bridge, vec![tcp(8080, 80)]);
        let r = &e.record;
        assert_eq!((r.ipv4, r.prefix, r.gateway), (Some(Ipv4Addr::new(10, 213, 0, 2)), 24, Some(GATEWAY)));
        assert_eq!(r.mac_string(), "02:42:0a:d5:00:02");
        assert_eq!(r.published.len(), 2);
        let host = links().into_iter().find(|l| l.name == r.host_veth).unwrap();
        assert_eq!(host.index, r.host_ifindex);
        inside(&e.sandbox.netns, || {
            let eth0 = links().into_iter().find(|l| l.name == "eth0").unwrap();
            assert_eq!((&eth0.mac[..], eth0.up), (&r.mac[..], true));
            assert_eq!(std::fs::read_to_string("/proc/sys/net/ipv6/conf/eth0/disable_ipv6").unwrap(), "1\n");
            std::net::TcpListener::bind("127.0.0.1:80").unwrap();
        });
        let json = serde_json::to_string(r).unwrap();
        assert_eq!(&serde_json::from_str::<crate::EndpointRecord>(&json).unwrap(), r);
    });
}

#[test]
fn addresses_are_given_lowest_first_and_again() {
    on_a_host(|| {
        let (_stack, bridge) = bridge();
        let last = |e: &crate::Endpoint| v4(e).octets()[3];
        let all: Vec<_> = (0..4).map(|_| container(&bridge, vec![])).collect();
        assert_eq!(all.iter().map(last).collect::<Vec<_>>(), [2, 3, 4, 5]);
        for n in [2, 0] {
            bridge.release(&all[n].record).unwrap();
            bridge.release(&all[n].record).unwrap();
        }
        let again = container(&bridge, vec![]);
        assert_eq!(last(&again), 2);
        assert_eq!(last(&container(&bridge, vec![])), 4);
        // The new owner is reached although the former one's namespace is still there.
        serve_tcp(&all[0].sandbox.netns, 80, "former");
        serve_tcp(&again.sandbox.netns, 80, "owner");
        assert!(ask_tcp((v4(&again), 80)).starts_with("owner"));
    });
}

#[test]
fn fixed_addresses_and_their_refusals() {
    on_a_host(|| {
        let (_stack, bridge) = bridge();
        let at = |d: [u8; 4]| bridge.attach(&EndpointRequest { ipv4: Some(d.into()), ..request(vec![]) });
        let mac = Some([2, 0, 0, 0, 0, 9]);
        let fixed = EndpointRequest { ipv4: Some([10, 213, 0, 77].into()), mac, ..request(vec![]) };
        let first = bridge.attach(&fixed).unwrap();
        assert_eq!((v4(&first).octets()[3], first.record.mac[5]), (77, 9));
        for taken in [[10, 213, 0, 77], [10, 213, 0, 1], [10, 213, 0, 0], [10, 213, 0, 255]] {
            assert_eq!(at(taken).unwrap_err().to_string(), "Address already in use");
        }
        assert!(matches!(at([10, 99, 0, 2]).unwrap_err(), NetworkError::AddressOutside { .. }));
        assert_eq!(v4(&container(&bridge, vec![])).octets()[3], 2);
    });
}

#[test]
fn an_exhausted_subnet_says_so() {
    on_a_host(|| {
        let stack = stack(0);
        let bridge = BridgeNetwork::open(
            &stack,
            BridgeConfig { ipv4: at("10.213.0.1/30"), ..BridgeConfig::new("ferry0") },
        );
        let bridge = bridge.unwrap();
        let only = container(&bridge, vec![]);
        let error = bridge.attach(&request(vec![tcp(8080, 80)])).unwrap_err().to_string();
        let id = &bridge.config().id;
        assert_eq!(
            error,
            format!("no available IPv4 addresses on this network's address pools: bridge ({id})")
        );
        bridge.release(&only.record).unwrap();
        container(&bridge, vec![]);
    });
}

#[test]
fn port_conflicts_are_told_as_docker_does() {
    on_a_host(|| {
        let (_stack, bridge) = bridge();
        let web = container(&bridge, vec![tcp(8080, 80)]);
        let error = bridge.attach(&request(vec![tcp(8080, 80)])).unwrap_err().to_string();
        let (start, end) = error.split_at(error.find('(').unwrap());
        assert_eq!(start, "driver failed programming external connectivity on endpoint web ");
        assert_eq!(&end[66..], ": Bind for 0.0.0.0:8080 failed: port is already allocated");
        let _host = std::net::TcpListener::bind("127.0.0.1:9090").unwrap();
        let error = bridge.attach(&request(vec![tcp(9090, 80)])).unwrap_err().to_string();
        assert!(
            error.ends_with(
                "): failed to bind host port for 0.0.0.0:9090:10.213.0.3:80/tcp: address already in use"
            ),
            "{error}"
        );
        drop(web.relays);
        bridge.release(&web.record).unwrap();
        container(&bridge, vec![tcp(8080, 80)]);
    });
}

#[test]
fn a_failed_step_leaves_nothing() {
    on_a_host(|| {
        let stack = stack(0);
        let bridge = BridgeNetwork::open(&stack, config()).unwrap();
        for step in Step::ALL {
            *stack.inner.faults.next.lock().unwrap() = Some(step);
            bridge.attach(&request(vec![tcp(8080, 80)])).map(|_| ()).expect_err("the fault is injected");
            assert_eq!(*stack.inner.faults.next.lock().unwrap(), None, "{step:?} was reached");
            bridge.flush();
            eventually("the veth is gone", || veths().is_empty());
            assert_eq!(stack.inner.ports.in_use(), 0, "{step:?}");
            assert!(bridge.state().endpoints.is_empty(), "{step:?}");
            let held = bridge.adopt(&[]).unwrap();
            assert_eq!(held.stray_ports, 0, "{step:?}");
            let next = container(&bridge, vec![tcp(8080, 80)]);
            assert_eq!(v4(&next).octets()[3], 2, "{step:?}");
            bridge.release(&next.record).unwrap();
            drop(next);
            bridge.flush();
            eventually("the veth is gone", || veths().is_empty());
        }
    });
}

#[test]
fn two_hundred_containers_leave_nothing() {
    on_a_host(|| {
        let (stack, bridge) = bridge();
        for n in 0..200 {
            let e = container(&bridge, vec![tcp(8000 + n % 7, 80)]);
            drop((e.relays, e.sandbox));
            bridge.release(&e.record).unwrap();
        }
        assert_eq!(stack.inner.ports.in_use(), 0);
        bridge.destroy().unwrap();
        eventually("all veths are gone", || veths().is_empty());
        stack.destroy().unwrap();
        let names: Vec<_> = links().into_iter().map(|l| l.name).collect();
        assert!(!names.iter().any(|n| n == "ferry0"), "{names:?}");
        let mut netfilter =
            ferry_sys::netlink::Socket::open(ferry_sys::netlink::Protocol::Netfilter).unwrap();
        assert!(
            !ferry_sys::netlink::nft::table_exists(
                &mut netfilter,
                ferry_sys::netlink::nft::Family::Inet,
                TABLE
            )
            .unwrap()
        );
    });
}

#[test]
fn parallel_containers_get_different_addresses_and_ports() {
    on_a_host(|| {
        let (_stack, bridge) = bridge();
        let random = || vec![ferry_types::net::PublishRequest { host_ports: (0, 0), ..tcp(0, 80) }];
        let all: Vec<_> = std::thread::scope(|s| {
            let each: Vec<_> = (0..50).map(|_| s.spawn(|| container(&bridge, random()))).collect();
            each.into_iter().map(|h| h.join().unwrap()).collect()
        });
        let mut addresses: Vec<_> = all.iter().map(v4).collect();
        let mut ports: Vec<_> = all.iter().map(|e| e.record.published[0].host_port).collect();
        for list in [addresses.len(), ports.len()] {
            assert_eq!(list, 50);
        }
        addresses.sort();
        addresses.dedup();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!((addresses.len(), ports.len()), (50, 50));
        assert_eq!(addresses[49].octets()[3], 51);
    });
}

#[test]
fn network_none_has_loopback_only() {
    on_a_host(|| {
        let stack = stack(0);
        let sandbox = stack.isolated_sandbox().unwrap();
        inside(&sandbox.netns, || {
            let up: Vec<_> = links().into_iter().filter(|l| l.up).map(|l| l.name).collect();
            assert_eq!(up, ["lo"]);
        });
    });
}

/// Open descriptors of this process that are namespaces or sockets, which an endpoint has.
fn held() -> usize {
    let links = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let targets = links.filter_map(|fd| std::fs::read_link(fd.path()).ok());
    targets
        .filter(|t| t.to_string_lossy().starts_with("net:") || t.to_string_lossy().starts_with("socket:"))
        .count()
}

/// As many as an engine may have, all there at once.
#[test]
fn a_thousand_endpoints_leave_nothing() {
    const ENDPOINTS: usize = 1000;
    on_a_host(|| {
        let stack = stack(0);
        let wide = crate::BridgeConfig { ipv4: at("10.213.0.1/20"), ..config() };
        let bridge = BridgeNetwork::open(&stack, wide).unwrap();
        // Descriptors of other tests come and go.
        let before = held();
        let mut all = Vec::new();
        let mut half = std::time::Duration::ZERO;
        let began = std::time::Instant::now();
        for n in 0..ENDPOINTS {
            // As an engine does: a container's processes hold the namespace, its supervisor the sockets.
            let mut endpoint = container(&bridge, vec![tcp(20_000 + n as u16, 80)]);
            endpoint.relays.clear();
            all.push(endpoint);
            if n + 1 == ENDPOINTS / 2 {
                half = began.elapsed();
            }
        }
        let rest = began.elapsed().checked_sub(half).unwrap();
        assert!(rest < half * 3, "the second half took {rest:?}, the first {half:?}");
        assert_eq!((veths().len(), bridge.state().endpoints.len()), (ENDPOINTS, ENDPOINTS));
        eventually("nothing is astray", || bridge.audit().unwrap().is_empty());
        for endpoint in all.drain(..) {
            bridge.release(&endpoint.record).unwrap();
        }
        // The kernel removes namespaces, and links with them, many at a time; one by one would take it minutes.
        let began = std::time::Instant::now();
        while !veths().is_empty() && began.elapsed() < std::time::Duration::from_secs(120) {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        assert_eq!(veths(), [""; 0]);
        assert_eq!(stack.inner.ports.in_use(), 0);
        assert!(bridge.state().endpoints.is_empty());
        eventually("nothing is astray", || bridge.audit().unwrap().is_empty());
        let after = held();
        assert!(after < before + ENDPOINTS / 10, "{before} descriptors before, {after} after");
        assert_eq!(v4(&container(&bridge, vec![])).octets()[3], 2);
        bridge.destroy().unwrap();
    });
}
