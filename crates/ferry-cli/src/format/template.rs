//! `--format` templates of commands that show objects and lists.

use serde_json::Value as Json;

use super::go::{Missing, Template, Value, schema};
use crate::failure::Failure;

/// Exit code of a malformed template of an object, as Docker's client has it.
const MALFORMED: u8 = 64;

/// A parsed template.
#[derive(Debug)]
pub struct Format(Template);

impl Format {
    /// Parses the template of a command that shows objects.
    ///
    /// # Errors
    /// Docker's message for a malformed template.
    pub fn parse(source: &str) -> Result<Self, Failure> {
        Self::parse_as("", source)
            .map_err(|e| Failure::new(format!("template parsing error: {e}")).with_code(MALFORMED))
    }

    /// Parses a template that has a name of its own in messages.
    ///
    /// # Errors
    /// Go's message for a malformed template, as it is.
    pub fn parse_as(name: &str, source: &str) -> Result<Self, String> {
        Template::parse(name, source).map(Self)
    }

    /// Parses a list command's template, where `\t` and `\n` stand for the characters.
    ///
    /// # Errors
    /// Go's message for a malformed template, as it is.
    pub fn parse_list(source: &str) -> Result<Self, String> {
        let source = source.trim_matches(' ').replace("\\t", "\t").replace("\\n", "\n");
        Self::parse_as("", &source)
    }

    /// Runs the template.
    ///
    /// # Errors
    /// Go's message, as it is.
    pub fn run(&self, data: &Value) -> Result<String, String> {
        self.0.execute(data, Missing::NoValue, false)
    }

    /// Runs the template of a table for its titles, which functions leave as they are.
    ///
    /// # Errors
    /// As [`Format::run`].
    pub fn titles(&self, data: &Value) -> Result<String, String> {
        self.0.execute(data, Missing::NoValue, true)
    }

    /// Shows an object: by the type it has, and when the template asks for what that does not know, as
    /// the plain JSON it came as.
    ///
    /// # Errors
    /// Docker's message when the object has no such thing either.
    pub fn show(&self, object: &Json, of: &str) -> Result<String, Failure> {
        if let Ok(text) = self.run(&typed(object, of)) {
            return Ok(text);
        }
        self.0
            .execute(&Value::untyped(object), Missing::Error, false)
            .map_err(|e| Failure::new(format!("template parsing error: {e}")))
    }
}

/// An answer of the engine with the types it has.
pub fn typed(object: &Json, of: &str) -> Value {
    schema::of(of).map_or_else(|| Value::guessed(object), |of| Value::typed(object, &of))
}

/// A pointer to an object of a type with nothing in it, to try templates with.
pub fn pointer_to_nothing(of: &str) -> Value {
    let of = schema::of(of);
    of.map_or(Value::Missing, |of| {
        let zero = Value::zero(&of);
        Value::Pointer(std::rc::Rc::new(of), Some(std::rc::Rc::new(zero)))
    })
}

/// An answer as JSON, by its type: fields in order, those that are left out when empty left out.
pub fn typed_json(object: &Json, of: &str) -> String {
    super::go::value::to_json(&typed(object, of))
}
