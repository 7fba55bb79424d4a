//! Single values: sizes, CPU counts, ulimits, durations, keys.

use serde_json::{Value, json};

use crate::text::quote;
use crate::units;

/// `--memory-swap`: a size, or -1 for no limit.
///
/// # Errors
/// Docker's text for a malformed size.
pub fn swap(text: &str) -> Result<i64, String> {
    if text == "-1" { Ok(-1) } else { units::ram_in_bytes(text) }
}

/// `--cpus` as billionths of a CPU.
///
/// # Errors
/// Docker's text for what is no decimal number.
pub fn cpus(text: &str) -> Result<i64, String> {
    let bad = || format!("failed to parse {text} as a rational number");
    let (numerator, denominator) = match text.split_once('/') {
        Some((n, d)) => (n.parse::<f64>().map_err(|_| bad())?, d.parse::<f64>().map_err(|_| bad())?),
        None => (text.parse::<f64>().map_err(|_| bad())?, 1.0),
    };
    let nanos = numerator / denominator * 1e9;
    if !nanos.is_finite() {
        return Err(bad());
    }
    if (nanos - nanos.round()).abs() > 1e-3 {
        return Err("value is too precise".to_owned());
    }
    #[expect(clippy::cast_possible_truncation, reason = "saturates, which the engine refuses")]
    Ok(nanos.round() as i64)
}

/// `--dns-search`: a domain, or a dot for none.
///
/// # Errors
/// Docker's text for what is no domain.
pub fn dns_search(text: &str) -> Result<String, String> {
    let bare = text.trim_matches(' ');
    let label = |l: &str| {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        !l.is_empty() && l.bytes().all(inner) && !l.starts_with('-') && !l.ends_with('-')
    };
    let domain = bare.strip_suffix('.').unwrap_or(bare);
    let good = bare == "." || bare.bytes().any(|b| b.is_ascii_alphabetic()) && domain.split('.').all(label);
    if good { Ok(text.to_owned()) } else { Err(format!("{text} is not a valid domain")) }
}

/// `--link name[:alias]`.
///
/// # Errors
/// Docker's text for a malformed link.
pub fn link(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("empty string specified for links".to_owned());
    }
    if text.split(':').count() > 2 {
        return Err(format!("bad format for links: {text}"));
    }
    Ok(text.to_owned())
}

/// `--ulimit name=soft[:hard]` as the API's object.
///
/// # Errors
/// Docker's text for a malformed limit.
pub fn ulimit(text: &str) -> Result<Value, String> {
    const NAMES: [&str; 16] = [
        "as",
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ];
    let (name, limits) = text.split_once('=').ok_or_else(|| format!("invalid ulimit argument: {text}"))?;
    if !NAMES.contains(&name) {
        return Err(format!("invalid ulimit type: {name}"));
    }
    let parts: Vec<&str> = limits.split(':').collect();
    if parts.len() > 2 {
        return Err(format!(
            "too many limit value arguments - {limits}, can only have up to two, `soft[:hard]`"
        ));
    }
    let soft = crate::text::parse_int(parts[0])?;
    let hard = parts.get(1).map_or(Ok(soft), |h| crate::text::parse_int(h))?;
    // -1 means no limit, which is more than anything.
    if hard != -1 && (soft == -1 || soft > hard) {
        return Err(format!("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"));
    }
    Ok(json!({"Name": name, "Soft": soft, "Hard": hard}))
}

/// `--restart`.
///
/// # Errors
/// Docker's text for a malformed policy.
pub fn restart(text: &str) -> Result<Value, String> {
    let (name, count) = text.split_once(':').unwrap_or((text, ""));
    if text.contains(':') && name.is_empty() {
        return Err("invalid restart policy format: no policy provided before colon".to_owned());
    }
    if text.matches(':').count() > 1 {
        return Err("invalid restart policy format: maximum retry count must be an integer".to_owned());
    }
    let retries: i64 = if text.contains(':') {
        count
            .parse()
            .map_err(|_| "invalid restart policy format: maximum retry count must be an integer".to_owned())?
    } else {
        0
    };
    Ok(json!({"Name": name, "MaximumRetryCount": retries}))
}

