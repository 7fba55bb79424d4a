//! Small text helpers that follow Go's notation, which users see in messages.

use std::io;

/// A string in double quotes as Go's `%q` writes it.
pub fn quote(s: &str) -> String {
    let mut out = String::with_capacity(s.len() + 2);
    out.push('"');
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// An I/O error's text in lower case and without Rust's `(os error N)`.
pub fn io_reason(e: &io::Error) -> String {
    let text = e.to_string();
    let text = match text.rfind(" (os error ") {
        Some(at) => &text[..at],
        None => &text,
    };
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
}

/// `open PATH: reason`, as Go reports a failed open.
pub fn open_error(path: &str, e: &io::Error) -> String {
    format!("open {path}: {}", io_reason(e))
}

/// At most `max` characters, the last being an ellipsis when something was cut.
pub fn ellipsis(s: &str, max: usize) -> String {
    if s.chars().count() <= max {
        return s.to_owned();
    }
    match max {
        0 => String::new(),
        1 => "…".to_owned(),
        _ => s.chars().take(max - 1).chain(std::iter::once('…')).collect(),
    }
}

/// The twelve digits of an id people see, without the algorithm.
pub fn short_id(id: &str) -> &str {
    let bare = id.split_once(':').map_or(id, |(_, hex)| hex);
    bare.get(..12).unwrap_or(bare)
}

/// Go's `strconv.ParseBool`.
///
/// # Errors
/// Go's text for anything else.
pub fn parse_bool(s: &str) -> Result<bool, String> {
    match s {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {}: invalid syntax", quote(s))),
    }
}

/// Go's `strconv.ParseInt` for decimal numbers.
///
/// # Errors
/// Go's text for anything that is not a number, or does not fit.
pub fn parse_int(s: &str) -> Result<i64, String> {
    s.parse().map_err(|e: std::num::ParseIntError| {
        use std::num::IntErrorKind as K;
        let reason = match e.kind() {
            K::PosOverflow | K::NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        format!("strconv.ParseInt: parsing {}: {reason}", quote(s))
    })
}

/// Go's `strconv.ParseUint` for 16 bits.
///
/// # Errors
/// As [`parse_int`].
pub fn parse_uint16(s: &str) -> Result<u16, String> {
    s.parse().map_err(|_| {
        let reason = if s.parse::<u64>().is_ok() { "value out of range" } else { "invalid syntax" };
        format!("strconv.ParseUint: parsing {}: {reason}", quote(s))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_notation() {
        assert_eq!(quote("a\"b\\\n\u{1}"), r#""a\"b\\\n\x01""#);
        assert_eq!(ellipsis("abcdef", 4), "abc…");
        assert_eq!(ellipsis("abcd", 4), "abcd");
        assert_eq!(short_id("sha256:0123456789abcdef"), "0123456789ab");
        assert_eq!(parse_bool("x").unwrap_err(), "strconv.ParseBool: parsing \"x\": invalid syntax");
        assert!(parse_int("9223372036854775808").unwrap_err().ends_with("value out of range"));
        assert_eq!(io_reason(&io::Error::from_raw_os_error(2)), "no such file or directory");
    }
}
