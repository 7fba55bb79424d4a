//! What a bridge tells the firewall: its rules, and where its endpoints' ports are.

use std::collections::HashSet;
use std::net::IpAddr;

use ferry_sys::netlink::nft_expr::AddressFamily;
use ferry_types::EndpointId;
use ferry_types::net::PublishRequest;

use crate::bridge::{BridgeNetwork, refused};
use crate::config::{BridgeConfig, DirectRouting, FirewallConfig, GatewayMode};
use crate::endpoint::{EndpointRecord, RelaySocket};
use crate::error::{NetworkError, PortError};
use crate::firewall::Elements;
use crate::firewall::rules::{BridgeRules, PerFamily, Subnets};
use crate::firewall::stores;
use crate::ports::Claimant;

fn gateway_modes(config: &BridgeConfig) -> PerFamily<GatewayMode> {
    PerFamily { ipv4: config.gateway_mode_ipv4, ipv6: config.gateway_mode_ipv6 }
}

fn direct(config: &BridgeConfig, firewall: &FirewallConfig) -> DirectRouting {
    match firewall.direct_routing {
        true => DirectRouting::Everybody,
        false => DirectRouting::Interfaces(config.trusted_interfaces.clone()),
    }
}

fn filtered(firewall: &FirewallConfig) -> PerFamily<bool> {
    PerFamily { ipv4: firewall.ipv4, ipv6: firewall.ipv6 }
}

/// The rules of a bridge.
pub(crate) fn bridge_rules(config: &BridgeConfig, firewall: &FirewallConfig) -> BridgeRules {
    BridgeRules {
        device: config.device.clone(),
        ipv4: config.ipv4.map(|s| s.net),
        ipv6: config.ipv6.map(|s| s.net),
        icc: config.icc,
        masquerade: PerFamily { ipv4: config.masquerade, ipv6: config.masquerade },
        source: PerFamily {
            ipv4: config.source_ipv4.map(IpAddr::V4),
            ipv6: config.source_ipv6.map(IpAddr::V6),
        },
        internal: config.internal,
        mode: gateway_modes(config),
        direct: direct(config, firewall),
        filtered: filtered(firewall),
    }
}

/// How ports of a bridge's endpoints are published.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Publishing {
    /// Ports are none of the host: the container's own are opened.
    pub(crate) routed: PerFamily<bool>,
    /// What comes from outside reaches the container by a relay only.
    pub(crate) by_relay: PerFamily<bool>,
    /// Whether there are relays.
    pub(crate) relays: bool,
}

impl BridgeNetwork {
    fn firewall(&self) -> &FirewallConfig {
        &self.stack.config.firewall
    }

    pub(crate) fn publishing(&self) -> Publishing {
        let (mode, filtered, firewall) =
            (gateway_modes(&self.config), filtered(self.firewall()), self.firewall());
        let of = |family| {
            let routed = mode.of(family) == GatewayMode::Routed;
            (routed, !filtered.of(family) || (firewall.host_firewall && !routed))
        };
        let (v4, v6) = (of(AddressFamily::Ipv4), of(AddressFamily::Ipv6));
        Publishing {
            routed: PerFamily { ipv4: v4.0, ipv6: v6.0 },
            by_relay: PerFamily { ipv4: v4.1, ipv6: v6.1 },
            relays: firewall.relays,
        }
    }

    /// Where an endpoint's ports are in the firewall.
    pub(crate) fn elements(&self, record: &EndpointRecord) -> Elements {
        let filtered = filtered(self.firewall());
        let container = PerFamily {
            ipv4: record.ipv4.filter(|_| filtered.ipv4).map(Into::into),
            ipv6: record.ipv6.filter(|_| filtered.ipv6).map(Into::into),
        };
        let mode = gateway_modes(&self.config);
        let direct = direct(&self.config, self.firewall()) != DirectRouting::default();
        let mut elements = Elements::with_capacity(record.published.len());
        let mut opened = HashSet::new();
        for port in &record.published {
            let family = if port.host_ip.is_ipv4() { AddressFamily::Ipv4 } else { AddressFamily::Ipv6 };
            let routed = mode.of(family) == GatewayMode::Routed;
            if !routed {
                elements.extend(stores::element(port, container));
            }
            if routed || direct {
                opened.extend(stores::opened(port, container));
            }
        }
        elements.extend(opened);
        elements
    }

    /// On whose behalf ports of an endpoint with these addresses are reserved.
    pub(crate) fn claimant<'a>(
        &self,
        endpoint: &'a EndpointId,
        ipv4: Option<IpAddr>,
        ipv6: Option<IpAddr>,
    ) -> Claimant<'a> {
        Claimant {
            endpoint,
            container: PerFamily { ipv4, ipv6 },
            default_host_ip: self.config.default_host_ip,
            publishing: self.publishing(),
        }
    }

    /// Publishes ports of an endpoint that has none yet, but for such as are opened. On an error those are left.
    ///
    /// # Errors
    /// When a port is taken or the firewall refuses.
    pub fn publish(
        &self,
        record: &EndpointRecord,
        name: &str,
        requests: &[PublishRequest],
    ) -> Result<(EndpointRecord, Vec<RelaySocket>), NetworkError> {
        let failed = |cause| NetworkError::ExternalConnectivity {
            name: name.to_owned(),
            endpoint: record.endpoint.clone(),
            cause,
        };
        let (ipv4, ipv6) = (record.ipv4.map(IpAddr::V4), record.ipv6.map(IpAddr::V6));
        let claimant = self.claimant(&record.endpoint, ipv4, ipv6);
        let granted = self.stack.ports.reserve(claimant, requests).map_err(failed)?;
        let published = EndpointRecord { published: granted.published, ..record.clone() };
        let open = self.elements(record);
        let mut elements = self.elements(&published);
        elements.retain(|element| !open.contains(element));
        if let Err(error) = self.stack.firewall().publish(&elements) {
            self.stack.ports.release(&record.endpoint, &published.published);
            return Err(failed(PortError::Rules(error.into())));
        }
        self.drop_udp_flows(&published, true);
        self.state().endpoints.insert(record.endpoint.clone(), published.clone());
        Ok((published, granted.relays))
    }

    /// Takes the ports of an endpoint back, which goes on without. Those that are opened stay so.
    ///
    /// # Errors
    /// When the firewall refuses; the ports are free nevertheless.
    pub fn unpublish(&self, record: &EndpointRecord) -> Result<EndpointRecord, NetworkError> {
        let open = record.published.iter().filter(|p| p.host_port == 0).cloned().collect();
        let without = EndpointRecord { published: open, ..record.clone() };
        let stay = self.elements(&without);
        let mut elements = self.elements(record);
        elements.retain(|element| !stay.contains(element));
        let unpublished = self.stack.firewall().unpublish(&elements);
        self.stack.ports.release_used(&record.endpoint, &record.published);
        self.drop_udp_flows(record, false);
        self.state().endpoints.insert(record.endpoint.clone(), without.clone());
        unpublished.map_err(refused("unpublish ports of", record.endpoint.as_str()))?;
        Ok(without)
    }

    /// The subnets in force, for the firewall.
    pub(crate) fn subnets(&self) -> Subnets {
        Subnets::new(self.config.ipv4.map(|s| s.net), self.config.ipv6.map(|s| s.net))
    }
}
