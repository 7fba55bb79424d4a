//! Log drivers: which there are, what options they take, and what a container's shim is told. Options are checked as far as
//! Docker checks them when a container is created, and read when it starts, with Docker's words in both places.

mod attributes;
pub(crate) mod budget;
mod files;
pub(crate) mod read;
mod remote;
mod values;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ferry_api::container::LogConfig as WireConfig;
use ferry_shim_proto::LogConfig;
use ferry_shim_proto::log::LogFormat;
use ferry_types::ContainerId;

use crate::container::record::ContainerRecord;
use crate::paths::ContainerDir;

/// A driver's options.
pub(crate) type Options = BTreeMap<String, String>;

/// The drivers, as `info` lists them.
pub(crate) const DRIVERS: [&str; 7] = ["fluentd", "gelf", "journald", "json-file", "local", "none", "syslog"];

/// Bytes that wait for a destination, unless an option says otherwise.
const BUFFER: u64 = 1 << 20;
/// … when the container is never to wait; Docker's figure.
const NON_BLOCKING_BUFFER: u64 = 1_000_000;
/// Options every driver takes.
const COMMON: [&str; 6] =
    ["mode", "max-buffer-size", "cache-disabled", "cache-max-size", "cache-max-file", "cache-compress"];

/// Whose log it is.
pub(crate) struct Subject<'a> {
    /// The container.
    pub record: &'a ContainerRecord,
    /// Of the host.
    pub hostname: &'a str,
}

