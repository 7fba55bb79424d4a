//! Seccomp: Docker's default profile and a compiler from OCI profiles to classic BPF.

mod compile;
mod docker;
mod table;

pub use compile::{compile, flags};
pub use docker::docker_default;
pub use ferry_sys::seccomp::SockFilter;
