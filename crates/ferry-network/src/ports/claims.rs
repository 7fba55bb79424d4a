//! Which host ports the engine's own endpoints have.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use ferry_types::EndpointId;
use ferry_types::net::{Protocol, PublishedPort};

/// How long a released port may still be held by the former container's shim.
pub(super) const LINGER: Duration = Duration::from_millis(500);

/// Every port of every endpoint, small: there are ranges of thousands.
#[derive(Debug, Default)]
pub(super) struct Claims {
    taken: BTreeMap<(Protocol, u16, IpAddr), Owner>,
    /// The ephemeral port to try next, per protocol.
    next: HashMap<Protocol, u16>,
    /// Ports released lately: the shim that held their sockets may take a moment to end.
    recent: HashMap<(Protocol, u16), Instant>,
}

/// An endpoint, told from others by the beginning of its random id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Owner(u64);

impl Owner {
    fn new(endpoint: &EndpointId) -> Self {
        let digits = endpoint.as_str().get(..16).unwrap_or_default();
        Self(u64::from_str_radix(digits, 16).unwrap_or_default())
    }
}

/// Whether one socket per address could not be bound to the same port.
fn collide(a: IpAddr, b: IpAddr) -> bool {
    a.is_ipv4() == b.is_ipv4() && (a == b || a.is_unspecified() || b.is_unspecified())
}

impl Claims {
    /// Takes a port on all the addresses, or tells on which of them it is taken.
    pub(super) fn take(
        &mut self,
        endpoint: &EndpointId,
        protocol: Protocol,
        port: u16,
        addresses: &[IpAddr],
    ) -> Result<(), IpAddr> {
        let first = (protocol, port, IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let last = (protocol, port, IpAddr::V6(Ipv6Addr::from(u128::MAX)));
        let of_port = || self.taken.range(first..=last).map(|((_, _, address), _)| *address);
        if let Some(taken) = addresses.iter().find(|a| of_port().any(|b| collide(**a, b))) {
            return Err(*taken);
        }
        let owner = Owner::new(endpoint);
        self.taken.extend(addresses.iter().map(|a| ((protocol, port, *a), owner)));
        Ok(())
    }

    /// Takes what an endpoint is known to have.
    pub(super) fn adopt(&mut self, endpoint: &EndpointId, published: &[PublishedPort]) {
        let owner = Owner::new(endpoint);
        self.taken.extend(published.iter().filter(is_claimed).map(|p| (key(p), owner)));
    }

    /// Forgets what an endpoint has of these.
    pub(super) fn release(&mut self, endpoint: &EndpointId, published: &[PublishedPort]) {
        let owner = Owner::new(endpoint);
        for p in published {
            if self.taken.get(&key(p)) == Some(&owner) {
                self.taken.remove(&key(p));
            }
        }
    }

    /// Remembers that sockets on these ports may be closed a little later.
    pub(super) fn linger(&mut self, published: &[PublishedPort]) {
        let now = Instant::now();
        self.recent.retain(|_, at| at.elapsed() < LINGER);
        self.recent.extend(published.iter().map(|p| ((p.protocol, p.host_port), now)));
    }

    /// Whether the port was an endpoint's until a moment ago.
    pub(super) fn lingers(&self, protocol: Protocol, port: u16) -> bool {
        self.recent.get(&(protocol, port)).is_some_and(|at| at.elapsed() < LINGER)
    }

    /// The next ephemeral port to try.
    pub(super) fn next_ephemeral(&mut self, protocol: Protocol, (first, last): (u16, u16)) -> u16 {
        let next = self.next.entry(protocol).or_insert(first);
        let port = *next;
        *next = if port >= last { first } else { port + 1 };
        port
    }

    /// Number of ports in use, over all addresses.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.taken.len()
    }
}

fn key(p: &PublishedPort) -> (Protocol, u16, IpAddr) {
    (p.protocol, p.host_port, p.host_ip)
}

/// A port of a routed network is no port of the host.
fn is_claimed(p: &&PublishedPort) -> bool {
    p.host_port != 0
}
