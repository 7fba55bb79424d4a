//! Lists of objects in the three forms of `--format`.

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::Value;

use super::table;
use super::template::{Format, LABELS};
use crate::failure::Failure;

/// One object: its fields as shown, by template name.
#[derive(Debug, Default, Clone)]
pub struct Row {
    fields: BTreeMap<&'static str, String>,
    labels: Vec<(String, String)>,
    flags: Vec<(&'static str, bool)>,
}

impl Row {
    /// A row of these fields.
    pub fn new(fields: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        Self { fields: fields.into_iter().collect(), ..Self::default() }
    }

    /// Adds what `.Label "name"` answers from.
    #[must_use]
    pub fn with_labels(mut self, labels: &serde_json::Value) -> Self {
        let pairs = labels.as_object().into_iter().flatten();
        self.labels = pairs.map(|(k, v)| (k.clone(), v.as_str().unwrap_or_default().to_owned())).collect();
        self
    }

    /// Adds a field that is a truth value in templates and JSON.
    #[must_use]
    pub fn with_flag(mut self, name: &'static str, value: bool) -> Self {
        self.flags.push((name, value));
        self
    }

    /// The field as shown.
    pub fn get(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    fn data(&self) -> Value {
        let text = |s: &str| Value::String(Arc::from(s));
        let mut map: BTreeMap<Arc<str>, Value> =
            self.fields.iter().map(|(k, v)| (Arc::from(*k), text(v))).collect();
        map.extend(self.flags.iter().map(|(k, v)| (Arc::from(*k), Value::Bool(*v))));
        let labels = self.labels.iter().map(|(k, v)| (Arc::from(k.as_str()), text(v))).collect();
        map.insert(Arc::from(LABELS), Value::Map(Arc::new(labels)));
        Value::Map(Arc::new(map))
    }
}

/// A kind of list.
#[derive(Debug)]
pub struct Listing<'a> {
    /// Fields with their column titles.
    pub headers: &'a [(&'static str, &'static str)],
    /// Columns of the default table.
    pub columns: &'a [&'static str],
    /// Column shown alone by `-q`.
    pub quiet: Option<&'static str>,
}

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
            Some(template) if template.starts_with([' ', '\t']) => self.table(template.trim_start(), rows),
            _ => lines(if format == "json" { "{{json .}}" } else { format }, rows),
        }
    }

    fn default_table(&self, rows: &[Row]) -> String {
        let titles = self.columns.iter().filter_map(|c| self.headers.iter().find(|h| h.0 == *c)).map(|h| h.1);
        let mut out = vec![titles.collect::<Vec<_>>().join("\t")];
        out.extend(rows.iter().map(|r| self.columns.iter().map(|c| r.get(c)).collect::<Vec<_>>().join("\t")));
        table::align(&out)
    }

    fn table(&self, template: &str, rows: &[Row]) -> Result<String, Failure> {
        let format = Format::parse_list(template)?;
        let mut titles = Row::new(self.headers.iter().map(|(field, title)| (*field, (*title).to_owned())));
        for label in labels_asked_for(template) {
            let tail = label.rsplit(['.', '/']).next().unwrap_or(&label).replace(['-', '_'], " ");
            titles.labels.push((label, tail));
        }
        let mut out = vec![format.render(&titles.data())?];
        for row in rows {
            out.push(format.render(&row.data())?);
        }
        let out: Vec<String> = out.iter().flat_map(|text| text.split('\n').map(str::to_owned)).collect();
        Ok(table::align(&out))
    }
}

/// Names in `.Label "name"`.
fn labels_asked_for(template: &str) -> Vec<String> {
    let tails = template.split(".Label \"").skip(1);
    tails.filter_map(|t| t.split_once('"')).map(|(name, _)| name.to_owned()).collect()
}

fn lines(template: &str, rows: &[Row]) -> Result<String, Failure> {
    let format = Format::parse_list(template)?;
    rows.iter().map(|row| Ok(format!("{}\n", format.render(&row.data())?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: Listing<'_> =
        Listing { headers: &[("ID", "ID"), ("Names", "NAMES")], columns: &["ID", "Names"], quiet: None };

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
        assert_eq!(render("table {{.Names}}\\t{{.ID}}"), "NAMES     ID\nweb       1\n");
        assert_eq!(
            render("table {{.ID}}\\t{{.Label \"com.x.team-name\"}}"),
            "ID        team name\n1         a\n"
        );
        assert!(LIST.render(Some("{{.Nope}}"), &rows()).is_err());
    }

    #[test]
    fn quiet_ignores_only_tables() {
        let quiet = Listing { quiet: Some("ID"), ..LIST };
        assert_eq!(quiet.render(None, &rows()).unwrap(), "1\n");
        assert_eq!(quiet.render(Some("{{.Names}}"), &rows()).unwrap(), "web\n");
    }
}
