//! What every driver's networks do alike, and what is macvlan's own.

use std::os::fd::{AsFd, OwnedFd};

use ferry_sys::netlink::child;
use ferry_sys::netlink::route::{self, LinkChange, LinkRef};
use ferry_sys::netlink::{Batch, Protocol as Family, Socket};

use super::support::*;
use crate::fault::Step;
use crate::{
    BridgeNetwork, ChildKind, Endpoint, EndpointRequest, IpvlanFlag, IpvlanMode, MacvlanMode, Network,
    NetworkError, NetworkStack, ParentConfig, ParentNetwork, Subnet4, Ways,
};

const BRIDGE_MODE: ChildKind = ChildKind::Macvlan(MacvlanMode::Bridge);

/// An interface of the host with somebody at its other end.
fn uplink() {
    let mut socket = Socket::open(Family::Route).unwrap();
    let mut batch = Batch::new();
    let here = ferry_sys::netns::current().unwrap();
    route::create_veth(&mut batch, "up0", None, "up1", here.as_fd(), None);
    for name in ["up0", "up1"] {
        let up = LinkChange { up: Some(true), ..LinkChange::default() };
        route::set_link(&mut batch, LinkRef::Name(name), &up);
    }
    socket.execute(batch).unwrap();
}

/// Opens the same network of 10.213.0.0/24 every time it is called.
type Open = Box<dyn Fn(&NetworkStack) -> Network>;

/// A network of each driver the kernel has, with the name of its links inside.
fn each_driver(test: fn(&NetworkStack, &Open)) {
    on_a_host(move || {
        let stack = stack(0);
        let open: Open = Box::new(|stack| BridgeNetwork::open(stack, config()).unwrap().into());
        test(&stack, &open);
    });
    let ipvlan = ChildKind::Ipvlan(IpvlanMode::L2, IpvlanFlag::Bridge);
    for kind in [BRIDGE_MODE, ipvlan] {
        on_a_host(move || {
            if !child::has_kind(&mut Socket::open(Family::Route).unwrap(), kind.name()).unwrap() {
                return;
            }
            uplink();
            let config = on_parent(Some("up0"), kind);
            let open: Open =
                Box::new(move |stack| ParentNetwork::open(stack, config.clone()).unwrap().into());
            test(&stack(0), &open);
        });
    }
}

fn attach(network: &Network) -> Endpoint {
    network.attach(&request(vec![])).unwrap()
}

fn last(endpoint: &Endpoint) -> u8 {
    v4(endpoint).octets()[3]
}

/// Names of the interfaces in a namespace, without `lo`.
fn interfaces(netns: &OwnedFd) -> Vec<String> {
    inside(netns, || links().into_iter().map(|l| l.name).filter(|name| name != "lo").collect())
}

/// Whether there is a default route in a namespace.
fn has_default_route(netns: &OwnedFd) -> bool {
    inside(netns, || {
        let routes = route::routes(&mut Socket::open(Family::Route).unwrap()).unwrap();
        routes.iter().any(|r| r.prefix == 0)
    })
}

#[test]
fn containers_get_addresses_and_reach_each_other() {
    each_driver(|stack, open| {
        let network = open(stack);
        let (a, b) = (attach(&network), attach(&network));
        assert_eq!((last(&a), last(&b)), (2, 3));
        assert_eq!(interfaces(&a.sandbox.netns), ["eth0"]);
        assert!(has_default_route(&a.sandbox.netns));
        serve_tcp(&b.sandbox.netns, 80, "b");
        let said = inside(&a.sandbox.netns, || ask_tcp((v4(&b), 80)));
        assert_eq!(said, format!("b {}", v4(&a)));
        let at = |ip: [u8; 4]| network.attach(&EndpointRequest { ipv4: Some(ip.into()), ..request(vec![]) });
        for taken in [[10, 213, 0, 1], [10, 213, 0, 3]] {
            assert_eq!(at(taken).unwrap_err().to_string(), "Address already in use");
        }
        assert!(matches!(at([10, 99, 0, 2]).unwrap_err(), NetworkError::AddressOutside { .. }));
        assert_eq!(last(&at([10, 213, 0, 77]).unwrap()), 77);
        network.release(&a.record).unwrap();
        network.release(&a.record).unwrap();
        assert_eq!(last(&attach(&network)), 2);
        network.close(false).unwrap();
    });
}

#[test]
fn a_running_container_joins_and_leaves() {
    each_driver(|stack, open| {
        let network = open(stack);
        let alone = stack.isolated_sandbox().unwrap();
        let quiet = EndpointRequest { default_route: Ways::default(), ..request(vec![]) };
        let joined = network.join(alone.netns.as_fd(), &quiet).unwrap();
        assert_eq!((interfaces(&alone.netns), last(&joined)), (vec!["eth0".to_owned()], 2));
        assert_eq!(joined.record.netns_inode, alone.netns_inode);
        assert!(!has_default_route(&alone.netns));
        network.route_through(alone.netns.as_fd(), &joined.record, Ways { ipv4: true, ipv6: true }).unwrap();
        assert!(has_default_route(&alone.netns));
        let second = network.join(alone.netns.as_fd(), &quiet).unwrap();
        assert_eq!(second.record.interface, "eth1");
        network.leave(alone.netns.as_fd(), &joined.record).unwrap();
        assert_eq!(interfaces(&alone.netns), ["eth1"]);
        assert_eq!(last(&network.join(alone.netns.as_fd(), &quiet).unwrap()), 2);
        assert_eq!(interfaces(&alone.netns).len(), 2);
    });
}

