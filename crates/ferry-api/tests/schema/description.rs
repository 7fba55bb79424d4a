//! The part of OpenAPI 2 that the API descriptions use for definitions and answers.
//!
//! The integration suite includes this file too, to check what an engine answers.

use saphyr::{LoadableYamlNode as _, Yaml};
use serde_json::{Map, Value, json};

/// The definitions of the API description.
pub struct Description {
    definitions: Yaml<'static>,
    #[allow(dead_code, reason = "the tests of the types look at definitions only")]
    paths: Yaml<'static>,
}

impl Description {
    /// That of the newest version.
    pub fn load() -> Self {
        Self::parse(include_str!("../data/docker-engine-v1.55.yaml"))
    }

    /// That of API 1.51, Docker 28's.
    #[allow(dead_code, reason = "the tests of the types look at the newest version only")]
    pub fn load_1_51() -> Self {
        Self::parse(include_str!("../data/docker-engine-v1.51.yaml"))
    }

    fn parse(text: &str) -> Self {
        // The examples close their braces at the indentation of their key, which YAML forbids.
        let indented = |line: &str| match line.trim() {
            "}" | "]" => format!("    {line}\n"),
            _ => format!("{line}\n"),
        };
        let text: String = text.lines().map(indented).collect();
        let mut documents = Yaml::load_from_str(text.leak()).unwrap();
        let document = documents.remove(0);
        Self { definitions: document["definitions"].clone(), paths: document["paths"].clone() }
    }

