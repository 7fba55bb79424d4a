//! A plain file from any web server, for `import`.

use bytes::Bytes;

use crate::client::RegistryClient;
use crate::error::{RegistryError, Result};

/// Longest answer of a server that refuses which is passed on, bytes.
const REASON_MAX: usize = 4096;

/// A file on its way.
#[derive(Debug)]
pub struct Download {
    url: String,
    response: reqwest::Response,
}

impl RegistryClient {
    /// Asks for the file at `url`.
    ///
    /// # Errors
    /// When the server cannot be reached, or does not answer with success.
    pub async fn download(&self, url: &str) -> Result<Download> {
        let parsed = reqwest::Url::parse(url).map_err(|_| RegistryError::Url(url.to_owned()))?;
        let sent = self.transport.client(false)?.get(parsed).send().await;
        let mut response = sent.map_err(|e| RegistryError::transport(url, &e))?;
        if response.status().is_success() {
            return Ok(Download { url: url.to_owned(), response });
        }
        let status = response.status().to_string();
        let mut body = Vec::new();
        while let Ok(Some(chunk)) = response.chunk().await {
            body.extend_from_slice(&chunk);
            if body.len() > REASON_MAX {
                break;
            }
        }
        body.truncate(REASON_MAX);
        let body = String::from_utf8_lossy(&body).into_owned();
        Err(RegistryError::Download { url: url.to_owned(), status, body })
    }
}

impl Download {
    /// The next bytes, `None` at the end.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>> {
        self.response.chunk().await.map_err(|e| RegistryError::transport(&self.url, &e))
    }
}
