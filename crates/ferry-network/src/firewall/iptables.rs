//! The rules as chains of iptables, for hosts whose kernel has no nf_tables. The programs `iptables-restore` and
//! `iptables-save` do the work, each change one run per address family.
//!
//! All chains are ours and called `FERRY-<bridge>-…`; the kernel's own get one jump each, behind what is there:
//!
//! ```text
//! raw     PREROUTING   -j FERRY-br0-RAW     loopback addresses from containers
//! nat     PREROUTING   -j FERRY-br0-PRE     published ports, by FERRY-br0-PUB
//! nat     OUTPUT       -j FERRY-br0-OUT     likewise, from the host itself
//! nat     POSTROUTING  -j FERRY-br0-POST    masquerading
//! filter  FORWARD      -j FERRY-br0-FWD     who reaches whom; opened ports by FERRY-br0-OPEN
//! ```
//!
//! A packet meets the published ports one by one, and a change of a bridge writes all rules: that is what nf_tables is for.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Stdio};

use ferry_sys::netlink::nft;
use ferry_sys::netlink::nft_expr::AddressFamily;
use ferry_sys::netlink::{self, Socket};
use ferry_sys::xtables;
use ferry_types::net::{Protocol, PublishedPort};

use super::backend::{Backend, FirewallError};
use super::rules::{BridgeRules, PerFamily};
use super::stores;
use super::watch::Watched;
use super::{Elements, Port, Wanted};
use crate::config::{DirectRouting, FirewallConfig, GatewayMode};

/// The tables with chains of ours.
pub(crate) const TABLES: [&str; 3] = ["raw", "nat", "filter"];
/// Table, chain of the kernel's, and what the name of our chain ends with.
const JUMPS: [(&str, &str, &str); 5] = [
    ("raw", "PREROUTING", "RAW"),
    ("nat", "PREROUTING", "PRE"),
    ("nat", "OUTPUT", "OUT"),
    ("nat", "POSTROUTING", "POST"),
    ("filter", "FORWARD", "FWD"),
];
/// The longest part of a chain's name that is chosen: names have at most 28 characters.
const SUFFIX: usize = 15;

/// The chains of one engine.
#[derive(Debug)]
pub(crate) struct Iptables {
    base: String,
    programs: Vec<(AddressFamily, String)>,
    host_firewall: bool,
    /// Our rules without ports, as the programs show them, since they were written last.
    written: Option<Vec<String>>,
}

/// Sizes of the tables that are the kernel's own; those of iptables' nft variant are told of by nf_tables.
pub(crate) fn sizes() -> Vec<(u32, u32)> {
    let families = [AddressFamily::Ipv4, AddressFamily::Ipv6];
    let infos = families.into_iter().flat_map(|family| {
        let tables = xtables::tables(family).into_iter();
        tables.filter_map(move |table| xtables::info(family, &table).ok())
    });
    infos.map(|info| (info.entries, info.size)).collect()
}

/// What the names of an engine's chains begin with.
fn base(name: &str) -> String {
    let suffix: String = name.strip_prefix("ferry-").unwrap_or(name).chars().take(SUFFIX).collect();
    format!("FERRY-{suffix}-")
}

/// Whether there are chains of the engine called `name`, as far as can be told without a program: in the tables of the
/// kernel's own, or in those of iptables' nft variant.
pub(crate) fn was_used(name: &str) -> bool {
    let forward = format!("{}FWD", base(name));
    let legacy = || xtables::forwarding(AddressFamily::Ipv4, &forward).is_ok_and(|f| f.mentioned);
    let nft = || {
        let mut socket = Socket::open(netlink::Protocol::Netfilter).ok()?;
        nft::chain_exists(&mut socket, nft::Family::Ip, "filter", &forward).ok()
    };
    xtables::tables(AddressFamily::Ipv4).iter().any(|t| t == "filter") && legacy() || nft() == Some(true)
}

impl Iptables {
    /// The chains of the engine called `name`, which are not touched yet. The programs' names begin with `ipv4` and `ipv6`.
    pub(crate) fn open(name: &str, config: &FirewallConfig, ipv4: &str, ipv6: &str) -> Self {
        let v4 = config.ipv4.then(|| (AddressFamily::Ipv4, ipv4.to_owned()));
        let v6 = config.ipv6.then(|| (AddressFamily::Ipv6, ipv6.to_owned()));
        Self {
            base: base(name),
            programs: v4.into_iter().chain(v6).collect(),
            host_firewall: config.host_firewall,
            written: None,
        }
    }

