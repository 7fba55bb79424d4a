//! How a command ends when it does not succeed: an exit code and what to say on stderr.

use std::fmt::Display;

/// Exit code of a failed command.
pub const FAILED: u8 = 1;
/// Exit code of `run`, `create` and of every usage error: the client or the engine failed, not the
/// container.
pub const CLIENT_FAILED: u8 = 125;
/// Exit code when the container's command cannot be invoked.
pub const NOT_EXECUTABLE: u8 = 126;
/// Exit code when the container's command does not exist.
pub const NOT_FOUND: u8 = 127;
/// What a shell reports for a process that died of SIGPIPE.
pub const BROKEN_PIPE: u8 = 141;

/// A command's unsuccessful end.
#[derive(Debug)]
pub struct Failure {
    /// Exit code of the program.
    pub code: u8,
    /// Text for stderr without a final newline; nothing is printed when it is empty.
    pub message: String,
    /// HTTP status when the engine refused.
    pub status: Option<u16>,
    /// Nobody answers at the engine's address.
    pub unreachable: bool,
}

/// Result of a command: its exit code.
pub type CmdResult = Result<u8, Failure>;

impl Failure {
    /// A message with exit code 1.
    pub fn new(message: impl Display) -> Self {
        Self { code: FAILED, message: message.to_string(), status: None, unreachable: false }
    }

    /// An exit code with nothing to print: everything has been said already.
    pub fn silent(code: u8) -> Self {
        Self { code, message: String::new(), status: None, unreachable: false }
    }

    /// The same with another exit code.
    #[must_use]
    pub fn with_code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }
}

impl From<ferry_client::Error> for Failure {
    fn from(e: ferry_client::Error) -> Self {
        let status = e.status();
        let unreachable = matches!(e, ferry_client::Error::Connect { .. });
        let message = match &e {
            ferry_client::Error::Api { message, .. } => format!("Error response from daemon: {message}"),
            ferry_client::Error::Connect { endpoint, source } => connect_message(endpoint, source),
            other => other.to_string(),
        };
        Self { code: FAILED, message, status, unreachable }
    }
}

/// Docker's sentence; `{daemon}` stands for the engine's name until [`finish`] knows the program's.
fn connect_message(endpoint: &str, source: &std::io::Error) -> String {
    use std::io::ErrorKind as K;
    match source.kind() {
        K::PermissionDenied => format!(
            "permission denied while trying to connect to the {DAEMON} daemon socket at {endpoint}: {source}"
        ),
        K::NotFound | K::ConnectionRefused => {
            format!(
                "Cannot connect to the {DAEMON} daemon at {endpoint}. Is the {DAEMON_LOWER} daemon running?"
            )
        }
        _ => format!(
            "error during connect: {endpoint}: {source}\nCannot connect to the {DAEMON} daemon at {endpoint}. Is the {DAEMON_LOWER} daemon running?"
        ),
    }
}

/// Placeholders for the program's name in messages made where it is not known.
const DAEMON: &str = "\u{1}Daemon\u{1}";
const DAEMON_LOWER: &str = "\u{1}daemon\u{1}";

/// The message as shown: with the program's name in it.
pub fn finish(message: &str, prog: &str) -> String {
    if !message.contains('\u{1}') {
        return message.to_owned();
    }
    let mut capital = prog.to_owned();
    if let Some(first) = capital.get_mut(0..1) {
        first.make_ascii_uppercase();
    }
    message.replace(DAEMON, &capital).replace(DAEMON_LOWER, prog)
}

impl From<std::io::Error> for Failure {
    fn from(e: std::io::Error) -> Self {
        if e.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::silent(BROKEN_PIPE);
        }
        Self::new(crate::text::io_reason(&e))
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self::new(message)
    }
}

impl From<serde_json::Error> for Failure {
    fn from(e: serde_json::Error) -> Self {
        Self::new(format!("invalid JSON: {e}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn daemon_is_called_as_the_program() {
        let e = ferry_client::Error::Connect {
            endpoint: "unix:///x.sock".to_owned(),
            source: std::io::ErrorKind::NotFound.into(),
        };
        let f = Failure::from(e);
        assert_eq!(
            finish(&f.message, "docker"),
            "Cannot connect to the Docker daemon at unix:///x.sock. Is the docker daemon running?"
        );
        assert_eq!(
            finish(&f.message, "ferry"),
            "Cannot connect to the Ferry daemon at unix:///x.sock. Is the ferry daemon running?"
        );
    }
}
