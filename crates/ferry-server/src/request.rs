//! A request as handlers see it, and how its body is read.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use ferry_api::auth::AuthConfig;
use ferry_api::{ApiVersion, json};
use ferry_engine::Engine;
use ferry_engine::api::{BodyReader, Hijacked};
use futures_util::future::BoxFuture;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING, UPGRADE, USER_AGENT};
use http::request::Parts;
use http_body_util::{BodyDataStream, BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use tokio_util::io::StreamReader;
use tokio_util::sync::CancellationToken;

use crate::error::{HttpError, Result};
use crate::query::Query;
use crate::reply::Reply;
use crate::transport::{ConnHandle, hijack_head};

/// Largest JSON body. A container of 10,000 long environment variables has about one.
const MAX_JSON: usize = 16 << 20;
/// How long a client may take to send a JSON body.
const JSON_TIMEOUT: Duration = Duration::from_secs(60);

/// How much of an unwanted body is read, and for how long.
const MAX_DISCARDED: usize = 64 << 20;
const DISCARD_TIMEOUT: Duration = Duration::from_secs(5);

/// One request.
pub(crate) struct Call {
    pub(crate) engine: Engine,
    pub(crate) version: ApiVersion,
    pub(crate) query: Query,
    pub(crate) head: Parts,
    pub(crate) body: Incoming,
    /// Cancelled when the server stops: endless streams end.
    pub(crate) stop: CancellationToken,
    pub(crate) conn: ConnHandle,
}

impl Call {
    /// The body as JSON; the zero value when there is none at all.
    pub(crate) async fn json_or_default<T: DeserializeOwned + Default>(&mut self) -> Result<T> {
        if self.declared_empty() {
            return Ok(T::default());
        }
        self.json().await
    }

    /// The body as JSON, which must be there.
    pub(crate) async fn json<T: DeserializeOwned>(&mut self) -> Result<T> {
        if !self.declared_empty()
            && let Err(refusal) = check_content_type(self.header(CONTENT_TYPE))
        {
            discard(&mut self.body).await;
            return Err(refusal);
        }
        self.json_of_any_type().await
    }

    /// The body as JSON, whatever its header says.
    pub(crate) async fn json_of_any_type<T: DeserializeOwned>(&mut self) -> Result<T> {
        let read = Limited::new(&mut self.body, MAX_JSON).collect();
        let body = match tokio::time::timeout(JSON_TIMEOUT, read).await {
            Err(_) => return Err(HttpError::invalid("timed out while reading the request body")),
            Ok(Err(e)) if e.is::<LengthLimitError>() => return Err(HttpError::too_large(MAX_JSON)),
            Ok(Err(e)) => return Err(HttpError::invalid(format!("reading the request body: {e}"))),
            Ok(Ok(body)) => body.to_bytes(),
        };
        Ok(json::from_slice(&body)?)
    }

    /// The body as it arrives.
    pub(crate) fn reader(self) -> BodyReader {
        let chunks = Upload(Some(BodyDataStream::new(self.body)));
        Box::pin(StreamReader::new(chunks.map_err(std::io::Error::other)))
    }

    /// A header's value, empty when absent or not text.
    pub(crate) fn header(&self, name: http::HeaderName) -> &str {
        self.head.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }

    fn declared_empty(&self) -> bool {
        let headers = &self.head.headers;
        let length = headers.get(CONTENT_LENGTH).map(http::HeaderValue::as_bytes);
        matches!(length, Some(b"0")) || (length.is_none() && !headers.contains_key(TRANSFER_ENCODING))
    }

    /// Whether the body may hold more than `bytes`.
    pub(crate) fn body_longer_than(&self, bytes: u64) -> bool {
        let length = self.header(CONTENT_LENGTH);
        match length.parse::<u64>() {
            Ok(length) => length > bytes,
            Err(_) => self.head.headers.contains_key(TRANSFER_ENCODING),
        }
    }

    /// The credentials of the `X-Registry-Auth` header. Docker ignores a header it cannot read, and so asks the
    /// registry as nobody.
    pub(crate) fn registry_auth(&self) -> Option<AuthConfig> {
        let header = self.header(http::HeaderName::from_static("x-registry-auth"));
        AuthConfig::from_header(header).ok().filter(|auth| *auth != AuthConfig::default())
    }

    /// Leaves HTTP with a head of the handler's own.
    ///
    /// # Errors
    /// For HTTP/2 clients, whose stream is not a socket.
    pub(crate) fn hijack_with(
        &self,
        head: Vec<u8>,
        then: impl FnOnce(Hijacked) -> BoxFuture<'static, ()> + Send + 'static,
    ) -> Reply {
        // Docker's Python library forgets what comes in the same read as the head.
        let head_alone = self.header(USER_AGENT).to_ascii_lowercase().contains("python");
        self.conn
            .hijack(head, head_alone, Box::new(then))
            .ok_or_else(|| HttpError::invalid("this stream needs a connection of its own: use HTTP/1.1"))
    }

    /// Leaves HTTP: the client gets the head of a hijacked stream, `then` its socket.
    ///
    /// # Errors
    /// For HTTP/2 clients, whose stream is not a socket.
    pub(crate) fn hijack(
        &self,
        multiplexed: bool,
        then: impl FnOnce(Hijacked) -> BoxFuture<'static, ()> + Send + 'static,
    ) -> Reply {
        let upgrade = self.head.headers.contains_key(UPGRADE);
        self.hijack_with(hijack_head(upgrade, multiplexed, self.version), then)
    }
}

/// A body being read. When its reader stops early, because the request is refused, the rest of it is taken and
/// forgotten within limits: a client whose connection is closed while it sends would not see the answer.
struct Upload(Option<BodyDataStream<Incoming>>);

/// What is taken of a body that nobody wants.
const UNWANTED_BYTES: usize = 4 << 20;
/// How long a client may take to send it.
const UNWANTED_TIMEOUT: Duration = Duration::from_secs(5);

impl Stream for Upload {
    type Item = std::result::Result<Bytes, hyper::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(body) = &mut self.0 else { return Poll::Ready(None) };
        let next = std::task::ready!(Pin::new(body).poll_next(cx));
        if !matches!(next, Some(Ok(_))) {
            self.0 = None;
        }
        Poll::Ready(next)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(mut rest) = self.0.take() else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(tokio::time::timeout(UNWANTED_TIMEOUT, async move {
            let mut taken = 0;
            while let Some(Ok(chunk)) = rest.next().await {
                taken += chunk.len();
                if taken > UNWANTED_BYTES {
                    return;
                }
            }
        }));
    }
}

