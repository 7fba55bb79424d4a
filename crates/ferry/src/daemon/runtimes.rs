//! The OCI runtimes an administrator registers (`runtimes`, `--add-runtime`), checked in Docker's words.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ferry_engine::{OWN_RUNTIMES, Runtime};
use serde_json::Value;

use super::values::Values;

/// Reads them. One whose program is not there is registered all the same, as in Docker, and noted.
///
/// # Errors
/// The first thing that is wrong with them.
pub fn read(
    v: &Values,
    search_path: &str,
    notes: &mut Vec<String>,
) -> Result<BTreeMap<String, Runtime>, String> {
    let mut runtimes = BTreeMap::new();
    for (name, value) in v.map("runtimes") {
        let runtime = one(&name, &value)?;
        if let Some(why) = missing(&runtime.path, search_path) {
            notes.push(format!("runtime {name} cannot run containers yet: {why}"));
        }
        runtimes.insert(name, runtime);
    }
    Ok(runtimes)
}

fn one(name: &str, value: &Value) -> Result<Runtime, String> {
    if OWN_RUNTIMES.contains(&name) {
        return Err(format!("runtime name '{name}' is reserved"));
    }
    let text = |key: &str| match &value[key] {
        Value::Null => Ok(""),
        Value::String(text) => Ok(text.as_str()),
        other => Err(format!("runtime {name}: {key} must be a string and not {other}")),
    };
    let (path, kind) = (text("path")?, text("runtimeType")?);
    let has_options = value["options"].as_object().is_some_and(|options| !options.is_empty());
    match (path, kind) {
        ("", "") => Err(format!("runtime {name}: either a runtimeType or a path must be configured")),
        ("", kind) => Err(format!(
            "runtime {name}: runtimeType {kind} is not supported: ferry has no containerd whose shims it could use; \
             give the path of an OCI runtime"
        )),
        (_, "") if has_options => Err(format!("runtime {name}: options cannot be used with a path")),
        (path, "") => {
            let runtime = Runtime { path: path.to_owned(), args: arguments(name, &value["runtimeArgs"])? };
            let has_null = |text: &String| text.contains('\0');
            if has_null(&runtime.path) || runtime.args.iter().any(has_null) {
                return Err(format!("runtime {name}: null byte in path or runtimeArgs"));
            }
            Ok(runtime)
        }
        (_, _) => Err(format!("runtime {name}: cannot configure both path and runtimeType")),
    }
}

fn arguments(name: &str, value: &Value) -> Result<Vec<String>, String> {
    let wrong = || format!("runtime {name}: runtimeArgs must be a list of strings and not {value}");
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(items) => {
            items.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
        }
        _ => Err(wrong()),
    }
}

/// Why there is nothing to execute at a path.
fn missing(path: &str, search_path: &str) -> Option<String> {
    if path.contains('/') {
        return std::fs::metadata(path).err().map(|error| format!("{path}: {error}"));
    }
    let mut candidates =
        search_path.split(':').filter(|dir| !dir.is_empty()).map(|dir| Path::new(dir).join(path));
    let found = candidates.any(|candidate: PathBuf| candidate.is_file());
    (!found).then(|| format!("{path}: executable file not found in $PATH"))
}

#[cfg(test)]
mod tests {
    use super::super::{file, flags};
    use super::*;

    fn of(args: &[&str], text: &str) -> Result<(BTreeMap<String, Runtime>, Vec<String>), String> {
        let flags = flags::parse(&args.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>())?;
        let mut notes = Vec::new();
        let values = file::parse(text, &flags)?.overlaid(flags);
        read(&values, "/bin", &mut notes).map(|runtimes| (runtimes, notes))
    }

    #[test]
    fn flags_and_file_add_up() {
        let file = r#"{"runtimes": {"b": {"path": "/bin/sh", "runtimeArgs": ["-x", "y"]}, "c": {"path": "/no/such"}}}"#;
        let (runtimes, notes) = of(&["--add-runtime=A=sh"], file).unwrap();
        assert_eq!(runtimes["a"], Runtime { path: "sh".to_owned(), args: Vec::new() });
        assert_eq!(runtimes["b"].args, ["-x", "y"]);
        assert_eq!(runtimes["c"].path, "/no/such");
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(notes[0].starts_with("runtime c cannot run containers yet: /no/such: "));
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for (text, expected) in [
            (r#"{"runc": {"path": "/x"}}"#, "runtime name 'runc' is reserved"),
            (r#"{"ferry": {"path": "/x"}}"#, "runtime name 'ferry' is reserved"),
            (r#"{"a": {}}"#, "runtime a: either a runtimeType or a path must be configured"),
            (
                r#"{"a": {"path": "/x", "runtimeType": "io.x.v1"}}"#,
                "runtime a: cannot configure both path and runtimeType",
            ),
            (
                r#"{"a": {"path": "/x", "options": {"b": 1}}}"#,
                "runtime a: options cannot be used with a path",
            ),
            (
                r#"{"a": {"path": "/x", "runtimeArgs": "b"}}"#,
                "runtime a: runtimeArgs must be a list of strings and not \"b\"",
            ),
            (r#"{"a": {"path": 1}}"#, "runtime a: path must be a string and not 1"),
            (r#"{"a": {"path": "/x\u0000"}}"#, "runtime a: null byte in path or runtimeArgs"),
        ] {
            assert_eq!(of(&[], &format!("{{\"runtimes\": {text}}}")).unwrap_err(), expected);
        }
        let shim = r#"{"runtimes": {"a": {"runtimeType": "io.containerd.kata.v2"}}}"#;
        assert!(of(&[], shim).unwrap_err().contains("runtimeType io.containerd.kata.v2 is not supported"));
        let flag = of(&["--add-runtime=runc=/x"], "").unwrap_err();
        assert!(flag.contains("runtime name 'runc' is reserved"), "{flag}");
    }
}
