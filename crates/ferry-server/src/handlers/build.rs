//! What there is of image builds before ferry builds images: an empty cache, and no builds to cancel.

use http::header::UPGRADE;
use serde::Serialize;

use crate::error::HttpError;
use crate::reply::{Reply, empty, json};
use crate::request::Call;

/// Answer of `POST /build/prune`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Pruned {
    caches_deleted: Option<Vec<String>>,
    space_reclaimed: u64,
}

const FILTERS: &[&str] = &[
    // Nothing of a cache has labels, so none matches.
    "label",
    "label!",
    "until",
    "id",
    "parent",
    "type",
    "description",
    "inuse",
    "shared",
    "private",
    "unused-for",
    "immutable",
    "mutable",
];

pub(crate) fn prune(call: &Call) -> Reply {
    call.query.filters()?.allow(FILTERS).map_err(|e| {
        let error = HttpError::from(e);
        HttpError { message: format!("failed to prune build cache: {}", error.message), ..error }
    })?;
    json(&Pruned { caches_deleted: None, space_reclaimed: 0 })
}

pub(crate) fn cancel(call: &Call) -> Reply {
    if call.query.some("id").is_none() {
        return Err(HttpError::invalid("build ID not provided"));
    }
    empty(http::StatusCode::OK)
}

/// `/session` and `/grpc`, which begin with an upgrade.
pub(crate) fn session(call: &Call, protocol: &str) -> Reply {
    let wanted = call.header(UPGRADE);
    if wanted.is_empty() {
        return Err(HttpError::invalid("no upgrade proto in request"));
    }
    if !wanted.eq_ignore_ascii_case(protocol) {
        return Err(HttpError::invalid(format!("protocol {wanted} not supported")));
    }
    Err(HttpError::not_implemented("building images: not supported by this version of ferry"))
}
