//! The owner's part in `network connect` and `network disconnect`.

use std::sync::Arc;

use ferry_api::EndpointSettings;
use ferry_api::network::EndpointIpam;
use ferry_shim_proto::{Relay, Reply, Request as ShimRequest};

use super::control::ask;
use super::network_mode::{FixedAddresses, NetworkMode, PRIVATE, check_endpoint};
use super::owner::Owner;
use super::record::ContainerRecord;
use crate::error::{EngineError, Result};
use crate::events::EventKind;
use crate::network::endpoints::{self, BRIDGE};
use crate::network::fixed_addresses;
use crate::network::reconcile;

impl Owner {
    /// Puts the container on a network: now when it runs, and whenever it starts.
    pub(super) async fn connect(&mut self, network: String, settings: EndpointSettings) -> Result<()> {
        let snapshot = self.current();
        let record = (*snapshot.record).clone();
        check(&record, &network, snapshot.state.live().is_some())?;
        if record.networks.contains_key(&network) && says_nothing(&settings) {
            return Ok(());
        }
        let fixed = fixed_addresses(&self.inner, &network);
        let fixed = fixed.map_or_else(FixedAddresses::unknown, |(_, fixed)| fixed);
        check_endpoint(&settings, &fixed)
            .map_err(|e| EngineError::InvalidParameter(format!("invalid endpoint settings:\n{e}")))?;
        let mut changed = record.clone();
        let mut kept = settings.clone();
        if !matches!(network.as_str(), BRIDGE | "host" | "none") {
            kept.dns_names = endpoints::dns_names(&record, &settings).into();
        }
        changed.networks.insert(network.clone(), kept);
        if let Some(live) = snapshot.state.live() {
            let (inner, name, pid) = (Arc::clone(&self.inner), network.clone(), live.pid);
            // An engine that is killed now has the next one finish it.
            let path = self.inner.paths.container(&record.id).record();
            changed.save(&path)?;
            let before = record.clone();
            let joined = crate::blocking(move || {
                let endpoint = endpoints::join_one(&inner, &record, &name, &settings, pid)?;
                super::launch::rewrite_net_files(&inner, &record, &[(name, &endpoint)]);
                Ok(endpoint)
            })
            .await;
            let endpoint = match joined {
                Ok(endpoint) => endpoint,
                Err(error) => {
                    before.save(&path)?;
                    return Err(error);
                }
            };
            changed.endpoints.insert(network.clone(), endpoint);
            self.put(changed)?;
            self.network_event(EventKind::Connect, &network);
            return self.publish_again(false).await;
        }
        self.put(changed)
    }

    /// Takes it off a network.
    pub(super) async fn disconnect(&mut self, network: String) -> Result<()> {
        let snapshot = self.current();
        let record = (*snapshot.record).clone();
        if matches!(NetworkMode::parse(&record.host_config.network_mode), NetworkMode::Host)
            && network == "host"
        {
            return Err(EngineError::Forbidden(
                "cannot disconnect container from host network - container was created in host network mode"
                    .to_owned(),
            ));
        }
        if !record.networks.contains_key(&network) {
            // Docker has an article for those that do not run.
            let the = if snapshot.state.live().is_some() { "" } else { "the " };
            return Err(EngineError::Forbidden(format!(
                "container {} is not connected to {the}network {network}",
                record.id
            )));
        }
        let mut changed = record.clone();
        changed.networks.remove(&network);
        let left = changed.endpoints.remove(&network);
        let unpublished = left.is_some_and(|endpoint| !endpoint.published.is_empty());
        if let Some(live) = snapshot.state.live() {
            let (inner, pid) = (Arc::clone(&self.inner), live.pid);
            let name = network.clone();
            crate::blocking(move || {
                endpoints::leave_one(&inner, &record, &name, pid)?;
                super::launch::forget_addresses(&inner, &record, &name);
                Ok(())
            })
            .await?;
            self.put(changed)?;
            self.network_event(EventKind::Disconnect, &network);
            return self.publish_again(unpublished).await;
        }
        self.put(changed)
    }

