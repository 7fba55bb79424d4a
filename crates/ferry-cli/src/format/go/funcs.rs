//! Functions of templates: Go's own and Docker's.

use std::rc::Rc;

use super::print;
use super::types::Type;
use super::value::{List, Value, to_json};

/// What a parameter takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Param {
    /// Anything; nothing at all becomes nil.
    Any,
    /// Anything, and nothing too.
    Raw,
    Text,
    Int,
    Texts,
}

impl Param {
    /// Name of the type in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Any => "interface {}",
            Self::Raw => "reflect.Value",
            Self::Text => "string",
            Self::Int => "int",
            Self::Texts => "[]string",
        }
    }
}

/// A function's parameters.
#[derive(Debug, Clone, Copy)]
pub struct Signature {
    pub fixed: &'static [Param],
    pub variadic: Option<Param>,
}

/// The parameters of a function; `None` when there is no such function.
pub fn signature(name: &str) -> Option<Signature> {
    use Param::{Any, Int, Raw, Text, Texts};
    let fixed = |fixed| Some(Signature { fixed, variadic: None });
    let open = |fixed, variadic| Some(Signature { fixed, variadic: Some(variadic) });
    match name {
        "and" | "or" | "call" | "index" | "slice" | "eq" => open(&[Raw], Raw),
        "html" | "js" | "print" | "println" | "urlquery" => open(&[], Any),
        "printf" => open(&[Text], Any),
        "len" | "not" => fixed(&[Raw]),
        "ge" | "gt" | "le" | "lt" | "ne" => fixed(&[Raw, Raw]),
        "json" => fixed(&[Any]),
        "split" => fixed(&[Text, Text]),
        "join" => fixed(&[Texts, Text]),
        "title" | "lower" | "upper" => fixed(&[Text]),
        "pad" => fixed(&[Text, Int, Int]),
        "truncate" => fixed(&[Text, Int]),
        _ => None,
    }
}

/// Whether there is such a function.
pub fn exists(name: &str) -> bool {
    signature(name).is_some()
}

/// Calls a function with arguments that fit its parameters.
///
/// # Errors
/// Go's text, without what comes before it.
pub fn call(name: &str, args: &[Value], header: bool) -> Result<Value, String> {
    let text = |at: usize| match args.get(at) {
        Some(Value::Text(s)) => Rc::clone(s),
        _ => Rc::from(""),
    };
    let int = |at: usize| match args.get(at) {
        Some(Value::Int(i)) => *i,
        _ => 0,
    };
    let first = args.first().unwrap_or(&Value::Missing);
    Ok(match name {
        // Titles of columns are shown as they are.
        "json" | "title" | "lower" | "upper" | "truncate" if header => first.clone(),
        "json" => Value::text(to_json(first)),
        "split" => Value::texts(split(&text(0), &text(1))),
        "join" => {
            let items: Vec<String> = match first {
                Value::List(list) => list.items.iter().map(print::operand).collect(),
                _ => Vec::new(),
            };
            Value::text(items.join(&text(1)))
        }
        "title" => Value::text(title(&text(0))),
        "lower" => Value::text(text(0).to_lowercase()),
        "upper" => Value::text(text(0).to_uppercase()),
        "pad" => Value::text(pad(&text(0), int(1), int(2))),
        "truncate" => {
            let max = usize::try_from(int(1)).map_err(|_| "slice bounds out of range".to_owned())?;
            Value::text(text(0).chars().take(max).collect::<String>())
        }
        "print" => Value::text(print::sprint(args)),
        "println" => Value::text(print::sprintln(args)),
        "printf" => Value::text(print::sprintf(&text(0), &args[1..])),
        "html" => Value::text(html(&joined(args))),
        "js" => Value::text(js(&joined(args))),
        "urlquery" => Value::text(url_query(&joined(args))),
        "len" => Value::Int(length(first)?),
        "not" => Value::Bool(!first.truth()),
        "index" => index(first, &args[1..])?,
        "slice" => slice(first, &args[1..])?,
        "eq" => Value::Bool(equal(first, &args[1..])?),
        "ne" => Value::Bool(!equal(first, &args[1..])?),
        "lt" => Value::Bool(less(first, &args[1])?),
        "le" => Value::Bool(less_or_equal(first, &args[1])?),
        "gt" => Value::Bool(!less_or_equal(first, &args[1])?),
        "ge" => Value::Bool(!less(first, &args[1])?),
        // Nothing a template can reach is a function; the caller has named what was called.
        "call" => match first {
            Value::Missing | Value::Null => return Err("call of nil".to_owned()),
            other => return Err(format!("non-function \u{1} of type {}", other.type_name())),
        },
        _ => Value::Missing,
    })
}

fn split(text: &str, separator: &str) -> Vec<String> {
    if separator.is_empty() {
        return text.chars().map(String::from).collect();
    }
    text.split(separator).map(str::to_owned).collect()
}

/// Each word's first letter in upper case, as the old strings.Title.
fn title(text: &str) -> String {
    let mut before = ' ';
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let separated =
            !(before.is_alphanumeric() || before == '_') && (before.is_ascii() || before.is_whitespace());
        if separated {
            out.extend(c.to_uppercase())
        } else {
            out.push(c)
        }
        before = c;
    }
    out
}

