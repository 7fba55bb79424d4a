//! `/volumes/…`.

use ferry_api::convert::request::knows;
use ferry_api::volume::VolumeCreateRequest;
use ferry_types::ErrorKind;

use crate::error::HttpError;
use crate::handlers::swarm::NO_SWARM;
use crate::reply::{Reply, created, json, no_content};
use crate::request::Call;

pub(crate) fn list(call: &Call) -> Reply {
    let filters = call
        .query
        .filters()
        .map_err(|e| HttpError { message: format!("error reading volume filters: {}", e.message), ..e })?;
    json(&call.engine.volume_list(filters)?)
}

pub(crate) async fn create(mut call: Call) -> Reply {
    let body: VolumeCreateRequest = call.json_or_default().await?;
    if body.cluster_volume_spec.is_some() && knows(call.version, 42) {
        return Err(HttpError::new(ErrorKind::Unavailable, NO_SWARM));
    }
    created(&call.engine.volume_create(body).await?)
}

pub(crate) fn inspect(call: &Call, name: &str) -> Reply {
    json(&call.engine.volume_inspect(name)?)
}

pub(crate) async fn remove(call: &Call, name: &str) -> Reply {
    call.engine.volume_remove(name, call.query.bool("force")).await?;
    no_content()
}

pub(crate) async fn prune(call: &Call) -> Reply {
    let mut filters = call.query.filters()?;
    if !knows(call.version, 42) {
        // Named volumes are spared by default only since 1.42.
        filters.add("all", "true");
    }
    json(&call.engine.volume_prune(filters).await?)
}
