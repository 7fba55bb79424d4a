//! The bare floor: a small C program that does only what the kernel needs for a container.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::{sh, ui};

const SOURCE: &str = include_str!("floor.c");

/// The program, and the image's root file system laid out for it.
pub struct Floor {
    dir: PathBuf,
}

impl Floor {
    /// Compiles the program and unpacks `tar` below `work`.
    pub fn new(tar: &Path, work: &Path) -> Result<Self> {
        let floor = Self { dir: work.join("floor") };
        floor.remove()?;
        let rootfs = floor.dir.join("rootfs");
        std::fs::create_dir_all(&rootfs)?;
        let source = floor.dir.join("floor.c");
        std::fs::write(&source, SOURCE)?;
        let mut cc = sh::cmd("cc", ["-O2", "-Wall", "-static", "-o"]);
        sh::capture(cc.arg(floor.dir.join("floor")).arg(&source)).context("cannot compile the bare floor")?;
        sh::capture(sh::cmd("tar", ["-C"]).arg(&rootfs).arg("-xf").arg(tar))?;
        Ok(floor)
    }

    /// How long one container takes. The program measures itself: it is small and does nothing else, so
    /// this is as fast as this kernel gets.
    pub fn time(&self) -> Result<Duration> {
        let runs = self.dir.join("runs");
        std::fs::create_dir_all(&runs)?;
        let mut command = sh::cmd(self.dir.join("floor"), [self.dir.join("rootfs"), runs.clone()]);
        let text = sh::capture(command.args(["1", "/usr/bin/true"]))?;
        std::fs::remove_dir_all(runs)?;
        Ok(Duration::from_nanos(text.trim().parse().context("the floor printed no number")?))
    }

    fn remove(&self) -> Result<()> {
        if self.dir.exists() {
            std::fs::remove_dir_all(&self.dir)?;
        }
        Ok(())
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            ui::note(format!("{} stays: {error:#}", self.dir.display()));
        }
    }
}
