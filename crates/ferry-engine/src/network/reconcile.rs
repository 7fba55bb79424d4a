//! What a container's record says of its networks and what is there, brought together: after an engine was killed while it
//! connected or disconnected one, and when somebody deletes interfaces behind the engine's back.

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ferry_types::{ContainerId, EndpointId};

use super::endpoints;
use crate::container::handle::{ContainerHandle, OwnerRequest};
use crate::container::record::ContainerRecord;
use crate::error::Result;
use crate::inner::Inner;

/// Pauses before what could not be made is tried again: what is in the way goes, as the link of an engine that was
/// killed while it made one.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
];

/// Makes the interfaces that are missing. Whoever calls owns the container. One that cannot be made does not keep the
/// others from being made: the record says what there is, beside the first error.
pub(crate) fn mend(
    inner: &Arc<Inner>,
    mut record: ContainerRecord,
    pid: i32,
) -> Result<(ContainerRecord, Result<()>)> {
    let netns = endpoints::namespace(pid)?;
    let mut outcome = Ok(());
    for (name, endpoint) in record.endpoints.clone() {
        let Some(network) = endpoints::network_of(inner, &name) else { continue };
        let mut remake = || -> Result<()> {
            if network.is_lost(netns.as_fd(), &endpoint)? {
                tracing::error!(
                    container = %record.id, network = name, interface = endpoint.interface,
                    "an interface of a container was deleted; making it again"
                );
                let made = endpoints::remake(inner, &record, &name, &endpoint, netns.as_fd())?;
                record.endpoints.insert(name.clone(), made);
            }
            Ok(())
        };
        outcome = outcome.and(remake());
    }
    for name in unfinished(&record) {
        let settings = record.networks.get(&name).cloned().unwrap_or_default();
        if let Some(network) = endpoints::network_of(inner, &name) {
            network.sweep(netns.as_fd(), &record.endpoints.values().cloned().collect::<Vec<_>>())?;
        }
        match endpoints::join_one(inner, &record, &name, &settings, pid) {
            Ok(made) => drop(record.endpoints.insert(name, made)),
            Err(error) => {
                tracing::error!(container = %record.id, network = name, %error, "it is not connected after all");
                record.networks.remove(&name);
            }
        }
    }
    Ok((record, outcome))
}

/// The networks a running container was being connected to.
fn unfinished(record: &ContainerRecord) -> Vec<String> {
    let wanted = endpoints::order(record).into_iter().map(|(name, _)| name);
    wanted.filter(|name| !record.endpoints.contains_key(*name)).cloned().collect()
}

/// The interfaces a running container has lost, with their networks.
pub(crate) fn lost(inner: &Inner, record: &ContainerRecord, pid: i32) -> Result<Vec<(String, String)>> {
    let netns = endpoints::namespace(pid)?;
    let mut lost = Vec::new();
    for (name, endpoint) in &record.endpoints {
        if let Some(network) = endpoints::network_of(inner, name)
            && network.is_lost(netns.as_fd(), endpoint)?
        {
            lost.push((endpoint.interface.clone(), name.clone()));
        }
    }
    Ok(lost)
}

/// Takes endpoints out of containers' records that are not theirs any more, because an engine was killed before it noted
/// that they had left a network whose next container has the address now. As their records say that they are to be on the
/// network, they are to be connected anew. Says which containers.
pub(crate) fn tear(
    records: &mut [ContainerRecord],
    conflicting: &HashSet<EndpointId>,
) -> HashSet<ContainerId> {
    let mut torn = HashSet::new();
    for record in
        records.iter_mut().filter(|r| r.endpoints.values().any(|e| conflicting.contains(&e.endpoint)))
    {
        record.endpoints.retain(|_, endpoint| !conflicting.contains(&endpoint.endpoint));
        torn.insert(record.id.clone());
    }
    torn
}

/// After the start of an engine: looks after the containers that may need it. `without`: endpoints whose link on the host
/// is gone. `torn`: containers that have lost endpoints.
pub(crate) async fn take_over(
    inner: &Arc<Inner>,
    without: &HashSet<EndpointId>,
    torn: &HashSet<ContainerId>,
) {
    for handle in inner.containers.all() {
        let snapshot = handle.snapshot();
        let record = &snapshot.record;
        if snapshot.state.live().is_none() || record.networks.is_empty() {
            continue;
        }
        let doubtful = record.endpoints.values().any(|e| without.contains(&e.endpoint) || !e.is_on_bridge());
        let unfinished = !record.endpoints.is_empty() && !unfinished(record).is_empty();
        if doubtful || unfinished || torn.contains(&record.id) {
            ask(&handle).await;
        }
    }
}

/// Has a container's networks looked after; again after a while when that fails.
async fn ask(handle: &Arc<ContainerHandle>) {
    if is_mended(handle).await {
        return;
    }
    let handle = Arc::clone(handle);
    tokio::spawn(async move {
        for pause in PAUSES {
            tokio::time::sleep(pause).await;
            if is_mended(&handle).await {
                return;
            }
        }
    });
}

/// Asks once. A container that ended meanwhile has nothing to be mended.
async fn is_mended(handle: &ContainerHandle) -> bool {
    match handle.ask(|reply| OwnerRequest::MendNetworks { reply }).await {
        Err(error) if handle.snapshot().state.live().is_some() => {
            let id = &handle.snapshot().record.id;
            tracing::error!(container = %id, %error, "an interface of a container is not there again");
            false
        }
        _ => true,
    }
}

/// Called when links on the host were deleted: bridges are made again, and so are containers' interfaces. Runs on a thread
/// of its own.
pub(crate) fn links_deleted(inner: &Weak<Inner>, runtime: &tokio::runtime::Handle, indices: &[u32]) {
    let Some(inner) = inner.upgrade() else { return };
    let users = inner.networks.all();
    let networks = users.iter().filter_map(|n| n.network.clone());
    let networks = networks.chain(inner.default_network());
    let mut parents = HashSet::new();
    for network in networks.filter(|network| indices.contains(&network.index())) {
        if let Err(error) = network.ensure() {
            tracing::error!(%error, "the device of a network was deleted and is not there again");
        }
        parents.insert(network.tag());
    }
    for handle in inner.containers.all() {
        let snapshot = handle.snapshot();
        let lost = |e: &ferry_network::EndpointRecord| {
            let on_it = !e.is_on_bridge() && parents.contains(&e.bridge);
            on_it || (e.is_on_bridge() && indices.contains(&e.host_ifindex))
        };
        if snapshot.state.live().is_some() && snapshot.record.endpoints.values().any(lost) {
            runtime.block_on(ask(&handle));
        }
    }
}
