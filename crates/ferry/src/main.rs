//! The `ferry` program: client, daemon and OCI runtime in one file.
//!
//! What to be is decided from the program's name and first argument before anything else is set up:
//! a client must not pay for the daemon's runtime, nor the runtime for the client's command table.

#![forbid(unsafe_code)]

mod daemon;
mod names;
mod oci;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let program = args.next().unwrap_or_default();
    let name = Path::new(&program).file_name().unwrap_or_default();
    // Before the name is looked at: a daemon called dockerd starts its name server under that name.
    if std::env::args_os().nth(1).is_some_and(|first| first == names::COMMAND) {
        return names::run(args.skip(1));
    }
    if name == "dockerd" || name == "ferryd" {
        return daemon::run(args, name == "dockerd");
    }
    let mut rest = args;
    match rest.next() {
        Some(first) if first == "daemon" => daemon::run(rest, false),
        Some(first) if first == "oci" => oci::run(std::iter::once(program).chain(rest)),
        _ => ferry_cli::main(std::env::args_os()),
    }
}
