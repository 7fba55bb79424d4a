//! Addresses of one subnet: the lowest free one first. Pure bookkeeping.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// Why an address cannot be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IpamError {
    /// No free address left.
    Exhausted,
    /// The fixed address is in use.
    Taken,
    /// The fixed address is not one of the subnet's host addresses.
    Outside,
}

/// The addresses of a subnet.
#[derive(Debug)]
pub(crate) struct Ipam {
    subnet: Ipv4Net,
    range: Ipv4Net,
    taken: BTreeSet<u32>,
    /// Every address of the range below this one is taken.
    hint: u32,
}

impl Ipam {
    /// Addresses of `subnet`, taken from `range` unless fixed ones are asked for; the gateway, if there is one, is taken.
    pub(crate) fn new(subnet: Ipv4Net, range: Ipv4Net, gateway: Option<Ipv4Addr>) -> Self {
        let hint = u32::from(range.network());
        let taken = gateway.into_iter().map(u32::from).collect();
        Self { subnet, range, taken, hint }
    }

    fn is_host_address(&self, address: u32) -> bool {
        // RFC 3021: both addresses of a /31 are hosts'.
        let all = self.subnet.prefix_len() >= 31;
        let edge =
            address == u32::from(self.subnet.network()) || address == u32::from(self.subnet.broadcast());
        all || !edge
    }

    /// Takes the lowest free address of the range.
    pub(crate) fn allocate(&mut self) -> Result<Ipv4Addr, IpamError> {
        let last = u32::from(self.range.broadcast());
        let mut candidate = self.hint;
        while candidate <= last {
            if self.is_host_address(candidate) && self.taken.insert(candidate) {
                self.hint = candidate.saturating_add(1);
                return Ok(candidate.into());
            }
            let Some(next) = candidate.checked_add(1) else { break };
            candidate = next;
        }
        self.hint = candidate;
        Err(IpamError::Exhausted)
    }

    /// Takes a fixed address.
    pub(crate) fn take(&mut self, address: Ipv4Addr) -> Result<(), IpamError> {
        if !self.subnet.contains(&address) || !self.is_host_address(address.into()) {
            return Err(IpamError::Outside);
        }
        if self.taken.insert(address.into()) { Ok(()) } else { Err(IpamError::Taken) }
    }

    /// Gives an address back.
    pub(crate) fn free(&mut self, address: Ipv4Addr) {
        let n = u32::from(address);
        if self.taken.remove(&n) && self.range.contains(&address) {
            self.hint = self.hint.min(n);
        }
    }
}

/// The MAC Docker derives from an address: `02:42:` and its four bytes.
pub(crate) fn mac_of(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x02, 0x42, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ipam(subnet: &str, gateway: &str) -> Ipam {
        let subnet: Ipv4Net = subnet.parse().unwrap();
        Ipam::new(subnet, subnet, gateway.parse().ok())
    }

    #[test]
    fn lowest_free_address_comes_first_and_edges_never() {
        let mut ipam = ipam("10.0.0.0/29", "10.0.0.1");
        let all: Vec<_> = std::iter::from_fn(|| ipam.allocate().ok()).map(|a| a.octets()[3]).collect();
        assert_eq!(all, [2, 3, 4, 5, 6]);
        assert_eq!(ipam.allocate(), Err(IpamError::Exhausted));
        for a in ["10.0.0.5", "10.0.0.3"] {
            ipam.free(a.parse().unwrap());
        }
        assert_eq!(ipam.allocate(), Ok(Ipv4Addr::new(10, 0, 0, 3)));
        assert_eq!(ipam.allocate(), Ok(Ipv4Addr::new(10, 0, 0, 5)));
        assert_eq!(ipam.allocate(), Err(IpamError::Exhausted));
    }

    #[test]
    fn fixed_addresses() {
        let mut ipam = ipam("10.0.0.0/24", "10.0.0.1");
        assert_eq!(ipam.take(Ipv4Addr::new(10, 0, 0, 2)), Ok(()));
        assert_eq!(ipam.take(Ipv4Addr::new(10, 0, 0, 2)), Err(IpamError::Taken));
        assert_eq!(ipam.take(Ipv4Addr::new(10, 0, 0, 1)), Err(IpamError::Taken));
        for outside in [[10, 0, 1, 2], [10, 0, 0, 0], [10, 0, 0, 255]] {
            assert_eq!(ipam.take(outside.into()), Err(IpamError::Outside));
        }
        assert_eq!(ipam.allocate(), Ok(Ipv4Addr::new(10, 0, 0, 3)));
    }

    #[test]
    fn a_range_confines_what_is_chosen_not_what_is_fixed() {
        let mut ipam = Ipam::new(
            "10.0.0.0/24".parse().unwrap(),
            "10.0.0.128/30".parse().unwrap(),
            Some(Ipv4Addr::new(10, 0, 0, 1)),
        );
        assert_eq!(ipam.allocate(), Ok(Ipv4Addr::new(10, 0, 0, 128)));
        assert_eq!(ipam.take(Ipv4Addr::new(10, 0, 0, 9)), Ok(()));
        ipam.free(Ipv4Addr::new(10, 0, 0, 9));
        let rest: Vec<_> = std::iter::from_fn(|| ipam.allocate().ok()).map(|a| a.octets()[3]).collect();
        assert_eq!(rest, [129, 130, 131]);
    }

    #[test]
    fn the_last_network_of_all_does_not_wrap() {
        let mut ipam = ipam("255.255.255.252/30", "255.255.255.253");
        assert_eq!(ipam.allocate(), Ok(Ipv4Addr::new(255, 255, 255, 254)));
        assert_eq!(ipam.allocate(), Err(IpamError::Exhausted));
    }

    #[test]
    fn mac_follows_address() {
        assert_eq!(mac_of(Ipv4Addr::new(172, 17, 0, 2)), [0x02, 0x42, 0xac, 0x11, 0, 2]);
    }
}
