//! What ends up in the log.

use crate::bed::Bed;

#[test]
fn streams_are_told_apart_and_an_open_line_is_kept() {
    let bed = Bed::sh("echo out; echo err >&2; usleep 50000; printf 'last'").start();
    let log = bed.log_path();
    let bed_dir = bed.dir.path().to_owned();
    let mut bed = bed;
    assert_eq!(bed.exited().code, 0);
    let mut records = bed.log();
    let last = records.pop().unwrap();
    records.sort();
    assert_eq!(records, [("stderr".into(), "err\n".into()), ("stdout".into(), "out\n".into())]);
    assert_eq!(last, ("stdout".to_owned(), "last".to_owned()));
    let text = std::fs::read_to_string(log).unwrap();
    for line in text.lines() {
        let (_, time) = line.rsplit_once(",\"time\":\"").unwrap();
        let time = time.strip_suffix("\"}").unwrap();
        assert!(time.ends_with('Z') && time.starts_with("20") && !time.ends_with("0Z"), "{time}");
    }
    bed.finish();
    assert!(!bed_dir.exists());
}

#[test]
fn long_lines_are_split_and_bytes_escaped() {
    let bed = Bed::sh("head -c 20480 /dev/zero | tr '\\0' x; echo; printf '\\001\\377<é>\\n'").start();
    let mut bed = bed;
    bed.exited();
    let texts: Vec<String> = bed.log().into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts[0], "x".repeat(16384));
    assert_eq!(texts[1], "x".repeat(4096) + "\n");
    assert_eq!(texts[2], "\u{1}\u{fffd}<é>\n");
    let raw = std::fs::read_to_string(bed.log_path()).unwrap();
    assert!(raw.contains(r#"{"log":"\u0001\ufffd\u003cé\u003e\n","stream":"stdout","time":"#), "{raw}");
    bed.finish();
}

#[test]
fn files_rotate_while_the_container_runs() {
    let mut bed = Bed::sh("for i in $(seq 1 2000); do echo line $i; done");
    let log = bed.launch.log.as_mut().unwrap().file.as_mut().unwrap();
    log.max_size = Some(20_000);
    log.max_files = 3;
    let mut bed = bed.start();
    bed.exited();
    let mut numbers = Vec::new();
    for name in ["log.json.2", "log.json.1", "log.json"] {
        let text = std::fs::read_to_string(bed.dir.path().join(name)).unwrap();
        assert!(text.len() < 20_200, "{name}: {}", text.len());
        for line in text.lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let text = line["log"].as_str().unwrap().trim_end();
            numbers.push(text.strip_prefix("line ").unwrap().parse::<u32>().unwrap());
        }
    }
    let first = numbers[0];
    assert!(numbers.iter().copied().eq(first..=2000), "{first}..{}", numbers.len());
    assert!(!bed.dir.path().join("log.json.3").exists());
    bed.finish();
}

#[test]
fn without_a_log_driver_nothing_is_written() {
    let mut bed = Bed::sh("echo hello");
    bed.launch.log = None;
    let mut bed = bed.start();
    bed.exited();
    assert!(!bed.dir.path().join("log.json").exists());
    bed.finish();
}
