//! Tests against a real kernel, as root. Every test has a "host" of its own: a network namespace in
//! which the stack is opened, so that tests neither meet each other nor the machine's own network.

mod adopt;
mod announce;
mod attach;
mod drivers;
mod ipv6;
mod isolation;
mod packets;
mod repair;
mod several;
mod speed;
pub(crate) mod support;

pub(crate) use support::request;
