//! `--device` and `--device-cgroup-rule`.

use serde_json::{Value, json};

/// What one `--device` value asks for.
#[derive(Debug)]
pub enum Device {
    /// A device node, as the API's object.
    Node(Value),
    /// A CDI device, `vendor/class=name`.
    Cdi(String),
}

/// Parses `host[:container][:permissions]` or a CDI name.
///
/// # Errors
/// Docker's text for a malformed value.
pub fn parse(text: &str) -> Result<Device, String> {
    if !text.starts_with('/') && text.contains('/') && text.contains('=') {
        return Ok(Device::Cdi(text.to_owned()));
    }
    let parts: Vec<&str> = text.split(':').collect();
    let (host, container, permissions) = match parts[..] {
        [host] => (host, host, "rwm"),
        [host, mode] if is_mode(mode) => (host, host, mode),
        [host, container] => (host, container, "rwm"),
        [host, container, mode] if is_mode(mode) => (host, container, mode),
        [_, _, mode] => return Err(format!("bad mode specified: {mode}")),
        _ => return Err(format!("invalid device specification: {text}")),
    };
    if !container.starts_with('/') {
        return Err(format!("{container} is not an absolute path"));
    }
    Ok(Device::Node(json!({
        "PathOnHost": host, "PathInContainer": container, "CgroupPermissions": permissions
    })))
}

/// `--gpus`: a number, `all`, or `count=…,device=…,driver=…,capabilities=…`. Whether there is a driver
/// for it, the engine knows.
///
/// # Errors
/// Docker's text for a malformed value.
pub fn gpus(text: &str) -> Result<Value, String> {
    let count = |value: &str| match value {
        "all" => Ok(-1),
        number => number
            .parse::<i64>()
            .map_err(|_| format!("invalid count ({number}): value must be either \"all\" or an integer")),
    };
    let (mut number, mut driver, mut ids) = (None, String::new(), Vec::new());
    let (mut capabilities, mut options) = (vec!["gpu".to_owned()], serde_json::Map::new());
    let mut seen: Vec<String> = Vec::new();
    for field in super::mount::csv(text)? {
        let (key, value) = field.split_once('=').unwrap_or(("count", field.as_str()));
        if seen.iter().any(|s| s == key) {
            return Err(format!("gpu request key '{key}' can be specified only once"));
        }
        seen.push(key.to_owned());
        match key {
            "count" => number = Some(count(value)?),
            "driver" => driver = value.to_owned(),
            "device" => ids = value.split(',').map(str::to_owned).collect(),
            "capabilities" => capabilities.extend(value.split(',').map(str::to_owned)),
            "options" => {
                for pair in super::mount::csv(value)? {
                    let (name, value) = pair.split_once('=').unwrap_or((&pair, ""));
                    options.insert(name.to_owned(), value.into());
                }
            }
            other => return Err(format!("unexpected key '{other}' in '{field}'")),
        }
    }
    let number = number.unwrap_or(if ids.is_empty() { 1 } else { 0 });
    Ok(json!({
        "Driver": driver, "Count": number, "DeviceIDs": ids,
        "Capabilities": [capabilities], "Options": options,
    }))
}

fn is_mode(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| matches!(b, b'r' | b'w' | b'm'))
        && (1..text.len()).all(|i| !text[..i].contains(&text[i..=i]))
}

/// Checks `type major:minor permissions`.
///
/// # Errors
/// Docker's text for a malformed rule.
pub fn cgroup_rule(text: &str) -> Result<String, String> {
    let bad = || format!("invalid device cgroup format '{text}'");
    let fields: Vec<&str> = text.split(' ').collect();
    let [kind, numbers, access] = fields[..] else { return Err(bad()) };
    let number = |n: &str| n == "*" || (!n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    let (major, minor) = numbers.split_once(':').ok_or_else(bad)?;
    let good = matches!(kind, "a" | "b" | "c")
        && number(major)
        && number(minor)
        && (1..=3).contains(&access.len())
        && access.bytes().all(|b| matches!(b, b'r' | b'w' | b'm'));
    if good { Ok(text.to_owned()) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpu_requests() {
        assert_eq!(gpus("all").unwrap()["Count"], -1);
        let some = gpus("\"device=a,b\",driver=x").unwrap();
        assert_eq!(
            (&some["DeviceIDs"], &some["Driver"], &some["Count"]),
            (&json!(["a", "b"]), &json!("x"), &json!(0))
        );
        assert!(gpus("count=x").unwrap_err().starts_with("invalid count (x)"));
    }

    #[test]
    fn nodes() {
        let node = |text| match parse(text) {
            Ok(Device::Node(v)) => {
                format!("{} {} {}", v["PathOnHost"], v["PathInContainer"], v["CgroupPermissions"])
                    .replace('"', "")
            }
            other => format!("{other:?}"),
        };
        assert_eq!(node("/dev/a"), "/dev/a /dev/a rwm");
        assert_eq!(node("/dev/a:r"), "/dev/a /dev/a r");
        assert_eq!(node("/dev/a:/dev/b"), "/dev/a /dev/b rwm");
        assert_eq!(node("/dev/a:/dev/b:rw"), "/dev/a /dev/b rw");
        assert_eq!(parse("/dev/a:/dev/b:x").unwrap_err(), "bad mode specified: x");
        assert!(parse("/dev/a:b").is_err());
        assert!(matches!(parse("v.com/gpu=all"), Ok(Device::Cdi(_))));
    }

    #[test]
    fn rules() {
        assert!(cgroup_rule("c 1:* rwm").is_ok());
        for bad in ["c 1 rwm", "x 1:1 r", "c 1:1 z", "c a:1 r", "c 1:1 rwmr"] {
            assert!(cgroup_rule(bad).is_err(), "{bad}");
        }
    }
}
