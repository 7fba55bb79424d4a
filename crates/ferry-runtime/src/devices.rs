//! The container's /dev: the nodes and links the runtime-spec requires ("Default Devices"), and the
//! config's own.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Uid, chownat, fstat, makedev, mknodat, openat, symlinkat,
};
use rustix::io::Errno;

use crate::confined::{Missing, open_in_root};
use crate::error::At;
use crate::plan::Plan;
use crate::{Error, Stage};

const DEFAULT_DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

const LINKS: [(&str, &str); 4] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
];

/// Fills /dev. Not called when the config binds the host's own /dev there. The umask must be 0.
pub(crate) fn populate(root: BorrowedFd<'_>, plan: &Plan) -> Result<(), Error> {
    let dev = open_in_root(root, Path::new("/dev"), Missing::MakeDir)
        .at(Stage::Settings, || "open /dev".to_owned())?;
    for (name, major, minor) in DEFAULT_DEVICES {
        if plan.devices.iter().any(|d| d.path() == &Path::new("/dev").join(name)) {
            continue;
        }
        node(&dev, name, FileType::CharacterDevice, 0o666, makedev(major, minor))
            .at(Stage::Settings, || format!("create /dev/{name}"))?;
    }
    for device in &plan.devices {
        config_device(root, device)
            .at(Stage::Settings, || format!("create device {}", device.path().display()))?;
    }
    for (target, name) in LINKS {
        link(&dev, target, name)?;
    }
    if Path::new("/proc/kcore").exists() {
        link(&dev, "/proc/kcore", "core")?;
    }
    // The container's terminals come from its own devpts.
    match rustix::fs::unlinkat(&dev, "ptmx", AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(Error::system(Stage::Settings, "replace /dev/ptmx", errno)),
    }
    link(&dev, "pts/ptmx", "ptmx")
}

fn link(dev: &OwnedFd, target: &str, name: &str) -> Result<(), Error> {
    match symlinkat(target, dev, name) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(Error::system(Stage::Settings, format!("link /dev/{name}"), errno)),
    }
}

fn node(dir: &OwnedFd, name: &str, kind: FileType, mode: u32, dev: u64) -> Result<(), Errno> {
    match mknodat(dir, name, kind, Mode::from_raw_mode(mode), dev) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => {
            // Left by an image or an earlier mount: fine when it is the device it claims to be.
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let stat = fstat(openat(dir, name, flags, Mode::empty())?)?;
            let same = FileType::from_raw_mode(stat.st_mode) == kind && stat.st_rdev == dev;
            if same { Ok(()) } else { Err(Errno::EXIST) }
        }
        Err(errno) => Err(errno),
    }
}

fn config_device(root: BorrowedFd<'_>, device: &LinuxDevice) -> Result<(), Errno> {
    let kind = match device.typ() {
        LinuxDeviceType::C | LinuxDeviceType::U => FileType::CharacterDevice,
        LinuxDeviceType::B => FileType::BlockDevice,
        LinuxDeviceType::P => FileType::Fifo,
        LinuxDeviceType::A => return Err(Errno::INVAL),
    };
    let (Some(parent), Some(name)) = (device.path().parent(), device.path().file_name()) else {
        return Err(Errno::INVAL);
    };
    let name = name.to_str().ok_or(Errno::ILSEQ)?;
    let number = |n: i64| u32::try_from(n).map_err(|_| Errno::INVAL);
    let dev = match kind {
        FileType::Fifo => 0,
        _ => makedev(number(device.major())?, number(device.minor())?),
    };
    let dir = open_in_root(root, parent, Missing::MakeDir)?;
    node(&dir, name, kind, device.file_mode().unwrap_or(0o666) & 0o7777, dev)?;
    let (uid, gid) = (device.uid().unwrap_or(0), device.gid().unwrap_or(0));
    if (uid, gid) != (0, 0) {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        chownat(dir.as_fd(), name, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), flags)?;
    }
    Ok(())
}
