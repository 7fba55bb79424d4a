//! Docker's wire types, in the form of the newest API version ferry serves.
//!
//! What lives here: the JSON bodies of requests and responses, the query formats that are JSON
//! themselves (filters, registry credentials), lenient decoding ([`json`]) and the differences of
//! older API versions ([`convert`]). What must not: decisions, I/O, domain types. Field names, null
//! versus `[]` versus omitted follow the Engine API description v1.55 and what Docker 28 sends.

#![forbid(unsafe_code)]

pub mod auth;
pub mod check;
pub mod container;
pub mod convert;
pub mod error;
pub mod events;
pub mod exec;
pub mod filters;
pub mod image;
pub mod json;
pub mod mount;
pub mod network;
pub mod stats;
pub mod stream;
pub mod swarm;
pub mod system;
pub mod version;
pub mod volume;

pub use auth::{AuthConfig, AuthResponse};
pub use container::{
    ChangeKind, ContainerConfig, ContainerCreateRequest, ContainerCreateResponse, ContainerInspect,
    ContainerPathStat, ContainerPruneResponse, ContainerState, ContainerSummary, ContainerTopResponse,
    ContainerUpdateRequest, ContainerUpdateResponse, ContainerWaitResponse, FilesystemChange, HostConfig,
    Resources,
};
pub use error::ErrorResponse;
pub use events::{EventActor, EventMessage};
pub use exec::{ExecCreateRequest, ExecInspect, ExecStartRequest, IdResponse};
pub use filters::Filters;
pub use image::{HistoryItem, ImageDeleteItem, ImageInspect, ImagePruneResponse, ImageSummary};
pub use json::{Empty, List, Map, Time};
pub use mount::{Mount, MountPoint};
pub use network::{EndpointSettings, NetworkSettings, NetworkingConfig, PortBinding, PortMap};
pub use stats::ContainerStats;
pub use stream::JsonMessage;
pub use system::{DiskUsage, SystemInfo, VersionResponse};
pub use version::ApiVersion;
pub use volume::{Volume, VolumeCreateRequest, VolumeListResponse, VolumePruneResponse};
