//! Netlink: sockets, message builders and parsers for rtnetlink, nf_tables, conntrack and sock_diag.
//!
//! Only what ferry needs, byte layouts from the kernel's `include/uapi/linux` headers named at each
//! constant. Nothing here knows about containers.

pub mod child;
pub mod conntrack;
pub mod message;
pub mod nft;
pub mod nft_expr;
pub mod route;
pub mod sock_diag;
mod socket;

pub use message::{Attributes, Batch, Message};
pub use socket::{NetlinkError, Protocol, Socket};
