//! Choosing subnets for networks whose user names none: the lowest free one of the pools, wherever the host has no route.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::error::NetworkError;
use crate::ipam::bounds;
use crate::stack::NetworkStack;

/// A range that subnets are cut from, of either family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressPool {
    /// The whole.
    pub base: IpNet,
    /// Prefix length of one subnet.
    pub size: u8,
}

impl AddressPool {
    /// Docker's pools for IPv4: 172.17.0.0/16 to 172.31.0.0/16, then 192.168.0.0/16 in /20 steps.
    pub fn defaults() -> Vec<Self> {
        let pool = |a, b, prefix, size| {
            Ipv4Net::new([a, b, 0, 0].into(), prefix).ok().map(|base| Self { base: base.into(), size })
        };
        let wide = (17..=31).filter_map(|n| pool(172, n, 16, 16));
        wide.chain(pool(192, 168, 16, 20)).collect()
    }

    /// A pool for IPv6 of /64 subnets, with a prefix of the unique local addresses made of 40 bits (RFC 4193 section 3).
    pub fn unique_local(id: [u8; 5]) -> Self {
        let [a, b, c, d, e] = id;
        let words = [0xfd00 | u16::from(a), u16::from_be_bytes([b, c]), u16::from_be_bytes([d, e])];
        let address = Ipv6Addr::new(words[0], words[1], words[2], 0, 0, 0, 0, 0);
        Self { base: Ipv6Net::new_assert(address, 48).into(), size: 64 }
    }
}

/// The lowest free subnet of the pools of one family; the pools come in the order of their addresses, as with Docker.
pub(crate) fn choose(pools: &[AddressPool], ipv6: bool, taken: &[IpNet]) -> Option<IpNet> {
    let is_wanted = |net: &IpNet| matches!(net, IpNet::V6(_)) == ipv6;
    let mut taken: Vec<(u128, u128)> = taken.iter().copied().filter(is_wanted).map(bounds).collect();
    taken.sort_unstable();
    // With what is inside of others left out, both bounds are in order.
    let mut disjoint: Vec<(u128, u128)> = Vec::with_capacity(taken.len());
    for (first, last) in taken {
        match disjoint.last_mut() {
            Some(former) if first <= former.1 => former.1 = former.1.max(last),
            _ => disjoint.push((first, last)),
        }
    }
    let mut pools: Vec<&AddressPool> = pools.iter().filter(|pool| is_wanted(&pool.base)).collect();
    pools.sort_by_key(|pool| bounds(pool.base));
    pools.into_iter().find_map(|pool| choose_from(pool, &disjoint))
}

fn choose_from(pool: &AddressPool, taken: &[(u128, u128)]) -> Option<IpNet> {
    let (first, last) = bounds(pool.base);
    let hosts = match pool.base {
        IpNet::V4(_) => u32::MAX.checked_shr(pool.size.into()).unwrap_or(0).into(),
        IpNet::V6(_) => u128::MAX.checked_shr(pool.size.into()).unwrap_or(0),
    };
    let mut candidate = first;
    while candidate | hosts <= last {
        // They are disjoint: only the first one that does not end before can be in the way.
        match taken.get(taken.partition_point(|t| t.1 < candidate)) {
            Some(next) if next.0 <= candidate | hosts => candidate = (next.1 | hosts).checked_add(1)?,
            _ => return subnet(pool, candidate),
        }
    }
    None
}

fn subnet(pool: &AddressPool, first: u128) -> Option<IpNet> {
    let address: IpAddr = match pool.base {
        IpNet::V4(_) => Ipv4Addr::from_bits(u32::try_from(first).ok()?).into(),
        IpNet::V6(_) => Ipv6Addr::from_bits(first).into(),
    };
    IpNet::new(address, pool.size).ok()
}

/// Whether two subnets have an address in common.
pub(crate) fn overlap(a: IpNet, b: IpNet) -> bool {
    a.contains(&b) || b.contains(&a)
}

/// Whether a route reserves its addresses. Default routes do not, nor their halves, by which VPNs override them (OpenVPN's
/// `redirect-gateway def1`; 2000::/3 is all of today's IPv6), nor what is only valid on one link.
pub(crate) fn reserves(net: IpNet) -> bool {
    match net {
        IpNet::V4(net) => net.prefix_len() > 1 && !net.addr().is_link_local() && !net.addr().is_multicast(),
        IpNet::V6(net) => {
            net.prefix_len() > 3 && !net.addr().is_unicast_link_local() && !net.addr().is_multicast()
        }
    }
}

