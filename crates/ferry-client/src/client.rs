//! Requests to one engine.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde::Serialize;

use crate::body::RequestBody;
use crate::connect::{self, Connection, Pool};
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::hijack::Hijacked;
use crate::negotiate::{ApiVersion, Negotiation, says_too_new};
use crate::response::{Lease, Response};
use crate::tls::TlsOptions;

/// Settings of a [`Client`].
#[derive(Debug, Clone, Default)]
pub struct ClientOptions {
    /// Security of TCP connections; `None` for plain ones. Unix sockets ignore it.
    pub tls: Option<TlsOptions>,
    /// API version fixed by the user; negotiated when absent.
    pub api_version: Option<ApiVersion>,
    /// Value of the `User-Agent` header.
    pub user_agent: String,
    /// More headers for every request (`HttpHeaders` of Docker's client configuration).
    pub headers: HeaderMap,
    /// What `ssh` runs on the other machine to reach its engine.
    pub remote_command: Vec<String>,
}

/// Headers from names and values.
///
/// # Errors
/// When one has bytes a header must not have.
pub fn headers<'a>(pairs: impl IntoIterator<Item = (&'a String, &'a String)>) -> Result<HeaderMap, Error> {
    let mut all = HeaderMap::new();
    for (name, value) in pairs {
        let name = http::HeaderName::from_bytes(name.as_bytes()).map_err(http::Error::from)?;
        all.insert(name, http::HeaderValue::from_str(value).map_err(http::Error::from)?);
    }
    Ok(all)
}

/// A client of one engine. Connections are opened when first needed and kept for the next request.
#[derive(Debug)]
pub struct Client {
    endpoint: Endpoint,
    options: ClientOptions,
    pool: Pool,
    negotiation: Mutex<Negotiation>,
}

/// A request in the making.
#[derive(Debug)]
pub struct Request {
    method: Method,
    path: String,
    query: String,
    headers: HeaderMap,
    body: RequestBody,
}

impl Request {
    /// `path` starts with `/` and has no version prefix; segments must be escaped with
    /// [`Request::escape`] where they come from the user.
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            query: String::new(),
            headers: HeaderMap::new(),
            body: RequestBody::Empty,
        }
    }

    /// GET `path`.
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    /// POST `path`.
    pub fn post(path: impl Into<String>) -> Self {
        Self::new(Method::POST, path)
    }

    /// DELETE `path`.
    pub fn delete(path: impl Into<String>) -> Self {
        Self::new(Method::DELETE, path)
    }

    /// Adds a query parameter.
    #[must_use]
    pub fn query(mut self, key: &str, value: impl AsRef<str>) -> Self {
        if !self.query.is_empty() {
            self.query.push('&');
        }
        escape_into(&mut self.query, key, false);
        self.query.push('=');
        escape_into(&mut self.query, value.as_ref(), false);
        self
    }

    /// Adds `key=1` when `on`, as Docker's client does for booleans.
    #[must_use]
    pub fn flag(self, key: &str, on: bool) -> Self {
        if on { self.query(key, "1") } else { self }
    }

    /// Adds a query parameter that is left out when empty.
    #[must_use]
    pub fn query_opt(self, key: &str, value: &str) -> Self {
        if value.is_empty() { self } else { self.query(key, value) }
    }

    /// Adds a header.
    ///
    /// # Errors
    /// When the value has bytes a header must not have.
    pub fn header(mut self, name: &'static str, value: &str) -> Result<Self, Error> {
        let value = http::HeaderValue::from_str(value).map_err(http::Error::from)?;
        self.headers.insert(name, value);
        Ok(self)
    }

    /// Sets a JSON body.
    ///
    /// # Errors
    /// When `value` cannot be serialized (a map with non-string keys).
    pub fn json(mut self, value: &impl Serialize) -> Result<Self, Error> {
        self.body = RequestBody::Json(serde_json::to_vec(value)?.into());
        Ok(self)
    }

    /// Sets any body.
    #[must_use]
    pub fn body(mut self, body: RequestBody) -> Self {
        self.body = body;
        self
    }

    /// Escapes one path segment; `/` is kept, as image names have it.
    pub fn escape(segment: &str) -> String {
        let mut out = String::with_capacity(segment.len());
        escape_into(&mut out, segment, true);
        out
    }

    fn replay(&self) -> Option<Self> {
        Some(Self {
            method: self.method.clone(),
            path: self.path.clone(),
            query: self.query.clone(),
            headers: self.headers.clone(),
            body: self.body.replay()?,
        })
    }
}

