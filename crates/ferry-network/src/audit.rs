//! Comparing what the kernel has of a bridge's endpoints with what the engine knows of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ferry_sys::netlink::route;

use crate::bridge::{BridgeNetwork, kernel, refused};
use crate::error::NetworkError;
use crate::firewall::Elements;
use crate::firewall::stores;
use crate::sandbox::is_veth_name;
use crate::worker::Job;

/// What is on the host and belongs to no endpoint, and what of an endpoint's is missing.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Strays {
    /// Published ports that lead to an address nobody has; how many per address.
    ports: BTreeMap<IpAddr, usize>,
    /// Addresses of endpoints some of whose published ports are missing.
    missing: BTreeSet<IpAddr>,
    /// Veths on the bridge that are nobody's, by interface index.
    veths: BTreeMap<u32, String>,
}

impl Strays {
    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.ports.is_empty() && self.missing.is_empty() && self.veths.is_empty()
    }

    /// What both have: seen twice it is no start or end of a container under way.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self {
            ports: self
                .ports
                .iter()
                .filter(|(a, _)| other.ports.contains_key(a))
                .map(|(a, n)| (*a, *n))
                .collect(),
            missing: self.missing.intersection(&other.missing).copied().collect(),
            veths: self
                .veths
                .iter()
                .filter(|(i, _)| other.veths.contains_key(i))
                .map(|(i, n)| (*i, n.clone()))
                .collect(),
        }
    }

    /// A sentence for each.
    pub fn describe(&self) -> Vec<String> {
        let ports =
            self.ports.iter().map(|(a, n)| format!("{n} published ports lead to {a}, which nobody has"));
        let missing =
            self.missing.iter().map(|a| format!("published ports of {a} are missing in the firewall"));
        let veths = self.veths.values().map(|name| format!("the link {name} belongs to no container"));
        ports.chain(missing).chain(veths).collect()
    }
}

impl BridgeNetwork {
    /// Looks at the kernel's copy of what this network should have there.
    ///
    /// # Errors
    /// When netlink refuses.
    pub fn audit(&self) -> Result<Strays, NetworkError> {
        let fail = |action| kernel(action, &self.config().device);
        let mut strays = Strays::default();
        let (wanted, known) = self.expected();
        let present = self
            .stack
            .firewall()
            .elements_into(self.subnets())
            .map_err(refused("list ports of", &self.config().device))?;
        for (map, element) in present.iter().filter(|e| !wanted.contains(e)) {
            if let Some(address) = stores::target(map, element) {
                *strays.ports.entry(address).or_default() += 1;
            }
        }
        let missing = wanted.iter().filter(|e| !present.contains(e));
        strays.missing = missing.filter_map(|(map, element)| stores::target(map, element)).collect();
        let links = route::links(&mut self.stack.route()).map_err(fail("list links of"))?;
        let ours =
            |l: &&route::Link| l.master == Some(self.index()) && l.kind == "veth" && is_veth_name(&l.name);
        let ready = self.ready();
        strays.veths = links
            .iter()
            .filter(ours)
            .filter(|l| !known.contains(&l.index) && !ready.contains(&l.index))
            .map(|l| (l.index, l.name.clone()))
            .collect();
        Ok(strays)
    }

    /// Removes what is nobody's and puts back what is missing.
    ///
    /// # Errors
    /// When netlink refuses.
    pub fn mend(&self, strays: &Strays) -> Result<(), NetworkError> {
        if !strays.ports.is_empty() || !strays.missing.is_empty() {
            let (wanted, _) = self.expected();
            let changed = self.stack.firewall().reconcile(&[self.subnets()], &wanted);
            changed.map_err(refused("publish ports on", &self.config().device))?;
        }
        for (index, name) in &strays.veths {
            self.stack.worker.queue(Job::ReapVeth { index: *index, name: name.clone() });
        }
        if !strays.veths.is_empty() {
            self.flush();
        }
        Ok(())
    }

    /// The firewall elements and the host interfaces of all endpoints.
    fn expected(&self) -> (Elements, Vec<u32>) {
        let state = self.state();
        let wanted = state.endpoints.values().flat_map(|r| self.elements(r)).collect();
        (wanted, state.endpoints.values().map(|r| r.host_ifindex).collect())
    }
}
