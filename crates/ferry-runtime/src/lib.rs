//! The OCI runtime: executes a runtime-spec `config.json`.
//!
//! Synchronous and small, because it lives in every container's shim. [`create()`] builds a container
//! up to the point where its init process only has to call `execve`, [`Container::start`] lets it
//! do so, [`exec()`] runs a further process inside. [`create_external()`] has another OCI runtime build it. The caller must be single-threaded, since the
//! child goes on in Rust after `clone3`, and is the parent of every process made here.
//!
//! Not here: supervising, logging, networking, images. The caller reaps the processes.

#![forbid(unsafe_code)]

pub mod cgroup;
mod channel;
mod command;
mod confined;
mod console;
mod container;
mod credentials;
mod devices;
mod error;
mod exec;
mod external;
mod hooks;
mod init;
mod mounts;
pub mod oci;
mod options;
mod overlay;
mod plan;
mod rootfs;
pub mod seccomp;
mod stdio;
mod sysctl;

pub use container::{Container, CreateRequest, create};
pub use error::{Error, Stage};
pub use exec::{ExecProcess, ExecRequest, exec};
pub use external::{ExternalExec, PendingExec, create_external};
pub use hooks::run_poststop_hooks;
pub use stdio::Stdio;
