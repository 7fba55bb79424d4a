//! Answers to a registry's challenges: basic credentials, or a token from its token server
//! (Docker's token authentication specification).

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use http::header;

use crate::auth::{Auth, Challenge, TokenAnswer, parse_challenge};
use crate::client::RegistryClient;
use crate::endpoint::Endpoint;
use crate::error::{RegistryError, Result};
use crate::response::{digest_of, parse, read_document};

/// A token server that does not say how long its token lives means this (specification).
const TOKEN_LIFE: u64 = 60;

/// Host, scope, and whose token it is.
pub(crate) type TokenKey = (String, String, String);

#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub header: String,
    pub expires: Instant,
    /// A login's: what to log in with from now on.
    pub refresh: Option<String>,
}

impl RegistryClient {
    pub(crate) fn cached(&self, key: &TokenKey) -> Option<String> {
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
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn identity(auth: &Auth) -> String {
    let secret = match auth {
        Auth::Anonymous => return String::new(),
        Auth::Basic { username, password } => format!("{username}\0{password}"),
        Auth::IdentityToken(token) | Auth::RegistryToken(token) => token.clone(),
    };
    // The cache's keys should not hold passwords.
    digest_of(secret.as_bytes()).hex().to_owned()
}

pub(crate) fn basic(username: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{username}:{password}")))
}
