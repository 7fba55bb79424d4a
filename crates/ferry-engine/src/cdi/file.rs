//! One CDI specification file: reading and checking it (CDI specification, "CDI JSON Specification").

use std::collections::BTreeMap;
use std::path::Path;

use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde::Deserialize;
use serde_json::Value;

use super::edits::ContainerEdits;

/// A file's contents.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct SpecFile {
    cdi_version: String,
    /// `vendor/class`.
    pub kind: String,
    #[serde(default)]
    #[allow(dead_code)] // known to the format, not to the engine
    annotations: BTreeMap<String, String>,
    pub devices: Vec<Device>,
    #[serde(default)]
    pub container_edits: ContainerEdits,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Device {
    pub name: String,
    #[serde(default)]
    #[allow(dead_code)]
    annotations: BTreeMap<String, String>,
    pub container_edits: ContainerEdits,
}

/// The versions there have been.
const VERSIONS: [&str; 10] =
    ["0.1.0", "0.2.0", "0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0"];

/// Reads a file; the error says what is wrong with it.
pub(super) fn read(path: &Path) -> Result<SpecFile, String> {
    let text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
    parse(&text, path.extension().is_some_and(|e| e == "json"))
}

fn parse(text: &str, json: bool) -> Result<SpecFile, String> {
    let value = if json {
        serde_json::from_str(text).map_err(|e| e.to_string())?
    } else {
        let documents = Yaml::load_from_str(text).map_err(|e| e.to_string())?;
        to_json(documents.first().ok_or("it is empty")?, 0)?
    };
    let spec: SpecFile = serde_json::from_value(value).map_err(|e| e.to_string())?;
    check(&spec)?;
    Ok(spec)
}

/// What JSON can express of YAML.
fn to_json(yaml: &Yaml<'_>, depth: usize) -> Result<Value, String> {
    if depth > 32 {
        return Err("it is nested too deeply".to_owned());
    }
    Ok(match yaml {
        Yaml::Value(Scalar::Null) => Value::Null,
        Yaml::Value(Scalar::Boolean(b)) => (*b).into(),
        Yaml::Value(Scalar::Integer(n)) => (*n).into(),
        Yaml::Value(Scalar::FloatingPoint(n)) => n.into_inner().into(),
        Yaml::Value(Scalar::String(s)) => s.as_ref().into(),
        Yaml::Sequence(items) => {
            Value::Array(items.iter().map(|item| to_json(item, depth + 1)).collect::<Result<_, _>>()?)
        }
        Yaml::Mapping(entries) => {
            let mut map = serde_json::Map::new();
            for (key, value) in entries {
                let key = key.as_str().ok_or("a key is not a string")?;
                map.insert(key.to_owned(), to_json(value, depth + 1)?);
            }
            Value::Object(map)
        }
        _ => return Err("it has tags or aliases that have no meaning in JSON".to_owned()),
    })
}

fn check(spec: &SpecFile) -> Result<(), String> {
    if !VERSIONS.contains(&spec.cdi_version.as_str()) {
        return Err(format!("invalid version {:?}", spec.cdi_version));
    }
    let Some((vendor, class)) = spec.kind.split_once('/') else {
        return Err(format!("kind {:?} is not vendor/class", spec.kind));
    };
    let word = |s: &str, first: fn(&char) -> bool, more: &str| {
        s.chars().next().is_some_and(|c| first(&c))
            && s.chars().next_back().is_some_and(|c| c.is_ascii_alphanumeric())
            && s.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    if !word(vendor, char::is_ascii_alphabetic, "_-.") || !word(class, char::is_ascii_alphabetic, "_-.") {
        return Err(format!("invalid kind {:?}", spec.kind));
    }
    if spec.devices.is_empty() {
        return Err("it has no devices".to_owned());
    }
    for (at, device) in spec.devices.iter().enumerate() {
        if !word(&device.name, char::is_ascii_alphanumeric, "_-.:") {
            return Err(format!("invalid device name {:?}", device.name));
        }
        if spec.devices[..at].iter().any(|other| other.name == device.name) {
            return Err(format!("device {:?} is there twice", device.name));
        }
        device.container_edits.check().map_err(|e| format!("device {:?}: {e}", device.name))?;
    }
    spec.container_edits.check()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said() {
        let cases = [
            ("kind: a/b", "missing field `cdiVersion`"),
            ("{cdiVersion: '9.0.0', kind: a/b, devices: [{name: x, containerEdits: {}}]}", "invalid version"),
            ("{cdiVersion: '0.6.0', kind: ab, devices: [{name: x, containerEdits: {}}]}", "not vendor/class"),
            ("{cdiVersion: '0.6.0', kind: 1a/b, devices: [{name: x, containerEdits: {}}]}", "invalid kind"),
            ("{cdiVersion: '0.6.0', kind: a/b, devices: []}", "no devices"),
            ("{cdiVersion: '0.6.0', kind: a/b, devices: [{name: 'x/', containerEdits: {}}]}", "device name"),
            ("{cdiVersion: '0.6.0', kind: a/b, devices: [], wrong: 1}", "unknown field `wrong`"),
            ("{cdiVersion: '0.6.0', kind: a/b, devices: [{name: x, containerEdits: {env: ['=x']}}]}", "env"),
            ("{a: [", ""),
            ("", ""),
        ];
        for (text, wanted) in cases {
            let error = parse(text, false).map(|_| ()).unwrap_err();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }
}
