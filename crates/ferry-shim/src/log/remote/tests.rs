//! Every driver against a service made for the test: what arrives, and what happens when the service is not there, goes
//! away, or does not read.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use ferry_shim_proto::LogConfig;
use ferry_shim_proto::log::{GelfCompression, LogEncoding, LogRetry, LogTarget, RemoteLog, SyslogLayout};

use crate::clock;
use crate::log::Log;
use crate::log::lines::Stream;
use crate::poll::Poller;

const PATIENCE: Duration = Duration::from_secs(20);

struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ferry-log-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn config(target: LogTarget, encoding: LogEncoding) -> LogConfig {
    let retry = LogRetry {
        first_ms: 20,
        longest_ms: 100,
        hold: false,
        attempts: None,
        write_timeout_ms: None,
        renew_ms: None,
    };
    let remote = RemoteLog { target, encoding, must_connect: false, retry, dial: "dial".to_owned() };
    LogConfig { file: None, remote: Some(Box::new(remote)), buffer: 1 << 20, non_blocking: false }
}

fn syslog() -> LogEncoding {
    LogEncoding::Syslog {
        layout: SyslogLayout::Rfc3164,
        facility: 24,
        tag: "tag".to_owned(),
        hostname: "host".to_owned(),
        utc_offset: 0,
    }
}

fn gelf(compression: GelfCompression) -> LogEncoding {
    let extra = "\"_x\":\"y\"".to_owned();
    LogEncoding::Gelf { hostname: "host".to_owned(), extra, compression, level: 1 }
}

fn fluentd(acknowledge: bool) -> LogEncoding {
    LogEncoding::Fluentd { tag: "tag".to_owned(), record: Vec::new(), sub_second: true, acknowledge }
}

fn journald() -> LogEncoding {
    LogEncoding::Journald { fields: vec![("CONTAINER_NAME".to_owned(), "c".to_owned())] }
}

/// A log with the loop that the shim runs for it.
struct Driver {
    log: Log,
    poller: Poller,
}

impl Driver {
    fn new(config: LogConfig) -> Self {
        Self { log: Log::open(config).unwrap(), poller: Poller::new().unwrap() }
    }

    fn say(&mut self, text: &str) {
        self.log.append(Stream::Stdout, text.as_bytes(), clock::now());
    }

    /// One turn of the loop, a few milliseconds at most.
    fn turn(&mut self) {
        self.log.settle(&self.poller, clock::monotonic_ms());
        for (_, flags) in self.poller.wait(Some(5)).unwrap() {
            self.log.on_event(flags);
        }
    }

    fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let begin = Instant::now();
        while !done(self) {
            assert!(begin.elapsed() < PATIENCE, "waited too long for {what}");
            self.turn();
        }
    }

    /// Runs the loop until the texts have arrived, in this order.
    fn until_arrived(&mut self, got: &Receiver<Vec<u8>>, texts: &[&str]) {
        let mut all = Vec::new();
        self.until(&format!("{texts:?}"), |_| {
            all.extend(got.try_iter().flatten());
            let mut rest = &all[..];
            texts.iter().all(|text| match memchr::memmem::find(rest, text.as_bytes()) {
                Some(at) => {
                    rest = &rest[at + text.len()..];
                    true
                }
                None => false,
            })
        });
    }
}

/// A stream service on an address; each connection's bytes are sent on, acknowledged when fluentd's client wants it.
fn serve(listener: TcpListener) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            relay(stream.try_clone().unwrap(), stream, &sender);
        }
    });
    receiver
}

fn relay(mut from: impl Read, mut to: impl Write, sender: &Sender<Vec<u8>>) {
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        let data = &buffer[..n];
        if let Some(at) = memchr::memmem::find(data, b"\xa5chunk") {
            let _ = to.write_all(&[b"\x81\xa3ack", &data[at + 6..]].concat());
        }
        if sender.send(data.to_vec()).is_err() {
            return;
        }
    }
}

fn tcp() -> (SocketAddr, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    (listener.local_addr().unwrap(), listener)
}

#[test]
fn each_stream_protocol_delivers_in_order() {
    for encoding in [syslog(), gelf(GelfCompression::None), fluentd(false), fluentd(true)] {
        let (address, listener) = tcp();
        let got = serve(listener);
        let mut driver = Driver::new(config(LogTarget::Tcp(vec![address]), encoding));
        driver.say("one\ntwo\n");
        driver.turn();
        driver.say("three\n");
        driver.until_arrived(&got, &["one", "two", "three"]);
        driver.until("an empty queue", |d| !d.log.is_delivering());
        assert_eq!(driver.log.lost(), 0);
    }
}