/// Percent-encodes everything but RFC 3986's unreserved characters (and `/` and `:` in paths).
fn escape_into(out: &mut String, text: &str, path: bool) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for b in text.bytes() {
        let plain = b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
        if plain || (path && matches!(b, b'/' | b':' | b'@')) {
            out.push(char::from(b));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(b >> 4)]));
            out.push(char::from(HEX[usize::from(b & 15)]));
        }
    }
}

impl Client {
    /// A client of the engine at `endpoint`. Nothing is connected yet.
    pub fn new(endpoint: Endpoint, options: ClientOptions) -> Self {
        let negotiation = options.api_version.map_or(Negotiation::Assumed, Negotiation::Fixed);
        Self { endpoint, options, pool: Pool::default(), negotiation: Mutex::new(negotiation) }
    }

    /// Where the engine listens.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The API version in use: fixed, agreed on, or before the first answer the client's own.
    pub fn api_version(&self) -> ApiVersion {
        self.negotiation().version()
    }

    /// Asks the engine for its API version unless it is known already.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn negotiate(&self) -> Result<(), Error> {
        if !matches!(self.negotiation(), Negotiation::Assumed) {
            return Ok(());
        }
        let uri = format!("{}/_ping", self.base());
        let (response, _) = self.exchange(&uri, Request::new(Method::HEAD, "/_ping")).await?;
        // An engine without the header is from before 1.24, the oldest version it can mean.
        let version = server_version(response.headers()).unwrap_or(ApiVersion { major: 1, minor: 24 });
        self.learn(version);
        Ok(())
    }

    /// Sends a request and waits for the head of the answer.
    ///
    /// # Errors
    /// [`Error::Api`] for a status of 400 and above, [`Error::Connect`] and [`Error::Transport`] for
    /// everything in between.
    pub async fn send(&self, request: Request) -> Result<Response, Error> {
        let assumed = matches!(self.negotiation(), Negotiation::Assumed);
        let spare = if assumed { request.replay() } else { None };
        if assumed && spare.is_none() {
            self.negotiate().await?;
        }
        match self.send_once(request).await {
            Err(Error::Api { status: 400, message }) if says_too_new(&message) => match spare {
                Some(again) => {
                    self.negotiate().await?;
                    self.send_once(again).await
                }
                None => Err(Error::Api { status: 400, message }),
            },
            other => other,
        }
    }

    /// Sends a request that turns its connection into a raw stream.
    ///
    /// # Errors
    /// As [`Client::send`], and [`Error::NotHijacked`] when the engine answers 2xx but keeps HTTP.
    pub async fn hijack(&self, request: Request) -> Result<Hijacked, Error> {
        let request = request.header("connection", "Upgrade").and_then(|r| r.header("upgrade", "tcp"))?;
        let response = self.send(request).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(Error::NotHijacked(response.status().as_u16()));
        }
        let multiplexed = response
            .header("content-type")
            .map(|t| t == "application/vnd.docker.multiplexed-stream")
            .filter(|_| self.api_version() >= ApiVersion { major: 1, minor: 42 });
        let upgraded =
            hyper::upgrade::on(response.inner).await.map_err(|e| Error::Io(std::io::Error::other(e)))?;
        Ok(Hijacked { io: TokioIo::new(upgraded), multiplexed })
    }

    /// A connection to the engine with nothing sent over it yet.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn dial(&self) -> Result<Box<dyn crate::connect::Stream>, Error> {
        connect::dial(&self.endpoint, &self.options).await
    }

    async fn send_once(&self, request: Request) -> Result<Response, Error> {
        let mut uri = format!("{}/v{}{}", self.base(), self.api_version(), request.path);
        if !request.query.is_empty() {
            uri.push('?');
            uri.push_str(&request.query);
        }
        let (response, sender) = self.exchange(&uri, request).await?;
        if let Some(version) = server_version(response.headers()) {
            self.learn(version);
        }
        let status = response.status();
        if status.as_u16() < 400 {
            let upgrading = status == StatusCode::SWITCHING_PROTOCOLS;
            let lease = (!upgrading).then(|| Lease { sender, pool: self.pool.clone() });
            return Ok(Response { inner: response, lease });
        }
        let bytes = read_all(response.into_body()).await?;
        self.pool.put(sender);
        Err(Error::Api { status: status.as_u16(), message: error_message(status, &bytes) })
    }

    /// One request and the head of its answer. A kept connection that the engine closed meanwhile is
    /// replaced by a new one: hyper hands the unsent request back.
    async fn exchange(
        &self,
        uri: &str,
        request: Request,
    ) -> Result<(http::Response<Incoming>, Connection), Error> {
        let method = request.method.clone();
        let mut wire = http::Request::builder().method(request.method).uri(uri).body(())?;
        let headers = wire.headers_mut();
        headers.extend(self.options.headers.clone());
        let host = match &self.endpoint {
            Endpoint::Unix(_) | Endpoint::Ssh { .. } => http::HeaderValue::from_static("api.moby.localhost"),
            Endpoint::Tcp { host, port, .. } if host.contains(':') => {
                http::HeaderValue::from_str(&format!("[{host}]:{port}")).map_err(http::Error::from)?
            }
            Endpoint::Tcp { host, port, .. } => {
                http::HeaderValue::from_str(&format!("{host}:{port}")).map_err(http::Error::from)?
            }
        };
        headers.insert(http::header::HOST, host);
        let agent = http::HeaderValue::from_str(&self.options.user_agent).map_err(http::Error::from)?;
        headers.insert(http::header::USER_AGENT, agent);
        headers.extend(request.headers);
        if let Some(kind) = request.body.content_type() {
            headers.insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
        }
        let mut wire = wire.map(|()| request.body.into_wire());
        loop {
            let (mut connection, kept) = match self.pool.take() {
                Some(connection) => (connection, true),
                None => (connect::open(&self.endpoint, &self.options).await?, false),
            };
            match connection.try_send_request(wire).await {
                Ok(response) => return Ok((response, connection)),
                Err(mut failure) => match failure.take_message() {
                    Some(unsent) if kept => wire = unsent,
                    _ => {
                        let source = failure.into_error();
                        return Err(Error::Transport {
                            method: method.to_string(),
                            path: uri.to_owned(),
                            source,
                        });
                    }
                },
            }
        }
    }

    fn base(&self) -> &str {
        match &self.endpoint {
            Endpoint::Unix(_) | Endpoint::Ssh { .. } => "",
            Endpoint::Tcp { base, .. } => base,
        }
    }

    fn negotiation(&self) -> Negotiation {
        *self.negotiation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn learn(&self, server: ApiVersion) {
        self.negotiation.lock().unwrap_or_else(PoisonError::into_inner).learn(server);
    }
}

fn server_version(headers: &HeaderMap) -> Option<ApiVersion> {
    headers.get("api-version")?.to_str().ok()?.parse().ok()
}

async fn read_all(body: Incoming) -> Result<Bytes, Error> {
    let collected = body.collect().await.map_err(|e| Error::Io(std::io::Error::other(e)))?;
    Ok(collected.to_bytes())
}

fn error_message(status: StatusCode, body: &[u8]) -> String {
    let message = serde_json::from_slice::<serde_json::Value>(body)
        .ok()
        .and_then(|v| v.get("message")?.as_str().map(|m| m.trim().to_owned()));
    match message {
        Some(message) => message,
        None if body.is_empty() => format!(
            "request returned {} for API route and version, check if the server supports the requested API version",
            status.canonical_reason().unwrap_or("an error")
        ),
        None => String::from_utf8_lossy(body).trim().to_owned(),
    }
}
