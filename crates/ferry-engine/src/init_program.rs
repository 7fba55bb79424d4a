//! The init of containers that ask for one (`--init`): the shim's own program under another name, put where it can be mounted
//! from. It is copied from the sealed copy the engine runs, when the first container asks for it; earlier copies are replaced,
//! never written to, so containers that run go on with theirs. A container gets it as a read-only mount, which also is
//! what `/proc/1/exe` leads to.

use std::fs::{File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::error::{EngineError, Result};
use crate::shim::ShimPool;

/// Where a container finds it, as in Docker.
pub(crate) const IN_CONTAINER: &str = "/sbin/docker-init";

/// The program, and whether it is in its place yet.
pub(crate) struct InitProgram {
    path: PathBuf,
    /// Chosen by the administrator: used as it is.
    own: bool,
    ready: Mutex<bool>,
}

impl InitProgram {
    /// `chosen` replaces the one made at `path`.
    pub fn new(path: PathBuf, chosen: Option<PathBuf>) -> Self {
        let own = chosen.is_some();
        Self { path: chosen.unwrap_or(path), own, ready: Mutex::new(false) }
    }

    /// Its name for `info`.
    pub fn name(&self) -> String {
        if self.own { self.path.display().to_string() } else { "docker-init".to_owned() }
    }

    /// Where to mount it from.
    ///
    /// # Errors
    /// When it cannot be put there, or would not run in a container.
    pub fn prepare(&self, shims: &ShimPool) -> Result<&Path> {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if !*ready {
            let install = || if self.own { check(&mut File::open(&self.path)?) } else { self.install(shims) };
            let failed = |source| EngineError::File {
                action: "prepare the init of containers,",
                path: self.path.clone(),
                source,
            };
            install().map_err(failed)?;
            *ready = true;
        }
        Ok(&self.path)
    }

    fn install(&self, shims: &ShimPool) -> io::Result<()> {
        let temporary = self.path.with_extension("new");
        let mut program = shims.open_program()?;
        check(&mut program)?;
        let mut program = shims.open_program()?;
        let mut file = File::create(&temporary)?;
        io::copy(&mut program, &mut file)?;
        file.set_permissions(Permissions::from_mode(0o555))?;
        drop(file);
        std::fs::rename(&temporary, &self.path)
    }
}

/// A program that asks for an interpreter (`PT_INTERP`, elf(5)) runs only where its libraries are.
fn check(program: &mut File) -> io::Result<()> {
    const PT_INTERP: u32 = 3;
    let mut head = Vec::new();
    program.take(4096).read_to_end(&mut head)?;
    let number = |at: usize, size: usize| -> Option<u64> {
        let bytes = head.get(at..at + size)?;
        Some(bytes.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b)))
    };
    let dynamic = || -> Option<bool> {
        // 64-bit little-endian: what ferry runs on.
        head.starts_with(b"\x7fELF\x02\x01").then_some(())?;
        let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
        let kinds = (0..count).map(|n| usize::try_from(table + n * size).ok().and_then(|at| number(at, 4)));
        Some(kinds.flatten().any(|kind| kind == u64::from(PT_INTERP)))
    };
    match dynamic() {
        Some(false) => Ok(()),
        Some(true) => Err(io::Error::other("it is not linked statically and cannot run in a container")),
        // A script, or another machine's: the kernel will say.
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_needs_libraries_is_refused() {
        // The shell of every machine this is tested on is linked dynamically.
        let error = check(&mut File::open("/bin/sh").unwrap()).unwrap_err();
        assert!(error.to_string().contains("statically"), "{error}");
        assert!(check(&mut File::open("/etc/passwd").unwrap()).is_ok());
    }
}
