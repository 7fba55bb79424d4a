//! The `ferry` program: client, daemon and OCI runtime in one file.
//!
//! What to be is decided from the program's name and first argument before anything else is set up:
//! a client must not pay for the daemon's runtime, nor the runtime for the client's command table.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    ferry_cli::main(std::env::args_os())
}
