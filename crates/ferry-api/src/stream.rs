//! Progress streams of pull, push, load, import and build: JSON objects separated by newlines.

use serde::{Deserialize, Serialize};

use crate::json::is_zero;

/// One object of a progress stream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct JsonMessage {
    /// Output to show as it is.
    #[serde(skip_serializing_if = "is_zero")]
    pub stream: String,
    /// One line of progress.
    #[serde(skip_serializing_if = "is_zero")]
    pub status: String,
    /// Numbers of a bar.
    #[serde(rename = "progressDetail", skip_serializing_if = "Option::is_none")]
    pub progress_detail: Option<ProgressDetail>,
    /// The bar as text; before API 1.52 only.
    #[serde(skip_serializing_if = "is_zero")]
    pub progress: String,
    /// Layer the line is about.
    #[serde(skip_serializing_if = "is_zero")]
    pub id: String,
    /// The stream ends with an error.
    #[serde(rename = "errorDetail", skip_serializing_if = "Option::is_none")]
    pub error_detail: Option<ErrorDetail>,
    /// Its message once more; clients of every age read this one.
    #[serde(skip_serializing_if = "is_zero")]
    pub error: String,
    /// Data for programs, e.g. the id of what was built.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aux: Option<serde_json::Value>,
}

/// Numbers of a progress bar.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProgressDetail {
    /// Done.
    #[serde(skip_serializing_if = "is_zero")]
    pub current: i64,
    /// To do in all, 0 when unknown.
    #[serde(skip_serializing_if = "is_zero")]
    pub total: i64,
    /// When it began, in seconds since the epoch.
    #[serde(skip_serializing_if = "is_zero")]
    pub start: i64,
    /// Whether to hide the numbers.
    #[serde(rename = "hidecounts", skip_serializing_if = "is_zero")]
    pub hide_counts: bool,
    /// `bytes` when empty.
    #[serde(skip_serializing_if = "is_zero")]
    pub units: String,
}

/// Why a stream ended early.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorDetail {
    /// Exit code, where one makes sense.
    #[serde(skip_serializing_if = "is_zero")]
    pub code: i64,
    /// For people.
    #[serde(skip_serializing_if = "is_zero")]
    pub message: String,
}

impl JsonMessage {
    /// A line of progress about `id` (empty for the whole).
    pub fn status(id: impl Into<String>, status: impl Into<String>) -> Self {
        Self { id: id.into(), status: status.into(), ..Self::default() }
    }

    /// A line of progress with a bar.
    pub fn progress(id: impl Into<String>, status: impl Into<String>, current: i64, total: i64) -> Self {
        let progress_detail = Some(ProgressDetail { current, total, ..ProgressDetail::default() });
        Self { progress_detail, ..Self::status(id, status) }
    }

    /// The error that ends a stream.
    pub fn error(message: impl Into<String>) -> Self {
        let message = ferry_types::errno_in_gos_words(&message.into());
        let error_detail = Some(ErrorDetail { code: 0, message: message.clone() });
        Self { error_detail, error: message, ..Self::default() }
    }

    /// Output to show as it is.
    pub fn stream(text: impl Into<String>) -> Self {
        Self { stream: text.into(), ..Self::default() }
    }
}
