//! Others' hands on the rules, others' rules in the way, former engines' tables.

use std::time::{Duration, Instant};

use super::support::*;
use crate::config::TableProtection;
use crate::firewall::Firewall;
use crate::firewall::rules::PerFamily;
use crate::{BridgeConfig, BridgeNetwork, FirewallBackend, FirewallConfig};

/// A bridge with a published port and a connection to another one, then a flush of everything, as a reload does it.
fn flush(connections_survive: bool, flush: impl FnOnce() -> bool) {
    let (_stack, bridge) = bridge();
    let outside = neighbour();
    let web = container(&bridge, vec![tcp(8080, 80), tcp(8081, 81)]);
    let mut connection = echo_connection(&web.sandbox.netns, 81, &outside, (HOST, 8081).into());
    serve_tcp(&web.sandbox.netns, 80, "web");
    connection.works();
    // The watcher of iptables has looked at the tables once.
    std::thread::sleep(Duration::from_millis(600));
    if !flush() {
        return say("skipped: the program is not installed");
    }
    let begin = Instant::now();
    if connections_survive {
        connection.works();
    }
    let answers = || inside(&outside, || try_tcp((HOST, 8080)).is_ok());
    eventually("the port is published again", answers);
    say(&format!("repaired after {:?}", begin.elapsed()));
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    if connections_survive {
        connection.works();
    }
    let ip = v4(&web);
    eventually("unpublished ports are closed again", || inside(&outside, || try_tcp((ip, 80)).is_err()));
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
}

#[test]
fn a_table_of_ours_is_not_flushed() {
    on_a_host(|| {
        flush(true, || nft_script("flush ruleset"));
    });
    on_a_host(|| {
        let (stack, bridge) = bridge();
        let refused = || !program("nft delete table inet ferry-test");
        if !program("nft --version") {
            return say("skipped: nft is not installed");
        }
        if !refused() {
            return say("skipped: this kernel's tables cannot be owned for good");
        }
        // The next process takes it over as it is.
        let before = nft_list();
        drop((bridge, stack));
        let (stack, bridge) = super::support::bridge();
        assert!(refused());
        let rules =
            |list: Option<String>| list.map(|l| l.lines().skip(2).map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(rules(nft_list()), rules(before));
        // Nobody's: anybody may delete it.
        drop((bridge, stack));
        assert!(!refused());
    });
}

#[test]
fn connections_survive_a_flush_where_a_table_cannot_be_owned_for_good() {
    with_firewall(FirewallConfig { table: TableProtection::Held, ..FirewallConfig::default() }, || {
        flush(true, || nft_script("flush ruleset"));
    });
}

#[test]
fn flushed_chains_of_iptables_are_repaired() {
    for variant in ["legacy", "nft"] {
        let programs = |family: &str| format!("{family}-{variant}");
        let backend = FirewallBackend::Iptables { ipv4: programs("iptables"), ipv6: programs("ip6tables") };
        if !program(&format!("iptables-{variant} --version")) {
            say("skipped: iptables is not installed");
            continue;
        }
        with_firewall(FirewallConfig { backend, ..FirewallConfig::default() }, move || {
            // Packets that come between are answered by the host, which knows no such connection.
            flush(false, || {
                ["nat", "filter", "raw"].iter().all(|t| {
                    let program = |verb| program(&format!("iptables-{variant} -t {t} {verb}"));
                    program("-F") && program("-X")
                })
            });
        });
    }
}

#[test]
fn single_deletions_are_repaired() {
    with_an_open_table(|| {
        let (_stack, bridge) = bridge();
        let web = container(&bridge, vec![tcp(8080, 80)]);
        serve_tcp(&web.sandbox.netns, 80, "web");
        let Some(intact) = nft_list() else { return say("skipped: nft is not installed") };
        let same = || nft_list().is_some_and(|now| now == intact);
        for deletion in [
            "flush chain inet ferry-test forward",
            "flush chain inet ferry-test to-ferry0",
            "delete element inet ferry-test bridges { \"ferry0\" }",
            "delete element inet ferry-test to-bridge { \"ferry0\" }",
            "delete element inet ferry-test leave-to { \"ferry0\" }; delete chain inet ferry-test leave-to-ferry0",
            "delete element inet ferry-test published { tcp . 8080 }",
            "delete element inet ferry-test published { tcp . 8080 }; \
             add element inet ferry-test published { tcp . 8080 : 10.213.0.99 . 80 }",
            "flush chain inet ferry-test prerouting; add rule inet ferry-test prerouting counter; \
             add rule inet ferry-test prerouting counter",
        ] {
            let begin = Instant::now();
            assert!(nft_script(&deletion.replace("; ", "\n")));
            // Perhaps already.
            eventually(deletion, same);
            say(&format!("{deletion}: {:?}", begin.elapsed()));
            assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
        }
        // A rule of somebody's in our table takes nothing away.
        assert!(nft_script("insert rule inet ferry-test forward counter"));
        std::thread::sleep(Duration::from_millis(300));
        assert!(!same());
        ask_tcp((GATEWAY, 8080));
    });
}

#[test]
fn the_table_of_an_older_engine_goes_without_a_gap() {
    on_a_host(|| {
        let old = "table ip ferry-test {
            map published { type inet_proto . inet_service : ipv4_addr . inet_service
                elements = { tcp . 8080 : 10.213.0.2 . 80, tcp . 9090 : 10.213.0.3 . 80 } }
            map published-on { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; } }";
        if !nft_script(old) {
            return;
        }
        let (_stack, bridge) = bridge();
        assert!(!program("nft list table ip ferry-test"));
        let listed = nft_list().unwrap();
        assert!(listed.contains("tcp . 8080 : 10.213.0.2 . 80"), "{listed}");
        // What nobody has any more goes with the usual comparison.
        let report = bridge.adopt(&[]).unwrap();
        assert_eq!(report.stray_ports, 2);
    });
}

