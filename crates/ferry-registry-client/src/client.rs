//! The registry client: picks an endpoint, answers its challenge, asks again when that may help.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use ferry_types::{Digest, ImageRef, Platform};
use http::StatusCode;
use http::header;

use crate::auth::Auth;
use crate::endpoint::{Endpoint, endpoints};
use crate::error::{RegistryError, Result};
use crate::manifest::{
    DOCKER_LIST, DOCKER_MANIFEST, Descriptor, Index, Manifest, OCI_INDEX, OCI_MANIFEST, SCHEMA1,
};
use crate::response::{challenge_of, content_type, digest_of, embedded_type, parse, read_document, refusal};
use crate::token::{Token, TokenKey, identity, lock};
use crate::transport::Transport;

/// Attempts at one request.
const ATTEMPTS: u32 = 5;
/// Wait before the second attempt; doubles.
const BACKOFF: Duration = Duration::from_millis(200);
/// Set-up of a client.
#[derive(Debug, Clone, Default)]
pub struct ClientOptions {
    /// Registries that may be reached over HTTP or with any certificate: `host[:port]` or a network.
    pub insecure: Vec<String>,
    /// Base URLs to try for `docker.io` first.
    pub mirrors: Vec<String>,
    /// `User-Agent`.
    pub user_agent: String,
    /// Proxies.
    pub proxy: ProxyOptions,
    /// Attempts at one request; five when absent.
    pub attempts: Option<u32>,
}

/// Proxies, as the usual environment variables give them.
#[derive(Debug, Clone, Default)]
pub struct ProxyOptions {
    /// For `http:` URLs.
    pub http: Option<String>,
    /// For `https:` URLs.
    pub https: Option<String>,
    /// Comma-separated exceptions.
    pub no_proxy: Option<String>,
}

/// A document with the digest that its bytes have.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// Computed, and checked against the one asked for.
    pub digest: Digest,
    /// As the registry says, or the document itself.
    pub media_type: String,
    /// The document.
    pub bytes: Bytes,
}

/// What a reference means for one platform.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// Digest that the reference stands for: the index's, or the manifest's when there is no index.
    pub digest: Digest,
    /// The image's manifest.
    pub raw_manifest: Bytes,
    /// Its digest.
    pub manifest_digest: Digest,
    /// The same, parsed.
    pub manifest: Manifest,
}

/// The bytes of a blob, as they arrive.
#[derive(Debug)]
pub struct Blob {
    /// Position of the first byte; 0 when the registry does not know ranges.
    pub offset: u64,
    url: String,
    response: reqwest::Response,
}

impl Blob {
    /// The next bytes, `None` at the end.
    ///
    /// # Errors
    /// When the connection breaks; ask for the blob again from where it broke.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>> {
        self.response.chunk().await.map_err(|e| RegistryError::transport(&self.url, &e))
    }
}

/// A client for all registries.
#[derive(Debug)]
pub struct RegistryClient {
    pub(crate) options: ClientOptions,
    pub(crate) transport: Transport,
    pub(crate) tokens: Mutex<HashMap<TokenKey, Token>>,
    /// The endpoint that answered, by domain: saves the HTTPS attempt at a plain registry.
    answered: Mutex<HashMap<String, Endpoint>>,
}

/// What is asked of one repository.
struct Request<'a> {
    reference: &'a ImageRef,
    auth: &'a Auth,
    /// Below `/v2/<repository>/`.
    path: String,
    accept: Vec<&'static str>,
    range_from: u64,
}

impl RegistryClient {
    /// A client; connections are made when they are needed.
    pub fn new(options: ClientOptions) -> Self {
        let transport = Transport::new(options.clone());
        Self { options, transport, tokens: Mutex::default(), answered: Mutex::default() }
    }