#[test]
fn unix_streams_and_datagrams() {
    let dir = Dir::new("unix");
    let path = dir.0.join("stream");
    let listener = UnixListener::bind(&path).unwrap();
    let (sender, got) = channel();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        relay(stream.try_clone().unwrap(), stream, &sender);
    });
    let mut driver = Driver::new(config(LogTarget::Unix(path), syslog()));
    driver.say("by stream\n");
    driver.until_arrived(&got, &["<30>", "host tag[", "by stream\n"]);

    let path = dir.0.join("datagram");
    let socket = UnixDatagram::bind(&path).unwrap();
    let mut driver = Driver::new(config(LogTarget::UnixDatagram(path), syslog()));
    driver.say("a\n\nb\n");
    driver.turn();
    let mut buffer = [0; 1000];
    for text in ["a\n", "b\n"] {
        let n = socket.recv(&mut buffer).unwrap();
        assert!(buffer[..n].ends_with(text.as_bytes()), "empty lines are not sent");
    }
}

#[test]
fn datagrams_are_compressed_and_chunked() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let target = LogTarget::Udp(vec![socket.local_addr().unwrap()]);
    let mut buffer = [0; 2000];
    for (compression, magic) in [
        (GelfCompression::Gzip, &[0x1f, 0x8b][..]),
        (GelfCompression::Zlib, &[0x78]),
        (GelfCompression::None, b"{"),
    ] {
        let mut driver = Driver::new(config(target.clone(), gelf(compression)));
        driver.say("hello\n");
        driver.turn();
        let n = socket.recv(&mut buffer).unwrap();
        assert!(buffer[..n].starts_with(magic), "{:?}", &buffer[..n]);
        let mut text = String::new();
        match compression {
            GelfCompression::Gzip => flate2::read::GzDecoder::new(&buffer[..n]).read_to_string(&mut text),
            GelfCompression::Zlib => flate2::read::ZlibDecoder::new(&buffer[..n]).read_to_string(&mut text),
            GelfCompression::None => (&buffer[..n]).read_to_string(&mut text),
        }
        .unwrap();
        assert!(text.contains("\"short_message\":\"hello\"") && text.ends_with("\"_x\":\"y\"}"), "{text}");
    }
    let mut driver = Driver::new(config(target, gelf(GelfCompression::None)));
    driver.say(&("z".repeat(5000) + "\n"));
    driver.turn();
    let mut whole = Vec::new();
    for number in 0..4 {
        let n = socket.recv(&mut buffer).unwrap();
        assert_eq!((&buffer[..2], buffer[10], buffer[11]), (&[0x1e, 0x0f][..], number, 4));
        whole.extend_from_slice(&buffer[12..n]);
    }
    assert!(whole.ends_with(b"}") && memchr::memmem::find(&whole, &[b'z'; 5000]).is_some());
}

#[test]
fn nobody_listening_on_udp_stops_nothing() {
    let address = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut driver = Driver::new(config(LogTarget::Udp(vec![address]), syslog()));
    for n in 0..100 {
        driver.say(&format!("{n}\n"));
        driver.turn();
    }
    assert!(!driver.log.blocks() && !driver.log.is_delivering());
}

#[test]
fn large_journal_entries_go_as_sealed_files() {
    let dir = Dir::new("journal");
    let path = dir.0.join("socket");
    let socket = UnixDatagram::bind(&path).unwrap();
    let mut driver = Driver::new(config(LogTarget::UnixDatagram(path), journald()));
    driver.say("small\n");
    driver.turn();
    let mut buffer = [0; 4096];
    let n = socket.recv(&mut buffer).unwrap();
    let text = String::from_utf8_lossy(&buffer[..n]);
    assert!(text.starts_with("PRIORITY=6\nMESSAGE=small\nCONTAINER_NAME=c\nSYSLOG_TIMESTAMP="), "{text}");

    let fields = vec![("BIG".to_owned(), "b".repeat(500_000))];
    let mut driver =
        Driver::new(config(LogTarget::UnixDatagram(dir.0.join("socket")), LogEncoding::Journald { fields }));
    driver.say("large\n");
    driver.turn();
    let mut fds = Vec::new();
    assert_eq!(ferry_sys::socket::recv_with_fds(&socket, &mut buffer, &mut fds).unwrap(), 0);
    let mut file = std::fs::File::from(fds.pop().unwrap());
    let seals = rustix::fs::fcntl_get_seals(&file).unwrap();
    assert!(seals.contains(rustix::fs::SealFlags::WRITE | rustix::fs::SealFlags::SHRINK));
    let mut text = String::new();
    std::io::Seek::rewind(&mut file).unwrap();
    file.read_to_string(&mut text).unwrap();
    assert!(text.contains("MESSAGE=large\n") && text.len() > 500_000);
}

#[test]
fn what_was_written_before_the_service_came_arrives() {
    let (address, listener) = tcp();
    drop(listener);
    let mut driver = Driver::new(config(LogTarget::Tcp(vec![address]), syslog()));
    driver.say("early\n");
    for _ in 0..20 {
        driver.turn();
    }
    let Ok(listener) = TcpListener::bind(address) else { return };
    let got = serve(listener);
    driver.say("late\n");
    driver.until_arrived(&got, &["early", "late"]);
}

