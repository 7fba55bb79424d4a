//! How many questions about names an engine answers, asked from inside a container as its programs would.

use std::fs::File;
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{NETWORK, clear, pid};
use crate::bench::stats::Samples;
use crate::bench::table::Row;
use crate::bench::{Bench, IMAGE};

/// Where containers' queries go.
const RESOLVER: &str = "127.0.0.11:53";
/// Questions that wait for their answer when as many as possible are asked.
const WINDOW: usize = 64;
/// A question without an answer after this is lost.
const LOST: Duration = Duration::from_secs(1);
const TIME: Duration = Duration::from_secs(3);
/// Questions a second that must all be answered.
const RATE: u32 = 10_000;

/// A question for the IPv4 address of `name` (RFC 1035 section 4.1).
fn question(id: u16, name: &str) -> Vec<u8> {
    let mut packet = id.to_be_bytes().to_vec();
    // Recursion desired; one question.
    packet.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        packet.push(u8::try_from(label.len()).unwrap_or(63));
        packet.extend(label.bytes());
    }
    packet.extend([0, 0, 1, 0, 1]);
    packet
}

/// The id of a packet that answers a question.
fn answered(packet: &[u8]) -> Option<u16> {
    let has_answer = packet.len() > 12 && packet[3] & 0xf == 0 && packet[6..8] != [0, 0];
    has_answer.then(|| u16::from_be_bytes([packet[0], packet[1]]))
}

/// Asks from inside a namespace for [`TIME`], at most [`WINDOW`] questions or `rate` a second at once; how many were answered
/// and how many not.
fn ask(netns: &File, name: &str, rate: Option<u32>) -> Result<(usize, usize)> {
    move_into_link_name_space(std::os::fd::AsFd::as_fd(netns), Some(LinkNameSpaceType::Network))?;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(RESOLVER)?;
    socket.set_nonblocking(true)?;
    let (began, mut last) = (Instant::now(), Instant::now());
    let mut waiting = vec![false; 1 << 16];
    let (mut asked, mut done) = (0_usize, 0_usize);
    let mut buffer = [0; 1500];
    loop {
        let now = began.elapsed();
        let due = match rate {
            Some(rate) => (now.min(TIME).as_secs_f64() * f64::from(rate)) as usize,
            None if now < TIME => done + WINDOW,
            None => asked,
        };
        while asked < due {
            let id = asked as u16;
            match socket.send(&question(id, name)) {
                Ok(_) => waiting[usize::from(id)] = true,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("asking"),
            }
            asked += 1;
        }
        match socket.recv(&mut buffer) {
            Ok(length) => {
                let Some(id) = answered(&buffer[..length]) else { bail!("{name} is not known") };
                if std::mem::take(&mut waiting[usize::from(id)]) {
                    done += 1;
                    last = Instant::now();
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if now >= TIME && (done == asked || last.elapsed() > LOST) {
                    return Ok((done, asked - done));
                }
                // All that wait are lost: on with the next.
                if rate.is_none() && last.elapsed() > LOST {
                    bail!("no answer for {LOST:?} after {done}");
                }
                std::thread::sleep(Duration::from_micros(100));
            }
            Err(error) => return Err(error).context("listening"),
        }
    }
}

impl Bench<'_> {
    /// Questions for the name of another container.
    pub fn names(&self) -> Result<Vec<Row>> {
        let names = ["bench-names-a", "bench-names-b"];
        let (mut speed, mut lost) = (Vec::new(), Vec::new());
        for contender in self.engines() {
            clear(contender, &names);
            contender.ask(&["network", "create", NETWORK])?;
            for name in names {
                contender.ask(&[
                    "run",
                    "-d",
                    "--name",
                    name,
                    "--network",
                    NETWORK,
                    IMAGE,
                    "sleep",
                    "1000",
                ])?;
            }
            let path = format!("/proc/{}/ns/net", pid(contender, names[0])?);
            // Only the thread that asks changes its namespace.
            let from_inside = |rate: Option<u32>| -> Result<(usize, usize)> {
                let netns = File::open(&path).with_context(|| format!("cannot open {path}"))?;
                let thread = std::thread::spawn(move || ask(&netns, "bench-names-b", rate));
                thread.join().unwrap_or_else(|_| bail!("the thread that asks broke off"))
            };
            let mut samples = Samples::default();
            for _ in 0..3 {
                samples.push(from_inside(None)?.0 as f64 / TIME.as_secs_f64());
            }
            speed.push(samples);
            lost.push(Samples::one(from_inside(Some(RATE))?.1 as f64));
            clear(contender, &names);
        }
        Ok(vec![
            Row { aim: "10000", ..Row::plain("DNS answers from inside a container", "/s", speed) },
            Row { aim: "0", ..Row::plain("DNS questions lost at 10,000/s for 3 s", "", lost) },
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_and_answers() {
        let packet = question(0x1234, "a.bc");
        assert_eq!(packet[..4], [0x12, 0x34, 1, 0]);
        assert_eq!(packet[12..], [1, b'a', 2, b'b', b'c', 0, 0, 1, 0, 1]);
        assert_eq!(answered(&packet), None);
        let mut answer = packet;
        answer[7] = 1;
        assert_eq!(answered(&answer), Some(0x1234));
        // NXDOMAIN
        answer[3] = 3;
        assert_eq!(answered(&answer), None);
    }
}
