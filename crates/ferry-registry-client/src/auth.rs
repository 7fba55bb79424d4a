//! Credentials, challenges (RFC 9110, `WWW-Authenticate`) and bearer tokens (Docker's token
//! authentication specification).

use std::collections::HashMap;

use serde::Deserialize;

/// What the user is known as. Debug output does not show secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Auth {
    /// Not at all.
    #[default]
    Anonymous,
    /// Name and password, or access token in its place.
    Basic {
        /// Name.
        username: String,
        /// Password.
        password: String,
    },
    /// OAuth2 refresh token.
    IdentityToken(String),
    /// A token the registry takes as it is.
    RegistryToken(String),
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Anonymous => f.write_str("Anonymous"),
            Self::Basic { username, .. } => write!(f, "Basic({username})"),
            Self::IdentityToken(_) => f.write_str("IdentityToken"),
            Self::RegistryToken(_) => f.write_str("RegistryToken"),
        }
    }
}

/// What a registry wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

/// A token server's answer.
#[derive(Deserialize)]
pub(crate) struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    pub refresh_token: Option<String>,
    pub expires_in: Option<u64>,
}

impl TokenAnswer {
    pub fn token(self) -> Option<String> {
        self.token.or(self.access_token).filter(|t| !t.is_empty())
    }
}

/// Parses one header value; of several challenges in it a bearer one is preferred.
pub(crate) fn parse_challenge(header: &str) -> Option<Challenge> {
    let mut rest = header.trim();
    let mut basic = None;
    while !rest.is_empty() {
        let (scheme, tail) = rest.split_once(' ').unwrap_or((rest, ""));
        let (parameters, next) = parameters(tail);
        if scheme.eq_ignore_ascii_case("bearer") {
            return Some(Challenge::Bearer {
                realm: parameters.get("realm")?.clone(),
                service: parameters.get("service").cloned(),
                scope: parameters.get("scope").cloned(),
            });
        }
        if scheme.eq_ignore_ascii_case("basic") {
            basic = Some(Challenge::Basic);
        }
        rest = next;
    }
    basic
}

/// `key=value, key="quoted"`; stops where the next challenge begins.
fn parameters(mut rest: &str) -> (HashMap<String, String>, &str) {
    let mut found = HashMap::new();
    loop {
        rest = rest.trim_start_matches([' ', ',', '\t']);
        let Some(equals) = rest.find('=') else { return (found, if rest.contains(' ') { rest } else { "" }) };
        let key = &rest[..equals];
        if key.contains(' ') {
            return (found, rest);
        }
        let tail = &rest[equals + 1..];
        let (value, tail) = match tail.strip_prefix('"') {
            Some(quoted) => {
                let mut value = String::new();
                let mut chars = quoted.char_indices();
                let mut end = quoted.len();
                while let Some((i, c)) = chars.next() {
                    match c {
                        '"' => {
                            end = i + 1;
                            break;
                        }
                        '\\' => value.extend(chars.next().map(|(_, c)| c)),
                        c => value.push(c),
                    }
                }
                (value, &quoted[end..])
            }
            None => {
                let end = tail.find([',', ' ']).unwrap_or(tail.len());
                (tail[..end].to_owned(), &tail[end..])
            }
        };
        found.insert(key.to_ascii_lowercase(), value);
        rest = tail;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges() {
        let parsed = parse_challenge(
            r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#,
        );
        let want = Challenge::Bearer {
            realm: "https://auth.docker.io/token".into(),
            service: Some("registry.docker.io".into()),
            scope: Some("repository:a/b:pull,push".into()),
        };
        assert_eq!(parsed, Some(want));
        assert_eq!(parse_challenge(r#"Basic realm="x y""#), Some(Challenge::Basic));
        assert!(matches!(
            parse_challenge(r#"Basic realm="x", Bearer realm=y"#),
            Some(Challenge::Bearer { realm, .. }) if realm == "y"
        ));
        for bad in ["", "Negotiate", "Bearer service=x", "Digest realm=\"a"] {
            assert_eq!(parse_challenge(bad), None, "{bad}");
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let auth = Auth::Basic { username: "u".into(), password: "secret".into() };
        assert_eq!(format!("{auth:?}"), "Basic(u)");
    }
}
