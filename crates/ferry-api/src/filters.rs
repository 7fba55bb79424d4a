//! The `filters` query parameter: `{"key":{"value":true}}`, or `{"key":["value"]}` as of old.

use std::collections::{BTreeMap, BTreeSet};

use ferry_types::{Classify, ErrorKind};

use crate::json::Node;

/// Filter values by key, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters(BTreeMap<String, BTreeSet<String>>);

/// Why filters are refused; the texts are Docker's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// Neither of the two forms.
    #[error("invalid filter")]
    Malformed,
    /// A key the request does not know.
    #[error("invalid filter '{0}'")]
    UnknownKey(String),
    /// A value the key does not allow.
    #[error("invalid filter '{key}=[{}]'", values.join(" "))]
    Value {
        /// The key.
        key: String,
        /// All its values.
        values: Vec<String>,
    },
}

impl Classify for FilterError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidParameter
    }
}

impl Filters {
    /// Reads the parameter; an empty one has no filters.
    ///
    /// # Errors
    /// [`FilterError::Malformed`] when it is in neither form.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let members = match serde_json::from_str(text) {
            Ok(Node::Object(members)) => members,
            // As Go decodes it into a map.
            Ok(Node::Null) => return Ok(Self::default()),
            _ => return Err(FilterError::Malformed),
        };
        let mut filters = Self::default();
        for (key, values) in members {
            let set = filters.0.entry(key.into_owned()).or_default();
            match values {
                Node::Object(values) => {
                    for (value, on) in values {
                        match on {
                            Node::Bool(true) => set.insert(value.into_owned()),
                            Node::Bool(false) => false,
                            _ => return Err(FilterError::Malformed),
                        };
                    }
                }
                Node::Array(values) => {
                    for value in values {
                        let Node::String(value) = value else { return Err(FilterError::Malformed) };
                        set.insert(value.into_owned());
                    }
                }
                _ => return Err(FilterError::Malformed),
            }
        }
        Ok(filters)
    }

    /// The parameter's text, in the newer form.
    pub fn to_query(&self) -> String {
        let tree: BTreeMap<_, BTreeMap<_, bool>> =
            self.0.iter().map(|(k, vs)| (k, vs.iter().map(|v| (v, true)).collect())).collect();
        serde_json::to_string(&tree).unwrap_or_default()
    }

    /// Adds one value.
    pub fn add(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.0.entry(key.into()).or_default().insert(value.into());
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.values().all(BTreeSet::is_empty)
    }

    /// Whether `key` has values.
    pub fn has(&self, key: &str) -> bool {
        self.0.get(key).is_some_and(|values| !values.is_empty())
    }

    /// The values of `key`, sorted.
    pub fn get(&self, key: &str) -> impl Iterator<Item = &str> {
        self.0.get(key).into_iter().flatten().map(String::as_str)
    }

    /// Every key with its values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, impl Iterator<Item = &str>)> {
        self.0.iter().map(|(key, values)| (key.as_str(), values.iter().map(String::as_str)))
    }

    /// Refuses keys that are not among `known`.
    ///
    /// # Errors
    /// [`FilterError::UnknownKey`] for the first.
    pub fn allow(&self, known: &[&str]) -> Result<(), FilterError> {
        match self.0.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(FilterError::UnknownKey(key.clone())),
            None => Ok(()),
        }
    }

    /// A key of one boolean value.
    ///
    /// # Errors
    /// When it is neither true nor false, or both.
    pub fn bool(&self, key: &str) -> Result<Option<bool>, FilterError> {
        let values: Vec<&str> = self.get(key).collect();
        let truth = |v: &str| match v {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
            _ => None,
        };
        match values.as_slice() {
            [] => Ok(None),
            [one] if truth(one).is_some() => Ok(truth(one)),
            _ => {
                let values = values.into_iter().map(str::to_owned).collect();
                Err(FilterError::Value { key: key.to_owned(), values })
            }
        }
    }

    /// Whether `key` is absent or one of its values is exactly `value`.
    pub fn matches(&self, key: &str, value: &str) -> bool {
        self.0.get(key).is_none_or(|values| values.is_empty() || values.contains(value))
    }

    /// Whether every `name` or `name=value` of `key` is among `labels`.
    pub fn matches_labels<'a>(&self, key: &str, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.get(key).all(|wanted| match wanted.split_once('=') {
            Some((name, value)) => label(name) == Some(value),
            None => label(wanted).is_some(),
        })
    }
}

/// Whether a value of `name`, `id` and their like fits: Docker takes it for a regular expression that may match anywhere.
/// What is none matches only itself.
pub fn pattern_matches(pattern: &str, text: &str) -> bool {
    let plain = pattern.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'/' | b':'));
    if plain || pattern == text {
        return text.contains(pattern);
    }
    regex_lite::Regex::new(pattern).is_ok_and(|regex| regex.is_match(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let new = Filters::parse(r#"{"label":{"a=1":true,"b":true},"off":{"x":false}}"#).unwrap();
        let old = Filters::parse(r#"{"label":["a=1","b"]}"#).unwrap();
        assert_eq!(new.get("label").collect::<Vec<_>>(), old.get("label").collect::<Vec<_>>());
        assert!(!new.has("off") && new.allow(&["label"]).is_err());
        assert_eq!(old.to_query(), r#"{"label":{"a=1":true,"b":true}}"#);
        assert_eq!(Filters::parse(&new.to_query()), Ok(new));
    }

    #[test]
    fn other_forms_are_refused() {
        for bad in ["x", "[]", "1", r#"{"a":"b"}"#, r#"{"a":[1]}"#, r#"{"a":{"b":1}}"#] {
            assert_eq!(Filters::parse(bad), Err(FilterError::Malformed), "{bad}");
        }
        for empty in ["", "{}", "null"] {
            assert!(Filters::parse(empty).unwrap().is_empty(), "{empty}");
        }
    }

    #[test]
    fn booleans_and_unknown_keys() {
        let filters = Filters::parse(r#"{"dangling":["maybe"]}"#).unwrap();
        assert_eq!(filters.bool("dangling").unwrap_err().to_string(), "invalid filter 'dangling=[maybe]'");
        assert_eq!(filters.allow(&["label"]).unwrap_err().to_string(), "invalid filter 'dangling'");
        assert_eq!(Filters::parse(r#"{"dangling":["true"]}"#).unwrap().bool("dangling"), Ok(Some(true)));
    }

    #[test]
    fn patterns_match_anywhere_unless_anchored() {
        for (pattern, text) in [
            ("we", "web"),
            ("^we", "web"),
            ("^w.b$", "web"),
            ("a|eb$", "web"),
            ("[", "["),
            ("^web-[0-9]+$", "web-12"),
        ] {
            assert!(pattern_matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("^eb", "web"), ("^we$", "web"), ("[", "web"), ("w.c", "web")] {
            assert!(!pattern_matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn labels_must_all_match() {
        let filters = Filters::parse(r#"{"label":["a=1","b"]}"#).unwrap();
        let labels = |b: bool| {
            move |name: &str| match name {
                "a" => Some("1"),
                "b" if b => Some(""),
                _ => None,
            }
        };
        assert!(filters.matches_labels("label", labels(true)));
        assert!(!filters.matches_labels("label", labels(false)));
    }
}
