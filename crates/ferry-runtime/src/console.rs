//! The pseudo-terminal of a container, taken from the container's own devpts.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags, fstatfs, openat2};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::confined::{Missing, open_in_root};
use crate::error::At;
use crate::{Error, Stage};

/// `DEVPTS_SUPER_MAGIC` (linux/magic.h).
const DEVPTS_SUPER_MAGIC: u64 = 0x1cd1;

/// Both sides of a terminal.
#[derive(Debug)]
pub(crate) struct Console {
    pub master: OwnedFd,
    pub slave: OwnedFd,
}

impl Console {
    /// Opens a new terminal of the devpts at `/dev/pts` below `root`. The container may have put
    /// anything there, so what is opened is checked to be on devpts.
    pub fn open(root: BorrowedFd<'_>, size: Option<(u16, u16)>) -> Result<Console, Error> {
        let at = |what: &str| {
            let what = what.to_owned();
            move || what
        };
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let master = openat2(root, "dev/pts/ptmx", flags, Mode::empty(), how)
            .at(Stage::Stdio, at("open /dev/pts/ptmx"))?;
        let kind = fstatfs(&master).at(Stage::Stdio, at("statfs /dev/pts/ptmx"))?;
        if kind.f_type as u64 != DEVPTS_SUPER_MAGIC {
            return Err(Error::invalid(Stage::Stdio, "/dev/pts/ptmx is not on a devpts file system"));
        }
        unlockpt(&master).at(Stage::Stdio, at("unlock the terminal"))?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let slave = ioctl_tiocgptpeer(&master, flags).at(Stage::Stdio, at("open the terminal"))?;
        if let Some((ws_row, ws_col)) = size {
            let size = Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 };
            tcsetwinsize(&master, size).at(Stage::Stdio, at("set the terminal's size"))?;
        }
        Ok(Console { master, slave })
    }

    /// Shows the terminal as `/dev/console`.
    pub fn mount_on_dev_console(&self, root: BorrowedFd<'_>) -> Result<(), Error> {
        let at = || "mount the terminal on /dev/console".to_owned();
        let target = open_in_root(root, Path::new("/dev/console"), Missing::MakeFile).at(Stage::Stdio, at)?;
        let flags =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        let tree = open_tree(self.slave.as_fd(), "", flags).at(Stage::Stdio, at)?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        move_mount(tree.as_fd(), "", target.as_fd(), "", flags).at(Stage::Stdio, at)
    }

    /// Makes the terminal the controlling one and the three standard streams.
    pub fn become_stdio(&self) -> Result<(), Error> {
        rustix::process::ioctl_tiocsctty(&self.slave)
            .at(Stage::Stdio, || "set the controlling terminal".to_owned())?;
        let fd = self.slave.as_fd();
        stdio_from([fd, fd, fd])
    }
}

/// Makes three descriptors the standard streams.
pub(crate) fn stdio_from(fds: [BorrowedFd<'_>; 3]) -> Result<(), Error> {
    // A source among 0–2 would be overwritten before its turn, so all move out of the way first.
    let mut moved = Vec::with_capacity(3);
    for fd in fds {
        moved.push(
            rustix::io::fcntl_dupfd_cloexec(fd, 3)
                .at(Stage::Stdio, || "duplicate standard streams".to_owned())?,
        );
    }
    if let [stdin, stdout, stderr] = moved.as_slice() {
        rustix::stdio::dup2_stdin(stdin).at(Stage::Stdio, || "set stdin".to_owned())?;
        rustix::stdio::dup2_stdout(stdout).at(Stage::Stdio, || "set stdout".to_owned())?;
        rustix::stdio::dup2_stderr(stderr).at(Stage::Stdio, || "set stderr".to_owned())?;
    }
    Ok(())
}
