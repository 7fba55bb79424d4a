//! A Redis Cluster on the host's network, through its whole life: three masters and three replicas, a
//! fail-over, growth to four pairs, and back to three.

use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::directory;
use crate::cases::{cases, check, equal};
use crate::harness::pty::Pty;
use crate::harness::{Case, Ctx, eventually};

pub fn cases() -> Vec<Case> {
    cases!("walkthrough", Engine, [redis_cluster])
}

const PATIENCE: Duration = Duration::from_secs(60);
/// Milliseconds after which a node counts as failed.
const NODE_TIMEOUT: &str = "2000";

/// A line of `cluster nodes`.
#[derive(Debug)]
struct Node {
    id: String,
    port: u16,
    flags: String,
    master: String,
    slots: bool,
}

struct Cluster<'a> {
    t: &'a Ctx,
    image: &'static str,
    /// Node 1's port; the others follow.
    first: u16,
}

impl Cluster<'_> {
    fn port(&self, node: u16) -> u16 {
        self.first + node - 1
    }

    fn address(&self, node: u16) -> String {
        format!("127.0.0.1:{}", self.port(node))
    }

    fn name(&self, node: u16) -> String {
        self.t.name(&format!("redis-node-{node}"))
    }

    fn run(&self, node: u16) -> Result<()> {
        let name = self.name(node);
        let (_, volume) = directory(self.t, &format!("redis-node-{node}"), "/data")?;
        let port = self.port(node).to_string();
        let engine =
            ["run", "-d", "--name", &name, "--restart", "always", "--net", "host", "--privileged=true"];
        let redis = ["--cluster-enabled", "yes", "--appendonly", "yes", "--port", &port];
        let ours = ["--bind", "127.0.0.1", "--cluster-node-timeout", NODE_TIMEOUT];
        self.t.ok(&[engine.as_slice(), &["-v", &volume, self.image], &redis, &ours].concat())?;
        eventually("the node answers", PATIENCE, || Ok(self.cli(node, &["ping"])?.trim() == "PONG"))
    }

    /// `redis-cli -c -p PORT …` in that node's container.
    fn cli(&self, node: u16, words: &[&str]) -> Result<String> {
        let (name, port) = (self.name(node), self.port(node).to_string());
        let output = self
            .t
            .client
            .run(&[["exec", &name, "redis-cli", "-c", "-p", &port].as_slice(), words].concat())?;
        Ok(output.stdout)
    }

    /// `redis-cli --cluster …` in that node's container.
    fn manage(&self, node: u16, words: &[&str]) -> Result<String> {
        let name = self.name(node);
        let output =
            self.t.client.run(&[["exec", &name, "redis-cli", "--cluster"].as_slice(), words].concat())?;
        output.code(0)?;
        Ok(output.stdout)
    }

    /// The same in a terminal, for commands that ask.
    fn dialogue(&self, node: u16, words: &[&str]) -> Result<Pty> {
        let name = self.name(node);
        let command = self
            .t
            .client
            .command(&[["exec", "-it", &name, "redis-cli", "--cluster"].as_slice(), words].concat());
        Pty::start(&command, 40, 160)
    }

    fn nodes(&self, asked: u16) -> Result<Vec<Node>> {
        let text = self.cli(asked, &["cluster", "nodes"])?;
        let node = |line: &str| {
            let mut fields = line.split(' ');
            let (id, address, flags, master) =
                (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
            let port = address.split('@').next()?.rsplit(':').next()?.parse().ok()?;
            let slots = fields.nth(4).is_some();
            Some(Node { id: id.to_owned(), port, flags: flags.to_owned(), master: master.to_owned(), slots })
        };
        Ok(text.lines().filter_map(node).collect())
    }

    fn node(&self, asked: u16, node: u16) -> Result<Node> {
        let port = self.port(node);
        self.nodes(asked)?
            .into_iter()
            .find(|n| n.port == port)
            .with_context(|| format!("node {node} is unknown"))
    }

    /// Waits until the first `count` nodes all know each other and nobody else: what goes round by gossip is known to the
    /// others a little later, and commands to nodes that do not know of whom they speak fail.
    fn acquainted(&self, count: u16) -> Result<()> {
        eventually("all nodes know each other", PATIENCE, || {
            let knows = |nodes: &[Node]| {
                nodes.len() == usize::from(count)
                    && nodes.iter().all(|n| !n.flags.contains("fail") && !n.flags.contains("handshake"))
            };
            Ok((1..=count).all(|node| self.nodes(node).is_ok_and(|nodes| knows(&nodes))))
        })
    }

    /// Waits until all agree, every slot has a master, and there are so many masters with slots.
    fn settled(&self, asked: u16, masters: usize) -> Result<()> {
        let mut last = String::new();
        eventually("the cluster settles", PATIENCE, || {
            let name = self.name(asked);
            let output = self.t.client.run(&[
                "exec",
                &name,
                "redis-cli",
                "--cluster",
                "check",
                &self.address(asked),
            ])?;
            last = output.to_string();
            let with_slots =
                self.nodes(asked)?.iter().filter(|n| n.slots && !n.flags.contains("fail")).count();
            Ok(output.code == 0
                && output.stdout.contains("[OK] All 16384 slots covered.")
                && with_slots == masters)
        })
        .with_context(|| last)
    }

    /// Stops a master and waits for its replica to take over; then starts it, and it follows.
    fn fail_over(&self, node: u16, asked: u16) -> Result<u16> {
        let old = self.node(asked, node)?;
        // Who follows whom goes round by gossip.
        let find = || Ok(self.nodes(asked)?.into_iter().find(|n| n.master == old.id));
        eventually("the node has a replica", PATIENCE, || {
            Ok(Result::<Option<Node>>::is_ok_and(find(), |n| n.is_some()))
        })?;
        let replica = find()?.with_context(|| format!("node {node} has no replica"))?;
        self.t.ok(&["stop", &self.name(node)])?;
        let heir = replica.port - self.first + 1;
        eventually("the replica takes over", PATIENCE, || {
            Ok(self.node(asked, heir)?.flags.contains("master"))
        })?;
        eventually("the key is served again", PATIENCE, || Ok(self.cli(asked, &["get", "k1"])? == "v1\n"))?;
        self.t.ok(&["start", &self.name(node)])?;
        eventually("the former master follows", PATIENCE, || {
            let node = self.node(asked, node)?;
            Ok(node.flags == "slave" && node.master == replica.id)
        })?;
        Ok(heir)
    }

    /// Moves slots as a person does it, answering the questions.
    fn reshard(&self, node: u16, to: &str, from: &[&str]) -> Result<()> {
        let mut pty = self.dialogue(node, &["reshard", &self.address(node)])?;
        pty.expect("How many slots do you want to move (from 1 to 16384)?")?;
        pty.send("4096\n")?;
        pty.expect("What is the receiving node ID?")?;
        pty.send(&format!("{to}\n"))?;
        for source in from {
            pty.expect("Source node #")?;
            pty.send(&format!("{source}\n"))?;
        }
        pty.expect("Do you want to proceed with the proposed reshard plan (yes/no)?")?;
        pty.send("yes\n")?;
        let code = pty.wait_for(PATIENCE)?;
        check!(code == 0, "resharding ended with {code}: {}", pty.screen());
        Ok(())
    }
}

