//! `/images/…`.

use ferry_api::convert::{request::knows, response};
use ferry_api::stream::JsonMessage;
use ferry_engine::api::{ImportOptions, ItemStream, ListImages, PullOptions};
use ferry_types::ErrorKind;
use futures_util::StreamExt as _;
use http::StatusCode;

use crate::error::HttpError;
use crate::query::parse_platform;
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
    };
    let mut list = call.engine.image_list(options)?;
    response::image_list(&mut list, call.version);
    json(&list)
}

pub(crate) fn inspect(call: &Call, name: &str) -> Reply {
    check_platform(call, name)?;
    let image = call.engine.image_inspect(name)?;
    let value = response::image_inspect(image, call.version);
    json(&value.map_err(|e| HttpError::internal(e.to_string()))?)
}

pub(crate) fn history(call: &Call, name: &str) -> Reply {
    check_platform(call, name)?;
    json(&call.engine.image_history(name)?)
}

/// Images here are for one platform each: a request for another one finds nothing.
fn check_platform(call: &Call, name: &str) -> Result<(), HttpError> {
    let Some(wanted) = call.query.platform()? else { return Ok(()) };
    let image = call.engine.image_inspect(name)?;
    let given = |part: &str, own: &str| part.is_empty() || part == own;
    if given(&wanted.os, &image.os)
        && given(&wanted.architecture, &image.architecture)
        && given(&wanted.variant, &image.variant)
    {
        return Ok(());
    }
    let shown = |os: &str, architecture: &str, variant: &str| {
        [os, architecture, variant].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
    };
    let own = shown(&image.os, &image.architecture, &image.variant);
    let asked = shown(&wanted.os, &wanted.architecture, &wanted.variant);
    Err(HttpError::new(
        ErrorKind::NotFound,
        format!(
            "image with reference {name} was found but its platform ({own}) does not match the specified platform ({asked})"
        ),
    ))
}

pub(crate) async fn tag(call: &Call, name: &str) -> Reply {
    call.engine.image_tag(name, call.query.get("repo"), call.query.get("tag")).await?;
    empty(StatusCode::CREATED)
}

pub(crate) async fn remove(call: &Call, name: &str) -> Reply {
    if name.trim().is_empty() {
        return Err(HttpError::invalid("image name cannot be blank"));
    }
    if call.query.has("platforms") {
        for text in call.query.all("platforms") {
            parse_platform(&text)?;
        }
        return Err(HttpError::not_implemented("removing an image for some platforms only is not supported"));
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

async fn import(call: Call) -> Reply {
    let source = call.query.get("fromSrc").to_owned();
    if source != "-" {
        let message = format!("importing from {source:?}: only the request body (\"-\") is supported");
        return Err(HttpError::not_implemented(message));
    }
    let options = ImportOptions {
        repo: call.query.owned("repo"),
        tag: call.query.owned("tag"),
        message: call.query.owned("message").unwrap_or_else(|| format!("Imported from {source}")),
        changes: call.query.all("changes"),
        platform: call.query.owned("platform").filter(|_| knows(call.version, 32)),
    };
    let engine = call.engine.clone();
    progress(engine.image_import(options, call.reader()).await?).await
}

pub(crate) async fn load(call: Call) -> Reply {
    let quiet = call.query.bool_or("quiet", true);
    let engine = call.engine.clone();
    progress(engine.image_load(quiet, call.reader()).await?).await
}

pub(crate) async fn save(call: &Call, names: &[String]) -> Reply {
    if names.is_empty() {
        return Err(HttpError::invalid("no image was named"));
    }
    for name in names {
        check_platform(call, name)?;
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
