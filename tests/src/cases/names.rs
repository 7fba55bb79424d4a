//! The name server of containers: what it forwards and where, how it fares when processes are killed, and how much it takes.

use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::{cases, check, equal};
use crate::harness::client::Client;
use crate::harness::daemon::{self, Daemon};
use crate::harness::{Case, Ctx, eventually, process, skip};

pub fn cases() -> Vec<Case> {
    cases!(
        "names",
        Nothing,
        [
            other_names_are_asked_elsewhere,
            a_killed_name_server_is_replaced,
            dead_containers_are_let_go_without_an_engine,
            ten_thousand_questions_a_second,
        ]
    )
}

/// An engine with a network `n` on a subnet of its own.
fn engine(t: &Ctx, label: &str, subnet: &str) -> Result<(Daemon, Client)> {
    let daemon = Daemon::start(&t.settings, label)?;
    let client = daemon.client()?;
    daemon::import_images(&t.settings, &client)?;
    client.ok(&["network", "create", "--subnet", subnet, "n"])?;
    Ok((daemon, client))
}

fn sleeper(client: &Client, name: &str, options: &[&str]) -> Result<u32> {
    let mut args = vec!["run", "-d", "--name", name, "--network", "n"];
    args.extend(options);
    args.extend(["busybox", "sleep", "1000"]);
    client.ok(&args)?;
    Ok(client.ok(&["inspect", "-f", "{{.State.Pid}}", name])?.parse()?)
}

fn finish(daemon: Daemon) -> Result<()> {
    let problems = daemon.finish();
    check!(problems.is_empty(), "{problems:?}");
    Ok(())
}

/// The process id of an engine's name server: the process whose arguments are its name and a socket of the engine's.
fn name_server(daemon: &Daemon) -> Result<Option<u32>> {
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|n| n.parse().ok()) else { continue };
        let Ok(line) = std::fs::read(format!("/proc/{pid}/cmdline")) else { continue };
        let words: Vec<_> = line.split(|b| *b == 0).map(String::from_utf8_lossy).collect();
        let of_engine = |word: &str| Path::new(word).starts_with(&daemon.run);
        if words.iter().any(|w| w == "name-server") && words.iter().any(|w| of_engine(w)) {
            return Ok(Some(pid));
        }
    }
    Ok(None)
}

fn kill(pid: u32) -> Result<()> {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid)?).context("a process id")?;
    rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
    Ok(())
}

/// A server on the host's loopback that says 192.0.2.7 to everything, until it is dropped.
struct Upstream {
    asked: Arc<AtomicUsize>,
    ended: Arc<AtomicBool>,
}

impl Upstream {
    fn start(address: Ipv4Addr) -> Result<Self> {
        let socket = UdpSocket::bind((address, 53)).with_context(|| format!("listen on {address}:53"))?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let (asked, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, stop) = (Arc::clone(&asked), Arc::clone(&ended));
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while !stop.load(Ordering::Relaxed) {
                let Ok((length, peer)) = socket.recv_from(&mut buffer) else { continue };
                count.fetch_add(1, Ordering::Relaxed);
                if let Some(response) = respond(&buffer[..length]) {
                    let _ = socket.send_to(&response, peer);
                }
            }
        });
        Ok(Self { asked, ended })
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

/// The query's header and question, and for type A one address behind them (RFC 1035 section 4).
fn respond(query: &[u8]) -> Option<Vec<u8>> {
    let mut end = 12;
    while *query.get(end)? != 0 {
        end += usize::from(*query.get(end)?) + 1;
    }
    end += 5;
    let mut response = query.get(..end)?.to_vec();
    let is_a = response.get(end - 4..end - 2)? == [0, 1];
    response[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
    if is_a {
        response.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7]);
    }
    Some(response)
}

