//! Who has which address on a network, of both families at once.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ferry_types::NetworkId;

use crate::config::{Subnet4, Subnet6};
use crate::endpoint::{EndpointRecord, EndpointRequest};
use crate::error::NetworkError;
use crate::ipam::{Ipam, IpamError, Number};

/// The addresses of one endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) ipv4: Option<Ipv4Addr>,
    pub(crate) ipv6: Option<Ipv6Addr>,
}

impl Pair {
    pub(crate) fn of(record: &EndpointRecord) -> Self {
        Self { ipv4: record.ipv4, ipv6: record.ipv6 }
    }
}

/// An address that was not given. The dynamic ones are the unspecified address of their family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    reason: IpamError,
    address: IpAddr,
}

impl Refusal {
    /// The same for a network's user.
    pub(crate) fn on(self, network: &str, id: &NetworkId) -> NetworkError {
        let Self { reason, address } = self;
        match reason {
            IpamError::Exhausted => NetworkError::AddressesExhausted {
                ipv6: address.is_ipv6(),
                network: network.to_owned(),
                id: id.to_string(),
            },
            IpamError::Taken => NetworkError::AddressInUse(address),
            IpamError::Outside => NetworkError::AddressOutside { address },
        }
    }
}

/// The addresses of a network.
#[derive(Debug)]
pub(crate) struct Addresses {
    /// By subnet, in the order of the network's.
    ipv4: Vec<Ipam<Ipv4Addr>>,
    ipv6: Vec<Ipam<Ipv6Addr>>,
}

impl Addresses {
    /// Those of the subnets but the bridge's and the gateway's.
    pub(crate) fn new(ipv4: &[Subnet4], ipv6: &[Subnet6]) -> Self {
        fn family<A: Number>(
            net: ipnet::IpNet,
            range: Option<ipnet::IpNet>,
            taken: [Option<A>; 2],
        ) -> Ipam<A> {
            let mut ipam = Ipam::new(net, range);
            for address in taken.into_iter().flatten() {
                // Both are the same mostly.
                let _ = ipam.take(address);
            }
            ipam
        }
        Self {
            ipv4: ipv4
                .iter()
                .map(|s| family(s.net.into(), s.range.map(Into::into), [s.bridge, s.gateway]))
                .collect(),
            ipv6: ipv6
                .iter()
                .map(|s| family(s.net.into(), s.range.map(Into::into), [s.bridge, s.gateway]))
                .collect(),
        }
    }

    /// The addresses an endpoint asks for, or the lowest free ones. All or none.
    pub(crate) fn allocate(&mut self, request: &EndpointRequest) -> Result<Pair, Refusal> {
        let ipv4 = allocate(&mut self.ipv4, request.ipv4)?;
        let wanted = if request.without_ipv6 { &mut [] } else { self.ipv6.as_mut_slice() };
        match allocate(wanted, request.ipv6) {
            Ok(ipv6) => Ok(Pair { ipv4, ipv6 }),
            Err(refusal) => {
                self.free(Pair { ipv4, ipv6: None });
                Err(refusal)
            }
        }
    }

    /// Takes one address.
    pub(crate) fn take(&mut self, address: IpAddr) -> Result<(), Refusal> {
        match address {
            IpAddr::V4(v4) => allocate(&mut self.ipv4, Some(v4)).map(drop),
            IpAddr::V6(v6) => allocate(&mut self.ipv6, Some(v6)).map(drop),
        }
    }

    /// Takes the addresses an endpoint had before. All or none.
    pub(crate) fn adopt(&mut self, pair: Pair) -> Result<(), Refusal> {
        if let Some(v4) = pair.ipv4 {
            self.take(v4.into())?;
        }
        if let Some(v6) = pair.ipv6
            && let Err(refusal) = self.take(v6.into())
        {
            self.free(Pair { ipv6: None, ..pair });
            return Err(refusal);
        }
        Ok(())
    }

    /// Gives addresses back.
    pub(crate) fn free(&mut self, pair: Pair) {
        // Those it does not belong to do not have it.
        if let Some(v4) = pair.ipv4 {
            self.ipv4.iter_mut().for_each(|ipam| ipam.free(v4));
        }
        if let Some(v6) = pair.ipv6 {
            self.ipv6.iter_mut().for_each(|ipam| ipam.free(v6));
        }
    }
}

