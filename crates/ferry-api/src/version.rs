//! API versions and the range served.

use std::fmt;
use std::str::FromStr;

/// An API version, `1.<minor>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiVersion(pub u16);

/// Oldest version served.
pub const MIN: ApiVersion = ApiVersion(24);
/// Newest version served, and the one of this crate's types.
pub const MAX: ApiVersion = ApiVersion(55);

/// Why a version is not served; the texts are Docker's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// Not `digits.digits`.
    #[error("invalid API version: {0}")]
    Format(String),
    /// Below [`MIN`].
    #[error(
        "client version {0} is too old. Minimum supported API version is {MIN}, \
         please upgrade your client to a newer version"
    )]
    TooOld(String),
    /// Above [`MAX`].
    #[error("client version {0} is too new. Maximum supported API version is {MAX}")]
    TooNew(String),
}

impl FromStr for ApiVersion {
    type Err = VersionError;

    /// Parses and checks the range: `1.24` … `1.55`.
    fn from_str(s: &str) -> Result<Self, VersionError> {
        // Docker compares the numbers one by one and takes any count of them.
        let number = |digits: &str| match !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
            true => digits.parse::<u16>().ok(),
            false => None,
        };
        let parsed: Option<Vec<u16>> = s.split('.').map(number).collect();
        match parsed.as_deref() {
            None => Err(VersionError::Format(s.to_owned())),
            Some(version) if *version < [1, MIN.0][..] => Err(VersionError::TooOld(s.to_owned())),
            Some(version) if *version > [1, MAX.0][..] => Err(VersionError::TooNew(s.to_owned())),
            Some(version) => Ok(Self(version.get(1).copied().unwrap_or_default())),
        }
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1.{}", self.0)
    }
}

impl Default for ApiVersion {
    fn default() -> Self {
        MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(s: &str) -> String {
        s.parse::<ApiVersion>().unwrap_err().to_string()
    }

    #[test]
    fn the_range_is_closed() {
        assert_eq!("1.24".parse(), Ok(MIN));
        assert_eq!("1.55".parse(), Ok(MAX));
        assert_eq!(
            error("1.23"),
            "client version 1.23 is too old. Minimum supported API version is 1.24, \
             please upgrade your client to a newer version"
        );
        assert_eq!(error("1.99"), "client version 1.99 is too new. Maximum supported API version is 1.55");
        assert!(error("2.0").contains("too new") && error("0.9").contains("too old"));
    }

    #[test]
    fn any_count_of_numbers_is_a_version() {
        assert_eq!("1.24.1".parse(), Ok(MIN));
        assert!(error("1").contains("too old") && error("1.023").contains("too old"));
        assert!(error("1.55.1").contains("too new"));
    }

    #[test]
    fn what_is_no_version_is_refused() {
        for bad in ["", "1.", ".24", "1.x", "v1.24", "+1.24", "1.99999999"] {
            assert!(matches!(bad.parse::<ApiVersion>(), Err(VersionError::Format(_))), "{bad}");
        }
    }
}
