//! Volumes as the API shows them.

use ferry_api::Filters;
use ferry_api::filters::pattern_matches;
use ferry_api::volume::{Volume, VolumeCreateRequest, VolumeListResponse, VolumePruneResponse};
use ferry_types::ContainerId;

use crate::Engine;
use crate::container::list::{directory_size, labels_match};
use crate::container::teardown::{remove_volume, volume_users};
use crate::error::{EngineError, Result};
use crate::events::EventKind;
use crate::volume::NewVolume;

impl Engine {
    /// The volumes asked for, by name.
    pub fn volume_list(&self, filters: Filters) -> Result<VolumeListResponse> {
        let invalid = |e: ferry_api::filters::FilterError| EngineError::InvalidParameter(e.to_string());
        filters.allow(&["dangling", "driver", "label", "name"]).map_err(invalid)?;
        let dangling = filters.bool("dangling").map_err(invalid)?;
        let volumes = self.inner.volumes.all().into_iter().filter(|v| {
            labels_match(&filters, &v.labels)
                && (!filters.has("name") || filters.get("name").any(|n| pattern_matches(n, &v.name)))
                && (!filters.has("driver") || filters.get("driver").any(|d| d == "local"))
                && dangling.is_none_or(|d| d == volume_users(&self.inner, &v.name).is_empty())
        });
        let volumes = volumes.map(|v| self.inner.volumes.to_wire(&v)).collect();
        Ok(VolumeListResponse { volumes, ..VolumeListResponse::default() })
    }

    /// Makes a volume; an existing one of that name is returned as it is.
    pub async fn volume_create(&self, body: VolumeCreateRequest) -> Result<Volume> {
        let anonymous = body.name.is_empty();
        let name = if anonymous { ContainerId::random().to_string() } else { body.name };
        let engine = self.clone();
        let new = NewVolume {
            driver: body.driver,
            options: body.driver_opts.into_map(),
            labels: body.labels.into_map(),
            anonymous,
            made_for: String::new(),
        };
        let (record, made) = crate::blocking(move || engine.inner.volumes.ensure(&name, &new)).await?;
        if made {
            self.inner.events.volume(EventKind::Create, &record.name);
        }
        Ok(self.inner.volumes.to_wire(&record))
    }

    /// One volume.
    pub fn volume_inspect(&self, name: &str) -> Result<Volume> {
        let record =
            self.inner.volumes.get(name).ok_or_else(|| EngineError::NoSuchVolume(name.to_owned()))?;
        Ok(self.inner.volumes.to_wire(&record))
    }

    /// Removes a volume no container uses.
    pub async fn volume_remove(&self, name: &str, force: bool) -> Result<()> {
        if self.inner.volumes.get(name).is_none() {
            return if force { Ok(()) } else { Err(EngineError::NoSuchVolume(name.to_owned())) };
        }
        let users = volume_users(&self.inner, name);
        if !users.is_empty() {
            return Err(EngineError::Conflict(format!(
                "remove {name}: volume is in use - [{}]",
                users.join(", ")
            )));
        }
        let (engine, name) = (self.clone(), name.to_owned());
        crate::blocking(move || remove_volume(&engine.inner, &name)).await
    }

    /// Removes unused volumes: anonymous ones, with `all=true` named ones too. As in Docker those with options of the
    /// driver stay: what is mounted there is somebody else's.
    pub async fn volume_prune(&self, filters: Filters) -> Result<VolumePruneResponse> {
        let invalid = |e: ferry_api::filters::FilterError| EngineError::InvalidParameter(e.to_string());
        filters.allow(&["all", "label", "label!"]).map_err(invalid)?;
        let all = filters.bool("all").map_err(invalid)?.unwrap_or(false);
        let engine = self.clone();
        crate::blocking(move || {
            let inner = &engine.inner;
            let mut response = VolumePruneResponse::default();
            for volume in inner.volumes.all() {
                let wanted = (all || volume.anonymous)
                    && volume.options.is_empty()
                    && labels_match(&filters, &volume.labels)
                    && volume_users(inner, &volume.name).is_empty();
                if wanted {
                    let size = directory_size(&inner.volumes.data_dir(&volume.name));
                    remove_volume(inner, &volume.name)?;
                    response.volumes_deleted.push(volume.name);
                    response.space_reclaimed += size;
                }
            }
            inner.events.prune("volume", response.space_reclaimed);
            Ok(response)
        })
        .await
    }
}
