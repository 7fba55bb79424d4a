//! Containers' directories: the record, the writable layer, what they refer to.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use ferry_types::ContainerId;

use super::{Check, Outcome, leave};
use crate::container::record::{ContainerRecord, Lifecycle};
use crate::container::recover::shim_lives;
use crate::error::EngineError;

/// A directory younger than this may be a container that is just being created or removed.
const YOUNG: Duration = Duration::from_secs(60);

impl Check<'_> {
    pub(super) fn containers(&mut self) {
        let root = self.inner.paths.containers();
        let Ok(entries) = fs::read_dir(&root) else { return };
        let mut names: BTreeMap<String, ContainerId> = BTreeMap::new();
        for entry in entries.flatten() {
            let dir = entry.path();
            let Ok(id) = entry.file_name().to_string_lossy().parse::<ContainerId>() else {
                let problem = "in the containers' directory, but its name is no container id".to_owned();
                let reason = problem.clone();
                self.problem("container", &dir, problem, "set it aside", |check| {
                    check.set_aside(&dir, &reason)
                });
                continue;
            };
            let Some(record) = self.record(&id, &dir) else { continue };
            self.report.containers += 1;
            if let Some(other) = names.insert(record.name.to_string(), id.clone()) {
                let problem = format!("the name {} is also that of container {other}", record.name);
                self.problem("container", &dir, problem, "leave it alone", |_| {
                    leave("rename or remove one of the two")
                });
            }
            self.parts(&record, &dir);
        }
    }

    /// The record; when it cannot be read, that is the problem.
    fn record(&mut self, id: &ContainerId, dir: &Path) -> Option<ContainerRecord> {
        let path = self.inner.paths.container(id).record();
        let problem = match ContainerRecord::load(&path) {
            Ok(record) if record.id == *id => return Some(record),
            Ok(record) => format!("the record is of another container, {}", record.id),
            Err(EngineError::File { source, .. }) if source.kind() == ErrorKind::NotFound => {
                if is_young(dir) || !dir.exists() {
                    return None;
                }
                "the container has no record".to_owned()
            }
            Err(error) => format!("the container's record is damaged: {error}"),
        };
        let lives = shim_lives(&self.inner.paths.bundle(id));
        let remedy =
            if lives { "leave it alone: it runs" } else { "set the container aside with its writable layer" };
        self.problem("container", &path, problem.clone(), remedy, |check| {
            if lives {
                return leave("the container runs; once it has ended it can be set aside");
            }
            if check.inner.containers.find(id.as_str()).is_ok() {
                return leave("the engine knows the container and writes its record again when it changes");
            }
            check.set_aside(dir, &problem)
        });
        None
    }

    fn parts(&mut self, record: &ContainerRecord, dir: &Path) {
        let container = self.inner.paths.container(&record.id);
        if self.inner.containers.find(record.id.as_str()).is_err() && !is_young(dir) && dir.exists() {
            let problem = "the engine does not know this container".to_owned();
            self.problem("container", dir, problem, "restart the daemon", |_| leave("restart the daemon"));
        }
        for part in [container.upper(), container.work()] {
            if part.is_dir() || !dir.exists() {
                continue;
            }
            let problem = "this part of the container's writable layer is missing".to_owned();
            self.problem("container", &part, problem, "make an empty one", |_| {
                fs::create_dir_all(&part).map_err(|e| e.to_string())?;
                Ok(Outcome::Repaired("an empty one is made".to_owned()))
            });
        }
        if let Err(error) = self.inner.images.layer_dirs(&record.image_id) {
            let problem = format!("its image cannot be used: {error}");
            let remedy = "leave it alone: its own files are in upper";
            self.problem("container", dir, problem, remedy, |_| {
                leave("pull or load the image again, or copy its files out of upper and remove it")
            });
        }
        let volumes = record.mounts.iter().filter(|mount| mount.kind == "volume" && mount.driver == "local");
        for mount in volumes {
            if self.inner.volumes.get(&mount.name).is_none() {
                let problem = format!("its volume {} is missing", mount.name);
                self.problem("container", dir, problem, "leave it alone", |_| {
                    leave("make a volume of this name, or remove the container")
                });
            }
        }
        let exit = container.exit_record();
        if matches!(record.lifecycle, Lifecycle::Exited(_))
            && let Ok(json) = fs::read(&exit)
            && let Err(error) = serde_json::from_slice::<ferry_shim_proto::ExitRecord>(&json)
        {
            let problem = format!("the exit record is damaged: {error}");
            self.problem("container", &exit, problem, "set it aside; how the run ended is known", |check| {
                check.set_aside(&exit, "damaged exit record")
            });
        }
    }
}

fn is_young(dir: &Path) -> bool {
    let age = fs::metadata(dir).and_then(|meta| meta.modified()).map(|at| at.elapsed());
    matches!(age, Ok(Ok(age)) if age < YOUNG)
}
