//! The drivers that write files: `json-file`, `local`, and the cache beside the remote ones.

use std::path::PathBuf;

use ferry_shim_proto::log::{LogFile, LogFormat};

use super::values::{boolean, decimal_size, integer};
use super::{Options, Subject, attributes};

/// Rotation when nothing is said: what Docker's `local` driver does. Docker's `json-file` grows without end; a log that
/// fills the disk is what people complain about, and `max-size=-1` still asks for it.
const MAX_SIZE: u64 = 20 * 1024 * 1024;
const MAX_FILES: u32 = 5;

/// Checks the names of options.
pub fn validate(driver: &str, options: &Options) -> Result<(), String> {
    let json = ["max-file", "max-size", "compress", "labels", "labels-regex", "env", "env-regex", "tag"];
    let known = if driver == "json-file" { &json[..] } else { &json[..3] };
    match options.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) if driver == "json-file" => {
            Err(format!("unknown log opt '{key}' for json-file log driver"))
        }
        Some(key) => Err(format!("unknown log opt '{key}' for log driver {driver}")),
        None => Ok(()),
    }
}

/// Reads the options of `json-file`.
pub fn json_file(subject: &Subject<'_>, options: &Options, path: PathBuf) -> Result<LogFile, String> {
    let limit = match options.get("max-size").map(String::as_str) {
        None => None,
        Some("-1") => Some(None),
        Some(text) => match decimal_size(text)? {
            0 => return Err("max-size must be a positive number".to_owned()),
            size => Some(Some(size)),
        },
    };
    let files = match options.get("max-file") {
        None => None,
        Some(text) => match integer(text)? {
            n if n < 1 => return Err("max-file cannot be less than 1".to_owned()),
            n => Some(u32::try_from(n).unwrap_or(u32::MAX)),
        },
    };
    let compress = options.get("compress").map_or(Ok(false), |text| boolean(text))?;
    if compress && (files.unwrap_or(1) == 1 || limit.flatten().is_none()) {
        return Err("compress cannot be true when max-file is less than 2 or max-size is not set".to_owned());
    }
    let mut extra = attributes::chosen(subject.record, options, str::to_owned)?;
    let tag = attributes::tag(subject, options, "")?;
    if !tag.is_empty() {
        extra.insert("tag".to_owned(), tag);
    }
    let (max_size, max_files) = match (limit, files) {
        (None, files) => (Some(MAX_SIZE), files.unwrap_or(MAX_FILES)),
        (Some(limit), files) => (limit, files.unwrap_or(1)),
    };
    let attributes = if extra.is_empty() {
        String::new()
    } else {
        serde_json::to_string(&extra).map_err(|e| e.to_string())?
    };
    Ok(LogFile { path, format: LogFormat::Json, max_size, max_files, compress, attributes })
}

/// Reads the options of `local`, or with a prefix those of the cache.
pub fn local(options: &Options, prefix: &str, path: PathBuf) -> Result<LogFile, String> {
    let get = |key: &str| options.get(&format!("{prefix}{key}"));
    let max_size = match get("max-size") {
        Some(text) => decimal_size(text).map_err(|e| format!("invalid value for max-size: {text}: {e}"))?,
        None => MAX_SIZE,
    };
    let max_files = match get("max-file") {
        Some(text) => integer(text).map_err(|e| format!("invalid value for max-file: {text}: {e}"))?,
        None => i64::from(MAX_FILES),
    };
    if max_files < 0 {
        return Err("max file count cannot be less than 0".to_owned());
    }
    let compress = match get("compress") {
        Some(text) => boolean(text).map_err(|e| format!("error reading compress log option: {e}"))?,
        None => true,
    };
    if compress && max_files <= 1 {
        return Err("compression cannot be enabled when max file count is 1".to_owned());
    }
    Ok(LogFile {
        path,
        format: LogFormat::Local,
        max_size: (max_size > 0).then_some(max_size),
        max_files: u32::try_from(max_files).unwrap_or(u32::MAX).max(1),
        compress,
        attributes: String::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> Options {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn local_has_defaults_and_limits() {
        let file = local(&options(&[]), "", PathBuf::new()).unwrap();
        assert_eq!((file.max_size, file.max_files, file.compress), (Some(20 << 20), 5, true));
        let cache =
            options(&[("cache-max-size", "1m"), ("cache-max-file", "1"), ("cache-compress", "false")]);
        let file = local(&cache, "cache-", PathBuf::new()).unwrap();
        assert_eq!((file.max_size, file.max_files, file.compress), (Some(1_000_000), 1, false));
        let refusal = |pairs: &[(&str, &str)]| local(&options(pairs), "", PathBuf::new()).unwrap_err();
        assert_eq!(refusal(&[("max-file", "1")]), "compression cannot be enabled when max file count is 1");
        assert_eq!(refusal(&[("max-size", "q")]), "invalid value for max-size: q: invalid size: 'q'");
    }
}
