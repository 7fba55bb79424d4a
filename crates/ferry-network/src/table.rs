//! The engine's nft table as it should be, and the transactions that keep the kernel's copy equal to it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::net::Ipv4Addr;

use ferry_sys::netlink::nft::{self, Element, Transaction};
use ferry_sys::netlink::{NetlinkError, Protocol, Socket};
use ipnet::Ipv4Net;
use rustix::io::Errno;

use crate::rules::{self, BridgeRules};

/// Elements by map.
pub(crate) type Elements = Vec<(&'static str, Element)>;

/// The table of one engine.
#[derive(Debug)]
pub(crate) struct Table {
    name: String,
    socket: Socket,
    bridges: BTreeMap<String, BridgeRules>,
    /// Rules are not written for the time being.
    deferred: bool,
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
            published: HashMap::new(),
        })
    }

    /// Port id of the socket all changes are made with.
    pub(crate) fn port(&self) -> io::Result<u32> {
        self.socket.port()
    }

    /// Writes the rules with a bridge added, or replaced.
    pub(crate) fn add_bridge(&mut self, bridge: BridgeRules) -> Result<(), NetlinkError> {
        let previous = self.bridges.insert(bridge.device.clone(), bridge.clone());
        let written = self.write_rules();
        if written.is_err() {
            match previous {
                Some(previous) => self.bridges.insert(previous.device.clone(), previous),
                None => self.bridges.remove(&bridge.device),
            };
        }
        written
    }

    /// Writes the rules without a bridge.
    pub(crate) fn remove_bridge(&mut self, device: &str) -> Result<(), NetlinkError> {
        match self.bridges.remove(device) {
            Some(_) => self.write_rules(),
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
        if self.bridges.is_empty() { Ok(()) } else { self.write_rules() }
    }

    fn write_rules(&mut self) -> Result<(), NetlinkError> {
        if self.deferred {
            return Ok(());
        }
        let mut tx = Transaction::new();
        rules::skeleton(&mut tx, &self.name, self.bridges.values());
        tx.commit(&mut self.socket)
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
        let mut tx = Transaction::new();
        for map in [rules::ANY, rules::ADDRESS] {
            let of_map = |all: &[(&'static str, Element)]| -> Vec<Element> {
                all.iter().filter(|(m, _)| *m == map).map(|(_, e)| e.clone()).collect()
            };
            tx.delete_elements(&self.name, map, &of_map(delete));
            tx.add_elements(&self.name, map, &of_map(add));
        }
        tx.commit(&mut self.socket)
    }

    fn present(&mut self) -> Result<HashSet<(&'static str, Element)>, NetlinkError> {
        let mut present = HashSet::new();
        for map in [rules::ANY, rules::ADDRESS] {
            let elements = nft::elements(&mut self.socket, &self.name, map)?;
            present.extend(elements.into_iter().map(|e| (map, e)));
        }
        Ok(present)
    }

    /// The kernel's elements that lead into `subnet`.
    pub(crate) fn elements_into(
        &mut self,
        subnet: Ipv4Net,
    ) -> Result<HashSet<(&'static str, Element)>, NetlinkError> {
        let mut present = self.present()?;
        present.retain(|(_, element)| rules::target(element).is_some_and(|a| subnet.contains(&a)));
        Ok(present)
    }

    /// Makes the elements that lead into `subnet` exactly `wanted`.
    pub(crate) fn reconcile(
        &mut self,
        subnet: Ipv4Net,
        wanted: &Elements,
    ) -> Result<Reconciled, NetlinkError> {
        let inside = |e: &Element| rules::target(e).is_some_and(|a: Ipv4Addr| subnet.contains(&a));
        let present = self.present()?;
        let wanted_set: HashSet<&(&'static str, Element)> = wanted.iter().collect();
        let strays: Elements =
            present.iter().filter(|e| inside(&e.1) && !wanted_set.contains(e)).cloned().collect();
        let missing: Elements = wanted.iter().filter(|e| !present.contains(e)).cloned().collect();
        self.change(&missing, &strays)?;
        self.published.retain(|_, value| !inside(&Element { key: Vec::new(), value: value.clone() }));
        for (map, element) in wanted {
            self.published.insert((map, element.key.clone()), element.value.clone());
        }
        Ok(Reconciled { added: missing.len(), removed: strays.len() })
    }

    /// Whether the kernel's copy has all it should have; looks at numbers of rules, not at their contents.
    pub(crate) fn is_intact(&mut self) -> Result<bool, NetlinkError> {
        if self.bridges.is_empty() || self.deferred {
            return Ok(true);
        }
        if nft::rule_count(&mut self.socket, &self.name)? != rules::rule_count(self.bridges.values()) {
            return Ok(false);
        }
        let present = self.present()?;
        let there = |((map, key), value): (&(&'static str, Vec<u8>), &Vec<u8>)| {
            present.contains(&(*map, Element { key: key.clone(), value: value.clone() }))
        };
        Ok(self.published.iter().all(there))
    }

    /// Puts rules and elements back, whatever of them is missing.
    pub(crate) fn restore(&mut self) -> Result<(), NetlinkError> {
        if self.bridges.is_empty() {
            return Ok(());
        }
        let mut tx = Transaction::new();
        rules::skeleton(&mut tx, &self.name, self.bridges.values());
        for map in [rules::ANY, rules::ADDRESS] {
            let elements: Vec<Element> = self
                .published
                .iter()
                .filter(|((m, _), _)| *m == map)
                .map(|((_, key), value)| Element { key: key.clone(), value: value.clone() })
                .collect();
            tx.add_elements(&self.name, map, &elements);
        }
        tx.commit(&mut self.socket)
    }

    /// Deletes the table.
    pub(crate) fn destroy(&mut self) -> Result<(), NetlinkError> {
        self.bridges.clear();
        self.published.clear();
        if !nft::table_exists(&mut self.socket, &self.name)? {
            return Ok(());
        }
        let mut tx = Transaction::new();
        tx.delete_table(&self.name);
        match tx.commit(&mut self.socket) {
            Err(e) if is(&e, Errno::NOENT) => Ok(()),
            other => other,
        }
    }
}

fn is(error: &NetlinkError, errno: Errno) -> bool {
    error.errno() == Some(errno.raw_os_error())
}
