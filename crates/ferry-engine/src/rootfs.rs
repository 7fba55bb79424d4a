//! Looking into a container's root file system from the engine: a detached overlay mount that no path leads to and that
//! goes when its descriptor is closed.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use ferry_types::{ContainerId, Overlay};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount,
};

use crate::error::{EngineError, Result};

/// Mounts layers (topmost first) read-only.
pub(crate) fn mount_read_only(lower: &[PathBuf]) -> io::Result<OwnedFd> {
    // overlayfs wants two lower layers when there is no upper one; a single one is its own root.
    if let [only] = lower {
        return Ok(rustix::fs::open(
            only,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?);
    }
    mount_detached(lower, None)
}

/// Mounts a stopped container's root file system, writable.
pub(crate) fn mount_stopped(overlay: &Overlay) -> io::Result<OwnedFd> {
    mount_detached(&overlay.lower, Some((&overlay.upper, &overlay.work)))
}

/// Mounts a container's root file system, writable, on a directory of the calling thread's mount namespace.
pub(crate) fn mount_at(overlay: &Overlay, target: &Path) -> io::Result<OwnedFd> {
    let writable = Some((overlay.upper.as_path(), overlay.work.as_path()));
    match mount_layers(&overlay.lower, writable)? {
        Some(tree) => {
            let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
            move_mount(tree.as_fd(), "", CWD, target, flags)?;
            Ok(tree)
        }
        None => {
            let options = joined_options(&overlay.lower, writable)?;
            rustix::mount::mount(
                "overlay",
                target,
                "overlay",
                MountFlags::empty(),
                Some(options.as_c_str()),
            )?;
            Ok(rustix::fs::open(target, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
        }
    }
}

/// Mounts an image's layers, two at least, read-only on a directory of the calling thread's mount namespace.
pub(crate) fn mount_image_at(layers: &[PathBuf], target: &Path) -> io::Result<()> {
    match mount_layers(layers, None)? {
        Some(tree) => Ok(move_mount(tree.as_fd(), "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?),
        None => {
            let options = joined_options(layers, None)?;
            let options = Some(options.as_c_str());
            Ok(rustix::mount::mount("overlay", target, "overlay", MountFlags::RDONLY, options)?)
        }
    }
}

fn mount_detached(lower: &[PathBuf], writable: Option<(&Path, &Path)>) -> io::Result<OwnedFd> {
    match mount_layers(lower, writable)? {
        Some(tree) => Ok(tree),
        None => mount_and_detach(lower, writable),
    }
}

/// `None` on kernels that take the layers only in one string.
fn mount_layers(lower: &[PathBuf], writable: Option<(&Path, &Path)>) -> io::Result<Option<OwnedFd>> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for dir in lower {
        match fsconfig_set_string(context.as_fd(), "lowerdir+", dir) {
            Ok(()) => {}
            // Kernels before 6.5 know only the joined form, which fsconfig(2) limits to 256 bytes.
            Err(Errno::INVAL) => return Ok(None),
            Err(e) => return Err(e.into()),
        }
    }
    if let Some((upper, work)) = writable {
        fsconfig_set_string(context.as_fd(), "upperdir", upper)?;
        fsconfig_set_string(context.as_fd(), "workdir", work)?;
        fsconfig_set_string(context.as_fd(), "redirect_dir", "off")?;
        fsconfig_set_string(context.as_fd(), "metacopy", "off")?;
    }
    fsconfig_create(context.as_fd())?;
    Ok(Some(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?))
}

fn joined_options(lower: &[PathBuf], writable: Option<(&Path, &Path)>) -> io::Result<CString> {
    let joined: Vec<String> = lower.iter().map(|d| d.to_string_lossy().replace(':', "\\:")).collect();
    let mut options = format!("lowerdir={}", joined.join(":"));
    if let Some((upper, work)) = writable {
        options.push_str(&format!(",upperdir={},workdir={}", upper.display(), work.display()));
    }
    Ok(CString::new(options)?)
}

/// For older kernels: a mount at a private temporary directory, opened and taken away again at once.
fn mount_and_detach(lower: &[PathBuf], writable: Option<(&Path, &Path)>) -> io::Result<OwnedFd> {
    let options = joined_options(lower, writable)?;
    let anchor = writable.map_or_else(|| lower[0].as_path(), |(upper, _)| upper);
    let target = anchor.with_file_name(format!("view-{}", ferry_types::ExecId::random().short()));
    std::fs::create_dir(&target)?;
    let mounted =
        rustix::mount::mount("overlay", &target, "overlay", MountFlags::empty(), Some(options.as_c_str()));
    let opened = mounted.and_then(|()| {
        let root =
            rustix::fs::open(&target, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        rustix::mount::unmount(&target, UnmountFlags::DETACH)?;
        root
    });
    std::fs::remove_dir(&target)?;
    Ok(opened?)
}

/// Reports a failed look into a container.
pub(crate) fn failed(container: &str) -> impl Fn(io::Error) -> EngineError + '_ {
    move |source| EngineError::File {
        action: "open the root file system of",
        path: Path::new(container).to_owned(),
        source,
    }
}

/// A container's root file system without what is mounted below it.
pub(crate) fn open(overlay: &Overlay, pid: Option<i32>, container: &ContainerId) -> Result<OwnedFd> {
    match pid {
        Some(pid) => crate::container::files::bare_root(pid, container),
        None => mount_stopped(overlay),
    }
    .map_err(failed(container.as_str()))
}
