//! The container's view of its control groups at `/sys/fs/cgroup`.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use ferry_sys::mount::ATTR_RDONLY;
use rustix::fs::{CWD, symlinkat};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, move_mount};

use super::Cgroup;
use crate::confined::{Missing, open_in_root};
use crate::error::At;
use crate::mounts::{clone_tree, ensure_dir, file_system, proc_path, set_attributes};
use crate::options::{Attributes, MountOptions};
use crate::plan::MountPlan;
use crate::{Error, Stage};

const AT_BOTH: MoveMountFlags =
    MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH.union(MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH);

/// Mounts it: on v2 anew, which with a control group namespace shows the container's group as the
/// root by itself; on v1 and without a namespace the group's directories are bound there.
pub(crate) fn mount_view(
    root: BorrowedFd<'_>,
    plan: &MountPlan,
    group: &Cgroup,
    namespaced: bool,
) -> Result<(), Error> {
    let at = || format!("mount cgroup on {}", plan.destination.display());
    let target = open_in_root(root, &plan.destination, Missing::MakeDir).at(Stage::Rootfs, at)?;
    let layout = group.layout();
    if layout.v1.is_empty() {
        if namespaced {
            let options = MountOptions { attributes: plan.options.attributes, ..MountOptions::default() };
            let tree = file_system("cgroup2", "cgroup", &options).at(Stage::Rootfs, at)?;
            return move_mount(tree.as_fd(), "", target.as_fd(), "", AT_BOTH).at(Stage::Rootfs, at);
        }
        let dir = group.v2_dir().ok_or_else(|| Error::invalid(Stage::Rootfs, "the host has no cgroup v2"))?;
        let tree = clone_tree(CWD, &dir, false).at(Stage::Rootfs, at)?;
        move_mount(tree.as_fd(), "", target.as_fd(), "", AT_BOTH).at(Stage::Rootfs, at)?;
        return set_attributes(tree.as_fd(), proc_path(tree.as_fd()), false, plan.options.attributes)
            .at(Stage::Rootfs, at);
    }

    // A read-only tmpfs with a directory per hierarchy.
    let mut options = plan.options.clone();
    options.attributes.set &= !ATTR_RDONLY;
    options.data = vec!["mode=755".to_owned()];
    let base = file_system("tmpfs", "tmpfs", &options).at(Stage::Rootfs, at)?;
    move_mount(base.as_fd(), "", target.as_fd(), "", AT_BOTH).at(Stage::Rootfs, at)?;
    for hierarchy in &layout.v1 {
        let name = directory_name(&hierarchy.mountpoint)?;
        ensure_dir(&base, name).at(Stage::Rootfs, at)?;
        // A bind shows the same as a new mount in the namespace would, at half the calls.
        let tree = clone_tree(CWD, &group.below(&hierarchy.mountpoint), false).at(Stage::Rootfs, at)?;
        let place = open_in_root(base.as_fd(), Path::new(name), Missing::Fail).at(Stage::Rootfs, at)?;
        move_mount(tree.as_fd(), "", place.as_fd(), "", AT_BOTH).at(Stage::Rootfs, at)?;
        set_attributes(tree.as_fd(), proc_path(tree.as_fd()), false, plan.options.attributes)
            .at(Stage::Rootfs, at)?;
        if hierarchy.controllers.len() > 1 {
            for controller in &hierarchy.controllers {
                match symlinkat(name, &base, controller.as_str()) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(Error::system(Stage::Rootfs, at(), errno)),
                }
            }
        }
    }
    if plan.options.attributes.set & ATTR_RDONLY != 0 {
        let attributes = Attributes { set: ATTR_RDONLY, clear: 0 };
        set_attributes(base.as_fd(), &plan.destination, false, attributes).at(Stage::Rootfs, at)?;
    }
    Ok(())
}

/// What the host calls the hierarchy: `memory`, `cpu,cpuacct`, `systemd`.
fn directory_name(mountpoint: &Path) -> Result<&str, Error> {
    mountpoint.file_name().and_then(|name| name.to_str()).ok_or_else(|| {
        Error::invalid(Stage::Rootfs, format!("odd cgroup mount point {}", mountpoint.display()))
    })
}
