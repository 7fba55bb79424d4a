//! Every `unsafe` block, raw system call, ioctl and netlink byte of ferry. Wrappers here are safe to
//! call, hold no policy and never log.
pub mod socket;
