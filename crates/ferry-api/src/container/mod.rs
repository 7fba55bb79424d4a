//! Containers: what creates one, what describes one, and the small bodies around its life.

mod config;
mod host_config;
mod inspect;
mod life;
mod resources;
mod summary;

pub use crate::stats::ContainerStats;
pub use config::{ContainerConfig, ContainerCreateRequest, ContainerCreateResponse, HealthConfig};
pub use host_config::{HostConfig, LogConfig, RestartPolicy};
pub use inspect::{ContainerInspect, ContainerState, GraphDriver, Health, HealthcheckResult};
pub use life::{
    ChangeKind, ContainerPathStat, ContainerPruneResponse, ContainerTopResponse, ContainerUpdateRequest,
    ContainerUpdateResponse, ContainerWaitResponse, FilesystemChange, WaitError,
};
pub use resources::{DeviceMapping, DeviceRequest, Resources, ThrottleDevice, Ulimit, WeightDevice};
pub use summary::{ContainerSummary, HealthSummary, Port, SummaryHostConfig, SummaryNetworkSettings};