    /// Fetches what `reference` (a tag, `latest` by default, or a digest) stands for, and follows an
    /// index to the manifest for `platform`.
    ///
    /// # Errors
    /// When it does not exist, may not be read, is no image or has nothing for the platform.
    pub async fn resolve(&self, reference: &ImageRef, platform: &Platform, auth: &Auth) -> Result<Resolved> {
        let reference = reference.clone().tag_default();
        let top = self.manifest(&reference, auth).await?;
        let mut found = top.clone();
        // An index may hold indexes; nobody has good reasons for more than one level.
        for _ in 0..3 {
            if ![OCI_INDEX, DOCKER_LIST].contains(&found.media_type.as_str()) {
                break;
            }
            let index: Index = parse(reference.domain(), "index", &found.bytes)?;
            let entry =
                index.select(platform).ok_or_else(|| RegistryError::NoPlatform(platform.to_string()))?;
            found = self.manifest(&reference.with_digest(entry.digest.clone()), auth).await?;
        }
        let kind = found.media_type.as_str();
        if kind.starts_with(SCHEMA1) {
            return Err(RegistryError::Schema1(reference.familiar()));
        }
        if ![OCI_MANIFEST, DOCKER_MANIFEST].contains(&kind) {
            return Err(RegistryError::MediaType(kind.to_owned()));
        }
        let manifest: Manifest = parse(reference.domain(), "manifest", &found.bytes)?;
        if let Some(kind) = manifest.foreign_type() {
            return Err(RegistryError::MediaType(kind.to_owned()));
        }
        Ok(Resolved {
            digest: top.digest,
            manifest_digest: found.digest,
            raw_manifest: found.bytes,
            manifest,
        })
    }

    /// Fetches the manifest or index of a tag or digest, whatever it is.
    ///
    /// # Errors
    /// When it does not exist, may not be read, or is not what its digest says.
    pub async fn manifest(&self, reference: &ImageRef, auth: &Auth) -> Result<Fetched> {
        let wanted = reference.digest();
        let name = wanted.map_or_else(|| reference.tag().unwrap_or("latest"), Digest::as_str);
        let request = Request {
            reference,
            auth,
            path: format!("manifests/{name}"),
            accept: vec![OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST],
            range_from: 0,
        };
        let (url, response) = self.send(&request).await?;
        let media_type = content_type(&response);
        let bytes = read_document(&url, response).await?;
        let digest = digest_of(&bytes);
        if let Some(expected) = wanted.filter(|w| **w != digest) {
            let expected = expected.clone();
            return Err(RegistryError::Digest { what: "manifest", expected, actual: digest });
        }
        let media_type = media_type.or_else(|| embedded_type(&bytes)).unwrap_or_default();
        Ok(Fetched { digest, media_type, bytes })
    }

    /// Fetches a small blob, such as the image config, whole.
    ///
    /// # Errors
    /// As [`Self::blob`], and when it is not what its digest says.
    pub async fn document(&self, reference: &ImageRef, wanted: &Descriptor, auth: &Auth) -> Result<Bytes> {
        let blob = self.blob(reference, &wanted.digest, 0, auth).await?;
        let bytes = read_document(&blob.url, blob.response).await?;
        let actual = digest_of(&bytes);
        if actual != wanted.digest {
            let expected = wanted.digest.clone();
            return Err(RegistryError::Digest { what: "config", expected, actual });
        }
        Ok(bytes)
    }

    /// Starts fetching a blob from byte `offset` on. The bytes are not verified here.
    ///
    /// # Errors
    /// When it does not exist, may not be read, or the registry cannot be reached.
    pub async fn blob(
        &self,
        reference: &ImageRef,
        digest: &Digest,
        offset: u64,
        auth: &Auth,
    ) -> Result<Blob> {
        let path = format!("blobs/{digest}");
        let request = Request { reference, auth, path, accept: Vec::new(), range_from: offset };
        let (url, response) = self.send(&request).await?;
        let offset = if response.status() == StatusCode::PARTIAL_CONTENT { offset } else { 0 };
        Ok(Blob { offset, url, response })
    }