#[test]
fn names_and_sysctls_of_interfaces() {
    each_driver(|stack, open| {
        let network = open(stack);
        let asked = |name: &str, sysctl: &str| EndpointRequest {
            interface: Some(name.to_owned()),
            sysctls: vec![sysctl.to_owned()],
            ..request(vec![])
        };
        let martians = "net.ipv4.conf.IFNAME.log_martians=1";
        let made = network.attach(&asked("foo.0", martians)).unwrap();
        assert_eq!(interfaces(&made.sandbox.netns), ["foo.0"]);
        let path = "/proc/sys/net/ipv4/conf/foo.0/log_martians";
        let set = inside(&made.sandbox.netns, || std::fs::read_to_string(path).unwrap());
        assert_eq!(set.trim(), "1");
        for (name, sysctl, wanted) in [
            ("foo.0", martians, "error renaming interface to \"foo.0\": file exists"),
            ("lo", martians, "file exists"),
            ("foo/0", martians, "invalid argument"),
            ("sixteen-letters-", martians, "numerical result out of range"),
            ("foo1", "net.ipv4.conf.IFNAME.nope=1", "/net/ipv4/conf/foo1/nope is not a sysctl file"),
            ("foo1", "net.ipv4.conf.IFNAME", "to have format name=value"),
            ("foo1", "net.ipv4.conf.IFNAME.log_martians=abc", "foo1/log_martians: invalid argument"),
            ("foo1", "net.../../IFNAME.x=1", "is not a sysctl file"),
        ] {
            let error = network.join(made.sandbox.netns.as_fd(), &asked(name, sysctl)).unwrap_err();
            let error = error.to_string();
            assert!(error.starts_with("failed to add interface to sandbox: "), "{error}");
            assert!(error.ends_with(wanted), "{error}");
            network.flush();
            assert_eq!(interfaces(&made.sandbox.netns), ["foo.0"], "{error}");
        }
        // Free names are found beside chosen ones.
        let next = network.join(made.sandbox.netns.as_fd(), &request(vec![]));
        assert_eq!((next.unwrap().record.interface.as_str()), "eth0");
    });
}

#[test]
fn a_failed_step_leaves_nothing() {
    each_driver(|stack, open| {
        let network = open(stack);
        let alone = stack.isolated_sandbox().unwrap();
        let here = links().len();
        let steps = |joins: bool| {
            for step in Step::ALL {
                if !network.publishes() && !Step::WITHOUT_BRIDGE.contains(&step) {
                    continue;
                }
                *stack.inner.faults.next.lock().unwrap() = Some(step);
                let done = match joins {
                    true => network.join(alone.netns.as_fd(), &request(vec![])),
                    false => network.attach(&request(vec![tcp(8080, 80)])),
                };
                done.map(|_| ()).expect_err("the fault is injected");
                assert_eq!(*stack.inner.faults.next.lock().unwrap(), None, "{step:?} was reached");
                network.flush();
                assert_eq!(interfaces(&alone.netns), [""; 0], "{step:?}");
                eventually("the links are gone", || links().len() == here);
                assert_eq!(stack.inner.ports.in_use(), 0, "{step:?}");
            }
        };
        steps(true);
        steps(false);
        assert_eq!(last(&attach(&network)), 2);
    });
}

#[test]
fn a_restart_takes_endpoints_over() {
    each_driver(|stack, open| {
        let network = open(stack);
        let (a, b) = (attach(&network), attach(&network));
        drop(network);
        let network = open(stack);
        let report = network.adopt(&[a.record.clone(), b.record.clone()]).unwrap();
        assert_eq!((report.adopted, report.conflicting.len()), (2, 0));
        assert_eq!(last(&attach(&network)), 4);
        network.release(&a.record).unwrap();
        assert_eq!(last(&attach(&network)), 2);
    });
}

#[test]
fn who_stays_in_a_namespace_keeps_lo_only() {
    each_driver(|stack, open| {
        let network = open(stack);
        let a = attach(&network);
        // As a container that shares it does.
        let mut stays = std::process::Command::new("sleep");
        let mut stays = inside(&a.sandbox.netns, || stays.arg("60").spawn().unwrap());
        drop(a.sandbox.netns.try_clone());
        network.release(&a.record).unwrap();
        network.flush();
        let left = interfaces(&a.sandbox.netns);
        stays.kill().unwrap();
        stays.wait().unwrap();
        assert_eq!(left, [""; 0]);
    });
}

