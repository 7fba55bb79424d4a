//! The names of networks and what each container sees of them.

use std::collections::HashMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// One endpoint as the others on its network know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Name in reverse answers, `NAME` of `NAME.NETWORK`.
    pub name: String,
    /// Every name it answers to on this network: its own, aliases, its short id. Case does not matter.
    pub names: Vec<String>,
    /// IPv4 and IPv6.
    pub addresses: Vec<IpAddr>,
}

/// What one network's containers know of each other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its name, the last part of `NAME.NETWORK`.
    pub name: String,
    pub hosts: Vec<Host>,
}

/// What is particular to one container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Ids of its networks; the first that knows a name wins.
    pub networks: Vec<String>,
    /// `--link` on a network: names only this container uses, and what they stand for.
    pub links: Vec<(String, String)>,
    /// Servers for every other name; none on networks without a way out.
    pub servers: Vec<IpAddr>,
    /// Those of the host's, as they are when something is asked, come in place of `servers`.
    #[serde(default)]
    pub host_servers: bool,
    /// The container was given `ndots` of at least one: names without a dot are not asked of others, the
    /// container's resolver adds its search domains first.
    pub ndots: bool,
}

/// A network prepared for looking up.
#[derive(Debug, Default)]
struct Index {
    /// In lower case.
    name: String,
    forward: HashMap<String, Vec<IpAddr>>,
    reverse: HashMap<IpAddr, String>,
}

impl Index {
    fn new(network: &Network) -> Self {
        let mut index = Self { name: network.name.to_ascii_lowercase(), ..Self::default() };
        for host in &network.hosts {
            for name in &host.names {
                let known = index.forward.entry(name.to_ascii_lowercase()).or_default();
                known.extend(
                    host.addresses.iter().filter(|a| !known.contains(a)).copied().collect::<Vec<_>>(),
                );
            }
            for address in &host.addresses {
                index.reverse.insert(*address, format!("{}.{}", host.name, network.name));
            }
        }
        index
    }
}

/// All networks, by id.
#[derive(Debug, Default)]
pub struct Table {
    networks: HashMap<String, Index>,
}

impl Table {
    /// Sets what a network has; replaces what was known of it.
    pub fn set(&mut self, id: &str, network: &Network) {
        self.networks.insert(id.to_owned(), Index::new(network));
    }

    /// Forgets a network.
    pub fn remove(&mut self, id: &str) {
        self.networks.remove(id);
    }

    /// Forgets all networks but some.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.networks.retain(|id, _| keep(id));
    }

    /// The addresses of a name as `view` sees it; `None` when no network of its knows the name.
    pub fn addresses(&self, view: &View, name: &str) -> Option<&[IpAddr]> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let link = view.links.iter().find(|(alias, _)| alias.eq_ignore_ascii_case(&name));
        let name = link.map_or(name, |(_, target)| target.to_ascii_lowercase());
        let networks = || view.networks.iter().filter_map(|id| self.networks.get(id));
        if let Some(found) = networks().find_map(|network| network.forward.get(&name)) {
            return Some(found);
        }
        networks().find_map(|network| {
            let host = name.strip_suffix(&network.name)?.strip_suffix('.')?;
            network.forward.get(host).map(Vec::as_slice)
        })
    }

    /// The name behind an address, `NAME.NETWORK`, if one of the view's networks has it.
    pub fn name(&self, view: &View, address: IpAddr) -> Option<&str> {
        let mut networks = view.networks.iter().filter_map(|id| self.networks.get(id));
        networks.find_map(|network| network.reverse.get(&address)).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, aliases: &[&str], addresses: &[&str]) -> Host {
        let names = std::iter::once(&name).chain(aliases).map(|n| (*n).to_owned()).collect();
        let addresses = addresses.iter().map(|a| a.parse().unwrap()).collect();
        Host { name: name.to_owned(), names, addresses }
    }

    #[test]
    fn names_are_those_of_ones_own_networks() {
        let mut table = Table::default();
        let hosts = vec![
            host("web", &["www", "0123456789ab"], &["10.1.0.2", "fd00::2"]),
            host("Other", &["www"], &["10.1.0.3"]),
        ];
        table.set("a", &Network { name: "Front".into(), hosts });
        table.set("b", &Network { name: "back".into(), hosts: vec![host("web", &[], &["10.2.0.2"])] });
        let view = View {
            networks: vec!["b".into(), "a".into()],
            links: vec![("db".into(), "other".into())],
            ..View::default()
        };
        let ask = |view: &View, name: &str| -> Vec<String> {
            table.addresses(view, name).unwrap_or_default().iter().map(ToString::to_string).collect()
        };
        assert_eq!(ask(&view, "web"), ["10.2.0.2"], "the first network wins");
        assert_eq!(ask(&view, "WEB.front."), ["10.1.0.2", "fd00::2"]);
        assert_eq!(ask(&view, "www"), ["10.1.0.2", "fd00::2", "10.1.0.3"]);
        assert_eq!(ask(&view, "db"), ["10.1.0.3"]);
        assert_eq!(ask(&view, "web.nowhere"), [""; 0]);
        let back = View { networks: vec!["b".into()], ..View::default() };
        assert_eq!(ask(&back, "www"), [""; 0]);
        assert_eq!(table.name(&view, "10.1.0.3".parse().unwrap()), Some("Other.Front"));
        assert_eq!(table.name(&back, "10.1.0.3".parse().unwrap()), None);
        table.retain(|id| id == "b");
        assert!(table.addresses(&view, "www").is_none());
    }
}