/// Eight ports in a row that are free, with those of the cluster bus 10000 above.
fn free_ports() -> Result<u16> {
    let free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    // Below what other cases take, and the bus below what the kernel gives to outgoing connections.
    let start = u16::try_from(std::process::id() % 700).unwrap_or_default() * 8;
    (0..50_u16)
        .map(|i| 12_000 + (start + i * 8) % 5_600)
        .find(|first| (*first..first + 8).all(|port| free(port) && free(port + 10_000)))
        .context("no eight free ports in a row")
}

fn redis_cluster(t: &Ctx) -> Result<()> {
    let cluster = Cluster { t, image: t.redis()?, first: free_ports()? };
    for node in 1..=6 {
        cluster.run(node)?;
    }
    let addresses: Vec<String> = (1..=6).map(|node| cluster.address(node)).collect();
    let words: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let mut pty =
        cluster.dialogue(1, &[["create"].as_slice(), &words, &["--cluster-replicas", "1"]].concat())?;
    pty.expect("(type 'yes' to accept):")?;
    pty.send("yes\n")?;
    pty.expect("[OK] All 16384 slots covered.")?;
    let code = pty.wait()?;
    check!(code == 0, "creating the cluster ended with {code}: {}", pty.screen());
    cluster.settled(1, 3)?;
    eventually("every node is content", PATIENCE, || {
        for node in 1..=6 {
            let info = cluster.cli(node, &["cluster", "info"])?;
            if !info.contains("cluster_state:ok") || !info.contains("cluster_known_nodes:6") {
                return Ok(false);
            }
        }
        Ok(true)
    })?;

    // Without -c the client is sent elsewhere; with it, it goes there.
    for key in ["k1", "k2", "k3", "k4"] {
        equal!(cluster.cli(1, &["set", key, &key.replace('k', "v")])?.trim_end(), "OK");
    }
    let heir = cluster.fail_over(1, 2)?;
    cluster.settled(2, 3)?;
    // And back.
    equal!(cluster.fail_over(heir, 2)?, 1);
    cluster.settled(1, 3)?;

    for node in [7, 8] {
        cluster.run(node)?;
    }
    cluster.manage(7, &["add-node", &cluster.address(7), &cluster.address(1)])?;
    cluster.settled(1, 3)?;
    cluster.acquainted(7)?;
    let seventh = cluster.node(1, 7)?.id;
    cluster.reshard(1, &seventh, &["all"])?;
    cluster.settled(1, 4)?;
    let master = ["--cluster-slave", "--cluster-master-id", &seventh];
    cluster
        .manage(8, &[["add-node", &cluster.address(8), &cluster.address(7)].as_slice(), &master].concat())?;
    eventually("node 8 follows node 7", PATIENCE, || {
        Ok(cluster.node(1, 8).is_ok_and(|node| node.master == seventh))
    })?;
    cluster.acquainted(8)?;
    cluster.settled(1, 4)?;
    all_there(&cluster)?;

    let eighth = cluster.node(1, 8)?.id;
    cluster.manage(1, &["del-node", &cluster.address(8), &eighth])?;
    cluster.acquainted(7)?;
    cluster.settled(1, 4)?;
    let first = cluster.node(1, 1)?.id;
    cluster.reshard(1, &first, &[&seventh, "done"])?;
    cluster.settled(1, 3)?;
    cluster.manage(1, &["del-node", &cluster.address(7), &seventh])?;
    cluster.settled(1, 3)?;
    cluster.acquainted(6)?;
    all_there(&cluster)
}

fn all_there(cluster: &Cluster<'_>) -> Result<()> {
    for key in ["k1", "k2", "k3", "k4"] {
        let mut value = String::new();
        eventually("the key is there", PATIENCE, || {
            value = cluster.cli(2, &["get", key])?;
            // Nodes that have not heard of the last change yet say so.
            Ok(!value.starts_with("CLUSTERDOWN") && !value.starts_with("MOVED"))
        })?;
        if value.trim_end() != key.replace('k', "v") {
            bail!("{key} is {value:?}");
        }
    }
    Ok(())
}