/// Reads a body nobody wants, so that a client still sending it gets to read the answer instead of a broken pipe.
/// A client that sends more than anybody would, or nothing at all, is cut off.
pub(crate) async fn discard(body: &mut Incoming) {
    let all = async {
        let mut left = MAX_DISCARDED;
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, bytes::Bytes::len));
            if left == 0 {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(DISCARD_TIMEOUT, all).await;
}

/// Refuses bodies that do not claim to be JSON, as Docker does.
fn check_content_type(value: &str) -> Result<()> {
    let media_type = value.split(';').next().unwrap_or_default().trim();
    let token =
        |text: &str| !text.is_empty() && !text.contains([' ', '\t', '/', '(', ')', '<', '>', '@', ',', '"']);
    let malformed = match media_type.split_once('/') {
        None if media_type.is_empty() => Some("no media type"),
        None if token(media_type) => None,
        None => Some("expected slash after first token"),
        Some((_, sub)) if !token(sub) => Some("expected token after slash"),
        Some(_) => None,
    };
    if let Some(reason) = malformed {
        return Err(HttpError::invalid(format!("malformed Content-Type header ({value}): mime: {reason}")));
    }
    if !media_type.eq_ignore_ascii_case("application/json") {
        return Err(HttpError::invalid(format!(
            "unsupported Content-Type header ({value}): must be 'application/json'"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_must_claim_to_be_json() {
        assert!(check_content_type("application/json").is_ok());
        assert!(check_content_type("Application/JSON; charset=utf-8").is_ok());
        assert_eq!(
            check_content_type("text/plain").unwrap_err().message,
            "unsupported Content-Type header (text/plain): must be 'application/json'"
        );
        assert_eq!(
            check_content_type("").unwrap_err().message,
            "malformed Content-Type header (): mime: no media type"
        );
        let malformed = |value| check_content_type(value).unwrap_err().message;
        assert!(malformed("a b").ends_with("mime: expected slash after first token"));
        assert!(malformed("application/").ends_with("mime: expected token after slash"));
    }
}