/// Fills a container's driver and options from the daemon's, as Docker does: options are inherited by containers of the
/// same driver, those of the cache by all.
pub(crate) fn inherit(config: &mut WireConfig, driver: &str, defaults: &Options) {
    if config.kind.is_empty() {
        driver.clone_into(&mut config.kind);
    }
    let same = config.kind == driver;
    let own = config.config.get_mut();
    for (key, value) in defaults {
        if same || key.starts_with("cache-") {
            own.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
}

/// Checks what a container is created with, or the daemon's defaults.
pub(crate) fn validate(driver: &str, options: &Options) -> Result<(), String> {
    if driver == "none" {
        return Ok(());
    }
    let mode = options.get("mode").map_or("", String::as_str);
    if !matches!(mode, "" | "blocking" | "non-blocking") {
        return Err(format!("logger: logging mode not supported: {mode}"));
    }
    if let Some(size) = options.get("max-buffer-size") {
        if mode != "non-blocking" {
            return Err(
                "logger: max-buffer-size option is only supported with 'mode=non-blocking'".to_owned()
            );
        }
        values::binary_size(size).map_err(|e| format!("error parsing option max-buffer-size: {e}"))?;
    }
    if let Some(disabled) = options.get("cache-disabled").filter(|v| !v.is_empty()) {
        values::boolean(disabled)
            .map_err(|_| format!("invalid value for option cache-disabled: {disabled}"))?;
    }
    if !DRIVERS.contains(&driver) {
        return Err(format!("error looking up logging plugin {driver}: plugin \"{driver}\" not found"));
    }
    let own: Options = options
        .iter()
        .filter(|(k, _)| !COMMON.contains(&k.as_str()))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    match driver {
        "json-file" | "local" => files::validate(driver, &own),
        _ => remote::validate(driver, &own),
    }
}

/// Checks the daemon's default log driver and its options.
///
/// # Errors
/// In Docker's words.
pub fn check_log_defaults(driver: &str, options: &BTreeMap<String, String>) -> Result<(), String> {
    if driver == "none" || (DRIVERS.contains(&driver) && options.is_empty()) {
        return Ok(());
    }
    validate(driver, options)
}

/// What the shim is told; `None` for the driver `none`.
///
/// # Errors
/// In the words of Docker's drivers when they are started.
pub(crate) fn plan(subject: &Subject<'_>, dir: &ContainerDir) -> Result<Option<LogConfig>, String> {
    let config = &subject.record.host_config.log_config;
    let options: Options = config.config.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    let non_blocking = options.get("mode").is_some_and(|mode| mode == "non-blocking");
    let buffer = match options.get("max-buffer-size") {
        Some(size) => values::binary_size(size)?,
        None if non_blocking => NON_BLOCKING_BUFFER,
        None => BUFFER,
    };
    let mut plan = LogConfig { file: None, remote: None, buffer, non_blocking };
    match config.kind.as_str() {
        "none" => return Ok(None),
        "json-file" => plan.file = Some(files::json_file(subject, &options, dir.log())?),
        "local" => plan.file = Some(files::local(&options, "", dir.local_log())?),
        driver => {
            let remote = remote::plan(driver, subject, &options)?;
            if let Some(size) = remote.queue {
                (plan.buffer, plan.non_blocking) = (size, true);
            }
            plan.remote = Some(Box::new(remote.log));
            if is_cached(&options) {
                plan.file = Some(files::local(&options, "cache-", dir.cached_log())?);
            }
        }
    }
    if let Some(parent) = plan.file.as_ref().and_then(|f| f.path.parent()).filter(|p| *p != dir.path()) {
        std::fs::create_dir_all(parent).map_err(|e| format!("create {}: {e}", parent.display()))?;
    }
    Ok(Some(plan))
}

/// Where `logs` finds a container's output, and in which form; `None` when its driver keeps nothing here.
pub(crate) fn stored(record: &ContainerRecord, dir: &ContainerDir) -> Option<(PathBuf, LogFormat)> {
    let config = &record.host_config.log_config;
    match config.kind.as_str() {
        "none" => None,
        "json-file" => Some((dir.log(), LogFormat::Json)),
        "local" => Some((dir.local_log(), LogFormat::Local)),
        _ => {
            let options: Options = config.config.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
            is_cached(&options).then(|| (dir.cached_log(), LogFormat::Local))
        }
    }
}

impl crate::Engine {
    /// How many log entries were lost, of the containers that lost any.
    pub fn log_losses(&self) -> Vec<(ContainerId, u64)> {
        self.inner.log_losses.table().iter().map(|(id, total)| (id.clone(), *total)).collect()
    }
}

/// How many log entries were lost since each container was started, as far as any were.
#[derive(Default)]
pub(crate) struct Losses(Mutex<BTreeMap<ContainerId, u64>>);

impl Losses {
    fn table(&self) -> MutexGuard<'_, BTreeMap<ContainerId, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a container's count.
    pub fn set(&self, id: &ContainerId, total: u64) {
        match total {
            0 => self.table().remove(id),
            total => self.table().insert(id.clone(), total),
        };
    }

    /// A container's count.
    pub fn get(&self, id: &ContainerId) -> u64 {
        self.table().get(id).copied().unwrap_or_default()
    }
}

fn is_cached(options: &Options) -> bool {
    options.get("cache-disabled").is_none_or(|v| values::boolean(v) != Ok(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> Options {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn refusal(driver: &str, pairs: &[(&str, &str)]) -> String {
        validate(driver, &options(pairs)).unwrap_err()
    }

    #[test]
    fn what_is_checked_at_create() {
        assert_eq!(validate("none", &options(&[("x", "y")])), Ok(()));
        assert_eq!(refusal("json-file", &[("foo", "1")]), "unknown log opt 'foo' for json-file log driver");
        assert_eq!(refusal("local", &[("labels", "a")]), "unknown log opt 'labels' for log driver local");
        assert_eq!(refusal("json-file", &[("mode", "odd")]), "logger: logging mode not supported: odd");
        assert_eq!(
            refusal("json-file", &[("max-buffer-size", "1m")]),
            "logger: max-buffer-size option is only supported with 'mode=non-blocking'"
        );
        assert_eq!(
            refusal("json-file", &[("mode", "non-blocking"), ("max-buffer-size", "zz")]),
            "error parsing option max-buffer-size: invalid size: 'zz'"
        );
        assert_eq!(
            refusal("json-file", &[("cache-disabled", "x")]),
            "invalid value for option cache-disabled: x"
        );
        assert_eq!(
            refusal("awslogs", &[]),
            "error looking up logging plugin awslogs: plugin \"awslogs\" not found"
        );
        // Values are read at the start, as in Docker.
        assert_eq!(validate("json-file", &options(&[("max-size", "x")])), Ok(()));
    }

    #[test]
    fn options_are_inherited_by_the_same_driver() {
        let defaults = options(&[("max-size", "1m"), ("cache-max-size", "2m")]);
        let mut config = WireConfig::default();
        inherit(&mut config, "json-file", &defaults);
        assert_eq!((config.kind.as_str(), config.config.len()), ("json-file", 2));
        let mut other = WireConfig { kind: "syslog".to_owned(), ..WireConfig::default() };
        inherit(&mut other, "json-file", &defaults);
        assert_eq!(other.config.keys().collect::<Vec<_>>(), ["cache-max-size"]);
    }
}