    /// Everything there is of a family, in the programs' notation.
    fn save(program: &str) -> Result<String, FirewallError> {
        run(&format!("{program}-save"), &[], "")
    }

    fn restore(program: &str, text: &str) -> Result<(), FirewallError> {
        if text.is_empty() {
            return Ok(());
        }
        run(&format!("{program}-restore"), &["--noflush", "--wait"], text).map(drop)
    }

    fn is_port(&self, line: &str) -> bool {
        ["PUB ", "OPEN "].iter().any(|chain| line.starts_with(&format!("-A {}{chain}", self.base)))
    }

    /// Our rules and the jumps to them.
    fn own_rules(&self) -> Result<Vec<String>, FirewallError> {
        let mut lines = Vec::new();
        for (_, program) in &self.programs {
            let saved = Self::save(program)?;
            let ours = |l: &&str| l.starts_with("-A ") && l.contains(&self.base) && !self.is_port(l);
            lines.extend(saved.lines().filter(ours).map(str::to_owned));
        }
        Ok(lines)
    }

    /// All chains of a family with their rules.
    fn chains(
        &self,
        family: AddressFamily,
        wanted: &Wanted,
        ports: &Elements,
    ) -> Vec<(&str, &str, Vec<String>)> {
        let bridges = || wanted.bridges.values();
        let in_family = |store: &'static str, chain| {
            let of_chain = ports.iter().filter_map(spec);
            of_chain
                .filter(|s| s.family == family && s.table == store && s.chain == chain)
                .map(|s| s.rule)
                .collect::<Vec<_>>()
        };
        let local = format!("-m addrtype --dst-type LOCAL -j {}PUB", self.base);
        let (mut pre, mut out) = (Vec::new(), Vec::new());
        match family {
            AddressFamily::Ipv4 => pre.push("-d 127.0.0.0/8 -j RETURN".to_owned()),
            AddressFamily::Ipv6 => {
                out.push("-d ::1/128 -j RETURN".to_owned());
                for chain in [&mut pre, &mut out] {
                    chain.push("-s fe80::/10 -j RETURN".to_owned());
                }
            }
        }
        if self.host_firewall {
            pre.extend(bridges().map(|b| format!("-i {} {local}", b.device)));
        } else {
            pre.push(local.clone());
        }
        out.push(local);
        let mut chains = vec![
            ("nat", "PUB", in_family("nat", "PUB")),
            ("nat", "PRE", pre),
            ("nat", "OUT", out),
            ("nat", "POST", bridges().flat_map(|b| leave(b, family)).collect()),
            ("filter", "OPEN", in_family("filter", "OPEN")),
            ("filter", "FWD", self.forward(family, wanted)),
        ];
        if family == AddressFamily::Ipv4 {
            let loopback = |b: &BridgeRules| {
                ["-d", "-s"].map(|which| format!("-i {} {which} 127.0.0.0/8 -j DROP", b.device))
            };
            chains.push(("raw", "RAW", bridges().flat_map(loopback).collect()));
        }
        chains
    }

    /// What is forwarded: `ACCEPT` is final with iptables, so it is said of our bridges' packets only.
    fn forward(&self, family: AddressFamily, wanted: &Wanted) -> Vec<String> {
        let bridges = || wanted.bridges.values().filter(|b| b.filtered.of(family));
        let known = |b: &BridgeRules| {
            let state = "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT";
            [format!("-i {} {state}", b.device), format!("-o {} {state}", b.device)]
        };
        let mut rules: Vec<String> = bridges().flat_map(known).collect();
        let internal = bridges().filter(|b| b.is_internal());
        rules.extend(internal.map(|b| format!("-i {0} ! -o {0} -j DROP", b.device)));
        rules.extend(bridges().flat_map(|b| self.to_bridge(b, family)));
        rules.extend(bridges().map(|b| format!("-i {} -j ACCEPT", b.device)));
        rules
    }

    fn to_bridge(&self, b: &BridgeRules, family: AddressFamily) -> Vec<String> {
        let (device, base) = (&b.device, &self.base);
        let mode = b.families().find(|f| f.0 == family).map_or(GatewayMode::Nat, |f| f.2);
        let mut rules = Vec::new();
        if !b.is_internal() {
            rules.push(format!("-o {device} -m conntrack --ctstate DNAT -j ACCEPT"));
        }
        match &b.direct {
            _ if mode == GatewayMode::Routed => rules.push(format!("-o {device} -j {base}OPEN")),
            DirectRouting::Everybody => rules.push(format!("-o {device} -j {base}OPEN")),
            DirectRouting::Interfaces(trusted) => {
                rules.extend(trusted.iter().map(|from| format!("-i {from} -o {device} -j {base}OPEN")));
            }
        }
        let own = if b.icc { "ACCEPT" } else { "DROP" };
        rules.push(format!("-i {device} -o {device} -j {own}"));
        match mode {
            GatewayMode::Routed => {
                let icmp = if family == AddressFamily::Ipv4 { "icmp" } else { "ipv6-icmp" };
                rules.push(format!("-o {device} -p {icmp} -j ACCEPT"));
            }
            GatewayMode::NatUnprotected => rules.push(format!("-o {device} -j ACCEPT")),
            GatewayMode::Nat | GatewayMode::Isolated => {}
        }
        rules.push(format!("-o {device} -j DROP"));
        rules
    }
}