fn other_names_are_asked_elsewhere(t: &Ctx) -> Result<()> {
    let (daemon, client) = engine(t, "forward", "10.243.1.0/24")?;
    let there = Ipv4Addr::new(127, 53, 9, 2);
    let upstream = Upstream::start(there)?;
    // Nobody listens on the first; the second is asked at once or after its head start.
    sleeper(&client, "cc", &["--dns", "127.53.9.1", "--dns", &there.to_string(), "--dns-search", "test"])?;
    let lookup = |container: &str, name: &str| {
        let output = client.run(&["exec", container, "nslookup", "-type=a", name, "127.0.0.11"])?;
        anyhow::Ok(output.stdout)
    };
    check!(lookup("cc", "www.example.org")?.contains("192.0.2.7"), "not forwarded");
    let before = upstream.asked.load(Ordering::Relaxed);
    // It is remembered, however it is written.
    check!(lookup("cc", "www.Example.org.")?.contains("192.0.2.7"), "not forwarded again");
    equal!(upstream.asked.load(Ordering::Relaxed), before);
    // What a network has is nobody else's affair, whatever is asked about it.
    for kind in ["a", "aaaa", "mx", "txt", "srv"] {
        client.run(&["exec", "cc", "nslookup", &format!("-type={kind}"), "cc", "127.0.0.11"])?;
    }
    equal!(upstream.asked.load(Ordering::Relaxed), before);
    // The name server itself is not asked by itself.
    sleeper(&client, "self", &["--dns", "127.0.0.11"])?;
    check!(lookup("self", "www.example.org")?.contains("SERVFAIL"), "it asks itself");
    client.ok(&["network", "create", "--internal", "--subnet", "10.243.2.0/24", "inner"])?;
    client.ok(&[
        "run",
        "-d",
        "--name",
        "ii",
        "--network",
        "inner",
        "--dns",
        &there.to_string(),
        "busybox",
        "sleep",
        "99",
    ])?;
    check!(!lookup("ii", "www.example.org")?.contains("192.0.2.7"), "internal networks have no way out");
    client.ok(&["rm", "-f", "cc", "self", "ii"])?;
    client.ok(&["network", "rm", "n", "inner"])?;
    finish(daemon)
}

fn a_killed_name_server_is_replaced(t: &Ctx) -> Result<()> {
    let (daemon, client) = engine(t, "names", "10.243.3.0/24")?;
    sleeper(&client, "aa", &[])?;
    sleeper(&client, "bb", &["--network-alias", "other"])?;
    let ping = |to: &str| Ok(client.run(&["exec", "aa", "ping", "-c", "1", "-w", "2", to])?.code == 0);
    check!(ping("other")?, "no name to begin with");
    for _ in 0..3 {
        let first = name_server(&daemon)?.context("no name server")?;
        kill(first)?;
        eventually("another name server", Duration::from_secs(10), || {
            Ok(name_server(&daemon)?.is_some_and(|pid| pid != first) && ping("other")?)
        })?;
    }
    // The same while there is no engine: the next one sees to it.
    daemon.kill()?;
    kill(name_server(&daemon)?.context("no name server")?)?;
    daemon.up()?;
    eventually("a name server for the next engine", Duration::from_secs(10), || ping("other"))?;
    client.ok(&["rm", "-f", "aa", "bb"])?;
    client.ok(&["network", "rm", "n"])?;
    finish(daemon)
}

fn dead_containers_are_let_go_without_an_engine(t: &Ctx) -> Result<()> {
    let (daemon, client) = engine(t, "letgo", "10.243.4.0/24")?;
    let gone = sleeper(&client, "gone", &[])?;
    let stays = sleeper(&client, "stays", &[])?;
    let device = |pid: u32| {
        let output = process::ok(nsenter(pid, &["cat", "/sys/class/net/eth0/iflink"]))?;
        anyhow::Ok(output.trim().to_owned())
    };
    let (gone_link, stays_link) = (device(gone)?, device(stays)?);
    let exists = |index: &str| {
        let links = process::ok({
            let mut command = Command::new("ip");
            command.args(["-o", "link"]);
            command
        })?;
        anyhow::Ok(links.lines().any(|line| line.starts_with(&format!("{index}: "))))
    };
    daemon.kill()?;
    kill(gone)?;
    eventually("the dead container's namespace goes", Duration::from_secs(10), || Ok(!exists(&gone_link)?))?;
    check!(exists(&stays_link)?, "the other one's went, too");
    kill(stays)?;
    eventually("a name server of nobody ends", Duration::from_secs(15), || {
        Ok(name_server(&daemon)?.is_none())
    })?;
    daemon.up()?;
    sleeper(&client, "again", &[])?;
    check!(client.run(&["exec", "again", "ping", "-c", "1", "-w", "2", "again"])?.code == 0, "no names");
    client.ok(&["rm", "-f", "gone", "stays", "again"])?;
    client.ok(&["network", "rm", "n"])?;
    finish(daemon)
}

/// A program of a container in its network and mount namespaces.
fn nsenter(pid: u32, args: &[&str]) -> Command {
    let mut command = Command::new("nsenter");
    command.args(["-t", &pid.to_string(), "-n", "-m", "--"]).args(args);
    command
}

