//! Directives about the default bridge and the firewall.

use ferry_engine::{DefaultBridge, FirewallBackend, FirewallConfig};

use super::values::Values;

/// What filters packets and publishes ports.
///
/// # Errors
/// Values nobody knows, and those that exclude each other.
pub fn firewall(v: &Values) -> Result<FirewallConfig, String> {
    let backend = match v.text("firewall-backend").as_deref() {
        None | Some("") => FirewallBackend::Automatic,
        Some("nftables") => FirewallBackend::Nftables,
        Some("iptables") => {
            FirewallBackend::Iptables { ipv4: "iptables".to_owned(), ipv6: "ip6tables".to_owned() }
        }
        Some(other) => return Err(format!("invalid firewall-backend: \"{other}\"")),
    };
    let host_firewall = match v.text("publish").as_deref() {
        None | Some("" | "open") => false,
        Some("respect-host-firewall") => true,
        Some(other) => {
            return Err(format!("invalid publish: \"{other}\": want \"open\" or \"respect-host-firewall\""));
        }
    };
    let config = FirewallConfig {
        backend,
        ipv4: v.flag("iptables").unwrap_or(true),
        ipv6: v.flag("ip6tables").unwrap_or(true),
        host_firewall,
        relays: v.flag("userland-proxy").unwrap_or(true),
        direct_routing: v.flag("allow-direct-routing").unwrap_or(false),
        ip_forward: v.flag("ip-forward").unwrap_or(true),
        ..FirewallConfig::default()
    };
    if !config.relays && config.host_firewall {
        return Err("publish: \"respect-host-firewall\" needs userland-proxy, which is off".to_owned());
    }
    if !config.relays && !config.ipv4 {
        return Err("without iptables published ports need userland-proxy, which is off".to_owned());
    }
    Ok(config)
}

/// The default bridge. Who calls the daemon `dockerd` means Docker's.
///
/// # Errors
/// No name of an interface.
pub fn bridge(v: &Values, is_dockerd: bool) -> Result<DefaultBridge, String> {
    match v.text("bridge") {
        None if is_dockerd => Ok(DefaultBridge::Docker0),
        None => Ok(DefaultBridge::Automatic),
        Some(n) if n == "none" => Ok(DefaultBridge::None),
        Some(n) if n.len() > 15 || n.contains(['/', ' ']) => {
            Err(format!("invalid bridge name {n:?}: want 1 to 15 bytes without slash and blank"))
        }
        Some(name) => Ok(DefaultBridge::Named(name)),
    }
}
