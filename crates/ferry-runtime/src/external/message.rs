//! What a runtime says when it fails, and what kind of failure that is.

use ferry_types::RuntimeProgram;
use rustix::io::Errno;
use rustix::process::WaitStatus;
use serde_json::Value;

use crate::Error;
use crate::error::errno_text;

/// Longest message that is passed on.
const MAX_TEXT: usize = 2000;

/// The error of a failed call: the last one in its log, else the last line it wrote, else how it ended.
pub(super) fn failure(name: &str, verb: &str, log: &[u8], stderr: &[u8], how: &str) -> Error {
    let text = logged(log).or_else(|| last_line(stderr));
    classified(text.unwrap_or_else(|| format!("runtime {name}: {verb}: {how}")))
}

/// How a program ended, in Go's words.
pub(super) fn ending(status: WaitStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal: {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// The error of a runtime's program that could not be executed, in Go's words.
pub(super) fn not_executed(program: &RuntimeProgram, errno: Errno) -> Error {
    let (name, path) = (&program.name, program.path.display());
    classified(format!("runtime {name}: fork/exec {path}: {}", errno_text(errno.raw_os_error())))
}

/// Errors in the C library's words and in Go's, by which clients, too, tell what went wrong.
const WORDS: [(&str, &str); 3] = [
    ("No such file or directory", "no such file or directory"),
    ("Permission denied", "permission denied"),
    ("Is a directory", "is a directory"),
];

/// Docker's judgement, which goes by the text: whatever was not found or not permitted is taken for the user's program.
fn classified(mut message: String) -> Error {
    for (theirs, gos) in WORDS {
        message = message.replace(theirs, gos);
    }
    let mut end = message.len().min(MAX_TEXT);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    message.truncate(end);
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| message.contains(phrase));
    match () {
        () if says(&["executable file not found", "no such file or directory"]) => {
            Error::CommandNotFound { message }
        }
        () if says(&["permission denied", "is a directory"]) => Error::CommandNotExecutable { message },
        () => Error::External { message },
    }
}

/// The last error of a log of JSON objects, one a line (`--log-format json`).
fn logged(log: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(log);
    let entries: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let grave = |entry: &&Value| matches!(entry["level"].as_str(), Some("error" | "fatal" | "panic"));
    let entry = entries.iter().rev().find(grave)?;
    entry["msg"].as_str().map(str::trim).filter(|msg| !msg.is_empty()).map(str::to_owned)
}

fn last_line(stderr: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(stderr);
    text.lines().map(str::trim).rfind(|line| !line.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(log: &str, stderr: &str) -> Error {
        failure("x", "create", log.as_bytes(), stderr.as_bytes(), "exit status 1")
    }

    #[test]
    fn the_last_error_of_the_log_counts() {
        let log = "{\"level\":\"error\",\"msg\":\"first\"}\n\
                   {\"level\":\"error\",\"msg\":\"runc create failed: exec: \\\"foo\\\": executable file not found in $PATH\"}\n\
                   {\"level\":\"warning\",\"msg\":\"later\"}\nnonsense\n";
        let message = "runc create failed: exec: \"foo\": executable file not found in $PATH".to_owned();
        assert_eq!(failed(log, "other\n"), Error::CommandNotFound { message });
    }

    #[test]
    fn without_a_log_what_was_written_counts() {
        let crun = "executable file `foo` not found in $PATH: No such file or directory\n\n";
        let message = "executable file `foo` not found in $PATH: no such file or directory".to_owned();
        assert_eq!(failed("", crun), Error::CommandNotFound { message });
        assert!(matches!(failed("", "open: Permission denied"), Error::CommandNotExecutable { .. }));
        let message = "runtime x: create: exit status 1".to_owned();
        assert_eq!(failed("", " \n"), Error::External { message });
    }

    #[test]
    fn a_missing_program_is_named() {
        let program = RuntimeProgram { name: "x".into(), path: "/no/such".into(), ..Default::default() };
        let message = "runtime x: fork/exec /no/such: no such file or directory".to_owned();
        assert_eq!(not_executed(&program, Errno::NOENT), Error::CommandNotFound { message });
    }
}
