//! The drivers that send: `syslog`, `journald`, `gelf`, `fluentd`. Names are looked up here, once per start of a container;
//! the shim connects, and connects again, to the addresses found.

use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};

use ferry_shim_proto::log::{GelfCompression, LogEncoding, LogRetry, LogTarget, RemoteLog, SyslogLayout};

use super::values::{binary_size, boolean, duration_ms, integer};
use super::{Options, Subject, attributes};

const JOURNAL: &str = "/run/systemd/journal/socket";
/// Where a local syslog daemon may listen; the places srslog tries.
const LOCAL_SYSLOG: [&str; 3] = ["/dev/log", "/var/run/syslog", "/var/run/log"];
const DEFAULT_TAG: &str = "{{.ID}}";
const ATTRIBUTE_OPTIONS: [&str; 5] = ["env", "env-regex", "labels", "labels-regex", "tag"];
const FACILITIES: [(&str, u8); 20] = [
    ("kern", 0),
    ("user", 1),
    ("mail", 2),
    ("daemon", 3),
    ("auth", 4),
    ("syslog", 5),
    ("lpr", 6),
    ("news", 7),
    ("uucp", 8),
    ("cron", 9),
    ("authpriv", 10),
    ("ftp", 11),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];

/// A service, and how much is queued when its driver has a queue of its own.
pub struct Planned {
    pub log: RemoteLog,
    pub queue: Option<u64>,
}

/// A service's address before names are looked up.
#[derive(Debug, PartialEq, Eq)]
enum Address {
    /// The local daemon, wherever it listens.
    Local,
    Net {
        udp: bool,
        host: String,
        port: u16,
    },
    Unix {
        datagram: bool,
        path: PathBuf,
    },
}

/// Checks what Docker checks when a container is created.
pub fn validate(driver: &str, options: &Options) -> Result<(), String> {
    let own: &[&str] = match driver {
        "syslog" => &[
            "syslog-address",
            "syslog-facility",
            "syslog-format",
            "syslog-tls-ca-cert",
            "syslog-tls-cert",
            "syslog-tls-key",
            "syslog-tls-skip-verify",
        ],
        "gelf" => {
            gelf_address(options)?;
            &[
                "gelf-address",
                "gelf-compression-level",
                "gelf-compression-type",
                "gelf-tcp-max-reconnect",
                "gelf-tcp-reconnect-delay",
            ]
        }
        "fluentd" => &[
            "fluentd-address",
            "fluentd-async",
            "fluentd-async-reconnect-interval",
            "fluentd-buffer-limit",
            "fluentd-max-retries",
            "fluentd-request-ack",
            "fluentd-retry-wait",
            "fluentd-sub-second-precision",
            "fluentd-write-timeout",
        ],
        _ => &[],
    };
    let known = |key: &str| own.contains(&key) || ATTRIBUTE_OPTIONS.contains(&key);
    if let Some(key) = options.keys().find(|key| !known(key)) {
        let quoted = if driver == "gelf" { format!("{key:?}") } else { format!("'{key}'") };
        return Err(format!("unknown log opt {quoted} for {driver} log driver"));
    }
    match driver {
        "syslog" => {
            if let Some(key) = options.keys().find(|key| key.starts_with("syslog-tls-")) {
                return Err(format!("log opt '{key}' is not supported: {NO_TLS}"));
            }
            syslog_address(options)?;
            facility(options)?;
            syslog_layout(options).map(drop)
        }
        "gelf" => gelf_options(options).map(drop),
        "fluentd" => fluentd_options(options).map(drop),
        _ => Ok(()),
    }
}

const NO_TLS: &str = "ferry sends logs without TLS; use a log daemon on this host that forwards with it";

/// What the shim is told.
pub fn plan(driver: &str, subject: &Subject<'_>, options: &Options) -> Result<Planned, String> {
    let tag = attributes::tag(subject, options, DEFAULT_TAG)?;
    match driver {
        "syslog" => syslog(subject, options, tag),
        "journald" => journald(subject, options, tag),
        "gelf" => gelf(subject, options, tag),
        "fluentd" => fluentd(subject, options, tag),
        other => Err(format!("error looking up logging plugin {other}: plugin \"{other}\" not found")),
    }
}

fn get<'a>(options: &'a Options, key: &str) -> Option<&'a str> {
    options.get(key).map(String::as_str).filter(|v| !v.is_empty())
}

/// How Docker's drivers are retried that do not say otherwise.
fn retry() -> LogRetry {
    LogRetry {
        first_ms: 500,
        longest_ms: 30_000,
        hold: false,
        attempts: None,
        write_timeout_ms: None,
        renew_ms: None,
    }
}

