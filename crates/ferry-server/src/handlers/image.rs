//! `/images/…`.

use ferry_api::convert::{request::knows, response};
use ferry_api::image::Platform;
use ferry_api::stream::JsonMessage;
use ferry_engine::api::{ImportOptions, ItemStream, ListImages, PullOptions};
use ferry_types::ErrorKind;
use futures_util::StreamExt as _;
use http::StatusCode;

use crate::error::HttpError;
use crate::reply::{Reply, TAR, empty, json, json_lines, stream};
use crate::request::Call;

pub(crate) fn list(call: &Call) -> Reply {
    let q = &call.query;
    let mut filters = q.filters()?;
    if let (false, Some(reference)) = (knows(call.version, 25) || filters.has("reference"), q.some("filter"))
    {
        filters.add("reference", reference);
    }
    let options = ListImages {
        all: q.bool("all"),
        filters,
        shared_size: knows(call.version, 42) && q.bool("shared-size"),
        manifests: knows(call.version, 47) && q.bool("manifests"),
    };
    if knows(call.version, 54) && q.bool("identity") && !options.manifests {
        return Err(HttpError::invalid("identity requires manifests=1"));
    }
    let mut list = call.engine.image_list(options)?;
    response::image_list(&mut list, call.version);
    json(&list)
}

pub(crate) fn inspect(call: &Call, name: &str) -> Reply {
    let manifests = knows(call.version, 48) && call.query.bool("manifests");
    if manifests && call.query.platform()?.is_some() {
        return Err(HttpError::invalid(
            "conflicting options: manifests and platform options cannot both be set",
        ));
    }
    check_platform(call, name)?;
    let image = call.engine.image_inspect(name, manifests)?;
    let value = response::image_inspect(image, call.version);
    json(&value.map_err(|e| HttpError::internal(e.to_string()))?)
}

pub(crate) fn history(call: &Call, name: &str) -> Reply {
    check_platform(call, name)?;
    json(&call.engine.image_history(name)?)
}

/// Images here are for one platform each: a request for another one finds nothing.
fn check_platform(call: &Call, name: &str) -> Result<(), HttpError> {
    match call.query.platform()? {
        Some(wanted) => matches_platform(call, name, &wanted),
        None => Ok(()),
    }
}

fn matches_platform(call: &Call, name: &str, wanted: &Platform) -> Result<(), HttpError> {
    let image = call.engine.image_inspect(name, false)?;
    let given = |part: &str, own: &str| part.is_empty() || part == own;
    if given(&wanted.os, &image.os)
        && given(&wanted.architecture, &image.architecture)
        && given(&wanted.variant, &image.variant)
    {
        return Ok(());
    }
    let own = shown(&image.os, &image.architecture, &image.variant);
    let asked = shown(&wanted.os, &wanted.architecture, &wanted.variant);
    Err(HttpError::new(
        ErrorKind::NotFound,
        format!(
            "image with reference {name} was found but its platform ({own}) does not match the specified platform ({asked})"
        ),
    ))
}

fn shown(os: &str, architecture: &str, variant: &str) -> String {
    [os, architecture, variant].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
}

pub(crate) async fn tag(call: &Call, name: &str) -> Reply {
    call.engine.image_tag(name, call.query.get("repo"), call.query.get("tag")).await?;
    empty(StatusCode::CREATED)
}

pub(crate) async fn remove(call: &Call, name: &str) -> Reply {
    if name.trim().is_empty() {
        return Err(HttpError::invalid("image name cannot be blank"));
    }
    if knows(call.version, 50) {
        for platform in call.query.platforms()? {
            matches_platform(call, name, &platform)?;
        }
    }
    let (force, no_prune) = (call.query.bool("force"), call.query.bool("noprune"));
    json(&call.engine.image_remove(name, force, no_prune).await?)
}

pub(crate) async fn prune(call: &Call) -> Reply {
    json(&call.engine.image_prune(call.query.filters()?).await?)
}

pub(crate) async fn create(call: Call) -> Reply {
    match call.query.owned("fromImage") {
        Some(image) => pull(call, image).await,
        None => import(call).await,
    }
}

async fn pull(call: Call, image: String) -> Reply {
    let options = PullOptions {
        image: image.strip_suffix(':').map_or(image.clone(), str::to_owned),
        tag: call.query.owned("tag"),
        platform: call.query.owned("platform").filter(|_| knows(call.version, 32)),
        auth: call.registry_auth(),
    };
    progress(call.engine.image_pull(options).await?).await
}

pub(crate) async fn push(call: &Call, name: &str) -> Reply {
    progress(call.engine.image_push(name, call.query.owned("tag").as_deref())?).await
}

async fn import(call: Call) -> Reply {
    let source = call.query.get("fromSrc").to_owned();
    if source.is_empty() {
        return Err(HttpError::invalid("either fromImage or fromSrc is required"));
    }
    let options = ImportOptions {
        repo: call.query.owned("repo"),
        tag: call.query.owned("tag"),
        message: call.query.owned("message").unwrap_or_else(|| format!("Imported from {source}")),
        changes: call.query.all("changes"),
        platform: call.query.owned("platform").filter(|_| knows(call.version, 32)),
        url: Some(source).filter(|s| s != "-"),
    };
    let engine = call.engine.clone();
    progress(engine.image_import(options, call.reader()).await?).await
}

pub(crate) async fn load(call: Call) -> Reply {
    let quiet = call.query.bool_or("quiet", true);
    let platform = match call.query.platform()? {
        Some(p) if knows(call.version, 48) => Some(ferry_types::Platform {
            os: p.os,
            architecture: p.architecture,
            variant: Some(p.variant).filter(|v| !v.is_empty()),
        }),
        _ => None,
    };
    let engine = call.engine.clone();
    progress(engine.image_load(quiet, platform, call.reader()).await?).await
}

pub(crate) async fn save(call: &Call, names: &[String]) -> Reply {
    if names.is_empty() {
        return Err(HttpError::invalid("no image was named"));
    }
    if let Some(wanted) = call.query.platform()?.filter(|_| knows(call.version, 48)) {
        for name in names {
            matches_platform(call, name, &wanted).map_err(|error| match error.status {
                StatusCode::NOT_FOUND if error.message.starts_with("image with reference") => {
                    let wanted = shown(&wanted.os, &wanted.architecture, &wanted.variant);
                    HttpError::internal(format!("no suitable export target found for platform {wanted}"))
                }
                _ => error,
            })?;
        }
    }
    Ok(stream(TAR, call.engine.image_save(names).await?))
}

/// A stream of progress messages. A failure before the first one is the response's status, a later
/// one is the stream's last message.
async fn progress(mut messages: ItemStream<JsonMessage>) -> Reply {
    let first = messages.next().await.transpose()?;
    let all = futures_util::stream::iter(first.map(Ok)).chain(messages);
    Ok(json_lines(all, |error| ferry_api::json::to_vec(&JsonMessage::error(error.to_string())).ok()))
}
