//! Where damaged things go: they are moved, never deleted, each into a directory of its own with the reason
//! beside it, so that a person can look at them and put them back.

use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

/// Name of the file with the reason.
const REASON: &str = "reason.txt";

/// The directory `lost+found` of a data root; made on first use.
#[derive(Debug, Clone)]
pub struct LostFound {
    dir: PathBuf,
}

/// Something that was set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// Its directory.
    pub path: PathBuf,
    /// Why it was moved there.
    pub reason: String,
}

impl LostFound {
    /// The directory at `dir`, which need not exist.
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Moves `path`, which must be on the same file system, and writes down why. Gives the new path.
    ///
    /// # Errors
    /// When it cannot be moved; it is then where it was.
    pub fn take(&self, path: &Path, reason: &str) -> io::Result<PathBuf> {
        let name = path.file_name().unwrap_or_default();
        let place = self.place(&name.to_string_lossy(), &format!("{reason}\nwas: {}\n", path.display()))?;
        let to = place.join(name);
        if let Err(error) = std::fs::rename(path, &to) {
            std::fs::remove_dir_all(&place).ok();
            return Err(error);
        }
        Ok(to)
    }

    /// Keeps a document that describes something set aside.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn note(&self, name: &str, reason: &str, document: &[u8]) -> io::Result<PathBuf> {
        let to = self.place(name, &format!("{reason}\n"))?.join(name);
        std::fs::write(&to, document)?;
        Ok(to)
    }

    /// A new directory with the reason in it.
    fn place(&self, name: &str, reason: &str) -> io::Result<PathBuf> {
        std::fs::create_dir_all(&self.dir)?;
        set_private(&self.dir)?;
        let stamp = Timestamp::now().strftime("%Y%m%dT%H%M%S").to_string();
        let short: String = name.chars().take(40).collect();
        for number in 0..10_000 {
            let place = self.dir.join(format!("{stamp}-{number}-{short}"));
            match std::fs::create_dir(&place) {
                Ok(()) => {
                    std::fs::write(place.join(REASON), reason)?;
                    return Ok(place);
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        }
        Err(io::Error::new(io::ErrorKind::AlreadyExists, "too many things were set aside at once"))
    }

    /// All that was set aside, oldest first.
    pub fn list(&self) -> Vec<SetAside> {
        let entries = std::fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let mut all: Vec<SetAside> = entries
            .map(|entry| {
                let text = std::fs::read_to_string(entry.path().join(REASON)).unwrap_or_default();
                let reason = text.lines().next().unwrap_or_default().to_owned();
                SetAside { path: entry.path(), reason }
            })
            .collect();
        all.sort_by(|a, b| a.path.cmp(&b.path));
        all
    }
}

/// What was only root's to read may lie in there.
fn set_private(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_keep_their_names_and_get_a_reason() {
        let dir = tempfile::tempdir().unwrap();
        let lost = LostFound::new(dir.path().join("lost+found"));
        assert!(lost.list().is_empty());
        for contents in ["one", "two"] {
            let file = dir.path().join("thing.json");
            std::fs::write(&file, contents).unwrap();
            let now = lost.take(&file, "it is damaged").unwrap();
            assert!(!file.exists());
            assert_eq!(std::fs::read_to_string(now).unwrap(), contents);
        }
        let listed = lost.list();
        assert_eq!(listed.len(), 2);
        assert!(listed.iter().all(|a| a.reason == "it is damaged"));
        assert!(lost.take(&dir.path().join("nothing"), "missing").is_err());
        assert_eq!(lost.list().len(), 2);
    }
}