fn ten_thousand_questions_a_second(t: &Ctx) -> Result<()> {
    if std::thread::available_parallelism()?.get() < 2 {
        return skip("it takes a processor for asking and one for answering");
    }
    let (daemon, client) = engine(t, "load", "10.243.5.0/24")?;
    let pid = sleeper(&client, "asking", &[])?;
    sleeper(&client, "asked", &["--network-alias", "a.long.alias.for.it"])?;
    let memory = |pid: u32| -> Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = text.lines().find_map(|l| l.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    };
    let server = name_server(&daemon)?.context("no name server")?;
    let before = memory(server)?;
    let mut command = Command::new("nsenter");
    command.args(["-t", &pid.to_string(), "-n", "--"]).arg(std::env::current_exe()?);
    command.args([GENERATOR, "10000", "5", "a.long.alias.for.it"]);
    let said = process::ok(command)?;
    let grown = memory(server)?.saturating_sub(before);
    println!("    {} {grown} kB more", said.trim());
    let figures: Vec<u64> = said.split_whitespace().filter_map(|w| w.parse().ok()).collect();
    let [asked, answered, _, p99] = figures.as_slice() else { bail!("the generator said {said:?}") };
    check!(*asked >= 45_000, "only {asked} were asked");
    equal!(asked, answered);
    check!(*p99 < 50_000, "p99 {p99} us");
    check!(grown < 8_192, "the name server grew by {grown} kB");
    client.ok(&["rm", "-f", "asking", "asked"])?;
    client.ok(&["network", "rm", "n"])?;
    check!(std::fs::metadata(daemon.socket())?.uid() == 0, "the engine is gone");
    finish(daemon)
}

/// What this program is called with to ask questions: for a run inside a container's network.
pub const GENERATOR: &str = "ask-names";

/// Threads that ask; each question comes from a socket of its own now and then, as those of programs do.
const THREADS: u64 = 4;

/// Asks `rate` questions a second for so many seconds, whether or not answers come, and prints
/// `asked N answered N p50 MICROSECONDS p99 MICROSECONDS`.
pub fn generate(mut words: impl Iterator<Item = String>) -> ExitCode {
    let mut number = || words.next().and_then(|w| w.parse::<u64>().ok());
    let (Some(rate), Some(seconds)) = (number(), number()) else { return ExitCode::from(2) };
    let Some(name) = words.next() else { return ExitCode::from(2) };
    let ask = || ask(&name, rate / THREADS, Duration::from_secs(seconds));
    let outcomes: Vec<Result<(usize, Vec<u64>)>> = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..THREADS).map(|_| scope.spawn(ask)).collect();
        asking.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    let (mut asked, mut times) = (0, Vec::new());
    for outcome in outcomes {
        match outcome {
            Ok((count, took)) => {
                asked += count;
                times.extend(took);
            }
            Err(error) => {
                eprintln!("{error:#}");
                return ExitCode::FAILURE;
            }
        }
    }
    times.sort_unstable();
    let at = |percent: usize| times.get(times.len().saturating_sub(1) * percent / 100).copied().unwrap_or(0);
    println!("asked {asked} answered {} p50 {} p99 {}", times.len(), at(50), at(99));
    ExitCode::SUCCESS
}

/// A query of type A (RFC 1035 section 4.1).
fn query(id: u16, name: &str) -> Vec<u8> {
    let mut bytes = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    bytes[..2].copy_from_slice(&id.to_be_bytes());
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap_or(63));
        bytes.extend(label.bytes().take(63));
    }
    bytes.extend([0, 0, 1, 0, 1]);
    bytes
}

/// How many were asked, and how many microseconds each answer took.
fn ask(name: &str, rate: u64, long: Duration) -> Result<(usize, Vec<u64>)> {
    let open = || -> Result<UdpSocket> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect((Ipv4Addr::new(127, 0, 0, 11), 53))?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    // Answers to a socket that is replaced are waited for a while longer on the socket before.
    let (mut socket, mut earlier) = (open()?, open()?);
    let mut sent: Vec<Option<Instant>> = vec![None; 1 << 16];
    let (mut asked, mut times, mut buffer) = (0_usize, Vec::new(), [0; 512]);
    let begin = Instant::now();
    let mut receive = |socket: &UdpSocket, sent: &mut Vec<Option<Instant>>| {
        while let Ok(length) = socket.recv(&mut buffer) {
            let id = usize::from(u16::from_be_bytes([buffer[0], buffer[1]]));
            // No error, and one answer.
            let good = length > 12 && buffer[3] & 0xf == 0 && buffer[7] == 1;
            if let Some(at) = sent[id].take().filter(|_| good) {
                times.push(u64::try_from(at.elapsed().as_micros()).unwrap_or(u64::MAX));
            }
        }
    };
    loop {
        let elapsed = begin.elapsed();
        let due = (elapsed.min(long).as_micros() * u128::from(rate) / 1_000_000) as usize;
        while asked < due {
            let id = asked as u16;
            if socket.send(&query(id, name)).is_err() {
                break;
            }
            sent[usize::from(id)] = Some(Instant::now());
            asked += 1;
            if asked % 500 == 0 {
                earlier = std::mem::replace(&mut socket, open()?);
            }
        }
        receive(&earlier, &mut sent);
        receive(&socket, &mut sent);
        if elapsed > long + Duration::from_secs(1) {
            return Ok((asked, times));
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}
