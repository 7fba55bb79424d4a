//! The mounts of a container that is being created: what is asked for in all notations, one per destination, looked up or
//! made on the host.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use ferry_api::{ContainerConfig, HostConfig, MountPoint};
use ferry_types::{ContainerId, Digest};

use super::fill_volume;
use super::mount_spec::{
    MountRequest, MountSource, bind_point, clean, parse_bind, parse_mount, parse_volumes_from, volume_point,
};
use super::record::MountDetail;
use crate::error::{EngineError, Result};
use crate::events::EventKind;
use crate::inner::Inner;
use crate::volume::NewVolume;

fn invalid(message: impl Into<String>) -> EngineError {
    EngineError::InvalidParameter(message.into())
}

/// What a container is to have mounted.
pub(crate) struct Wanted {
    /// Mounts of other containers (`--volumes-from`), as they are there.
    inherited: Vec<Inherited>,
    requests: Vec<MountRequest>,
    /// `--mount type=tmpfs`, for inspect; made from the request itself.
    tmpfs: Vec<MountPoint>,
}

struct Inherited {
    point: MountPoint,
    detail: MountDetail,
    anonymous: bool,
}

/// What came of it.
#[derive(Default)]
pub(crate) struct Resolved {
    pub points: Vec<MountPoint>,
    /// By destination, where there is more to say than the API's view does.
    pub details: BTreeMap<String, MountDetail>,
    /// Volumes that go with the container when it is removed with its volumes.
    pub anonymous: Vec<String>,
}