/// Whose address a bridge's packets get.
fn leave(b: &BridgeRules, family: AddressFamily) -> Vec<String> {
    let device = &b.device;
    let mut rules = Vec::new();
    for (_, subnet, mode, masquerade) in b.families().filter(|f| f.0 == family) {
        if family == AddressFamily::Ipv4 {
            rules.push(format!("-s 127.0.0.0/8 -o {device} -j MASQUERADE"));
        }
        if mode != GatewayMode::Routed {
            rules.push(format!("-s {subnet} -o {device} -m conntrack --ctstate DNAT -j MASQUERADE"));
        }
        let nat = matches!(mode, GatewayMode::Nat | GatewayMode::NatUnprotected);
        if masquerade && nat && !b.is_internal() {
            let target = match b.source.of(family) {
                Some(source) => format!("SNAT --to-source {source}"),
                None => "MASQUERADE".to_owned(),
            };
            rules.push(format!("-s {subnet} ! -o {device} -j {target}"));
        }
    }
    rules
}

impl Backend for Iptables {
    fn name(&self) -> &'static str {
        "iptables"
    }

    fn watched(&self) -> Result<Watched, FirewallError> {
        Ok(Watched::Iptables)
    }

    fn replace_bridge(
        &mut self,
        wanted: &Wanted,
        _: Option<&BridgeRules>,
        _: Option<&BridgeRules>,
    ) -> Result<(), FirewallError> {
        let mut ports = self.elements()?;
        ports.extend(wanted.elements());
        self.rebuild(wanted, &ports.into_iter().collect())
    }

    fn change(&mut self, add: &[Port], delete: &[Port]) -> Result<(), FirewallError> {
        for (family, program) in &self.programs {
            let mut tables: BTreeMap<&str, String> = BTreeMap::new();
            for (verb, ports) in [("-D", delete), ("-A", add)] {
                for s in ports.iter().filter_map(spec).filter(|s| s.family == *family) {
                    let text = tables.entry(s.table).or_default();
                    let _ = writeln!(text, "{verb} {}{} {}", self.base, s.chain, s.rule);
                }
            }
            let blocks = tables.into_iter().map(|(table, lines)| format!("*{table}\n{lines}COMMIT\n"));
            Self::restore(program, &blocks.collect::<String>())?;
        }
        Ok(())
    }

    fn elements(&mut self) -> Result<HashSet<Port>, FirewallError> {
        let mut ports = HashSet::new();
        for (family, program) in &self.programs {
            let saved = Self::save(program)?;
            let ours = saved.lines().filter(|l| self.is_port(l));
            ports.extend(ours.filter_map(|line| parse(*family, line)));
        }
        Ok(ports)
    }

    fn rules_are_intact(&mut self, _: &Wanted) -> Result<bool, FirewallError> {
        Ok(self.written.is_some() && self.written.as_ref() == Some(&self.own_rules()?))
    }

    fn rebuild(&mut self, wanted: &Wanted, elements: &Elements) -> Result<(), FirewallError> {
        let mut count = 0;
        for (family, program) in &self.programs {
            let saved = Self::save(program)?;
            let mut tables: BTreeMap<&str, (String, String)> = BTreeMap::new();
            for (table, chain, rules) in self.chains(*family, wanted, elements) {
                let (declared, text) = tables.entry(table).or_default();
                // Declaring a chain empties it.
                let _ = writeln!(declared, ":{}{chain} - [0:0]", self.base);
                for rule in rules {
                    let line = format!("-A {}{chain} {rule}", self.base);
                    count += usize::from(!self.is_port(&line));
                    let _ = writeln!(text, "{line}");
                }
            }
            for (table, from, chain) in JUMPS {
                let jump = format!("-A {from} -j {}{chain}", self.base);
                let Some((_, text)) = tables.get_mut(table) else { continue };
                count += 1;
                if !in_table(&saved, table).any(|line| line == jump) {
                    let _ = writeln!(text, "{jump}");
                }
            }
            let blocks = tables.into_iter();
            let blocks = blocks.map(|(table, (chains, rules))| format!("*{table}\n{chains}{rules}COMMIT\n"));
            Self::restore(program, &blocks.collect::<String>())?;
        }
        // Somebody may have removed some of them already, which must not pass for what was written.
        let rules = self.own_rules()?;
        self.written = (rules.len() == count).then_some(rules);
        Ok(())
    }

    fn destroy(&mut self) -> Result<(), FirewallError> {
        for (_, program) in &self.programs {
            let saved = Self::save(program)?;
            let mut text = String::new();
            for table in TABLES {
                let lines: Vec<&str> = in_table(&saved, table).filter(|l| l.contains(&self.base)).collect();
                let declared = lines.iter().filter_map(|l| l.strip_prefix(':')?.split(' ').next());
                let chains: Vec<&str> = declared.filter(|c| c.starts_with(&self.base)).collect();
                if chains.is_empty() {
                    continue;
                }
                let _ = writeln!(text, "*{table}");
                let own = format!("-A {}", self.base);
                for jump in lines.iter().filter(|l| l.starts_with("-A ") && !l.starts_with(&own)) {
                    let _ = writeln!(text, "-D{}", &jump[2..]);
                }
                for verb in ["-F", "-X"] {
                    for chain in &chains {
                        let _ = writeln!(text, "{verb} {chain}");
                    }
                }
                text.push_str("COMMIT\n");
            }
            Self::restore(program, &text)?;
        }
        self.written = None;
        Ok(())
    }
}

