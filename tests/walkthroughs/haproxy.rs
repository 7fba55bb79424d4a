//! HAProxy with an address of its own before two databases, its statistics page; and Keepalived in two such containers, which
//! hold one address between them.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{directory, free_port};
use crate::cases::{cases, check, equal};
use crate::harness::process::Running;
use crate::harness::{Case, Ctx, eventually};

pub fn cases() -> Vec<Case> {
    cases!("walkthrough", Engine, [haproxy_and_keepalived])
}

const SUBNET: &str = "10.242.7.0/24";
const DATABASES: [&str; 2] = ["10.242.7.2", "10.242.7.3"];
const PROXIES: [&str; 2] = ["10.242.7.7", "10.242.7.8"];
const SHARED: &str = "10.242.7.201";

/// As the course has it, with the addresses above.
const HAPROXY: &str = "global
    chroot /usr/local/etc/haproxy
    log 127.0.0.1 local5 info
    daemon

defaults
    log global
    mode http
    option httplog
    option dontlognull
    timeout connect 5000
    timeout client  50000
    timeout server  50000

listen  admin_stats
    bind  0.0.0.0:8888
    mode        http
    stats uri   /dbs
    stats realm     Global\\ statistics
    stats auth  admin:123456

listen  proxy-mysql
    bind  0.0.0.0:3306
    mode  tcp
    balance  roundrobin
    option  tcplog
    option  mysql-check user haproxy
    server  MySQL_1 10.242.7.2:3306 check weight 1 maxconn 2000
    server  MySQL_2 10.242.7.3:3306 check weight 1 maxconn 2000
    option  tcpka
";

const KEEPALIVED: &str = "vrrp_instance  VI_1 {
    state  MASTER
    interface  eth0
    virtual_router_id  51
    priority  100
    advert_int  1
    authentication {
        auth_type  PASS
        auth_pass  123456
    }
    virtual_ipaddress {
        10.242.7.201
    }
}
";

struct Scene<'a> {
    t: &'a Ctx,
    net: String,
    databases: [String; 2],
    proxies: [String; 2],
    /// Where the statistics pages are published.
    pages: [SocketAddr; 2],
}

fn haproxy_and_keepalived(t: &Ctx) -> Result<()> {
    let (proxy, database) = (t.haproxy()?, t.mariadb()?);
    let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let scene = Scene {
        t,
        net: t.name("net1"),
        databases: [t.name("node1"), t.name("node2")],
        proxies: [t.name("h1"), t.name("h2")],
        pages: [local(free_port()?), local(free_port()?)],
    };
    t.ok(&["network", "create", "--subnet", SUBNET, &scene.net])?;
    let outcome = scene.start(proxy, database).and_then(|()| scene.balance()).and_then(|()| scene.share());
    let all: Vec<&str> = scene.databases.iter().chain(&scene.proxies).map(String::as_str).collect();
    t.client.run(&[["rm", "-f", "-v"].as_slice(), &all].concat())?;
    let removed = t.client.run(&["network", "rm", &scene.net])?;
    outcome?;
    removed.code(0).map(drop)
}

