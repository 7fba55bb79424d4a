//! What templates compute with: Go's values, as far as JSON and the rows of lists yield them.

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use serde_json::Value as Json;

use super::types::{FieldType, StructType, Type};

/// A value.
#[derive(Debug, Clone)]
pub enum Value {
    /// No value at all, such as a missing key.
    Missing,
    /// A nil interface, such as a `null` of unknown type.
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    Text(Rc<str>),
    /// A number of JSON that was read without knowing its type; Go keeps it as a kind of string.
    Number(Rc<str>),
    Time(Rc<str>),
    Duration(i64),
    List(Rc<List>),
    Map(Rc<Map>),
    Struct(Rc<Struct>),
    Pointer(Rc<Type>, Option<Rc<Value>>),
    Object(Rc<dyn Object>),
}

/// A slice.
#[derive(Debug)]
pub struct List {
    pub of: Rc<Type>,
    pub nil: bool,
    pub items: Vec<Value>,
}

/// A map; its keys are sorted, as Go prints and ranges over them.
#[derive(Debug)]
pub struct Map {
    pub key: &'static str,
    pub of: Rc<Type>,
    pub nil: bool,
    pub items: BTreeMap<Rc<str>, Value>,
}

/// A struct.
#[derive(Debug)]
pub struct Struct {
    pub of: Rc<StructType>,
    pub values: Vec<Value>,
}

/// Something that answers by methods, such as a row of a list.
pub trait Object: fmt::Debug {
    /// The type's name in messages.
    fn type_name(&self) -> String;
    /// Number of arguments a method takes; `None` when there is no such method.
    fn arity(&self, method: &str) -> Option<usize>;
    /// The method's answer.
    fn call(&self, method: &str, args: &[String]) -> Value;
    /// As JSON.
    fn json(&self) -> String;
}

impl Value {
    /// A string.
    pub fn text(s: impl AsRef<str>) -> Self {
        Self::Text(Rc::from(s.as_ref()))
    }

    /// A `[]string`.
    pub fn texts(items: impl IntoIterator<Item = String>) -> Self {
        let items = items.into_iter().map(Self::text).collect();
        Self::List(Rc::new(List { of: Rc::new(Type::Text), nil: false, items }))
    }

