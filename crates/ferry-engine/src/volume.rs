//! Volumes of the `local` driver: one directory each, under `<data-root>/volumes/NAME/_data`.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind as IoErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ferry_api::volume::Volume;
use ferry_types::ContainerId;
use ferry_types::name::is_restricted_name;
use serde::{Deserialize, Serialize};

use crate::error::{EngineError, Result};
use crate::time::now_nanos;
use crate::volume_mount::{self, DriverOptions, MountedVolumes};

/// First character of a directory in which a volume is being made, followed by its name. No volume's name begins so.
const MAKING: char = '+';
/// First character of the directory of a volume that is being deleted.
const REMOVING: char = '-';

/// What is recorded of a volume, in `volumes/NAME/volume.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VolumeRecord {
    pub name: String,
    /// Nanoseconds since the epoch.
    pub created_at: i64,
    pub labels: BTreeMap<String, String>,
    /// Made without a name.
    pub anonymous: bool,
    /// The container a nameless volume was made for; empty when it was made by itself.
    #[serde(default)]
    pub made_for: String,
    /// Options of the `local` driver: what is mounted on its directory while it is used.
    #[serde(default)]
    pub options: DriverOptions,
}

/// Whether a directory of this name is a volume that is just being made or deleted.
pub(crate) fn is_unfinished(name: &str) -> bool {
    name.starts_with([MAKING, REMOVING])
}

/// All volumes of a data root.
pub(crate) struct VolumeStore {
    root: PathBuf,
    volumes: Mutex<BTreeMap<String, VolumeRecord>>,
    mounted: MountedVolumes,
}

/// What a volume is to be, when it does not exist yet.
#[derive(Debug, Clone, Default)]
pub(crate) struct NewVolume {
    pub driver: String,
    pub options: DriverOptions,
    pub labels: BTreeMap<String, String>,
    /// Made without a name.
    pub anonymous: bool,
    /// The container a nameless volume is made for.
    pub made_for: String,
}

