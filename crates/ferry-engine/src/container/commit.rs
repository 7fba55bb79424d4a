//! What can be made of a container's files: an image, a tar, a list of changes.

use std::sync::Arc;

use ferry_api::container::{ChangeKind, ContainerConfig, FilesystemChange};
use ferry_api::exec::IdResponse;

use super::handle::OwnerRequest;
use super::state::State;
use crate::Engine;
use crate::api::{ByteStream, CommitOptions};
use crate::error::{EngineError, Result};
use crate::events::EventKind;
use crate::rootfs;

impl Engine {
    /// Makes an image of a container's present files.
    pub async fn container_commit(&self, o: CommitOptions) -> Result<IdResponse> {
        let handle = self.inner.containers.find(&o.container)?;
        let snapshot = handle.snapshot();
        if matches!(snapshot.state, State::Removing(_) | State::Removed(_)) {
            return Err(EngineError::Conflict(format!("container {} is being removed", snapshot.record.id)));
        }
        let reference = crate::image::target_reference(o.repo.as_deref(), o.tag.as_deref())?;
        let record = Arc::clone(&snapshot.record);
        // Clients that have nothing to change send an empty config.
        let given = o.config.as_ref().filter(|c| **c != ContainerConfig::default());
        let config = given.unwrap_or(&record.config);
        let options = ferry_image::CommitOptions {
            parent: record.image_id.clone(),
            upper: self.inner.paths.container(&record.id).upper(),
            config: image_config(config),
            created_by: record.args.join(" "),
            author: Some(o.author).filter(|a| !a.is_empty()),
            message: Some(o.comment.clone()).filter(|c| !c.is_empty()),
            changes: o.changes,
            reference: reference.clone(),
        };
        // Frozen, the files cannot change under the reader.
        let mut freeze = o.pause && matches!(snapshot.state, State::Running(_));
        if freeze {
            match handle.ask(|reply| OwnerRequest::Freeze { frozen: true, reply }).await {
                Ok(()) => {}
                // It has just ended: its files hold still without.
                Err(EngineError::Conflict(_)) => freeze = false,
                Err(error) => return Err(error),
            }
        }
        let images = Arc::clone(&self.inner.images);
        let committed = crate::blocking(move || Ok(images.commit(options)?)).await;
        if freeze {
            match handle.ask(|reply| OwnerRequest::Freeze { frozen: false, reply }).await {
                // It was killed while frozen: nothing to thaw.
                Ok(()) | Err(EngineError::Conflict(_) | EngineError::NoSuchContainer(_)) => {}
                Err(_) if handle.snapshot().state.live().is_none() => {}
                Err(error) => return Err(error),
            }
        }
        let id = committed?;
        self.inner.image_event(EventKind::Create, &id, id.as_str());
        if let Some(reference) = &reference {
            self.inner.image_event(EventKind::Tag, &id, &reference.familiar());
        }
        let mut attributes = vec![("imageID", id.to_string()), ("comment", o.comment)];
        attributes.extend(reference.map(|r| ("imageRef", r.familiar())));
        self.inner.events.container(EventKind::Commit, &record, &attributes);
        Ok(IdResponse { id: id.to_string() })
    }

    /// The whole root file system as a tar.
    pub async fn container_export(&self, id: &str) -> Result<ByteStream> {
        let snapshot = self.inner.containers.find(id)?.snapshot();
        let overlay = self.inner.overlay(&snapshot.record.id, &snapshot.record.image_id)?;
        let pid = snapshot.state.live().map(|l| l.pid);
        let shown = snapshot.record.id.clone();
        let root = crate::blocking(move || rootfs::open(&overlay, pid, &shown)).await?;
        self.inner.events.container(EventKind::Export, &snapshot.record, &[]);
        Ok(crate::stream::from_writer(move |out| {
            use std::os::fd::AsFd;
            ferry_image::export(root.as_fd(), out).map_err(|e| EngineError::System(e.to_string()))
        }))
    }

    /// What differs from the image.
    pub async fn container_changes(&self, id: &str) -> Result<Vec<FilesystemChange>> {
        let snapshot = self.inner.containers.find(id)?.snapshot();
        let overlay = self.inner.overlay(&snapshot.record.id, &snapshot.record.image_id)?;
        let changes = crate::blocking(move || {
            ferry_image::changes(&overlay.upper, &overlay.lower)
                .map_err(|e| EngineError::System(e.to_string()))
        })
        .await?;
        let wire = |c: ferry_image::Change| FilesystemChange {
            path: c.path.to_string_lossy().into_owned(),
            kind: match c.kind {
                ferry_image::ChangeKind::Changed => ChangeKind::Modified,
                ferry_image::ChangeKind::Added => ChangeKind::Added,
                ferry_image::ChangeKind::Deleted => ChangeKind::Deleted,
            },
        };
        Ok(changes.into_iter().map(wire).collect())
    }
}

/// The part of a container's config that goes into an image.
fn image_config(config: &ContainerConfig) -> ferry_image::ContainerConfig {
    let list = |l: &ferry_api::List<String>| if l.is_null() { None } else { Some(l.to_vec()) };
    ferry_image::ContainerConfig {
        user: config.user.clone(),
        exposed_ports: config
            .exposed_ports
            .keys()
            .map(|k| (k.clone(), ferry_image::config::Empty {}))
            .collect(),
        env: config.env.to_vec(),
        entrypoint: list(&config.entrypoint),
        cmd: list(&config.cmd),
        volumes: config.volumes.keys().map(|k| (k.clone(), ferry_image::config::Empty {})).collect(),
        working_dir: config.working_dir.clone(),
        labels: config.labels.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
        stop_signal: config.stop_signal.clone(),
        stop_timeout: config.stop_timeout,
        on_build: config.on_build.to_vec(),
        shell: config.shell.to_vec(),
        ..ferry_image::ContainerConfig::default()
    }
}
