//! Query parameters, read as Docker's daemon reads them.

use ferry_api::Filters;
use ferry_api::image::Platform;

use crate::error::{HttpError, Result};

/// The decoded parameters of a request, in order.
#[derive(Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(text: Option<&str>) -> Self {
        Self(form_urlencoded::parse(text.unwrap_or_default().as_bytes()).into_owned().collect())
    }

    /// Refuses what Go's parser refuses: separators of old and broken escapes.
    pub(crate) fn check(text: &str) -> Result<()> {
        for piece in text.split('&') {
            if piece.contains(';') {
                return Err(HttpError::invalid("invalid semicolon separator in query"));
            }
            let mut rest = piece.as_bytes();
            while let Some(at) = rest.iter().position(|b| *b == b'%') {
                rest = &rest[at..];
                if !matches!(rest, [_, a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit()) {
                    let shown = String::from_utf8_lossy(&rest[..rest.len().min(3)]);
                    return Err(HttpError::invalid(format!("invalid URL escape {shown:?}")));
                }
                rest = &rest[3..];
            }
        }
        Ok(())
    }

    /// The first value, empty when absent.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }

    /// The first value, `None` when absent or empty.
    pub(crate) fn some(&self, name: &str) -> Option<&str> {
        Some(self.get(name)).filter(|value| !value.is_empty())
    }

    /// The first value, owned, `None` when absent or empty.
    pub(crate) fn owned(&self, name: &str) -> Option<String> {
        self.some(name).map(str::to_owned)
    }

    /// Every value.
    pub(crate) fn all(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(n, _)| n == name).map(|(_, value)| value.clone()).collect()
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(n, _)| n == name)
    }

    /// False when absent, empty, `0`, `no`, `false` or `none`; true for anything else.
    pub(crate) fn bool(&self, name: &str) -> bool {
        let value = self.get(name).trim().to_ascii_lowercase();
        !matches!(value.as_str(), "" | "0" | "no" | "false" | "none")
    }

    /// As [`Query::bool`], with a default for an absent parameter.
    pub(crate) fn bool_or(&self, name: &str, default: bool) -> bool {
        if self.has(name) { self.bool(name) } else { default }
    }

    /// A decimal number, `None` when absent or empty.
    pub(crate) fn int(&self, name: &str) -> Result<Option<i64>> {
        let Some(text) = self.some(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|e: std::num::ParseIntError| {
            HttpError::invalid(format!("strconv.Atoi: parsing {text:?}: {}", go_reason(&e)))
        })
    }

    /// A terminal dimension, which must be there.
    pub(crate) fn dimension(&self, name: &str, what: &str) -> Result<u16> {
        let text = self.get(name);
        let refuse = |why| Err(HttpError::invalid(format!("invalid resize {what} {text:?}: {why}")));
        if text.starts_with('+') {
            return refuse("invalid syntax");
        }
        match text.parse::<i64>() {
            Ok(number) => u16::try_from(number).or_else(|_| refuse("value out of range")),
            Err(e) => refuse(go_reason(&e)),
        }
    }

    /// Go's reading of a boolean, `None` when absent or empty.
    pub(crate) fn strict_bool(&self, name: &str) -> Result<Option<bool>> {
        match self.get(name) {
            "" => Ok(None),
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Some(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Some(false)),
            other => Err(HttpError::invalid(format!(
                "invalid value for {name}: {other}: strconv.ParseBool: parsing {other:?}: invalid syntax"
            ))),
        }
    }

    /// The `platform` parameter of image endpoints, which is JSON.
    pub(crate) fn platform(&self) -> Result<Option<Platform>> {
        self.some("platform").map(parse_platform).transpose()
    }

    /// All values of the `platforms` parameter, each of them JSON.
    pub(crate) fn platforms(&self) -> Result<Vec<Platform>> {
        self.all("platforms").iter().map(|text| parse_platform(text)).collect()
    }

    /// The `filters` parameter.
    pub(crate) fn filters(&self) -> Result<Filters> {
        Ok(Filters::parse(self.get("filters"))?)
    }
}

/// A platform of image endpoints, in JSON.
fn parse_platform(text: &str) -> Result<Platform> {
    ferry_api::json::from_slice(text.as_bytes()).map_err(|e| {
        let reason = e.to_string();
        let reason = reason.strip_prefix("invalid JSON: ").unwrap_or(&reason);
        HttpError::invalid(format!("failed to parse platform: {reason}"))
    })
}

fn go_reason(error: &std::num::ParseIntError) -> &'static str {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    match error.kind() {
        PosOverflow | NegOverflow => "value out of range",
        _ => "invalid syntax",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        Query::parse(Some(text))
    }

    #[test]
    fn booleans_follow_docker() {
        for no in ["x=", "x=0", "x=no", "x=False", "x=none", "y=1", "x=+"] {
            assert!(!query(no).bool("x"), "{no}");
        }
        for yes in ["x=1", "x=true", "x=yes", "x=2", "x=banana"] {
            assert!(query(yes).bool("x"), "{yes}");
        }
        assert!(query("").bool_or("x", true) && !query("x").bool_or("x", true));
    }

    #[test]
    fn numbers_are_refused_in_gos_words() {
        assert_eq!(query("t=-1").int("t").unwrap(), Some(-1));
        assert_eq!(query("t=").int("t").unwrap(), None);
        let message = query("t=abc").int("t").unwrap_err().message;
        assert_eq!(message, "strconv.Atoi: parsing \"abc\": invalid syntax");
    }

    #[test]
    fn dimensions_must_be_there_and_fit() {
        let message = |text: &str| query(text).dimension("h", "height").unwrap_err().message;
        assert_eq!(message(""), "invalid resize height \"\": invalid syntax");
        assert_eq!(message("h=-1"), "invalid resize height \"-1\": value out of range");
        assert_eq!(message("h=70000"), "invalid resize height \"70000\": value out of range");
        assert_eq!(query("h=24").dimension("h", "height").unwrap(), 24);
    }

    #[test]
    fn broken_queries_are_refused_in_gos_words() {
        let message = |text| Query::check(text).unwrap_err().message;
        assert_eq!(message("a=%zz&all=1"), "invalid URL escape \"%zz\"");
        assert_eq!(message("a=1&b=%2"), "invalid URL escape \"%2\"");
        assert_eq!(message("a;b"), "invalid semicolon separator in query");
        for good in ["", "a", "a=%20%C3%A9", "a=b=c&&"] {
            assert_eq!(Query::check(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn values_are_decoded() {
        let q = query("changes=ENV+a%3Db&changes=CMD%20x");
        assert_eq!(q.all("changes"), ["ENV a=b", "CMD x"]);
    }
}
