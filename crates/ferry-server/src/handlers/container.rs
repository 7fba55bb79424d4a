//! `/containers/…` except streams, and `/commit`.

use ferry_api::container::{ContainerConfig, ContainerCreateRequest, ContainerUpdateRequest};
use ferry_api::convert::{request, response};
use ferry_engine::api::{AttachOptions, CommitOptions, ListContainers, RemoveContainer};

use crate::error::HttpError;
use crate::reply::{Reply, created, empty, json, no_content};
use crate::request::Call;
use crate::transport::websocket;

pub(crate) fn list(call: &Call) -> Reply {
    let q = &call.query;
    let limit = q.int("limit")?.filter(|n| *n > 0).and_then(|n| usize::try_from(n).ok());
    let options = ListContainers { all: q.bool("all"), limit, size: q.bool("size"), filters: q.filters()? };
    let mut list = call.engine.container_list(options)?;
    response::container_list(&mut list, call.version);
    json(&list)
}

pub(crate) async fn create(mut call: Call) -> Reply {
    let mut body: ContainerCreateRequest = call.json().await?;
    let warnings = request::container_create(&mut body, call.version)?;
    let platform = call.query.some("platform").filter(|_| request::knows(call.version, 41));
    let mut answer = call.engine.container_create(call.query.some("name"), platform, body).await?;
    answer.warnings.extend(warnings);
    created(&answer)
}

pub(crate) async fn inspect(call: &Call, id: &str) -> Reply {
    let mut container = call.engine.container_inspect(id, call.query.bool("size")).await?;
    response::container_inspect(&mut container, call.version);
    json(&container)
}

pub(crate) async fn top(call: &Call, id: &str) -> Reply {
    json(&call.engine.container_top(id, call.query.some("ps_args")).await?)
}

pub(crate) async fn changes(call: &Call, id: &str) -> Reply {
    let changes = call.engine.container_changes(id).await?;
    // Docker sends null when nothing changed.
    if changes.is_empty() { json(&()) } else { json(&changes) }
}

pub(crate) async fn resize(call: &Call, id: &str) -> Reply {
    let (height, width) = (call.query.dimension("h", "height")?, call.query.dimension("w", "width")?);
    call.engine.container_resize(id, height, width).await?;
    empty(http::StatusCode::OK)
}

pub(crate) async fn start(call: &Call, id: &str) -> Reply {
    // Seven bytes: some clients send `null` or `{}` with line ends.
    if call.body_longer_than(7) {
        return Err(HttpError::invalid(
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24",
        ));
    }
    if call.query.some("checkpoint").is_some() {
        return Err(HttpError::invalid("checkpoint is only supported in experimental mode"));
    }
    call.engine.container_start(id).await?;
    no_content()
}

pub(crate) async fn stop(call: &Call, id: &str) -> Reply {
    let signal = call.query.some("signal").filter(|_| request::knows(call.version, 42));
    let stopped = call.engine.container_stop(id, signal, call.query.int("t")?).await;
    stopped.map_err(|e| match HttpError::from(e) {
        error if error.status == http::StatusCode::BAD_REQUEST => {
            HttpError { message: format!("cannot stop container: {id}: {}", error.message), ..error }
        }
        error => error,
    })?;
    no_content()
}

pub(crate) async fn restart(call: &Call, id: &str) -> Reply {
    let signal = call.query.some("signal").filter(|_| request::knows(call.version, 42));
    let restarted = call.engine.container_restart(id, signal, call.query.int("t")?).await;
    restarted.map_err(|e| match HttpError::from(e) {
        error if error.status == http::StatusCode::BAD_REQUEST => {
            HttpError { message: format!("Cannot restart container {id}: {}", error.message), ..error }
        }
        error => error,
    })?;
    no_content()
}

pub(crate) async fn kill(call: &Call, id: &str) -> Reply {
    call.engine.container_kill(id, call.query.some("signal")).await.map_err(|e| {
        let error = HttpError::from(e);
        HttpError { message: format!("cannot kill container: {id}: {}", error.message), ..error }
    })?;
    no_content()
}

pub(crate) async fn update(mut call: Call, id: &str) -> Reply {
    let mut body: ContainerUpdateRequest = call.json_or_default().await?;
    request::container_update(&mut body, call.version);
    json(&call.engine.container_update(id, body).await?)
}

pub(crate) async fn rename(call: &Call, id: &str) -> Reply {
    call.engine.container_rename(id, call.query.get("name")).await?;
    no_content()
}

pub(crate) async fn pause(call: &Call, id: &str) -> Reply {
    call.engine.container_pause(id).await?;
    no_content()
}

pub(crate) async fn unpause(call: &Call, id: &str) -> Reply {
    call.engine.container_unpause(id).await?;
    no_content()
}

pub(crate) async fn remove(call: &Call, id: &str) -> Reply {
    let q = &call.query;
    let options = RemoveContainer { force: q.bool("force"), volumes: q.bool("v"), link: q.bool("link") };
    call.engine.container_remove(id, options).await?;
    no_content()
}

pub(crate) async fn prune(call: &Call) -> Reply {
    json(&call.engine.container_prune(call.query.filters()?).await?)
}

fn attach_options(q: &crate::query::Query) -> AttachOptions {
    AttachOptions {
        logs: q.bool("logs"),
        stream: q.bool("stream"),
        stdin: q.bool("stdin"),
        stdout: q.bool("stdout"),
        stderr: q.bool("stderr"),
        detach_keys: q.owned("detachKeys"),
    }
}

/// Attaches over a websocket: raw output in its messages, whatever the stream.
pub(crate) fn attach_websocket(call: &Call, id: &str) -> Reply {
    let mut options = attach_options(&call.query);
    if !request::knows(call.version, 42) {
        (options.stdin, options.stdout, options.stderr) = (true, true, true);
    }
    let attachment = call.engine.container_attach_prepare(id, options)?.raw();
    let head = websocket::handshake(&call.head.headers)?;
    let (binary, id) = (request::knows(call.version, 28), id.to_owned());
    call.hijack_with(head, move |client| {
        Box::pin(async move {
            let (ours, theirs) = match websocket::socket_pair(client) {
                Ok(pair) => pair,
                Err(error) => return tracing::warn!(container = id, %error, "attaching a client failed"),
            };
            let relay = tokio::spawn(websocket::relay(ours, binary));
            if let Err(error) = attachment.connect(theirs).await {
                tracing::warn!(container = id, %error, "attaching a client failed");
            }
            let _ = relay.await;
        })
    })
}

pub(crate) fn attach(call: &Call, id: &str) -> Reply {
    let attachment = call.engine.container_attach_prepare(id, attach_options(&call.query))?;
    let (multiplexed, id) = (attachment.multiplexed(), id.to_owned());
    call.hijack(multiplexed, move |client| {
        Box::pin(async move {
            if let Err(error) = attachment.connect(client).await {
                tracing::warn!(container = id, %error, "attaching a client failed");
            }
        })
    })
}

pub(crate) async fn commit(mut call: Call) -> Reply {
    let config: Option<ContainerConfig> = call.json_or_default().await?;
    let q = &call.query;
    let options = CommitOptions {
        container: q.get("container").to_owned(),
        repo: q.owned("repo"),
        tag: q.owned("tag"),
        comment: q.get("comment").to_owned(),
        author: q.get("author").to_owned(),
        pause: q.bool_or("pause", true),
        changes: q.all("changes"),
        config,
    };
    created(&call.engine.container_commit(options).await?)
}