    /// Tries the endpoints in order. One that answers settles it, unless it is a mirror that has not got
    /// it; of several failures the registry's own is reported.
    async fn send(&self, request: &Request<'_>) -> Result<(String, reqwest::Response)> {
        let domain = request.reference.domain();
        let known = lock(&self.answered).get(domain).cloned();
        let all = endpoints(request.reference, &self.options.mirrors, &self.options.insecure);
        let all: Vec<_> = match known {
            Some(endpoint) if endpoint.credentials => {
                all.into_iter().filter(|e| !e.credentials || *e == endpoint).collect()
            }
            _ => all,
        };
        let mut last_error = None;
        for endpoint in all {
            match self.send_to(&endpoint, request).await {
                Ok(answer) => {
                    if endpoint.credentials {
                        lock(&self.answered).insert(domain.to_owned(), endpoint);
                    }
                    return Ok(answer);
                }
                Err(error) if !endpoint.credentials => {
                    tracing::debug!(mirror = %endpoint.base, %error, "mirror passed over");
                }
                // A registry that speaks HTTP fails the TLS handshake: plain HTTP is next, where allowed.
                Err(RegistryError::Transport { reason, transient, .. }) => {
                    // As Docker, which asks for the root first.
                    let url = format!("{}/v2/", endpoint.base);
                    last_error = Some(RegistryError::Transport { url, reason, transient });
                }
                Err(error) => return Err(error),
            }
        }
        Err(last_error.unwrap_or_else(|| RegistryError::Url(domain.to_owned())))
    }

    async fn send_to(
        &self,
        endpoint: &Endpoint,
        request: &Request<'_>,
    ) -> Result<(String, reqwest::Response)> {
        let mut wait = BACKOFF;
        let mut attempt = 1;
        loop {
            let result = self.send_once(endpoint, request).await;
            match result {
                Err(error)
                    if error.is_transient()
                        && attempt < self.options.attempts.unwrap_or(ATTEMPTS)
                        && !fallback(endpoint, &error) =>
                {
                    tracing::debug!(%error, attempt, "request is tried again");
                }
                other => return other,
            }
            tokio::time::sleep(wait).await;
            wait *= 2;
            attempt += 1;
        }
    }

    /// One request, and a second one with a token when the first is challenged.
    async fn send_once(
        &self,
        endpoint: &Endpoint,
        request: &Request<'_>,
    ) -> Result<(String, reqwest::Response)> {
        let url = format!("{}/v2/{}/{}", endpoint.base, request.reference.path(), request.path);
        let anonymous = Auth::Anonymous;
        let auth = if endpoint.credentials { request.auth } else { &anonymous };
        let scope = format!("repository:{}:pull", request.reference.path());
        let key = (endpoint.base.clone(), scope.clone(), identity(auth));
        let mut authorization = self.cached(&key);
        if let (None, Auth::RegistryToken(token)) = (&authorization, auth) {
            authorization = Some(format!("Bearer {token}"));
        }
        for challenged in [false, true] {
            let mut builder = self.transport.client(endpoint.insecure)?.get(&url);
            for accept in &request.accept {
                builder = builder.header(header::ACCEPT, *accept);
            }
            if request.range_from > 0 {
                builder = builder.header(header::RANGE, format!("bytes={}-", request.range_from));
            }
            if let Some(value) = &authorization {
                builder = builder.header(header::AUTHORIZATION, value);
            }
            let response = builder.send().await.map_err(|e| RegistryError::transport(&url, &e))?;
            if response.status() != StatusCode::UNAUTHORIZED || challenged {
                return match response.status() {
                    StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok((url, response)),
                    _ => Err(refusal(request.reference, &url, response).await),
                };
            }
            let Some(challenge) = challenge_of(&response) else {
                return Err(refusal(request.reference, &url, response).await);
            };
            let token = self.answer(endpoint, &challenge, Some(&scope), auth).await?;
            authorization = Some(token.header.clone());
            lock(&self.tokens).insert(key.clone(), token);
        }
        Err(RegistryError::Url(url))
    }
}

/// Whether the next endpoint should be tried rather than this one again.
fn fallback(endpoint: &Endpoint, error: &RegistryError) -> bool {
    let transport = matches!(error, RegistryError::Transport { .. });
    !endpoint.credentials || (transport && endpoint.insecure && !endpoint.is_plain())
}
