//! `--format` templates: Go's text/template with Docker's functions.

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::{MissingKey, Template, TemplateError, Value};

use crate::failure::Failure;

/// Key under which a list row keeps its labels for `.Label "name"`; not part of the row's JSON.
pub const LABELS: &str = "\u{0}labels";

/// A parsed template.
pub struct Format {
    strict: Template,
    source: String,
    list: bool,
}

/// Maps whose keys users choose. Asking for a key they do not have is no mistake in the template.
const OPEN_MAPS: [&str; 8] = [
    ".Labels.",
    ".Annotations.",
    ".Networks.",
    ".Ports.",
    ".Options.",
    ".Sysctls.",
    ".DriverOpts.",
    ".Volumes.",
];

impl Format {
    /// Parses the template of a command that shows objects.
    ///
    /// # Errors
    /// Docker's message for a malformed template, with exit code 64 as Docker has it.
    pub fn parse(source: &str) -> Result<Self, Failure> {
        Self::parse_as(source, false)
            .map_err(|e| Failure::new(format!("template parsing error: {e}")).with_code(64))
    }

    /// Parses a list command's template, where `\\t` and `\\n` stand for the characters.
    ///
    /// # Errors
    /// Docker's message for a malformed template.
    pub fn parse_list(source: &str) -> Result<Self, Failure> {
        let source = unescape(source.trim_matches(' ')).replace(".Label \"", "__label $ \"");
        Self::parse_as(&source, true).map_err(|e| Failure::new(format!("failed to parse template: {e}")))
    }

    fn parse_as(source: &str, list: bool) -> Result<Self, String> {
        let strict = functions(Template::new("").missing_key(MissingKey::Error)).parse(source);
        let strict = strict.map_err(|e| syntax_reason(&e))?;
        Ok(Self { strict, source: source.to_owned(), list })
    }

    /// Renders one object.
    ///
    /// # Errors
    /// When the template asks for what the object does not have.
    pub fn render(&self, data: &Value) -> Result<String, Failure> {
        let result = match self.strict.execute_to_string(data) {
            Err(TemplateError::MissingKey { key }) if self.is_open(&key) => functions(Template::new(""))
                .parse(&self.source)
                .and_then(|lenient| lenient.execute_to_string(data)),
            result => result,
        };
        let what = if self.list { "failed to execute template" } else { "template parsing error" };
        result.map_err(|e| Failure::new(format!("{what}: {}", self.reason(&e))))
    }

    fn is_open(&self, key: &str) -> bool {
        OPEN_MAPS.iter().any(|map| self.source.contains(&format!("{map}{key}")))
    }

    fn reason(&self, e: &TemplateError) -> String {
        let TemplateError::MissingKey { key } = e else {
            return format!("template: :1: executing \"\": {e}");
        };
        // Go points at the column of the action and names the expression.
        let expression = format!(".{key}");
        let column = self.source.find(&expression).unwrap_or(0);
        let expression: String = {
            let is_path = |c: char| c.is_alphanumeric() || c == '.' || c == '_';
            let before = self.source[..column].rfind(|c| !is_path(c)).map_or(0, |at| at + 1);
            self.source[before..column + expression.len()].to_owned()
        };
        let what = if self.list {
            format!("can't evaluate field {key}")
        } else {
            format!("map has no entry for key {}", crate::text::quote(key))
        };
        format!("template: :1:{column}: executing \"\" at <{expression}>: {what}")
    }
}

/// A syntax error as Go words it: with the line, without the column.
fn syntax_reason(e: &TemplateError) -> String {
    match e {
        TemplateError::Parse { line, message, .. } | TemplateError::Lex { line, message, .. } => {
            format!("template: :{line}: {message}")
        }
        other => other.to_string(),
    }
}

