//! The rules as one nf_tables table of family `inet`, see [`super::rules`].
//!
//! Somebody who flushes the ruleset shall not take our rules away: not even for the moment until they are back, because
//! the kernel stops rewriting addresses when the last rule that does so is gone, and resets connections under way. So the
//! table belongs to our socket, and stays when that is closed, for the next process to take over (Linux 6.9). Where there
//! is no such table (Linux 5.12 and later), a second one that goes with the socket keeps the kernel at it.

use std::collections::{BTreeMap, HashSet};

use ferry_sys::netlink::nft::{self, BaseChain, Element, Family, Hook, Transaction};
use ferry_sys::netlink::{NetlinkError, Protocol, Socket};
use rustix::io::Errno;

use super::backend::{Backend, FirewallError};
use super::rules::{self, BridgeRules};
use super::stores::{self, STORES};
use super::watch::Watched;
use super::{Elements, Port, Wanted};
use crate::config::{FirewallConfig, TableProtection};

/// The table of one engine.
#[derive(Debug)]
pub(crate) struct Nftables {
    name: String,
    socket: Socket,
    /// Published ports obey the host's own rules: only what comes from our bridges is led past them.
    host_firewall: bool,
    protection: TableProtection,
    /// Whether the table of family `ip`, which engines had before there was IPv6, is known to be gone.
    migrated: bool,
}

