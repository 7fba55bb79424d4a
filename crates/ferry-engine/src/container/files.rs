//! A container's files as the container sees them, for copying in and out: its root file system with volumes and binds in
//! their places, reached through one descriptor.
//!
//! A running container is looked into through its own mount namespace, so what is mounted there (a tmpfs, too) is what
//! one gets, and the root is the namespace's own, whatever the init process has made its root since. A stopped one is put
//! together in a mount namespace nobody else is in. Either way, only a thread that ends at once is ever in such a
//! namespace; everything else works relative to the descriptor and is confined by it, see [`ferry_image::copy`].

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use ferry_api::MountPoint;
use ferry_sys::mntns;
use ferry_sys::mount::{ATTR_RDONLY, MountAttr, mount_setattr};
use ferry_types::{ContainerId, Overlay};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::mount::{
    MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount_change, move_mount, open_tree,
    unmount,
};

use super::launch;
use super::mount_sources::mounted_volumes;
use super::record::ContainerRecord;
use super::state::Snapshot;
use crate::error::Result;
use crate::inner::Inner;
use crate::rootfs;

/// What is mounted over the root file system of a stopped container.
struct Bind {
    source: PathBuf,
    destination: String,
    read_only: bool,
    /// Part of the source to mount instead of the whole.
    subpath: String,
    /// Layers of an image, topmost first, which are the source.
    layers: Vec<PathBuf>,
    recursive: bool,
}

impl Bind {
    fn generated(source: PathBuf, destination: &str, read_only: bool) -> Self {
        let (destination, subpath) = (destination.to_owned(), String::new());
        Self { source, destination, read_only, subpath, layers: Vec::new(), recursive: true }
    }

    fn of(inner: &Inner, record: &ContainerRecord, point: &MountPoint) -> Result<Self> {
        let detail = record.mount_details.get(&point.destination).cloned().unwrap_or_default();
        Ok(Self {
            source: PathBuf::from(&point.source),
            destination: point.destination.clone(),
            read_only: !point.rw,
            subpath: detail.subpath,
            layers: match &detail.image {
                Some(image) => inner.images.layer_dirs(image)?,
                None => Vec::new(),
            },
            recursive: !detail.non_recursive,
        })
    }
}

/// An open container. Its mounts stay as they are until this is dropped, even when the container ends.
pub(crate) struct Files {
    root: OwnedFd,
    _namespace: OwnedFd,
}

impl Files {
    /// Opens a container's files. Blocks.
    pub fn open(inner: &Inner, snapshot: &Snapshot) -> Result<Self> {
        let record = &snapshot.record;
        let id = record.id.clone();
        let opened = match snapshot.state.live() {
            Some(live) => {
                let pid = live.pid;
                apart(move || running(pid, &id))
            }
            None => Self::put_together(inner, record)?,
        };
        opened.map_err(rootfs::failed(record.id.as_str()))
    }

    fn put_together(inner: &Inner, record: &ContainerRecord) -> Result<io::Result<Self>> {
        let overlay = inner.overlay(&record.id, &record.image_id)?;
        let read_only = record.host_config.readonly_rootfs;
        let points = record.mounts.iter().filter(|m| m.kind != "tmpfs");
        let mut binds = points.map(|m| Bind::of(inner, record, m)).collect::<Result<Vec<_>>>()?;
        for (source, destination) in launch::net_files(inner, record)? {
            if source.exists() && !binds.iter().any(|b| b.destination == destination) {
                binds.push(Bind::generated(source, destination, read_only));
            }
        }
        binds.sort_by_key(|b| b.destination.split('/').count());
        // Volumes that are file systems of their own are needed until they are part of the view.
        let user = ferry_types::ExecId::random().to_string();
        let volumes = mounted_volumes(inner, record);
        let mounted = volumes.iter().try_for_each(|v| inner.volumes.mount(v, &user).map(drop));
        let opened = mounted.map(|()| apart(move || stopped(&overlay, &binds, read_only)));
        for volume in &volumes {
            inner.volumes.release(volume, &user)?;
        }
        opened
    }

