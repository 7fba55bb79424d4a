//! Where a container's output is kept and sent: what the engine worked out from a log driver's options, so that the
//! shim has neither names to look up nor templates to expand.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What becomes of a container's output.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LogConfig {
    /// The file `logs` reads.
    pub file: Option<LogFile>,
    /// Where else it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<Box<RemoteLog>>,
    /// Bytes that may wait for a destination that does not take them.
    pub buffer: u64,
    /// What to do when `buffer` is full: drop (and count) what is new, or stop reading what the container writes.
    #[serde(default)]
    pub non_blocking: bool,
}

/// A log on disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LogFile {
    /// The current file; older ones are `PATH.1`, `PATH.2`, …, or `PATH.1.gz` and so on.
    pub path: PathBuf,
    /// How a record looks.
    pub format: LogFormat,
    /// Rotate when the current file reaches this many bytes; never when absent.
    pub max_size: Option<u64>,
    /// Number of files kept, the current one included; at least 1.
    pub max_files: u32,
    /// Whether rotated files are compressed.
    #[serde(default)]
    pub compress: bool,
    /// A JSON object added to each record (`labels`, `env`, `tag`); only for [`LogFormat::Json`]. Empty for none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub attributes: String,
}

/// The layout of records, one per line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Docker's json-file.
    Json,
    /// ferry's own for the `local` driver: a letter (`o` stdout, `e` stderr; a capital when no newline follows the
    /// text), nanoseconds since the epoch in decimal, a blank, the text as it is.
    Local,
}

/// A log service.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RemoteLog {
    /// How it is reached.
    pub target: LogTarget,
    /// What is sent.
    pub encoding: LogEncoding,
    /// Whether the container must not start without a connection.
    pub must_connect: bool,
    /// When a connection is lost.
    pub retry: LogRetry,
    /// Put before the text of a failed connection, e.g. `dial tcp 127.0.0.1:514: connect`.
    pub dial: String,
}

/// The address of a log service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogTarget {
    /// Datagrams; any of these addresses.
    Udp(Vec<SocketAddr>),
    /// A stream; any of these addresses.
    Tcp(Vec<SocketAddr>),
    /// A unix stream socket.
    Unix(PathBuf),
    /// A unix datagram socket.
    UnixDatagram(PathBuf),
}

/// How reconnecting goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRetry {
    /// Milliseconds before the first attempt; doubled each time.
    pub first_ms: u64,
    /// The longest pause.
    pub longest_ms: u64,
    /// Whether a blocking log waits for the service to come back (fluentd) rather than lose what comes meanwhile.
    pub hold: bool,
    /// After how many failed attempts in a row what waits is dropped; never when absent.
    #[serde(default)]
    pub attempts: Option<u32>,
    /// Milliseconds after which a connection that takes nothing is given up.
    #[serde(default)]
    pub write_timeout_ms: Option<u64>,
    /// Milliseconds after which a connection is made anew, because the name may mean another host by now.
    #[serde(default)]
    pub renew_ms: Option<u64>,
}

/// The protocol of a log service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "protocol", rename_all = "snake_case")]
pub enum LogEncoding {
    /// syslog, one message per line.
    Syslog {
        /// Which of its layouts.
        layout: SyslogLayout,
        /// Facility code times eight.
        facility: u8,
        /// Tag, and application name.
        tag: String,
        /// Of this host.
        hostname: String,
        /// Seconds east of UTC in which times are given.
        utc_offset: i32,
    },
    /// Graylog's extended log format 1.1.
    Gelf {
        /// Of this host.
        hostname: String,
        /// Further members, as the inside of a JSON object; empty for none.
        extra: String,
        /// Of datagrams.
        compression: GelfCompression,
        /// 0 to 9.
        level: u32,
    },
    /// Fluentd's forward protocol, one message per line.
    Fluentd {
        /// The event's tag.
        tag: String,
        /// Members of each record besides `log` and `source`.
        record: Vec<(String, String)>,
        /// Send nanoseconds (event time) rather than whole seconds.
        sub_second: bool,
        /// Demand an acknowledgement for each message.
        acknowledge: bool,
    },
    /// The systemd journal's native protocol.
    Journald {
        /// Fields of each entry besides `MESSAGE` and `PRIORITY`.
        fields: Vec<(String, String)>,
    },
}

/// Layouts of syslog messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SyslogLayout {
    /// RFC 3164 without a host name, as local daemons expect it.
    Unix,
    /// RFC 3164.
    Rfc3164,
    /// RFC 5424 with whole seconds.
    Rfc5424,
    /// RFC 5424 with microseconds.
    Rfc5424Micro,
}

/// How datagrams are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GelfCompression {
    /// RFC 1952.
    Gzip,
    /// RFC 1950.
    Zlib,
    /// Not at all.
    None,
}
