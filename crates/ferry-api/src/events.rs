//! `GET /events`.

use serde::{Deserialize, Serialize};

use crate::json::{Map, is_zero};

/// One event; one JSON object per line on the stream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct EventMessage {
    /// Status, id and image as before API 1.22; [`crate::convert`] fills them.
    #[serde(flatten, skip_deserializing)]
    pub legacy: Option<LegacyEvent>,
    /// `container`, `image`, `network`, `volume`, `daemon`, …
    #[serde(rename = "Type")]
    pub kind: String,
    /// `create`, `start`, `die`, …
    pub action: String,
    /// What it happened to.
    pub actor: EventActor,
    /// `local` or `swarm`.
    #[serde(rename = "scope", skip_serializing_if = "is_zero")]
    pub scope: String,
    /// Seconds since the epoch.
    #[serde(rename = "time", skip_serializing_if = "is_zero")]
    pub time: i64,
    /// Nanoseconds since the epoch.
    #[serde(rename = "timeNano", skip_serializing_if = "is_zero")]
    pub time_nano: i64,
}

/// What an event happened to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct EventActor {
    /// Full id; the name for volumes and images.
    #[serde(rename = "ID")]
    pub id: String,
    /// `name`, `image`, `exitCode`, labels, …
    pub attributes: Map<String>,
}

/// Members of an event API 1.52 dropped; older clients read them for containers and images.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LegacyEvent {
    /// The action.
    #[serde(skip_serializing_if = "is_zero")]
    pub status: String,
    /// The actor's id.
    #[serde(skip_serializing_if = "is_zero")]
    pub id: String,
    /// The container's image.
    #[serde(skip_serializing_if = "is_zero")]
    pub from: String,
}
