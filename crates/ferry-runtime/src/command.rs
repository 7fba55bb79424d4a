//! Finding and executing the user's program, with the words Docker's users know from runc.

use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, FileType, accessat, stat};
use rustix::io::Errno;

use crate::Error;
use crate::error::errno_text;

/// Finds the file to execute for `args[0]`, as the user and in the directory it will run with.
pub(crate) fn lookup(program: &CStr, env: &[CString]) -> Result<CString, Error> {
    let name = program.to_bytes();
    if name.contains(&b'/') {
        return match executable(Path::new(OsStr::from_bytes(name))) {
            Ok(()) => Ok(program.to_owned()),
            Err(errno) => Err(failure(name, errno, true)),
        };
    }
    let path = env.iter().rev().find_map(|entry| entry.to_bytes().strip_prefix(b"PATH=")).unwrap_or_default();
    for dir in path.split(|&b| b == b':') {
        if name.is_empty() {
            break;
        }
        let dir = if dir.is_empty() { Path::new(".") } else { Path::new(OsStr::from_bytes(dir)) };
        let candidate: PathBuf = dir.join(OsStr::from_bytes(name));
        if executable(&candidate).is_ok()
            && let Ok(candidate) = CString::new(candidate.into_os_string().into_vec())
        {
            return Ok(candidate);
        }
    }
    Err(Error::CommandNotFound {
        message: format!("exec: {}: executable file not found in $PATH", quote(name)),
    })
}

fn executable(path: &Path) -> Result<(), Errno> {
    let stat = stat(path)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return Err(Errno::ISDIR);
    }
    // Root may pass access checks on files without any x bit, execve still refuses them.
    if stat.st_mode & 0o111 == 0 {
        return Err(Errno::ACCESS);
    }
    accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS)
}

/// The error for a program that was named by path or whose `execve` failed.
pub(crate) fn failure(name: &[u8], errno: Errno, stat: bool) -> Error {
    let quoted = quote(name);
    let text = errno_text(errno.raw_os_error());
    if errno == Errno::NOENT || errno == Errno::NOTDIR {
        let plain = String::from_utf8_lossy(name);
        let detail = if stat { format!("stat {plain}: ") } else { String::new() };
        return Error::CommandNotFound { message: format!("exec: {quoted}: {detail}{text}") };
    }
    Error::CommandNotExecutable { message: format!("exec: {quoted}: {text}") }
}

fn quote(name: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(name))
}

/// The home directory of `uid` from the container's user database, for `HOME`.
pub(crate) fn home_of(uid: u32) -> CString {
    passwd_home(uid).unwrap_or_else(|| c"/".to_owned())
}

fn passwd_home(uid: u32) -> Option<CString> {
    use rustix::fs::{Mode, OFlags, fstat, open};
    // A fifo in place of the file must not stop us.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = open("/etc/passwd", flags, Mode::empty()).ok()?;
    let stat = fstat(&fd).ok()?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return None;
    }
    let mut text = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(std::fs::File::from(fd), 1 << 20), &mut text).ok()?;
    home_in(&text, uid)
}

fn home_in(passwd: &[u8], uid: u32) -> Option<CString> {
    let uid = uid.to_string();
    passwd.split(|&b| b == b'\n').find_map(|line| {
        let mut fields = line.split(|&b| b == b':').skip(2);
        (fields.next()? == uid.as_bytes()).then_some(())?;
        let home = fields.nth(2)?;
        if home.is_empty() { None } else { CString::new(home).ok() }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(program: &CStr, path: &CStr) -> String {
        lookup(program, &[path.to_owned()]).unwrap_err().to_string()
    }

    #[test]
    fn failures_in_dockers_words() {
        let path = c"PATH=/nonexistent:/tmp";
        assert_eq!(message(c"foo", path), "exec: \"foo\": executable file not found in $PATH");
        assert_eq!(message(c"", path), "exec: \"\": executable file not found in $PATH");
        assert_eq!(message(c"/foo", path), "exec: \"/foo\": stat /foo: no such file or directory");
        assert_eq!(message(c"/etc/passwd", path), "exec: \"/etc/passwd\": permission denied");
        assert_eq!(message(c"/tmp", path), "exec: \"/tmp\": is a directory");
    }

    #[test]
    fn the_path_is_searched_in_order() {
        let env = [c"A=b".to_owned(), c"PATH=/nonexistent:/bin:/usr/bin".to_owned()];
        assert_eq!(lookup(c"sh", &env).unwrap().as_c_str(), c"/bin/sh");
    }

    #[test]
    fn home_directories() {
        let passwd = b"root:x:0:0:root:/root:/bin/sh\nbroken\nweb:x:33:33::/var/www:/bin/sh\nx:x:7:7:::\n";
        assert_eq!(home_in(passwd, 33).unwrap().as_c_str(), c"/var/www");
        assert_eq!(home_in(passwd, 0).unwrap().as_c_str(), c"/root");
        assert!(home_in(passwd, 7).is_none());
        assert!(home_in(passwd, 99).is_none());
    }
}
