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
        [_, _, mode] => return Err(format!("{mode} is not a valid mode")),
        _ => return Err(format!("invalid device specification: {text}")),
    };
    if !container.starts_with('/') {
        return Err(format!("{container} is not an absolute path"));
    }
    Ok(Device::Node(json!({
        "PathOnHost": host, "PathInContainer": container, "CgroupPermissions": permissions
    })))
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
        assert_eq!(parse("/dev/a:/dev/b:x").unwrap_err(), "x is not a valid mode");
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
