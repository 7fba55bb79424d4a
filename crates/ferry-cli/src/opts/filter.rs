//! `--filter`.

use std::collections::BTreeMap;

/// Checks one value: `name=value`.
///
/// # Errors
/// Docker's text when there is no `=`.
pub fn check(value: &str) -> Result<String, String> {
    if value.contains('=') {
        Ok(value.to_owned())
    } else {
        Err("bad format of filter (expected name=value)".to_owned())
    }
}

/// The `filters` parameter: `{"name":{"value":true}}`, empty when there are none.
pub fn parameter(filters: &[String]) -> String {
    let mut all: BTreeMap<String, BTreeMap<&str, bool>> = BTreeMap::new();
    for filter in filters {
        if let Some((name, value)) = filter.split_once('=') {
            all.entry(name.trim().to_ascii_lowercase()).or_default().insert(value.trim(), true);
        }
    }
    if all.is_empty() { String::new() } else { serde_json::json!(all).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_a_name_gather() {
        let filters = ["label=a=b".to_owned(), "Status=exited".to_owned(), "status=dead".to_owned()];
        assert_eq!(parameter(&filters), r#"{"label":{"a=b":true},"status":{"dead":true,"exited":true}}"#);
        assert_eq!(parameter(&[]), "");
        assert!(check("x").is_err());
    }
}
