//! Mounting an overlay (kernel doc `filesystems/overlayfs.rst`) as a detached mount, visible nowhere
//! until it is attached.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use ferry_types::Overlay;
use rustix::fs::{CWD, Mode, OFlags, open, openat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, mount, move_mount,
};

use crate::error::At;
use crate::rootfs::open_dir;
use crate::{Error, Stage};

/// fsconfig(2) takes strings of up to 255 bytes before Linux 6.
const MAX_CONFIG_STRING: usize = 255;

/// Mounts the overlay on `target` and returns its root.
pub(crate) fn attach(overlay: &Overlay, target: &Path) -> Result<OwnedFd, Error> {
    let at = || format!("attach the root file system at {}", target.display());
    let Some(tree) = detached(overlay)? else {
        mount_on(overlay, target)?;
        return open_dir(target).at(Stage::Rootfs, at);
    };
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(tree.as_fd(), "", CWD, target, flags).at(Stage::Rootfs, at)?;
    Ok(tree)
}

/// Makes the overlay. `None` when this kernel cannot add layers one by one (before Linux 6.8), or
/// a path is too long for it: use [`mount_on`] then.
fn detached(overlay: &Overlay) -> Result<Option<OwnedFd>, Error> {
    let fits = |path: &Path| path.as_os_str().len() <= MAX_CONFIG_STRING;
    if !overlay.lower.iter().all(|l| fits(l)) || !fits(&overlay.upper) || !fits(&overlay.work) {
        return Ok(None);
    }
    if !checks_options() {
        return Ok(None);
    }
    let at = |what: &str| format!("overlay {what}");
    let fs = match fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC) {
        Ok(fs) => fs,
        Err(Errno::NOSYS) => return Ok(None),
        Err(errno) => return Err(Error::system(Stage::Rootfs, "open the overlay file system", errno)),
    };
    fsconfig_set_string(fs.as_fd(), "source", "overlay").at(Stage::Rootfs, || at("source"))?;
    for lower in &overlay.lower {
        match fsconfig_set_string(fs.as_fd(), "lowerdir+", lower) {
            Ok(()) => {}
            Err(Errno::INVAL) => return Ok(None),
            Err(errno) => {
                return Err(Error::system(Stage::Rootfs, at(&format!("layer {}", lower.display())), errno));
            }
        }
    }
    fsconfig_set_string(fs.as_fd(), "upperdir", &overlay.upper)
        .at(Stage::Rootfs, || at(&format!("upper directory {}", overlay.upper.display())))?;
    fsconfig_set_string(fs.as_fd(), "workdir", &overlay.work)
        .at(Stage::Rootfs, || at(&format!("work directory {}", overlay.work.display())))?;
    // Whatever the host's module defaults are: a commit reads the upper directory and must find whole files in
    // their places.
    for feature in ["redirect_dir", "metacopy"] {
        fsconfig_set_string(fs.as_fd(), feature, "off").at(Stage::Rootfs, || at(feature))?;
    }
    fsconfig_create(fs.as_fd()).at(Stage::Rootfs, || at(&format!("on {}", overlay.upper.display())))?;
    let mounted = fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
        .at(Stage::Rootfs, || at("mount"))?;
    Ok(Some(mounted))
}

/// Whether overlayfs says at once that it does not know an option. Before Linux 6.5 it takes all of them, and
/// fails, with a line in the kernel's log, when the file system is created.
fn checks_options() -> bool {
    let uname = rustix::system::uname();
    version(&uname.release().to_string_lossy()) >= (6, 5)
}

/// The first two numbers of a kernel's release, e.g. `6.1.0-56-cloud-amd64`.
fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Mounts the overlay on `target` with mount(2), whose options must fit into one page: the layers
/// are named by their descriptors' numbers, relative to the descriptor directory.
fn mount_on(overlay: &Overlay, target: &Path) -> Result<(), Error> {
    let here = open(".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .at(Stage::Rootfs, || "open the working directory".to_owned())?;
    let mut fds = Vec::with_capacity(overlay.lower.len() + 2);
    for path in overlay.lower.iter().chain([&overlay.upper, &overlay.work]) {
        fds.push(
            openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .at(Stage::Rootfs, || format!("open layer {}", path.display()))?,
        );
    }
    let numbers: Vec<String> = fds.iter().map(|fd| fd.as_raw_fd().to_string()).collect();
    let [lower @ .., upper, work] = numbers.as_slice() else {
        return Err(Error::invalid(Stage::Rootfs, "overlay without layers"));
    };
    let data =
        format!("lowerdir={},upperdir={upper},workdir={work},redirect_dir=off,metacopy=off", lower.join(":"));
    let data = std::ffi::CString::new(data)
        .map_err(|_| Error::invalid(Stage::Rootfs, "overlay options contain a null byte"))?;
    rustix::process::chdir("/proc/self/fd").at(Stage::Rootfs, || "enter /proc/self/fd".to_owned())?;
    let result = mount("overlay", target, "overlay", MountFlags::empty(), data.as_c_str());
    let back = rustix::process::fchdir(here.as_fd());
    result.at(Stage::Rootfs, || format!("mount overlay on {}", target.display()))?;
    back.at(Stage::Rootfs, || "return to the working directory".to_owned())
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn releases() {
        assert_eq!(version("6.1.0-56-cloud-amd64"), (6, 1));
        assert_eq!(version("5.10.262"), (5, 10));
        assert_eq!(version("7.0-rc1"), (7, 0));
        assert_eq!(version("odd"), (0, 0));
    }
}