/// `\t` and `\n` typed in a shell stand for the characters, outside of actions only: within them they
/// belong to Go's string syntax.
fn unescape(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(open) = rest.find("{{") {
        out.push_str(&rest[..open].replace("\\t", "\t").replace("\\n", "\n"));
        let close = rest[open..].find("}}").map_or(rest.len(), |at| open + at + 2);
        out.push_str(&rest[open..close]);
        rest = &rest[close..];
    }
    out.push_str(&rest.replace("\\t", "\t").replace("\\n", "\n"));
    out
}

type Outcome = Result<Value, TemplateError>;

fn text_of(v: &Value) -> String {
    v.as_str().map_or_else(|| v.to_string(), str::to_owned)
}

fn arg(args: &[Value], at: usize) -> Result<&Value, TemplateError> {
    args.get(at).ok_or_else(|| TemplateError::Exec("wrong number of args".to_owned()))
}

fn string(s: impl Into<String>) -> Value {
    Value::String(Arc::from(s.into()))
}

fn functions(template: Template) -> Template {
    template
        .func("json", |args| Ok(string(super::json::compact(&to_json(arg(args, 0)?)))))
        .func("split", |args| {
            let (text, separator) = (text_of(arg(args, 0)?), text_of(arg(args, 1)?));
            let parts: Vec<Value> = text.split(separator.as_str()).map(string).collect();
            Ok(Value::List(parts.into()))
        })
        .func("join", |args| {
            let separator = text_of(arg(args, 1)?);
            match arg(args, 0)? {
                Value::List(items) => {
                    Ok(string(items.iter().map(text_of).collect::<Vec<_>>().join(&separator)))
                }
                Value::Nil => Ok(string("")),
                other => Err(TemplateError::TypeMismatch { expected: "list", got: other.type_name() }),
            }
        })
        .func("title", |args| {
            let mut upper = true;
            let titled: String = text_of(arg(args, 0)?)
                .chars()
                .map(|c| {
                    let shown = if upper { c.to_ascii_uppercase() } else { c };
                    upper = !c.is_alphanumeric() && c != '_' && c != '\'';
                    shown
                })
                .collect();
            Ok(string(titled))
        })
        .func("lower", |args| Ok(string(text_of(arg(args, 0)?).to_lowercase())))
        .func("upper", |args| Ok(string(text_of(arg(args, 0)?).to_uppercase())))
        .func("pad", |args| {
            let text = text_of(arg(args, 0)?);
            let count =
                |at| arg(args, at).map(|v| usize::try_from(v.as_int().unwrap_or(0)).unwrap_or(0).min(4096));
            if text.is_empty() {
                return Ok(string(text));
            }
            Ok(string(format!("{}{text}{}", " ".repeat(count(1)?), " ".repeat(count(2)?))))
        })
        .func("truncate", |args| {
            let text = text_of(arg(args, 0)?);
            let max = usize::try_from(arg(args, 1)?.as_int().unwrap_or(0)).unwrap_or(0);
            Ok(string(text.chars().take(max).collect::<String>()))
        })
        .func("index", index)
        .func("len", |args| {
            let value = arg(args, 0)?;
            let length = match value {
                Value::Nil => Some(0),
                Value::String(s) => Some(s.len()),
                other => other.len(),
            };
            let length = length.and_then(|n| i64::try_from(n).ok());
            length
                .map(Value::Int)
                .ok_or(TemplateError::TypeMismatch { expected: "list", got: value.type_name() })
        })
        .func("__label", |args| {
            let name = text_of(arg(args, 1)?);
            Ok(arg(args, 0)?
                .field(LABELS)
                .and_then(|l| l.field(&name))
                .cloned()
                .unwrap_or_else(|| string("")))
        })
}

/// `index` where a missing key of a map yields the empty string, the zero value of the string maps
/// (labels, environment) people index.
fn index(args: &[Value]) -> Outcome {
    let mut value = arg(args, 0)?.clone();
    for key in &args[1..] {
        value = match (&value, key) {
            (Value::Nil, _) => string(""),
            (Value::Map(map), Value::String(name)) => {
                map.get(name.as_ref()).cloned().unwrap_or_else(|| string(""))
            }
            _ => value.index(key)?,
        };
    }
    Ok(value)
}

