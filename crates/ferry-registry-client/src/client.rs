//! The registry client: picks an endpoint, answers its challenge, asks again when that may help.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ferry_types::{Digest, ImageRef, Platform};
use http::StatusCode;
use http::header;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::auth::{Auth, Challenge, TokenAnswer, parse_challenge};
use crate::endpoint::{Endpoint, endpoints};
use crate::error::{ApiError, RegistryError, Result};
use crate::manifest::{
    DOCKER_LIST, DOCKER_MANIFEST, Descriptor, Index, Manifest, OCI_INDEX, OCI_MANIFEST, SCHEMA1,
};
use crate::transport::Transport;

/// Largest manifest or config, bytes (registries' own limit for manifests is 4 MiB).
const DOCUMENT_MAX: usize = 8 << 20;
/// Attempts at one request.
const ATTEMPTS: u32 = 5;
/// Wait before the second attempt; doubles.
const BACKOFF: Duration = Duration::from_millis(200);
/// A token server that does not say how long its token lives means this (specification).
const TOKEN_LIFE: u64 = 60;

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
    tokens: Mutex<HashMap<TokenKey, Token>>,
    /// The endpoint that answered, by domain: saves the HTTPS attempt at a plain registry.
    answered: Mutex<HashMap<String, Endpoint>>,
}

/// Host, scope, and whose token it is.
type TokenKey = (String, String, String);

#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub header: String,
    expires: Instant,
    /// A login's: what to log in with from now on.
    pub refresh: Option<String>,
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

    fn cached(&self, key: &TokenKey) -> Option<String> {
        let mut tokens = lock(&self.tokens);
        let now = Instant::now();
        tokens.retain(|_, t| t.expires > now);
        tokens.get(key).map(|t| t.header.clone())
    }

    /// Answers a challenge. Without a scope, the token is a login's.
    pub(crate) async fn answer(
        &self,
        endpoint: &Endpoint,
        challenge: &str,
        scope: Option<&str>,
        auth: &Auth,
    ) -> Result<Token> {
        let bad =
            || RegistryError::Challenge { host: endpoint.host.clone(), challenge: challenge.to_owned() };
        match parse_challenge(challenge).ok_or_else(bad)? {
            Challenge::Basic => {
                let Auth::Basic { username, password } = auth else {
                    let url = format!("{}/v2/", endpoint.base);
                    return Err(RegistryError::Unauthorized {
                        url,
                        message: "authentication required".into(),
                    });
                };
                let header = basic(username, password);
                Ok(Token { header, expires: Instant::now() + Duration::from_secs(3600), refresh: None })
            }
            Challenge::Bearer { realm, service, scope: wanted } => {
                // A registry asked over HTTPS must not make us send a password in the clear.
                if !realm.starts_with("https://") && !endpoint.insecure && !endpoint.is_plain() {
                    return Err(bad());
                }
                let scope = wanted.as_deref().or(scope);
                self.token(endpoint, &realm, service.as_deref(), scope, auth).await
            }
        }
    }

    async fn token(
        &self,
        endpoint: &Endpoint,
        realm: &str,
        service: Option<&str>,
        scope: Option<&str>,
        auth: &Auth,
    ) -> Result<Token> {
        let mut url = reqwest::Url::parse(realm).map_err(|_| RegistryError::Url(realm.to_owned()))?;
        let client = self.transport.client(endpoint.insecure)?;
        let builder = if let Auth::IdentityToken(refresh) = auth {
            let mut form = url.clone();
            form.set_query(None);
            form.query_pairs_mut()
                .append_pair("grant_type", "refresh_token")
                .append_pair("service", service.unwrap_or_default())
                .append_pair("client_id", "ferry")
                .append_pair("scope", scope.unwrap_or_default())
                .append_pair("refresh_token", refresh);
            let body = form.query().unwrap_or_default().to_owned();
            client
                .post(url.clone())
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(body)
        } else {
            let mut query = url.query_pairs_mut();
            if let Some(service) = service {
                query.append_pair("service", service);
            }
            match scope {
                Some(scope) => query.append_pair("scope", scope),
                None => query.append_pair("offline_token", "true").append_pair("client_id", "ferry"),
            };
            if let Auth::Basic { username, .. } = auth {
                query.append_pair("account", username);
            }
            drop(query);
            let builder = client.get(url.clone());
            match auth {
                Auth::Basic { username, password } => {
                    builder.header(header::AUTHORIZATION, basic(username, password))
                }
                _ => builder,
            }
        };
        let response = builder.send().await.map_err(|e| RegistryError::transport(url.as_str(), &e))?;
        let status = response.status();
        if status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN {
            let message = "incorrect username or password".to_owned();
            return Err(RegistryError::Unauthorized { url: realm.to_owned(), message });
        }
        if !status.is_success() {
            return Err(RegistryError::Status { url: realm.to_owned(), status: status.to_string() });
        }
        let bytes = read_document(realm, response).await?;
        let answer: TokenAnswer = parse(&endpoint.host, "token", &bytes)?;
        // A little early, so that it does not expire on its way.
        let life = answer.expires_in.unwrap_or(TOKEN_LIFE).clamp(TOKEN_LIFE, 24 * 3600) - 5;
        let refresh = answer.refresh_token.clone().filter(|token| !token.is_empty());
        let token = answer.token().ok_or_else(|| RegistryError::Document {
            what: "token",
            host: endpoint.host.clone(),
            reason: "no token in it".to_owned(),
        })?;
        let expires = Instant::now() + Duration::from_secs(life);
        Ok(Token { header: format!("Bearer {token}"), expires, refresh })
    }
}

