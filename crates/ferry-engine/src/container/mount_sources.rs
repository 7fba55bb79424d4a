//! What a start finds at the sources of its mounts: looked at again every time, and mounted where a volume is a file system
//! of its own.

use std::fs;
use std::path::Path;

use ferry_api::MountPoint;

use super::record::ContainerRecord;
use crate::error::{EngineError, Result};
use crate::inner::Inner;
use crate::mountinfo;

/// The volumes of a container that are file systems of their own.
pub(crate) fn mounted_volumes(inner: &Inner, record: &ContainerRecord) -> Vec<String> {
    let names = record.mounts.iter().filter(|m| m.kind == "volume").map(|m| &m.name);
    names.filter(|name| inner.volumes.is_file_system(name)).cloned().collect()
}

/// Checks every source and mounts what has to be. On failure the caller releases the volumes.
pub(crate) fn prepare(inner: &Inner, record: &ContainerRecord) -> Result<()> {
    for point in &record.mounts {
        match point.kind.as_str() {
            "bind" => check_bind(point)?,
            "volume" => {
                inner.volumes.mount(&point.name, record.id.as_str())?;
            }
            _ => {}
        }
        let subpath = record.mount_details.get(&point.destination).map(|d| d.subpath.as_str());
        let Some(subpath) = subpath.filter(|s| !s.is_empty()) else { continue };
        match point.kind.as_str() {
            "volume" => check_subpath(Path::new(&point.source), subpath)?,
            "image" => check_image_subpath(inner, record, point, subpath)?,
            _ => {}
        }
    }
    let shared = |p: &MountPoint| p.propagation.ends_with("shared") || p.propagation.ends_with("slave");
    if record.mounts.iter().any(|m| m.kind == "bind" && shared(m)) {
        let mounts = mountinfo::read().map_err(|source| EngineError::File {
            action: "read",
            path: "/proc/self/mountinfo".into(),
            source,
        })?;
        for point in record.mounts.iter().filter(|m| m.kind == "bind" && shared(m)) {
            check_propagation(&mounts, point)?;
        }
    }
    Ok(())
}

fn check_bind(point: &MountPoint) -> Result<()> {
    fs::metadata(&point.source).map(drop).map_err(|e| {
        EngineError::InvalidParameter(format!(
            "invalid mount config for type \"bind\": bind source path does not exist: {} ({e})",
            point.source
        ))
    })
}

/// Tells in Docker's words what the runtime, which is safe against changes meanwhile, would refuse too.
fn check_subpath(source: &Path, subpath: &str) -> Result<()> {
    let path = source.join(subpath);
    let missing = |e: std::io::Error| {
        EngineError::System(format!("cannot access path {0}: lstat {0}: {e}", path.display()))
    };
    let real = fs::canonicalize(&path).map_err(missing)?;
    let base = fs::canonicalize(source).map_err(missing)?;
    if real.starts_with(base) {
        return Ok(());
    }
    Err(EngineError::InvalidParameter(format!(
        "path concatenation escapes the base directory, base: {}, subpath: {subpath}",
        source.display()
    )))
}

fn check_image_subpath(
    inner: &Inner,
    record: &ContainerRecord,
    point: &MountPoint,
    subpath: &str,
) -> Result<()> {
    let image = record.mount_details.get(&point.destination).and_then(|d| d.image.as_ref());
    let layers = image.map(|image| inner.images.layer_dirs(image)).transpose()?.unwrap_or_default();
    // A symbolic link on the way may lead into another layer: the runtime, which sees all of them, knows better.
    let first = subpath.split('/').next().unwrap_or(subpath);
    if layers.iter().any(|l| fs::symlink_metadata(l.join(first)).is_ok()) {
        return Ok(());
    }
    let path = Path::new(&point.source).join(subpath);
    Err(EngineError::System(format!(
        "cannot access path {0}: lstat {0}: no such file or directory",
        path.display()
    )))
}

/// Mounts can only propagate where the host's own mount lets them.
fn check_propagation(mounts: &[mountinfo::MountEntry], point: &MountPoint) -> Result<()> {
    let real = fs::canonicalize(&point.source).unwrap_or_else(|_| point.source.clone().into());
    let Some(mount) = mountinfo::of(mounts, &real) else { return Ok(()) };
    let wanted = match point.propagation.ends_with("shared") {
        true if !mount.shared => "shared mount",
        false if !mount.shared && !mount.slave => "shared or slave mount",
        _ => return Ok(()),
    };
    Err(EngineError::System(format!(
        "path {} is mounted on {} but it is not a {wanted}",
        point.source,
        mount.mount_point.display()
    )))
}
