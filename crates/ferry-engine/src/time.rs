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

/// An instant as `logs` takes it: unix seconds with an optional fraction of which nine digits count, as Docker, or RFC 3339.
/// What lies beyond the range is its end.
pub(crate) fn parse_log_instant(field: &str, text: &str) -> Result<i64> {
    let invalid = |what: &str, part: &str| {
        EngineError::InvalidParameter(format!(
            "invalid value for \"{field}\": invalid timestamp {text:?}: invalid {what} {part:?}: invalid syntax"
        ))
    };
    if let Ok(t) = text.parse::<Timestamp>() {
        return Ok(i64::try_from(t.as_nanosecond()).unwrap_or(i64::MAX));
    }
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = seconds.parse().map_err(|_| invalid("seconds", seconds))?;
    if fraction.len() > 20 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return Err(invalid("nanoseconds", fraction));
    }
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanos = digits.parse().unwrap_or(0);
    Ok(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

/// A span as Go writes it: `1m30s`, `1.5s`, `20ms`.
pub(crate) fn go_duration(span: std::time::Duration) -> String {
    let nanos = span.as_nanos();
    let decimal = |unit: u128| {
        let (whole, rest) = (nanos / unit, nanos % unit);
        let digits = unit.to_string().len() - 1;
        let fraction = format!("{rest:0digits$}");
        match fraction.trim_end_matches('0') {
            "" => whole.to_string(),
            fraction => format!("{whole}.{fraction}"),
        }
    };
    match nanos {
        0 => "0s".to_owned(),
        n if n < 1_000 => format!("{n}ns"),
        n if n < 1_000_000 => format!("{}\u{b5}s", decimal(1_000)),
        n if n < 1_000_000_000 => format!("{}ms", decimal(1_000_000)),
        _ => {
            let seconds = span.as_secs();
            let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
            let rest = std::time::Duration::new(seconds % 60, span.subsec_nanos());
            let rest_nanos = rest.as_nanos();
            let fraction = format!("{:09}", rest_nanos % 1_000_000_000);
            let fraction = fraction.trim_end_matches('0');
            let dot = if fraction.is_empty() { "" } else { "." };
            let seconds = format!("{}{dot}{fraction}s", rest_nanos / 1_000_000_000);
            match (hours, minutes) {
                (0, 0) => seconds,
                (0, m) => format!("{m}m{seconds}"),
                (h, m) => format!("{h}h{m}m{seconds}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_as_gos() {
        use std::time::Duration;
        let text = |ms| go_duration(Duration::from_millis(ms));
        assert_eq!(text(0), "0s");
        assert_eq!(text(20), "20ms");
        assert_eq!(text(1000), "1s");
        assert_eq!(text(1500), "1.5s");
        assert_eq!(text(90_000), "1m30s");
        assert_eq!(text(3_600_000), "1h0m0s");
        assert_eq!(go_duration(Duration::from_nanos(1_500)), "1.5\u{b5}s");
    }

    #[test]
    fn instants_of_logs() {
        let of = |text| parse_log_instant("since", text);
        assert_eq!(of("1.5").unwrap(), 1_500_000_000);
        assert_eq!(of("1.12345678999").unwrap(), 1_123_456_789);
        assert_eq!(of("-5").unwrap(), -5_000_000_000);
        assert_eq!(of("9999999999").unwrap(), i64::MAX);
        assert_eq!(of("1970-01-01T00:00:02Z").unwrap(), 2_000_000_000);
        assert_eq!(
            of("bad").unwrap_err().to_string(),
            "invalid value for \"since\": invalid timestamp \"bad\": invalid seconds \"bad\": invalid syntax"
        );
        assert!(of("1.x").is_err() && of("").is_err());
    }

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
