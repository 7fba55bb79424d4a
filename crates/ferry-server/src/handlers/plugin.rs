//! `/plugins/…`: there are none, and there is no way to install one.

use ferry_types::ErrorKind;

use crate::error::HttpError;
use crate::reply::{Reply, json};
use crate::request::Call;
use crate::router::Plugin;

/// Answers as a Docker without plugins.
pub(crate) fn answer(call: &Call, endpoint: Plugin) -> Reply {
    match endpoint {
        Plugin::List => {
            let filters = call.query.filters()?;
            filters.allow(&["enabled", "capability"])?;
            filters.bool("enabled")?;
            json::<[(); 0]>(&[])
        }
        Plugin::Privileges | Plugin::Pull | Plugin::Create => {
            Err(HttpError::not_implemented("plugins: not supported by this version of ferry"))
        }
        Plugin::Enable(name) => {
            let timeout = call.query.get("timeout");
            if timeout.parse::<i64>().is_err() {
                return Err(HttpError::invalid(format!("strconv.Atoi: parsing {timeout:?}: invalid syntax")));
            }
            Err(missing(&name))
        }
        Plugin::Upgrade(name) if !name.contains(':') => Err(missing(&format!("{name}:latest"))),
        Plugin::Named(name) | Plugin::Upgrade(name) => Err(missing(&name)),
    }
}

fn missing(name: &str) -> HttpError {
    HttpError::new(ErrorKind::NotFound, format!("plugin {name:?} not found"))
}
