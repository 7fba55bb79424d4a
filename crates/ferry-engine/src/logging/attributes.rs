//! What a log entry can say about its container: the options `labels`, `labels-regex`, `env`, `env-regex` and `tag`.

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::{MissingKey, Template, TemplateError, Value};
use regex::Regex;

use super::{Options, Subject};
use crate::container::record::ContainerRecord;

/// Labels and variables of the container that the options name; `rename` makes a key fit for the driver.
pub fn chosen(
    record: &ContainerRecord,
    options: &Options,
    rename: impl Fn(&str) -> String,
) -> Result<BTreeMap<String, String>, String> {
    let mut out = BTreeMap::new();
    let labels = &record.config.labels;
    let variables: BTreeMap<&str, &str> =
        record.config.env.iter().filter_map(|variable| variable.split_once('=')).collect();
    for name in names(options, "labels") {
        if let Some(value) = labels.get(name) {
            out.insert(rename(name), value.clone());
        }
    }
    if let Some(pattern) = pattern(options, "labels-regex")? {
        for (name, value) in labels.iter().filter(|(name, _)| pattern.is_match(name)) {
            out.insert(rename(name), value.clone());
        }
    }
    for name in names(options, "env") {
        if let Some(value) = variables.get(name) {
            out.insert(rename(name), (*value).to_owned());
        }
    }
    if let Some(pattern) = pattern(options, "env-regex")? {
        for (name, value) in variables.iter().filter(|(name, _)| pattern.is_match(name)) {
            out.insert(rename(name), (*value).to_owned());
        }
    }
    Ok(out)
}

fn names<'a>(options: &'a Options, key: &str) -> impl Iterator<Item = &'a str> {
    options.get(key).map(String::as_str).unwrap_or_default().split(',').filter(|name| !name.is_empty())
}

fn pattern(options: &Options, key: &str) -> Result<Option<Regex>, String> {
    let Some(text) = options.get(key).filter(|text| !text.is_empty()) else { return Ok(None) };
    Regex::new(text).map(Some).map_err(|e| {
        let text = e.to_string();
        // The last line has the reason; those before show the place.
        let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
        format!("error parsing regexp: {reason}: `{}`", options.get(key).map_or("", String::as_str))
    })
}

/// The container's tag: the option's template, or the driver's default.
pub fn tag(subject: &Subject<'_>, options: &Options, default: &str) -> Result<String, String> {
    let source = options.get("tag").filter(|t| !t.is_empty()).map_or(default, String::as_str);
    if !source.contains("{{") {
        return Ok(source.to_owned());
    }
    let template = functions(Template::new("log-tag").missing_key(MissingKey::Error));
    let template = template.parse(source).map_err(|e| match e {
        TemplateError::Parse { line, message, .. } | TemplateError::Lex { line, message, .. } => {
            format!("template: log-tag:{line}: {message}")
        }
        other => format!("template: log-tag: {other}"),
    })?;
    template.execute_to_string(&facts(subject)).map_err(|e| match e {
        TemplateError::MissingKey { key } => {
            let column = source.find(&format!(".{key}")).unwrap_or_default();
            format!(
                "template: log-tag:1:{column}: executing \"log-tag\" at <.{key}>: can't evaluate field {key} in type *logger.Info"
            )
        }
        other => format!("template: log-tag: {other}"),
    })
}

fn string(text: impl Into<String>) -> Value {
    Value::String(Arc::from(text.into()))
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The functions of Docker's templates that make sense on texts.
fn functions(template: Template) -> Template {
    let first = |args: &[Value]| {
        args.first().map(text_of).ok_or_else(|| TemplateError::Exec("wrong number of args".to_owned()))
    };
    template
        .func("lower", move |args| Ok(string(first(args)?.to_lowercase())))
        .func("upper", move |args| Ok(string(first(args)?.to_uppercase())))
        .func("title", move |args| {
            let text = first(args)?;
            let mut chars = text.chars();
            let head: String = chars.next().into_iter().flat_map(char::to_uppercase).collect();
            Ok(string(head + chars.as_str()))
        })
        .func("json", move |args| {
            let text = first(args)?;
            Ok(string(serde_json::Value::String(text).to_string()))
        })
        .func("truncate", move |args| {
            let text = first(args)?;
            let length = args.get(1).and_then(|n| n.to_string().parse().ok()).unwrap_or(usize::MAX);
            Ok(string(text.chars().take(length).collect::<String>()))
        })
}

/// The first twelve bytes, as Docker's `ID` and `ImageID` have them.
fn short(text: &str) -> &str {
    text.get(..12).unwrap_or(text)
}

/// The command line, program first.
pub fn command(record: &ContainerRecord) -> String {
    record.args.join(" ")
}

fn facts(subject: &Subject<'_>) -> Value {
    let record = subject.record;
    let id = record.id.as_str();
    let image = record.image_id.to_string();
    let name = record.name.to_string();
    let text = [
        ("ID", short(id).to_owned()),
        ("FullID", id.to_owned()),
        ("Name", name.clone()),
        ("ImageID", short(&image).to_owned()),
        ("ImageFullID", image.clone()),
        ("ImageName", record.config.image.clone()),
        ("Command", command(record)),
        ("DaemonName", "docker".to_owned()),
        ("Hostname", subject.hostname.to_owned()),
        ("ContainerID", id.to_owned()),
        ("ContainerName", format!("/{name}")),
        ("ContainerEntrypoint", record.args.first().cloned().unwrap_or_default()),
        ("ContainerImageID", image),
        ("ContainerImageName", record.config.image.clone()),
        ("ContainerCreated", ferry_api::Time::from_unix_nanos(i128::from(record.created_at)).to_string()),
        ("LogPath", String::new()),
    ];
    let list = |items: Vec<String>| Value::List(items.into_iter().map(string).collect::<Vec<_>>().into());
    let map = |items: BTreeMap<String, String>| {
        Value::Map(Arc::new(items.into_iter().map(|(k, v)| (Arc::from(k), string(v))).collect()))
    };
    let mut facts: BTreeMap<Arc<str>, Value> =
        text.into_iter().map(|(key, value)| (Arc::from(key), string(value))).collect();
    facts.insert("ContainerArgs".into(), list(record.args.iter().skip(1).cloned().collect()));
    facts.insert("ContainerEnv".into(), list(record.config.env.to_vec()));
    let labels = record.config.labels.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    facts.insert("ContainerLabels".into(), map(labels));
    let options = record.host_config.log_config.config.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    facts.insert("Config".into(), map(options));
    Value::Map(Arc::new(facts))
}