/// `host:port`, `[v6]:port`, or without a port.
fn host_port(text: &str, default: Option<u16>) -> Result<(String, u16), String> {
    let text = text.trim_end_matches('/');
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') && (!host.contains(':') || host.starts_with('[')) => {
            (host, port.parse().map_err(|_| format!("address {text}: invalid port"))?)
        }
        _ => (text, default.ok_or_else(|| format!("address {text}: missing port in address"))?),
    };
    Ok((host.trim_matches(['[', ']']).to_owned(), port))
}

fn syslog_address(options: &Options) -> Result<Address, String> {
    let Some(text) = get(options, "syslog-address") else { return Ok(Address::Local) };
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    match scheme {
        "unix" | "unixgram" => {
            let path = PathBuf::from(rest);
            std::fs::metadata(&path).map_err(|e| format!("stat {rest}: {}", lower(&e)))?;
            Ok(Address::Unix { datagram: scheme == "unixgram", path })
        }
        "udp" | "tcp" => {
            let (host, port) = host_port(rest, Some(514))?;
            Ok(Address::Net { udp: scheme == "udp", host, port })
        }
        "tcp+tls" => Err(format!("syslog-address {text} is not supported: {NO_TLS}")),
        other => Err(format!("unsupported scheme: '{other}'")),
    }
}

fn facility(options: &Options) -> Result<u8, String> {
    let Some(text) = get(options, "syslog-facility") else { return Ok(3 << 3) };
    let named = FACILITIES.iter().find(|(name, _)| *name == text).map(|(_, code)| *code);
    let code = named.or_else(|| text.parse().ok().filter(|n| *n <= 23));
    code.map(|code| code << 3).ok_or_else(|| "invalid syslog facility".to_owned())
}

fn syslog_layout(options: &Options) -> Result<SyslogLayout, String> {
    match get(options, "syslog-format") {
        None => Ok(SyslogLayout::Unix),
        Some("rfc3164") => Ok(SyslogLayout::Rfc3164),
        Some("rfc5424") => Ok(SyslogLayout::Rfc5424),
        Some("rfc5424micro") => Ok(SyslogLayout::Rfc5424Micro),
        Some(_) => Err("Invalid syslog format".to_owned()),
    }
}

fn syslog(subject: &Subject<'_>, options: &Options, tag: String) -> Result<Planned, String> {
    let (target, dial) = resolve(&syslog_address(options)?)?;
    let encoding = LogEncoding::Syslog {
        layout: syslog_layout(options)?,
        facility: facility(options)?,
        tag,
        hostname: subject.hostname.to_owned(),
        utc_offset: jiff::tz::TimeZone::system().to_offset(jiff::Timestamp::now()).seconds(),
    };
    let log = RemoteLog { target, encoding, must_connect: true, retry: retry(), dial };
    Ok(Planned { log, queue: None })
}

fn journald(subject: &Subject<'_>, options: &Options, tag: String) -> Result<Planned, String> {
    let reachable = UnixDatagram::unbound().and_then(|socket| socket.connect(JOURNAL));
    reachable.map_err(|_| "journald is not enabled on this host".to_owned())?;
    let record = subject.record;
    let id = record.id.as_str();
    let mut fields = vec![
        ("CONTAINER_ID".to_owned(), id.get(..12).unwrap_or(id).to_owned()),
        ("CONTAINER_ID_FULL".to_owned(), id.to_owned()),
        ("CONTAINER_NAME".to_owned(), record.name.to_string()),
        ("CONTAINER_TAG".to_owned(), tag.clone()),
        ("IMAGE_NAME".to_owned(), record.config.image.clone()),
        ("SYSLOG_IDENTIFIER".to_owned(), tag),
        ("CONTAINER_LOG_EPOCH".to_owned(), ferry_types::ContainerId::random().to_string()),
    ];
    fields.extend(attributes::chosen(record, options, journal_field)?);
    let log = RemoteLog {
        target: LogTarget::UnixDatagram(JOURNAL.into()),
        encoding: LogEncoding::Journald { fields },
        must_connect: true,
        retry: retry(),
        dial: String::new(),
    };
    Ok(Planned { log, queue: None })
}

/// A name the journal accepts: capitals, digits and underscores, none of them first.
fn journal_field(name: &str) -> String {
    let fit = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    name.chars().map(fit).collect::<String>().trim_start_matches('_').to_owned()
}

