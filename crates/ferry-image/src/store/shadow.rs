//! A copy of the metadata beside the content, for the day the database is damaged. It is written after each
//! change and read only then; it is not synced, because losing it loses nothing while the database is well.

use std::path::{Path, PathBuf};

use super::records::Records;
use super::snapshot::Snapshot;

fn path(root: &Path) -> PathBuf {
    root.join("metadata.json")
}

/// Replaces the copy. A failure is no failure of the change.
pub(super) fn write(root: &Path, snapshot: &Snapshot) {
    let save = || {
        let json = serde_json::to_vec(&snapshot.records())?;
        let temporary = root.join("metadata.json.new");
        std::fs::write(&temporary, json)?;
        std::fs::rename(&temporary, path(root))
    };
    if let Err(error) = save() {
        tracing::warn!(%error, path = %path(root).display(), "the copy of the image metadata is not up to date");
    }
}

/// Whether there is a copy.
pub(super) fn exists(root: &Path) -> bool {
    path(root).exists()
}

/// The copy, as far as it can be read.
pub(super) fn read(root: &Path) -> Option<Records> {
    let json = std::fs::read(path(root)).ok()?;
    match serde_json::from_slice(&json) {
        Ok(records) => Some(records),
        Err(error) => {
            tracing::warn!(%error, path = %path(root).display(), "the copy of the image metadata is damaged, too");
            None
        }
    }
}