/// JSON as template data. Whole numbers stay whole.
pub fn from_json(value: &serde_json::Value) -> Value {
    use serde_json::Value as J;
    match value {
        J::Null => Value::Nil,
        J::Bool(b) => Value::Bool(*b),
        J::Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(i), _) => Value::Int(i),
            (None, Some(u)) => Value::Uint(u),
            (None, None) => Value::Float(n.as_f64().unwrap_or(0.0)),
        },
        J::String(s) => string(s.as_str()),
        J::Array(items) => Value::List(items.iter().map(from_json).collect::<Vec<_>>().into()),
        J::Object(fields) => {
            let map: BTreeMap<Arc<str>, Value> =
                fields.iter().map(|(k, v)| (Arc::from(k.as_str()), from_json(v))).collect();
            Value::Map(Arc::new(map))
        }
    }
}

/// Template data as JSON, for the `json` function.
fn to_json(value: &Value) -> serde_json::Value {
    use serde_json::Value as J;
    match value {
        Value::Bool(b) => J::Bool(*b),
        Value::Int(i) => J::from(*i),
        Value::Uint(u) => J::from(*u),
        Value::Float(f) => J::from(*f),
        Value::String(s) => J::from(s.as_ref()),
        Value::List(items) => J::Array(items.iter().map(to_json).collect()),
        Value::Map(map) => J::Object(
            map.iter()
                .filter(|(k, _)| k.as_ref() != LABELS)
                .map(|(k, v)| (k.to_string(), to_json(v)))
                .collect(),
        ),
        Value::Nil | Value::Function(_) => J::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(template: &str, json: &str) -> Result<String, Failure> {
        Format::parse_list(template)?.render(&from_json(&serde_json::from_str(json).unwrap()))
    }

    #[test]
    fn dockers_functions() {
        let data = r#"{"A":"x,Y","L":["a","b"],"N":{"k":1},"Big":18446744073709551615,"Labels":{"a.b":"c"}}"#;
        for (template, want) in [
            ("{{json .L}} {{.Big}}", r#"["a","b"] 18446744073709551615"#),
            ("{{join .L \"/\"}}", "a/b"),
            ("{{index (split .A \",\") 1}}", "Y"),
            ("{{upper .A}}{{lower .A}}", "X,Yx,y"),
            ("{{len .L}}{{title \"ab cd\"}}", "2Ab Cd"),
            ("{{pad .A 1 2}}|{{truncate .A 2}}", " x,Y  |x,"),
            ("{{index .Labels \"a.b\"}}{{index .Labels \"none\"}}", "c"),
            ("{{range $k, $v := .N}}{{$k}}={{$v}}{{end}}", "k=1"),
            ("{{.A}}\\t{{println \"z\"}}", "x,Y\tz\n"),
            ("{{slice .A 0 1}}", "x"),
        ] {
            assert_eq!(render(template, data).unwrap(), want, "{template}");
        }
    }

    #[test]
    fn missing_key_and_bad_syntax_are_errors() {
        let message = |template: &str| render(template, r#"{"Labels":{}}"#).unwrap_err().message;
        assert_eq!(
            message("{{.Nope}}"),
            "failed to execute template: template: :1:2: executing \"\" at <.Nope>: can't evaluate field Nope"
        );
        assert_eq!(message("{{"), "failed to parse template: template: :1: unclosed action");
        assert_eq!(Format::parse("{{").err().unwrap().code, 64);
        assert_eq!(render("{{.Labels.none}}", r#"{"Labels":{}}"#).unwrap(), "<no value>");
    }

    #[test]
    fn json_escapes_as_go() {
        assert_eq!(render("{{json .A}}", r#"{"A":"<&>"}"#).unwrap(), r#""\u003c\u0026\u003e""#);
    }
}