impl Scene<'_> {
    fn start(&self, proxy: &str, database: &str) -> Result<()> {
        let t = self.t;
        for (name, address) in self.databases.iter().zip(DATABASES) {
            let run = ["run", "-d", "--name", name, "-h", name, "--net", &self.net, "--ip", address];
            t.ok(&[run.as_slice(), &["-e", "MYSQL_ROOT_PASSWORD=abc123456", database]].concat())?;
        }
        for name in &self.databases {
            eventually("a database answers", Duration::from_secs(60), || {
                Ok(self
                    .sql(name, "localhost", "create user if not exists 'haproxy'@'%' identified by ''")?
                    .is_some())
            })?;
        }
        let (dir, volume) = directory(t, "haproxy", "/usr/local/etc/haproxy")?;
        std::fs::write(dir.join("haproxy.cfg"), HAPROXY)?;
        for ((name, address), page) in self.proxies.iter().zip(PROXIES).zip(self.pages) {
            let pages = format!("{}:8888", page.port());
            let run = ["run", "-it", "-d", "--restart=always", "-p", &pages, "-v", &volume, "--name", name];
            t.ok(&[
                run.as_slice(),
                &["--privileged", &format!("--net={}", self.net), "--ip", address, proxy],
            ]
            .concat())?;
            t.ok(&["exec", name, "haproxy", "-f", "/usr/local/etc/haproxy/haproxy.cfg"])?;
            equal!(
                t.inspect(
                    name,
                    &format!("{{{{(index .NetworkSettings.Networks {:?}).IPAddress}}}}", self.net)
                )?,
                address
            );
        }
        Ok(())
    }

    /// What a query by a database container's client prints, if it works.
    fn sql(&self, from: &str, at: &str, query: &str) -> Result<Option<String>> {
        let words = [
            "exec",
            from,
            "mariadb",
            "--connect-timeout=3",
            "-uroot",
            "-pabc123456",
            "-h",
            at,
            "-BN",
            "-e",
            query,
        ];
        let output = self.t.client.run(&words)?;
        Ok((output.code == 0).then(|| output.stdout.trim().to_owned()))
    }

    /// The names of the databases that answered eight questions; all must be answered.
    fn answering(&self, at: &str) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for _ in 0..8 {
            let answer = self.sql(&self.databases[1], at, "select @@hostname")?;
            names.push(answer.with_context(|| {
                let page = statistics(self.pages[1], AUTHORIZED).unwrap_or_default();
                format!("no answer through {at} after {names:?}\n{page}")
            })?);
        }
        names.sort();
        names.dedup();
        Ok(names)
    }

    fn balance(&self) -> Result<()> {
        let t = self.t;
        for page in self.pages {
            check!(statistics(page, "")?.starts_with("HTTP/1.1 401"), "no password is asked for");
            eventually("both databases are up", Duration::from_secs(20), || {
                Ok(count(&statistics(page, AUTHORIZED)?, "UP") == 2)
            })?;
        }
        for proxy in PROXIES {
            equal!(self.answering(proxy)?, self.databases);
        }
        // One ends: the pages show it, and the other one goes on.
        let pages = |state: &str, number: usize| {
            eventually(&format!("{number} {state}"), Duration::from_secs(60), || {
                for page in self.pages {
                    if count(&statistics(page, AUTHORIZED)?, state) != number {
                        return Ok(false);
                    }
                }
                Ok(true)
            })
        };
        t.ok(&["stop", &self.databases[0]])?;
        pages("DOWN", 1)?;
        equal!(self.answering(PROXIES[0])?, self.databases[1..]);
        t.ok(&["start", &self.databases[0]])?;
        pages("UP", 2)
    }

    fn share(&self) -> Result<()> {
        let t = self.t;
        for name in &self.proxies {
            let mut output = Running::start(
                t.client.command(&["exec", "-i", name, "sh", "-c", "cat > /etc/keepalived/keepalived.conf"]),
                Some(KEEPALIVED.as_bytes().to_vec()),
            )?
            .finish(Duration::from_secs(20))?;
            output.code(0)?;
            output = t.client.run(&["exec", name, "service", "keepalived", "start"])?;
            output.code(0)?;
        }
        let holders = || -> Result<Vec<&str>> {
            let mut holders = Vec::new();
            for name in &self.proxies {
                let shown = t.client.run(&["exec", name, "ip", "-o", "-4", "addr", "show", "dev", "eth0"])?;
                if shown.stdout.contains(SHARED) {
                    holders.push(name.as_str());
                }
            }
            Ok(holders)
        };
        eventually("one has the shared address", Duration::from_secs(20), || Ok(holders()?.len() == 1))?;
        equal!(ping_from_host()?, true);
        equal!(self.answering(SHARED)?, self.databases);
        // The holder ends, and the other one takes over.
        let first = holders()?.concat();
        t.ok(&["stop", "-t", "1", &first])?;
        eventually("the other one has it", Duration::from_secs(20), || {
            Ok(holders()?.concat() != first && !holders()?.is_empty() && ping_from_host()?)
        })?;
        equal!(self.answering(SHARED)?, self.databases);
        // The first comes back with its own address, and there is one holder still.
        t.ok(&["start", &first])?;
        t.ok(&["exec", &first, "service", "keepalived", "start"])?;
        std::thread::sleep(Duration::from_secs(4));
        equal!(holders()?.len(), 1);
        equal!(ping_from_host()?, true);
        Ok(())
    }
}

fn ping_from_host() -> Result<bool> {
    let mut command = Command::new("ping");
    command.args(["-c", "1", "-W", "2", SHARED]);
    Ok(Running::start(command, None)?.finish(Duration::from_secs(10))?.code == 0)
}

/// `admin:123456` (RFC 7617).
const AUTHORIZED: &str = "Authorization: Basic YWRtaW46MTIzNDU2\r\n";

/// The statistics page with its header; with `;csv` it is a table.
fn statistics(at: SocketAddr, header: &str) -> Result<String> {
    let mut stream = TcpStream::connect(at)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET /dbs;csv HTTP/1.1\r\nHost: {at}\r\n{header}Connection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// How many databases are in a state, as a statistics page has it; on the way to another one they have none of these.
fn count(page: &str, state: &str) -> usize {
    let wanted = format!(",{state},");
    page.lines().filter(|line| line.starts_with("proxy-mysql,MySQL_") && line.contains(&wanted)).count()
}
