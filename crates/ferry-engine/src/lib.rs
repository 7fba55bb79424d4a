//! The engine: owns containers, images, volumes and the default network of one data root, and drives
//! the mechanisms (image store, network, shims). It knows Docker's wire types but no HTTP.
//!
//! Start at [`Engine`]; `container/` holds the life of a container: its durable record, its owner
//! task and the steps of a start.

#![forbid(unsafe_code)]

pub mod api;
mod error;

pub use error::{EngineError, Result};

use api::*;
use ferry_api as wire;

// SIGNATURES FOR THE SERVER (bodies are moving into their modules; shapes are final)
//
// impl Engine {   // Engine: Clone + Send + Sync + 'static (an Arc inside)
//   // containers
//   pub async fn container_create(&self, name: Option<&str>, platform: Option<&str>, body: wire::container::ContainerCreateRequest)
//                                   -> Result<wire::container::ContainerCreateResponse>;
//   pub fn container_list(&self, o: ListContainers) -> Result<Vec<wire::container::ContainerSummary>>;
//   pub fn container_inspect(&self, id: &str, size: bool) -> Result<wire::container::ContainerInspect>;
//   pub async fn container_start(&self, id: &str) -> Result<()>;                 // NotModified when running
//   pub async fn container_stop(&self, id: &str, signal: Option<&str>, timeout: Option<i64>) -> Result<()>;
//   pub async fn container_restart(&self, id: &str, signal: Option<&str>, timeout: Option<i64>) -> Result<()>;
//   pub async fn container_kill(&self, id: &str, signal: Option<&str>) -> Result<()>;
//   pub async fn container_pause(&self, id: &str) / container_unpause(&self, id: &str) -> Result<()>;
//   pub async fn container_rename(&self, id: &str, name: &str) -> Result<()>;
//   pub async fn container_update(&self, id: &str, body: wire::container::ContainerUpdateRequest) -> Result<wire::container::ContainerUpdateResponse>;
//   pub async fn container_resize(&self, id: &str, height: u16, width: u16) -> Result<()>;
//   pub async fn container_remove(&self, id: &str, o: RemoveContainer) -> Result<()>;
//   pub fn container_wait(&self, id: &str, c: WaitCondition) -> Result<impl Future<Output = Result<wire::container::ContainerWaitResponse>> + Send + 'static>;
//                                   // subscribed when it returns: send the header then, the body when the future is done
//   pub fn container_attach_prepare(&self, id: &str, o: AttachOptions) -> Result<Attachment>;   // errors before the switch; .multiplexed: bool
//       impl Attachment { pub async fn connect(self, c: Hijacked) -> Result<()>; pub fn multiplexed(&self) -> bool }
//   pub async fn container_logs(&self, id: &str, o: LogOptions) -> Result<LogStream>;
//   pub async fn container_top(&self, id: &str, ps_args: Option<&str>) -> Result<wire::container::ContainerTopResponse>;
//   pub async fn container_stats_once(&self, id: &str, one_shot: bool) -> Result<wire::container::ContainerStats>;
//   pub async fn container_stats_stream(&self, id: &str) -> Result<ItemStream<wire::container::ContainerStats>>;
//   pub async fn container_changes(&self, id: &str) -> Result<Vec<wire::container::FilesystemChange>>;
//   pub async fn container_export(&self, id: &str) -> Result<ByteStream>;
//   pub async fn container_archive_stat(&self, id: &str, path: &str) -> Result<PathStat>;
//   pub async fn container_archive_get(&self, id: &str, path: &str) -> Result<(PathStat, ByteStream)>;
//   pub async fn container_archive_put(&self, id: &str, path: &str, no_overwrite_dir_non_dir: bool, copy_uid_gid: bool, body: BodyReader) -> Result<()>;
//   pub async fn container_prune(&self, f: Filters) -> Result<wire::container::ContainerPruneResponse>;
//   pub async fn container_commit(&self, o: CommitOptions) -> Result<wire::IdResponse>;
//   // exec
//   pub async fn exec_create(&self, container: &str, body: wire::exec::ExecCreateRequest) -> Result<wire::IdResponse>;
//   pub fn exec_start_prepare(&self, id: &str, o: &ExecStart) -> Result<ExecAttachment>;    // .multiplexed() like Attachment
//       impl ExecAttachment { pub async fn start(self, c: Option<Hijacked>) -> Result<()> }   // None when detached
//       // NB: start errors after the switch are written by the engine into the stream; with detach they are returned
//   pub async fn exec_resize(&self, id: &str, height: u16, width: u16) -> Result<()>;
//   pub fn exec_inspect(&self, id: &str) -> Result<wire::exec::ExecInspect>;
//   // images
//   pub fn image_list(&self, o: ListImages) -> Result<Vec<wire::image::ImageSummary>>;
//   pub fn image_inspect(&self, name: &str) -> Result<wire::image::ImageInspect>;
//   pub fn image_history(&self, name: &str) -> Result<Vec<wire::image::HistoryItem>>;
//   pub async fn image_tag(&self, name: &str, repo: &str, tag: &str) -> Result<()>;
//   pub async fn image_remove(&self, name: &str, force: bool, no_prune: bool) -> Result<Vec<wire::image::ImageDeleteItem>>;
//   pub async fn image_pull(&self, o: PullOptions) -> Result<ItemStream<wire::JsonMessage>>;   // errors after the first item are messages with errorDetail
//   pub async fn image_import(&self, o: ImportOptions, body: BodyReader) -> Result<ItemStream<wire::JsonMessage>>;
//   pub async fn image_load(&self, quiet: bool, body: BodyReader) -> Result<ItemStream<wire::JsonMessage>>;
//   pub async fn image_save(&self, names: &[String]) -> Result<ByteStream>;
//   pub async fn image_prune(&self, f: Filters) -> Result<wire::image::ImagePruneResponse>;
//   // volumes, networks, system
//   pub fn volume_list(&self, f: Filters) -> Result<wire::volume::VolumeListResponse>;
//   pub async fn volume_create(&self, body: wire::volume::VolumeCreateRequest) -> Result<wire::volume::Volume>;
//   pub fn volume_inspect(&self, name: &str) -> Result<wire::volume::Volume>;
//   pub async fn volume_remove(&self, name: &str, force: bool) -> Result<()>;
//   pub async fn volume_prune(&self, f: Filters) -> Result<wire::volume::VolumePruneResponse>;
//   pub fn network_list(&self, f: Filters) -> Result<Vec<wire::network::Network>>;
//   pub fn network_inspect(&self, name: &str) -> Result<wire::network::Network>;
//   pub fn info(&self) -> wire::system::SystemInfo;
//   pub fn version(&self) -> wire::system::VersionResponse;
//   pub async fn disk_usage(&self) -> Result<wire::system::DiskUsage>;
//   pub fn events(&self, o: EventOptions) -> Result<ItemStream<wire::events::EventMessage>>;
// }
