//! What can go wrong while a container is built, and how it is worded.

use std::fmt;

use ferry_types::{Classify, ErrorKind};

/// The step during which a failure happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// Reading the OCI config.
    Config = 0,
    /// Making the process and its namespaces.
    Namespaces = 1,
    /// Creating, configuring or joining the control group.
    Cgroup = 2,
    /// Mounting the root file system and everything beneath it.
    Rootfs = 3,
    /// Terminal and standard streams.
    Stdio = 4,
    /// Kernel settings of the container: host name, sysctls, devices.
    Settings = 5,
    /// User, capabilities, limits, labels, seccomp.
    Credentials = 6,
    /// A hook of the OCI config.
    Hook = 7,
    /// Executing the user's program.
    Exec = 8,
    /// Talking between the runtime and the container's first process.
    Channel = 9,
}

impl Stage {
    pub(crate) fn from_u8(value: u8) -> Stage {
        const ALL: [Stage; 10] = [
            Stage::Config,
            Stage::Namespaces,
            Stage::Cgroup,
            Stage::Rootfs,
            Stage::Stdio,
            Stage::Settings,
            Stage::Credentials,
            Stage::Hook,
            Stage::Exec,
            Stage::Channel,
        ];
        ALL.get(usize::from(value)).copied().unwrap_or(Stage::Channel)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Config => "config",
            Stage::Namespaces => "namespaces",
            Stage::Cgroup => "cgroup",
            Stage::Rootfs => "rootfs",
            Stage::Stdio => "stdio",
            Stage::Settings => "settings",
            Stage::Credentials => "credentials",
            Stage::Hook => "hook",
            Stage::Exec => "exec",
            Stage::Channel => "channel",
        })
    }
}

/// A failure of the runtime. Texts are made where the failure happens, which often is the
/// container's first process, and travel to the caller as they are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The program does not exist (exit code 127 in Docker).
    #[error("{message}")]
    CommandNotFound {
        /// Docker's wording, e.g. `exec: "foo": executable file not found in $PATH`.
        message: String,
    },
    /// The program exists but cannot be executed (exit code 126 in Docker).
    #[error("{message}")]
    CommandNotExecutable {
        /// Docker's wording, e.g. `exec: "/tmp": is a directory`.
        message: String,
    },
    /// The config asks for something impossible, unknown, or not allowed on this host.
    #[error("{message}")]
    Invalid {
        /// During which step it was found.
        stage: Stage,
        /// What and why.
        message: String,
    },
    /// Another OCI runtime failed.
    #[error("{message}")]
    External {
        /// Its own words where it had some.
        message: String,
    },
    /// A system call failed.
    #[error("{what}: {}", errno_text(*errno))]
    System {
        /// During which step.
        stage: Stage,
        /// What was attempted, e.g. `mount proc on /proc`.
        what: String,
        /// `errno` (errno(3)).
        errno: i32,
    },
}

impl Error {
    pub(crate) fn invalid(stage: Stage, message: impl Into<String>) -> Error {
        Error::Invalid { stage, message: message.into() }
    }

    pub(crate) fn system(stage: Stage, what: impl Into<String>, errno: impl Into<RawErrno>) -> Error {
        Error::System { stage, what: what.into(), errno: errno.into().0 }
    }

    /// The step during which it happened.
    pub fn stage(&self) -> Stage {
        match self {
            Error::CommandNotFound { .. } | Error::CommandNotExecutable { .. } => Stage::Exec,
            Error::External { .. } => Stage::Exec,
            Error::Invalid { stage, .. } | Error::System { stage, .. } => *stage,
        }
    }
}

impl Classify for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Error::CommandNotFound { .. } | Error::CommandNotExecutable { .. } | Error::Invalid { .. } => {
                ErrorKind::InvalidParameter
            }
            Error::External { .. } | Error::System { .. } => ErrorKind::System,
        }
    }
}

/// An `errno` value from whichever library reported it.
pub(crate) struct RawErrno(pub i32);

impl From<rustix::io::Errno> for RawErrno {
    fn from(errno: rustix::io::Errno) -> RawErrno {
        RawErrno(errno.raw_os_error())
    }
}

impl From<std::io::Error> for RawErrno {
    fn from(error: std::io::Error) -> RawErrno {
        RawErrno(error.raw_os_error().unwrap_or(rustix::io::Errno::IO.raw_os_error()))
    }
}

impl From<i32> for RawErrno {
    fn from(errno: i32) -> RawErrno {
        RawErrno(errno)
    }
}

/// The text of an `errno` as Go programs print it: lower case, without the number.
pub(crate) fn errno_text(errno: i32) -> String {
    let text = std::io::Error::from_raw_os_error(errno).to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => format!("errno {errno}"),
    }
}

/// Attaches a step and a description to a failed system call.
pub(crate) trait At<T> {
    fn at(self, stage: Stage, what: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T, E: Into<RawErrno>> At<T> for Result<T, E> {
    fn at(self, stage: Stage, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|errno| Error::system(stage, what(), errno))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_errors_read_like_docker() {
        let error = Error::system(Stage::Rootfs, "mount proc on /proc", 2);
        assert_eq!(error.to_string(), "mount proc on /proc: no such file or directory");
    }

    #[test]
    fn stages_survive_their_number() {
        for stage in [Stage::Config, Stage::Rootfs, Stage::Exec, Stage::Channel] {
            assert_eq!(Stage::from_u8(stage as u8), stage);
        }
    }
}
