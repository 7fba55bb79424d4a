//! Docker's notations of time.

use jiff::Timestamp;

use crate::error::{EngineError, Result};

/// Now, in nanoseconds since the epoch.
pub(crate) fn now_nanos() -> i64 {
    i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

/// An instant as the API's `since` and `until` give it: unix seconds with an optional fraction, or RFC 3339.
pub(crate) fn parse_instant(field: &str, text: &str) -> Result<i64> {
    let invalid = || {
        EngineError::InvalidParameter(format!(
            "invalid value for {field}: failed to parse value as time or duration: {text:?}"
        ))
    };
    if let Ok(t) = text.parse::<Timestamp>() {
        return i64::try_from(t.as_nanosecond()).map_err(|_| invalid());
    }
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = seconds.parse().map_err(|_| invalid())?;
    if fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return Err(invalid());
    }
    let nanos: i64 = format!("{fraction:0<9}").parse().map_err(|_| invalid())?;
    seconds.checked_mul(1_000_000_000).and_then(|s| s.checked_add(nanos)).ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_in_both_notations() {
        assert_eq!(parse_instant("since", "1.5").unwrap(), 1_500_000_000);
        assert_eq!(parse_instant("since", "0").unwrap(), 0);
        assert_eq!(parse_instant("since", "1970-01-01T00:00:02Z").unwrap(), 2_000_000_000);
        for bad in ["", "x", "1.x", "1.1234567890", "9999999999999999"] {
            assert!(parse_instant("since", bad).is_err(), "{bad}");
        }
    }
}
