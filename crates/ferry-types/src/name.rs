//! Container names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A container's name, without the leading `/` that the API shows.
///
/// Docker's rule: `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerName(String);

/// Why a string is not a container name; the text is Docker's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Invalid container name ({0}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")]
pub struct NameError(pub String);

impl ContainerName {
    /// The name without a leading slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether `s` obeys Docker's rule for container, volume and network names.
pub fn is_restricted_name(s: &str) -> bool {
    let mut bytes = s.bytes();
    let first_ok = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric());
    first_ok && s.len() > 1 && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

impl FromStr for ContainerName {
    type Err = NameError;
    fn from_str(s: &str) -> Result<Self, NameError> {
        let bare = s.strip_prefix('/').unwrap_or(s);
        if is_restricted_name(bare) { Ok(Self(bare.to_owned())) } else { Err(NameError(s.to_owned())) }
    }
}

impl TryFrom<String> for ContainerName {
    type Error = NameError;
    fn try_from(s: String) -> Result<Self, NameError> {
        s.parse()
    }
}

impl From<ContainerName> for String {
    fn from(n: ContainerName) -> String {
        n.0
    }
}

impl fmt::Display for ContainerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leading_slash_is_dropped() {
        assert_eq!("/web".parse::<ContainerName>().unwrap().as_str(), "web");
    }

    #[test]
    fn docker_rule() {
        for good in ["ab", "a_b", "0.9", "a-"] {
            assert!(good.parse::<ContainerName>().is_ok(), "{good}");
        }
        for bad in ["", "a", "-a", "_a", "a b", "a/b", "é1", "//a"] {
            assert!(bad.parse::<ContainerName>().is_err(), "{bad}");
        }
    }
}
