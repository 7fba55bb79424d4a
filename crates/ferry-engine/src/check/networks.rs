//! What networks should have on the host and in containers: bridges, interfaces, published ports.

use std::path::PathBuf;
use std::sync::Arc;

use ferry_network::Network;

use super::host::MOMENT;
use super::{Check, Outcome, leave};
use crate::container::handle::{ContainerHandle, OwnerRequest};
use crate::network::endpoints::BRIDGE;
use crate::network::reconcile;

/// Where links are.
fn link(name: &str) -> PathBuf {
    PathBuf::from("/sys/class/net").join(name)
}

impl Check<'_> {
    pub(super) fn networks(&mut self) {
        let mut all: Vec<_> =
            self.inner.default_network().map(|network| (BRIDGE.to_owned(), network)).into_iter().collect();
        for network in self.inner.networks.all() {
            if let Some(device) = &network.network {
                all.push((network.record.name.clone(), device.clone()));
            }
        }
        for (name, network) in &all {
            self.device(name, network);
        }
        self.strays(&all);
        self.interfaces();
    }

    /// The bridge or parent of a network.
    fn device(&mut self, name: &str, network: &Network) {
        if network.is_there() {
            return;
        }
        let problem = format!("the interface of network {name} does not exist");
        self.problem("network", &link(network.device()), problem, "make it again", |_| {
            network.ensure().map_err(|e| e.to_string())?;
            Ok(Outcome::Repaired("it is there again".to_owned()))
        });
    }

    /// Ports and links on bridges that are nobody's, ports that are missing.
    fn strays(&mut self, all: &[(String, Network)]) {
        let mut doubtful = Vec::new();
        for bridge in all.iter().filter_map(|(_, network)| network.bridge()) {
            match bridge.audit() {
                Ok(strays) if strays.is_empty() => {}
                Ok(strays) => doubtful.push((bridge, strays)),
                Err(error) => {
                    let problem = format!("its state cannot be read: {error}");
                    let device = link(&bridge.config().device);
                    self.problem("network", &device, problem, "none", |_| leave("restart the daemon"));
                }
            }
        }
        if doubtful.is_empty() {
            return;
        }
        std::thread::sleep(MOMENT);
        for (bridge, first) in doubtful {
            let still = match bridge.audit() {
                Ok(now) => now.and(&first),
                Err(error) => {
                    tracing::warn!(%error, "the network could be looked at only once");
                    continue;
                }
            };
            for found in still.describe() {
                let device = link(&bridge.config().device);
                self.problem("network", &device, found, "make it as it should be", |_| {
                    bridge.mend(&still).map_err(|e| e.to_string())?;
                    Ok(Outcome::Repaired("it is as it should be".to_owned()))
                });
            }
        }
    }

    /// Interfaces running containers have lost.
    fn interfaces(&mut self) {
        for handle in self.inner.containers.all() {
            let found = self.lost(&handle);
            if found.is_empty() {
                continue;
            }
            // One that ends or is disconnected just now loses its interfaces first.
            std::thread::sleep(MOMENT);
            let record = Arc::clone(&handle.snapshot().record);
            for (interface, network) in self.lost(&handle).into_iter().filter(|lost| found.contains(lost)) {
                let problem = format!("the interface {interface} of container {} was deleted", record.name);
                let remedy = "make it again";
                self.problem("network", &PathBuf::from(network), problem, remedy, |_| {
                    let runtime = tokio::runtime::Handle::current();
                    let mended = handle.ask(|reply| OwnerRequest::MendNetworks { reply });
                    runtime.block_on(mended).map_err(|e| e.to_string())?;
                    Ok(Outcome::Repaired("it is there again".to_owned()))
                });
            }
        }
    }

    fn lost(&self, handle: &ContainerHandle) -> Vec<(String, String)> {
        let snapshot = handle.snapshot();
        let Some(live) = snapshot.state.live() else { return Vec::new() };
        // A container that has just ended has no namespace to look into.
        reconcile::lost(self.inner, &snapshot.record, live.pid).unwrap_or_default()
    }
}
