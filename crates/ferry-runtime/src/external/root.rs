//! The mount namespace a runtime's `create` runs in, from which the container's own is copied: the root file system and what
//! the runtime cannot mount itself are in their places. Nobody stays in it, so it is gone when the runtime has ended, and
//! the container holds what it got from there.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use ferry_sys::process::{CLONE_NEWNS, unshare};
use ferry_types::Overlay;
use rustix::fs::CWD;
use rustix::mount::{MountPropagationFlags, MoveMountFlags, UnmountFlags, mount_change, move_mount, unmount};

use crate::confined::is_dir;
use crate::error::At;
use crate::mounts::{bind_tree, image_tree};
use crate::plan::{MountKind, MountPlan};
use crate::rootfs::change_parent;
use crate::{Error, Stage, overlay};

/// Moves this process into a new mount namespace without the v2 hierarchy of control groups that some hosts have beside those of
/// version 1. Runtimes are at odds about such hosts, and crun refuses them; ferry itself sees to that hierarchy.
pub(super) fn hide_unified(mount: &Path) -> Result<(), Error> {
    unshare(CLONE_NEWNS).at(Stage::Rootfs, || "new mount namespace".to_owned())?;
    unmount_unified(mount)
}

fn unmount_unified(mount: &Path) -> Result<(), Error> {
    // It is unmounted here, not on the host.
    change_parent(mount.parent().unwrap_or(mount), MountPropagationFlags::DOWNSTREAM)?;
    unmount(mount, UnmountFlags::DETACH).at(Stage::Rootfs, || format!("unmount {}", mount.display()))
}

/// Directory, below the runtime's, of what is mounted for it to bind.
pub(super) const MOUNTS: &str = "mounts";

/// Something to mount where the runtime can bind it from.
#[derive(Debug)]
pub(super) struct Prepared {
    pub plan: MountPlan,
    pub place: PathBuf,
}

/// What is to be there when the runtime runs.
pub(super) struct Root<'a> {
    pub rootfs: &'a Path,
    pub overlay: Option<&'a Overlay>,
    pub mounts: &'a [Prepared],
    /// See [`hide_unified`].
    pub unified: Option<&'a Path>,
    /// Whether what the container mounts in shared binds is to be seen on the host.
    pub shared: bool,
}

impl Root<'_> {
    /// Moves this process into a new mount namespace and mounts everything.
    pub fn set_up(&self) -> Result<(), Error> {
        unshare(CLONE_NEWNS).at(Stage::Rootfs, || "new mount namespace".to_owned())?;
        if self.shared {
            // All else stays in the host's peer groups.
            change_parent(self.rootfs, MountPropagationFlags::DOWNSTREAM)?;
        } else {
            mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
                .at(Stage::Rootfs, || "set the propagation of the root mount".to_owned())?;
        }
        self.unified.map_or(Ok(()), unmount_unified)?;
        if let Some(layers) = self.overlay {
            overlay::attach(layers, self.rootfs)?;
        }
        self.mounts.iter().try_for_each(Prepared::mount)
    }
}

impl Prepared {
    fn mount(&self) -> Result<(), Error> {
        let tree = match &self.plan.kind {
            MountKind::Bind { source } => bind_tree(&self.plan, source)?,
            MountKind::Cgroup | MountKind::Fs { .. } => image_tree(&self.plan)?,
        };
        let at = || format!("mount {}", self.place.display());
        if is_dir(&tree).at(Stage::Rootfs, at)? {
            std::fs::create_dir(&self.place).at(Stage::Rootfs, at)?;
        } else {
            std::fs::write(&self.place, "").at(Stage::Rootfs, at)?;
        }
        move_mount(tree.as_fd(), "", CWD, &self.place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .at(Stage::Rootfs, at)
    }
}
