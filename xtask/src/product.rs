//! Building the product: `ferry`, and `ferry-shim` linked statically, side by side in one directory,
//! which is where the daemon looks for its shim.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::{host, sh};

/// The built programs.
pub struct Product {
    /// Holds both.
    pub dir: PathBuf,
    /// The command, which is also the daemon.
    pub ferry: PathBuf,
    /// The supervisor of a container.
    pub shim: PathBuf,
}

/// Where both are, or will be.
pub fn locate() -> Result<Product> {
    let dir = host::target_dir()?.join("dist");
    Ok(Product { ferry: dir.join("ferry"), shim: dir.join("ferry-shim"), dir })
}

/// Builds both in release mode, showing cargo's progress.
pub fn build() -> Result<Product> {
    let target = host::target_dir()?;
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    // `crt-static` needs an explicit target, so that build scripts and procedural macros, which cannot be
    // static, are built without it. With the same target for both, what both use is compiled once.
    let common = ["--locked", "--release", "--target", triple.as_str()];

    sh::run(host::cargo(["build", "-p", "ferry", "--bin", "ferry"]).args(common))?;
    // A static shim maps fewer pages and starts without ld.so; without relocations it also shares its
    // constant data with all other shims, which saves 400 KiB for each container.
    let flags = ["--", "-C", "target-feature=+crt-static", "-C", "relocation-model=static"];
    sh::run(host::cargo(["rustc", "-p", "ferry-shim", "--bin", "ferry-shim"]).args(common).args(flags))?;

    let product = locate()?;
    std::fs::create_dir_all(&product.dir)
        .with_context(|| format!("cannot create {}", product.dir.display()))?;
    let built = target.join(&triple).join("release");
    place(&built.join("ferry"), &product.ferry)?;
    place(&built.join("ferry-shim"), &product.shim)?;
    Ok(product)
}

/// Copies by rename: a program that is running cannot be written to, but it can be replaced. A file
/// that is the same already is left alone, so that its age says when the product changed.
fn place(from: &Path, to: &Path) -> Result<()> {
    let new = std::fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    if std::fs::read(to).is_ok_and(|old| old == new) {
        return Ok(());
    }
    let temporary = to.with_extension("new");
    std::fs::copy(from, &temporary).with_context(|| format!("cannot write {}", temporary.display()))?;
    std::fs::rename(&temporary, to).with_context(|| format!("cannot replace {}", to.display()))
}
