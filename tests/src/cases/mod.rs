//! The cases, by area. A case expects what Docker does; `cargo xtask test --against` shows it.

mod api;
mod attach;
mod cli;
mod configuration;
mod copy;
mod crash;
mod damage;
mod description;
mod exec;
mod firewall;
mod health;
mod host;
mod images;
mod init;
mod input;
mod isolation;
mod lifecycle;
mod links;
mod load;
mod logs;
pub mod names;
mod network_drivers;
mod network_faults;
mod network_load;
mod networks;
mod networks6;
mod oci;
mod ports;
mod pull;
mod refusals;
mod run;
mod runtimes;
mod vm;
mod volumes;
#[path = "../../walkthroughs/mod.rs"]
mod walkthrough;

use crate::harness::Case;

/// Lists functions of a module as cases named `area::function`.
macro_rules! cases {
    ($area:literal, $needs:ident, [$($function:ident),* $(,)?]) => {
        vec![$($crate::harness::Case {
            name: concat!($area, "::", stringify!($function)),
            needs: $crate::harness::Needs::$needs,
            test: $function,
        }),*]
    };
}
use cases;

/// Fails the test with a message unless the condition holds.
macro_rules! check {
    ($condition:expr, $($message:tt)+) => {
        // The condition as a value: its negation would not be the same for floating-point numbers.
        let holds: bool = $condition;
        if !holds {
            anyhow::bail!($($message)+);
        }
    };
}
use check;

/// Fails the test unless both are equal.
macro_rules! equal {
    ($left:expr, $right:expr) => {
        // A match keeps temporaries alive until its end.
        match (&$left, &$right) {
            (left, right) => {
                if left != right {
                    anyhow::bail!(
                        "{} is {:?} and not {:?} (line {})",
                        stringify!($left),
                        left,
                        right,
                        line!()
                    );
                }
            }
        }
    };
}
use equal;

/// Every case of the suite.
pub fn all() -> Vec<Case> {
    [
        run::cases(),
        isolation::cases(),
        attach::cases(),
        lifecycle::cases(),
        logs::cases(),
        exec::cases(),
        firewall::cases(),
        images::cases(),
        copy::cases(),
        links::cases(),
        load::cases(),
        pull::cases(),
        ports::cases(),
        network_drivers::cases(),
        network_faults::cases(),
        network_load::cases(),
        names::cases(),
        networks::cases(),
        networks6::cases(),
        input::cases(),
        api::cases(),
        damage::cases(),
        description::cases(),
        refusals::cases(),
        cli::cases(),
        crash::cases(),
        health::cases(),
        init::cases(),
        host::cases(),
        configuration::cases(),
        oci::cases(),
        runtimes::cases(),
        volumes::cases(),
        walkthrough::cases(),
        vm::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
