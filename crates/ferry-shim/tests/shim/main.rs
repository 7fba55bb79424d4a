//! The shim binary from outside: busybox containers driven through its protocol. Needs root and
//! busybox-static.

mod attach;
mod bed;
mod exec;
mod external;
mod flood;
mod life;
mod log;
mod measure;
mod relay;
