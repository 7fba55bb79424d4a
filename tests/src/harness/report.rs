//! What became of each test, one JSON object per line, for `cargo xtask test` to count.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use super::lock;

/// Why a test did not pass.
#[derive(Debug)]
pub enum NotPassed {
    /// It could not run here.
    Skipped(String),
    /// It found a fault.
    Failed(String),
}

/// Collects outcomes.
pub struct Report {
    file: Mutex<Option<File>>,
}

impl Report {
    /// Writes to `path`, or nowhere.
    pub fn new(path: Option<&Path>) -> Self {
        let file = path.and_then(|path| match File::create(path) {
            Ok(file) => Some(file),
            Err(error) => {
                eprintln!("{}: {error}", path.display());
                None
            }
        });
        Self { file: Mutex::new(file) }
    }

    /// Adds a test's outcome.
    pub fn add(&self, name: &str, outcome: &Result<(), NotPassed>, took: Duration) {
        let (word, reason) = match outcome {
            Ok(()) => ("passed", None),
            Err(NotPassed::Skipped(reason)) => ("skipped", Some(reason)),
            Err(NotPassed::Failed(reason)) => ("failed", Some(reason)),
        };
        let line = serde_json::json!({"name": name, "outcome": word, "reason": reason, "seconds": took.as_secs_f64()});
        if let Some(file) = &mut *lock(&self.file)
            && let Err(error) = writeln!(file, "{line}")
        {
            eprintln!("cannot record the outcome of {name}: {error}");
        }
    }
}
