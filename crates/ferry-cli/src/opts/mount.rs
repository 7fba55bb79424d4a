//! `--mount` and `--tmpfs`.

use serde_json::{Map, Value, json};

use crate::text::quote;

/// Splits comma-separated fields; a field with commas is written in double quotes.
///
/// # Errors
/// When a quote is not closed.
pub fn csv(text: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut field = String::new();
    let mut quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (quoted, c) {
            (false, '"') if field.is_empty() => quoted = true,
            (true, '"') if chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            (true, '"') => quoted = false,
            (false, ',') => fields.push(std::mem::take(&mut field)),
            (_, c) => field.push(c),
        }
    }
    if quoted {
        return Err("parse error on line 1, column 1: extraneous or missing \" in quoted-field".to_owned());
    }
    fields.push(field);
    Ok(fields)
}

/// Parses one `--mount` value into the API's object.
///
/// # Errors
/// Docker's text for a malformed value.
pub fn parse(text: &str) -> Result<Value, String> {
    let mut mount = Map::new();
    let mut options: [Map<String, Value>; 4] = Default::default();
    let [bind, volume, tmpfs, image] = &mut options;
    let mut driver = Map::new();
    let mut kind = "volume".to_owned();
    if text.is_empty() {
        return Err("EOF".to_owned());
    }
    for field in csv(text)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_ascii_lowercase(), Some(value)),
            None => (field.to_ascii_lowercase(), None),
        };
        let flag = || value.map_or(Ok(true), |v| switch(&key, v));
        match (key.as_str(), value) {
            ("readonly" | "ro", _) => {
                mount.insert("ReadOnly".to_owned(), flag()?.into());
            }
            ("volume-nocopy", _) => {
                volume.insert("NoCopy".to_owned(), flag()?.into());
            }
            ("bind-nonrecursive", _) => {
                bind.insert("NonRecursive".to_owned(), flag()?.into());
            }
            (_, None) => return Err(format!("invalid field '{field}' must be a key=value pair")),
            ("type", Some(v)) => {
                kind = v.to_ascii_lowercase();
            }
            ("source" | "src", Some(v)) => {
                mount.insert("Source".to_owned(), v.into());
            }
            ("target" | "dst" | "destination", Some(v)) => {
                mount.insert("Target".to_owned(), v.into());
            }
            ("consistency", Some(v)) => {
                mount.insert("Consistency".to_owned(), v.to_ascii_lowercase().into());
            }
            ("bind-propagation", Some(v)) => {
                bind.insert("Propagation".to_owned(), v.to_ascii_lowercase().into());
            }
            ("bind-create-src" | "bind-create-mountpoint", Some(v)) => {
                bind.insert("CreateMountpoint".to_owned(), switch(&key, v)?.into());
            }
            ("bind-recursive", Some(v)) => recursion(v, bind)?,
            ("volume-subpath", Some(v)) => {
                volume.insert("Subpath".to_owned(), v.into());
            }
            ("volume-label", Some(v)) => {
                let (k, v) = v.split_once('=').unwrap_or((v, ""));
                insert_pair(volume.entry("Labels").or_insert_with(|| json!({})), k, v);
            }
            ("volume-driver", Some(v)) => {
                driver.insert("Name".to_owned(), v.into());
            }
            ("volume-opt", Some(v)) => {
                let (k, v) = v.split_once('=').unwrap_or((v, ""));
                insert_pair(driver.entry("Options").or_insert_with(|| json!({})), k, v);
            }
            ("image-subpath", Some(v)) => {
                image.insert("Subpath".to_owned(), v.into());
            }
            ("tmpfs-size", Some(v)) => {
                let size = crate::units::ram_in_bytes(v).map_err(|_| bad_value(&key, v))?;
                tmpfs.insert("SizeBytes".to_owned(), size.into());
            }
            ("tmpfs-mode", Some(v)) => {
                let mode = u32::from_str_radix(v, 8).map_err(|_| bad_value(&key, v))?;
                tmpfs.insert("Mode".to_owned(), mode.into());
            }
            _ => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
    }
    if kind.is_empty() {
        return Err("type is required".to_owned());
    }
    if mount.get("Target").is_none_or(|t| t == "") {
        return Err("target is required".to_owned());
    }
    if bind.contains_key("ReadOnlyForceRecursive") {
        let needs = |what: &str| {
            Err(format!("option 'bind-recursive=readonly' requires '{what}' to be specified in conjunction"))
        };
        if mount.get("ReadOnly") != Some(&Value::Bool(true)) {
            return needs("readonly");
        }
        if bind.get("Propagation").and_then(Value::as_str) != Some("rprivate") {
            return needs("bind-propagation=rprivate");
        }
    }
    if bind.contains_key("ReadOnlyNonRecursive") && mount.get("ReadOnly") != Some(&Value::Bool(true)) {
        return Err(
            "option 'bind-recursive=writable' requires 'readonly' to be specified in conjunction".to_owned()
        );
    }
    if !driver.is_empty() {
        volume.insert("DriverConfig".to_owned(), Value::Object(driver));
    }
    let names = [
        ("bind", "BindOptions"),
        ("volume", "VolumeOptions"),
        ("tmpfs", "TmpfsOptions"),
        ("image", "ImageOptions"),
    ];
    for ((owner, name), values) in names.into_iter().zip(options) {
        if values.is_empty() {
            continue;
        }
        if owner != kind {
            return Err(format!("cannot mix '{owner}-*' options with mount type '{kind}'"));
        }
        let mut values = values;
        if owner == "volume" {
            // Docker's client always sends it.
            values.entry("DriverConfig").or_insert_with(|| json!({}));
        }
        mount.insert(name.to_owned(), Value::Object(values));
    }
    if kind == "bind"
        && let Some(source) = mount.get("Source").and_then(Value::as_str)
        && source.starts_with('.')
    {
        let absolute = absolute(source);
        mount.insert("Source".to_owned(), absolute.into());
    }
    mount.insert("Type".to_owned(), kind.into());
    Ok(Value::Object(mount))
}

