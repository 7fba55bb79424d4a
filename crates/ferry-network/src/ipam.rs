//! Addresses of one subnet: the lowest free one first. Pure bookkeeping, the same for both families; what it takes grows
//! with the addresses that are taken, not with the subnet.

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Why an address cannot be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IpamError {
    /// No free address left.
    Exhausted,
    /// The fixed address is in use, or is one that nobody may have.
    Taken,
    /// The fixed address is not of the subnet.
    Outside,
}

/// An address of one family as a number.
pub(crate) trait Number: Copy {
    fn number(self) -> u128;
    fn from_number(number: u128) -> Self;
}

impl Number for Ipv4Addr {
    fn number(self) -> u128 {
        self.to_bits().into()
    }

    fn from_number(number: u128) -> Self {
        // Always one that began as an IPv4 address.
        Self::from_bits(u32::try_from(number).unwrap_or(u32::MAX))
    }
}

impl Number for Ipv6Addr {
    fn number(self) -> u128 {
        self.to_bits()
    }

    fn from_number(number: u128) -> Self {
        Self::from_bits(number)
    }
}

/// First and last address of a subnet.
pub(crate) fn bounds(net: IpNet) -> (u128, u128) {
    match net {
        IpNet::V4(net) => (net.network().number(), net.broadcast().number()),
        IpNet::V6(net) => (net.network().number(), net.broadcast().number()),
    }
}

/// The addresses of a subnet.
#[derive(Debug)]
pub(crate) struct Ipam<A> {
    subnet: (u128, u128),
    range: (u128, u128),
    /// Network and broadcast address, which nobody may have.
    edges: [Option<u128>; 2],
    taken: BTreeSet<u128>,
    /// Every address of the range below this one is taken.
    hint: u128,
    family: PhantomData<A>,
}

/// The addresses of a subnet that nobody may have: network and broadcast address, but not those of a /31 and a /32
/// (RFC 3021); with IPv6 the first one, the routers' anycast address (RFC 4291 section 2.6.1).
fn edges(net: IpNet) -> [Option<u128>; 2] {
    let (first, last) = bounds(net);
    match net {
        IpNet::V4(net) if net.prefix_len() >= 31 => [None, None],
        IpNet::V4(_) => [Some(first), Some(last)],
        IpNet::V6(_) => [Some(first), None],
    }
}

/// The lowest address of `range` that a machine may have in `subnet`.
pub(crate) fn first_host(subnet: IpNet, range: Option<IpNet>) -> Option<IpAddr> {
    let (first, last) = bounds(range.unwrap_or(subnet));
    let free = |n: &u128| !edges(subnet).contains(&Some(*n));
    let number =
        [Some(first), first.checked_add(1)].into_iter().flatten().find(free).filter(|n| *n <= last)?;
    Some(match subnet {
        IpNet::V4(_) => Ipv4Addr::from_number(number).into(),
        IpNet::V6(_) => Ipv6Addr::from_number(number).into(),
    })
}

impl<A: Number> Ipam<A> {
    /// Addresses of `subnet`, taken from `range` unless fixed ones are asked for.
    pub(crate) fn new(subnet: IpNet, range: Option<IpNet>) -> Self {
        let range = bounds(range.unwrap_or(subnet));
        Self {
            subnet: bounds(subnet),
            range,
            edges: edges(subnet),
            taken: BTreeSet::new(),
            hint: range.0,
            family: PhantomData,
        }
    }

    /// Takes the lowest free address of the range.
    pub(crate) fn allocate(&mut self) -> Result<A, IpamError> {
        let mut candidate = self.hint;
        while candidate <= self.range.1 {
            if !self.edges.contains(&Some(candidate)) && self.taken.insert(candidate) {
                self.hint = candidate.saturating_add(1);
                return Ok(A::from_number(candidate));
            }
            let Some(next) = candidate.checked_add(1) else { break };
            candidate = next;
        }
        self.hint = candidate;
        Err(IpamError::Exhausted)
    }

    /// Takes a fixed address.
    pub(crate) fn take(&mut self, address: A) -> Result<(), IpamError> {
        let n = address.number();
        if n < self.subnet.0 || n > self.subnet.1 {
            return Err(IpamError::Outside);
        }
        match !self.edges.contains(&Some(n)) && self.taken.insert(n) {
            true => Ok(()),
            false => Err(IpamError::Taken),
        }
    }

    /// Gives an address back.
    pub(crate) fn free(&mut self, address: A) {
        let n = address.number();
        if self.taken.remove(&n) && (self.range.0..=self.range.1).contains(&n) {
            self.hint = self.hint.min(n);
        }
    }
}

