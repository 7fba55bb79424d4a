//! The container's root file system, from inside its new mount namespace: the tree is put together
//! beside the host's, then becomes `/`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use ferry_types::Overlay;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, open, openat2};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, MoveMountFlags, UnmountFlags, mount_change, move_mount, unmount};

use crate::error::At;
use crate::mounts::{clone_tree, set_attributes};
use crate::options::Attributes;
use crate::plan::Plan;
use crate::{Error, Stage, overlay};
use ferry_sys::mount::ATTR_RDONLY;

const AT_BOTH: MoveMountFlags =
    MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH.union(MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH);

/// Cuts the propagation of mounts to the host and attaches the root file system. Returns its root.
pub(crate) fn attach(plan: &Plan, layers: Option<&Overlay>) -> Result<OwnedFd, Error> {
    mount_change("/", plan.root_propagation)
        .at(Stage::Rootfs, || "set the propagation of the root mount".to_owned())?;
    let target: PathBuf = match layers {
        // Any directory will do: nothing outside this mount namespace sees the mount.
        Some(layers) if !plan.rootfs.is_dir() => layers.upper.clone(),
        _ => plan.rootfs.clone(),
    };
    if plan.root_propagation.contains(MountPropagationFlags::SHARED) {
        change_parent(&target, MountPropagationFlags::PRIVATE)?;
    }
    match layers {
        Some(layers) => overlay::attach(layers, &target),
        None => {
            let at = || format!("attach the root file system at {}", target.display());
            let tree = clone_tree(CWD, &target, true).at(Stage::Rootfs, at)?;
            let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
            move_mount(tree.as_fd(), "", CWD, &target, flags).at(Stage::Rootfs, at)?;
            Ok(tree)
        }
    }
}

pub(crate) fn open_dir(path: &Path) -> Result<OwnedFd, Errno> {
    open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Takes the mount that `path` lies on out of its peer group: what is attached beneath a shared one shows up on the host.
pub(crate) fn change_parent(path: &Path, propagation: MountPropagationFlags) -> Result<(), Error> {
    for ancestor in path.ancestors() {
        match mount_change(ancestor, propagation) {
            Ok(()) => return Ok(()),
            // Not a mount point.
            Err(Errno::INVAL) => {}
            Err(errno) => {
                return Err(Error::system(
                    Stage::Rootfs,
                    format!("set the propagation of {}", ancestor.display()),
                    errno,
                ));
            }
        }
    }
    Ok(())
}

/// Makes the tree at `root` the root directory and lets go of the host's.
pub(crate) fn pivot(plan: &Plan, root: BorrowedFd<'_>) -> Result<(), Error> {
    let at = || "pivot_root".to_owned();
    let shared = plan.root_propagation.contains(MountPropagationFlags::SHARED);
    let old = match shared {
        true => Some(open_dir(Path::new("/")).at(Stage::Rootfs, at)?),
        false => None,
    };
    rustix::process::fchdir(root).at(Stage::Rootfs, at)?;
    rustix::process::pivot_root(".", ".").at(Stage::Rootfs, at)?;
    // The old root now lies on top of the new one. Its unmounting must not propagate to the host. Only unmount(2) sees it at
    // the working directory: for all else that is the new root, whose mounts are to stay as they are.
    if let Some(old) = old {
        rustix::process::fchdir(&old).at(Stage::Rootfs, at)?;
        let flags = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        mount_change(".", flags).at(Stage::Rootfs, at)?;
    }
    unmount(".", UnmountFlags::DETACH).at(Stage::Rootfs, || "unmount the host's root".to_owned())?;
    rustix::process::chdir("/").at(Stage::Rootfs, || "change to the new root".to_owned())
}

/// The last touches, from inside: propagation, hidden and read-only paths.
pub(crate) fn finish(plan: &Plan) -> Result<(), Error> {
    let wanted = plan.root_propagation & !MountPropagationFlags::REC;
    if wanted == MountPropagationFlags::SHARED || wanted == MountPropagationFlags::UNBINDABLE {
        mount_change("/", wanted).at(Stage::Rootfs, || "set the propagation of /".to_owned())?;
    }
    let root = open_dir(Path::new("/")).at(Stage::Rootfs, || "open /".to_owned())?;
    for path in &plan.readonly {
        make_readonly(root.as_fd(), path)?;
    }
    mask(root.as_fd(), &plan.masked)?;
    if plan.root_readonly {
        let attributes = Attributes { set: ATTR_RDONLY, clear: 0 };
        set_attributes(root.as_fd(), "/", false, attributes)
            .at(Stage::Rootfs, || "make / read-only".to_owned())?;
    }
    Ok(())
}

fn lookup(root: BorrowedFd<'_>, path: &Path) -> Result<Option<OwnedFd>, Errno> {
    let relative = path.strip_prefix("/").unwrap_or(path);
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    match openat2(root, relative, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), how) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn make_readonly(root: BorrowedFd<'_>, path: &Path) -> Result<(), Error> {
    let at = || format!("make {} read-only", path.display());
    let Some(target) = lookup(root, path).at(Stage::Rootfs, at)? else { return Ok(()) };
    let tree = clone_tree(target.as_fd(), Path::new(""), true).at(Stage::Rootfs, at)?;
    let attributes = Attributes { set: ATTR_RDONLY, clear: 0 };
    move_mount(tree.as_fd(), "", target.as_fd(), "", AT_BOTH).at(Stage::Rootfs, at)?;
    set_attributes(tree.as_fd(), path, false, attributes).at(Stage::Rootfs, at)
}

/// Hides directories behind one empty read-only tmpfs, files behind /dev/null.
fn mask(root: BorrowedFd<'_>, paths: &[PathBuf]) -> Result<(), Error> {
    let mut empty: Option<OwnedFd> = None;
    for path in paths {
        let at = || format!("mask {}", path.display());
        let Some(target) = lookup(root, path).at(Stage::Rootfs, at)? else { continue };
        let tree = if crate::confined::is_dir(&target).at(Stage::Rootfs, at)? {
            let Some(source) = &empty else {
                // The first place gets the file system itself: before Linux 6.15 only what is attached can be cloned.
                let first = empty.insert(crate::mounts::empty_dir().at(Stage::Rootfs, at)?);
                move_mount(first.as_fd(), "", target.as_fd(), "", AT_BOTH).at(Stage::Rootfs, at)?;
                continue;
            };
            clone_tree(source.as_fd(), Path::new(""), false)
        } else {
            let null = null_device(root).at(Stage::Rootfs, at)?;
            clone_tree(null.as_fd(), Path::new(""), false)
        };
        let tree = tree.at(Stage::Rootfs, at)?;
        move_mount(tree.as_fd(), "", target.as_fd(), "", AT_BOTH).at(Stage::Rootfs, at)?;
    }
    Ok(())
}

/// The container's /dev/null, checked to be the device: an image may bring something else.
fn null_device(root: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let fd = lookup(root, Path::new("/dev/null"))?.ok_or(Errno::NOENT)?;
    let stat = rustix::fs::fstat(&fd)?;
    let is_null = rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::CharacterDevice
        && stat.st_rdev == rustix::fs::makedev(1, 3);
    if is_null { Ok(fd) } else { Err(Errno::NODEV) }
}
