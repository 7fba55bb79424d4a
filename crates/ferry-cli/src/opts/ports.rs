//! `-p` and `--expose`.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// One published port as the API wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// Empty for all addresses.
    pub host_ip: String,
    /// Empty for any free port; `a-b` for one of a range.
    pub host_port: String,
}

/// What `-p` flags add up to: bindings by `port/proto`.
pub type Bindings = BTreeMap<String, Vec<Binding>>;

/// Adds one `-p` value: `[[ip:][host]:]container[/proto]` with ranges, or
/// `target=…,published=…,protocol=…`.
///
/// # Errors
/// Docker's text for a malformed value.
pub fn publish(spec: &str, into: &mut Bindings) -> Result<(), String> {
    if spec.contains('=') {
        return publish(&long_form(spec)?, into);
    }
    let (ip, host, container) = split(spec);
    let (container, proto) = match container.split_once('/') {
        Some((port, proto)) => (port, proto),
        None => (container, "tcp"),
    };
    if container.is_empty() {
        return Err(format!("no port specified: {spec}<empty>"));
    }
    let ip = match ip.strip_prefix('[').and_then(|i| i.strip_suffix(']')).unwrap_or(ip) {
        "" => String::new(),
        text => {
            let bare = text.split('%').next().unwrap_or(text);
            bare.parse::<IpAddr>().map_err(|_| bad_address(text))?;
            text.to_owned()
        }
    };
    let (start, end) = range(container).ok_or_else(|| format!("Invalid containerPort: {container}"))?;
    let host_range = match host {
        "" => None,
        text => Some(range(text).ok_or_else(|| format!("Invalid hostPort: {text}"))?),
    };
    let proto = protocol(proto).ok_or_else(|| format!("Invalid proto: {proto}"))?;
    let lengths_differ = host_range.is_some_and(|(a, b)| b - a != end - start);
    if lengths_differ && start != end {
        return Err(format!("Invalid ranges specified for container and host Ports: {container} and {host}"));
    }
    for port in start..=end {
        let host_port = match host_range {
            None => String::new(),
            Some(_) if lengths_differ => host.to_owned(),
            Some((first, _)) => (first + (port - start)).to_string(),
        };
        let binding = Binding { host_ip: ip.clone(), host_port };
        into.entry(format!("{port}/{proto}")).or_default().push(binding);
    }
    Ok(())
}

/// The ports one `--expose` value names, as `port/proto`.
///
/// # Errors
/// Docker's text for a malformed value.
pub fn expose(spec: &str) -> Result<Vec<String>, String> {
    if spec.contains(':') {
        return Err(format!("invalid port format for --expose: {spec}"));
    }
    let (ports, proto) = spec.split_once('/').unwrap_or((spec, "tcp"));
    let (start, end) = range(ports).ok_or_else(|| {
        let bound = |text: &str| crate::text::parse_uint16(text).err();
        let (low, high) = ports.split_once('-').unwrap_or((ports, ports));
        let reason = bound(low)
            .or_else(|| bound(high))
            .unwrap_or_else(|| format!("Invalid range specified for the Port: {ports}"));
        format!("invalid range format for --expose: {ports}, error: {reason}")
    })?;
    // What kind of port it is, is for the engine to judge.
    let proto = if proto.is_empty() { "tcp".to_owned() } else { proto.to_ascii_lowercase() };
    Ok((start..=end).map(|p| format!("{p}/{proto}")).collect())
}

/// `ip`, host port and container port of the short form; the address may be bracketed.
fn split(spec: &str) -> (&str, &str, &str) {
    let Some((rest, container)) = spec.rsplit_once(':') else { return ("", "", spec) };
    match rest.rsplit_once(':') {
        Some((ip, host)) => (ip, host, container),
        None => ("", rest, container),
    }
}

fn range(text: &str) -> Option<(u16, u16)> {
    let (a, b) = text.split_once('-').unwrap_or((text, text));
    let (a, b) = (a.parse().ok()?, b.parse().ok()?);
    (a <= b).then_some((a, b))
}

fn protocol(text: &str) -> Option<String> {
    let proto = text.to_ascii_lowercase();
    match proto.as_str() {
        "" => Some("tcp".to_owned()),
        "tcp" | "udp" | "sctp" => Some(proto),
        _ => None,
    }
}

/// Docker's two complaints about an address: what Go's parser of addresses says of it comes first.
fn bad_address(text: &str) -> String {
    if text.contains(':') {
        return format!("Invalid ip address {text}: address {text}:: too many colons in address");
    }
    format!("Invalid ip address: {text}")
}

fn long_form(spec: &str) -> Result<String, String> {
    let (mut target, mut published, mut proto) = ("", "", "tcp");
    for field in spec.split(',') {
        let (key, value) = field.split_once('=').unwrap_or((field, ""));
        match key.to_ascii_lowercase().as_str() {
            "target" => target = value,
            "published" => published = value,
            "protocol" => proto = value,
            "mode" => {}
            _ => return Err(format!("invalid field key {key}")),
        }
    }
    Ok(if published.is_empty() {
        format!("{target}/{proto}")
    } else {
        format!("{published}:{target}/{proto}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(spec: &str) -> Result<Vec<String>, String> {
        let mut all = Bindings::new();
        publish(spec, &mut all)?;
        let shown = |(port, list): (String, Vec<Binding>)| {
            list.into_iter().map(move |b| format!("{}|{}|{port}", b.host_ip, b.host_port))
        };
        Ok(all.into_iter().flat_map(shown).collect())
    }

    #[test]
    fn forms() {
        for (spec, want) in [
            ("80", "||80/tcp"),
            ("8080:80", "|8080|80/tcp"),
            ("8080:80/UDP", "|8080|80/udp"),
            ("127.0.0.1:8080:80", "127.0.0.1|8080|80/tcp"),
            ("127.0.0.1::80", "127.0.0.1||80/tcp"),
            ("[::1]:8080:80", "::1|8080|80/tcp"),
            ("8000-8010:80", "|8000-8010|80/tcp"),
            ("target=80,published=8080,protocol=udp", "|8080|80/udp"),
        ] {
            assert_eq!(parse(spec).unwrap(), [want], "{spec}");
        }
        assert_eq!(parse("7000-7001:80-81").unwrap(), ["|7000|80/tcp", "|7001|81/tcp"]);
    }

    #[test]
    fn complaints() {
        for (spec, want) in [
            ("x:y", "Invalid containerPort: y"),
            ("x:80", "Invalid hostPort: x"),
            ("1.2.3:1:80", "Invalid ip address: 1.2.3"),
            ("80/xyz", "Invalid proto: xyz"),
            ("70000", "Invalid containerPort: 70000"),
            ("1-2:80-82", "Invalid ranges specified for container and host Ports: 80-82 and 1-2"),
            ("8080:", "no port specified: 8080:<empty>"),
        ] {
            assert_eq!(parse(spec).unwrap_err(), want, "{spec}");
        }
    }

    #[test]
    fn exposed() {
        assert_eq!(expose("80-81/udp").unwrap(), ["80/udp", "81/udp"]);
        assert!(expose("80:80").is_err());
        assert!(expose("x").is_err());
    }
}
