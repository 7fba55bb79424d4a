//! `--log-driver` and `--log-opt`.

use std::path::PathBuf;

use ferry_api::container::LogConfig;

/// Where a container's output goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LogDriver {
    /// Nowhere but to attached clients.
    None,
    /// Docker's json-file.
    JsonFile { max_size: Option<u64>, max_files: u32 },
}

/// Reads a driver and its options; unknown ones are refused.
pub(crate) fn parse(config: &LogConfig) -> Result<LogDriver, String> {
    match config.kind.as_str() {
        "none" => Ok(LogDriver::None),
        "json-file" => {
            let (mut max_size, mut max_files) = (None, 1);
            for (key, value) in &config.config {
                match key.as_str() {
                    "max-size" if value == "-1" => max_size = None,
                    "max-size" => {
                        max_size = Some(parse_size(value).ok_or_else(|| format!("invalid size: '{value}'"))?)
                    }
                    "max-file" => {
                        max_files =
                            value.parse().ok().filter(|n| *n > 0).ok_or_else(|| {
                                format!("max-file must be a positive number, not '{value}'")
                            })?;
                    }
                    "compress" | "labels" | "labels-regex" | "env" | "env-regex" | "tag" | "mode"
                    | "max-buffer-size" => {
                        return Err(format!("log opt '{key}' is not supported by ferry yet"));
                    }
                    _ => return Err(format!("unknown log opt '{key}' for json-file log driver")),
                }
            }
            if max_files > 1 && max_size.is_none() {
                return Err("max-file cannot be used without max-size".to_owned());
            }
            Ok(LogDriver::JsonFile { max_size, max_files })
        }
        "local" | "syslog" | "journald" | "gelf" | "fluentd" | "awslogs" | "splunk" | "gcplogs" => Err(
            format!("logging driver '{}' is not supported by ferry yet, use json-file or none", config.kind),
        ),
        other => Err(format!("logger: no log driver named '{other}' is registered")),
    }
}

/// A number of bytes with an optional binary unit: `10m`, `1GiB`.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let factor: u64 = match unit.trim() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        _ => return None,
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor).filter(|n| *n > 0);
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    number.parse::<f64>().ok().map(|n| (n * factor as f64) as u64).filter(|n| *n > 0)
}

impl LogDriver {
    /// What the shim is told.
    pub fn to_shim(&self, path: PathBuf) -> Option<ferry_shim_proto::LogConfig> {
        match self {
            Self::None => None,
            Self::JsonFile { max_size, max_files } => {
                Some(ferry_shim_proto::LogConfig { path, max_size: *max_size, max_files: *max_files })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(kind: &str, options: &[(&str, &str)]) -> LogConfig {
        let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        LogConfig { kind: kind.to_owned(), config: options.collect() }
    }

    #[test]
    fn sizes_and_counts() {
        let parsed = parse(&config("json-file", &[("max-size", "10m"), ("max-file", "3")])).unwrap();
        assert_eq!(parsed, LogDriver::JsonFile { max_size: Some(10 << 20), max_files: 3 });
        assert_eq!(parse_size("1.5k"), Some(1536));
        for (key, value) in [
            ("max-size", "x"),
            ("max-size", "0"),
            ("max-file", "0"),
            ("max-file", "3"),
            ("foo", "1"),
            ("tag", "x"),
        ] {
            assert!(parse(&config("json-file", &[(key, value)])).is_err(), "{key}={value}");
        }
    }

    #[test]
    fn other_drivers_are_refused() {
        assert_eq!(parse(&config("none", &[])), Ok(LogDriver::None));
        assert!(parse(&config("syslog", &[])).is_err() && parse(&config("x", &[])).is_err());
    }
}