/// Whether the kernel has nf_tables.
pub(crate) fn is_supported() -> Result<bool, FirewallError> {
    let unknown = |errno: Option<i32>| {
        [Errno::PROTONOSUPPORT, Errno::AFNOSUPPORT, Errno::OPNOTSUPP, Errno::INVAL]
            .iter()
            .any(|e| errno == Some(e.raw_os_error()))
    };
    let mut socket = match Socket::open(Protocol::Netfilter) {
        Err(e) if unknown(e.raw_os_error()) => return Ok(false),
        other => other?,
    };
    match nft::table_exists(&mut socket, Family::Inet, "ferry") {
        Ok(_) => Ok(true),
        Err(e) if unknown(e.errno()) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

impl Nftables {
    /// The table called `name`, which is not touched yet.
    pub(crate) fn open(name: &str, config: &FirewallConfig) -> Result<Self, FirewallError> {
        let socket = Socket::open(Protocol::Netfilter)?;
        let host_firewall = config.host_firewall;
        let protection = config.table;
        Ok(Self { name: name.to_owned(), socket, host_firewall, protection, migrated: false })
    }

    fn hold_name(&self) -> String {
        format!("{}-hold", self.name)
    }

    /// Makes the table that keeps address translation going while ours is away, see above.
    fn hold(&mut self) {
        let name = self.hold_name();
        let mut tx = Transaction::new(Family::Inet);
        tx.add_own_table(&name, false);
        let base = BaseChain { kind: "nat", hook: Hook::Prerouting, priority: -100 };
        tx.add_chain(&name, "keep", Some(base));
        tx.delete_rules(&name, "keep");
        tx.add_rule(&name, "keep", &rules::any_translated());
        if let Err(error) = tx.commit(&mut self.socket) {
            tracing::debug!(%error, "no table to hold address translation");
            self.protection = TableProtection::None;
        }
    }

    /// Takes over a table whose owner is gone, or finds it ours already.
    fn claim(&mut self) -> Result<bool, NetlinkError> {
        match self.protection {
            TableProtection::None => return Ok(true),
            TableProtection::Held => {
                self.hold();
                return Ok(true);
            }
            TableProtection::Owned => {}
        }
        let mut tx = Transaction::new(Family::Inet);
        tx.add_own_table(&self.name, true);
        match tx.commit(&mut self.socket) {
            Ok(()) => Ok(true),
            Err(e) if is_unsupported(&e) => Ok(false),
            Err(e) => Err(e),
        }
    }

    fn replacement(&self, wanted: &Wanted, elements: &Elements, old: bool) -> Transaction {
        let mut tx = Transaction::new(Family::Inet);
        tx.add_table(&self.name);
        tx.delete_table(Family::Inet, &self.name);
        match self.protection {
            TableProtection::Owned => tx.add_own_table(&self.name, true),
            TableProtection::Held | TableProtection::None => tx.add_table(&self.name),
        }
        rules::skeleton(&mut tx, &self.name, self.host_firewall);
        self.put_bridges(&mut tx, wanted.bridges.values());
        for store in STORES {
            tx.add_elements(&self.name, store.name, &of_store(elements, store.name));
        }
        if old {
            tx.delete_table(Family::Ip, &self.name);
        }
        tx
    }

    fn put_bridges<'a>(&self, tx: &mut Transaction, bridges: impl Iterator<Item = &'a BridgeRules>) {
        let mut names = Vec::new();
        let mut jumps: BTreeMap<&str, Vec<(Vec<u8>, String)>> = BTreeMap::new();
        for bridge in bridges {
            let key = rules::interface_key(&bridge.device);
            names.push(Element { key: key.clone(), value: Vec::new() });
            for chain in rules::bridge_chains(bridge) {
                tx.add_chain(&self.name, &chain.name, None);
                for rule in &chain.rules {
                    tx.add_rule(&self.name, &chain.name, rule);
                }
                jumps.entry(chain.map).or_default().push((key.clone(), chain.name));
            }
        }
        tx.add_elements(&self.name, rules::BRIDGES, &names);
        for (map, jumps) in jumps {
            tx.add_jumps(&self.name, map, &jumps);
        }
    }

    fn delete_bridge(&self, tx: &mut Transaction, bridge: &BridgeRules) {
        let name = Element { key: rules::interface_key(&bridge.device), value: Vec::new() };
        let chains = rules::bridge_chains(bridge);
        for chain in &chains {
            tx.delete_elements(&self.name, chain.map, std::slice::from_ref(&name));
        }
        tx.delete_elements(&self.name, rules::BRIDGES, &[name]);
        for chain in &chains {
            tx.delete_rules(&self.name, &chain.name);
            tx.delete_chain(&self.name, &chain.name);
        }
    }

    fn has_old_table(&mut self) -> Result<bool, NetlinkError> {
        Ok(!self.migrated && nft::table_exists(&mut self.socket, Family::Ip, &self.name)?)
    }
}

impl Backend for Nftables {
    fn name(&self) -> &'static str {
        "nftables"
    }

    fn watched(&self) -> Result<Watched, FirewallError> {
        Ok(Watched::Table { name: self.name.clone(), except_by: self.socket.port()? })
    }

    fn replace_bridge(
        &mut self,
        _: &Wanted,
        former: Option<&BridgeRules>,
        new: Option<&BridgeRules>,
    ) -> Result<(), FirewallError> {
        let mut tx = Transaction::new(Family::Inet);
        if let Some(former) = former {
            self.delete_bridge(&mut tx, former);
        }
        if let Some(new) = new {
            self.put_bridges(&mut tx, [new].into_iter());
        }
        Ok(tx.commit(&mut self.socket)?)
    }

    fn change(&mut self, add: &[Port], delete: &[Port]) -> Result<(), FirewallError> {
        let mut tx = Transaction::new(Family::Inet);
        for store in STORES {
            tx.delete_elements(&self.name, store.name, &of_store(delete, store.name));
            tx.add_elements(&self.name, store.name, &of_store(add, store.name));
        }
        Ok(tx.commit(&mut self.socket)?)
    }

    fn elements(&mut self) -> Result<HashSet<Port>, FirewallError> {
        let mut present = HashSet::new();
        for store in STORES {
            let elements = nft::elements(&mut self.socket, Family::Inet, &self.name, store.name)?;
            present.extend(elements.into_iter().map(|e| (store.name, e)));
        }
        if self.has_old_table()? {
            for map in [stores::ANY, stores::ADDRESS] {
                let known: HashSet<Vec<u8>> =
                    present.iter().filter(|(m, _)| *m == map).map(|(_, e)| e.key.clone()).collect();
                let old = nft::elements(&mut self.socket, Family::Ip, &self.name, map)?;
                present.extend(old.into_iter().filter(|e| !known.contains(&e.key)).map(|e| (map, e)));
            }
        }
        Ok(present)
    }

    /// Every chain has our rules in our order, rules of others left aside, and every bridge leads to its chains.
    fn rules_are_intact(&mut self, world: &Wanted) -> Result<bool, FirewallError> {
        if self.has_old_table()? {
            return Ok(false);
        }
        self.migrated = true;
        let mut wanted: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for (chain, rule) in rules::fixed_rules(self.host_firewall) {
            wanted.entry(chain.to_owned()).or_default().push(nft::fingerprint(&rule));
        }
        let mut jumps: HashSet<(&str, Vec<u8>, String)> = HashSet::new();
        for bridge in world.bridges.values() {
            for chain in rules::bridge_chains(bridge) {
                jumps.insert((chain.map, rules::interface_key(&bridge.device), chain.name.clone()));
                wanted.insert(chain.name, chain.rules.iter().map(|r| nft::fingerprint(r)).collect());
            }
        }
        let mut present: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for (chain, mark) in nft::rules(&mut self.socket, &self.name)? {
            present.entry(chain).or_default().extend(mark);
        }
        present.retain(|_, marks| !marks.is_empty());
        if present != wanted {
            return Ok(false);
        }
        for (map, _) in rules::DISPATCH {
            for (key, chain) in nft::jumps(&mut self.socket, &self.name, map)? {
                jumps.remove(&(map, key, chain));
            }
        }
        let names = nft::elements(&mut self.socket, Family::Inet, &self.name, rules::BRIDGES)?;
        let names: HashSet<Vec<u8>> = names.into_iter().map(|e| e.key).collect();
        let named = |b: &String| names.contains(&rules::interface_key(b));
        Ok(jumps.is_empty() && world.bridges.keys().all(named) && self.claim()?)
    }

    fn rebuild(&mut self, wanted: &Wanted, elements: &Elements) -> Result<(), FirewallError> {
        let old = self.has_old_table()?;
        match self.replacement(wanted, elements, old).commit(&mut self.socket) {
            Err(e) if self.protection == TableProtection::Owned && is_unsupported(&e) => {
                self.protection = TableProtection::Held;
                self.replacement(wanted, elements, old).commit(&mut self.socket)?;
            }
            other => other?,
        }
        if self.protection == TableProtection::Held {
            self.hold();
        }
        self.migrated = true;
        Ok(())
    }

    fn destroy(&mut self) -> Result<(), FirewallError> {
        for name in [self.hold_name(), self.name.clone()] {
            if !nft::table_exists(&mut self.socket, Family::Inet, &name)? {
                continue;
            }
            let mut tx = Transaction::new(Family::Inet);
            tx.delete_table(Family::Inet, &name);
            match tx.commit(&mut self.socket) {
                Err(e) if e.errno() == Some(Errno::NOENT.raw_os_error()) => {}
                other => other?,
            }
        }
        Ok(())
    }
}

/// A flag the kernel does not know, or a table that cannot have it.
fn is_unsupported(error: &NetlinkError) -> bool {
    [Errno::OPNOTSUPP, Errno::INVAL].iter().any(|e| error.errno() == Some(e.raw_os_error()))
}

fn of_store(elements: &[Port], store: &str) -> Vec<Element> {
    elements.iter().filter(|(m, _)| *m == store).map(|(_, e)| e.clone()).collect()
}
