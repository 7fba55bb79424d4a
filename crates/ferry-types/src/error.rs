//! The few kinds every error of ferry falls into. The server maps a kind to an HTTP status and the
//! runtime command to an exit code; nothing else may decide on a status.

/// What kind of failure an error is, seen from the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request itself is wrong (HTTP 400).
    InvalidParameter,
    /// Credentials are missing or wrong (HTTP 401).
    Unauthorized,
    /// The caller may not do this (HTTP 403).
    Forbidden,
    /// The named object does not exist (HTTP 404).
    NotFound,
    /// The object's state does not allow the request (HTTP 409).
    Conflict,
    /// The object is already in the requested state (HTTP 304).
    NotModified,
    /// Something the engine depends on cannot be reached (HTTP 503).
    Unavailable,
    /// Known to Docker but not supported by this engine or host (HTTP 501).
    NotImplemented,
    /// The engine or the host failed (HTTP 500).
    System,
}

/// Implemented by every public error type of ferry's libraries.
pub trait Classify {
    /// The kind this error falls into.
    fn kind(&self) -> ErrorKind;
}

/// Rewrites operating system errors in a message as Go prints them, which is what scripts look for: Rust's
/// `No space left on device (os error 28)` becomes `no space left on device`.
pub fn errno_in_gos_words(message: &str) -> String {
    const MARK: &str = " (os error ";
    let mut out = String::with_capacity(message.len());
    let mut rest = message;
    while let Some(at) = rest.find(MARK) {
        let (before, tail) = rest.split_at(at);
        let number =
            tail[MARK.len()..].split_once(')').and_then(|(n, after)| Some((n.parse::<i32>().ok()?, after)));
        let Some((number, after)) = number else {
            out.push_str(before);
            out.push_str(MARK);
            rest = &tail[MARK.len()..];
            continue;
        };
        let full = std::io::Error::from_raw_os_error(number).to_string();
        let text = full.split(MARK).next().unwrap_or_default();
        match before.strip_suffix(text) {
            Some(head) => {
                out.push_str(head);
                let mut letters = text.chars();
                out.extend(letters.next().map(|c| c.to_ascii_lowercase()));
                out.push_str(letters.as_str());
            }
            None => out.push_str(before),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::errno_in_gos_words;

    #[test]
    fn operating_system_errors_read_as_gos() {
        let text = |s: &str| errno_in_gos_words(s);
        assert_eq!(
            text("write /x: No space left on device (os error 28)"),
            "write /x: no space left on device"
        );
        assert_eq!(text("a: Permission denied (os error 13): b"), "a: permission denied: b");
        assert_eq!(text("plain"), "plain");
        assert_eq!(text("odd (os error x)"), "odd (os error x)");
    }
}
