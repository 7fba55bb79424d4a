//! The way to an engine on another machine: `ssh` runs a command there that passes bytes on to the
//! engine's socket.

use std::io;
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// Where to, and what to run there.
#[derive(Debug)]
pub(crate) struct Way<'a> {
    pub user: &'a str,
    pub host: &'a str,
    pub port: Option<u16>,
    pub socket: &'a str,
    pub command: &'a [String],
}

impl Way<'_> {
    /// Starts `ssh`. What it has to say, be it a question for a password, goes to the user's terminal.
    pub(crate) fn open(&self) -> io::Result<Session> {
        let mut child = Command::new("ssh")
            .args(self.arguments())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let missing = || io::Error::other("ssh has no pipe");
        let input = child.stdin.take().ok_or_else(missing)?;
        let output = child.stdout.take().ok_or_else(missing)?;
        Ok(Session { input: Some(input), output, _child: child })
    }

    fn arguments(&self) -> Vec<String> {
        let mut all: Vec<String> = ["-o", "ConnectTimeout=30", "-T"].map(str::to_owned).into();
        if !self.user.is_empty() {
            all.extend(["-l".to_owned(), self.user.to_owned()]);
        }
        if let Some(port) = self.port {
            all.extend(["-p".to_owned(), port.to_string()]);
        }
        all.extend(["--".to_owned(), self.host.to_owned()]);
        let Some((program, rest)) = self.command.split_first() else { return all };
        if self.socket.is_empty() {
            all.extend(self.command.iter().cloned());
        } else if rest.is_empty() {
            // A shell's text finds the socket in its environment.
            all.push(format!("DOCKER_HOST={} {program}", quoted(&format!("unix://{}", self.socket))));
        } else {
            all.push(program.clone());
            all.extend(["--host".to_owned(), quoted(&format!("unix://{}", self.socket))]);
            all.extend(rest.iter().cloned());
        }
        all
    }
}

/// For the shell on the other machine.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A running `ssh`; it ends with this.
#[derive(Debug)]
pub(crate) struct Session {
    input: Option<ChildStdin>,
    output: ChildStdout,
    _child: Child,
}

impl AsyncRead for Session {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.output).poll_read(cx, buf)
    }
}

impl AsyncWrite for Session {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.input {
            Some(input) => Pin::new(input).poll_write(cx, data),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.input {
            Some(input) => Pin::new(input).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The other side sees the end of the stream when the pipe closes.
        self.input = None;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines() {
        let command = ["docker".to_owned(), "system".to_owned(), "dial-stdio".to_owned()];
        let way = |socket| Way { user: "me", host: "h", port: Some(2222), socket, command: &command };
        assert_eq!(
            way("").arguments().join(" "),
            "-o ConnectTimeout=30 -T -l me -p 2222 -- h docker system dial-stdio"
        );
        assert!(way("/a b").arguments().join(" ").ends_with("docker --host 'unix:///a b' system dial-stdio"));
    }
}
