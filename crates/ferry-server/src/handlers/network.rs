//! `/networks/…`. The networks are the ones every Docker has; others come with a later version.

use ferry_api::network::{NetworkConnectRequest, NetworkDisconnectRequest, NetworkInspect};
use ferry_types::ErrorKind;
use serde::Serialize;

use crate::error::HttpError;
use crate::reply::{Reply, json};
use crate::request::Call;

/// Answer of `POST /networks/prune`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Pruned {
    networks_deleted: Option<Vec<String>>,
}

pub(crate) fn list(call: &Call) -> Reply {
    json(&call.engine.network_list(call.query.filters()?)?)
}

pub(crate) fn inspect(call: &Call, name: &str) -> Reply {
    call.query.strict_bool("verbose")?;
    let network = call.engine.network_inspect(name)?;
    match call.query.some("scope") {
        Some(scope) if scope != network.network.scope => Err(missing(name)),
        _ => json(&network),
    }
}

pub(crate) fn remove(call: &Call, name: &str) -> Reply {
    // Only the predefined ones exist.
    let network = found(call, name)?.network.name;
    let message = format!("{network} is a pre-defined network and cannot be removed");
    Err(HttpError::new(ErrorKind::Forbidden, message))
}

pub(crate) async fn connect(mut call: Call, name: &str) -> Reply {
    let body: NetworkConnectRequest = call.json().await?;
    check(&call, name, &body.container)?;
    Err(HttpError::not_implemented(
        "connecting containers to networks: not supported by this version of ferry",
    ))
}

pub(crate) async fn disconnect(mut call: Call, name: &str) -> Reply {
    let body: NetworkDisconnectRequest = call.json().await?;
    check(&call, name, &body.container)?;
    let what = "disconnecting containers from networks: not supported by this version of ferry";
    Err(HttpError::not_implemented(what))
}

/// Nothing can be pruned: networks that are there whatever happens are spared.
pub(crate) fn prune(call: &Call) -> Reply {
    call.query.filters()?.allow(&["label", "label!", "until"])?;
    json(&Pruned { networks_deleted: None })
}

fn found(call: &Call, name: &str) -> Result<NetworkInspect, HttpError> {
    Ok(call.engine.network_inspect(name)?)
}

/// Whether both exist.
fn check(call: &Call, network: &str, container: &str) -> Result<(), HttpError> {
    if container.is_empty() {
        return Err(HttpError::invalid("invalid name or ID supplied: \"\""));
    }
    found(call, network)?;
    call.engine.container_inspect(container, false)?;
    Ok(())
}

fn missing(name: &str) -> HttpError {
    HttpError::new(ErrorKind::NotFound, format!("network {name} not found"))
}
