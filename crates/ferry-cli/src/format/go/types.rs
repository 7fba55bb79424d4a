//! Go types, as far as the values of templates have them.

use std::rc::Rc;

/// A type.
#[derive(Debug, Clone)]
pub enum Type {
    /// `interface {}`.
    Any,
    Bool,
    Int,
    Uint,
    Float,
    Text,
    /// `time.Time`, kept as the text of the wire.
    Time,
    /// `time.Duration` in nanoseconds.
    Duration,
    List(Rc<Type>),
    /// A map with strings as keys, or with something that prints as one, whose name is given.
    Map(&'static str, Rc<Type>),
    Pointer(Rc<Type>),
    Struct(Rc<StructType>),
}

/// A struct's name and fields.
#[derive(Debug)]
pub struct StructType {
    /// With its package, as messages show it.
    pub name: String,
    pub fields: Vec<FieldType>,
}

/// One field.
#[derive(Debug)]
pub struct FieldType {
    /// Name in templates.
    pub name: String,
    /// Name on the wire.
    pub key: String,
    pub of: Type,
    /// Left out of JSON when it is empty.
    pub optional: bool,
    /// Its fields belong to the outer struct, on the wire and in templates.
    pub embedded: bool,
}

impl Type {
    /// The name Go gives the type.
    pub fn name(&self) -> String {
        match self {
            Self::Any => "interface {}".to_owned(),
            Self::Bool => "bool".to_owned(),
            Self::Int => "int".to_owned(),
            Self::Uint => "uint64".to_owned(),
            Self::Float => "float64".to_owned(),
            Self::Text => "string".to_owned(),
            Self::Time => "time.Time".to_owned(),
            Self::Duration => "time.Duration".to_owned(),
            Self::List(of) => format!("[]{}", of.name()),
            Self::Map(key, of) => format!("map[{key}]{}", of.name()),
            Self::Pointer(of) => format!("*{}", of.name()),
            Self::Struct(of) => of.name.clone(),
        }
    }
}
