//! Every fuzz target for a moment, with inputs that are the same in every run. `FERRY_FUZZ_SECONDS` makes it
//! longer, `FERRY_FUZZ_SEED` other; what is found is printed and belongs into `fuzz/corpus/TARGET/`.

#![allow(clippy::print_stdout, reason = "says how much was tried")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use ferry_testkit::mutate::{Random, mutate};
use ferry_testkit::{TARGETS, Target};

/// An input that takes longer is a finding: these are small.
const SLOW: Duration = Duration::from_secs(5);
/// Inputs of a plain run, so that it is the same on every machine unless that is very slow.
const INPUTS: u64 = 3_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Inputs that once were findings.
fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target.name);
    let mut files: Vec<_> =
        std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

fn run_one(target: &Target, input: &[u8]) {
    let mut began = Instant::now();
    let mut outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    let mut slow = began.elapsed() > SLOW;
    for _ in 0..3 {
        if outcome.is_err() || !slow {
            break;
        }
        // The machine may be busy with something else.
        began = Instant::now();
        outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
        slow = began.elapsed() > SLOW;
    }
    if outcome.is_ok() && !slow {
        return;
    }
    let file = std::env::temp_dir().join(format!("ferry-fuzz-{}-{}", target.name, std::process::id()));
    std::fs::write(&file, input).unwrap();
    let what = if slow { format!("takes {:?}", began.elapsed()) } else { "panics".to_owned() };
    panic!("{} {what} on {:?}, which is in {}", target.name, String::from_utf8_lossy(input), file.display());
}

fn run(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let mut known = (target.seeds)();
    known.extend(corpus(target));
    for input in known.clone() {
        run_one(target, &input);
    }
    let (limit, inputs) = match number("FERRY_FUZZ_SECONDS") {
        Some(seconds) => (Duration::from_secs(seconds), u64::MAX),
        None => (Duration::from_secs(5), INPUTS),
    };
    let mut random = Random::new(number("FERRY_FUZZ_SEED").unwrap_or(1));
    let (began, mut count) = (Instant::now(), 0);
    while count < inputs && began.elapsed() < limit {
        let input = mutate(target, &known, &mut random);
        run_one(target, &input);
        count += 1;
        // Without coverage nobody knows which are good; some variety is better than none.
        if count % 64 == 0 && known.len() < 4_000 {
            known.push(input);
        }
    }
    println!("{name}: {count} inputs");
}

macro_rules! targets {
    ($($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            run(stringify!($name));
        })*

        #[test]
        fn none_is_forgotten() {
            assert_eq!([$(stringify!($name)),*], TARGETS.map(|target| target.name));
        }
    };
}

targets!(
    image_reference,
    tar_layer,
    image_archive,
    create_body,
    dns_message,
    ports,
    mounts,
    filters,
    template,
    log_file
);