fn gelf_address(options: &Options) -> Result<Address, String> {
    let text = get(options, "gelf-address").ok_or("gelf-address is a required parameter")?;
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    if !matches!(scheme, "udp" | "tcp") {
        return Err("gelf: endpoint needs to be TCP or UDP".to_owned());
    }
    let (host, port) = host_port(rest, None)
        .map_err(|_| "gelf: please provide gelf-address as proto://host:port".to_owned())?;
    Ok(Address::Net { udp: scheme == "udp", host, port })
}

struct GelfOptions {
    compression: GelfCompression,
    level: u32,
    attempts: u32,
    delay_ms: u64,
}

fn gelf_options(options: &Options) -> Result<GelfOptions, String> {
    let udp = matches!(gelf_address(options)?, Address::Net { udp: true, .. });
    let mut out = GelfOptions { compression: GelfCompression::Gzip, level: 1, attempts: 3, delay_ms: 1000 };
    for (key, value) in options {
        let unknown = || format!("unknown value {value:?} for log opt {key:?} for gelf log driver");
        match key.as_str() {
            "gelf-compression-level" | "gelf-compression-type" if !udp => {
                return Err("compression is only supported on UDP".to_owned());
            }
            "gelf-compression-level" => {
                let level = integer(value).ok().filter(|n| (-1..=9).contains(n)).ok_or_else(unknown)?;
                // -1 stands for the library's default.
                out.level = u32::try_from(level).unwrap_or(6);
            }
            "gelf-compression-type" => {
                out.compression = match value.as_str() {
                    "gzip" => GelfCompression::Gzip,
                    "zlib" => GelfCompression::Zlib,
                    "none" => GelfCompression::None,
                    _ => return Err(unknown()),
                };
            }
            "gelf-tcp-max-reconnect" | "gelf-tcp-reconnect-delay" if udp => {
                return Err(format!("{key:?} is only valid for TCP"));
            }
            "gelf-tcp-max-reconnect" | "gelf-tcp-reconnect-delay" => {
                let number = integer(value).ok().and_then(|n| u32::try_from(n).ok());
                let number = number.ok_or_else(|| format!("{key:?} must be a positive integer"))?;
                match key.as_str() {
                    "gelf-tcp-max-reconnect" => out.attempts = number,
                    _ => out.delay_ms = u64::from(number) * 1000,
                }
            }
            _ => {}
        }
    }
    Ok(out)
}

fn gelf(subject: &Subject<'_>, options: &Options, tag: String) -> Result<Planned, String> {
    let address = gelf_address(options)?;
    let own = gelf_options(options)?;
    let record = subject.record;
    let mut extra = attributes::chosen(record, options, |key| match key.starts_with('_') {
        true => key.to_owned(),
        false => format!("_{key}"),
    })?;
    for (key, value) in [
        ("_container_id", record.id.to_string()),
        ("_container_name", record.name.to_string()),
        ("_image_id", record.image_id.to_string()),
        ("_image_name", record.config.image.clone()),
        ("_command", attributes::command(record)),
        ("_tag", tag),
        ("_created", ferry_api::Time::from_unix_nanos(i128::from(record.created_at)).to_string()),
    ] {
        extra.entry(key.to_owned()).or_insert(value);
    }
    let extra = serde_json::to_string(&extra).map_err(|e| e.to_string())?;
    let extra = extra.trim_start_matches('{').strip_suffix('}').unwrap_or_default().to_owned();
    let endpoint = match &address {
        Address::Net { host, port, .. } => format!("{host}:{port}"),
        Address::Local | Address::Unix { .. } => String::new(),
    };
    let prefix = format!("gelf: cannot connect to GELF endpoint: {endpoint}");
    let (target, dial) = resolve(&address).map_err(|e| format!("{prefix} {e}"))?;
    let retry = LogRetry {
        first_ms: own.delay_ms.max(100),
        longest_ms: own.delay_ms.max(100),
        attempts: Some(own.attempts.max(1)),
        ..retry()
    };
    let encoding = LogEncoding::Gelf {
        hostname: subject.hostname.to_owned(),
        extra,
        compression: own.compression,
        level: own.level,
    };
    let log = RemoteLog { target, encoding, must_connect: true, retry, dial: format!("{prefix} {dial}") };
    Ok(Planned { log, queue: None })
}

struct FluentdOptions {
    address: Address,
    queue: Option<u64>,
    sub_second: bool,
    acknowledge: bool,
    retry: LogRetry,
}

