//! `/networks/…`.

use crate::reply::{Reply, json};
use crate::request::Call;

pub(crate) fn list(call: &Call) -> Reply {
    json(&call.engine.network_list(call.query.filters()?)?)
}

pub(crate) fn inspect(call: &Call, name: &str) -> Reply {
    json(&call.engine.network_inspect(name)?)
}
