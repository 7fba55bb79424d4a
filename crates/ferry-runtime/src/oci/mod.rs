//! The operations of a runc-compatible runtime command over a state directory: containers outlive the
//! processes that create, start and delete them. Arguments and output are the caller's business.

mod error;
mod foreground;
mod lifecycle;
mod sealed;
mod spec;
mod store;

pub use error::OciError;
pub use lifecycle::{CreateOptions, ExecOptions, Runtime};
pub use sealed::ensure_sealed;
pub use spec::{default_spec, features};
pub use store::{State, Status, now as timestamp};
