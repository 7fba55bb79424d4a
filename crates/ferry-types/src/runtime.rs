//! OCI runtimes besides ferry's own.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A program with the command line of runc, which most OCI runtimes have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeProgram {
    /// The name it is registered under, for messages.
    pub name: String,
    /// The program; searched for in `search_path` when it has no slash.
    pub path: PathBuf,
    /// Arguments that come before all others.
    pub args: Vec<String>,
    /// Directories with programs, colons between them; also the `PATH` it runs with.
    pub search_path: String,
}