fn recursion(value: &str, bind: &mut Map<String, Value>) -> Result<(), String> {
    match value {
        "enabled" => {}
        "disabled" => {
            bind.insert("NonRecursive".to_owned(), true.into());
        }
        "writable" => {
            bind.insert("ReadOnlyNonRecursive".to_owned(), true.into());
        }
        "readonly" => {
            bind.insert("ReadOnlyForceRecursive".to_owned(), true.into());
        }
        _ => {
            return Err(format!(
                "invalid value for bind-recursive: {value} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")"
            ));
        }
    }
    Ok(())
}

fn insert_pair(map: &mut Value, key: &str, value: &str) {
    if let Some(map) = map.as_object_mut() {
        map.insert(key.to_owned(), value.into());
    }
}

fn switch(key: &str, value: &str) -> Result<bool, String> {
    crate::text::parse_bool(value).map_err(|_| bad_value(key, value))
}

fn bad_value(key: &str, value: &str) -> String {
    format!("invalid value for {key}: {value}")
}

/// A path made absolute and free of `.` and `..` by its text alone, as Go's `filepath.Abs`.
pub fn absolute(path: &str) -> String {
    let base = std::env::current_dir().unwrap_or_else(|_| "/".into());
    let mut parts: Vec<String> = Vec::new();
    for part in base.join(path).components() {
        match part {
            std::path::Component::Normal(name) => parts.push(name.to_string_lossy().into_owned()),
            std::path::Component::ParentDir => {
                parts.pop();
            }
            _ => {}
        }
    }
    format!("/{}", parts.join("/"))
}

/// `--tmpfs path[:options]`.
pub fn tmpfs(values: &[String]) -> Map<String, Value> {
    let pair = |v: &String| {
        let (path, options) = v.split_once(':').unwrap_or((v, ""));
        (path.to_owned(), Value::from(options))
    };
    values.iter().map(pair).collect()
}

/// `-v` values apart: binds and named volumes for `HostConfig.Binds`, bare paths for `Config.Volumes`.
///
/// # Errors
/// When a value is empty; everything else is the engine's to judge.
pub fn volumes(values: &[String]) -> Result<(Vec<String>, Map<String, Value>), String> {
    let mut binds = Vec::new();
    let mut anonymous = Map::new();
    for value in values {
        match value.split_once(':') {
            None if value.is_empty() => return Err("invalid empty volume spec".to_owned()),
            None => {
                anonymous.insert(value.clone(), json!({}));
            }
            Some((source, rest)) if source.starts_with('.') => {
                binds.push(format!("{}:{rest}", absolute(source)));
            }
            Some(_) => binds.push(value.clone()),
        }
    }
    Ok((binds, anonymous))
}

/// `key=value` pairs of `--log-opt`, `--storage-opt` and the like.
///
/// # Errors
/// `complaint` when a value has no `=`.
pub fn pairs(values: &[String], complaint: &str) -> Result<Map<String, Value>, String> {
    let mut all = Map::new();
    for value in values {
        let (key, text) = value.split_once('=').ok_or_else(|| complaint.replace("{}", &quote(value)))?;
        all.insert(key.to_owned(), text.into());
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts() {
        assert_eq!(
            parse("type=bind,src=/a,dst=/b,ro,bind-propagation=rslave").unwrap(),
            json!({"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": true,
                   "BindOptions": {"Propagation": "rslave"}})
        );
        assert_eq!(
            parse("target=/b,volume-label=a=b,volume-driver=local,\"volume-opt=o=x,y\"").unwrap(),
            json!({"Type": "volume", "Target": "/b", "VolumeOptions": {"Labels": {"a": "b"},
                   "DriverConfig": {"Name": "local", "Options": {"o": "x,y"}}}})
        );
        assert_eq!(
            parse("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1770").unwrap()["TmpfsOptions"],
            json!({"SizeBytes": 1 << 20, "Mode": 0o1770})
        );
    }

    #[test]
    fn complaints() {
        assert_eq!(parse("type=x").unwrap_err(), "target is required");
        assert_eq!(parse("foo").unwrap_err(), "invalid field 'foo' must be a key=value pair");
        assert_eq!(parse("foo=1,target=/x").unwrap_err(), "unexpected key 'foo' in 'foo=1'");
        assert!(parse("type=bind,target=/x,tmpfs-size=1").unwrap_err().starts_with("cannot mix 'tmpfs-*'"));
        assert!(parse("\"target=/x").is_err());
    }

    #[test]
    fn volume_values() {
        let values = ["/data", "name:/x:ro", "./rel/../y:/y"].map(str::to_owned);
        let (binds, anonymous) = volumes(&values).unwrap();
        assert_eq!(binds[0], "name:/x:ro");
        assert!(binds[1].starts_with('/') && binds[1].ends_with("/y:/y") && !binds[1].contains("rel"));
        assert!(anonymous.contains_key("/data"));
        assert!(volumes(&[String::new()]).is_err());
    }
}