/// No state is left half-changed by a panic.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the next endpoint should be tried rather than this one again.
fn fallback(endpoint: &Endpoint, error: &RegistryError) -> bool {
    let transport = matches!(error, RegistryError::Transport { .. });
    !endpoint.credentials || (transport && endpoint.insecure && !endpoint.is_plain())
}

fn identity(auth: &Auth) -> String {
    let secret = match auth {
        Auth::Anonymous => return String::new(),
        Auth::Basic { username, password } => format!("{username}\0{password}"),
        Auth::IdentityToken(token) | Auth::RegistryToken(token) => token.clone(),
    };
    // The cache's keys should not hold passwords.
    digest_of(secret.as_bytes()).hex().to_owned()
}

pub(crate) fn basic(username: &str, password: &str) -> String {
    format!("Basic {}", base64(format!("{username}:{password}").as_bytes()))
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let value = group.iter().fold(0_u32, |v, b| v << 8 | u32::from(*b)) << (8 * (3 - group.len()));
        for i in 0..4 {
            let digit = (value >> (18 - 6 * i)) & 63;
            out.push(if i <= group.len() { char::from(ALPHABET[digit as usize]) } else { '=' });
        }
    }
    out
}

pub(crate) fn challenge_of(response: &reqwest::Response) -> Option<String> {
    let values = response.headers().get_all(header::WWW_AUTHENTICATE);
    let values: Vec<_> = values.iter().filter_map(|v| v.to_str().ok()).collect();
    if values.is_empty() { None } else { Some(values.join(", ")) }
}

fn content_type(response: &reqwest::Response) -> Option<String> {
    let value = response.headers().get(header::CONTENT_TYPE)?.to_str().ok()?;
    let kind = value.split(';').next().unwrap_or_default().trim().to_owned();
    // Static file servers know no better.
    if kind.contains("vnd.") { Some(kind) } else { None }
}

fn embedded_type(bytes: &[u8]) -> Option<String> {
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

fn digest_of(bytes: &[u8]) -> Digest {
    Digest::sha256(Sha256::digest(bytes))
}

/// Turns a registry's refusal into Docker's words for it.
async fn refusal(reference: &ImageRef, url: &str, response: reqwest::Response) -> RegistryError {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_rfc_4648() {
        for (plain, coded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }
}
