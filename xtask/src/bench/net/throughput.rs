//! How fast tcp is between containers and through a published port, beside a bare veth pair. iperf3 of the host runs in the
//! namespaces of containers, so that nothing but their networks is compared.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::{NETWORK, address, clear, pid};
use crate::bench::stats::Samples;
use crate::bench::table::Row;
use crate::bench::{Bench, IMAGE};
use crate::{apt, sh};

const ROUNDS: usize = 5;
const SECONDS: &str = "2";
/// Two hosts beside the engines', as namespaces; 192.0.2.0/24 and 198.51.100.0/24 are for documentation.
const HOSTS: [&str; 2] = ["ferry-bench-a", "ferry-bench-b"];
const ENGINE: &str = "198.51.100.1";
const PORT: &str = "15201";

/// A network namespace by path.
fn of_process(pid: u32) -> String {
    format!("/proc/{pid}/ns/net")
}

fn of_host(name: &str) -> String {
    format!("/run/netns/{name}")
}

fn ip(args: &[&str]) -> Result<()> {
    sh::capture(&mut sh::cmd("ip", args)).map(drop)
}

fn ip_in(netns: &str, args: &[&str]) -> Result<()> {
    let net = format!("--net={netns}");
    sh::capture(sh::cmd("nsenter", [net.as_str(), "ip"]).args(args)).map(drop)
}

/// The two hosts, for as long as they are needed.
struct Hosts;

impl Hosts {
    fn new() -> Result<Self> {
        let hosts = Self;
        for name in HOSTS {
            let _ = ip(&["netns", "delete", name]);
            ip(&["netns", "add", name])?;
        }
        let [a, b] = HOSTS.map(of_host);
        ip_in(&a, &["link", "add", "pair0", "type", "veth", "peer", "name", "pair0", "netns", HOSTS[1]])?;
        for (netns, address) in [(&a, "192.0.2.1/24"), (&b, "192.0.2.2/24")] {
            ip_in(netns, &["address", "add", address, "dev", "pair0"])?;
            ip_in(netns, &["link", "set", "pair0", "up"])?;
        }
        Ok(hosts)
    }

    /// Connects the first host with the one an engine is on.
    fn beside(&self, engine: &str) -> Result<()> {
        let a = of_host(HOSTS[0]);
        let _ = ip_in(&a, &["link", "delete", "up0"]);
        let peer = ["link", "add", "fbench0", "type", "veth", "peer", "name", "up0", "netns", HOSTS[0]];
        ip_in(engine, &peer)?;
        ip_in(engine, &["address", "add", &format!("{ENGINE}/24"), "dev", "fbench0"])?;
        ip_in(engine, &["link", "set", "fbench0", "up"])?;
        ip_in(&a, &["address", "add", "198.51.100.2/24", "dev", "up0"])?;
        ip_in(&a, &["link", "set", "up0", "up"])
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for name in HOSTS {
            let _ = ip(&["netns", "delete", name]);
        }
    }
}

/// A server that goes with us.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Gbit/s from a client in one namespace to a server in another.
fn speed(from: &str, to: &str, address: &str, port: &str) -> Result<f64> {
    let mut server = sh::cmd("nsenter", [&format!("--net={to}"), "iperf3", "-s", "-1", "-p", "5201"]);
    let _server = Server(server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
    let began = Instant::now();
    loop {
        std::thread::sleep(Duration::from_millis(100));
        let net = format!("--net={from}");
        let mut client =
            sh::cmd("nsenter", [net.as_str(), "iperf3", "-J", "-t", SECONDS, "-c", address, "-p", port]);
        match sh::capture(&mut client) {
            Ok(text) => {
                let report: serde_json::Value = serde_json::from_str(&text).context("iperf3's report")?;
                let bits = report["end"]["sum_received"]["bits_per_second"].as_f64();
                return Ok(bits.context("iperf3 reports no speed")? / 1e9);
            }
            Err(error) if began.elapsed() > Duration::from_secs(5) => return Err(error),
            Err(_) => {}
        }
    }
}

impl Bench<'_> {
    /// Containers to containers, and from another host to a published port.
    pub fn throughput(&self) -> Result<Vec<Row>> {
        apt::install(&["iperf3", "iproute2", "util-linux"])?;
        let names = ["bench-iperf-server", "bench-iperf-client"];
        for contender in self.engines() {
            clear(contender, &names);
            contender.ask(&["network", "create", NETWORK])?;
            for (name, options) in [(names[0], &["-p", "15201:5201"][..]), (names[1], &[])] {
                let words = [&["run", "-d", "--name", name, "--network", NETWORK], options].concat();
                contender.ask(&[&words[..], &[IMAGE, "sleep", "1000"]].concat())?;
            }
        }
        let hosts = Hosts::new()?;
        let engines = (self.daemons)();
        let mut bare = Samples::default();
        let mut between = vec![Samples::default(); self.engines().len()];
        let mut published = between.clone();
        for _ in 0..ROUNDS {
            bare.push(speed(&of_host(HOSTS[0]), &of_host(HOSTS[1]), "192.0.2.2", "5201")?);
            for (index, contender) in self.engines().iter().enumerate() {
                let (server, client) = (pid(contender, names[0])?, pid(contender, names[1])?);
                let (server, client) = (of_process(server), of_process(client));
                let at = address(contender, names[0])?;
                between[index].push(speed(&client, &server, &at, "5201")?);
                let Some(daemon) = engines.get(index).and_then(|pids| pids.first()) else {
                    bail!("{} has no daemon", contender.name);
                };
                hosts.beside(&of_process(*daemon))?;
                published[index].push(speed(&of_host(HOSTS[0]), &server, ENGINE, PORT)?);
            }
        }
        for contender in self.engines() {
            clear(contender, &names);
        }
        let row = |what, samples| Row { floor: Some(bare.clone()), ..Row::plain(what, "Gbit/s", samples) };
        Ok(vec![row("tcp, container to container", between), row("tcp, host to published port", published)])
    }
}
