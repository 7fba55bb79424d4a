//! Times on the start path. The limits are far above what is measured on an idle machine: they catch a
//! system call that blocks for an RCU grace period, not noise. Run with `--nocapture` for the figures.

use std::time::{Duration, Instant};

use super::support::*;

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() - 1) * percent / 100]
}

#[test]
fn attach_from_the_pool_is_quick() {
    on_a_host(|| {
        let stack = stack(4);
        let bridge = crate::BridgeNetwork::open(&stack, config()).unwrap();
        bridge.adopt(&[]).unwrap();
        for (what, ports) in [("without ports", vec![]), ("with a port", vec![tcp(8080, 80)])] {
            let (mut attach, mut release) = (Vec::new(), Vec::new());
            for _ in 0..200 {
                eventually("the pool is full", || bridge.pool().unwrap().len() == 4);
                let begin = Instant::now();
                let e = container(&bridge, ports.clone());
                attach.push(begin.elapsed());
                drop((e.relays, e.sandbox));
                let begin = Instant::now();
                bridge.release(&e.record).unwrap();
                release.push(begin.elapsed());
            }
            for (name, times) in [("attach", &mut attach), ("release", &mut release)] {
                times.sort();
                let (p50, p99) = (percentile(times, 50), percentile(times, 99));
                say(&format!("{name} {what}: p50 {p50:?}, p99 {p99:?}, max {:?}", times[199]));
            }
            assert!(percentile(&attach, 50) < Duration::from_millis(10));
        }
    });
}

#[test]
fn fifty_at_once_do_not_queue_up() {
    on_a_host(|| {
        let (_stack, bridge) = bridge();
        let begin = Instant::now();
        std::thread::scope(|s| {
            for _ in 0..50 {
                s.spawn(|| container(&bridge, vec![]));
            }
        });
        say(&format!("50 at once: {:?}", begin.elapsed()));
        assert!(begin.elapsed() < Duration::from_secs(5));
    });
}

#[test]
fn ten_thousand_ports_are_one_transaction() {
    on_a_host(|| {
        let (_stack, bridge) = bridge();
        let ports: Vec<_> = (20000..30000).map(|p| tcp(p, p)).collect();
        let begin = Instant::now();
        let e = container(&bridge, ports);
        let attach = begin.elapsed();
        serve_tcp(&e.sandbox.netns, 29999, "last");
        assert!(ask_tcp((GATEWAY, 29999)).starts_with("last"));
        let begin = Instant::now();
        bridge.release(&e.record).unwrap();
        say(&format!("10000 ports: attach {attach:?}, release {:?}", begin.elapsed()));
        assert!(attach < Duration::from_secs(5));
        assert_no_tcp((GATEWAY, 29999));
    });
}