/// One address of a family that the network may lack, of the first subnet that has one.
fn allocate<A: Number + Into<IpAddr>>(
    subnets: &mut [Ipam<A>],
    fixed: Option<A>,
) -> Result<Option<A>, Refusal> {
    let refused = |reason| {
        let address = fixed.unwrap_or_else(|| A::from_number(0)).into();
        Refusal { reason, address }
    };
    let Some(fixed) = fixed else {
        let mut spent = Ok(None);
        for ipam in subnets {
            match ipam.allocate() {
                Ok(address) => return Ok(Some(address)),
                Err(reason) => spent = Err(refused(reason)),
            }
        }
        return spent;
    };
    for ipam in subnets {
        match ipam.take(fixed) {
            Err(IpamError::Outside) => {}
            taken => return taken.map(|()| Some(fixed)).map_err(refused),
        }
    }
    Err(refused(IpamError::Outside))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::request;

    fn addresses() -> Addresses {
        let v4 = Subnet4::at("10.0.0.1/30".parse().unwrap());
        let v6 = Subnet6::at("fd00::1/64".parse().unwrap());
        Addresses::new(&[v4], &[v6])
    }

    #[test]
    fn both_families_or_none() {
        let mut addresses = addresses();
        let taken = EndpointRequest { ipv6: "fd00::1".parse().ok(), ..request(vec![]) };
        let refused = Refusal { reason: IpamError::Taken, address: "fd00::1".parse().unwrap() };
        assert_eq!(addresses.allocate(&taken), Err(refused));
        let pair = addresses.allocate(&request(vec![])).unwrap();
        assert_eq!(pair, Pair { ipv4: "10.0.0.2".parse().ok(), ipv6: "fd00::2".parse().ok() });
        let spent = Refusal { reason: IpamError::Exhausted, address: "0.0.0.0".parse().unwrap() };
        assert_eq!(addresses.allocate(&request(vec![])), Err(spent));
        addresses.free(pair);
        let conflict = Pair { ipv4: pair.ipv4, ipv6: "fd00::1".parse().ok() };
        addresses.adopt(conflict).unwrap_err();
        addresses.adopt(pair).unwrap();
    }

    #[test]
    fn subnets_follow_each_other_and_fixed_addresses_are_of_any() {
        let subnet = |net: &str| Subnet4::at(net.parse().unwrap());
        let mut addresses = Addresses::new(&[subnet("10.0.0.1/30"), subnet("10.0.1.1/30")], &[]);
        let first = addresses.allocate(&request(vec![])).unwrap();
        let second = addresses.allocate(&request(vec![])).unwrap();
        assert_eq!((first.ipv4, second.ipv4), ("10.0.0.2".parse().ok(), "10.0.1.2".parse().ok()));
        let spent = addresses.allocate(&request(vec![])).unwrap_err();
        assert_eq!(spent.reason, IpamError::Exhausted);
        addresses.free(second);
        let fixed = |address: &str| EndpointRequest { ipv4: address.parse().ok(), ..request(vec![]) };
        assert_eq!(addresses.allocate(&fixed("10.0.1.2")), Ok(second));
        assert_eq!(addresses.allocate(&fixed("10.0.1.2")).unwrap_err().reason, IpamError::Taken);
        assert_eq!(addresses.allocate(&fixed("10.0.2.2")).unwrap_err().reason, IpamError::Outside);
        addresses.free(first);
        assert_eq!(addresses.allocate(&request(vec![])), Ok(first));
    }

    #[test]
    fn ipv6_may_be_left_out_and_may_not_be_there() {
        let mut both = addresses();
        let without = EndpointRequest { without_ipv6: true, ..request(vec![]) };
        assert_eq!(both.allocate(&without).unwrap().ipv6, None);
        let v4 = Subnet4::at("10.0.0.1/24".parse().unwrap());
        let mut only = Addresses::new(&[v4], &[]);
        assert_eq!(only.allocate(&request(vec![])).unwrap().ipv6, None);
        let fixed = EndpointRequest { ipv6: "fd00::9".parse().ok(), ..request(vec![]) };
        assert_eq!(only.allocate(&fixed).unwrap_err().reason, IpamError::Outside);
    }
}
