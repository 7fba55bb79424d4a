//! Sizes, durations and ages as Docker writes and reads them.

const DECIMAL: [&str; 9] = ["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];
const BINARY: [&str; 9] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"];

fn scaled(size: f64, base: f64, units: &[&'static str]) -> (f64, &'static str) {
    let mut value = size;
    let mut unit = 0;
    while value >= base && unit < units.len() - 1 {
        value /= base;
        unit += 1;
    }
    (value, units[unit])
}

/// C's `%.{digits}g` for the magnitudes sizes have.
fn significant(value: f64, digits: usize) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    #[expect(clippy::cast_possible_truncation, reason = "a decimal exponent is small")]
    let magnitude = value.abs().log10().floor() as i32;
    let decimals = usize::try_from(i32::try_from(digits).unwrap_or(4) - 1 - magnitude).unwrap_or(0);
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Decimal size with `digits` significant digits: `1.23GB`.
pub fn human_size_digits(bytes: f64, digits: usize) -> String {
    let (value, unit) = scaled(bytes, 1000.0, &DECIMAL);
    format!("{}{unit}", significant(value, digits))
}

/// Decimal size: `12.34MB`.
pub fn human_size(bytes: f64) -> String {
    human_size_digits(bytes, 4)
}

/// Binary size: `1.5GiB`.
pub fn bytes_size(bytes: f64) -> String {
    let (value, unit) = scaled(bytes, 1024.0, &BINARY);
    format!("{}{unit}", significant(value, 4))
}

/// A rough duration in words: `About an hour`, `3 weeks`.
pub fn human_duration(seconds: f64) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "durations of containers fit")]
    let (secs, hours) = (seconds as i64, (seconds / 3600.0 + 0.5) as i64);
    let minutes = secs / 60;
    match () {
        () if secs < 1 => "Less than a second".to_owned(),
        () if secs == 1 => "1 second".to_owned(),
        () if secs < 60 => format!("{secs} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 14 => format!("{} days", hours / 24),
        () if hours < 24 * 60 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", secs / 3600 / 24 / 365),
    }
}

/// Bytes from `512m`, `1.5GiB`, `2GB` (all powers of 1024).
///
/// # Errors
/// Docker's text for a malformed size.
pub fn ram_in_bytes(text: &str) -> Result<i64, String> {
    let bad_size = || format!("invalid size: '{text}'");
    let split = text.rfind(|c: char| c.is_ascii_digit() || c == '.').map_or(0, |at| at + 1);
    if split == 0 {
        return Err(bad_size());
    }
    let (mut number, mut suffix) = (&text[..split], &text[split..]);
    if suffix.starts_with(' ') {
        suffix = &suffix[1..];
    } else if number.ends_with(' ') {
        number = &number[..number.len() - 1];
    }
    let value: f64 = number.parse().map_err(|_| bad_size())?;
    if value < 0.0 || !value.is_finite() {
        return Err(bad_size());
    }
    let lower = suffix.to_ascii_lowercase();
    let bad_suffix = || format!("invalid suffix: '{lower}'");
    let multiplier = match lower.as_bytes() {
        [] | [b'b'] => 1.0,
        [unit] | [unit, b'b'] | [unit, b'i', b'b'] => {
            let power = b"kmgtp".iter().position(|u| u == unit).ok_or_else(bad_suffix)?;
            1024_f64.powi(i32::try_from(power).unwrap_or(0) + 1)
        }
        _ => return Err(bad_suffix()),
    };
    #[expect(clippy::cast_possible_truncation, reason = "saturates at the largest size there is")]
    Ok((value * multiplier) as i64)
}