fn pad(text: &str, before: i64, after: i64) -> String {
    let blanks = |n: i64| " ".repeat(usize::try_from(n).unwrap_or(0).min(4096));
    if text.is_empty() { String::new() } else { format!("{}{text}{}", blanks(before), blanks(after)) }
}

/// Arguments as one text, the way `html` and its like take them.
fn joined(args: &[Value]) -> String {
    if let [Value::Text(only)] = args {
        return only.to_string();
    }
    let followed: Vec<Value> = args
        .iter()
        .map(|a| match a.follow().0 {
            Value::Missing | Value::Null => Value::text("<no value>"),
            other => other.clone(),
        })
        .collect();
    print::sprint(&followed)
}

fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\0' => out.push('\u{fffd}'),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            c => out.push(c),
        }
    }
    out
}

fn js(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str(r"\\"),
            '\'' => out.push_str(r"\'"),
            '"' => out.push_str("\\\""),
            '<' | '>' | '&' | '=' => out.push_str(&format!("\\u{:04X}", c as u32)),
            c if (c as u32) < 0x20 || c == '\u{7f}' => out.push_str(&format!("\\u{:04X}", c as u32)),
            c => out.push(c),
        }
    }
    out
}

fn url_query(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        match b {
            b' ' => out.push('+'),
            b if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) => out.push(char::from(b)),
            b => out.push_str(&format!("%{b:02X}")),
        }
    }
    out
}

fn length(value: &Value) -> Result<i64, String> {
    let (value, nil) = value.follow();
    if nil {
        return Err("len of nil pointer".to_owned());
    }
    let count = match value {
        Value::Text(s) | Value::Number(s) => s.len(),
        Value::List(list) => list.items.len(),
        Value::Map(map) => map.items.len(),
        Value::Missing => return Err("reflect: call of reflect.Value.Type on zero Value".to_owned()),
        other => return Err(format!("len of type {}", other.type_name())),
    };
    Ok(i64::try_from(count).unwrap_or(i64::MAX))
}

/// A position in something with `cap` places.
fn place(index: &Value, cap: usize) -> Result<usize, String> {
    let at = match index {
        Value::Int(i) => *i,
        Value::Uint(u) => i64::try_from(*u).unwrap_or(-1),
        Value::Missing | Value::Null => return Err("cannot index slice/array with nil".to_owned()),
        other => return Err(format!("cannot index slice/array with type {}", other.type_name())),
    };
    usize::try_from(at).ok().filter(|at| *at <= cap).ok_or_else(|| format!("index out of range: {at}"))
}

fn index(item: &Value, indexes: &[Value]) -> Result<Value, String> {
    if matches!(item, Value::Missing | Value::Null) {
        return Err("index of untyped nil".to_owned());
    }
    let out_of_range = |at: usize, len: usize| {
        format!("reflect: {} index out of range", if at >= len { "slice" } else { "array" })
    };
    let mut item = item.clone();
    let mut byte = false;
    for index in indexes {
        if byte {
            return Err("can't index item of type uint8".to_owned());
        }
        let (inner, nil) = item.follow();
        if nil {
            return Err("index of nil pointer".to_owned());
        }
        let mut is_byte = false;
        let found = match inner {
            Value::List(list) => {
                let at = place(index, list.items.len())?;
                list.items.get(at).cloned().ok_or_else(|| out_of_range(at, list.items.len()))?
            }
            Value::Text(s) => {
                let at = place(index, s.len())?;
                let found = s.as_bytes().get(at).copied().ok_or("reflect: string index out of range")?;
                is_byte = true;
                Value::Uint(u64::from(found))
            }
            Value::Map(map) => match index {
                Value::Text(key) => {
                    map.items.get(key.as_ref()).cloned().unwrap_or_else(|| Value::zero(&map.of))
                }
                Value::Missing | Value::Null => {
                    return Err("value is nil; should be of type string".to_owned());
                }
                other => return Err(format!("value has type {}; should be {}", other.type_name(), map.key)),
            },
            // A nil interface in the middle of a chain.
            Value::Missing => return Err("can't index item of type <nil>".to_owned()),
            other => return Err(format!("can't index item of type {}", other.type_name())),
        };
        item = found;
        byte = is_byte;
    }
    Ok(item)
}