fn fluentd_address(text: &str) -> Result<Address, String> {
    let text = if text.contains("://") { text.to_owned() } else { format!("tcp://{text}") };
    let (scheme, rest) = text.split_once("://").unwrap_or(("tcp", ""));
    match scheme {
        "unix" if rest.trim_start_matches('/').is_empty() => Err("path is empty".to_owned()),
        "unix" => Ok(Address::Unix { datagram: false, path: rest.into() }),
        "tcp" if rest.contains('/') => Err("should not contain a path element".to_owned()),
        "tcp" => {
            let (host, port) = host_port(rest, Some(24_224)).map_err(|_| "invalid port".to_owned())?;
            let host = if host.is_empty() { "127.0.0.1".to_owned() } else { host };
            Ok(Address::Net { udp: false, host, port })
        }
        "tls" => Err(NO_TLS.to_owned()),
        other => Err(format!("unsupported scheme: '{other}'")),
    }
}

fn fluentd_options(options: &Options) -> Result<FluentdOptions, String> {
    let text = get(options, "fluentd-address").unwrap_or("127.0.0.1:24224");
    let address = fluentd_address(text).map_err(|e| format!("invalid fluentd-address ({text}): {e}"))?;
    let flag = |key: &str| get(options, key).map_or(Ok(false), boolean);
    let limit = get(options, "fluentd-buffer-limit").map_or(Ok(1 << 20), binary_size)?;
    let wait = get(options, "fluentd-retry-wait").map_or(Ok(1000), duration_ms)?;
    let attempts = match get(options, "fluentd-max-retries") {
        None => None,
        Some(text) => match text.parse::<u32>() {
            Ok(n) if n <= 0x7fff_ffff => Some(n),
            Ok(_) => return Err("invalid fluentd-max-retries: value out of range".to_owned()),
            Err(_) => return Err(format!("strconv.ParseUint: parsing {text:?}: invalid syntax")),
        },
    };
    let asynchronous = flag("fluentd-async")?;
    let renew_ms = match get(options, "fluentd-async-reconnect-interval") {
        None => None,
        Some(text) => {
            let key = "fluentd-async-reconnect-interval";
            match duration_ms(text).map_err(|e| format!("invalid value for {key}: {e}"))? {
                0 => None,
                ms @ 100..=10_000 => Some(ms),
                _ => {
                    return Err(format!(
                        "invalid value for {key}: value ({text:?}) must be between 100ms and 10s"
                    ));
                }
            }
        }
    };
    let write_timeout_ms = match get(options, "fluentd-write-timeout") {
        None => None,
        Some(text) => {
            let key = "fluentd-write-timeout";
            if text.starts_with('-') {
                return Err(format!(
                    "invalid value for {key}: value must be a duration that is non-negative"
                ));
            }
            let ms = duration_ms(text)
                .map_err(|e| format!("invalid value for {key}: value must be a duration: {e}"))?;
            (ms > 0).then_some(ms)
        }
    };
    Ok(FluentdOptions {
        address,
        queue: asynchronous.then_some(limit),
        sub_second: flag("fluentd-sub-second-precision")?,
        acknowledge: flag("fluentd-request-ack")?,
        retry: LogRetry {
            first_ms: wait.max(100),
            longest_ms: wait.max(60_000),
            hold: !asynchronous,
            attempts,
            write_timeout_ms,
            renew_ms: renew_ms.filter(|_| asynchronous),
        },
    })
}

fn fluentd(subject: &Subject<'_>, options: &Options, tag: String) -> Result<Planned, String> {
    let own = fluentd_options(options)?;
    let record = subject.record;
    let mut members: Vec<(String, String)> = vec![
        ("container_id".to_owned(), record.id.to_string()),
        ("container_name".to_owned(), format!("/{}", record.name)),
    ];
    members.extend(attributes::chosen(record, options, str::to_owned)?);
    let (target, dial) = resolve(&own.address)?;
    let encoding = LogEncoding::Fluentd {
        tag,
        record: members,
        sub_second: own.sub_second,
        acknowledge: own.acknowledge,
    };
    let must_connect = own.queue.is_none();
    let log = RemoteLog { target, encoding, must_connect, retry: own.retry, dial };
    Ok(Planned { log, queue: own.queue })
}

