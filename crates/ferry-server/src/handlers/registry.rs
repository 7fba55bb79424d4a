//! What is asked of registries: `/auth`, `/distribution/…`, `/images/search`.

use ferry_api::auth::AuthConfig;
use ferry_engine::api::SearchOptions;

use crate::error::HttpError;
use crate::reply::{Reply, json};
use crate::request::Call;

pub(crate) async fn login(mut call: Call) -> Reply {
    let auth: AuthConfig = call.json_of_any_type().await?;
    json(&call.engine.registry_login(auth).await?)
}

pub(crate) async fn distribution(call: &Call, name: &str) -> Reply {
    json(&call.engine.distribution_inspect(name, call.registry_auth()).await?)
}

pub(crate) async fn search(call: &Call) -> Reply {
    let q = &call.query;
    let invalid = |message: &str| HttpError::invalid(format!("invalid limit specified: {message}"));
    let limit = q.int("limit").map_err(|e| invalid(&e.message))?.filter(|n| *n != 0);
    let options = SearchOptions {
        term: q.get("term").to_owned(),
        limit,
        filters: q.filters()?,
        auth: call.registry_auth(),
    };
    json(&call.engine.image_search(options).await?)
}
