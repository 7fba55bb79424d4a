//! JSON as Go's `encoding/json` reads and writes it.
//!
//! Clients of Docker were all written against that decoder: they send field names in any case, null
//! for absent, and members nobody knows. [`from_slice`] accepts the same and refuses the rest in the
//! same words; [`to_vec`] writes what Go would. The types of this crate are derived with serde and
//! marked `#[serde(default)]`; nothing is written by hand per type.

mod de;
mod error;
mod node;
mod types;

pub use error::JsonError;
pub use types::{Empty, List, Map, Time};
pub(crate) use types::{console_size, is_empty_list, is_empty_map, is_zero, str_list};

pub(crate) use node::Node;

/// Decodes one JSON value, leniently (see the module).
///
/// # Errors
/// [`JsonError::Empty`] for a body without a value, otherwise what is wrong and where.
pub fn from_slice<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, JsonError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(JsonError::Empty);
    }
    let node: Node<'_> = serde_json::from_slice(body).map_err(|e| JsonError::syntax(body, &e))?;
    from_node(&node)
}

/// Decodes a parsed value; several types may be read from one value (see [`embed`]).
pub(crate) fn from_node<T: serde::de::DeserializeOwned>(node: &Node<'_>) -> Result<T, JsonError> {
    T::deserialize(node)
}

/// Encodes one value followed by a newline, as Go's `Encoder` does.
///
/// # Errors
/// Never for this crate's types: none has a map key that is not a string.
pub fn to_vec<T: serde::Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, serde_json::Error> {
    let mut body = serde_json::to_vec(value)?;
    body.push(b'\n');
    Ok(body)
}

/// Go's struct embedding: the members of field `$inner` are members of the outer object.
///
/// The outer type derives with `#[serde(remote = "Self")]` and marks the field
/// `#[serde(flatten, skip_deserializing)]`; each part then reads its own members from the one object.
macro_rules! embed {
    ($outer:ident, $inner:ident) => {
        impl serde::Serialize for $outer {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                $outer::serialize(self, s)
            }
        }

        impl<'de> serde::Deserialize<'de> for $outer {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let node = <$crate::json::Node<'de> as serde::Deserialize>::deserialize(d)?;
                let mut outer = $outer::deserialize(&node).map_err(serde::de::Error::custom)?;
                outer.$inner = serde::Deserialize::deserialize(&node).map_err(serde::de::Error::custom)?;
                Ok(outer)
            }
        }
    };
}
pub(crate) use embed;

#[cfg(test)]
mod tests {
    use super::*;
    use serde::{Deserialize, Serialize};

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(default, rename_all = "PascalCase")]
    struct Inner {
        image: String,
        count: i64,
        on: bool,
        maybe: Option<i64>,
        #[serde(deserialize_with = "str_list")]
        cmd: List<String>,
        labels: Map<String>,
    }

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(default, rename_all = "PascalCase", remote = "Self")]
    struct Outer {
        nested: Option<Inner>,
        #[serde(flatten, skip_deserializing)]
        inner: Inner,
    }
    embed!(Outer, inner);

    fn error<T: serde::de::DeserializeOwned + std::fmt::Debug>(body: &str) -> String {
        from_slice::<T>(body.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn names_fold_nulls_vanish_and_unknown_members_are_ignored() {
        let body = br#"{"iMaGe":"a","IMAGE":"b","count":null,"x":[{"y":1}],"MAYBE":3,"labels":null}"#;
        let inner: Inner = from_slice(body).unwrap();
        assert_eq!(inner, Inner { image: "b".into(), maybe: Some(3), ..Inner::default() });
        assert!(inner.labels.is_null());
    }

    #[test]
    fn null_and_empty_lists_stay_apart() {
        let text =
            |body: &[u8]| String::from_utf8(to_vec(&from_slice::<Inner>(body).unwrap()).unwrap()).unwrap();
        assert!(text(br#"{"Cmd":[],"Labels":{}}"#).ends_with("\"Cmd\":[],\"Labels\":{}}\n"));
        assert!(text(b"{}").ends_with("\"Cmd\":null,\"Labels\":null}\n"));
    }

    #[test]
    fn commands_may_be_one_string() {
        assert_eq!(&from_slice::<Inner>(br#"{"Cmd":"date"}"#).unwrap().cmd[..], ["date"]);
        assert_eq!(&from_slice::<Inner>(br#"{"Cmd":["a","b"]}"#).unwrap().cmd[..], ["a", "b"]);
    }

    #[test]
    fn embedded_members_lie_beside_the_own_ones() {
        let body = br#"{"image":"a","nested":{"Image":"b"}}"#;
        let outer: Outer = from_slice(body).unwrap();
        assert_eq!(outer.inner.image, "a");
        assert_eq!(outer.nested.as_ref().unwrap().image, "b");
        let text = serde_json::to_string(&outer).unwrap();
        assert!(text.starts_with(r#"{"Nested":{"Image":"b""#) && text.contains(r#"},"Image":"a""#), "{text}");
    }

    #[test]
    fn errors_are_worded_as_gos() {
        assert_eq!(error::<Inner>(""), "invalid JSON: got EOF while reading request body");
        assert_eq!(error::<Inner>("{"), "invalid JSON: unexpected EOF");
        assert_eq!(error::<Inner>("{\"a\":1"), "invalid JSON: unexpected EOF");
        assert_eq!(error::<Inner>("x"), "invalid JSON: invalid character 'x' looking for beginning of value");
        assert_eq!(
            error::<Inner>("{a}"),
            "invalid JSON: invalid character 'a' looking for beginning of object key string"
        );
        assert_eq!(error::<Inner>("{} {}"), "unexpected content after JSON");
        assert_eq!(
            error::<Inner>(r#"{"image":5}"#),
            "invalid JSON: json: cannot unmarshal number into Go struct field Inner.Image of type string"
        );
        assert_eq!(
            error::<Inner>(r#"{"Count":"5"}"#),
            "invalid JSON: json: cannot unmarshal string into Go struct field Inner.Count of type int64"
        );
        assert_eq!(
            error::<Inner>(r#"{"Count":1.5}"#),
            "invalid JSON: json: cannot unmarshal number 1.5 into Go struct field Inner.Count of type int64"
        );
        assert_eq!(
            error::<Inner>("[]"),
            "invalid JSON: json: cannot unmarshal array into Go value of type Inner"
        );
    }

    #[test]
    fn null_is_the_zero_value() {
        assert_eq!(from_slice::<Option<Inner>>(b"null").unwrap(), None);
        assert_eq!(from_slice::<Inner>(b"null").unwrap(), Inner::default());
        assert_eq!(from_slice::<Outer>(b" null ").unwrap(), Outer::default());
    }
}