/// `path:weight` of `--blkio-weight-device`.
///
/// # Errors
/// Docker's text for a malformed value.
pub fn weight_device(text: &str) -> Result<Value, String> {
    let (path, weight) = device_pair(text)?;
    let weight: u16 = weight.parse().map_err(|_| format!("invalid weight for device: {text}"))?;
    if weight != 0 && !(10..=1000).contains(&weight) {
        return Err(format!("invalid weight for device: {text}"));
    }
    Ok(json!({"Path": path, "Weight": weight}))
}

/// `path:rate[unit]` of `--device-read-bps` and `--device-write-bps`.
///
/// # Errors
/// Docker's text for a malformed value.
pub fn throttle_bytes(text: &str) -> Result<Value, String> {
    let (path, rate) = device_pair(text)?;
    let rate = units::ram_in_bytes(rate).map_err(|_| {
        format!("invalid rate for device: {text}. The correct format is <device-path>:<number>[<unit>]. Number must be a positive integer. Unit is optional and can be kb, mb, or gb")
    })?;
    Ok(json!({"Path": path, "Rate": rate}))
}

/// `path:rate` of `--device-read-iops` and `--device-write-iops`.
///
/// # Errors
/// Docker's text for a malformed value.
pub fn throttle_io(text: &str) -> Result<Value, String> {
    let (path, rate) = device_pair(text)?;
    let rate: u64 = rate.parse().map_err(|_| {
        format!("invalid rate for device: {text}. The correct format is <device-path>:<number>. Number must be a positive integer")
    })?;
    Ok(json!({"Path": path, "Rate": rate}))
}

fn device_pair(text: &str) -> Result<(&str, &str), String> {
    let (path, value) = text.split_once(':').ok_or_else(|| format!("bad format: {text}"))?;
    if !path.starts_with("/dev/") {
        return Err(format!("bad format for device path: {text}"));
    }
    Ok((path, value))
}

/// `--add-host name:ip` (or `name=ip`).
///
/// # Errors
/// Docker's text for a malformed entry.
pub fn extra_host(text: &str) -> Result<String, String> {
    let bad = || format!("bad format for add-host: {}", quote(text));
    let (name, ip) = text.split_once('=').or_else(|| text.split_once(':')).ok_or_else(bad)?;
    if name.is_empty() {
        return Err(bad());
    }
    let ip = ip.strip_prefix('[').and_then(|i| i.strip_suffix(']')).unwrap_or(ip);
    if ip != "host-gateway" && ip.parse::<std::net::IpAddr>().is_err() {
        return Err(format!("invalid IP address in add-host: {}", quote(ip)));
    }
    Ok(format!("{name}:{ip}"))
}

/// Capabilities by their full names; `ALL` stays.
pub fn capabilities(names: &[String]) -> Vec<String> {
    let full = |name: &String| {
        let upper = name.trim().to_ascii_uppercase();
        if upper == "ALL" || upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") }
    };
    let mut all: Vec<String> = names.iter().map(full).collect();
    all.sort();
    all.dedup();
    all
}

/// Checks a `--sysctl`: only what belongs to a container's own namespaces may be set.
///
/// # Errors
/// Docker's text for any other.
pub fn sysctl(text: &str) -> Result<String, String> {
    const NAMES: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    let allowed = text.split_once('=').is_some_and(|(name, _)| {
        NAMES.contains(&name) || name.starts_with("net.") || name.starts_with("fs.mqueue.")
    });
    if allowed { Ok(text.to_owned()) } else { Err(format!("sysctl '{text}' is not allowed")) }
}

/// An IP address.
///
/// # Errors
/// Docker's text for anything else.
pub fn ip(text: &str) -> Result<String, String> {
    let address = text.trim().parse::<std::net::IpAddr>();
    address.map(|a| a.to_string()).map_err(|_| format!("IP address is not correctly formatted: {text}"))
}

/// `key=value`.
///
/// # Errors
/// Docker's text when the key is missing.
pub fn label(text: &str) -> Result<String, String> {
    if text.is_empty() || text.starts_with('=') {
        return Err(format!("invalid label '{text}': empty name"));
    }
    Ok(text.to_owned())
}

