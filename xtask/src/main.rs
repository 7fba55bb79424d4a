//! `cargo xtask …`: the chores of this repository, in Rust so that a clone needs nothing but cargo.
//!
//! This file only maps the command line to the modules; each of them is one chore or one helper.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool talks to its user")]

mod apt;
mod bench;
mod clients;
mod differential;
mod engine;
mod fixtures;
mod host;
mod http;
mod peer;
mod product;
mod quickstart;
mod sh;
mod sources;
mod test;
mod ui;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Chores of the ferry repository")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Build ferry, start an engine of its own and run a Debian container and a web server in it
    Quickstart(quickstart::Args),
    /// Build everything and run the unit and the integration tests
    Test(test::Args),
    /// Check, without changing anything, format, lints, licences, crate directions and sizes
    Verify(verify::Args),
    /// Compare ferry with Docker and with the bare kernel on this host
    Bench(bench::Args),
    /// Make the images that tests run and say where they are
    Fixtures,
    /// Build `ferry` and the static `ferry-shim` and put them side by side
    Build,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().chore {
        Chore::Quickstart(args) => quickstart::run(&args),
        Chore::Test(args) => test::run(&args),
        Chore::Verify(args) => verify::run(&args),
        Chore::Bench(args) => bench::run(&args),
        Chore::Fixtures => fixtures::all(),
        Chore::Build => product::build().map(|product| {
            println!("{}", product.ferry.display());
            true
        }),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            ui::failure(&error);
            ExitCode::FAILURE
        }
    }
}
