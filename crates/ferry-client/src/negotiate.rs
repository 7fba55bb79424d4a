//! The API version spoken with an engine.
//!
//! Docker's client asks `/_ping` first and then uses the lower of both sides' versions. Here the first
//! request is sent with the client's own version at once: an engine that knows it (every one at least
//! as new as the client) answers it, an older one refuses it before doing anything, and only then is
//! the ping spent. The version in use is the same either way.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// The newest API version this client speaks.
pub const CLIENT_API_VERSION: ApiVersion = ApiVersion { major: 1, minor: 51 };

/// `MAJOR.MINOR`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion {
    /// Always 1 so far.
    pub major: u16,
    /// Second part.
    pub minor: u16,
}

impl FromStr for ApiVersion {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self, Error> {
        let parts = s.strip_prefix('v').unwrap_or(s).split_once('.');
        let parsed = parts.and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        let (major, minor) = parsed.ok_or_else(|| Error::Version(s.to_owned()))?;
        Ok(Self { major, minor })
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// How far negotiation has come.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Negotiation {
    /// The user fixed the version.
    Fixed(ApiVersion),
    /// No answer yet: the client's own version is assumed.
    Assumed,
    /// Agreed with the engine.
    Agreed(ApiVersion),
}

impl Negotiation {
    pub(crate) fn version(self) -> ApiVersion {
        match self {
            Self::Fixed(v) | Self::Agreed(v) => v,
            Self::Assumed => CLIENT_API_VERSION,
        }
    }

    /// Takes note of the version the engine says it speaks.
    pub(crate) fn learn(&mut self, server: ApiVersion) {
        if matches!(self, Self::Assumed) {
            *self = Self::Agreed(server.min(CLIENT_API_VERSION));
        }
    }
}

/// Whether an error message says that the engine is older than the request's version: the wording of
/// engines since 1.13 and of those before.
pub(crate) fn says_too_new(message: &str) -> bool {
    message.contains("is too new") || message.contains("client is newer than server")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lower_version_wins() {
        let mut n = Negotiation::Assumed;
        n.learn("1.41".parse().unwrap());
        assert_eq!(n.version().to_string(), "1.41");
        n.learn("1.99".parse().unwrap());
        assert_eq!(n.version().to_string(), "1.41", "the first answer counts");
        let mut newer = Negotiation::Assumed;
        newer.learn("1.99".parse().unwrap());
        assert_eq!(newer.version(), CLIENT_API_VERSION);
        let mut fixed = Negotiation::Fixed("1.30".parse().unwrap());
        fixed.learn("1.24".parse().unwrap());
        assert_eq!(fixed.version().to_string(), "1.30");
    }

    #[test]
    fn minor_is_a_number() {
        assert!("1.9".parse::<ApiVersion>().unwrap() < "1.24".parse::<ApiVersion>().unwrap());
        assert!("1".parse::<ApiVersion>().is_err());
    }
}
