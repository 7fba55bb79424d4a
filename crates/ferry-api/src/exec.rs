//! Exec instances: `/containers/{id}/exec` and `/exec/{id}/…`.

use serde::{Deserialize, Serialize};

use crate::json::{List, is_zero, str_list};

/// Body of `POST /containers/{id}/exec`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ExecCreateRequest {
    /// `user[:group]`.
    pub user: String,
    /// All capabilities.
    pub privileged: bool,
    /// Whether the process gets a terminal.
    pub tty: bool,
    /// Initial terminal size, `[height, width]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub console_size: Option<[u32; 2]>,
    /// Connect stdin.
    pub attach_stdin: bool,
    /// Connect stderr.
    pub attach_stderr: bool,
    /// Connect stdout.
    pub attach_stdout: bool,
    /// Key sequence that detaches; empty for the default.
    pub detach_keys: String,
    /// `NAME=value`, on top of the container's.
    pub env: List<String>,
    /// Absolute; the container's when empty.
    pub working_dir: String,
    /// Program and arguments.
    #[serde(deserialize_with = "str_list")]
    pub cmd: List<String>,
}

/// Body of `POST /exec/{id}/start`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ExecStartRequest {
    /// Answer as soon as the process runs.
    pub detach: bool,
    /// Must equal the exec's.
    pub tty: bool,
    /// Initial terminal size, `[height, width]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub console_size: Option<[u32; 2]>,
}

/// Answer of requests that make something.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct IdResponse {
    /// Full id.
    pub id: String,
}

/// Answer of `GET /exec/{id}/json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ExecInspect {
    /// Full id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Whether the process runs.
    pub running: bool,
    /// Null until it ended.
    pub exit_code: Option<i32>,
    /// What runs.
    pub process_config: ExecProcess,
    /// Whether stdin is connected.
    pub open_stdin: bool,
    /// Whether stderr is connected.
    pub open_stderr: bool,
    /// Whether stdout is connected.
    pub open_stdout: bool,
    /// Always false.
    pub can_remove: bool,
    /// Full id.
    #[serde(rename = "ContainerID")]
    pub container_id: String,
    /// In base64, as Go writes bytes; null when none were given.
    pub detach_keys: Option<String>,
    /// In the host's pid namespace, 0 when it does not run.
    pub pid: i32,
}

/// `ProcessConfig` of an exec.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExecProcess {
    /// Whether the process has a terminal.
    pub tty: bool,
    /// Program.
    pub entrypoint: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// All capabilities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub privileged: Option<bool>,
    /// `user[:group]`.
    #[serde(skip_serializing_if = "is_zero")]
    pub user: String,
}