    /// Publishes the container's ports on the network that leads to the outside now, when that is another one than before.
    /// `unpublished`: the one before is left already.
    async fn publish_again(&mut self, unpublished: bool) -> Result<()> {
        let snapshot = self.current();
        let Some(shim) = snapshot.shim.clone() else { return Ok(()) };
        let moved = endpoints::moved(&self.inner, &snapshot.record)?;
        let Some(moved) = moved.filter(|m| unpublished || m.is_needed()) else { return Ok(()) };
        let id = &snapshot.record.id;
        match ask(&shim, ShimRequest::State, &[], id).await? {
            Reply::State(state) if state.replaces_relays => {}
            _ => {
                tracing::warn!(container = %id, "its ports stay where they are until it is started again: its shim is of an older ferry");
                return Ok(());
            }
        }
        let (inner, mut record) = (Arc::clone(&self.inner), (*snapshot.record).clone());
        let (record, moved) = crate::blocking(move || {
            endpoints::unpublish(&inner, &mut record, &moved)?;
            Ok((record, moved))
        })
        .await?;
        self.put(record.clone())?;
        // The shim's sockets are in the way of the new ones.
        ask(&shim, ShimRequest::Relays { relays: Vec::new() }, &[], id).await?;
        let (inner, mut record) = (Arc::clone(&self.inner), record);
        let (record, sockets) = crate::blocking(move || {
            let sockets = endpoints::publish(&inner, &mut record, &moved)?;
            Ok((record, sockets))
        })
        .await?;
        self.put(record)?;
        let (relays, sockets) = sockets
            .into_iter()
            .map(|s| (Relay { protocol: s.protocol, target: s.target }, s.socket))
            .unzip::<_, _, Vec<_>, Vec<_>>();
        ask(&shim, ShimRequest::Relays { relays }, &sockets, id).await.map(drop)
    }

    /// Makes interfaces the container should have and has not, because the engine was killed while it made or removed
    /// them, or because somebody deleted them.
    pub(super) async fn mend_networks(&mut self) -> Result<()> {
        let snapshot = self.current();
        let Some(live) = snapshot.state.live() else { return Ok(()) };
        let (inner, record, pid) = (Arc::clone(&self.inner), (*snapshot.record).clone(), live.pid);
        let (before, networks) = (record.endpoints.clone(), record.networks.clone());
        let (mended, outcome) = crate::blocking(move || {
            let (record, outcome) = reconcile::mend(&inner, record, pid)?;
            super::launch::rewrite_net_files(&inner, &record, &[]);
            Ok((record, outcome))
        })
        .await?;
        if mended.endpoints != before || mended.networks != networks {
            self.put(mended)?;
            self.publish_again(false).await?;
        }
        outcome
    }

    fn put(&mut self, record: ContainerRecord) -> Result<()> {
        record.save(&self.inner.paths.container(&record.id).record())?;
        self.change(|s| s.record = Arc::new(record));
        Ok(())
    }
}

/// Whether a request to connect leaves everything to the engine.
fn says_nothing(settings: &EndpointSettings) -> bool {
    let no_addresses = |ipam: &EndpointIpam| {
        ipam.ipv4_address.is_empty() && ipam.ipv6_address.is_empty() && ipam.link_local_ips.is_empty()
    };
    settings.ipam_config.as_ref().is_none_or(no_addresses)
        && settings.aliases.is_empty()
        && settings.links.is_empty()
        && settings.driver_opts.is_empty()
        && settings.mac_address.is_empty()
        && settings.gw_priority == 0
}

/// Whether a container may be put on a further network. One that does not run may have its settings on a network
/// replaced.
fn check(record: &ContainerRecord, network: &str, runs: bool) -> Result<()> {
    if matches!(
        NetworkMode::parse(&record.host_config.network_mode),
        NetworkMode::Host | NetworkMode::Container(_)
    ) {
        return Err(EngineError::Forbidden(
            "container sharing network namespace with another container or host cannot be connected to any other network"
                .to_owned(),
        ));
    }
    // It may have left `none` since it was made.
    if network == "none" || record.networks.contains_key("none") {
        return Err(EngineError::Forbidden(PRIVATE.to_owned()));
    }
    if runs && record.networks.contains_key(network) {
        return Err(EngineError::Forbidden(format!(
            "endpoint with name {} already exists in network {network}",
            record.name
        )));
    }
    Ok(())
}
