//! The small bodies around a container's life: update, wait, top, changes, archive, prune.

use serde::{Deserialize, Serialize};

use super::{Resources, RestartPolicy};
use crate::json::{List, Time, embed};

/// Body of `POST /containers/{id}/update`: the members of [`Resources`] and the restart policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase", remote = "Self")]
pub struct ContainerUpdateRequest {
    /// Zero values leave the limit as it is.
    #[serde(flatten, skip_deserializing)]
    pub resources: Resources,
    /// An empty name leaves the policy as it is.
    pub restart_policy: RestartPolicy,
}
embed!(ContainerUpdateRequest, resources);

/// Answer to an update.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ContainerUpdateResponse {
    /// For people, null when there are none.
    pub warnings: List<String>,
}

/// Answer of `POST /containers/{id}/wait`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ContainerWaitResponse {
    /// Why the container's end cannot be known, e.g. a failed removal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<WaitError>,
    /// Its exit code.
    pub status_code: i64,
}

/// `Error` of a [`ContainerWaitResponse`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct WaitError {
    /// For people.
    pub message: String,
}

/// Answer of `GET /containers/{id}/top`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ContainerTopResponse {
    /// One row per process.
    pub processes: Vec<Vec<String>>,
    /// Column heads.
    pub titles: Vec<String>,
}

/// One element of `GET /containers/{id}/changes`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct FilesystemChange {
    /// Absolute in the container.
    pub path: String,
    /// What happened to it.
    pub kind: ChangeKind,
}

/// What happened to a path since the container was created; a number on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
pub enum ChangeKind {
    /// 0: contents or attributes changed.
    #[default]
    Modified,
    /// 1: it is new.
    Added,
    /// 2: it is gone.
    Deleted,
}

impl From<ChangeKind> for u8 {
    fn from(kind: ChangeKind) -> u8 {
        match kind {
            ChangeKind::Modified => 0,
            ChangeKind::Added => 1,
            ChangeKind::Deleted => 2,
        }
    }
}

impl TryFrom<u8> for ChangeKind {
    type Error = String;
    fn try_from(kind: u8) -> Result<Self, String> {
        match kind {
            0 => Ok(Self::Modified),
            1 => Ok(Self::Added),
            2 => Ok(Self::Deleted),
            other => Err(format!("invalid kind of change: {other}")),
        }
    }
}

/// What the `X-Docker-Container-Path-Stat` header holds, in base64.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ContainerPathStat {
    /// Last component.
    pub name: String,
    /// Bytes.
    pub size: i64,
    /// Go's `os.FileMode`, see [`ContainerPathStat::go_mode`].
    pub mode: u32,
    /// Last change.
    pub mtime: Time,
    /// Where a symbolic link points, empty for others.
    pub link_target: String,
}

impl ContainerPathStat {
    /// Translates `st_mode` (inode(7)) to Go's `os.FileMode` bits, which differ from the kernel's.
    pub fn go_mode(st_mode: u32) -> u32 {
        const DIR: u32 = 1 << 31;
        const SYMLINK: u32 = 1 << 27;
        const DEVICE: u32 = 1 << 26;
        const PIPE: u32 = 1 << 25;
        const SOCKET: u32 = 1 << 24;
        const SETUID: u32 = 1 << 23;
        const SETGID: u32 = 1 << 22;
        const CHAR_DEVICE: u32 = 1 << 21;
        const STICKY: u32 = 1 << 20;
        let kind = match st_mode & 0o170_000 {
            0o040_000 => DIR,
            0o120_000 => SYMLINK,
            0o060_000 => DEVICE,
            0o020_000 => DEVICE | CHAR_DEVICE,
            0o010_000 => PIPE,
            0o140_000 => SOCKET,
            _ => 0,
        };
        let special = [(0o4000, SETUID), (0o2000, SETGID), (0o1000, STICKY)];
        let special = special.iter().filter(|(bit, _)| st_mode & bit != 0).fold(0, |all, (_, go)| all | go);
        kind | special | (st_mode & 0o777)
    }
}

/// Answer of `POST /containers/prune`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ContainerPruneResponse {
    /// Full ids, null when none.
    pub containers_deleted: List<String>,
    /// Bytes.
    pub space_reclaimed: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_modes() {
        assert_eq!(ContainerPathStat::go_mode(0o040_755), 0x8000_01ed);
        assert_eq!(ContainerPathStat::go_mode(0o120_777), 0x0800_01ff);
        assert_eq!(ContainerPathStat::go_mode(0o104_755), 0x0080_01ed);
        assert_eq!(ContainerPathStat::go_mode(0o100_644), 0o644);
    }
}
