//! The mounts of an OCI config, made beneath the root by descriptors: each is built detached, given
//! its attributes, and attached to a target resolved inside the root.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use ferry_sys::mount::{ATTR_RDONLY, MountAttr, mount_setattr};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, StatVfsMountFlags, fstatvfs, mkdirat, open, openat2};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount, mount_change,
    mount_remount, move_mount, open_tree, unmount,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::cgroup::Cgroup;
use crate::confined::{Missing, is_dir, open_in_root};
use crate::error::At;
use crate::options::{Attributes, MountOptions};
use crate::plan::{MountKind, MountPlan};
use crate::{Error, Stage};

const AT_BOTH: MoveMountFlags =
    MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH.union(MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH);

/// A detached clone of the mount at `dir`/`path` (of `dir` itself when empty), rooted there.
pub(crate) fn clone_tree(dir: BorrowedFd<'_>, path: &Path, recursive: bool) -> Result<OwnedFd, Errno> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    if path.as_os_str().is_empty() {
        flags |= OpenTreeFlags::AT_EMPTY_PATH;
    }
    open_tree(dir, path, flags)
}

/// An empty read-only directory that is its own file system, detached.
pub(crate) fn empty_dir() -> Result<OwnedFd, Errno> {
    let fs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(fs.as_fd())?;
    fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY)
}

/// Changes attributes of a mount. Before Linux 5.12, which lacks mount_setattr, `fd` must be the root
/// of an attached mount, and /proc the host's.
pub(crate) fn set_attributes(
    fd: BorrowedFd<'_>,
    path: impl AsRef<Path>,
    recursive: bool,
    attributes: Attributes,
) -> Result<(), Errno> {
    let attr = MountAttr { set: attributes.set, clear: attributes.clear, ..MountAttr::default() };
    match mount_setattr(fd, recursive, &attr) {
        Ok(()) => Ok(()),
        Err(error) if error.raw_os_error() == Some(Errno::NOSYS.raw_os_error()) && !recursive => {
            remount(fd, path.as_ref(), attributes)
        }
        Err(error) => Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
    }
}

