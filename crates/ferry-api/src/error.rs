//! The body of every answer that is an error.

use serde::{Deserialize, Serialize};

/// An error as clients get it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorResponse {
    /// For people; scripts match on it too.
    pub message: String,
}
