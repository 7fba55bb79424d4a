//! What a registry answers: documents, challenges, refusals.

use bytes::Bytes;
use ferry_types::{Digest, ImageRef};
use http::StatusCode;
use http::header;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::error::{ApiError, RegistryError, Result};
use crate::manifest::{OCI_INDEX, OCI_MANIFEST};

/// Largest manifest or config, bytes (registries' own limit for manifests is 4 MiB).
const DOCUMENT_MAX: usize = 8 << 20;
#[derive(Deserialize)]
struct Errors {
    errors: Vec<ErrorEntry>,
}

#[derive(Deserialize)]
struct ErrorEntry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

pub(crate) fn challenge_of(response: &reqwest::Response) -> Option<String> {
    let values = response.headers().get_all(header::WWW_AUTHENTICATE);
    let values: Vec<_> = values.iter().filter_map(|v| v.to_str().ok()).collect();
    if values.is_empty() { None } else { Some(values.join(", ")) }
}

pub(crate) fn content_type(response: &reqwest::Response) -> Option<String> {
    let value = response.headers().get(header::CONTENT_TYPE)?.to_str().ok()?;
    let kind = value.split(';').next().unwrap_or_default().trim().to_owned();
    // Static file servers know no better.
    if kind.contains("vnd.") { Some(kind) } else { None }
}

pub(crate) fn embedded_type(bytes: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Typed {
        media_type: Option<String>,
        manifests: Option<serde::de::IgnoredAny>,
        config: Option<serde::de::IgnoredAny>,
    }
    let typed: Typed = serde_json::from_slice(bytes).ok()?;
    let guess = || match (typed.manifests, typed.config) {
        (Some(_), _) => Some(OCI_INDEX.to_owned()),
        (None, Some(_)) => Some(OCI_MANIFEST.to_owned()),
        (None, None) => None,
    };
    typed.media_type.or_else(guess)
}

pub(crate) async fn read_document(url: &str, mut response: reqwest::Response) -> Result<Bytes> {
    let mut all = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| RegistryError::transport(url, &e))? {
        if all.len() + chunk.len() > DOCUMENT_MAX {
            let host = response.url().host_str().unwrap_or_default().to_owned();
            let reason = format!("larger than {DOCUMENT_MAX} bytes");
            return Err(RegistryError::Document { what: "document", host, reason });
        }
        all.extend_from_slice(&chunk);
    }
    Ok(all.into())
}

pub(crate) fn parse<T: for<'de> Deserialize<'de>>(host: &str, what: &'static str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| RegistryError::Document {
        what,
        host: host.to_owned(),
        reason: e.to_string(),
    })
}

pub(crate) fn digest_of(bytes: &[u8]) -> Digest {
    Digest::sha256(Sha256::digest(bytes))
}

/// Turns a registry's refusal into Docker's words for it.
pub(crate) async fn refusal(reference: &ImageRef, url: &str, response: reqwest::Response) -> RegistryError {
    let status = response.status();
    let body = read_document(url, response).await.unwrap_or_default();
    let first = serde_json::from_slice::<Errors>(&body).ok().and_then(|e| e.errors.into_iter().next());
    let cause = first.map(|e| ApiError { code: e.code, message: e.message });
    let code = cause.as_ref().map_or("", |c| c.code.as_str());
    let or = |code: &str, message: &str| {
        cause.clone().unwrap_or_else(|| ApiError { code: code.to_owned(), message: message.to_owned() })
    };
    let denied = "requested access to the resource is denied";
    match (status, code) {
        (_, "MANIFEST_UNKNOWN") => RegistryError::ManifestNotFound {
            reference: reference.familiar(),
            cause: or("MANIFEST_UNKNOWN", "manifest unknown"),
        },
        (_, "NAME_UNKNOWN") => RegistryError::RepositoryNotFound {
            repository: reference.familiar_name(),
            cause: or("NAME_UNKNOWN", "repository name not known to registry"),
        },
        (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) | (_, "DENIED" | "UNAUTHORIZED") => {
            RegistryError::Denied {
                repository: reference.familiar_name(),
                // The registry's word is the same for "not you" and "no such thing".
                cause: ApiError { code: "DENIED".to_owned(), message: denied.to_owned() },
            }
        }
        (StatusCode::TOO_MANY_REQUESTS, _) => {
            RegistryError::TooManyRequests(or("", "too many requests").message)
        }
        (StatusCode::NOT_FOUND, "") if url.contains("/manifests/") => RegistryError::ManifestNotFound {
            reference: reference.familiar(),
            cause: or("MANIFEST_UNKNOWN", "manifest unknown"),
        },
        (_, "") => RegistryError::Status { url: url.to_owned(), status: status.to_string() },
        _ => RegistryError::Api(or("", "")),
    }
}
