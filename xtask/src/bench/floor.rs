//! The bare floor: a small C program that does only what the kernel needs for a container.

use std::path::Path;

use anyhow::{Context, Result};

use super::stats::Samples;
use crate::sh;

const SOURCE: &str = include_str!("floor.c");

/// Milliseconds per container of the image in `tar`, `runs` times. The process that clones is small
/// and does nothing else, so this is as fast as this kernel gets.
pub fn measure(tar: &Path, work: &Path, runs: usize) -> Result<Samples> {
    let dir = work.join("floor");
    if dir.exists() {
        std::fs::remove_dir_all(&dir)?;
    }
    let rootfs = dir.join("rootfs");
    let runs_dir = dir.join("runs");
    std::fs::create_dir_all(&rootfs)?;
    std::fs::create_dir_all(&runs_dir)?;
    let source = dir.join("floor.c");
    let program = dir.join("floor");
    std::fs::write(&source, SOURCE)?;
    sh::capture(sh::cmd("cc", ["-O2", "-Wall", "-static", "-o"]).arg(&program).arg(&source))
        .context("cannot compile the bare floor")?;
    sh::capture(sh::cmd("tar", ["-C"]).arg(&rootfs).arg("-xf").arg(tar))?;
    let text = sh::capture(
        sh::cmd(&program, [&rootfs, &runs_dir]).arg((runs + 1).to_string()).arg("/usr/bin/true"),
    )?;
    std::fs::remove_dir_all(&dir)?;
    let mut samples = Samples::default();
    for line in text.lines().skip(1) {
        samples.push(line.parse::<f64>().context("the floor printed no number")? / 1e6);
    }
    Ok(samples)
}
