//! The template language of `--format`: Go's text/template, with its values, its functions, its way to
//! print things and its error messages, which users and scripts know.
//!
//! Source: the documentation of Go's packages text/template and fmt.

mod ast;
mod exec;
mod funcs;
mod lex;
mod parse;
mod print;
pub mod schema;
mod types;
pub mod value;

use std::collections::HashMap;

use ast::Tree;
pub use value::{Object, Value};

/// What to do when a map has no entry for a key a template names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// Print `<no value>`.
    NoValue,
    /// Stop with an error.
    Error,
}

/// A parsed template with the templates it defines.
#[derive(Debug)]
pub struct Template {
    name: String,
    trees: HashMap<String, Tree>,
    source: String,
}

impl Template {
    /// Parses a template; `name` is what messages call it.
    ///
    /// # Errors
    /// Go's text: `template: name:1: …`.
    pub fn parse(name: &str, source: &str) -> Result<Self, String> {
        Ok(Self { name: name.to_owned(), trees: parse::parse(name, source)?, source: source.to_owned() })
    }

    /// Runs the template on `data`.
    ///
    /// # Errors
    /// Go's text: `template: :1:2: executing "" at <.X>: …`.
    pub fn execute(&self, data: &Value, missing: Missing, header: bool) -> Result<String, String> {
        exec::execute(&self.name, &self.trees, &self.source, data, missing, header)
    }
}

#[cfg(test)]
mod tests;
