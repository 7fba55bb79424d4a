//! Image references by Docker's rules (the grammar of `distribution/reference`), which differ from
//! the OCI distribution-spec's: a default registry, the `library/` namespace and short forms.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// The registry a reference without one means.
pub const DEFAULT_DOMAIN: &str = "docker.io";
/// The namespace a one-component Docker Hub name lies in.
pub const OFFICIAL_NAMESPACE: &str = "library";
/// The tag a reference without tag and digest means.
pub const DEFAULT_TAG: &str = "latest";
/// Longest `domain/path`, in bytes.
const NAME_MAX: usize = 255;

/// A parsed, normalized image reference: `domain/path[:tag][@digest]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageRef {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a string is not an image reference; the texts are Docker's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageRefError {
    /// The string does not follow the grammar.
    #[error("invalid reference format")]
    Format,
    /// The path has upper-case letters.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    /// 64 hex digits: always an image id.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    LooksLikeId(String),
    /// Longer than 255 bytes.
    #[error("repository name must not be more than {NAME_MAX} characters")]
    TooLong,
    /// The part after `@` is no digest ferry can store.
    #[error("invalid reference format: unsupported or malformed digest")]
    Digest,
}

impl ImageRef {
    /// Registry host, `docker.io` by default.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Repository path within the registry, with `library/` where implied.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag, when given or defaulted by [`ImageRef::tag_default`].
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, when given.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Adds `:latest` when there is neither tag nor digest.
    #[must_use]
    pub fn tag_default(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some(DEFAULT_TAG.to_owned());
        }
        self
    }

    /// The same repository with another tag and no digest.
    ///
    /// # Errors
    /// When `tag` is not a tag.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ImageRefError> {
        if !is_tag(tag) {
            return Err(ImageRefError::Format);
        }
        Ok(Self { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// The same repository with a digest and no tag.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// `domain/path` in full.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The repository as people write it: without `docker.io/` and `library/`.
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.repository();
        }
        match self.path.strip_prefix("library/") {
            Some(rest) if !rest.contains('/') => rest.to_owned(),
            _ => self.path.clone(),
        }
    }

    /// The whole reference as people write it.
    pub fn familiar(&self) -> String {
        self.with_suffix(self.familiar_name())
    }

    fn with_suffix(&self, mut name: String) -> String {
        if let Some(tag) = &self.tag {
            name.push(':');
            name.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            name.push('@');
            name.push_str(digest.as_str());
        }
        name
    }
}

impl fmt::Display for ImageRef {
    /// The full form, `docker.io/library/debian:latest`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_suffix(self.repository()))
    }
}

impl FromStr for ImageRef {
    type Err = ImageRefError;

    fn from_str(s: &str) -> Result<Self, ImageRefError> {
        if s.len() == 64 && is_lower_hex(s) {
            return Err(ImageRefError::LooksLikeId(s.to_owned()));
        }
        let (rest, digest) = match s.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse().map_err(|_| ImageRefError::Digest)?)),
            None => (s, None),
        };
        let (name, tag) = match rest.rfind(':') {
            // A colon before the last slash belongs to the registry's port.
            Some(colon) if !rest[colon..].contains('/') => (&rest[..colon], Some(&rest[colon + 1..])),
            _ => (rest, None),
        };
        if let Some(tag) = tag
            && !is_tag(tag)
        {
            return Err(ImageRefError::Format);
        }
        let (domain, path) = split_domain(name);
        let path = if domain == DEFAULT_DOMAIN && !path.contains('/') {
            format!("{OFFICIAL_NAMESPACE}/{path}")
        } else {
            path.to_owned()
        };
        if !is_domain(domain) {
            return Err(ImageRefError::Format);
        }
        if path.bytes().any(|b| b.is_ascii_uppercase()) && is_path(&path.to_ascii_lowercase()) {
            return Err(ImageRefError::Uppercase(path));
        }
        if !is_path(&path) {
            return Err(ImageRefError::Format);
        }
        if domain.len() + 1 + path.len() > NAME_MAX {
            return Err(ImageRefError::TooLong);
        }
        Ok(Self { domain: domain.to_owned(), path, tag: tag.map(str::to_owned), digest })
    }
}

impl TryFrom<String> for ImageRef {
    type Error = ImageRefError;
    fn try_from(s: String) -> Result<Self, ImageRefError> {
        s.parse()
    }
}