/// The old way. Flags the mount has already are repeated: leaving a locked one out is refused.
fn remount(fd: BorrowedFd<'_>, path: &Path, attributes: Attributes) -> Result<(), Errno> {
    let mut flags = MountFlags::BIND;
    let now = fstatvfs(fd)?.f_flag;
    for (bit, have, flag) in [
        (ATTR_RDONLY, StatVfsMountFlags::RDONLY, MountFlags::RDONLY),
        (ferry_sys::mount::ATTR_NOSUID, StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (ferry_sys::mount::ATTR_NODEV, StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (ferry_sys::mount::ATTR_NOEXEC, StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (ferry_sys::mount::ATTR_NOATIME, StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (ferry_sys::mount::ATTR_NODIRATIME, StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
    ] {
        if attributes.set & bit != 0 || (now.contains(have) && attributes.clear & bit == 0) {
            flags |= flag;
        }
    }
    mount_remount(path, flags, c"")
}

/// Makes one mount of the config.
pub(crate) fn make(
    root: BorrowedFd<'_>,
    plan: &MountPlan,
    cgroup: &Cgroup,
    cgroupns: bool,
) -> Result<(), Error> {
    match &plan.kind {
        MountKind::Bind { source } => bind(root, plan, source),
        MountKind::Cgroup => crate::cgroup::mount_view(root, plan, cgroup, cgroupns),
        MountKind::Fs { fstype, source } => {
            let at = || format!("mount {fstype} on {}", plan.destination.display());
            if fstype == "overlay" {
                return image(root, plan);
            }
            let target = open_in_root(root, &plan.destination, Missing::MakeDir).at(Stage::Rootfs, at)?;
            if fstype == "proc" || fstype == "sysfs" {
                let real = is_dir(&target).at(Stage::Rootfs, at)?;
                if !real {
                    return Err(Error::invalid(Stage::Rootfs, at() + ": not a directory"));
                }
            }
            let tree = file_system(fstype, source, &plan.options).at(Stage::Rootfs, at)?;
            move_mount(tree.as_fd(), "", target.as_fd(), "", AT_BOTH).at(Stage::Rootfs, at)?;
            after_attach(tree.as_fd(), plan)
        }
    }
}

/// A new instance of a file system, detached.
pub(crate) fn file_system(fstype: &str, source: &str, options: &MountOptions) -> Result<OwnedFd, Errno> {
    let fs = fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(fs.as_fd(), "source", source)?;
    for flag in &options.flags {
        fsconfig_set_flag(fs.as_fd(), *flag)?;
    }
    for option in &options.data {
        match option.split_once('=') {
            Some((key, value)) => fsconfig_set_string(fs.as_fd(), key, value)?,
            None => fsconfig_set_flag(fs.as_fd(), option.as_str())?,
        }
    }
    fsconfig_create(fs.as_fd())?;
    let attributes = MountAttrFlags::from_bits_retain(options.attributes.set as u32);
    fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

fn bind(root: BorrowedFd<'_>, plan: &MountPlan, source: &Path) -> Result<(), Error> {
    let at = || format!("bind {} to {}", source.display(), plan.destination.display());
    attach(root, plan, bind_tree(plan, source)?).at(Stage::Rootfs, at)
}

/// What is bound, detached.
pub(crate) fn bind_tree(plan: &MountPlan, source: &Path) -> Result<OwnedFd, Error> {
    let at = || format!("bind {} to {}", source.display(), plan.destination.display());
    match &plan.options.subpath {
        None => match clone_tree(CWD, source, plan.options.recursive) {
            // Refused for what is mounted in another mount namespace only.
            Err(Errno::INVAL) => clone_foreign(source, plan.options.recursive),
            other => other,
        }
        .at(Stage::Rootfs, at),
        Some(part) => {
            let whole = open(source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).at(Stage::Rootfs, at)?;
            part_of(whole.as_fd(), part, plan.options.recursive).at(Stage::Rootfs, at)
        }
    }
}

/// A detached clone of what lies at `path` within `whole`. Whoever can write there may be swapping directories for symlinks
/// at this moment: the kernel refuses what leads out.
fn part_of(whole: BorrowedFd<'_>, path: &Path, recursive: bool) -> Result<OwnedFd, Errno> {
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..64 {
        match openat2(whole, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), how) {
            Err(Errno::AGAIN) => {}
            part => return clone_tree(part?.as_fd(), Path::new(""), recursive),
        }
    }
    Err(Errno::AGAIN)
}

/// An overlay without a writable layer, or a part of it.
fn image(root: BorrowedFd<'_>, plan: &MountPlan) -> Result<(), Error> {
    let at = || format!("mount an image on {}", plan.destination.display());
    attach(root, plan, image_tree(plan)?).at(Stage::Rootfs, at)
}

/// The same, detached.
pub(crate) fn image_tree(plan: &MountPlan) -> Result<OwnedFd, Error> {
    let at = || format!("mount an image on {}", plan.destination.display());
    let layers: Vec<&str> = plan.options.data.iter().filter_map(|o| o.strip_prefix("lowerdir+=")).collect();
    let Some(scratch) = layers.first().filter(|_| layers.len() == plan.options.data.len()) else {
        return Err(Error::invalid(Stage::Rootfs, at() + ": unknown options"));
    };
    // Before Linux 6.15 only what is attached can be cloned. Here nobody sees it.
    match file_system("overlay", "overlay", &plan.options) {
        Ok(tree) if plan.options.subpath.is_none() => return Ok(tree),
        Ok(tree) => {
            let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
            move_mount(tree.as_fd(), "", CWD, *scratch, flags).at(Stage::Rootfs, at)?;
        }
        // Kernels before 6.8 know only all layers in one string.
        Err(Errno::INVAL) => {
            let data = std::ffi::CString::new(format!("lowerdir={}", layers.join(":")))
                .map_err(|_| Error::invalid(Stage::Rootfs, at() + ": null byte in a path"))?;
            mount("overlay", *scratch, "overlay", MountFlags::RDONLY, data.as_c_str())
                .at(Stage::Rootfs, at)?;
        }
        Err(errno) => return Err(Error::system(Stage::Rootfs, at(), errno)),
    }
    let whole = open(*scratch, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).at(Stage::Rootfs, at)?;
    let part = plan.options.subpath.as_deref().unwrap_or(Path::new("."));
    let tree = part_of(whole.as_fd(), part, false);
    unmount(*scratch, UnmountFlags::DETACH).at(Stage::Rootfs, at)?;
    tree.at(Stage::Rootfs, at)
}

/// Puts a detached tree in its place and gives it its options.
fn attach(root: BorrowedFd<'_>, plan: &MountPlan, tree: OwnedFd) -> Result<(), Errno> {
    let missing = if is_dir(&tree)? { Missing::MakeDir } else { Missing::MakeFile };
    let target = open_in_root(root, &plan.destination, missing)?;
    move_mount(tree.as_fd(), "", target.as_fd(), "", AT_BOTH)?;
    if !plan.options.attributes.is_empty() {
        let path = proc_path(tree.as_fd());
        set_attributes(tree.as_fd(), path, false, plan.options.attributes)?;
    }
    set_late_options(tree.as_fd(), plan)
}

/// A detached clone of a mount in another process' mount namespace, named `/proc/PID/root/…`: of another container's
/// `/dev/shm`, to share it. The kernel clones mounts of the caller's namespace only, so it is entered for a moment; nothing is
/// executed there, and this process cannot be traced.
fn clone_foreign(source: &Path, recursive: bool) -> Result<OwnedFd, Errno> {
    let mut parts = source.strip_prefix("/proc").map_err(|_| Errno::INVAL)?.components();
    let (pid, root) = (parts.next(), parts.next());
    let (Some(Component::Normal(pid)), Some(Component::Normal(root))) = (pid, root) else {
        return Err(Errno::INVAL);
    };
    if root != "root" {
        return Err(Errno::INVAL);
    }
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let own = open("/proc/self/ns/mnt", flags, Mode::empty())?;
    let other = open(Path::new("/proc").join(pid).join("ns/mnt"), flags, Mode::empty())?;
    move_into_link_name_space(other.as_fd(), Some(LinkNameSpaceType::Mount))?;
    let path = Path::new("/").join(parts.as_path());
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let tree = openat2(CWD, &path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)
        .and_then(|dir| clone_tree(dir.as_fd(), Path::new(""), recursive));
    move_into_link_name_space(own.as_fd(), Some(LinkNameSpaceType::Mount))?;
    tree
}

/// Recursive attributes and propagation, which need the mount in place.
fn after_attach(tree: BorrowedFd<'_>, plan: &MountPlan) -> Result<(), Error> {
    let at = || format!("set the options of {}", plan.destination.display());
    set_late_options(tree, plan).at(Stage::Rootfs, at)
}

fn set_late_options(tree: BorrowedFd<'_>, plan: &MountPlan) -> Result<(), Errno> {
    if !plan.options.recursive_attributes.is_empty() {
        set_attributes(tree, proc_path(tree), true, plan.options.recursive_attributes)?;
    }
    for &flags in &plan.options.propagation {
        mount_change(proc_path(tree), flags)?;
    }
    Ok(())
}

/// A path that names what `fd` refers to, for calls that take no descriptor. Before pivot_root only,
/// where /proc is the host's.
pub(crate) fn proc_path(fd: BorrowedFd<'_>) -> String {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Makes a directory, or takes the one that is there.
pub(crate) fn ensure_dir(dir: impl AsFd, name: &str) -> Result<(), Errno> {
    match mkdirat(dir, name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno),
    }
}
