//! The command-line client: Docker's commands, flags, output and exit codes over the Engine API.
//!
//! The crate is an edge: it reads the environment, writes to the terminal and decides on exit codes.
//! It never reaches into the engine; everything goes through `ferry-client`.

#![forbid(unsafe_code)]

mod app;
mod cli;
mod commands;
mod completion;
mod config;
mod context;
mod failure;
mod format;
#[doc(hidden)]
pub mod fuzz;
mod globals;
mod help;
mod opts;
mod out;
mod plugins;
mod session;
mod text;
mod time;
mod units;
mod usage;
mod verb;

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs one command line, `args[0]` being the program's name, and returns the exit code. Linked or
/// copied under the name `docker`, it calls itself docker in every message.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    cli::run(args)
}
