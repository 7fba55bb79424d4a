//! `/containers/{id}/exec` and `/exec/…`.

use ferry_api::convert::request;
use ferry_api::exec::{ExecCreateRequest, ExecStartRequest};
use ferry_engine::api::ExecStart;

use crate::error::HttpError;
use crate::reply::{Reply, created, empty, json};
use crate::request::Call;

pub(crate) async fn create(mut call: Call, container: &str) -> Reply {
    let mut body: ExecCreateRequest = call.json_or_default().await?;
    if body.cmd.is_empty() {
        return Err(HttpError::invalid("No exec command specified"));
    }
    request::exec_create(&mut body, call.version);
    created(&call.engine.exec_create(container, body).await?)
}

pub(crate) async fn start(mut call: Call, id: &str) -> Reply {
    let mut body: ExecStartRequest = call.json_or_default().await?;
    request::exec_start(&mut body, call.version);
    let fit = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
    let console_size = body.console_size.map(|[height, width]| (fit(height), fit(width)));
    let options = ExecStart { detach: body.detach, tty: body.tty, console_size };
    let exec = call.engine.exec_start_prepare(id, &options)?;
    if body.detach {
        exec.start(None).await?;
        return empty(http::StatusCode::OK);
    }
    let (multiplexed, id) = (exec.multiplexed(), id.to_owned());
    call.hijack(multiplexed, move |client| {
        Box::pin(async move {
            // The engine has told the client, in the stream.
            if let Err(error) = exec.start(Some(client)).await {
                tracing::debug!(exec = id, %error, "starting an exec failed");
            }
        })
    })
}

pub(crate) async fn resize(call: &Call, id: &str) -> Reply {
    let (height, width) = (call.query.dimension("h", "height")?, call.query.dimension("w", "width")?);
    call.engine.exec_resize(id, height, width).await?;
    empty(http::StatusCode::OK)
}

pub(crate) async fn inspect(call: &Call, id: &str) -> Reply {
    json(&call.engine.exec_inspect(id).await?)
}
