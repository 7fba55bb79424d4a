//! The integration suite. It meets ferry as its users do: through the `ferry` command, the stock
//! `docker` client, raw HTTP on the socket, and what can be seen of it on the host.
//!
//! `cargo xtask test` prepares what it needs and runs it; see `harness::settings` for the variables
//! that carry this over. Without them every test is skipped.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a test runner talks to its user")]

mod cases;
mod harness;

use std::process::ExitCode;

use libtest_mimic::Arguments;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    if words.next().as_deref() == Some(cases::names::GENERATOR) {
        return cases::names::generate(words);
    }
    let mut arguments = Arguments::from_args();
    // Most tests wait for containers rather than compute; two at a time suit two processors, and
    // timing-sensitive tests keep their peace.
    arguments.test_threads.get_or_insert(2);
    harness::run(&arguments, cases::all())
}