#[test]
fn another_backend_takes_over() {
    let legacy =
        FirewallBackend::Iptables { ipv4: "iptables-nft".to_owned(), ipv6: "ip6tables-nft".to_owned() };
    on_a_host(move || {
        if !program("iptables-nft --version") {
            return say("skipped: iptables is not installed");
        }
        let (stack, bridge) = bridge();
        let web = container(&bridge, vec![tcp(8080, 80)]);
        serve_tcp(&web.sandbox.netns, 80, "web");
        drop((bridge, stack));
        let by = |backend| {
            let firewall = FirewallConfig { backend, ..FirewallConfig::default() };
            let config =
                crate::StackConfig { table_name: TABLE.to_owned(), pool_size: 0, spare: 0, firewall };
            let stack = crate::NetworkStack::open(config).unwrap();
            let bridge = BridgeNetwork::open(&stack, super::support::config()).unwrap();
            let report = bridge.adopt(std::slice::from_ref(&web.record)).unwrap();
            assert_eq!((report.adopted, report.republished), (1, 0));
            ask_tcp((GATEWAY, 8080));
            stack.firewall_driver()
        };
        assert_eq!(by(legacy), "iptables");
        assert!(!program("nft list table inet ferry-test"));
        assert_eq!(by(FirewallBackend::Nftables), "nftables");
        assert!(!program("iptables-nft -t nat -S FERRY-ferry-test-PUB"));
        assert!(program("nft list table inet ferry-test"));
    });
}

