//! `/networks/…`.

use ferry_api::convert::request;
use ferry_api::network::{NetworkConnectRequest, NetworkCreateRequest, NetworkDisconnectRequest};
use ferry_types::ErrorKind;
use http::StatusCode;

use crate::error::HttpError;
use crate::reply::{Reply, created, empty, json, no_content};
use crate::request::Call;

pub(crate) fn list(call: &Call) -> Reply {
    json(&call.engine.network_list(call.query.filters()?)?)
}

pub(crate) fn inspect(call: &Call, name: &str) -> Reply {
    call.query.strict_bool("verbose")?;
    let network = call.engine.network_inspect(name)?;
    match call.query.some("scope") {
        Some(scope) if scope != network.network.scope => {
            Err(HttpError::new(ErrorKind::NotFound, format!("network {name} not found")))
        }
        _ => json(&network),
    }
}

pub(crate) async fn create(mut call: Call) -> Reply {
    let mut body: NetworkCreateRequest = call.json().await?;
    if !request::knows(call.version, 48) {
        body.enable_ipv4 = None;
    }
    created(&call.engine.network_create(body).await?)
}

pub(crate) async fn remove(call: &Call, name: &str) -> Reply {
    call.engine.network_remove(name).await?;
    no_content()
}

pub(crate) async fn prune(call: &Call) -> Reply {
    json(&call.engine.network_prune(call.query.filters()?).await?)
}

pub(crate) async fn connect(mut call: Call, name: &str) -> Reply {
    let body: NetworkConnectRequest = call.json().await?;
    call.engine.network_connect(name, body).await?;
    empty(StatusCode::OK)
}

pub(crate) async fn disconnect(mut call: Call, name: &str) -> Reply {
    let body: NetworkDisconnectRequest = call.json().await?;
    call.engine.network_disconnect(name, body).await?;
    empty(StatusCode::OK)
}
