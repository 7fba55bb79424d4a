//! The files by which an engine that was not there learns what became of a container: the shim's pid and
//! the exit record. Both are replaced atomically; nobody ever reads half of one.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use ferry_shim_proto::{ExitRecord, ShimPid};
use serde::Serialize;

/// What identifies this process for as long as the host runs.
pub fn own_identity() -> io::Result<ShimPid> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let invalid = || io::Error::new(io::ErrorKind::InvalidData, "unexpected /proc/self/stat");
    Ok(ShimPid {
        pid: rustix::process::getpid().as_raw_pid(),
        start_time: start_time(&stat).ok_or_else(invalid)?,
    })
}

/// Field 22 of `/proc/PID/stat` (proc_pid_stat(5)). The second field is a name in parentheses that
/// may itself hold spaces and parentheses.
fn start_time(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Writes the pid file.
pub fn write_pid(path: &Path, identity: &ShimPid) -> io::Result<()> {
    replace(path, identity)
}

/// Writes the exit record.
pub fn write_exit(path: &Path, record: &ExitRecord) -> io::Result<()> {
    replace(path, record)
}

fn replace<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let bytes = serde_json::to_vec(value)?;
    let mut name = OsString::from(path);
    name.push(".new");
    let temporary = PathBuf::from(name);
    std::fs::write(&temporary, bytes).and_then(|()| std::fs::rename(&temporary, path)).inspect_err(|_| {
        let _ = std::fs::remove_file(&temporary);
    })
}

/// Removes a file that may be missing.
pub fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_time_is_found_behind_any_name() {
        let stat = "12 (a) b (c)) S 1 12 12 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 98765 1 2 3";
        assert_eq!(start_time(stat), Some(98765));
        assert_eq!(start_time("12 (x"), None);
        assert_eq!(own_identity().unwrap().pid, i32::try_from(std::process::id()).unwrap());
    }

    #[test]
    fn records_are_replaced_whole() {
        let path = std::env::temp_dir().join(format!("ferry-shim-record-{}", std::process::id()));
        let record =
            |code| ExitRecord { code, oom_killed: false, started_at: 1, finished_at: 2, log_lost: 0 };
        write_exit(&path, &record(1)).unwrap();
        write_exit(&path, &record(137)).unwrap();
        let read: ExitRecord = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(read, record(137));
        remove(&path).unwrap();
        remove(&path).unwrap();
    }
}
