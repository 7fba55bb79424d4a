//! `POST /containers/create` and the configuration that travels with images and `commit`.

use serde::{Deserialize, Serialize};

use super::HostConfig;
use crate::json::{Empty, List, Map, embed, is_empty_list, is_empty_map, is_zero, str_list};
use crate::network::NetworkingConfig;

/// What runs in a container, independent of the host: `Config` of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ContainerConfig {
    /// Host name; the short id when empty.
    pub hostname: String,
    /// NIS domain name.
    pub domainname: String,
    /// `user[:group]`, names or numbers.
    pub user: String,
    /// Whether the client that created the container wanted stdin.
    pub attach_stdin: bool,
    /// Whether it wanted stdout.
    pub attach_stdout: bool,
    /// Whether it wanted stderr.
    pub attach_stderr: bool,
    /// Set of `port/protocol`.
    #[serde(skip_serializing_if = "is_empty_map")]
    pub exposed_ports: Map<Empty>,
    /// Whether the process gets a terminal.
    pub tty: bool,
    /// Whether stdin stays open without a client.
    pub open_stdin: bool,
    /// Whether stdin closes when its first client leaves.
    pub stdin_once: bool,
    /// `NAME=value`; a bare `NAME` removes the image's.
    pub env: List<String>,
    /// Arguments, or the command when there is no entry point.
    #[serde(deserialize_with = "str_list")]
    pub cmd: List<String>,
    /// How to tell whether the container is healthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
    /// Windows only.
    #[serde(skip_serializing_if = "is_zero")]
    pub args_escaped: bool,
    /// The image as the user named it.
    pub image: String,
    /// Set of paths that get an anonymous volume.
    pub volumes: Map<Empty>,
    /// Absolute path of the working directory.
    pub working_dir: String,
    /// Command the arguments are given to.
    #[serde(deserialize_with = "str_list")]
    pub entrypoint: List<String>,
    /// No network at all.
    #[serde(skip_serializing_if = "is_zero")]
    pub network_disabled: bool,
    /// MAC address; moved into the endpoint's settings by API 1.44, still accepted before.
    #[serde(skip_serializing_if = "is_zero")]
    pub mac_address: String,
    /// Triggers for images built from this one.
    #[serde(skip_serializing_if = "is_empty_list")]
    pub on_build: List<String>,
    /// User metadata.
    pub labels: Map<String>,
    /// Signal name or number that stops the container, `SIGTERM` when empty.
    #[serde(skip_serializing_if = "is_zero")]
    pub stop_signal: String,
    /// Seconds between the stop signal and `SIGKILL`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    /// Shell of the shell form of instructions.
    #[serde(skip_serializing_if = "is_empty_list", deserialize_with = "str_list")]
    pub shell: List<String>,
}

/// A health check; times in nanoseconds, 0 means inherit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HealthConfig {
    /// `[]` inherit, `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", line]`.
    #[serde(skip_serializing_if = "is_empty_list")]
    pub test: List<String>,
    /// Between checks.
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// After which a check counts as failed.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// In which failures do not count.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Between checks during the start period.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// Failures in a row that make the container unhealthy.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: i64,
}

/// Body of `POST /containers/create`: the members of [`ContainerConfig`] and two more.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase", remote = "Self")]
pub struct ContainerCreateRequest {
    /// What to run.
    #[serde(flatten, skip_deserializing)]
    pub config: ContainerConfig,
    /// Where and with what to run it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_config: Option<HostConfig>,
    /// Endpoints to make.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub networking_config: Option<NetworkingConfig>,
}
embed!(ContainerCreateRequest, config);

/// Answer to `POST /containers/create`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ContainerCreateResponse {
    /// Full id.
    pub id: String,
    /// For people; `[]` when there are none.
    pub warnings: Vec<String>,
}
