//! Why a body is not what was asked for, in Go's words.

use std::fmt;

use ferry_types::{Classify, ErrorKind};
use serde_json::error::Category;

/// Why a body could not be decoded. The texts are those of Docker's daemon.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Nothing but white space.
    #[error("invalid JSON: got EOF while reading request body")]
    Empty,
    /// Not JSON.
    #[error("invalid JSON: {0}")]
    Syntax(String),
    /// More text after the value.
    #[error("unexpected content after JSON")]
    Trailing,
    /// A value of another type than the field's.
    #[error("invalid JSON: json: cannot unmarshal {value} into Go {target} of type {wanted}")]
    Type {
        /// What was found, e.g. `string`.
        value: String,
        /// `value`, or `struct field Struct.Path.To.Field`.
        target: Target,
        /// What was wanted, e.g. `int64`.
        wanted: String,
    },
    /// A well-formed value a type's own rules refuse.
    #[error("invalid JSON: {0}")]
    Value(String),
}

/// Where in the value a type error lies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// Innermost struct; empty outside of any.
    pub structure: &'static str,
    /// Field names from the outermost value inwards.
    pub path: Vec<&'static str>,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.structure.is_empty() {
            return f.write_str("value");
        }
        write!(f, "struct field {}.", self.structure)?;
        for (i, name) in self.path.iter().rev().enumerate() {
            write!(f, "{}{name}", if i == 0 { "" } else { "." })?;
        }
        Ok(())
    }
}

impl JsonError {
    /// Adds the struct and field an error came from; called from the inside outwards.
    pub(crate) fn within(mut self, structure: &'static str, field: &'static str) -> Self {
        if let Self::Type { target, .. } = &mut self {
            if target.structure.is_empty() {
                target.structure = structure;
            }
            target.path.push(field);
        }
        self
    }

    /// Translates a parser's error about `body` into Go's words.
    pub(crate) fn syntax(body: &[u8], error: &serde_json::Error) -> Self {
        match error.classify() {
            Category::Eof => return Self::Syntax("unexpected EOF".to_owned()),
            Category::Data | Category::Io => return Self::Value(error.to_string()),
            Category::Syntax => {}
        }
        let text = error.to_string();
        if text.starts_with("trailing characters") {
            return Self::Trailing;
        }
        let context = match text.split(" at line ").next().unwrap_or_default() {
            "expected `,` or `}`" => "after object key:value pair",
            "expected `,` or `]`" => "after array element",
            "expected `:`" => "after object key",
            "key must be a string" | "trailing comma" => "looking for beginning of object key string",
            "expected value" => "looking for beginning of value",
            "invalid escape" => "in string escape code",
            "invalid number" => "in numeric literal",
            "expected ident" => "in literal",
            other if other.starts_with("control character") => "in string literal",
            _ => return Self::Syntax(text),
        };
        let character = offending(body, error.line(), error.column());
        Self::Syntax(format!("invalid character {character} {context}"))
    }
}

/// The quoted character at a line and column (both from 1), as Go quotes it.
fn offending(body: &[u8], line: usize, column: usize) -> String {
    let start =
        body.split_inclusive(|b| *b == b'\n').take(line.saturating_sub(1)).map(<[u8]>::len).sum::<usize>();
    let byte = body.get(start + column.saturating_sub(1)).copied().unwrap_or(b' ');
    match byte {
        b'\'' => r"'\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        b'\n' => r"'\n'".to_owned(),
        b'\r' => r"'\r'".to_owned(),
        b'\t' => r"'\t'".to_owned(),
        0x20..=0x7e => format!("'{}'", char::from(byte)),
        other if other < 0x80 => format!(r"'\x{other:02x}'"),
        other => format!("'{}'", char::from(other)),
    }
}

impl serde::de::Error for JsonError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        let text = message.to_string();
        // An error of an embedded part, already worded.
        Self::Value(text.strip_prefix("invalid JSON: ").map_or(text.clone(), str::to_owned))
    }
}

impl Classify for JsonError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidParameter
    }
}