/// Every mount asked for, one per destination; explicit ones win over other containers', and both over the image's volumes.
/// Touches nothing.
pub(crate) fn wanted(inner: &Inner, config: &ContainerConfig, h: &HostConfig) -> Result<Wanted> {
    let mut inherited: Vec<Inherited> = Vec::new();
    for spec in &h.volumes_from {
        for mount in inherit(inner, spec)? {
            inherited.retain(|m| m.point.destination != mount.point.destination);
            inherited.push(mount);
        }
    }
    let mut requests: Vec<MountRequest> = Vec::new();
    let mut tmpfs: Vec<String> = h.tmpfs.keys().map(|d| clean(d)).collect();
    let mut tmpfs_points = Vec::new();
    for bind in &h.binds {
        let mut request = parse_bind(bind).map_err(invalid)?;
        request.driver.clone_from(&h.volume_driver);
        requests.push(request);
    }
    for mount in &h.mounts {
        match parse_mount(mount).map_err(invalid)? {
            Some(request) => requests.push(request),
            None => {
                let destination = clean(&mount.target);
                tmpfs.push(destination.clone());
                tmpfs_points.push(MountPoint {
                    kind: "tmpfs".to_owned(),
                    destination,
                    rw: !mount.read_only,
                    ..MountPoint::default()
                });
            }
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    for destination in requests.iter().map(|r| &r.destination).chain(&tmpfs) {
        if !seen.insert(destination.clone()) {
            return Err(invalid(format!("Duplicate mount point: {destination}")));
        }
    }
    for (destination, options) in &h.tmpfs {
        crate::spec::mounts::check_tmpfs(destination, options).map_err(invalid)?;
    }
    inherited.retain(|m| !seen.contains(&m.point.destination));
    seen.extend(inherited.iter().map(|m| m.point.destination.clone()));
    for volume in config.volumes.keys() {
        let mut request = parse_bind(volume).map_err(invalid)?;
        if !matches!(request.source, MountSource::Anonymous(_)) {
            return Err(invalid(format!("invalid volume specification: '{volume}'")));
        }
        request.driver.clone_from(&h.volume_driver);
        if seen.insert(request.destination.clone()) {
            requests.push(request);
        }
    }
    Ok(Wanted { inherited, requests, tmpfs: tmpfs_points })
}

/// The mounts of another container.
fn inherit(inner: &Inner, spec: &str) -> Result<Vec<Inherited>> {
    let (name, read_only, mode) = parse_volumes_from(spec).map_err(invalid)?;
    // Not 404: clients take that for a missing image and would pull.
    let found = inner.containers.find(name).map_err(|e| invalid(e.to_string()))?;
    let record = found.snapshot().record.clone();
    let points = record.mounts.iter().filter(|m| m.kind != "tmpfs");
    Ok(points
        .map(|point| Inherited {
            point: MountPoint { rw: point.rw && !read_only, mode: mode.to_owned(), ..point.clone() },
            detail: record.mount_details.get(&point.destination).cloned().unwrap_or_default(),
            anonymous: point.kind == "volume" && record.anonymous_volumes.contains(&point.name),
        })
        .collect())
}

/// Looks up or makes what is mounted, and fills empty volumes from the image.
pub(crate) fn resolve(inner: &Inner, id: &ContainerId, image: &Digest, wanted: &Wanted) -> Result<Resolved> {
    let mut resolved = Resolved::default();
    for Inherited { point, detail, anonymous } in &wanted.inherited {
        resolved.add(point.clone(), detail.clone());
        if *anonymous {
            resolved.anonymous.push(point.name.clone());
        }
    }
    for request in &wanted.requests {
        let mut detail = request.detail.clone();
        let point = match &request.source {
            MountSource::Bind(path) => bind_point(request, bind_source(path, request)?),
            MountSource::Image(name) => {
                let (id, source) = image_source(inner, name)?;
                detail.image = Some(id);
                MountPoint {
                    kind: "image".to_owned(),
                    name: name.clone(),
                    source,
                    destination: request.destination.clone(),
                    rw: false,
                    propagation: "rprivate".to_owned(),
                    ..MountPoint::default()
                }
            }
            MountSource::Volume(name, labels) => {
                volume(inner, id, image, request, name.clone(), labels, false)?
            }
            MountSource::Anonymous(labels) => {
                let name = ContainerId::random().to_string();
                resolved.anonymous.push(name.clone());
                volume(inner, id, image, request, name, labels, true)?
            }
        };
        resolved.add(point, detail);
    }
    resolved.points.extend(wanted.tmpfs.iter().cloned());
    Ok(resolved)
}

impl Resolved {
    fn add(&mut self, point: MountPoint, detail: MountDetail) {
        if detail != MountDetail::default() {
            self.details.insert(point.destination.clone(), detail);
        }
        self.points.push(point);
    }
}

fn image_source(inner: &Inner, name: &str) -> Result<(Digest, String)> {
    let id = inner.images.resolve(name)?;
    let top = inner.images.layer_dirs(&id)?.into_iter().next();
    Ok((id, top.map(|d| d.to_string_lossy().into_owned()).unwrap_or_default()))
}

fn volume(
    inner: &Inner,
    id: &ContainerId,
    image: &Digest,
    request: &MountRequest,
    name: String,
    labels: &BTreeMap<String, String>,
    anonymous: bool,
) -> Result<MountPoint> {
    let new = NewVolume {
        driver: request.driver.clone(),
        options: request.options.clone(),
        labels: labels.clone(),
        anonymous,
        made_for: if anonymous { id.to_string() } else { String::new() },
    };
    // Named volumes stay after a failed create, as in Docker: another container may use them by now.
    let (_, made) = inner.volumes.ensure(&name, &new)?;
    if made {
        inner.events.volume(EventKind::Create, &name);
    }
    if !request.no_copy {
        fill(inner, id, image, &name, request)?;
    }
    let data = inner.volumes.data_dir(&name).to_string_lossy().into_owned();
    Ok(volume_point(request, &name, data))
}

/// Gives an empty volume what the image has in its place.
fn fill(inner: &Inner, id: &ContainerId, image: &Digest, name: &str, request: &MountRequest) -> Result<()> {
    let subpath = request.detail.subpath.as_str();
    let data = inner.volumes.data_dir(name);
    let failed =
        |source| EngineError::File { action: "fill volume from image at", path: data.clone(), source };
    if !inner.volumes.is_file_system(name)
        && subpath.is_empty()
        && !fill_volume::is_empty(&data).map_err(failed)?
    {
        return Ok(());
    }
    let overlay = inner.overlay(id, image)?;
    let Some(source) = fill_volume::find(&overlay, &request.destination).map_err(failed)? else {
        return Ok(());
    };
    let user = format!("{id}-create");
    inner.volumes.mount(name, &user)?;
    let filled = fill_volume::fill(&source, &data, subpath).map_err(failed);
    let released = inner.volumes.release(name, &user);
    filled.and(released)
}

fn bind_source(path: &str, request: &MountRequest) -> Result<String> {
    match fs::metadata(path) {
        Ok(_) => Ok(path.to_owned()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && request.create_source => {
            fs::create_dir_all(Path::new(path)).map_err(|e| {
                EngineError::System(format!("error while creating mount source path '{path}': {e}"))
            })?;
            Ok(path.to_owned())
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(invalid(format!(
            "invalid mount config for type \"bind\": bind source path does not exist: {path}"
        ))),
        Err(e) => Err(invalid(format!("invalid mount config for type \"bind\": stat {path}: {e}"))),
    }
}
