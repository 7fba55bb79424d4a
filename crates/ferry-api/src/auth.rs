//! Registry credentials: `POST /auth` and the `X-Registry-Auth` header.

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ferry_types::{Classify, ErrorKind};
use serde::{Deserialize, Serialize};

use crate::json::{self, is_zero};

/// Credentials for one registry.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthConfig {
    /// User name.
    #[serde(skip_serializing_if = "is_zero")]
    pub username: String,
    /// Its password.
    #[serde(skip_serializing_if = "is_zero")]
    pub password: String,
    /// `user:password` in base64, instead of the two.
    #[serde(skip_serializing_if = "is_zero")]
    pub auth: String,
    /// Ignored by registries; of clients before API 1.20.
    #[serde(skip_serializing_if = "is_zero")]
    pub email: String,
    /// Host of the registry.
    #[serde(rename = "serveraddress", skip_serializing_if = "is_zero")]
    pub server_address: String,
    /// Refresh token of the registry's token server.
    #[serde(rename = "identitytoken", skip_serializing_if = "is_zero")]
    pub identity_token: String,
    /// Bearer token to send as it is.
    #[serde(rename = "registrytoken", skip_serializing_if = "is_zero")]
    pub registry_token: String,
}

impl std::fmt::Debug for AuthConfig {
    /// Without the secrets, so that logs cannot hold them.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthConfig")
            .field("username", &self.username)
            .field("server_address", &self.server_address)
            .finish_non_exhaustive()
    }
}

/// Why a header holds no credentials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// Not base64 in the URL alphabet.
    #[error("invalid X-Registry-Auth header: must be a valid base64url-encoded string")]
    Base64,
    /// The decoded text is not the JSON of an [`AuthConfig`].
    #[error("invalid X-Registry-Auth header: {0}")]
    Json(json::JsonError),
}

impl Classify for AuthError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidParameter
    }
}

const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

impl AuthConfig {
    /// Reads the header's value, base64url with or without padding; empty for anonymous.
    ///
    /// # Errors
    /// When it is not base64url or not JSON.
    pub fn from_header(value: &str) -> Result<Self, AuthError> {
        if value.is_empty() {
            return Ok(Self::default());
        }
        let text = BASE64URL.decode(value).map_err(|_| AuthError::Base64)?;
        json::from_slice(&text).map_err(AuthError::Json)
    }

    /// The header's value.
    pub fn to_header(&self) -> String {
        BASE64URL.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    /// User name and password, whichever way they were given; `None` for anonymous.
    pub fn credentials(&self) -> Option<(String, String)> {
        if !self.username.is_empty() {
            return Some((self.username.clone(), self.password.clone()));
        }
        let pair = base64::engine::general_purpose::STANDARD.decode(&self.auth).ok()?;
        let (user, password) = std::str::from_utf8(&pair).ok()?.split_once(':')?;
        Some((user.to_owned(), password.trim_end_matches('\0').to_owned()))
    }
}

/// Base64 in the standard alphabet, as in the `X-Docker-Container-Path-Stat` header.
pub fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// The bytes of standard base64; `None` when it is not.
pub fn from_base64(text: &str) -> Option<Vec<u8>> {
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}

/// Answer of `POST /auth`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct AuthResponse {
    /// `Login Succeeded`.
    pub status: String,
    /// Refresh token, when the registry gave one.
    #[serde(skip_serializing_if = "is_zero")]
    pub identity_token: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_round_trip_with_and_without_padding() {
        let auth = AuthConfig { username: "u".into(), password: "p?>~".into(), ..AuthConfig::default() };
        let header = auth.to_header();
        assert!(!header.contains(['+', '/']));
        assert_eq!(AuthConfig::from_header(&header), Ok(auth.clone()));
        assert_eq!(AuthConfig::from_header(header.trim_end_matches('=')), Ok(auth));
    }

    #[test]
    fn what_is_no_header_is_refused() {
        assert_eq!(AuthConfig::from_header("*"), Err(AuthError::Base64));
        assert!(matches!(AuthConfig::from_header("YWJj"), Err(AuthError::Json(_))));
        assert_eq!(AuthConfig::from_header(""), Ok(AuthConfig::default()));
    }

    #[test]
    fn secrets_are_not_printed() {
        let auth = AuthConfig { password: "hunter2".into(), ..AuthConfig::default() };
        assert!(!format!("{auth:?}").contains("hunter2"));
    }

    #[test]
    fn credentials_come_either_way() {
        let pair = AuthConfig { auth: "dTpwOnE=".into(), ..AuthConfig::default() };
        assert_eq!(pair.credentials(), Some(("u".into(), "p:q".into())));
        assert_eq!(AuthConfig::default().credentials(), None);
    }
}
