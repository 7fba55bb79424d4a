//! Lists of objects in the forms of `--format`.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::Value as Json;

use super::go::{Object, Value};
use super::table;
use super::template::Format;
use crate::failure::Failure;

/// One object: its fields as shown, by template name.
#[derive(Debug, Default, Clone)]
pub struct Row {
    fields: BTreeMap<&'static str, Json>,
    labels: BTreeMap<String, String>,
    has_labels: bool,
}

impl Row {
    /// A row of these fields.
    pub fn new(fields: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        Self { fields: fields.into_iter().map(|(k, v)| (k, v.into())).collect(), ..Self::default() }
    }

    /// Adds what `.Label "name"` answers from.
    #[must_use]
    pub fn with_labels(mut self, labels: &Json) -> Self {
        let pairs = labels.as_object().into_iter().flatten();
        self.labels = pairs.map(|(k, v)| (k.clone(), v.as_str().unwrap_or_default().to_owned())).collect();
        self.has_labels = true;
        self
    }

    /// Adds a field that is not text in templates and JSON.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Json>) -> Self {
        self.fields.insert(name, value.into());
        self
    }

    /// Adds a field that is a truth value in templates and JSON.
    #[must_use]
    pub fn with_flag(self, name: &'static str, value: bool) -> Self {
        self.with(name, value)
    }

    /// All fields as JSON.
    pub fn json(&self) -> Json {
        self.fields.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect()
    }

    /// The field as shown.
    pub fn get(&self, name: &str) -> &str {
        self.fields.get(name).and_then(Json::as_str).unwrap_or_default()
    }
}

/// A row as templates see it: every field is a method.
#[derive(Debug)]
struct Seen {
    row: Row,
    type_name: &'static str,
}

impl Object for Seen {
    fn type_name(&self) -> String {
        self.type_name.to_owned()
    }

    fn arity(&self, method: &str) -> Option<usize> {
        match method {
            "Label" if self.row.has_labels => Some(1),
            method => self.row.fields.contains_key(method).then_some(0),
        }
    }

    fn call(&self, method: &str, args: &[String]) -> Value {
        match args {
            [label] => Value::text(self.row.labels.get(label).map_or("", String::as_str)),
            _ => self.row.fields.get(method).map_or(Value::Missing, Value::guessed),
        }
    }

    fn json(&self) -> String {
        super::json::compact(&self.row.fields.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect())
    }
}

/// The titles of a table's columns; a name that is not known has none.
#[derive(Debug)]
struct Titles {
    known: BTreeMap<&'static str, &'static str>,
    has_labels: bool,
}

impl Object for Titles {
    fn type_name(&self) -> String {
        "formatter.SubHeaderContext".to_owned()
    }

    fn arity(&self, method: &str) -> Option<usize> {
        Some(usize::from(method == "Label" && self.has_labels))
    }

    fn call(&self, method: &str, args: &[String]) -> Value {
        if let [label] = args {
            let tail = label.rsplit(['.', '/']).next().unwrap_or(label);
            return Value::text(tail.replace(['-', '_'], " "));
        }
        self.known.get(method).map_or(Value::Missing, Value::text)
    }

    fn json(&self) -> String {
        super::json::compact(&serde_json::json!(self.known))
    }
}

/// A kind of list.
#[derive(Debug)]
pub struct Listing<'a> {
    /// Name of a row's type in messages.
    pub type_name: &'static str,
    /// Fields with their column titles.
    pub headers: &'a [(&'static str, &'static str)],
    /// Columns of the default table.
    pub columns: &'a [&'static str],
    /// Column shown alone by `-q`.
    pub quiet: Option<&'static str>,
    /// The template behind `raw`.
    pub raw: &'static str,
}

/// What a message about a template begins with.
const COMPLAINT: &str = "template parsing error";

