//! `/_ping`, `/version`, `/info`, `/system/df`, and ferry's own `/ferry/system/check`.

use ferry_api::convert::{request::knows, response as convert};
use ferry_engine::CheckOptions;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, HeaderValue, PRAGMA};
use http::{Method, Response};

use crate::body::Body;
use crate::error::HttpError;
use crate::reply::{Reply, content_type, json};
use crate::request::Call;

pub(crate) fn ping(call: &Call) -> Reply {
    let mut response = Response::new(match call.head.method {
        Method::HEAD => Body::default(),
        _ => Body::full("OK"),
    });
    content_type(&mut response, "text/plain; charset=utf-8");
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, must-revalidate"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert("builder-version", HeaderValue::from_static("2"));
    if call.head.method == Method::HEAD {
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    headers.insert("swarm", HeaderValue::from_static("inactive"));
    Ok(response)
}

pub(crate) fn version(call: &Call) -> Reply {
    json(&call.engine.version())
}

pub(crate) fn info(call: &Call) -> Reply {
    let mut info = call.engine.info();
    convert::info(&mut info, call.version);
    json(&info)
}

pub(crate) async fn disk_usage(call: &Call) -> Reply {
    let wanted = call.query.all("type");
    let mut usage = call.engine.disk_usage().await?;
    if knows(call.version, 42) && call.query.has("type") {
        const KINDS: [&str; 4] = ["container", "image", "volume", "build-cache"];
        if let Some(unknown) = wanted.iter().find(|w| !KINDS.contains(&w.as_str())) {
            return Err(HttpError::invalid(format!("unknown object type: {unknown}")));
        }
        let asked = |kind: &str| wanted.iter().any(|w| w == kind);
        usage.container_usage = usage.container_usage.filter(|_| asked("container"));
        usage.image_usage = usage.image_usage.filter(|_| asked("image"));
        usage.volume_usage = usage.volume_usage.filter(|_| asked("volume"));
        usage.build_cache_usage = usage.build_cache_usage.filter(|_| asked("build-cache"));
    }
    json(&convert::disk_usage(usage, call.version, call.query.bool("verbose")))
}

/// An extension: everything the engine keeps is compared with what is there; `deep` reads every layer.
pub(crate) async fn check(call: &Call, repair: bool) -> Reply {
    let options = CheckOptions { deep: call.query.bool("deep"), repair };
    json(&call.engine.check(options).await?)
}