#[test]
fn macvlan_without_parent_leads_nowhere() {
    on_a_host(|| {
        let stack = stack(0);
        let alone = on_parent(None, BRIDGE_MODE);
        let ipv4 = alone.ipv4.iter().map(|s| Subnet4 { gateway: None, ..*s }).collect();
        let config = ParentConfig { ipv4, ..alone };
        let network: Network = ParentNetwork::open(&stack, config.clone()).unwrap().into();
        let own = || links().into_iter().filter(|l| l.name == config.tag()).count();
        assert_eq!((own(), network.ways_out()), (1, Ways::default()));
        // There is no router that would need the first address.
        let (a, b) = (attach(&network), attach(&network));
        assert_eq!((last(&a), has_default_route(&a.sandbox.netns)), (1, false));
        serve_tcp(&b.sandbox.netns, 80, "b");
        inside(&a.sandbox.netns, || ask_tcp((v4(&b), 80)));
        let again = ParentNetwork::open(&stack, config.clone()).unwrap();
        again.close(true).unwrap();
        assert_eq!(own(), 1, "others use it");
        network.close(false).unwrap();
        assert_eq!(own(), 0);
    });
}

#[test]
fn macvlan_parents_that_are_not_to_be_had() {
    on_a_host(|| {
        uplink();
        let stack = stack(0);
        let refused = |parent: &str| {
            let config = on_parent(Some(parent), BRIDGE_MODE);
            ParentNetwork::open(&stack, config).unwrap_err().to_string()
        };
        let cases = [
            ("lo", "loopback interface is not a valid macvlan parent link"),
            ("none0", "invalid subinterface vlan name none0, example formatting is eth0.10"),
            ("none0.7", "-o parent interface was not found on the host: none0"),
            ("up0.4095", "vlan id must be between 1-4094, received: 4095"),
            ("up0.x", "unable to parse a valid vlan id from: x (ex. eth0.10 for vlan 10)"),
        ];
        for (parent, wanted) in cases {
            assert_eq!(refused(parent), wanted);
        }
        assert_eq!(links().len(), 3);
    });
}

#[test]
fn macvlan_vlans_come_and_go() {
    on_a_host(|| {
        uplink();
        let stack = stack(0);
        let vlans = || links().into_iter().filter(|l| l.name == "up0.10").count();
        match ParentNetwork::open(&stack, on_parent(Some("up0.10"), BRIDGE_MODE)) {
            Ok(network) => {
                assert_eq!((vlans(), network.made_parent()), (1, true));
                network.close(false).unwrap();
            }
            // Not every kernel has them.
            Err(error) => {
                assert_eq!(error.to_string(), "failed to create up0.10 vlan link: operation not supported");
            }
        }
        assert_eq!(vlans(), 0);
    });
}

#[test]
fn hardware_addresses_on_macvlan() {
    on_a_host(|| {
        uplink();
        let stack = stack(0);
        let network: Network =
            ParentNetwork::open(&stack, on_parent(Some("up0"), BRIDGE_MODE)).unwrap().into();
        let mac = Some([2, 0, 0, 0, 0, 9]);
        let fixed = EndpointRequest { mac, ..request(vec![]) };
        let first = network.attach(&fixed).unwrap();
        assert_eq!(Some(first.record.mac), mac);
        let error = network.attach(&fixed).unwrap_err().to_string();
        let wanted = "error setting interface MAC to \"02:00:00:00:00:09\": address already in use";
        assert!(error.ends_with(wanted), "{error}");
        // The next run of the same container waits for the last one's namespace to go.
        network.release(&first.record).unwrap();
        drop(first);
        let again = network.attach(&fixed).unwrap();
        assert_eq!((Some(again.record.mac), last(&again)), (mac, 2));
        let (a, b) = (attach(&network), attach(&network));
        assert_ne!(a.record.mac, b.record.mac);
        assert_eq!(a.record.mac[0] & 3, 2, "locally administered, no multicast");
    });
}

#[test]
fn a_parent_passed_through_has_one_container() {
    on_a_host(|| {
        uplink();
        let stack = stack(0);
        let config = on_parent(Some("up0"), ChildKind::Macvlan(MacvlanMode::Passthru));
        let network: Network = ParentNetwork::open(&stack, config).unwrap().into();
        for _ in 0..3 {
            let only = attach(&network);
            let error = network.attach(&request(vec![])).unwrap_err().to_string();
            assert_eq!(error, "failed to create the macvlan port: invalid argument");
            network.release(&only.record).unwrap();
        }
    });
}

#[test]
fn a_kernel_without_the_driver_is_named() {
    on_a_host(|| {
        uplink();
        let kind = ChildKind::Ipvlan(IpvlanMode::L3, IpvlanFlag::Bridge);
        let opened = ParentNetwork::open(&stack(0), on_parent(Some("up0"), kind));
        match child::has_kind(&mut Socket::open(Family::Route).unwrap(), "ipvlan").unwrap() {
            false => {
                let error = opened.unwrap_err().to_string();
                assert!(
                    error.ends_with("operation not supported: this kernel has no ipvlan driver"),
                    "{error}"
                );
            }
            true => {
                // The host routes: no router takes part.
                let network: Network = opened.unwrap().into();
                let a = attach(&network);
                assert_eq!((a.record.gateway, has_default_route(&a.sandbox.netns)), (None, true));
            }
        }
    });
}
