//! Containers: record, owner, start, end, and everything that can be asked of one.

pub(crate) mod archive;
pub(crate) mod attach;
pub(crate) mod commit;
pub(crate) mod create;
pub(crate) mod extra_hosts;
pub(crate) mod files;
pub(crate) mod fill_volume;
pub(crate) mod health;
pub(crate) mod launch;
pub(crate) mod list;
pub(crate) mod logs;
mod monitor;
pub(crate) mod mount_spec;
pub(crate) mod net_files;
pub(crate) mod network_mode;
pub(crate) mod ops;
pub(crate) mod owner;
pub(crate) mod record;
pub(crate) mod recover;
pub(crate) mod restart;
pub(crate) mod state;
pub(crate) mod stats;
pub(crate) mod teardown;
pub(crate) mod top;
pub(crate) mod unsupported;
pub(crate) mod update;
pub(crate) mod view;