/// The MAC Docker used to derive from an address: `02:42:` and its four bytes, with IPv6 its last four. Whoever has the
/// address next has the same, so that neighbours need not learn it anew.
pub(crate) fn mac_of(ipv4: Option<Ipv4Addr>, ipv6: Option<Ipv6Addr>) -> [u8; 6] {
    let [a, b, c, d] = match (ipv4, ipv6) {
        (Some(v4), _) => v4.octets(),
        (None, Some(v6)) => (v6.to_bits() as u32).to_be_bytes(),
        (None, None) => [0; 4],
    };
    [0x02, 0x42, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ipam(subnet: &str, gateway: &str) -> Ipam<Ipv4Addr> {
        let mut ipam = Ipam::new(subnet.parse().unwrap(), None);
        ipam.take(gateway.parse().unwrap()).unwrap();
        ipam
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
        for taken in [[10, 0, 0, 2], [10, 0, 0, 1], [10, 0, 0, 0], [10, 0, 0, 255]] {
            assert_eq!(ipam.take(taken.into()), Err(IpamError::Taken));
        }
        assert_eq!(ipam.take([10, 0, 1, 2].into()), Err(IpamError::Outside));
        assert_eq!(ipam.allocate(), Ok(Ipv4Addr::new(10, 0, 0, 3)));
    }

    #[test]
    fn a_range_confines_what_is_chosen_not_what_is_fixed() {
        let mut ipam: Ipam<Ipv4Addr> =
            Ipam::new("10.0.0.0/24".parse().unwrap(), "10.0.0.128/30".parse().ok());
        assert_eq!(ipam.allocate(), Ok(Ipv4Addr::new(10, 0, 0, 128)));
        assert_eq!(ipam.take(Ipv4Addr::new(10, 0, 0, 9)), Ok(()));
        ipam.free(Ipv4Addr::new(10, 0, 0, 9));
        let rest: Vec<_> = std::iter::from_fn(|| ipam.allocate().ok()).map(|a| a.octets()[3]).collect();
        assert_eq!(rest, [129, 130, 131]);
    }

    #[test]
    fn the_last_network_of_all_does_not_wrap() {
        let mut v4 = ipam("255.255.255.252/30", "255.255.255.253");
        assert_eq!(v4.allocate(), Ok(Ipv4Addr::new(255, 255, 255, 254)));
        assert_eq!(v4.allocate(), Err(IpamError::Exhausted));
        let end = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/127".parse().unwrap();
        let mut v6: Ipam<Ipv6Addr> = Ipam::new(end, None);
        assert_eq!(v6.allocate().map(Ipv6Addr::to_bits), Ok(u128::MAX));
        assert_eq!((v6.allocate(), v6.allocate()), (Err(IpamError::Exhausted), Err(IpamError::Exhausted)));
    }

    #[test]
    fn ipv6_has_no_broadcast_address_and_no_size_that_is_too_large() {
        for subnet in ["::/0", "fd00::/8", "fd00::/64", "fd00::/126"] {
            let net: IpNet = subnet.parse().unwrap();
            let mut ipam: Ipam<Ipv6Addr> = Ipam::new(net, None);
            let (first, last) = bounds(net);
            assert_eq!(ipam.take(Ipv6Addr::from_bits(first)), Err(IpamError::Taken), "{subnet}");
            assert_eq!(ipam.take(Ipv6Addr::from_bits(last)), Ok(()), "{subnet}");
            assert_eq!(ipam.allocate().map(Ipv6Addr::to_bits), Ok(first + 1), "{subnet}");
            assert_eq!(ipam.allocate().map(Ipv6Addr::to_bits), Ok(first + 2), "{subnet}");
        }
        let mut one: Ipam<Ipv6Addr> = Ipam::new("fd00::7/128".parse().unwrap(), None);
        assert_eq!(one.allocate(), Err(IpamError::Exhausted));
    }

    /// Whatever is taken and freed in whatever order: what comes is the lowest that is free.
    #[test]
    fn it_is_always_the_lowest_one() {
        let net: IpNet = "fd00::/120".parse().unwrap();
        let mut ipam: Ipam<Ipv6Addr> = Ipam::new(net, None);
        let base = bounds(net).0;
        let mut held: BTreeSet<u128> = BTreeSet::new();
        let mut seed = 1_u64;
        for _ in 0..5000 {
            // Knuth's MMIX generator
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let some = base + u128::from(seed >> 56);
            match seed >> 32 & 3 {
                0 => {
                    held.remove(&some);
                    ipam.free(Ipv6Addr::from_bits(some));
                }
                1 => {
                    let taken = ipam.take(Ipv6Addr::from_bits(some));
                    assert_eq!(taken.is_ok(), some != base && held.insert(some));
                }
                _ => {
                    let lowest = (base + 1..=base + 255).find(|n| !held.contains(n));
                    assert_eq!(ipam.allocate().ok().map(Ipv6Addr::to_bits), lowest);
                    held.extend(lowest);
                }
            }
        }
    }

    #[test]
    fn the_first_host_is_no_edge() {
        let first = |net: &str, range: Option<&str>| {
            first_host(net.parse().unwrap(), range.map(|r| r.parse().unwrap())).map(|a| a.to_string())
        };
        assert_eq!(first("10.0.0.0/24", None).as_deref(), Some("10.0.0.1"));
        assert_eq!(first("10.0.0.0/24", Some("10.0.0.128/25")).as_deref(), Some("10.0.0.128"));
        assert_eq!(first("10.0.0.0/31", None).as_deref(), Some("10.0.0.0"));
        assert_eq!(first("fd00::/64", None).as_deref(), Some("fd00::1"));
        assert_eq!(first("fd00::/128", None), None);
    }

    #[test]
    fn mac_follows_address() {
        let v6 = Some("fd00::12:3456".parse().unwrap());
        assert_eq!(mac_of(Some([172, 17, 0, 2].into()), v6), [0x02, 0x42, 0xac, 0x11, 0, 2]);
        assert_eq!(mac_of(None, v6), [0x02, 0x42, 0, 0x12, 0x34, 0x56]);
    }
}