#[test]
fn nothing_of_iptables_is_left_and_other_rules_stay() {
    for variant in ["legacy", "nft"] {
        let backend = FirewallBackend::Iptables {
            ipv4: format!("iptables-{variant}"),
            ipv6: format!("ip6tables-{variant}"),
        };
        with_firewall(FirewallConfig { backend, ..FirewallConfig::default() }, move || {
            if !program(&format!("iptables-{variant} -A FORWARD -s 192.0.2.77 -j DROP")) {
                return say("skipped: iptables is not installed");
            }
            let rules = || {
                let out = std::process::Command::new(format!("iptables-{variant}-save")).output().unwrap();
                String::from_utf8(out.stdout).unwrap()
            };
            let (stack, bridge) = bridge();
            let _web = container(&bridge, vec![tcp(8080, 80)]);
            assert!(rules().contains("-A FORWARD -j FERRY-test-FWD"), "{}", rules());
            bridge.destroy().unwrap();
            stack.destroy().unwrap();
            assert!(!rules().contains("FERRY"), "{}", rules());
            assert!(rules().contains("-A FORWARD -s 192.0.2.77/32 -j DROP"), "{}", rules());
        });
    }
}

#[test]
fn chains_that_drop_what_is_forwarded_are_named() {
    on_a_host(|| {
        let (stack, _bridge) = bridge();
        assert_eq!(stack.obstacles("ferry0"), [""; 0]);
        if !nft_script(
            "table ip filter { chain FORWARD { type filter hook forward priority filter; policy drop; } }",
        ) {
            return;
        }
        let found = stack.obstacles("ferry0");
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("chain FORWARD of table ip filter drops"), "{found:?}");
        // Somebody has thought of the bridge.
        assert!(nft_script("add rule ip filter FORWARD oifname \"ferry0\" accept"));
        assert_eq!(stack.obstacles("ferry0"), [""; 0]);
        // As firewalld ends its chain.
        assert!(nft_script(
            "table inet walld { chain last { type filter hook forward priority filter + 10; \
             ct state established accept\n counter reject with icmpx admin-prohibited\n } }"
        ));
        let found = stack.obstacles("ferry0");
        assert!(found.len() == 1 && found[0].contains("chain last of table inet walld"), "{found:?}");
        assert!(nft_script("delete table inet walld"));
        if program("iptables-legacy -P FORWARD DROP") {
            let found = stack.obstacles("ferry0");
            assert!(found.len() == 1 && found[0].contains("iptables-legacy"), "{found:?}");
            assert!(program("iptables-legacy -A FORWARD -i ferry0 -j ACCEPT"));
            assert_eq!(stack.obstacles("ferry0"), [""; 0]);
        }
    });
}

#[test]
fn bridges_come_and_go_as_quickly_with_hundreds_of_others() {
    on_a_host(|| {
        let mut firewall = Firewall::open(TABLE, &FirewallConfig::default()).unwrap();
        let rules = |n: u32| {
            let subnet = ipnet::Ipv4Net::new((0x0a00_0000 + (n << 8)).into(), 24).unwrap();
            let ipv4 = Some(crate::Subnet4::at(subnet));
            let config = BridgeConfig { ipv4, ..BridgeConfig::new(&format!("br{n}")) };
            crate::publishing::bridge_rules(&config, &FirewallConfig::default())
        };
        let time = |firewall: &mut Firewall, numbers: std::ops::Range<u32>| {
            let begin = Instant::now();
            for n in numbers {
                let rules = rules(n);
                assert_eq!(rules.filtered, PerFamily { ipv4: true, ipv6: true });
                firewall.add_bridge(rules).unwrap();
            }
            begin.elapsed()
        };
        let first = time(&mut firewall, 0..50);
        let middle = time(&mut firewall, 50..450);
        let last = time(&mut firewall, 450..500);
        say(&format!("bridges 1 to 50: {first:?}, 51 to 450: {middle:?}, 451 to 500: {last:?}"));
        assert!(last < first * 5 + Duration::from_millis(100), "{first:?}, {last:?}");
        assert!(firewall.is_intact().unwrap());
        let begin = Instant::now();
        firewall.restore().unwrap();
        say(&format!("all made anew: {:?}", begin.elapsed()));
        let begin = Instant::now();
        for n in 0..500 {
            firewall.remove_bridge(&format!("br{n}")).unwrap();
        }
        say(&format!("500 removed: {:?}", begin.elapsed()));
        firewall.destroy().unwrap();
    });
}
