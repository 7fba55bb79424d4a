//! The engine's nft table as it should be, and the transactions that keep the kernel's copy equal to it.
//!
//! Small changes (a bridge, an endpoint's ports) are small transactions. Whatever else is not as it should be is mended by
//! one transaction that deletes the table and makes it again: packets meet either the old or the new one, and
//! connections under way are in nobody's table.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::net::IpAddr;

use ferry_sys::netlink::nft::{self, Element, Family, Transaction};
use ferry_sys::netlink::{NetlinkError, Protocol, Socket};
use rustix::io::Errno;

use super::rules::{self, BridgeRules, STORES, Subnets};

/// Elements by map or set.
pub(crate) type Elements = Vec<(&'static str, Element)>;

/// The table of one engine.
#[derive(Debug)]
pub(crate) struct Table {
    name: String,
    socket: Socket,
    bridges: BTreeMap<String, BridgeRules>,
    /// Rules are not written for the time being.
    deferred: bool,
    /// The kernel's copy was ours once: from then on changes are small.
    written: bool,
    /// Key to value, per map.
    published: HashMap<(&'static str, Vec<u8>), Vec<u8>>,
}

/// What [`Table::reconcile`] changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Reconciled {
    pub(crate) added: usize,
    pub(crate) removed: usize,
}

impl Table {
    /// The table called `name`, which is not touched yet.
    pub(crate) fn open(name: &str) -> io::Result<Self> {
        let socket = Socket::open(Protocol::Netfilter)?;
        Ok(Self {
            name: name.to_owned(),
            socket,
            bridges: BTreeMap::new(),
            deferred: false,
            written: false,
            published: HashMap::new(),
        })
    }

    /// Port id of the socket all changes are made with.
    pub(crate) fn port(&self) -> io::Result<u32> {
        self.socket.port()
    }

    /// Writes the rules of a bridge that is added, or replaced.
    pub(crate) fn add_bridge(&mut self, bridge: BridgeRules) -> Result<(), NetlinkError> {
        let previous = self.bridges.insert(bridge.device.clone(), bridge.clone());
        let written = self.write_bridge(previous.as_ref(), Some(&bridge));
        if written.is_err() {
            match previous {
                Some(previous) => self.bridges.insert(previous.device.clone(), previous),
                None => self.bridges.remove(&bridge.device),
            };
        }
        written
    }

    /// Removes the rules of a bridge.
    pub(crate) fn remove_bridge(&mut self, device: &str) -> Result<(), NetlinkError> {
        match self.bridges.remove(device) {
            Some(former) => self.write_bridge(Some(&former), None),
            None => Ok(()),
        }
    }

    /// Writes no rules until [`Self::write_deferred`].
    pub(crate) fn defer(&mut self) {
        self.deferred = true;
    }

    /// Writes the rules of all bridges there are now.
    pub(crate) fn write_deferred(&mut self) -> Result<(), NetlinkError> {
        self.deferred = false;
        if self.bridges.is_empty() { Ok(()) } else { self.take_over() }
    }

    /// Replaces one bridge's chains by others, in one transaction that touches nothing else.
    fn write_bridge(
        &mut self,
        former: Option<&BridgeRules>,
        new: Option<&BridgeRules>,
    ) -> Result<(), NetlinkError> {
        if self.deferred {
            return Ok(());
        }
        if !self.written {
            return self.take_over();
        }
        let mut tx = Transaction::new(Family::Inet);
        if let Some(former) = former {
            self.delete_bridge(&mut tx, former);
        }
        if let Some(new) = new {
            self.put_bridges(&mut tx, [new].into_iter());
        }
        match tx.commit(&mut self.socket) {
            // Somebody removed the table, or some of it, and the watcher has not noticed yet.
            Err(e) if is(&e, Errno::NOENT) || is(&e, Errno::EXIST) || is(&e, Errno::BUSY) => self.restore(),
            other => other,
        }
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

    /// The first write of a process: what an earlier one published stays in force until it is reconciled, also in the table
    /// of family `ip` that engines had before there was IPv6.
    fn take_over(&mut self) -> Result<(), NetlinkError> {
        let old = nft::table_exists(&mut self.socket, Family::Ip, &self.name)?;
        if !old && self.rules_are_intact()? {
            self.written = true;
            return Ok(());
        }
        let mut present = self.present()?;
        if old {
            for map in [rules::ANY, rules::ADDRESS] {
                let elements = nft::elements(&mut self.socket, Family::Ip, &self.name, map)?;
                let known: HashSet<Vec<u8>> =
                    present.iter().filter(|(m, _)| *m == map).map(|(_, e)| e.key.clone()).collect();
                present.extend(elements.into_iter().filter(|e| !known.contains(&e.key)).map(|e| (map, e)));
            }
        }
        let mut tx = self.rebuild(&present.into_iter().collect());
        if old {
            tx.delete_table(Family::Ip, &self.name);
        }
        tx.commit(&mut self.socket)?;
        self.written = true;
        Ok(())
    }

    /// The transaction that replaces the whole table.
    fn rebuild(&self, elements: &Elements) -> Transaction {
        let mut tx = Transaction::new(Family::Inet);
        tx.add_table(&self.name);
        tx.delete_table(Family::Inet, &self.name);
        tx.add_table(&self.name);
        rules::skeleton(&mut tx, &self.name);
        self.put_bridges(&mut tx, self.bridges.values());
        for store in STORES {
            tx.add_elements(&self.name, store.name, &of_store(elements, store.name));
        }
        tx
    }

    /// Adds elements in one transaction.
    pub(crate) fn publish(&mut self, elements: &Elements) -> Result<(), NetlinkError> {
        if elements.is_empty() {
            return Ok(());
        }
        match self.change(elements, &[]) {
            // Somebody removed the table and the watcher has not noticed yet.
            Err(e) if is(&e, Errno::NOENT) => {
                self.restore()?;
                self.change(elements, &[])?;
            }
            other => other?,
        }
        for (map, element) in elements {
            self.published.insert((map, element.key.clone()), element.value.clone());
        }
        Ok(())
    }

    /// Removes elements in one transaction; those that are not there are no error.
    pub(crate) fn unpublish(&mut self, elements: &Elements) -> Result<(), NetlinkError> {
        if elements.is_empty() {
            return Ok(());
        }
        for (map, element) in elements {
            self.published.remove(&(*map, element.key.clone()));
        }
        match self.change(&[], elements) {
            Err(e) if is(&e, Errno::NOENT) => {
                let present = self.present()?;
                let rest: Elements = elements.iter().filter(|e| present.contains(e)).cloned().collect();
                self.change(&[], &rest)
            }
            other => other,
        }
    }

    fn change(
        &mut self,
        add: &[(&'static str, Element)],
        delete: &[(&'static str, Element)],
    ) -> Result<(), NetlinkError> {
        let mut tx = Transaction::new(Family::Inet);
        for store in STORES {
            tx.delete_elements(&self.name, store.name, &of_store(delete, store.name));
            tx.add_elements(&self.name, store.name, &of_store(add, store.name));
        }
        tx.commit(&mut self.socket)
    }

    fn present(&mut self) -> Result<HashSet<(&'static str, Element)>, NetlinkError> {
        let mut present = HashSet::new();
        for store in STORES {
            let elements = nft::elements(&mut self.socket, Family::Inet, &self.name, store.name)?;
            present.extend(elements.into_iter().map(|e| (store.name, e)));
        }
        Ok(present)
    }

    /// The kernel's elements that lead into `subnets`.
    pub(crate) fn elements_into(
        &mut self,
        subnets: Subnets,
    ) -> Result<HashSet<(&'static str, Element)>, NetlinkError> {
        let mut present = self.present()?;
        present.retain(|(map, element)| leads_into(subnets, map, element));
        Ok(present)
    }

    /// Makes the elements that lead into `subnets` exactly `wanted`.
    pub(crate) fn reconcile(
        &mut self,
        subnets: Subnets,
        wanted: &Elements,
    ) -> Result<Reconciled, NetlinkError> {
        let present = self.present()?;
        let wanted_set: HashSet<&(&'static str, Element)> = wanted.iter().collect();
        let keys: HashSet<(&str, &[u8])> = wanted.iter().map(|(m, e)| (*m, &e.key[..])).collect();
        // Also a port that leads elsewhere, where it is wanted.
        let stray = |e: &&(&'static str, Element)| {
            !wanted_set.contains(e) && (leads_into(subnets, e.0, &e.1) || keys.contains(&(e.0, &e.1.key[..])))
        };
        let strays: Elements = present.iter().filter(stray).cloned().collect();
        let missing: Elements = wanted.iter().filter(|e| !present.contains(e)).cloned().collect();
        self.change(&missing, &strays)?;
        self.published.retain(|(map, key), value| {
            !leads_into(subnets, map, &Element { key: key.clone(), value: value.clone() })
        });
        for (map, element) in wanted {
            self.published.insert((map, element.key.clone()), element.value.clone());
        }
        Ok(Reconciled { added: missing.len(), removed: strays.len() })
    }

    /// Whether the kernel's copy has all it should have.
    pub(crate) fn is_intact(&mut self) -> Result<bool, NetlinkError> {
        if self.bridges.is_empty() || self.deferred {
            return Ok(true);
        }
        if !self.rules_are_intact()? {
            return Ok(false);
        }
        let present = self.present()?;
        let there = |((map, key), value): (&(&'static str, Vec<u8>), &Vec<u8>)| {
            present.contains(&(*map, Element { key: key.clone(), value: value.clone() }))
        };
        Ok(self.published.iter().all(there))
    }

    /// Whether every chain has our rules in our order, rules of others left aside, and every bridge leads to its chains.
    fn rules_are_intact(&mut self) -> Result<bool, NetlinkError> {
        let mut wanted: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for (chain, rule) in rules::fixed_rules() {
            wanted.entry(chain.to_owned()).or_default().push(nft::fingerprint(&rule));
        }
        let mut jumps: HashSet<(&str, Vec<u8>, String)> = HashSet::new();
        for bridge in self.bridges.values() {
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
        Ok(jumps.is_empty() && self.bridges.keys().all(named))
    }

    /// Puts rules and elements back, whatever of them is missing.
    pub(crate) fn restore(&mut self) -> Result<(), NetlinkError> {
        if self.bridges.is_empty() {
            return Ok(());
        }
        let published = self.published.iter();
        let elements: Elements = published
            .map(|((map, key), value)| (*map, Element { key: key.clone(), value: value.clone() }))
            .collect();
        self.rebuild(&elements).commit(&mut self.socket)?;
        self.written = true;
        Ok(())
    }

    /// Deletes the table.
    pub(crate) fn destroy(&mut self) -> Result<(), NetlinkError> {
        self.bridges.clear();
        self.published.clear();
        self.written = false;
        if !nft::table_exists(&mut self.socket, Family::Inet, &self.name)? {
            return Ok(());
        }
        let mut tx = Transaction::new(Family::Inet);
        tx.delete_table(Family::Inet, &self.name);
        match tx.commit(&mut self.socket) {
            Err(e) if is(&e, Errno::NOENT) => Ok(()),
            other => other,
        }
    }
}

fn of_store(elements: &[(&'static str, Element)], store: &str) -> Vec<Element> {
    elements.iter().filter(|(m, _)| *m == store).map(|(_, e)| e.clone()).collect()
}

fn leads_into(subnets: Subnets, map: &str, element: &Element) -> bool {
    rules::target(map, element).is_some_and(|address: IpAddr| subnets.contain(address))
}

fn is(error: &NetlinkError, errno: Errno) -> bool {
    error.errno() == Some(errno.raw_os_error())
}