/// The lines of one table.
fn in_table<'a>(saved: &'a str, table: &str) -> impl Iterator<Item = &'a str> {
    let head = format!("*{table}");
    saved.lines().skip_while(move |l| *l != head).skip(1).take_while(|l| *l != "COMMIT")
}

/// A port as a rule.
struct Spec {
    family: AddressFamily,
    table: &'static str,
    chain: &'static str,
    rule: String,
}

fn spec((store, element): &Port) -> Option<Spec> {
    let (family, address_length, opened) = match *store {
        stores::ANY => (AddressFamily::Ipv4, 0, false),
        stores::ADDRESS => (AddressFamily::Ipv4, 4, false),
        stores::OPEN => (AddressFamily::Ipv4, 4, true),
        stores::ANY6 => (AddressFamily::Ipv6, 0, false),
        stores::ADDRESS6 => (AddressFamily::Ipv6, 16, false),
        stores::OPEN6 => (AddressFamily::Ipv6, 16, true),
        _ => return None,
    };
    let (address, rest) = element.key.split_at_checked(address_length)?;
    let protocol = protocol(*rest.first()?)?;
    let port = u16::from_be_bytes(rest.get(4..6)?.try_into().ok()?);
    let mut rule = match address_of(address) {
        Some(ip) => format!("-d {ip}/{} ", if ip.is_ipv4() { 32 } else { 128 }),
        None => String::new(),
    };
    let _ = write!(rule, "-p {protocol} -m {protocol} --dport {port} ");
    if opened {
        rule.push_str("-j ACCEPT");
        return Some(Spec { family, table: "filter", chain: "OPEN", rule });
    }
    let container = stores::target(store, element)?;
    let value = element.value.get(if container.is_ipv4() { 4..6 } else { 16..18 })?;
    let target = SocketAddr::new(container, u16::from_be_bytes(value.try_into().ok()?));
    let _ = write!(rule, "-j DNAT --to-destination {target}");
    Some(Spec { family, table: "nat", chain: "PUB", rule })
}