impl NetworkStack {
    /// The lowest free subnet of the pools: none of `taken`, and none that a route of the host leads to at this moment.
    ///
    /// # Errors
    /// [`NetworkError::PoolsExhausted`], and when netlink refuses.
    pub fn choose_subnet(
        &self,
        pools: &[AddressPool],
        ipv6: bool,
        taken: &[IpNet],
    ) -> Result<IpNet, NetworkError> {
        let mut taken = taken.to_vec();
        taken.extend(self.host_routes()?);
        choose(pools, ipv6, &taken).ok_or(NetworkError::PoolsExhausted)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn pool(base: &str, size: u8) -> AddressPool {
        AddressPool { base: net(base), size }
    }

    fn chosen(pools: &[AddressPool], taken: &[&str]) -> Option<String> {
        let taken: Vec<IpNet> = taken.iter().map(|t| net(t)).collect();
        let ipv6 = pools.iter().any(|p| matches!(p.base, IpNet::V6(_)));
        choose(pools, ipv6, &taken).map(|n| n.to_string())
    }

    #[test]
    fn gaps_are_filled_and_routes_avoided() {
        let defaults = AddressPool::defaults();
        assert_eq!(chosen(&defaults, &[]).as_deref(), Some("172.17.0.0/16"));
        assert_eq!(chosen(&defaults, &["172.17.3.0/24"]).as_deref(), Some("172.18.0.0/16"));
        assert_eq!(chosen(&defaults, &["172.16.0.0/12"]).as_deref(), Some("192.168.0.0/20"));
        assert_eq!(
            chosen(&defaults, &["172.16.0.0/12", "192.168.16.0/24", "192.168.0.0/28"]).as_deref(),
            Some("192.168.32.0/20")
        );
        assert_eq!(chosen(&defaults, &["0.0.0.0/0"]), None);
        let small = [pool("10.0.0.0/29", 31)];
        assert_eq!(
            chosen(&small, &["10.0.0.0/32", "10.0.0.3/32", "10.0.0.4/31"]).as_deref(),
            Some("10.0.0.6/31")
        );
        assert_eq!(chosen(&small, &["10.0.0.0/31", "10.0.0.3/32", "10.0.0.5/32", "10.0.0.7/32"]), None);
        assert_eq!(
            chosen(&[pool("10.1.0.0/24", 32), pool("10.0.0.9/32", 32)], &[]).as_deref(),
            Some("10.0.0.9/32")
        );
    }

    #[test]
    fn ipv6_and_the_ends_of_the_address_space() {
        let local = AddressPool::unique_local([0x02, 0x25, 0xcc, 0x75, 0x8b]);
        assert_eq!(local.base.to_string(), "fd02:25cc:758b::/48");
        assert_eq!(chosen(&[local], &["fd02:25cc:758b::/64"]).as_deref(), Some("fd02:25cc:758b:1::/64"));
        assert_eq!(chosen(&[local], &["fd02:25cc:758b:0:1::/80"]).as_deref(), Some("fd02:25cc:758b:1::/64"));
        assert_eq!(chosen(&[local], &["fd00::/8"]), None);
        assert_eq!(chosen(&[pool("::/0", 0)], &[]).as_deref(), Some("::/0"));
        assert_eq!(chosen(&[pool("::/0", 0)], &["ffff::/128"]), None);
        let end = pool("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/127", 128);
        assert_eq!(
            chosen(&[end], &["ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128"]).as_deref(),
            Some("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/128")
        );
        assert_eq!(chosen(&[end], &[&end.base.to_string()]), None);
    }

    /// Against trying one subnet after the other.
    #[test]
    fn it_is_the_lowest_that_is_free() {
        let mut seed = 7_u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        for _ in 0..500 {
            let size = 24 + u8::try_from(random(8)).unwrap();
            let base = Ipv4Net::new([10, 0, 0, 0].into(), 22).unwrap();
            let taken: Vec<IpNet> = (0..random(12))
                .map(|_| {
                    let address = Ipv4Addr::new(10, 0, random(5) as u8, random(256) as u8);
                    Ipv4Net::new(address, 23 + random(10) as u8).unwrap().trunc().into()
                })
                .collect();
            let expected = base.subnets(size).unwrap().map(IpNet::V4);
            let expected = expected.into_iter().find(|s| !taken.iter().any(|t| overlap(*s, *t)));
            let pools = [AddressPool { base: base.into(), size }];
            assert_eq!(choose(&pools, false, &taken), expected, "{size} {taken:?}");
        }
    }

    #[test]
    fn thousands_are_no_matter() {
        let pools = [pool("10.0.0.0/8", 24), pool("fd00::/8", 64)];
        let mut taken: Vec<IpNet> = Vec::new();
        let begin = Instant::now();
        for _ in 0..1000 {
            taken.extend(choose(&pools, false, &taken));
            taken.extend(choose(&pools, true, &taken));
        }
        assert_eq!(taken[1998].to_string(), "10.3.231.0/24");
        assert_eq!(taken[1999].to_string(), "fd00:0:0:3e7::/64");
        assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    }

    #[test]
    fn default_routes_and_links_reserve_nothing() {
        for nothing in ["0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1", "::/0", "2000::/3", "fe80::/64", "ff00::/8"]
        {
            assert!(!reserves(net(nothing)), "{nothing}");
        }
        assert!(reserves(net("10.0.0.0/8")) && reserves(net("fd00::/8")) && reserves(net("2001:db8::/32")));
    }
}
