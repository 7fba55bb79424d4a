//! Container and exec ids: 64 lower-case hexadecimal digits, as Docker's.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Number of hex digits of a full id.
pub const FULL_LEN: usize = 64;
/// Number of hex digits people see.
pub const SHORT_LEN: usize = 12;

/// Why a string is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid id {0:?}: want 64 lower-case hexadecimal digits")]
pub struct IdError(pub String);

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// A new random id (256 bits from the kernel).
            ///
            /// # Panics
            /// When the kernel has no random source, which no supported kernel lacks.
            pub fn random() -> Self {
                let mut bytes = [0_u8; FULL_LEN / 2];
                loop {
                    getrandom::fill(&mut bytes).expect("getrandom(2) works on every supported kernel");
                    let id = hex::encode(bytes);
                    // As Docker: an all-digit short id would be taken for a number by host tools.
                    if id[..SHORT_LEN].bytes().any(|b| b.is_ascii_alphabetic()) {
                        return Self(id);
                    }
                }
            }

            /// All 64 digits.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The first twelve digits, the form shown to people.
            pub fn short(&self) -> &str {
                &self.0[..SHORT_LEN]
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(s: &str) -> Result<Self, IdError> {
                let valid = s.len() == FULL_LEN
                    && s.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
                if valid { Ok(Self(s.to_owned())) } else { Err(IdError(s.to_owned())) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(s: String) -> Result<Self, IdError> {
                s.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.short())
            }
        }
    };
}

hex_id!(
    /// Identifies a container for its whole life.
    ContainerId
);
hex_id!(
    /// Identifies one command run in a container by `exec`.
    ExecId
);
hex_id!(
    /// Identifies a network.
    NetworkId
);
hex_id!(
    /// Identifies one container's membership in one network, for one run of the container.
    EndpointId
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_ids_parse_and_differ() {
        let (a, b) = (ContainerId::random(), ContainerId::random());
        assert_ne!(a, b);
        assert_eq!(a.as_str().parse::<ContainerId>().unwrap(), a);
        assert_eq!(a.short().len(), 12);
    }

    #[test]
    fn malformed_ids_are_refused() {
        for bad in ["", "abc", &"A".repeat(64), &"g".repeat(64), &"a".repeat(65)] {
            assert!(bad.parse::<ContainerId>().is_err(), "{bad}");
        }
    }
}
