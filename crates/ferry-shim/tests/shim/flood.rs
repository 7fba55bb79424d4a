//! Much output and clients that cannot keep up.

use std::io::{Read, Write};
use std::time::Duration;

use crate::bed::{Bed, await_that, read_all, streams};
use crate::measure::memory_kib;

const MIB: usize = 1 << 20;

#[test]
fn a_slow_client_loses_nothing_and_memory_stays_bounded() {
    let mut bed = Bed::sh("yes 0123456789abcdef0123456789abcdef | head -c 209715200");
    let mut client = bed.early(streams(false, false));
    let mut bed = bed.start();
    let mut expected = b"0123456789abcdef0123456789abcdef\n".iter().copied().cycle();
    let mut buf = vec![0; MIB];
    let mut total = 0;
    let mut peak = 0;
    loop {
        let n = client.read(&mut buf).unwrap();
        if n == 0 {
            break;
        }
        assert!(buf[..n].iter().all(|&b| b == expected.next().unwrap()), "after {total} bytes");
        if total / (20 * MIB) != (total + n) / (20 * MIB) {
            std::thread::sleep(Duration::from_millis(20));
            peak = peak.max(memory_kib(bed.shim.pid, "Pss"));
        }
        total += n;
    }
    assert_eq!(total, 200 * MIB);
    assert!(peak < 8 * 1024, "the shim grew to {peak} KiB");
    assert_eq!(bed.exited().code, 0);
    let records = std::fs::read(bed.log_path()).unwrap();
    assert_eq!(records.iter().filter(|&&b| b == b'\n').count(), (200 * MIB).div_ceil(33));
    bed.finish();
}

#[test]
fn a_stuck_client_holds_the_container_until_it_leaves() {
    let mut bed = Bed::sh("yes | head -c 2000000; echo end >&2");
    let stuck = bed.early(streams(false, true));
    let mut bed = bed.start();
    let log = bed.log_path();
    std::thread::sleep(Duration::from_millis(500));
    let size = || std::fs::metadata(&log).unwrap().len();
    let before = size();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(size(), before, "output is read although a client is stuck");
    assert!(memory_kib(bed.shim.pid, "Pss") < 8 * 1024);
    drop(stuck);
    bed.exited();
    let log = bed.log();
    assert_eq!(log.len(), 1_000_001);
    assert_eq!(log.iter().filter(|(stream, _)| stream == "stderr").count(), 1);
    bed.finish();
}

#[test]
fn a_client_that_reads_late_still_gets_the_end() {
    let mut bed = Bed::sh("head -c 400000 /dev/zero; echo end");
    let client = bed.early(streams(false, false));
    let mut bed = bed.start();
    // The container ends with output the client has not taken; the exit is not held up for ever.
    std::thread::sleep(Duration::from_millis(300));
    bed.shim.client = None;
    std::thread::sleep(Duration::from_millis(200));
    let bytes = read_all(client);
    assert_eq!(bytes.len(), 400_004);
    assert!(bytes.ends_with(b"end\n"));
    assert_eq!(bed.shim.wait(), 0);
    assert_eq!(bed.record().unwrap().code, 0);
}

#[test]
fn memory_is_given_back_after_a_burst() {
    let mut bed = Bed::sh("read x; yes | head -c 4000000; sleep 1000").stdin(false).start();
    let mut client = bed.attach(streams(true, false));
    std::thread::sleep(Duration::from_millis(200));
    let pid = bed.shim.pid;
    let before = memory_kib(pid, "Anonymous");
    client.write_all(b"\n").unwrap();
    let log = bed.log_path();
    let mut buf = vec![0; MIB];
    let mut total = 0;
    while total < 4_000_000 {
        total += client.read(&mut buf).unwrap();
    }
    assert!(std::fs::metadata(&log).unwrap().len() > 2_000_000 * 60);
    await_that(|| memory_kib(pid, "Anonymous") < before + 100);
    bed.kill();
    bed.finish();
}