/// `stdin`, `stdout` or `stderr`.
///
/// # Errors
/// Docker's text for anything else.
pub fn attach(text: &str) -> Result<String, String> {
    let lower = text.to_ascii_lowercase();
    if ["stdin", "stdout", "stderr"].contains(&lower.as_str()) {
        return Ok(lower);
    }
    Err("valid streams are STDIN, STDOUT and STDERR".to_owned())
}

/// A detach sequence such as `ctrl-p,ctrl-q` or `a,b` as bytes; empty for the default.
///
/// # Errors
/// Docker's text for an unknown key.
pub fn detach_keys(text: &str) -> Result<Vec<u8>, String> {
    if text.is_empty() {
        // Ctrl-P Ctrl-Q.
        return Ok(vec![16, 17]);
    }
    let key = |name: &str| -> Option<u8> {
        match name.strip_prefix("ctrl-").map(str::as_bytes) {
            Some([c @ b'a'..=b'z']) => Some(c - b'a' + 1),
            Some([b'@']) => Some(0),
            Some([c @ (b'[' | b'\\' | b']' | b'^' | b'_')]) => Some(c - b'[' + 27),
            Some(_) => None,
            None => <[u8; 1]>::try_from(name.as_bytes()).ok().map(|[b]| b),
        }
    };
    text.split(',').map(|name| key(name).ok_or_else(|| format!("Unknown character: '{name}'"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_and_links() {
        for good in [".", "a", "a.b-c.d", "example.com."] {
            assert!(dns_search(good).is_ok(), "{good}");
        }
        for bad in ["", "1.2", "a b", "-a", "a..b"] {
            assert!(dns_search(bad).is_err(), "{bad}");
        }
        assert!(link("a:b").is_ok() && link("a").is_ok());
        assert_eq!(link("a:b:c").unwrap_err(), "bad format for links: a:b:c");
    }

    #[test]
    fn cpu_counts() {
        assert_eq!(cpus("1.5").unwrap(), 1_500_000_000);
        assert_eq!(cpus("1/2").unwrap(), 500_000_000);
        assert_eq!(cpus("x").unwrap_err(), "failed to parse x as a rational number");
        assert!(cpus("1/0").is_err());
        assert!(cpus("0.0000000001").is_err());
    }

    #[test]
    fn ulimits() {
        assert_eq!(ulimit("nofile=1:2").unwrap(), json!({"Name": "nofile", "Soft": 1, "Hard": 2}));
        assert_eq!(ulimit("core=-1").unwrap(), json!({"Name": "core", "Soft": -1, "Hard": -1}));
        assert_eq!(ulimit("x").unwrap_err(), "invalid ulimit argument: x");
        assert_eq!(ulimit("x=1").unwrap_err(), "invalid ulimit type: x");
        assert!(ulimit("nofile=3:2").unwrap_err().ends_with("3 > 2"));
    }

    #[test]
    fn policies() {
        assert_eq!(restart("on-failure:3").unwrap(), json!({"Name": "on-failure", "MaximumRetryCount": 3}));
        assert!(restart("on-failure:x").is_err());
        assert!(restart(":1").unwrap_err().contains("before colon"));
    }

    #[test]
    fn keys() {
        assert_eq!(detach_keys("").unwrap(), [16, 17]);
        assert_eq!(detach_keys("ctrl-a,x,ctrl-[").unwrap(), [1, b'x', 27]);
        assert!(detach_keys("ctrl-pq").is_err());
    }

    #[test]
    fn names_of_privileges() {
        let caps = ["net_admin", "CAP_CHOWN", "all", "NET_ADMIN"].map(str::to_owned);
        assert_eq!(capabilities(&caps), ["ALL", "CAP_CHOWN", "CAP_NET_ADMIN"]);
        assert!(sysctl("net.ipv4.ip_forward=1").is_ok());
        assert_eq!(sysctl("a.b=c").unwrap_err(), "sysctl 'a.b=c' is not allowed");
        assert!(sysctl("kernel.sem").is_err());
    }

    #[test]
    fn hosts() {
        assert_eq!(extra_host("a:1.2.3.4").unwrap(), "a:1.2.3.4");
        assert_eq!(extra_host("a=[::1]").unwrap(), "a:::1");
        assert_eq!(extra_host("a:host-gateway").unwrap(), "a:host-gateway");
        assert!(extra_host("a").is_err());
        assert!(extra_host("a:b").is_err());
    }
}