    /// JSON read without knowing its types.
    pub fn untyped(json: &Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(b) => Self::Bool(*b),
            Json::Number(n) => Self::Number(Rc::from(n.to_string())),
            Json::String(s) => Self::text(s),
            Json::Array(items) => Self::List(Rc::new(List {
                of: Rc::new(Type::Any),
                nil: false,
                items: items.iter().map(Self::untyped).collect(),
            })),
            Json::Object(fields) => Self::Map(Rc::new(Map {
                key: "string",
                of: Rc::new(Type::Any),
                nil: false,
                items: fields.iter().map(|(k, v)| (Rc::from(k.as_str()), Self::untyped(v))).collect(),
            })),
        }
    }

    /// JSON whose numbers tell their types: whole ones are integers.
    pub fn guessed(json: &Json) -> Self {
        match json {
            Json::Number(n) => match (n.as_i64(), n.as_u64()) {
                (Some(i), _) => Self::Int(i),
                (None, Some(u)) => Self::Uint(u),
                (None, None) => Self::Float(n.as_f64().unwrap_or_default()),
            },
            Json::Array(items) => Self::List(Rc::new(List {
                of: Rc::new(Type::Any),
                nil: false,
                items: items.iter().map(Self::guessed).collect(),
            })),
            Json::Object(fields) => Self::Map(Rc::new(Map {
                key: "string",
                of: Rc::new(Type::Any),
                nil: false,
                items: fields.iter().map(|(k, v)| (Rc::from(k.as_str()), Self::guessed(v))).collect(),
            })),
            other => Self::untyped(other),
        }
    }

    /// JSON read into a type; what is not there, or does not fit, is the type's zero value.
    pub fn typed(json: &Json, of: &Type) -> Self {
        match (of, json) {
            (Type::Any, json) => Self::loose(json),
            (_, Json::Null) => Self::zero(of),
            (Type::Bool, Json::Bool(b)) => Self::Bool(*b),
            (Type::Int, Json::Number(n)) => Self::Int(n.as_i64().unwrap_or_default()),
            (Type::Duration, Json::Number(n)) => Self::Duration(n.as_i64().unwrap_or_default()),
            (Type::Uint, Json::Number(n)) => Self::Uint(n.as_u64().unwrap_or_default()),
            (Type::Float, Json::Number(n)) => Self::Float(n.as_f64().unwrap_or_default()),
            (Type::Text, Json::String(s)) => Self::text(s),
            (Type::Time, Json::String(s)) => Self::Time(Rc::from(s.as_str())),
            (Type::List(of), Json::Array(items)) => Self::List(Rc::new(List {
                of: Rc::clone(of),
                nil: false,
                items: items.iter().map(|i| Self::typed(i, of)).collect(),
            })),
            (Type::Map(key, of), Json::Object(fields)) => Self::Map(Rc::new(Map {
                key,
                of: Rc::clone(of),
                nil: false,
                items: fields.iter().map(|(k, v)| (Rc::from(k.as_str()), Self::typed(v, of))).collect(),
            })),
            (Type::Pointer(of), json) => Self::Pointer(Rc::clone(of), Some(Rc::new(Self::typed(json, of)))),
            (Type::Struct(of), Json::Object(fields)) => {
                let field = |f: &FieldType| {
                    if f.embedded {
                        Self::typed(json, &f.of)
                    } else {
                        Self::typed(fields.get(&f.key).unwrap_or(&Json::Null), &f.of)
                    }
                };
                Self::Struct(Rc::new(Struct {
                    of: Rc::clone(of),
                    values: of.fields.iter().map(field).collect(),
                }))
            }
            _ => Self::zero(of),
        }
    }

    /// JSON in a field of type `any` of a typed value: numbers are floats there.
    fn loose(json: &Json) -> Self {
        match json {
            Json::Number(n) => Self::Float(n.as_f64().unwrap_or_default()),
            Json::Array(items) => Self::List(Rc::new(List {
                of: Rc::new(Type::Any),
                nil: false,
                items: items.iter().map(Self::loose).collect(),
            })),
            Json::Object(fields) => Self::Map(Rc::new(Map {
                key: "string",
                of: Rc::new(Type::Any),
                nil: false,
                items: fields.iter().map(|(k, v)| (Rc::from(k.as_str()), Self::loose(v))).collect(),
            })),
            other => Self::untyped(other),
        }
    }

    /// The zero value of a type.
    pub fn zero(of: &Type) -> Self {
        match of {
            Type::Any => Self::Null,
            Type::Bool => Self::Bool(false),
            Type::Int => Self::Int(0),
            Type::Duration => Self::Duration(0),
            Type::Uint => Self::Uint(0),
            Type::Float => Self::Float(0.0),
            Type::Text => Self::text(""),
            Type::Time => Self::Time(Rc::from("0001-01-01T00:00:00Z")),
            Type::List(of) => Self::List(Rc::new(List { of: Rc::clone(of), nil: true, items: Vec::new() })),
            Type::Map(key, of) => {
                Self::Map(Rc::new(Map { key, of: Rc::clone(of), nil: true, items: BTreeMap::new() }))
            }
            Type::Pointer(of) => Self::Pointer(Rc::clone(of), None),
            Type::Struct(of) => Self::Struct(Rc::new(Struct {
                of: Rc::clone(of),
                values: of.fields.iter().map(|f| Self::zero(&f.of)).collect(),
            })),
        }
    }

    /// The name of the value's type.
    pub fn type_name(&self) -> String {
        match self {
            Self::Missing => "<nil>".to_owned(),
            Self::Null => "interface {}".to_owned(),
            Self::Bool(_) => "bool".to_owned(),
            Self::Int(_) => "int".to_owned(),
            Self::Uint(_) => "uint64".to_owned(),
            Self::Float(_) => "float64".to_owned(),
            Self::Text(_) => "string".to_owned(),
            Self::Number(_) => "json.Number".to_owned(),
            Self::Time(_) => "time.Time".to_owned(),
            Self::Duration(_) => "time.Duration".to_owned(),
            Self::List(list) => format!("[]{}", list.of.name()),
            Self::Map(map) => format!("map[{}]{}", map.key, map.of.name()),
            Self::Struct(s) => s.of.name.clone(),
            Self::Pointer(of, _) => format!("*{}", of.name()),
            Self::Object(object) => object.type_name(),
        }
    }

    /// What pointers lead to, and whether one of them leads nowhere.
    pub fn follow(&self) -> (&Self, bool) {
        match self {
            Self::Pointer(_, Some(inner)) => inner.follow(),
            Self::Null | Self::Pointer(_, None) => (self, true),
            other => (other, false),
        }
    }

    /// Whether `if` takes the value for true.
    pub fn truth(&self) -> bool {
        match self {
            Self::Missing | Self::Null => false,
            Self::Bool(b) => *b,
            Self::Int(i) | Self::Duration(i) => *i != 0,
            Self::Uint(u) => *u != 0,
            Self::Float(f) => *f != 0.0,
            Self::Text(s) | Self::Number(s) => !s.is_empty(),
            Self::List(list) => !list.items.is_empty(),
            Self::Map(map) => !map.items.is_empty(),
            Self::Pointer(_, inner) => inner.is_some(),
            Self::Time(_) | Self::Struct(_) | Self::Object(_) => true,
        }
    }

    /// Whether it is nothing, or nil of its type.
    pub fn is_nil(&self) -> bool {
        match self {
            Self::Missing | Self::Null | Self::Pointer(_, None) => true,
            Self::List(list) => list.nil,
            Self::Map(map) => map.nil,
            _ => false,
        }
    }
}

