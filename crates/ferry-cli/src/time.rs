//! Points in time: the engine's timestamps, what users type for `--since`, and what lists show.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// RFC 3339 as the engine sends it; `None` for Go's zero time and for anything unreadable.
pub fn parse(text: &str) -> Option<Timestamp> {
    let stamp: Timestamp = text.parse().ok()?;
    (stamp.as_second() > -62_135_596_800).then_some(stamp)
}

/// Seconds from `then` to now.
pub fn age(then: Timestamp) -> f64 {
    Timestamp::now().duration_since(then).as_secs_f64()
}

/// `3 hours ago`.
pub fn ago(then: Timestamp) -> String {
    format!("{} ago", crate::units::human_duration(age(then)))
}

/// `2026-11-20 14:03:00 +0000 UTC`, the form Go prints a time in.
pub fn go_style(stamp: Timestamp) -> String {
    let zoned = stamp.to_zoned(TimeZone::system());
    zoned.strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string()
}

/// As [`go_style`] with the fraction of the second, where there is one.
pub fn go_style_nanos(stamp: Timestamp) -> String {
    let zoned = stamp.to_zoned(TimeZone::system());
    zoned.strftime("%Y-%m-%d %H:%M:%S%.f %z %Z").to_string()
}

/// `2026-11-20T14:03:00Z` in the local zone.
pub fn rfc3339_local(stamp: Timestamp) -> String {
    let zoned = stamp.to_zoned(TimeZone::system());
    let text = zoned.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
    match text.strip_suffix("+00:00") {
        Some(utc) => format!("{utc}Z"),
        None => text,
    }
}

/// What `--since` and `--until` take (a duration back from now, a date, a date and time, a Unix
/// time) as the `SECONDS.NANOSECONDS` of the API. Anything else is passed on for the engine to refuse.
pub fn api_timestamp(text: &str) -> String {
    if let Ok(nanos) = crate::units::go_duration(text) {
        let now = Timestamp::now();
        if let Ok(then) = now.checked_sub(jiff::SignedDuration::from_nanos(nanos)) {
            return seconds(then);
        }
    }
    if let Ok(stamp) = text.parse::<Timestamp>() {
        return seconds(stamp);
    }
    let local = |format: &str| {
        DateTime::strptime(format, text)
            .ok()
            .and_then(|t| t.to_zoned(TimeZone::system()).ok())
            .map(|z| z.timestamp())
    };
    let formats = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H", "%Y-%m-%d"];
    for format in formats {
        let stamp = if format == "%Y-%m-%d" {
            jiff::civil::Date::strptime(format, text)
                .ok()
                .and_then(|d| d.to_zoned(TimeZone::system()).ok())
                .map(|z| z.timestamp())
        } else {
            local(format)
        };
        if let Some(stamp) = stamp {
            return seconds(stamp);
        }
    }
    text.to_owned()
}

/// As [`api_timestamp`], refusing what is neither a time nor a number the engine could take for one.
///
/// # Errors
/// Docker's text.
pub fn checked_timestamp(text: &str) -> Result<String, String> {
    let stamp = api_timestamp(text);
    let number = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    let bare = stamp.strip_prefix('-').unwrap_or(&stamp);
    let (whole, fraction) = bare.split_once('.').unwrap_or((bare, "0"));
    if number(whole) && number(fraction) {
        return Ok(stamp);
    }
    Err(format!("failed to parse value as time or duration: {}", crate::text::quote(text)))
}

fn seconds(stamp: Timestamp) -> String {
    format!("{}.{:09}", stamp.as_second(), stamp.subsec_nanosecond().unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_time_is_none() {
        assert!(parse("0001-01-01T00:00:00Z").is_none());
        assert!(parse("2026-01-01T00:00:00.5Z").is_some());
        assert!(parse("").is_none());
    }

    #[test]
    fn since_forms() {
        assert_eq!(api_timestamp("1136073600"), "1136073600");
        assert_eq!(api_timestamp("2006-01-02T15:04:05Z"), "1136214245.000000000");
        let ago: f64 = api_timestamp("10m").parse().unwrap();
        #[expect(clippy::cast_precision_loss, reason = "seconds")]
        let now = Timestamp::now().as_second() as f64;
        assert!((now - ago - 600.0).abs() < 5.0);
    }
}
