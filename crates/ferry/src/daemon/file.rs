//! `daemon.json`.

use serde_json::{Map, Value};

use super::directives::{Kind, by_key};
use super::values::Values;

/// Reads a configuration file's text and compares it with the flags.
///
/// # Errors
/// When it is no JSON object, has unknown keys, values of the wrong type, or names what a flag names too; in Docker's
/// words.
pub fn parse(text: &str, flags: &Values) -> Result<Values, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).trim();
    if text.is_empty() {
        return Ok(Values::default());
    }
    let object: Map<String, Value> = serde_json::from_str(text).map_err(|e| match e.is_eof() {
        true => "invalid JSON: unexpected end of JSON input".to_owned(),
        false => format!("invalid JSON: {e}"),
    })?;
    let object = flatten(object);
    let unknown: Vec<&str> = object.keys().map(String::as_str).filter(|key| by_key(key).is_none()).collect();
    if !unknown.is_empty() {
        return Err(format!(
            "the following directives don't match any configuration option: {}",
            unknown.join(", ")
        ));
    }
    if object.contains_key("host-gateway-ip") && object.contains_key("host-gateway-ips") {
        return Err(
            "host-gateway-ip and host-gateway-ips must not both be specified in the config file".to_owned()
        );
    }
    let conflicts: Vec<String> = flags
        .iter()
        .filter_map(|(name, flag)| {
            let (_, value) = object.iter().find(|(key, _)| by_key(key).is_some_and(|d| d.name() == name))?;
            // Runtimes may be registered in both places.
            (name != "runtimes")
                .then(|| format!("{name}: (from flag: {}, from file: {})", go(flag), go(value)))
        })
        .collect();
    if !conflicts.is_empty() {
        return Err(format!(
            "the following directives are specified both as a flag and in the configuration file: {}",
            conflicts.join(", ")
        ));
    }
    let mut values = Values::default();
    for (key, value) in object {
        if let Some(directive) = by_key(&key) {
            values.set_key(directive, value).map_err(|e| match e.starts_with("json: ") {
                true => format!("invalid JSON: {e}"),
                false => e,
            })?;
        }
    }
    Ok(values)
}

/// Docker takes the members of an object that is no directive's value (`proxies`) for directives.
fn flatten(object: Map<String, Value>) -> Map<String, Value> {
    let mut out = Map::new();
    for (key, value) in object {
        let has_members = by_key(&key).is_some_and(|d| {
            matches!(d.kind, Kind::Map | Kind::Switches | Kind::Ulimits | Kind::Runtimes | Kind::MapMap)
        });
        match value {
            Value::Object(members) if !has_members => out.extend(members),
            value => {
                out.insert(key, value);
            }
        }
    }
    out
}

/// A value as Go's `%v` prints it.
fn go(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(go).collect::<Vec<_>>().join(" ")),
        Value::Object(members) => {
            let members: Vec<String> = members.iter().map(|(k, v)| format!("{k}:{}", go(v))).collect();
            format!("map[{}]", members.join(" "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::flags;
    use super::*;

    fn with(text: &str, args: &[&str]) -> Result<Values, String> {
        let flags = flags::parse(&args.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>()).unwrap();
        parse(text, &flags)
    }

    #[test]
    fn unknown_keys_and_conflicts() {
        assert_eq!(
            with(r#"{"foo": 1, "bar": {"baz": 2}}"#, &[]).err().unwrap(),
            "the following directives don't match any configuration option: baz, foo"
        );
        assert_eq!(
            with(r#"{"mtu": 1500, "labels": ["a=b"]}"#, &["--mtu=1400", "--label=c=d"]).err().unwrap(),
            "the following directives are specified both as a flag and in the configuration file: \
             labels: (from flag: [c=d], from file: [a=b]), mtu: (from flag: 1400, from file: 1500)"
        );
        assert!(with(r#"{"mtu": "x"}"#, &[]).err().unwrap().contains("Config.mtu of type int"));
        assert!(with("[]", &[]).is_err() && with("{", &[]).is_err());
    }

    #[test]
    fn what_is_read() {
        let values = with(
            "\u{feff}{\"proxies\": {\"http-proxy\": \"p\"}, \"log-opts\": {\"a\": \"b\"}, \"icc\": null}",
            &[],
        )
        .unwrap();
        assert_eq!(values.text("http-proxy"), Some("p".to_owned()));
        assert_eq!(values.map("log-opts").len(), 1);
        assert!(!values.is_set("icc"));
        assert!(!with("  \n", &["-D"]).unwrap().is_set("debug"));
        assert_eq!(
            with(r#"{"host-gateway-ip": "1.2.3.4"}"#, &[]).unwrap().list("host-gateway-ips"),
            ["1.2.3.4"]
        );
    }
}