impl VolumeStore {
    /// Reads what is there. A volume whose record is unreadable keeps its data and gets a fresh record.
    pub fn open(root: PathBuf) -> Result<Self> {
        make_dir(&root, 0o701)?;
        let mut volumes = BTreeMap::new();
        let entries = fs::read_dir(&root).map_err(file("read", &root))?;
        for entry in entries.flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            if name.starts_with([MAKING, REMOVING]) {
                if let Err(error) = fs::remove_dir_all(entry.path()) {
                    tracing::warn!(path = %entry.path().display(), %error, "cannot remove a left-over");
                }
                continue;
            }
            if !entry.path().join("_data").is_dir() {
                continue;
            }
            let record = fs::read(entry.path().join("volume.json"))
                .ok()
                .and_then(|json| serde_json::from_slice::<VolumeRecord>(&json).ok())
                .filter(|record| record.name == name);
            let record = record.unwrap_or_else(|| {
                tracing::warn!(volume = name, "the volume's record is unreadable; its data is kept");
                VolumeRecord { name: name.clone(), ..VolumeRecord::default() }
            });
            volumes.insert(name, record);
        }
        Ok(Self { root, volumes: Mutex::new(volumes), mounted: MountedVolumes::default() })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, VolumeRecord>> {
        self.volumes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The directory a volume's data is in.
    pub fn data_dir(&self, name: &str) -> PathBuf {
        self.root.join(name).join("_data")
    }

    pub fn get(&self, name: &str) -> Option<VolumeRecord> {
        self.lock().get(name).cloned()
    }

    pub fn all(&self) -> Vec<VolumeRecord> {
        self.lock().values().cloned().collect()
    }

    /// Names of the nameless volumes made for a container.
    pub fn made_for(&self, container: &str) -> Vec<String> {
        let volumes = self.lock();
        volumes.values().filter(|v| v.made_for == container).map(|v| v.name.clone()).collect()
    }

    /// The volume of this name, made when there is none. Tells whether it was made.
    pub fn ensure(&self, name: &str, new: &NewVolume) -> Result<(VolumeRecord, bool)> {
        if !matches!(new.driver.as_str(), "" | "local") {
            let driver = new.driver.clone();
            return Err(EngineError::NoSuchVolumeDriver { volume: name.to_owned(), driver });
        }
        if name.len() == 1 {
            return Err(EngineError::InvalidParameter(format!(
                "create {name}: volume name is too short, names should be at least two alphanumeric characters"
            )));
        }
        if !is_restricted_name(name) {
            return Err(EngineError::InvalidParameter(format!(
                "create {name}: {name:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
            )));
        }
        let mut volumes = self.lock();
        if let Some(existing) = volumes.get(name) {
            return Ok((existing.clone(), false));
        }
        volume_mount::check(name, &new.options)?;
        let record = VolumeRecord {
            name: name.to_owned(),
            created_at: now_nanos(),
            labels: new.labels.clone(),
            anonymous: new.anonymous,
            made_for: new.made_for.clone(),
            options: new.options.clone(),
        };
        // Complete or not there at all, whenever the engine is killed.
        let dir = self.root.join(name);
        let unfinished = self.root.join(format!("{MAKING}{name}"));
        let make = || {
            make_dir(&unfinished, 0o701)?;
            make_dir(&unfinished.join("_data"), 0o755)?;
            save(&unfinished, &record)?;
            fs::rename(&unfinished, &dir).map_err(file("create", &dir))
        };
        make().inspect_err(|_| {
            let _ = fs::remove_dir_all(&unfinished);
        })?;
        volumes.insert(name.to_owned(), record.clone());
        Ok((record, true))
    }

    /// Writes a volume's record again from what is known of it.
    pub fn write_again(&self, name: &str) -> Result<()> {
        let volumes = self.lock();
        let record = volumes.get(name).ok_or_else(|| EngineError::NoSuchVolume(name.to_owned()))?;
        save(&self.root.join(name), record)
    }

    /// Mounts a volume that is a file system of its own, on behalf of `user`; others need nothing. Tells whether it is one.
    pub fn mount(&self, name: &str, user: &str) -> Result<bool> {
        let record = self.get(name).ok_or_else(|| EngineError::NoSuchVolume(name.to_owned()))?;
        if record.options.is_empty() {
            return Ok(false);
        }
        self.mounted.mount(name, &self.data_dir(name), &record.options, user)?;
        Ok(true)
    }

    /// Whether a volume is a file system of its own, which is mounted while it is used.
    pub fn is_file_system(&self, name: &str) -> bool {
        self.lock().get(name).is_some_and(|v| !v.options.is_empty())
    }

    /// Notes that a running container uses a volume, found when the engine started.
    pub fn adopt(&self, name: &str, user: &str) {
        if self.get(name).is_some_and(|v| !v.options.is_empty()) {
            self.mounted.adopt(name, user);
        }
    }

    /// Ends a use of a volume.
    pub fn release(&self, name: &str, user: &str) -> Result<()> {
        match self.get(name) {
            Some(record) if !record.options.is_empty() => {
                self.mounted.release(name, &self.data_dir(name), user)
            }
            _ => Ok(()),
        }
    }

    /// Unmounts the volumes nobody uses, after an engine that was killed.
    pub fn tidy_mounts(&self) {
        for record in self.all().iter().filter(|v| !v.options.is_empty()) {
            if let Err(error) = self.mounted.tidy(&record.name, &self.data_dir(&record.name)) {
                tracing::warn!(volume = record.name, %error, "cannot unmount an unused volume");
            }
        }
    }

    /// Removes a volume and its data. The caller knows that no container uses it.
    pub fn remove(&self, name: &str) -> Result<()> {
        let dir = self.root.join(name);
        if self.get(name).is_some_and(|v| !v.options.is_empty()) {
            // What is mounted is not the volume's to delete.
            self.mounted.tidy(name, &self.data_dir(name))?;
        }
        let trash = self.root.join(format!("{REMOVING}{}", ContainerId::random()));
        {
            let mut volumes = self.lock();
            if !volumes.contains_key(name) {
                return Err(EngineError::NoSuchVolume(name.to_owned()));
            }
            match fs::rename(&dir, &trash) {
                Err(e) if e.kind() != IoErrorKind::NotFound => return Err(file("remove", &dir)(e)),
                _ => volumes.remove(name),
            };
        }
        match fs::remove_dir_all(&trash) {
            Err(e) if e.kind() != IoErrorKind::NotFound => Err(file("remove", &trash)(e)),
            _ => Ok(()),
        }
    }

    /// The API's view of a volume.
    pub fn to_wire(&self, record: &VolumeRecord) -> Volume {
        let mut labels = record.labels.clone();
        if record.anonymous {
            labels.insert("com.docker.volume.anonymous".to_owned(), String::new());
        }
        Volume {
            name: record.name.clone(),
            driver: "local".to_owned(),
            mountpoint: self.data_dir(&record.name).to_string_lossy().into_owned(),
            created_at: ferry_api::Time::from_unix_nanos(
                i128::from(record.created_at) / 1_000_000_000 * 1_000_000_000,
            )
            .to_string(),
            labels: if labels.is_empty() { ferry_api::Map::default() } else { labels.into() },
            options: if record.options.is_empty() {
                ferry_api::Map::default()
            } else {
                record.options.clone().into()
            },
            scope: "local".to_owned(),
            ..Volume::default()
        }
    }
}

/// Replaces the record in a volume's directory.
fn save(dir: &Path, record: &VolumeRecord) -> Result<()> {
    let path = dir.join("volume.json");
    let json = serde_json::to_vec(record).map_err(|e| EngineError::System(e.to_string()))?;
    let temporary = path.with_extension("json.new");
    fs::write(&temporary, json).map_err(file("write", &temporary))?;
    fs::rename(&temporary, &path).map_err(file("replace", &path))
}

fn make_dir(path: &Path, mode: u32) -> Result<()> {
    match fs::DirBuilder::new().mode(mode).create(path) {
        Err(e) if e.kind() != IoErrorKind::AlreadyExists => Err(file("create", path)(e)),
        _ => Ok(()),
    }
}

fn file<'a>(action: &'static str, path: &'a Path) -> impl Fn(std::io::Error) -> EngineError + 'a {
    move |source| EngineError::File { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_survive_a_reopen() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("volumes");
        let store = VolumeStore::open(root.clone()).unwrap();
        let named = NewVolume::default();
        assert!(store.ensure("data", &named).unwrap().1);
        assert!(!store.ensure("data", &named).unwrap().1);
        let nameless = NewVolume { anonymous: true, made_for: "c1".to_owned(), ..NewVolume::default() };
        store.ensure("nameless", &nameless).unwrap();
        fs::write(store.data_dir("data").join("f"), "x").unwrap();
        // What an engine leaves that is killed while it makes one and removes another.
        for left_over in ["+new/_data", "-0123/_data"] {
            fs::create_dir_all(root.join(left_over)).unwrap();
        }
        let again = VolumeStore::open(root.clone()).unwrap();
        assert_eq!(again.all().len(), 2);
        assert_eq!(fs::read_dir(&root).unwrap().count(), 2);
        assert_eq!(again.made_for("c1"), ["nameless"]);
        again.remove("data").unwrap();
        assert!(!again.data_dir("data").exists());
        assert!(matches!(again.remove("data"), Err(EngineError::NoSuchVolume(_))));
    }

    #[test]
    fn names_that_leave_the_root_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let store = VolumeStore::open(dir.path().join("volumes")).unwrap();
        for bad in ["..", "a/b", "", "/etc", "x"] {
            assert!(store.ensure(bad, &NewVolume::default()).is_err(), "{bad}");
        }
        let unknown = NewVolume { driver: "nosuch".to_owned(), ..NewVolume::default() };
        assert_eq!(
            store.ensure("data", &unknown).unwrap_err().to_string(),
            "create data: error looking up volume plugin nosuch: plugin \"nosuch\" not found"
        );
    }
}