/// Go's notation of a duration in nanoseconds: `1h0m5s`, `1.5s`, `20ms`.
pub fn shown_duration(nanos: i64) -> String {
    let magnitude = nanos.unsigned_abs();
    let sign = if nanos < 0 { "-" } else { "" };
    let fraction = |value: u64, unit: u64| {
        let rest = value % unit;
        if rest == 0 {
            return (value / unit).to_string();
        }
        let digits = unit.to_string().len() - 1;
        format!("{}.{}", value / unit, format!("{rest:0digits$}").trim_end_matches('0'))
    };
    let text = match magnitude {
        0 => return "0s".to_owned(),
        1..1_000 => format!("{magnitude}ns"),
        1_000..1_000_000 => format!("{}µs", fraction(magnitude, 1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", fraction(magnitude, 1_000_000)),
        _ => {
            let minutes = magnitude / 60_000_000_000;
            let seconds = format!("{}s", fraction(magnitude % 60_000_000_000, 1_000_000_000));
            match (minutes / 60, minutes % 60) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    };
    format!("{sign}{text}")
}

/// Nanoseconds from Go's duration notation: `1h2m3.5s`, `300ms`, `-1s`, `0`.
///
/// # Errors
/// Go's text for a malformed duration.
pub fn go_duration(text: &str) -> Result<i64, String> {
    let quoted = crate::text::quote(text);
    let bad = || format!("time: invalid duration {quoted}");
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(bad());
    }
    let mut total = 0_f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let value: f64 = rest[..digits].parse().map_err(|_| bad())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "" => return Err(format!("time: missing unit in duration {quoted}")),
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            other => {
                let other = crate::text::quote(other);
                return Err(format!("time: unknown unit {other} in duration {quoted}"));
            }
        };
        total += value * unit;
        rest = &rest[letters..];
    }
    #[expect(clippy::cast_precision_loss, reason = "only the bound matters")]
    if total > i64::MAX as f64 {
        return Err(bad());
    }
    #[expect(clippy::cast_possible_truncation, reason = "checked above")]
    let nanos = total.round() as i64;
    Ok(if negative { -nanos } else { nanos })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_docker_writes_them() {
        for (bytes, want) in [(0.0, "0B"), (1000.0, "1kB"), (1024.0, "1.024kB"), (116_000_000.0, "116MB")] {
            assert_eq!(human_size(bytes), want);
        }
        assert_eq!(human_size_digits(4_420_000.0, 3), "4.42MB");
        assert_eq!(human_size_digits(999.0, 3), "999B");
        assert_eq!(human_size_digits(124_456_789.0, 3), "124MB");
        assert_eq!(bytes_size(1024.0 * 1.5), "1.5KiB");
        assert_eq!(bytes_size(456_789.0), "446.1KiB");
        assert_eq!(bytes_size(25_240_000_000.0), "23.51GiB");
    }

    #[test]
    fn durations_in_words() {
        for (secs, want) in [
            (0.4, "Less than a second"),
            (1.2, "1 second"),
            (59.0, "59 seconds"),
            (61.0, "About a minute"),
            (150.0, "2 minutes"),
            (3600.0, "About an hour"),
            (5400.0, "2 hours"),
            (86_400.0 * 3.0, "3 days"),
            (86_400.0 * 20.0, "2 weeks"),
            (86_400.0 * 90.0, "3 months"),
            (86_400.0 * 365.0 * 3.0, "3 years"),
        ] {
            assert_eq!(human_duration(secs), want, "{secs}");
        }
    }

    #[test]
    fn sizes_read() {
        for (text, want) in
            [("32", 32), ("32b", 32), ("32k", 32 << 10), ("32KiB", 32 << 10), ("1.5g", 3 << 29)]
        {
            assert_eq!(ram_in_bytes(text).unwrap(), want, "{text}");
        }
        assert_eq!(ram_in_bytes("5q").unwrap_err(), "invalid suffix: 'q'");
        assert_eq!(ram_in_bytes("x").unwrap_err(), "invalid size: 'x'");
        assert!(ram_in_bytes("-1").is_err());
        assert!(ram_in_bytes("").is_err());
    }

    #[test]
    fn go_durations() {
        for (nanos, text) in [
            (0, "0s"),
            (1_500, "1.5µs"),
            (20_000_000, "20ms"),
            (1_500_000_000, "1.5s"),
            (3_605_000_000_000, "1h0m5s"),
            (-60_000_000_000, "-1m0s"),
        ] {
            assert_eq!(shown_duration(nanos), text);
        }
        assert_eq!(go_duration("1h2m3.5s").unwrap(), 3_723_500_000_000);
        assert_eq!(go_duration("300ms").unwrap(), 300_000_000);
        assert_eq!(go_duration("10").unwrap_err(), "time: missing unit in duration \"10\"");
        assert_eq!(go_duration("1x").unwrap_err(), "time: unknown unit \"x\" in duration \"1x\"");
        assert_eq!(go_duration("x").unwrap_err(), "time: invalid duration \"x\"");
    }
}