    /// A schema with its references resolved.
    fn resolve<'a>(&'a self, schema: &'a Yaml<'static>) -> &'a Yaml<'static> {
        match member(schema, "$ref").and_then(Yaml::as_str) {
            Some(name) => self.resolve(&self.definitions[name.trim_start_matches("#/definitions/")]),
            None => schema,
        }
    }

    /// Properties of an object, those of `allOf` included.
    fn properties<'a>(&'a self, schema: &'a Yaml<'static>) -> Vec<(&'a str, &'a Yaml<'static>)> {
        let schema = self.resolve(schema);
        let parts = member(schema, "allOf").and_then(Yaml::as_vec).into_iter().flatten();
        let mut all: Vec<_> = parts.flat_map(|part| self.properties(part)).collect();
        let own = member(schema, "properties").and_then(Yaml::as_mapping).into_iter().flatten();
        all.extend(own.map(|(name, schema)| (name.as_str().unwrap(), schema)));
        all
    }

    /// The one schema an `allOf` without properties stands for.
    fn unwrap<'a>(&'a self, schema: &'a Yaml<'static>) -> &'a Yaml<'static> {
        let schema = self.resolve(schema);
        match member(schema, "allOf").and_then(Yaml::as_vec).map(Vec::as_slice) {
            Some([only]) if member(schema, "properties").is_none() => self.unwrap(only),
            _ => schema,
        }
    }

    fn kind<'a>(&'a self, schema: &'a Yaml<'static>) -> &'a str {
        let object = !self.properties(schema).is_empty() || member(schema, "additionalProperties").is_some();
        member(schema, "type").and_then(Yaml::as_str).unwrap_or(if object { "object" } else { "any" })
    }

    /// A value of a definition with every property set to something that is not its zero value.
    pub fn example(&self, definition: &str) -> Value {
        self.example_of(&self.definitions[definition])
    }

    fn example_of(&self, schema: &Yaml<'static>) -> Value {
        let schema = self.unwrap(schema);
        let text = |name| member(schema, name).and_then(Yaml::as_str).unwrap_or_default();
        let is_time = text("format").starts_with("date") || text("example").ends_with('Z');
        match self.kind(schema) {
            "object" => {
                let own = self.properties(schema);
                let mut object: Map<String, Value> =
                    own.into_iter().map(|(n, s)| (n.to_owned(), self.example_of(s))).collect();
                if let (true, Some(values)) = (object.is_empty(), member(schema, "additionalProperties")) {
                    object.insert("key".to_owned(), self.example_of(values));
                }
                Value::Object(object)
            }
            "array" => {
                let one = match self.example_of(member(schema, "items").unwrap()) {
                    // Lists of lists are lists of pairs, wherever the description has them.
                    Value::Array(inner) => Value::Array([inner.clone(), inner].concat()),
                    other => other,
                };
                let count = member(schema, "minItems").and_then(Yaml::as_integer).unwrap_or(1).max(1);
                Value::Array((0..count).map(|_| one.clone()).collect())
            }
            "string" if is_time => json!("2024-05-06T07:08:09.123456789Z"),
            "string" => match member(schema, "enum").and_then(Yaml::as_vec) {
                Some(values) => json!(values.iter().rev().find_map(|v| v.as_str().filter(|s| !s.is_empty()))),
                None => json!("text"),
            },
            "integer" => json!(1),
            "number" => json!(1.5),
            "boolean" => json!(true),
            _ => json!({}),
        }
    }

    /// Where a value is not of the described kind: wrong types, unknown or missing members. Null
    /// stands for an absent list or object anywhere, as Go writes it.
    pub fn mismatches(&self, definition: &str, value: &Value) -> Vec<String> {
        let mut found = Vec::new();
        self.compare(&self.definitions[definition], value, definition, &mut found);
        found
    }

    /// Where an answer is not as described: a status nobody described, or a body of another kind.
    #[allow(dead_code, reason = "the tests of the types have no answers")]
    pub fn answer_mismatches(
        &self,
        method: &str,
        template: &str,
        status: u16,
        body: Option<&Value>,
    ) -> Vec<String> {
        let at = format!("{method} {template} {status}");
        let operation = member(&self.paths, template).and_then(|p| member(p, &method.to_lowercase()));
        let Some(responses) = operation.and_then(|o| member(o, "responses")) else {
            return vec![format!("{at}: no such operation")];
        };
        let described = responses.as_mapping().into_iter().flatten().find(|(code, _)| {
            code.as_integer() == Some(i64::from(status)) || code.as_str() == Some(&status.to_string())
        });
        let Some((_, response)) = described else {
            return vec![format!("{at}: the status is not described")];
        };
        let mut found = Vec::new();
        if let (Some(schema), Some(body)) = (member(response, "schema"), body) {
            self.compare(schema, body, &at, &mut found);
        }
        found
    }

    fn compare(&self, schema: &Yaml<'static>, value: &Value, path: &str, found: &mut Vec<String>) {
        let nullable = member(schema, "x-nullable").is_some_and(|v| v.as_bool() == Some(true));
        let schema = self.unwrap(schema);
        let kind = self.kind(schema);
        let nullable = nullable || member(schema, "x-nullable").is_some_and(|v| v.as_bool() == Some(true));
        let fits = match value {
            Value::Null => nullable || matches!(kind, "array" | "object" | "any"),
            Value::Bool(_) => matches!(kind, "boolean" | "any"),
            Value::Number(n) => kind == "number" || kind == "any" || (kind == "integer" && !n.is_f64()),
            Value::String(_) => matches!(kind, "string" | "any"),
            Value::Array(_) => matches!(kind, "array" | "any"),
            Value::Object(_) => matches!(kind, "object" | "any"),
        };
        if !fits {
            return found.push(format!("{path}: {value} is not of type {kind}"));
        }
        match value {
            Value::Array(items) if kind == "array" => {
                let schema = member(schema, "items").unwrap();
                items.iter().for_each(|item| self.compare(schema, item, path, found));
            }
            Value::Object(members) if kind == "object" => self.compare_members(schema, members, path, found),
            _ => {}
        }
    }

    fn compare_members(
        &self,
        schema: &Yaml<'static>,
        members: &Map<String, Value>,
        path: &str,
        found: &mut Vec<String>,
    ) {
        let known = self.properties(schema);
        let others = member(schema, "additionalProperties");
        for (name, value) in members {
            let path = format!("{path}.{name}");
            match (known.iter().find(|(n, _)| n == name), others) {
                (Some((_, schema)), _) => self.compare(schema, value, &path, found),
                (None, Some(schema)) => self.compare(schema, value, &path, found),
                (None, None) if known.is_empty() => {}
                (None, None) => found.push(format!("{path} is not described")),
            }
        }
        let required = member(schema, "required").and_then(Yaml::as_vec).into_iter().flatten();
        let missing = required.filter_map(Yaml::as_str).filter(|name| !members.contains_key(*name));
        found.extend(missing.map(|name| format!("{path}.{name} is missing")));
    }
}

fn member<'a>(schema: &'a Yaml<'static>, name: &str) -> Option<&'a Yaml<'static>> {
    schema.as_mapping_get(name)
}
