//! HTTP by hand over the engine's socket, for requests no well-behaved client sends.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Header names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// Body, chunks joined.
    pub body: String,
}

impl Answer {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_str(&self.body).with_context(|| format!("not JSON: {self:?}"))
    }

    /// The `message` of an error.
    pub fn message(&self) -> Result<String> {
        let json = self.json()?;
        Ok(json["message"].as_str().with_context(|| format!("no message: {self:?}"))?.to_owned())
    }

    /// Fails unless the status is this one.
    pub fn status(&self, expected: u16) -> Result<&Self> {
        if self.status != expected {
            bail!("status {} instead of {expected}: {self:?}", self.status);
        }
        Ok(self)
    }
}

/// Sends one request and reads its answer.
pub fn request(socket: &Path, method: &str, path: &str, body: Option<&[u8]>) -> Result<Answer> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n");
    if let Some(body) = body {
        head.push_str(&format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    raw(socket, &[head.as_bytes(), body.unwrap_or_default()].concat(), method == "HEAD")
}

/// Sends bytes as they are and reads one answer.
pub fn raw(socket: &Path, bytes: &[u8], head_only: bool) -> Result<Answer> {
    let mut stream = connect(socket)?;
    // The engine may answer before it has read everything, and close.
    let sent = stream.write_all(bytes);
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    if answer.is_empty() {
        sent.context("cannot send")?;
        read.context("no answer")?;
        bail!("the engine closed the connection without an answer");
    }
    parse(&answer, head_only)
}

/// Connects to a socket with a limit on waiting.
pub fn connect(socket: &Path) -> Result<UnixStream> {
    let stream =
        UnixStream::connect(socket).with_context(|| format!("cannot connect to {}", socket.display()))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.set_write_timeout(Some(Duration::from_secs(30)))?;
    Ok(stream)
}

/// Sends one request over TCP, with a body of this media type.
pub fn tcp(addr: SocketAddr, method: &str, path: &str, kind: &str, body: &[u8]) -> Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&addr, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )?;
    stream.write_all(body)?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    parse(&bytes, method == "HEAD")
}

fn parse(bytes: &[u8], head_only: bool) -> Result<Answer> {
    let split = bytes.windows(4).position(|window| window == b"\r\n\r\n").context("no end of headers")?;
    let head = String::from_utf8_lossy(&bytes[..split]).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        .collect();
    let chunked = headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    let body = &bytes[split + 4..];
    let body = match (head_only, chunked) {
        (true, _) => Vec::new(),
        (false, true) => dechunk(body)?,
        (false, false) => body.to_vec(),
    };
    Ok(Answer {
        status: status.with_context(|| format!("no status: {head}"))?,
        headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

fn dechunk(mut bytes: &[u8]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = bytes.windows(2).position(|window| window == b"\r\n").context("chunk without a size")?;
        let size = std::str::from_utf8(&bytes[..line])?;
        let size = usize::from_str_radix(size.split(';').next().unwrap_or(size), 16)?;
        let start = line + 2;
        if size == 0 {
            return Ok(body);
        }
        body.extend_from_slice(bytes.get(start..start + size).context("chunk is cut off")?);
        bytes = bytes.get(start + size + 2..).context("chunk is cut off")?;
    }
}

/// The body of a page of a web server, tried again until `patience` is over.
pub fn get(addr: SocketAddr, patience: Duration) -> Result<String> {
    let deadline = Instant::now() + patience;
    loop {
        match get_once(addr) {
            Ok(body) => return Ok(body),
            Err(error) if Instant::now() > deadline => return Err(error.context(format!("http://{addr}/"))),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

fn get_once(addr: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&addr, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET / HTTP/1.0\r\nHost: {addr}\r\n\r\n")?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let answer = parse(&bytes, false)?;
    if answer.status != 200 {
        bail!("status {}", answer.status);
    }
    Ok(answer.body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_joined() {
        let bytes =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n";
        let answer = parse(bytes, false).unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (200, "abcde"));
        assert!(parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc", false).is_err());
    }
}
