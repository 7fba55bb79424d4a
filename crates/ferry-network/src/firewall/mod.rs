//! The firewall of an engine: what it should be, and the changes that keep the kernel's copy equal to it.
//!
//! [`rules`] says what packets meet; a [`Backend`] gets that into the kernel, by nf_tables or, on hosts without, by iptables.
//! Small changes (a bridge, an endpoint's ports) are small transactions. Whatever else is not as it should be is replaced
//! as a whole: packets meet either the old or the new rules, and connections under way are in nobody's rules.

mod backend;
pub(crate) mod iptables;
mod nftables;
pub(crate) mod obstacles;
pub(crate) mod rules;
pub(crate) mod stores;
pub(crate) mod watch;

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

use ferry_sys::netlink::nft::Element;

pub(crate) use self::backend::{Backend, FirewallError};
use self::iptables::Iptables;
use self::nftables::Nftables;
use self::rules::{BridgeRules, Subnets};
use self::stores::STORES;
use crate::config::{FirewallBackend, FirewallConfig};

/// A published or opened port: the map or set it is an element of, and the element.
pub(crate) type Port = (&'static str, Element);
/// Published ports.
pub(crate) type Elements = Vec<Port>;

/// What the firewall of one engine should be.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) bridges: BTreeMap<String, BridgeRules>,
    published: HashSet<Packed>,
}

impl Wanted {
    /// Everything published.
    pub(crate) fn elements(&self) -> Elements {
        self.published.iter().filter_map(Packed::unpack).collect()
    }
}

/// A port in few bytes, since there are ranges of thousands: number of its store, length of its key, key, value.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Packed(Box<[u8]>);

impl Packed {
    fn new((store, element): &Port) -> Self {
        let number = STORES.iter().position(|s| s.name == *store).unwrap_or_default() as u8;
        Self([&[number, element.key.len() as u8], &element.key[..], &element.value].concat().into())
    }

    fn unpack(&self) -> Option<Port> {
        let (&[number, length], rest) = self.0.split_first_chunk::<2>()?;
        let (key, value) = rest.split_at_checked(length.into())?;
        let store = STORES.get(usize::from(number))?.name;
        Some((store, Element { key: key.to_vec(), value: value.to_vec() }))
    }
}

/// The firewall of one engine.
#[derive(Debug)]
pub(crate) struct Firewall {
    backend: Box<dyn Backend>,
    /// Another backend an earlier process may have used; what it made goes once ours is in force.
    former: Option<Box<dyn Backend>>,
    wanted: Wanted,
    /// Rules are not written for the time being.
    deferred: bool,
    /// The kernel's copy was ours once: from then on changes are small.
    written: bool,
}

/// What [`Firewall::reconcile`] changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Reconciled {
    pub(crate) added: usize,
    pub(crate) removed: usize,
}

impl Firewall {
    /// The firewall called `name`, which is not touched yet.
    pub(crate) fn open(name: &str, config: &FirewallConfig) -> Result<Self, FirewallError> {
        let nftables = nftables::is_supported()?;
        let mut uses_table = false;
        let backend: Box<dyn Backend> = match &config.backend {
            _ if !config.ipv4 && !config.ipv6 => Box::new(backend::Nothing),
            FirewallBackend::Automatic if !nftables => {
                Box::new(Iptables::open(name, config, "iptables", "ip6tables"))
            }
            FirewallBackend::Automatic | FirewallBackend::Nftables => {
                uses_table = true;
                Box::new(Nftables::open(name, config)?)
            }
            FirewallBackend::Iptables { ipv4, ipv6 } => Box::new(Iptables::open(name, config, ipv4, ipv6)),
        };
        let former: Option<Box<dyn Backend>> = match (nftables, uses_table) {
            (true, false) => Some(Box::new(Nftables::open(name, config)?)),
            (_, true) if iptables::was_used(name) => {
                Some(Box::new(Iptables::open(name, &FirewallConfig::default(), "iptables", "ip6tables")))
            }
            _ => None,
        };
        Ok(Self { backend, former, wanted: Wanted::default(), deferred: false, written: false })
    }