    /// `/` of the container.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

/// A running container's root file system alone, without what is mounted below it, as a detached mount. Blocks.
pub(crate) fn bare_root(pid: i32, id: &ContainerId) -> io::Result<OwnedFd> {
    let id = id.clone();
    apart(move || {
        mntns::enter(namespace_of(pid, &id)?)?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        Ok(open_tree(CWD, "/", flags)?)
    })
}

/// Runs `work` on a thread of its own, which may leave the process' mount namespace.
fn apart<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    let thread = std::thread::Builder::new().name("files".to_owned()).spawn(work)?;
    thread.join().map_err(|_| io::Error::other("looking into the container failed"))?
}

fn root_directory() -> io::Result<OwnedFd> {
    Ok(rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// The mount namespace of a container's init process. The pid may be another process' by now: the one behind it must
/// be in the container's control group.
fn namespace_of(pid: i32, id: &ContainerId) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let process = rustix::fs::open(format!("/proc/{pid}"), flags | OFlags::DIRECTORY, Mode::empty())?;
    let mut groups = String::new();
    let file = rustix::fs::openat(&process, "cgroup", flags, Mode::empty())?;
    std::fs::File::from(file).read_to_string(&mut groups)?;
    if !groups.lines().any(|line| line.split('/').any(|part| part == id.as_str())) {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the container has ended"));
    }
    Ok(rustix::fs::openat(&process, "ns/mnt", flags, Mode::empty())?)
}

fn running(pid: i32, id: &ContainerId) -> io::Result<Files> {
    let namespace = namespace_of(pid, id)?;
    mntns::enter(&namespace)?;
    Ok(Files { root: root_directory()?, _namespace: namespace })
}

fn stopped(overlay: &Overlay, binds: &[Bind], read_only: bool) -> io::Result<Files> {
    mntns::unshare()?;
    let namespace = mntns::current()?;
    // Nothing mounted here shows up on the host.
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let root = rootfs::mount_at(overlay, &overlay.upper)?;
    for bind in binds {
        attach(root.as_fd(), bind)
            .map_err(|e| io::Error::new(e.kind(), format!("mount {}: {e}", bind.source.display())))?;
    }
    if read_only {
        let attributes = MountAttr { set: ATTR_RDONLY, ..MountAttr::default() };
        mount_setattr(root.as_fd(), false, &attributes)?;
    }
    // Lets go of the host's mounts, which would be busy as long as the copy takes.
    rustix::process::fchdir(&root)?;
    rustix::process::pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")?;
    Ok(Files { root: root_directory()?, _namespace: namespace })
}

/// What is to be mounted, as a detached tree.
fn tree(bind: &Bind) -> io::Result<OwnedFd> {
    let mut clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if bind.recursive {
        clone |= OpenTreeFlags::AT_RECURSIVE;
    }
    let scratch = match bind.layers.as_slice() {
        [] => {
            return Ok(open_tree(
                ferry_image::copy::beneath(&bind.source, &bind.subpath)?,
                "",
                clone | OpenTreeFlags::AT_EMPTY_PATH,
            )?);
        }
        [only] => {
            return Ok(open_tree(
                ferry_image::copy::beneath(only, &bind.subpath)?,
                "",
                clone | OpenTreeFlags::AT_EMPTY_PATH,
            )?);
        }
        [top, ..] => top,
    };
    // Only what is attached can be cloned before Linux 6.15; in this namespace nobody sees it.
    rootfs::mount_image_at(&bind.layers, scratch)?;
    let part = ferry_image::copy::beneath(scratch, &bind.subpath)
        .and_then(|part| Ok(open_tree(part, "", clone | OpenTreeFlags::AT_EMPTY_PATH)?));
    unmount(scratch, UnmountFlags::DETACH)?;
    part
}

fn attach(root: BorrowedFd<'_>, bind: &Bind) -> io::Result<()> {
    let tree = tree(bind)?;
    if bind.read_only {
        mount_setattr(tree.as_fd(), false, &MountAttr { set: ATTR_RDONLY, ..MountAttr::default() })?;
    }
    let stat = rustix::fs::statat(&tree, "", AtFlags::EMPTY_PATH)?;
    let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    let target = ferry_image::copy::mount_point(root, &bind.destination, directory)?;
    let both = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(tree.as_fd(), "", target.as_fd(), "", both)?)
}
