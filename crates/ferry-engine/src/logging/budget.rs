//! A limit for the logs of all containers together: beyond it, the oldest rotated files go first. The files being written
//! are never touched; what they may grow to is their containers' own limit.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::inner::Inner;

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(60);

/// A log file found on disk.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    /// Of a rotated file when it was last written to; none for one that is being written.
    rotated: Option<SystemTime>,
    path: PathBuf,
    size: u64,
}

/// Keeps the budget until the engine ends.
pub(crate) async fn keep(inner: Arc<Inner>, limit: u64) {
    loop {
        let directory = inner.paths.containers();
        match crate::blocking_raw(move || enforce(&directory, limit)).await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, limit, "removed old logs to keep within the log budget"),
            Err(error) => tracing::warn!(%error, "cannot look after the log budget"),
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Removes what is too much. Returns how many files went.
fn enforce(containers: &Path, limit: u64) -> usize {
    let mut found = Vec::new();
    // A container that is being removed meanwhile is no concern of ours.
    for entry in fs::read_dir(containers).into_iter().flatten().flatten() {
        let _ = look(&entry.path(), &mut found);
        let _ = look(&entry.path().join("local-logs"), &mut found);
    }
    let victims = choose(found, limit);
    victims.iter().filter(|path| fs::remove_file(path).is_ok()).count()
}

fn look(directory: &Path, found: &mut Vec<Found>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let Some(rest) = name.split_once(".log").map(|(_, rest)| rest) else { continue };
        let number = rest.strip_suffix(".gz").unwrap_or(rest).strip_prefix('.');
        let is_rotated = number.is_some_and(|n| n.parse::<u32>().is_ok());
        if !is_rotated && !rest.is_empty() {
            continue;
        }
        let metadata = entry.metadata()?;
        let rotated = if is_rotated { metadata.modified().ok() } else { None };
        found.push(Found { rotated, path: entry.path(), size: metadata.len() });
    }
    Ok(())
}

/// Which files have to go, oldest first.
fn choose(mut found: Vec<Found>, limit: u64) -> Vec<PathBuf> {
    let mut total: u64 = found.iter().map(|f| f.size).sum();
    found.retain(|f| f.rotated.is_some());
    // Of one container the higher number is the older one, should the clock have been set back.
    found.sort_by(|a, b| a.rotated.cmp(&b.rotated).then_with(|| b.path.cmp(&a.path)));
    let mut victims = Vec::new();
    for file in found {
        if total <= limit {
            break;
        }
        total -= file.size;
        victims.push(file.path);
    }
    victims
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_rotated_files_go_and_no_others() {
        let root = tempfile::tempdir().unwrap();
        let (one, two) = (root.path().join("one"), root.path().join("two"));
        fs::create_dir_all(&one).unwrap();
        fs::create_dir_all(two.join("local-logs")).unwrap();
        let make = |path: PathBuf, age: u64| {
            let file = fs::File::create(&path).unwrap();
            file.set_len(1000).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
            path
        };
        let current = make(one.join("one-json.log"), 900);
        let young = make(one.join("one-json.log.1"), 100);
        let old = make(one.join("one-json.log.2.gz"), 500);
        let oldest = make(two.join("local-logs/container.log.1.gz"), 800);
        let other = make(two.join("container.json"), 999);
        assert_eq!(enforce(root.path(), 4000), 0);
        assert_eq!(enforce(root.path(), 2500), 2);
        assert!(current.exists() && young.exists() && other.exists());
        assert!(!old.exists() && !oldest.exists());
        assert_eq!(enforce(root.path(), 0), 1);
        assert!(current.exists() && !young.exists());
    }
}
