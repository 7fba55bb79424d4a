//! Answers of the engine.

use bytes::Bytes;
use http::StatusCode;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;

use crate::connect::Pool;
use crate::error::Error;

/// A successful answer whose body has not been read yet.
#[derive(Debug)]
pub struct Response {
    pub(crate) inner: http::Response<Incoming>,
    /// The connection goes back to its pool when this is dropped after the body was read to its end.
    pub(crate) lease: Option<Lease>,
}

/// A connection in use by a response.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) sender: crate::connect::Connection,
    pub(crate) pool: Pool,
}

impl Response {
    /// HTTP status, below 400.
    pub fn status(&self) -> StatusCode {
        self.inner.status()
    }

    /// A header's value, when present and text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.inner.headers().get(name)?.to_str().ok()
    }

    /// The next piece of the body, `None` at its end.
    ///
    /// # Errors
    /// When the connection breaks before the body is complete.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            match self.inner.body_mut().frame().await {
                None => {
                    self.release();
                    return Ok(None);
                }
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
                Some(Err(e)) => return Err(Error::Io(std::io::Error::other(e))),
            }
        }
    }

    /// The whole body.
    ///
    /// # Errors
    /// As [`Response::chunk`].
    pub async fn bytes(mut self) -> Result<Bytes, Error> {
        let Some(first) = self.chunk().await? else { return Ok(Bytes::new()) };
        let Some(second) = self.chunk().await? else { return Ok(first) };
        let mut all = Vec::with_capacity(first.len() + second.len());
        all.extend_from_slice(&first);
        all.extend_from_slice(&second);
        while let Some(chunk) = self.chunk().await? {
            all.extend_from_slice(&chunk);
        }
        Ok(all.into())
    }

    /// The whole body as JSON; an empty body reads as `null`.
    ///
    /// # Errors
    /// As [`Response::chunk`], and when the body is not JSON of that shape.
    pub async fn json<T: DeserializeOwned>(self) -> Result<T, Error> {
        let bytes = self.bytes().await?;
        let text: &[u8] = if bytes.is_empty() { b"null" } else { &bytes };
        Ok(serde_json::from_slice(text)?)
    }

    fn release(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.pool.put(lease.sender);
        }
    }
}
