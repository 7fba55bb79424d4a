//! A GET over plain HTTP, enough to see whether a web server answers.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Status code and body of `GET path`, trying again until `patience` is over while nobody listens yet.
pub fn get(addr: SocketAddr, path: &str, patience: Duration) -> Result<(u16, String)> {
    let deadline = Instant::now() + patience;
    loop {
        match get_once(addr, path) {
            Ok(answer) => return Ok(answer),
            Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(50)),
            Err(error) => return Err(error).with_context(|| format!("no answer from http://{addr}{path}")),
        }
    }
}

fn get_once(addr: SocketAddr, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&addr, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {addr}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    parse(&String::from_utf8_lossy(&answer))
}

fn parse(answer: &str) -> Result<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer is not HTTP")?;
    let Some(code) = head.split_whitespace().nth(1).and_then(|code| code.parse().ok()) else {
        bail!("the answer has no status code: {head}");
    };
    Ok((code, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_taken_apart() {
        let (code, body) = parse("HTTP/1.1 200 OK\r\nServer: x\r\n\r\nhello").unwrap();
        assert_eq!((code, body.as_str()), (200, "hello"));
        assert!(parse("HTTP/1.1\r\n\r\n").is_err());
        assert!(parse("garbage").is_err());
    }
}