#[test]
fn a_restarted_service_gets_the_rest() {
    let (address, listener) = tcp();
    let mut driver = Driver::new(config(LogTarget::Tcp(vec![address]), syslog()));
    driver.say("before\n");
    driver.turn();
    let (mut stream, _) = listener.accept().unwrap();
    let mut buffer = [0; 1000];
    driver.until("the first line", |d| {
        d.turn();
        !d.log.is_delivering()
    });
    let n = stream.read(&mut buffer).unwrap();
    assert!(buffer[..n].ends_with(b"before\n"));
    drop(stream);
    // The end of the connection is seen before anything is written into it.
    driver.turn();
    driver.say("after\n");
    let got = serve(listener);
    driver.until_arrived(&got, &["after\n"]);
}

/// Lines until something gives way, each as long as a message can be.
fn flood(driver: &mut Driver, lines: usize) {
    let line = "f".repeat(16_000) + "\n";
    for _ in 0..lines {
        driver.say(&line);
        driver.turn();
        if driver.log.blocks() {
            return;
        }
    }
}

#[test]
fn a_blocking_log_waits_for_a_service_that_does_not_read_and_loses_nothing() {
    let (address, listener) = tcp();
    let mut driver = Driver::new(config(LogTarget::Tcp(vec![address]), syslog()));
    driver.say("first\n");
    driver.turn();
    let (stream, _) = listener.accept().unwrap();
    flood(&mut driver, 20_000);
    assert!(driver.log.blocks() && driver.log.lost() == 0);
    let (sender, got) = channel();
    std::thread::spawn(move || relay(stream.try_clone().unwrap(), stream, &sender));
    driver.until("the queue to drain", |d| !d.log.blocks());
    driver.say("last\n");
    driver.until_arrived(&got, &["first\n", "fff\n", "last\n"]);
    assert_eq!(driver.log.lost(), 0);
}

#[test]
fn a_non_blocking_log_drops_and_counts_instead() {
    let (address, listener) = tcp();
    let mut settings = config(LogTarget::Tcp(vec![address]), syslog());
    (settings.non_blocking, settings.buffer) = (true, 100_000);
    let mut driver = Driver::new(settings);
    driver.say("first\n");
    driver.turn();
    let (stream, _) = listener.accept().unwrap();
    let begin = Instant::now();
    while driver.log.lost() < 10 {
        flood(&mut driver, 20);
        assert!(!driver.log.blocks() && begin.elapsed() < PATIENCE);
    }
    drop(stream);
    // The connection is made anew, and what still waits arrives.
    let got = serve(listener);
    driver.until_arrived(&got, &["fff\n"]);
}

#[test]
fn a_service_that_is_gone_stops_nobody_but_a_log_that_holds() {
    let (address, listener) = tcp();
    drop(listener);
    let mut settings = config(LogTarget::Tcp(vec![address]), syslog());
    settings.buffer = 100_000;
    let mut driver = Driver::new(settings.clone());
    for _ in 0..300 {
        driver.say(&("f".repeat(999) + "\n"));
        driver.turn();
    }
    assert!(driver.log.lost() > 100, "{}", driver.log.lost());
    let remote = settings.remote.as_mut().unwrap();
    remote.retry.hold = true;
    let mut driver = Driver::new(settings.clone());
    flood(&mut driver, 1000);
    assert!(driver.log.blocks() && driver.log.lost() == 0);
    // … and even that ends with the container.
    driver.log.close(clock::monotonic_ms());
    driver.until("the log to be closed", |d| d.log.lost() > 0);
    assert!(!driver.log.blocks() && !driver.log.is_delivering());
}

#[test]
fn attempts_may_be_limited() {
    let (address, listener) = tcp();
    drop(listener);
    let mut settings = config(LogTarget::Tcp(vec![address]), fluentd(false));
    let remote = settings.remote.as_mut().unwrap();
    (remote.retry.attempts, remote.retry.hold) = (Some(2), true);
    let mut driver = Driver::new(settings);
    driver.say("x\n");
    driver.until("the message to be dropped", |d| d.log.lost() == 1);
}

#[test]
fn a_connection_that_takes_nothing_is_given_up_after_its_time() {
    let (address, listener) = tcp();
    let mut settings = config(LogTarget::Tcp(vec![address]), fluentd(true));
    settings.remote.as_mut().unwrap().retry.write_timeout_ms = Some(100);
    let mut driver = Driver::new(settings);
    driver.say("x\n");
    driver.turn();
    // Accepts, and never acknowledges.
    let (silent, _) = listener.accept().unwrap();
    let got = serve(listener);
    driver.until_arrived(&got, &["\u{78}"]);
    drop(silent);
}

#[test]
fn a_needed_service_that_is_missing_is_an_error_in_dockers_words() {
    let (address, listener) = tcp();
    drop(listener);
    let mut settings = config(LogTarget::Tcp(vec![address]), syslog());
    let remote = settings.remote.as_mut().unwrap();
    remote.must_connect = true;
    remote.dial = "dial tcp there: connect".to_owned();
    assert_eq!(Log::open(settings).unwrap_err().to_string(), "dial tcp there: connect: connection refused");
    let settings = {
        let target = LogTarget::Unix(Path::new("/no/such/socket").to_owned());
        let mut settings = config(target, syslog());
        settings.remote.as_mut().unwrap().must_connect = true;
        settings
    };
    assert_eq!(Log::open(settings).unwrap_err().to_string(), "dial: no such file or directory");
}