impl Listing<'_> {
    /// The list as text.
    ///
    /// # Errors
    /// When the template is malformed or asks for an unknown field.
    pub fn render(&self, format: Option<&str>, rows: &[Row]) -> Result<String, Failure> {
        let format = format.filter(|f| !f.is_empty()).unwrap_or("table");
        if let Some(field) = self.quiet
            && (format == "table" || format == "raw")
        {
            return Ok(rows.iter().map(|r| format!("{}\n", r.get(field))).collect());
        }
        match format.strip_prefix("table") {
            Some("") => Ok(self.default_table(rows)),
            Some(template) => self.table(template.trim(), rows),
            None => self.lines(
                match format {
                    "json" => "{{json .}}",
                    "raw" if !self.raw.is_empty() => self.raw,
                    other => other,
                },
                rows,
            ),
        }
    }

    /// Whether `format` makes sense for this kind of list, there being rows or not.
    ///
    /// # Errors
    /// As Docker's client words it for those lists it checks first.
    pub fn check(&self, format: &str, row: Row) -> Result<(), Failure> {
        let source = format.strip_prefix("table").unwrap_or(format);
        let parsed =
            Format::parse_list(source).map_err(|e| Failure::new(format!("failed to parse template: {e}")))?;
        parsed
            .run(&self.seen(row))
            .map(drop)
            .map_err(|e| Failure::new(format!("failed to execute template: {e}")))
    }

    fn seen(&self, row: Row) -> Value {
        Value::Object(Rc::new(Seen { row, type_name: self.type_name }))
    }

    fn default_table(&self, rows: &[Row]) -> String {
        let titles = self.columns.iter().filter_map(|c| self.headers.iter().find(|h| h.0 == *c)).map(|h| h.1);
        let mut out = vec![titles.collect::<Vec<_>>().join("\t")];
        out.extend(rows.iter().map(|r| self.columns.iter().map(|c| r.get(c)).collect::<Vec<_>>().join("\t")));
        table::align(&out)
    }

    fn table(&self, template: &str, rows: &[Row]) -> Result<String, Failure> {
        let complain = |e| Failure::new(format!("{COMPLAINT}: {e}"));
        let format = Format::parse_list(template).map_err(complain)?;
        let known = self.headers.iter().copied().collect();
        let has_labels = rows.first().is_none_or(|r| r.has_labels);
        let titles = Value::Object(Rc::new(Titles { known, has_labels }));
        let mut lines = Vec::new();
        for row in rows {
            lines.push(format.run(&self.seen(row.clone())).map_err(complain)?);
        }
        let mut out = vec![format.titles(&titles).map_err(complain)?];
        out.append(&mut lines);
        let out: Vec<String> = out.iter().flat_map(|text| text.split('\n').map(str::to_owned)).collect();
        Ok(table::align(&out))
    }

    fn lines(&self, template: &str, rows: &[Row]) -> Result<String, Failure> {
        let complain = |e| Failure::new(format!("{COMPLAINT}: {e}"));
        let format = Format::parse_list(template).map_err(complain)?;
        rows.iter()
            .map(|row| Ok(format!("{}\n", format.run(&self.seen(row.clone())).map_err(complain)?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: Listing<'_> = Listing {
        type_name: "*formatter.ContainerContext",
        headers: &[("ID", "ID"), ("Names", "NAMES")],
        columns: &["ID", "Names"],
        quiet: None,
        raw: "id: {{.ID}}\\n",
    };

    fn rows() -> Vec<Row> {
        let labels = serde_json::json!({"com.x.team-name": "a"});
        vec![Row::new([("ID", "1".to_owned()), ("Names", "web".to_owned())]).with_labels(&labels)]
    }

    #[test]
    fn forms() {
        let render = |format| LIST.render(Some(format), &rows()).unwrap();
        assert_eq!(render("table"), "ID        NAMES\n1         web\n");
        assert_eq!(render("json"), "{\"ID\":\"1\",\"Names\":\"web\"}\n");
        assert_eq!(render("{{.Names}}"), "web\n");
        assert_eq!(render("raw"), "id: 1\n\n");
        assert_eq!(render("table {{.Names}}\\t{{.ID}}"), "NAMES     ID\nweb       1\n");
        assert_eq!(render("table {{upper .Names}}"), "NAMES\nWEB\n");
        assert_eq!(
            render("table {{.ID}}\\t{{.Label \"com.x.team-name\"}}"),
            "ID        team name\n1         a\n"
        );
        let e = LIST.render(Some("{{.Nope}}"), &rows()).unwrap_err();
        assert_eq!(
            e.message,
            "template parsing error: template: :1:2: executing \"\" at <.Nope>: can't evaluate field Nope in type *formatter.ContainerContext"
        );
    }

    #[test]
    fn quiet_ignores_only_tables() {
        let quiet = Listing { quiet: Some("ID"), ..LIST };
        assert_eq!(quiet.render(None, &rows()).unwrap(), "1\n");
        assert_eq!(quiet.render(Some("{{.Names}}"), &rows()).unwrap(), "web\n");
    }
}
