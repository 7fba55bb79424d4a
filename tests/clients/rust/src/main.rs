//! Tests of an engine through bollard: each area of the API once, as programs in Rust use it.
//!
//! The engine is the one of `DOCKER_HOST` and has the image [`harness::IMAGE`]. Arguments choose the tests
//! whose names contain one of them; `FERRY_TEST_RESULTS` names a file that gets a line of JSON for each.

#![forbid(unsafe_code)]

mod archives;
mod containers;
mod engine;
mod errors;
mod harness;
mod images;
mod networks;
mod streams;
mod volumes;

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    let cases = [
        containers::cases(),
        streams::cases(),
        archives::cases(),
        images::cases(),
        volumes::cases(),
        networks::cases(),
        engine::cases(),
        errors::cases(),
    ];
    match harness::run(cases.into_iter().flatten()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
