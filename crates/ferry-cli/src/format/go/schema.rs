//! The types of what the engine answers, as Docker's client knows them. With them a template sees fields
//! in their order and with their types, and fields the answer left out.
//!
//! Source: the schemas of the Engine API; names of fields are those templates use.

use std::collections::HashMap;
use std::rc::Rc;

use super::types::{FieldType, StructType, Type};

/// One struct per block: `name {`, then a line per field: its name, its key on the wire behind a colon
/// when that is another one, its type, and `?` when it is left out when empty. `+` embeds.
const TEXT: &str = include_str!("schema.txt");

/// The struct called `name`; `None` when it is not described.
pub fn of(name: &str) -> Option<Type> {
    let mut blocks: HashMap<&str, Vec<&str>> = HashMap::new();
    let mut open: Option<&str> = None;
    for line in TEXT.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
        if let Some(head) = line.strip_suffix('{') {
            open = Some(head.trim());
            blocks.entry(head.trim()).or_default();
        } else if line == "}" {
            open = None;
        } else if let Some(fields) = open.and_then(|o| blocks.get_mut(o)) {
            fields.push(line);
        }
    }
    blocks.contains_key(name).then(|| resolve(name, &blocks, &mut HashMap::new()))
}

fn resolve(
    text: &str,
    blocks: &HashMap<&str, Vec<&str>>,
    done: &mut HashMap<String, Rc<StructType>>,
) -> Type {
    if let Some(of) = text.strip_prefix("[]") {
        return Type::List(Rc::new(resolve(of, blocks, done)));
    }
    if let Some(of) = text.strip_prefix('*') {
        return Type::Pointer(Rc::new(resolve(of, blocks, done)));
    }
    for key in ["string", "nat.Port"] {
        if let Some(of) = text.strip_prefix("map[").and_then(|t| t.strip_prefix(key)?.strip_prefix(']')) {
            return Type::Map(key, Rc::new(resolve(of, blocks, done)));
        }
    }
    match text {
        "any" => return Type::Any,
        "bool" => return Type::Bool,
        "int" => return Type::Int,
        "uint" => return Type::Uint,
        "float" => return Type::Float,
        "string" => return Type::Text,
        "time" => return Type::Time,
        "duration" => return Type::Duration,
        _ => {}
    }
    if let Some(known) = done.get(text) {
        return Type::Struct(Rc::clone(known));
    }
    let fields = blocks.get(text).map(Vec::as_slice).unwrap_or_default();
    let fields = fields
        .iter()
        .filter_map(|line| {
            let embedded = line.starts_with('+');
            let mut words = line.trim_start_matches('+').split_whitespace();
            let name = words.next()?;
            let (name, key) = name.split_once(':').unwrap_or((name, name));
            let of = if embedded { name } else { words.next()? };
            Some(FieldType {
                name: name.rsplit('.').next().unwrap_or(name).to_owned(),
                key: key.to_owned(),
                of: resolve(of, blocks, done),
                optional: words.next() == Some("?"),
                embedded,
            })
        })
        .collect();
    let name = if text == "empty" { "struct {}" } else { text };
    let new = Rc::new(StructType { name: name.to_owned(), fields });
    done.insert(text.to_owned(), Rc::clone(&new));
    Type::Struct(new)
}
