//! Freeing disk space out of everybody's way. Deleting a large layer can take a file system minutes
//! (discard, journals); what is to go is renamed into `trash/` at once and removed by a thread of its
//! own, or, when the process ends before that, by the next open.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};

/// `trash/` and the thread that empties it.
#[derive(Debug)]
pub(super) struct Trash {
    dir: PathBuf,
    next: AtomicU64,
    queue: Sender<PathBuf>,
}

impl Trash {
    /// Opens `trash/` below `root` and starts removing what is in it.
    pub fn open(root: &Path) -> io::Result<Self> {
        let dir = root.join("trash");
        std::fs::create_dir_all(&dir)?;
        let (queue, work) = channel::<PathBuf>();
        // Ends with the store: a daemon does not wait for it.
        std::thread::Builder::new().name("image-trash".to_owned()).spawn(move || {
            for path in work {
                let removed =
                    if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
                if let Err(error) = removed {
                    tracing::warn!(path = %path.display(), %error, "trash stays behind");
                }
            }
        })?;
        let mut next = 0;
        for entry in std::fs::read_dir(&dir)? {
            let entry = entry?;
            let number = entry.file_name().to_str().and_then(|n| n.parse::<u64>().ok());
            next = next.max(number.map_or(0, |n| n + 1));
            // The thread lives as long as the queue.
            queue.send(entry.path()).ok();
        }
        Ok(Self { dir, next: AtomicU64::new(next), queue })
    }

    /// Makes `path` disappear; its space is freed later.
    pub fn take(&self, path: &Path) -> io::Result<()> {
        let to = self.dir.join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        std::fs::rename(path, &to)?;
        self.queue.send(to).ok();
        Ok(())
    }
}
