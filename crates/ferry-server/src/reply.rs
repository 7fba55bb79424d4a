//! Successful responses.

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use serde::Serialize;

use crate::body::{Body, BodyError};
use crate::error::{HttpError, Result};

pub(crate) const JSON: &str = "application/json";
pub(crate) const TAR: &str = "application/x-tar";
pub(crate) const RAW_STREAM: &str = "application/vnd.docker.raw-stream";
pub(crate) const MULTIPLEXED_STREAM: &str = "application/vnd.docker.multiplexed-stream";

/// What a handler yields.
pub(crate) type Reply = Result<Response<Body>>;

pub(crate) fn content_type(response: &mut Response<Body>, value: &'static str) {
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(value));
}

/// A body of JSON with a status.
pub(crate) fn json_with<T: Serialize + ?Sized>(status: StatusCode, value: &T) -> Reply {
    let text = ferry_api::json::to_vec(value).map_err(|e| HttpError::internal(e.to_string()))?;
    let mut response = Response::new(Body::full(text));
    *response.status_mut() = status;
    content_type(&mut response, JSON);
    Ok(response)
}

/// 200 with JSON.
pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> Reply {
    json_with(StatusCode::OK, value)
}

/// 201 with JSON.
pub(crate) fn created<T: Serialize + ?Sized>(value: &T) -> Reply {
    json_with(StatusCode::CREATED, value)
}

/// A status without a body.
pub(crate) fn empty(status: StatusCode) -> Reply {
    let mut response = Response::new(Body::default());
    *response.status_mut() = status;
    Ok(response)
}

/// 204.
pub(crate) fn no_content() -> Reply {
    empty(StatusCode::NO_CONTENT)
}

/// 200 with bytes produced while they are sent. An error cuts the connection.
pub(crate) fn stream<E>(
    kind: &'static str,
    chunks: impl Stream<Item = std::result::Result<Bytes, E>> + Send + 'static,
) -> Response<Body>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let chunks = chunks.map(|chunk| chunk.map_err(|e| Box::new(e) as BodyError));
    let mut response = Response::new(Body::stream(chunks));
    content_type(&mut response, kind);
    response
}

/// 200 with one JSON object per line. An error becomes the last line, as `last` words it.
pub(crate) fn json_lines<T, E>(
    items: impl Stream<Item = std::result::Result<T, E>> + Send + 'static,
    last: impl Fn(E) -> Option<Vec<u8>> + Send + 'static,
) -> Response<Body>
where
    T: Serialize,
{
    let lines = items.filter_map(move |item| {
        let line = match item {
            Ok(item) => ferry_api::json::to_vec(&item).ok(),
            Err(error) => last(error),
        };
        std::future::ready(line.map(|line| Ok(Bytes::from(line))))
    });
    let mut response = Response::new(Body::stream(lines));
    content_type(&mut response, JSON);
    response
}

/// A JSON text sequence (RFC 7464): each text between a record separator and a line feed.
pub(crate) fn json_sequence<T, E>(
    items: impl Stream<Item = std::result::Result<T, E>> + Send + 'static,
) -> Response<Body>
where
    T: Serialize,
{
    let records = items.filter_map(|item| {
        let text = item.ok().and_then(|item| ferry_api::json::to_vec(&item).ok());
        let record = text.map(|text| Ok(Bytes::from([&[0x1e], text.as_slice()].concat())));
        std::future::ready(record)
    });
    Response::new(Body::stream(records))
}

/// The `Content-Type` of a stream of output.
pub(crate) fn output_type(multiplexed: bool, version: ferry_api::ApiVersion) -> &'static str {
    // Clients before 1.42 know from the container whether frames are there.
    if multiplexed && ferry_api::convert::request::knows(version, 42) {
        MULTIPLEXED_STREAM
    } else {
        RAW_STREAM
    }
}
