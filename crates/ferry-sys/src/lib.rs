//! Every `unsafe` block, raw system call, ioctl and netlink byte of ferry. Wrappers here are safe to
//! call, hold no policy and never log.
pub mod bpf;
pub mod init;
pub mod loopback;
pub mod mntns;
pub mod mount;
pub mod netlink;
pub mod netns;
pub mod process;
pub mod seccomp;
pub mod signals;
pub mod socket;
pub mod spawn;
pub mod supervisor;
pub mod xtables;
