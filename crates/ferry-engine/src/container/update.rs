//! `update`: other limits and another restart policy, also for a running container.

use std::path::PathBuf;

use ferry_api::container::{ContainerUpdateRequest, ContainerUpdateResponse, Resources};
use ferry_runtime::cgroup::Cgroup;

use super::handle::OwnerRequest;
use super::restart::RestartPolicy;
use crate::Engine;
use crate::error::{EngineError, Result};
use crate::events::EventKind;
use crate::spec::{self, resources};

impl Engine {
    /// Changes what the request sets.
    pub async fn container_update(
        &self,
        id: &str,
        body: ContainerUpdateRequest,
    ) -> Result<ContainerUpdateResponse> {
        let handle = self.inner.containers.find(id)?;
        let snapshot = handle.snapshot();
        // What cannot be checked by itself is said of the container.
        let wanted =
            merge(snapshot.record.host_config.resources.clone(), &body.resources).map_err(|e| match e {
                EngineError::Conflict(why) => {
                    EngineError::Conflict(format!("Cannot update container {}: {why}", snapshot.record.id))
                }
                other => other,
            })?;
        resources::validate(&wanted, self.inner.host.cpus).map_err(EngineError::InvalidParameter)?;
        let policy = body.restart_policy;
        if !policy.name.is_empty() {
            RestartPolicy::parse(&policy.name, policy.maximum_retry_count)
                .map_err(EngineError::InvalidParameter)?;
            if snapshot.record.host_config.auto_remove && policy.name != "no" {
                return Err(EngineError::Conflict(format!(
                    "Cannot update container {}: Restart policy cannot be updated because AutoRemove is enabled for the container",
                    snapshot.record.id
                )));
            }
        }
        if snapshot.state.live().is_some() {
            let mut applied = wanted.clone();
            if applied.pids_limit == Some(0) {
                // No limit, which has to be written over the one in force.
                applied.pids_limit = Some(-1);
            }
            let oci = resources::to_oci(&applied).map_err(EngineError::InvalidParameter)?;
            let path = PathBuf::from(spec::cgroup_path(&snapshot.record, &self.inner.config.cgroup_parent));
            crate::blocking(move || Ok(Cgroup::open(&path)?.apply(&oci)?)).await?;
        }
        let edit = move |record: &mut super::record::ContainerRecord| {
            record.host_config.resources = wanted;
            if !policy.name.is_empty() {
                record.host_config.restart_policy = policy;
            }
            Ok(())
        };
        handle.ask(|reply| OwnerRequest::Edit { edit: Box::new(edit), reply }).await?;
        self.inner.events.container(EventKind::Update, &handle.snapshot().record, &[]);
        Ok(ContainerUpdateResponse::default())
    }
}

/// The limits in force with those of the request put over them: zero, empty and null leave a limit as it is.
fn merge(mut current: Resources, change: &Resources) -> Result<Resources> {
    let refused =
        |what: &str| Err(EngineError::InvalidParameter(format!("{what} cannot be changed by update")));
    if !change.devices.is_empty()
        || !change.device_requests.is_empty()
        || !change.device_cgroup_rules.is_empty()
    {
        return refused("devices");
    }
    if !change.ulimits.is_empty() {
        return refused("ulimits");
    }
    macro_rules! take {
        ($($field:ident),*) => { $( if change.$field != Resources::default().$field { current.$field = change.$field.clone(); } )* };
    }
    let set_already = |what: &str, other: &str| {
        let text = format!("Conflicting options: {what} cannot be updated as {other} has already been set");
        Err(EngineError::Conflict(text))
    };
    if change.nano_cpus != 0 && current.cpu_quota != 0 {
        return set_already("Nano CPUs", "CPU Quota");
    }
    if change.nano_cpus != 0 && current.cpu_period != 0 {
        return set_already("Nano CPUs", "CPU Period");
    }
    if change.cpu_quota != 0 && current.nano_cpus != 0 {
        return set_already("CPU Quota", "NanoCPUs");
    }
    if change.cpu_period != 0 && current.nano_cpus != 0 {
        return set_already("CPU Period", "NanoCPUs");
    }
    // A new memory limit above the old swap limit moves that along, or the kernel would refuse it.
    if change.memory > 0
        && change.memory_swap == 0
        && current.memory_swap > 0
        && change.memory > current.memory_swap
    {
        return Err(EngineError::Conflict(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"
                .to_owned(),
        ));
    }
    take!(
        cpu_shares,
        memory,
        nano_cpus,
        blkio_weight,
        blkio_weight_device,
        blkio_device_read_bps,
        blkio_device_write_bps,
        blkio_device_read_iops,
        blkio_device_write_iops,
        cpu_period,
        cpu_quota,
        cpu_realtime_period,
        cpu_realtime_runtime,
        cpuset_cpus,
        cpuset_mems,
        memory_reservation,
        memory_swap,
        memory_swappiness,
        oom_kill_disable,
        pids_limit
    );
    Ok(current)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_values_change_nothing() {
        let current = Resources { memory: 64 << 20, cpu_shares: 512, ..Resources::default() };
        let change = Resources { memory: 128 << 20, ..Resources::default() };
        let merged = merge(current, &change).unwrap();
        assert_eq!((merged.memory, merged.cpu_shares), (128 << 20, 512));
    }

    #[test]
    fn nano_cpus_and_quota_exclude_each_other() {
        let current = Resources { nano_cpus: 1_000_000_000, ..Resources::default() };
        assert!(merge(current, &Resources { cpu_quota: 5000, ..Resources::default() }).is_err());
    }
}
