//! Addresses of engines in Docker's notation.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::error::Error;

/// Port of `tcp://host` without a port and without TLS.
const PLAIN_PORT: u16 = 2375;

/// Where an engine listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// `unix:///path`.
    Unix(PathBuf),
    /// `tcp://host[:port][/base]`, also written `http://` and `https://`.
    Tcp {
        /// Name or address without brackets.
        host: String,
        /// TCP port.
        port: u16,
        /// Path every request starts with, without a trailing slash; usually empty.
        base: String,
    },
    /// `ssh://[user@]host[:port][/socket]`: the engine of another machine, by way of its `ssh`.
    Ssh {
        /// Who to log in as; `ssh` decides when it is empty.
        user: String,
        /// Name or address.
        host: String,
        /// Port of the ssh daemon, when it is given.
        port: Option<u16>,
        /// Socket on the other machine, when it is not the usual one.
        socket: String,
    },
}

impl FromStr for Endpoint {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self, Error> {
        let Some((scheme, rest)) = s.split_once("://") else {
            return Err(Error::Endpoint(s.to_owned()));
        };
        match scheme {
            "unix" if !rest.is_empty() => Ok(Self::Unix(PathBuf::from(rest))),
            "tcp" | "http" | "https" => parse_tcp(rest).ok_or_else(|| Error::Endpoint(s.to_owned())),
            "unix" => Err(Error::Endpoint(s.to_owned())),
            "ssh" => parse_ssh(rest).ok_or_else(|| Error::Endpoint(s.to_owned())),
            _ => Err(Error::Protocol(s.to_owned())),
        }
    }
}

/// A user or host that begins with a hyphen would be an option of `ssh`.
fn parse_ssh(rest: &str) -> Option<Endpoint> {
    let (authority, socket) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let (user, address) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (host, port) = match address.strip_prefix('[') {
        Some(v6) => {
            let (host, after) = v6.split_once(']')?;
            (host, after.strip_prefix(':'))
        }
        None => address.split_once(':').map_or((address, None), |(host, port)| (host, Some(port))),
    };
    let port = match port {
        Some(port) => Some(port.parse().ok()?),
        None => None,
    };
    let bad = |word: &str| word.starts_with('-') || word.contains(char::is_whitespace);
    if host.is_empty() || bad(host) || bad(user) || user.contains(':') {
        return None;
    }
    let socket = if socket == "/" { "" } else { socket };
    Some(Endpoint::Ssh { user: user.to_owned(), host: host.to_owned(), port, socket: socket.to_owned() })
}

fn parse_tcp(rest: &str) -> Option<Endpoint> {
    let (authority, base) = match rest.find('/') {
        Some(slash) => (&rest[..slash], rest[slash..].trim_end_matches('/')),
        None => (rest, ""),
    };
    let (host, port) = match authority.strip_prefix('[') {
        Some(v6) => {
            let (host, after) = v6.split_once(']')?;
            (host, after.strip_prefix(':'))
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let port = match port {
        Some(p) => p.parse().ok()?,
        None => PLAIN_PORT,
    };
    let host = if host.is_empty() { "localhost" } else { host };
    Some(Endpoint::Tcp { host: host.to_owned(), port, base: base.to_owned() })
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp { host, port, base } if host.contains(':') => write!(f, "tcp://[{host}]:{port}{base}"),
            Self::Tcp { host, port, base } => write!(f, "tcp://{host}:{port}{base}"),
            Self::Ssh { user, host, port, socket } => {
                f.write_str("ssh://")?;
                if !user.is_empty() {
                    write!(f, "{user}@")?;
                }
                f.write_str(host)?;
                if let Some(port) = port {
                    write!(f, ":{port}")?;
                }
                f.write_str(socket)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        assert_eq!("unix:///a/b".parse::<Endpoint>().unwrap(), Endpoint::Unix("/a/b".into()));
        for (text, shown) in [
            ("tcp://h:1", "tcp://h:1"),
            ("tcp://h", "tcp://h:2375"),
            ("tcp://[::1]:7", "tcp://[::1]:7"),
            ("tcp://:2375", "tcp://localhost:2375"),
            ("https://h:1/base/", "tcp://h:1/base"),
            ("ssh://me@h:22/run/x.sock", "ssh://me@h:22/run/x.sock"),
            ("ssh://h/", "ssh://h"),
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn refused() {
        for bad in [
            "",
            "/run/x.sock",
            "unix://",
            "tcp://h:x",
            "tcp://h:99999",
            "ssh://-oProxyCommand=x",
            "ssh://",
            "ssh://u:p@h",
            "fd://",
            "npipe:////./x",
        ] {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad}");
        }
    }
}