impl Struct {
    /// The field a template names, looking into embedded structs too.
    pub fn field(&self, name: &str) -> Option<&Value> {
        let own = self.of.fields.iter().position(|f| f.name == name);
        if let Some(at) = own {
            return self.values.get(at);
        }
        self.of.fields.iter().zip(&self.values).filter(|(f, _)| f.embedded).find_map(|(_, value)| match value
            .follow()
            .0
        {
            Value::Struct(inner) => inner.field(name),
            _ => None,
        })
    }
}

/// The value as Go's encoder writes it: fields in the order of their type, keys of maps sorted, `<`, `>`
/// and `&` escaped.
pub fn to_json(value: &Value) -> String {
    let mut out = String::new();
    write_json(value, &mut out);
    out
}

fn write_text(text: &str, out: &mut String) {
    out.push_str(&crate::format::json::compact(&Json::from(text)));
}

fn write_json(value: &Value, out: &mut String) {
    match value {
        Value::Missing | Value::Null | Value::Pointer(_, None) => out.push_str("null"),
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Value::Int(i) | Value::Duration(i) => out.push_str(&i.to_string()),
        Value::Uint(u) => out.push_str(&u.to_string()),
        Value::Float(f) => out.push_str(&float(*f)),
        Value::Text(s) | Value::Time(s) => write_text(s, out),
        Value::Number(s) => out.push_str(s),
        Value::List(list) if list.nil => out.push_str("null"),
        Value::List(list) => {
            out.push('[');
            for (i, item) in list.items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_json(item, out);
            }
            out.push(']');
        }
        Value::Map(map) if map.nil => out.push_str("null"),
        Value::Map(map) => {
            out.push('{');
            for (i, (key, item)) in map.items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_text(key, out);
                out.push(':');
                write_json(item, out);
            }
            out.push('}');
        }
        Value::Struct(s) => {
            out.push('{');
            write_fields(s, out);
            out.push('}');
        }
        Value::Pointer(_, Some(inner)) => write_json(inner, out),
        Value::Object(object) => out.push_str(&object.json()),
    }
}

fn write_fields(s: &Struct, out: &mut String) {
    for (field, value) in s.of.fields.iter().zip(&s.values) {
        if field.embedded {
            if let Value::Struct(inner) = value.follow().0 {
                write_fields(inner, out);
            }
            continue;
        }
        let empty = match value {
            // Go never takes a struct for empty.
            Value::Struct(_) | Value::Time(_) | Value::Object(_) => false,
            other => !other.truth(),
        };
        if field.optional && empty {
            continue;
        }
        if !out.ends_with('{') {
            out.push(',');
        }
        write_text(&field.key, out);
        out.push(':');
        write_json(value, out);
    }
}

fn float(f: f64) -> String {
    if f.fract() == 0.0 && f.abs() < 1e21 { format!("{f:.0}") } else { f.to_string() }
}