    /// `nftables`, `iptables` or `none`.
    pub(crate) fn driver(&self) -> &'static str {
        self.backend.name()
    }

    /// What the watcher has to look at.
    pub(crate) fn watched(&self) -> Result<watch::Watched, FirewallError> {
        self.backend.watched()
    }

    /// Writes the rules of a bridge that is added, or replaced.
    pub(crate) fn add_bridge(&mut self, bridge: BridgeRules) -> Result<(), FirewallError> {
        let previous = self.wanted.bridges.insert(bridge.device.clone(), bridge.clone());
        let written = self.write_bridge(previous.as_ref(), Some(&bridge));
        if written.is_err() {
            match previous {
                Some(previous) => self.wanted.bridges.insert(previous.device.clone(), previous),
                None => self.wanted.bridges.remove(&bridge.device),
            };
        }
        written
    }

    /// Removes the rules of a bridge.
    pub(crate) fn remove_bridge(&mut self, device: &str) -> Result<(), FirewallError> {
        match self.wanted.bridges.remove(device) {
            Some(former) => self.write_bridge(Some(&former), None),
            None => Ok(()),
        }
    }

    /// Writes no rules until [`Self::write_deferred`].
    pub(crate) fn defer(&mut self) {
        self.deferred = true;
    }

    /// Writes the rules of all bridges there are now.
    pub(crate) fn write_deferred(&mut self) -> Result<(), FirewallError> {
        self.deferred = false;
        if self.wanted.bridges.is_empty() { Ok(()) } else { self.take_over() }
    }

    fn write_bridge(
        &mut self,
        former: Option<&BridgeRules>,
        new: Option<&BridgeRules>,
    ) -> Result<(), FirewallError> {
        if self.deferred {
            return Ok(());
        }
        if !self.written {
            return self.take_over();
        }
        match self.backend.replace_bridge(&self.wanted, former, new) {
            // Somebody removed some of it, and the watcher has not noticed yet.
            Err(e) if e.is_damage() => self.restore(),
            other => other,
        }
    }

    /// The first write of a process: what an earlier one published stays in force until it is reconciled.
    fn take_over(&mut self) -> Result<(), FirewallError> {
        if self.former.is_some() || !self.backend.rules_are_intact(&self.wanted)? {
            let mut present = self.backend.elements()?;
            if let Some(former) = &mut self.former {
                present.extend(former.elements()?);
            }
            self.backend.rebuild(&self.wanted, &present.into_iter().collect())?;
        }
        if let Some(mut former) = self.former.take() {
            former.destroy()?;
        }
        self.written = true;
        Ok(())
    }

    /// Adds elements in one transaction.
    pub(crate) fn publish(&mut self, elements: &Elements) -> Result<(), FirewallError> {
        if elements.is_empty() {
            return Ok(());
        }
        match self.backend.change(elements, &[]) {
            // Somebody removed the table and the watcher has not noticed yet.
            Err(e) if e.is_damage() => {
                self.restore()?;
                self.backend.change(elements, &[])?;
            }
            other => other?,
        }
        self.wanted.published.extend(elements.iter().map(Packed::new));
        Ok(())
    }

    /// Removes elements in one transaction; those that are not there are no error.
    pub(crate) fn unpublish(&mut self, elements: &Elements) -> Result<(), FirewallError> {
        if elements.is_empty() {
            return Ok(());
        }
        for element in elements {
            self.wanted.published.remove(&Packed::new(element));
        }
        match self.backend.change(&[], elements) {
            Err(e) if e.is_damage() => {
                let present = self.backend.elements()?;
                let rest: Elements = elements.iter().filter(|e| present.contains(e)).cloned().collect();
                self.backend.change(&[], &rest)
            }
            other => other,
        }
    }

    /// The kernel's elements that lead into `subnets`.
    pub(crate) fn elements_into(&mut self, subnets: Subnets) -> Result<HashSet<Port>, FirewallError> {
        let mut present = self.backend.elements()?;
        present.retain(|port| leads_into(subnets, port));
        Ok(present)
    }

    /// Makes the elements that lead into `subnets` exactly `wanted`.
    pub(crate) fn reconcile(
        &mut self,
        subnets: &[Subnets],
        wanted: &Elements,
    ) -> Result<Reconciled, FirewallError> {
        let leads_into = |e: &Port| subnets.iter().any(|subnets| leads_into(*subnets, e));
        let present = self.backend.elements()?;
        let wanted_set: HashSet<&Port> = wanted.iter().collect();
        let keys: HashSet<(&str, &[u8])> = wanted.iter().map(|(m, e)| (*m, &e.key[..])).collect();
        // Also a port that leads elsewhere, where it is wanted.
        let stray =
            |e: &&Port| !wanted_set.contains(e) && (leads_into(e) || keys.contains(&(e.0, &e.1.key[..])));
        let strays: Elements = present.iter().filter(stray).cloned().collect();
        let missing: Elements = wanted.iter().filter(|e| !present.contains(e)).cloned().collect();
        self.backend.change(&missing, &strays)?;
        self.wanted.published.retain(|packed| !packed.unpack().is_some_and(|p| leads_into(&p)));
        self.wanted.published.extend(wanted.iter().map(Packed::new));
        Ok(Reconciled { added: missing.len(), removed: strays.len() })
    }

    /// Whether the kernel's copy has all it should have.
    pub(crate) fn is_intact(&mut self) -> Result<bool, FirewallError> {
        if self.wanted.bridges.is_empty() || self.deferred {
            return Ok(true);
        }
        if !self.backend.rules_are_intact(&self.wanted)? {
            return Ok(false);
        }
        let present: HashSet<Packed> = self.backend.elements()?.iter().map(Packed::new).collect();
        Ok(self.wanted.published.is_subset(&present))
    }

    /// Puts rules and elements back, whatever of them is missing.
    pub(crate) fn restore(&mut self) -> Result<(), FirewallError> {
        if self.wanted.bridges.is_empty() {
            return Ok(());
        }
        let elements = self.wanted.elements();
        self.backend.rebuild(&self.wanted, &elements)?;
        self.written = true;
        Ok(())
    }

    /// Deletes everything.
    pub(crate) fn destroy(&mut self) -> Result<(), FirewallError> {
        self.wanted = Wanted::default();
        self.written = false;
        self.backend.destroy()
    }
}

fn leads_into(subnets: Subnets, (store, element): &Port) -> bool {
    stores::target(store, element).is_some_and(|address: IpAddr| subnets.contain(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_packed_and_unpacked() {
        for (n, store) in STORES.iter().enumerate() {
            let value = if n < 4 { vec![7; 8] } else { Vec::new() };
            let port = (store.name, Element { key: vec![n as u8; 8], value });
            assert_eq!(Packed::new(&port).unpack(), Some(port));
        }
    }
}