fn address_of(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

fn protocol(number: u8) -> Option<Protocol> {
    [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].into_iter().find(|p| p.number() == number)
}

/// The port a line of iptables-save is about; the reverse of [`spec`].
fn parse(family: AddressFamily, line: &str) -> Option<Port> {
    let words: Vec<&str> = line.split(' ').collect();
    let after = |option: &str| {
        let at = words.iter().position(|w| *w == option)?;
        words.get(at + 1).copied()
    };
    let address: Option<IpAddr> = match after("-d") {
        Some(net) => Some(net.split('/').next()?.parse().ok()?),
        None => None,
    };
    let protocol: Protocol = after("-p")?.parse().ok()?;
    let port: u16 = after("--dport")?.parse().ok()?;
    let unspecified: IpAddr = match family {
        AddressFamily::Ipv4 => [0; 4].into(),
        AddressFamily::Ipv6 => [0; 16].into(),
    };
    let addresses = |ip: IpAddr| PerFamily { ipv4: Some(ip), ipv6: Some(ip) };
    let published =
        |host_ip, host_port, container_port| PublishedPort { host_ip, host_port, container_port, protocol };
    if let Some(target) = after("--to-destination") {
        let target: SocketAddr = target.parse().ok()?;
        let published = published(address.unwrap_or(unspecified), port, target.port());
        return stores::element(&published, addresses(target.ip()));
    }
    stores::opened(&published(unspecified, 0, port), addresses(address?))
}

/// Runs a program of iptables with a text as its input, and returns its output.
fn run(program: &str, arguments: &[&str], input: &str) -> Result<String, FirewallError> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let failed = |message: String| FirewallError::Program { program: program.to_owned(), message };
    let mut child = command
        .spawn()
        .map_err(|e| std::io::Error::new(e.kind(), format!("cannot execute {program}: {e}")))?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that ends without reading says why itself.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let lines = said.lines().filter(|l| !l.starts_with('#') && !l.is_empty());
    Err(failed(lines.take(3).collect::<Vec<_>>().join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_told_as_the_programs_tell_them() {
        let published = |host: &str, protocol| PublishedPort {
            host_ip: host.parse().unwrap(),
            host_port: 8080,
            container_port: 80,
            protocol,
        };
        let container = PerFamily {
            ipv4: Some([172, 17, 0, 2].into()),
            ipv6: Some("fd00::2".parse::<IpAddr>().unwrap()),
        };
        let dnat = |host, protocol| stores::element(&published(host, protocol), container).unwrap();
        let open = |host| stores::opened(&published(host, Protocol::Tcp), container).unwrap();
        for (port, want) in [
            (
                dnat("0.0.0.0", Protocol::Tcp),
                "-p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80",
            ),
            (
                dnat("10.0.0.1", Protocol::Udp),
                "-d 10.0.0.1/32 -p udp -m udp --dport 8080 -j DNAT --to-destination 172.17.0.2:80",
            ),
            (
                dnat("::", Protocol::Sctp),
                "-p sctp -m sctp --dport 8080 -j DNAT --to-destination [fd00::2]:80",
            ),
            (open("0.0.0.0"), "-d 172.17.0.2/32 -p tcp -m tcp --dport 80 -j ACCEPT"),
            (open("::"), "-d fd00::2/128 -p tcp -m tcp --dport 80 -j ACCEPT"),
        ] {
            let spec = spec(&port).unwrap();
            assert_eq!(spec.rule, want);
            assert_eq!(parse(spec.family, &format!("-A FERRY-x-{} {want}", spec.chain)), Some(port));
        }
        let foreign = nft::Element { key: vec![1], value: Vec::new() };
        assert!(super::spec(&(stores::ANY, foreign)).is_none());
        assert!(parse(AddressFamily::Ipv4, "-A FERRY-x-PUB -j LOG").is_none());
    }

    #[test]
    fn names_of_chains_are_short_enough() {
        let config = FirewallConfig::default();
        let ours = Iptables::open("ferry-br-0123456789ab", &config, "iptables", "ip6tables");
        assert!(JUMPS.iter().all(|(_, _, chain)| ours.base.len() + chain.len() <= 28));
    }
}