/// Looks a name up. Also gives what stands before the reason when connecting fails.
fn resolve(address: &Address) -> Result<(LogTarget, String), String> {
    match address {
        Address::Local => local_syslog().map(|target| (target, String::new())),
        Address::Unix { datagram, path } => {
            let (kind, target) = match datagram {
                true => ("unixgram", LogTarget::UnixDatagram(path.clone())),
                false => ("unix", LogTarget::Unix(path.clone())),
            };
            Ok((target, format!("dial {kind} {}: connect", path.display())))
        }
        Address::Net { udp, host, port } => {
            let kind = if *udp { "udp" } else { "tcp" };
            let name = if host.is_empty() { "localhost" } else { host.as_str() };
            let found: Vec<SocketAddr> = (name, *port)
                .to_socket_addrs()
                .map_err(|_| format!("dial {kind}: lookup {name}: no such host"))?
                .collect();
            let first = found.first().ok_or_else(|| format!("dial {kind}: lookup {name}: no such host"))?;
            let dial = format!("dial {kind} {first}: connect");
            Ok((if *udp { LogTarget::Udp(found) } else { LogTarget::Tcp(found) }, dial))
        }
    }
}

fn local_syslog() -> Result<LogTarget, String> {
    for path in LOCAL_SYSLOG.map(Path::new) {
        if UnixDatagram::unbound().and_then(|socket| socket.connect(path)).is_ok() {
            return Ok(LogTarget::UnixDatagram(path.to_owned()));
        }
        if UnixStream::connect(path).is_ok() {
            return Ok(LogTarget::Unix(path.to_owned()));
        }
    }
    Err("Unix syslog delivery error".to_owned())
}

/// An I/O error as Go prints it.
fn lower(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
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
    fn syslog_options() {
        let of = |text| syslog_address(&options(&[("syslog-address", text)]));
        assert_eq!(of("udp://h"), Ok(Address::Net { udp: true, host: "h".to_owned(), port: 514 }));
        assert_eq!(of("tcp://[::1]:9"), Ok(Address::Net { udp: false, host: "::1".to_owned(), port: 9 }));
        assert_eq!(of("ftp://x"), Err("unsupported scheme: 'ftp'".to_owned()));
        assert_eq!(of("unix:///no/such"), Err("stat /no/such: no such file or directory".to_owned()));
        assert!(of("tcp+tls://x:6514").unwrap_err().contains("without TLS"));
        assert_eq!(facility(&options(&[("syslog-facility", "local7")])), Ok(23 << 3));
        assert_eq!(facility(&options(&[("syslog-facility", "5")])), Ok(5 << 3));
        assert_eq!(refusal("syslog", &[("syslog-facility", "24")]), "invalid syslog facility");
        assert_eq!(refusal("syslog", &[("syslog-format", "x")]), "Invalid syslog format");
        assert_eq!(refusal("syslog", &[("foo", "x")]), "unknown log opt 'foo' for syslog log driver");
    }

    #[test]
    fn gelf_options() {
        assert_eq!(refusal("gelf", &[]), "gelf-address is a required parameter");
        assert_eq!(
            refusal("gelf", &[("gelf-address", "http://a:1")]),
            "gelf: endpoint needs to be TCP or UDP"
        );
        assert_eq!(
            refusal("gelf", &[("gelf-address", "udp://a")]),
            "gelf: please provide gelf-address as proto://host:port"
        );
        let udp = ("gelf-address", "udp://127.0.0.1:9");
        assert_eq!(
            refusal("gelf", &[udp, ("gelf-compression-type", "x")]),
            "unknown value \"x\" for log opt \"gelf-compression-type\" for gelf log driver"
        );
        assert_eq!(
            refusal("gelf", &[udp, ("gelf-tcp-max-reconnect", "1")]),
            "\"gelf-tcp-max-reconnect\" is only valid for TCP"
        );
        assert_eq!(validate("gelf", &options(&[udp, ("gelf-compression-level", "-1")])), Ok(()));
    }

    #[test]
    fn fluentd_options_are_read() {
        assert_eq!(
            refusal("fluentd", &[("fluentd-address", "http://x")]),
            "invalid fluentd-address (http://x): unsupported scheme: 'http'"
        );
        let read = fluentd_options(&options(&[
            ("fluentd-address", "h"),
            ("fluentd-async", "true"),
            ("fluentd-buffer-limit", "2k"),
            ("fluentd-retry-wait", "200ms"),
        ]))
        .unwrap();
        assert_eq!(read.address, Address::Net { udp: false, host: "h".to_owned(), port: 24_224 });
        assert_eq!((read.queue, read.retry.first_ms, read.retry.hold), (Some(2048), 200, false));
        assert!(fluentd_options(&options(&[("fluentd-async-reconnect-interval", "20s")])).is_err());
    }

    #[test]
    fn journal_fields_are_capitals() {
        assert_eq!(journal_field("_com.example-1"), "COM_EXAMPLE_1");
    }
}
