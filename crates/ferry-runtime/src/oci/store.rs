//! What is kept about a container between commands: a directory per id with `state.json`, the config as it
//! was at the creation, and the socket a created container is started by.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};

use super::error::{OciError, OfFile};
use crate::cgroup::Cgroup;

/// What a container is doing (runtime-spec `runtime.md`, "State", and runc's `paused`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Its init waits for the start.
    Created,
    /// Its program runs.
    Running,
    /// All its processes are frozen.
    Paused,
    /// Its init has ended.
    Stopped,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        })
    }
}

/// What `state` and `list` report; runc's fields.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Of the config.
    pub oci_version: String,
    /// The container.
    pub id: String,
    /// Its init process in the caller's pid namespace; 0 once stopped.
    pub pid: i32,
    /// What it is doing.
    pub status: Status,
    /// The bundle, absolute.
    pub bundle: PathBuf,
    /// The root file system.
    pub rootfs: PathBuf,
    /// When it was created, RFC 3339 in UTC.
    pub created: String,
    /// Of the config.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// User name of the creator; empty, as runc has it for root without a user database.
    pub owner: String,
}

/// `state.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    pub id: String,
    pub pid: i32,
    /// Tells init from a later process with its pid: clock ticks after boot (proc_pid_stat(5), field 22).
    pub start_time: u64,
    pub bundle: PathBuf,
    pub cgroup: PathBuf,
    pub created: String,
}

/// One container's directory.
#[derive(Debug)]
pub(super) struct Entry {
    pub dir: PathBuf,
    pub record: Record,
}

pub(super) const START_SOCKET: &str = "start.sock";
const STATE: &str = "state.json";
const CONFIG: &str = "config.json";

/// An id becomes a file name and part of a cgroup path.
pub(super) fn check_id(id: &str) -> Result<(), OciError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
    if id.is_empty() || id.len() > 1024 || id == "." || id == ".." || !id.chars().all(allowed) {
        return Err(OciError::InvalidId(id.to_owned()));
    }
    Ok(())
}

/// Writes the record and the config.
pub(super) fn save(dir: &Path, record: &Record, spec: &Spec) -> Result<(), OciError> {
    for (name, json) in [(CONFIG, serde_json::to_vec(spec)), (STATE, serde_json::to_vec(record))] {
        let (path, temporary) = (dir.join(name), dir.join(format!("{name}.new")));
        std::fs::write(&temporary, json.of(&path)?).of(&temporary)?;
        std::fs::rename(&temporary, &path).of(&path)?;
    }
    Ok(())
}

impl Entry {
    /// The container of this id.
    pub fn load(root: &Path, id: &str) -> Result<Entry, OciError> {
        check_id(id)?;
        let dir = root.join(id);
        let path = dir.join(STATE);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(OciError::NotFound(id.to_owned()));
            }
            Err(source) => return Err(OciError::File { path, source }),
        };
        Ok(Entry { record: serde_json::from_slice(&text).of(&path)?, dir })
    }

    /// The config the container was created with.
    pub fn spec(&self) -> Result<Spec, OciError> {
        let path = self.dir.join(CONFIG);
        serde_json::from_slice(&std::fs::read(&path).of(&path)?).of(&path)
    }

    pub fn cgroup(&self) -> Result<Cgroup, OciError> {
        Ok(Cgroup::open(&self.record.cgroup)?)
    }

    pub fn status(&self) -> Result<Status, OciError> {
        if start_time(self.record.pid) != Some(self.record.start_time) {
            return Ok(Status::Stopped);
        }
        if self.dir.join(START_SOCKET).exists() {
            return Ok(Status::Created);
        }
        let frozen = self.cgroup()?.is_frozen().unwrap_or(false);
        Ok(if frozen { Status::Paused } else { Status::Running })
    }

    pub fn state(&self) -> Result<State, OciError> {
        let spec = self.spec()?;
        let status = self.status()?;
        let rootfs = spec.root().as_ref().map(|root| self.record.bundle.join(root.path()));
        Ok(State {
            oci_version: spec.version().clone(),
            id: self.record.id.clone(),
            pid: if status == Status::Stopped { 0 } else { self.record.pid },
            status,
            bundle: self.record.bundle.clone(),
            rootfs: rootfs.unwrap_or_default(),
            created: self.record.created.clone(),
            annotations: spec.annotations().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect(),
            owner: String::new(),
        })
    }
}

/// When a process started; `None` when it is gone or only waits to be reaped.
pub(super) fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may contain anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") { None } else { fields.nth(18)?.parse().ok() }
}

/// Now, as RFC 3339 with nanoseconds in UTC.
pub fn now() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    rfc3339(since.as_secs(), since.subsec_nanos())
}

fn rfc3339(seconds: u64, nanoseconds: u32) -> String {
    // Howard Hinnant's days-to-civil over 400-year eras beginning on 0000-03-01.
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanoseconds:09}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(rfc3339(0, 0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(rfc3339(951_827_696, 5), "2000-02-29T12:34:56.000000005Z");
        assert_eq!(rfc3339(1_795_132_800, 0), "2026-11-20T00:00:00.000000000Z");
    }

    #[test]
    fn ids() {
        assert!(check_id("a_b+c-d.9").is_ok());
        for id in ["", ".", "..", "a/b", "ä", "a b"] {
            assert!(check_id(id).is_err(), "{id}");
        }
    }

    #[test]
    fn own_start_time() {
        assert!(start_time(std::process::id().cast_signed()).is_some());
        assert!(start_time(i32::MAX).is_none());
    }
}