fn slice(item: &Value, indexes: &[Value]) -> Result<Value, String> {
    if matches!(item, Value::Missing | Value::Null) {
        return Err("slice of untyped nil".to_owned());
    }
    let (item, nil) = item.follow();
    if nil {
        return Err("slice of nil pointer".to_owned());
    }
    if indexes.len() > 3 {
        return Err(format!("too many slice indexes: {}", indexes.len()));
    }
    let cap = match item {
        Value::Text(_) if indexes.len() == 3 => return Err("cannot 3-index slice a string".to_owned()),
        Value::Text(s) => s.len(),
        Value::List(list) => list.items.len(),
        other => return Err(format!("can't slice item of type {}", other.type_name())),
    };
    let mut bounds = [0, cap, cap];
    for (bound, index) in bounds.iter_mut().zip(indexes) {
        *bound = place(index, cap)?;
    }
    for pair in bounds[..indexes.len().max(2)].windows(2) {
        if pair[0] > pair[1] {
            return Err(format!("invalid slice index: {} > {}", pair[0], pair[1]));
        }
    }
    let range = bounds[0]..bounds[1];
    Ok(match item {
        Value::Text(s) => {
            let bytes = s.as_bytes().get(range).unwrap_or_default();
            Value::text(String::from_utf8_lossy(bytes))
        }
        Value::List(list) => Value::List(Rc::new(List {
            of: Rc::clone(&list.of),
            nil: false,
            items: list.items.get(range).unwrap_or_default().to_vec(),
        })),
        other => other.clone(),
    })
}

/// Kinds that can be compared.
#[derive(PartialEq, Eq, Clone, Copy)]
enum Basic {
    Bool,
    Int,
    Uint,
    Float,
    Text,
    None,
}

fn basic(value: &Value) -> Basic {
    match value {
        Value::Bool(_) => Basic::Bool,
        Value::Int(_) => Basic::Int,
        Value::Uint(_) => Basic::Uint,
        Value::Float(_) => Basic::Float,
        Value::Text(_) | Value::Number(_) => Basic::Text,
        _ => Basic::None,
    }
}

fn incompatible(a: &Value, b: &Value) -> String {
    format!("incompatible types for comparison: {} and {}", a.type_name(), b.type_name())
}

fn equal(first: &Value, others: &[Value]) -> Result<bool, String> {
    if others.is_empty() {
        return Err("missing argument for comparison".to_owned());
    }
    for other in others {
        if equal_one(first, other)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn equal_one(a: &Value, b: &Value) -> Result<bool, String> {
    Ok(match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Int(a), Value::Int(b)) => a == b,
        (Value::Uint(a), Value::Uint(b)) => a == b,
        (Value::Int(a), Value::Uint(b)) | (Value::Uint(b), Value::Int(a)) => {
            u64::try_from(*a).is_ok_and(|a| a == *b)
        }
        #[expect(clippy::float_cmp, reason = "this is what == means in Go")]
        (Value::Float(a), Value::Float(b)) => a == b,
        (Value::Text(a) | Value::Number(a), Value::Text(b) | Value::Number(b)) => a == b,
        (a, b) if basic(a) != basic(b) => {
            if !matches!(a, Value::Missing | Value::Null) && !matches!(b, Value::Missing | Value::Null) {
                return Err(incompatible(a, b));
            }
            false
        }
        (a, b) if a.is_nil() || b.is_nil() => a.is_nil() == b.is_nil(),
        (_, b @ (Value::List(_) | Value::Map(_))) => {
            return Err(format!("non-comparable type {}: {}", print::operand(b), b.type_name()));
        }
        (a, b) => to_json(a) == to_json(b) && a.type_name() == b.type_name(),
    })
}

fn less(a: &Value, b: &Value) -> Result<bool, String> {
    let bad = "invalid type for comparison";
    if basic(a) == Basic::None || basic(b) == Basic::None {
        return Err(bad.to_owned());
    }
    Ok(match (a, b) {
        (Value::Int(a), Value::Int(b)) => a < b,
        (Value::Uint(a), Value::Uint(b)) => a < b,
        (Value::Int(a), Value::Uint(b)) => u64::try_from(*a).map_or(true, |a| a < *b),
        (Value::Uint(a), Value::Int(b)) => u64::try_from(*b).is_ok_and(|b| *a < b),
        (Value::Float(a), Value::Float(b)) => a < b,
        (Value::Text(a) | Value::Number(a), Value::Text(b) | Value::Number(b)) => a < b,
        (Value::Bool(_), Value::Bool(_)) => return Err(bad.to_owned()),
        (a, b) => return Err(incompatible(a, b)),
    })
}

fn less_or_equal(a: &Value, b: &Value) -> Result<bool, String> {
    Ok(less(a, b)? || equal_one(a, b)?)
}

/// Whether a value fits a parameter, or can be made to.
///
/// # Errors
/// Go's text.
pub fn fit(value: Value, param: Param) -> Result<Value, String> {
    let good = match (param, &value) {
        (Param::Any | Param::Raw, _) => true,
        (_, Value::Missing) => {
            if param == Param::Texts {
                return Ok(Value::zero(&Type::List(Rc::new(Type::Text))));
            }
            return Err(format!("invalid value; expected {}", param.name()));
        }
        (Param::Text, Value::Text(_)) | (Param::Int, Value::Int(_)) => true,
        (Param::Texts, Value::List(list)) => matches!(*list.of, Type::Text),
        _ => false,
    };
    if good {
        return Ok(value);
    }
    if let Value::Pointer(of, inner) = &value
        && of.name() == param.name()
    {
        return match inner {
            Some(inner) => Ok(Value::clone(inner)),
            None => Err(format!("dereference of nil pointer of type {}", param.name())),
        };
    }
    Err(format!("wrong type for value; expected {}; got {}", param.name(), value.type_name()))
}