impl From<ImageRef> for String {
    fn from(r: ImageRef) -> String {
        r.to_string()
    }
}

fn is_lower_hex(s: &str) -> bool {
    s.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// The first component is a registry when it could not be a repository's: it has a dot, a port, an
/// upper-case letter or is `localhost`.
fn split_domain(name: &str) -> (&str, &str) {
    let Some((first, rest)) = name.split_once('/') else {
        return (DEFAULT_DOMAIN, name);
    };
    let is_registry =
        first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|b| b.is_ascii_uppercase());
    match (is_registry, first) {
        (true, "index.docker.io") => (DEFAULT_DOMAIN, rest),
        (true, _) => (first, rest),
        (false, _) => (DEFAULT_DOMAIN, name),
    }
}

/// `host[:port]` where host is dotted labels or a bracketed IPv6 address.
fn is_domain(domain: &str) -> bool {
    if let Some(rest) = domain.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else { return false };
        let port_ok = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        let address_ok = !address.is_empty() && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
        return address_ok && port_ok;
    }
    let host = match domain.split_once(':') {
        Some((host, port)) if is_port(port) => host,
        Some(_) => return false,
        None => domain,
    };
    host.split('.').all(|label| {
        let edge_ok = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = label.as_bytes();
        edge_ok(bytes.first())
            && edge_ok(bytes.last())
            && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
    })
}

fn is_port(port: &str) -> bool {
    !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())
}

fn is_path(path: &str) -> bool {
    path.split('/').all(is_path_component)
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_path_component(component: &str) -> bool {
    let alnum = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let mut rest = component;
    loop {
        let after_word = rest.trim_start_matches(alnum);
        if after_word.len() == rest.len() {
            return false;
        }
        if after_word.is_empty() {
            return true;
        }
        let after_separator = after_word.trim_start_matches(|c: char| !alnum(c));
        let separator = &after_word[..after_word.len() - after_separator.len()];
        let separator_ok = matches!(separator, "." | "_" | "__") || separator.bytes().all(|b| b == b'-');
        if !separator_ok {
            return false;
        }
        rest = after_separator;
    }
}

/// `[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}`
fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= 128
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(s: &str) -> String {
        s.parse::<ImageRef>().unwrap().tag_default().to_string()
    }

    #[test]
    fn short_forms_are_completed() {
        assert_eq!(full("debian"), "docker.io/library/debian:latest");
        assert_eq!(full("a/b:1"), "docker.io/a/b:1");
        assert_eq!(full("localhost/b"), "localhost/b:latest");
        assert_eq!(full("127.0.0.1:5000/b:x"), "127.0.0.1:5000/b:x");
        assert_eq!(full("index.docker.io/debian"), "docker.io/library/debian:latest");
        assert_eq!(full("[::1]:5000/b"), "[::1]:5000/b:latest");
    }

    #[test]
    fn familiar_forms_drop_the_defaults() {
        let familiar = |s: &str| s.parse::<ImageRef>().unwrap().familiar();
        assert_eq!(familiar("docker.io/library/debian:12"), "debian:12");
        assert_eq!(familiar("docker.io/a/b"), "a/b");
        assert_eq!(familiar("host.example/library/debian"), "host.example/library/debian");
    }

    #[test]
    fn digests_are_kept_and_suppress_the_default_tag() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let r: ImageRef = format!("debian@{digest}").parse().unwrap();
        assert_eq!(r.digest().unwrap().as_str(), digest);
        assert_eq!(r.clone().tag_default(), r);
    }

    #[test]
    fn errors_are_dockers() {
        let error = |s: &str| s.parse::<ImageRef>().unwrap_err().to_string();
        assert_eq!(
            error("Debian"),
            "invalid reference format: repository name (library/Debian) must be lowercase"
        );
        assert!(error(&"a".repeat(64)).starts_with("invalid repository name"));
        for bad in ["", ":", "a:", "a:-x", "a//b", "a/", "/a", "-a", "a_-b", "a___b", "a@b", "a b", "a..b"] {
            assert_eq!(error(bad).split(':').next(), Some("invalid reference format"), "{bad}");
        }
        assert_eq!(error("a/".repeat(150).trim_end_matches('/')), ImageRefError::TooLong.to_string());
    }
}
