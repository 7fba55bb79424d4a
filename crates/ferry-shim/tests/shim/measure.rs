//! Figures. The ignored tests print them; run with a release build of the shim in `FERRY_SHIM_BIN`:
//! `cargo test -p ferry-shim --test shim measure -- --ignored --nocapture --test-threads 1`.

use std::io::Write;
use std::time::{Duration, Instant};

use crate::bed::Bed;

/// A field of `/proc/PID/smaps_rollup` (proc_pid_smaps(5)).
pub fn memory_kib(pid: i32, field: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text.lines().find(|line| line.starts_with(&format!("{field}:"))).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Processor time used, in clock ticks (fields 14 and 15 of `/proc/PID/stat`).
pub fn cpu_ticks(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

fn report(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn median(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort();
    (times[times.len() / 2], times[0])
}

#[test]
#[ignore = "a measurement"]
fn launch_latency() {
    let mut launch = Vec::new();
    let mut exit = Vec::new();
    let mut exec = Vec::new();
    for _ in 0..40 {
        let mut bed = Bed::idle();
        std::thread::sleep(Duration::from_millis(5));
        let begin = Instant::now();
        bed.pid = bed.try_start().unwrap();
        launch.push(begin.elapsed());
        bed.subscribe();
        let begin = Instant::now();
        crate::exec::run(&mut bed, &["true"]);
        exec.push(begin.elapsed());
        std::thread::sleep(Duration::from_millis(60));
        let begin = Instant::now();
        bed.kill();
        bed.exited();
        exit.push(begin.elapsed());
        bed.finish();
    }
    for (name, times) in [("launch to started", launch), ("exec true", exec), ("kill to exited", exit)] {
        let (median, least) = median(times);
        report(&format!("{name}: median {median:?}, least {least:?}"));
    }
}

#[test]
#[ignore = "a measurement"]
fn idle_memory() {
    let mut beds: Vec<Bed> = Vec::new();
    for _ in 0..20 {
        beds.push(Bed::idle().start());
    }
    std::thread::sleep(Duration::from_millis(300));
    for field in ["Rss", "Pss", "Private_Dirty", "Anonymous"] {
        let one: Vec<u64> = beds.iter().map(|bed| memory_kib(bed.shim.pid, field)).collect();
        report(&format!("{field} of 20 idle shims: {:.0} KiB each", one.iter().sum::<u64>() as f64 / 20.0));
    }
    for mut bed in beds {
        bed.kill();
        bed.finish();
    }
    let mut bed = Bed::idle().start();
    std::thread::sleep(Duration::from_millis(300));
    report(&format!("Pss of a single idle shim: {} KiB", memory_kib(bed.shim.pid, "Pss")));
    bed.kill();
    bed.finish();
}

#[test]
#[ignore = "a measurement"]
fn log_throughput() {
    for (name, script, total) in [
        (
            "80-byte lines",
            "yes 1234567890123456789012345678901234567890123456789012345678901234567890123456789",
            400,
        ),
        ("2-byte lines", "yes", 50),
    ] {
        let mut bed = Bed::sh(&format!("{script} | head -c {}", total * 1_000_000));
        bed.launch.log.as_mut().unwrap().file.as_mut().unwrap().max_size = Some(64 << 20);
        let mut bed = bed.start();
        let begin = Instant::now();
        bed.exited();
        let seconds = begin.elapsed().as_secs_f64();
        let ticks = cpu_ticks(bed.shim.pid);
        report(&format!(
            "{name}: {:.0} MB/s through the pipe to the log; {:.0} MB per second of the shim's processor",
            f64::from(total) / seconds,
            f64::from(total) / (ticks as f64 / 100.0),
        ));
        bed.finish();
    }
}
