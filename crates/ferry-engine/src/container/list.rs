//! `ps`: filters, order, sizes.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use ferry_api::Filters;
use ferry_api::container::{ContainerPruneResponse, ContainerSummary};
use ferry_api::filters::pattern_matches;

use super::record::ContainerRecord;
use super::state::{Snapshot, State};
use super::view;
use crate::Engine;
use crate::api::{ListContainers, RemoveContainer};
use crate::config::parse_port_proto;
use crate::error::{EngineError, Result};
use crate::inner::Inner;
use crate::time::{now_nanos, parse_instant};

const FILTERS: [&str; 15] = [
    "ancestor",
    "before",
    "expose",
    "exited",
    "health",
    "id",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
    "is-task",
];

impl Engine {
    /// The containers asked for, newest first. Never waits for any of them.
    pub fn container_list(&self, o: ListContainers) -> Result<Vec<ContainerSummary>> {
        let invalid = |e: ferry_api::filters::FilterError| EngineError::InvalidParameter(e.to_string());
        o.filters.allow(&FILTERS).map_err(invalid)?;
        let selection = Selection::new(self, &o.filters)?;
        let mut all: Vec<Arc<Snapshot>> = self.inner.containers.all().iter().map(|h| h.snapshot()).collect();
        all.retain(|s| !matches!(s.state, State::Removed(_)));
        all.sort_by(|a, b| {
            (b.record.created_at, b.record.id.as_str()).cmp(&(a.record.created_at, a.record.id.as_str()))
        });
        let shows_stopped = o.all || o.limit.is_some() || selection.implies_all();
        let mut wanted: Vec<_> = all
            .iter()
            .filter(|s| (shows_stopped || s.state.is_active()) && selection.matches(self, s))
            .collect();
        if let Some(limit) = o.limit.filter(|l| *l > 0) {
            wanted.truncate(limit);
        }
        let now = now_nanos();
        let mut summaries: Vec<ContainerSummary> =
            wanted.iter().map(|s| view::summary(&self.inner, s, now)).collect();
        if o.size {
            for (summary, snapshot) in summaries.iter_mut().zip(wanted) {
                (summary.size_rw, summary.size_root_fs) = sizes(&self.inner, &snapshot.record)?;
            }
        }
        Ok(summaries)
    }

    /// Removes stopped containers.
    pub async fn container_prune(&self, filters: Filters) -> Result<ContainerPruneResponse> {
        let invalid = |e: ferry_api::filters::FilterError| EngineError::InvalidParameter(e.to_string());
        filters.allow(&["label", "label!", "until"]).map_err(invalid)?;
        if filters.get("until").count() > 1 {
            return Err(EngineError::InvalidParameter("more than one until filter specified".to_owned()));
        }
        let until = filters.get("until").map(parse_until).collect::<Result<Vec<_>>>()?;
        let mut response = ContainerPruneResponse::default();
        for handle in self.inner.containers.all() {
            let snapshot = handle.snapshot();
            let stopped = matches!(snapshot.state, State::Created { .. } | State::Exited(_));
            let old_enough = until.iter().all(|u| snapshot.record.created_at < *u);
            if !stopped || !old_enough || !labels_match(&filters, &snapshot.record.config.labels) {
                continue;
            }
            let size = sizes(&self.inner, &snapshot.record).map_or(0, |(rw, _)| rw);
            let id = snapshot.record.id.to_string();
            match self
                .container_remove(&id, RemoveContainer { volumes: true, ..RemoveContainer::default() })
                .await
            {
                Ok(()) => {
                    response.containers_deleted.get_mut().push(id);
                    response.space_reclaimed += u64::try_from(size).unwrap_or(0);
                }
                Err(EngineError::NoSuchContainer(_) | EngineError::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
        }
        self.inner.events.prune("container", response.space_reclaimed);
        Ok(response)
    }
}

/// An instant for `until`: as in `--since`, or a span before now such as `24h`.
pub(crate) fn parse_until(text: &str) -> Result<i64> {
    if let Ok(span) = text.parse::<jiff::SignedDuration>() {
        return Ok(now_nanos().saturating_sub(i64::try_from(span.as_nanos()).unwrap_or(i64::MAX)));
    }
    parse_instant("until", text).map_err(|_| {
        EngineError::InvalidParameter(format!("failed to parse value as time or duration: {text:?}"))
    })
}

/// `label=k`, `label=k=v`, `label!=…`.
pub(crate) fn labels_match(filters: &Filters, labels: &BTreeMap<String, String>) -> bool {
    let has = |wanted: &str| match wanted.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|v| v == value),
        None => labels.contains_key(wanted),
    };
    filters.get("label").all(has) && !filters.get("label!").any(has)
}

/// Bytes in the writable layer and in the whole root file system.
pub(crate) fn sizes(inner: &Inner, record: &ContainerRecord) -> Result<(i64, i64)> {
    let upper = inner.paths.container(&record.id).upper();
    let rw = directory_size(&upper);
    let image = inner.images.rootfs_size(&record.image_id)?;
    let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    Ok((signed(rw), signed(rw.saturating_add(image))))
}

/// Sum of the regular files' sizes, each inode once.
pub(crate) fn directory_size(root: &Path) -> u64 {
    let mut total = 0;
    let mut seen = std::collections::HashSet::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        let Ok(entries) = std::fs::read_dir(&directory) else { continue };
        for entry in entries.flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                pending.push(entry.path());
            } else if metadata.is_file() && (metadata.nlink() == 1 || seen.insert(metadata.ino())) {
                total += metadata.len();
            }
        }
    }
    total
}

/// Filters with what they refer to looked up once.
struct Selection<'a> {
    filters: &'a Filters,
    exited: Vec<i32>,
    before: Option<i64>,
    since: Option<i64>,
    ancestors: Vec<ferry_types::Digest>,
}

impl<'a> Selection<'a> {
    fn new(engine: &Engine, filters: &'a Filters) -> Result<Self> {
        let known = ["created", "running", "paused", "restarting", "removing", "exited", "dead"];
        if let Some(status) = filters.get("status").find(|s| !known.contains(s)) {
            return Err(EngineError::InvalidParameter(format!(
                "invalid filter 'status={status}': invalid value for state ({status}): must be one of {}",
                known.join(", ")
            )));
        }
        let healths = ["none", "starting", "healthy", "unhealthy"];
        if let Some(health) = filters.get("health").find(|h| !healths.contains(h)) {
            return Err(EngineError::InvalidParameter(format!(
                "invalid filter 'health={health}': invalid value for health ({health}): must be one of {}",
                healths.join(", ")
            )));
        }
        filters.bool("is-task").map_err(|e| EngineError::InvalidParameter(e.to_string()))?;
        for key in ["publish", "expose"] {
            if let Some(port) = filters.get(key).find(|p| !is_port_filter(p)) {
                let bare = port.split('/').next().unwrap_or(port);
                let number = !bare.is_empty() && bare.bytes().all(|b| b.is_ascii_digit());
                let reason = match (number, bare.contains('-')) {
                    (true, _) => format!("strconv.ParseUint: parsing {bare:?}: value out of range"),
                    (_, true) => "invalid port or range".to_owned(),
                    (_, false) => format!("strconv.ParseUint: parsing {bare:?}: invalid syntax"),
                };
                return Err(EngineError::InvalidParameter(format!(
                    "error while looking up for {key} {port}: {reason}"
                )));
            }
        }
        let exited = filters
            .get("exited")
            .map(|code| {
                code.parse().map_err(|_| {
                    EngineError::InvalidParameter(format!(
                        "invalid filter 'exited={code}': strconv.Atoi: parsing {code:?}: invalid syntax"
                    ))
                })
            })
            .collect::<Result<Vec<i32>>>()?;
        let created = |key: &str| -> Result<Option<i64>> {
            filters
                .get(key)
                .map(|id| Ok(engine.inner.containers.find(id)?.snapshot().record.created_at))
                .next()
                .transpose()
        };
        let ancestors =
            filters.get("ancestor").filter_map(|name| engine.inner.images.resolve(name).ok()).collect();
        Ok(Self { filters, exited, before: created("before")?, since: created("since")?, ancestors })
    }

    /// A filter by state looks at stopped containers too; one by exit code does not, as with Docker.
    fn implies_all(&self) -> bool {
        self.filters.has("status")
    }

    fn matches(&self, engine: &Engine, snapshot: &Snapshot) -> bool {
        let f = self.filters;
        let record = &snapshot.record;
        let any = |key: &str, test: &dyn Fn(&str) -> bool| !f.has(key) || f.get(key).any(test);
        any("id", &|v| pattern_matches(v, record.id.as_str()))
            && any("name", &|v| name_matches(v, record.name.as_str()))
            && any("status", &|v| snapshot.state.status() == v)
            && (self.exited.is_empty()
                || (matches!(snapshot.state, State::Exited(_))
                    && self.exited.contains(&snapshot.state.exit_code())))
            && self.before.is_none_or(|t| record.created_at < t)
            && self.since.is_none_or(|t| record.created_at > t)
            && labels_match(f, &record.config.labels)
            && (!f.has("ancestor") || self.descends(engine, record))
            && any("volume", &|v| {
                record.mounts.iter().any(|m| m.name == v || m.destination == v || m.source == v)
            })
            && any("network", &|v| {
                let is = |name: &String| name == v || crate::network::id_of(&engine.inner, name) == v;
                record.networks.keys().any(is)
            })
            && any("publish", &|v| published(record, v))
            && any("expose", &|v| record.config.exposed_ports.keys().any(|p| port_in(p, v)))
            && any("health", &|v| view::health_status(snapshot) == v)
            && any("isolation", &|v| v == "default" || v.is_empty())
            && any("is-task", &|v| matches!(v, "false" | "False" | "FALSE" | "f" | "F" | "0"))
    }

    fn descends(&self, engine: &Engine, record: &ContainerRecord) -> bool {
        let Ok(image) = engine.inner.images.get(&record.image_id) else { return false };
        self.ancestors.iter().any(|a| {
            *a == record.image_id
                || engine.inner.images.get(a).is_ok_and(|base| {
                    !base.chain.is_empty()
                        && image.chain.starts_with(&base.chain)
                        && image.chain.len() > base.chain.len()
                })
        })
    }
}

/// Docker's names begin with a slash, which patterns may or may not have.
fn name_matches(pattern: &str, name: &str) -> bool {
    pattern_matches(pattern, name) || pattern_matches(pattern, &format!("/{name}"))
}

fn published(record: &ContainerRecord, wanted: &str) -> bool {
    record.published().any(|p| port_in(&format!("{}/{}", p.host_port, p.protocol), wanted))
}

/// Whether a filter reads `first[-last][/proto]`.
fn is_port_filter(text: &str) -> bool {
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let ordered = matches!((first.parse::<u16>(), last.parse::<u16>()), (Ok(f), Ok(l)) if f <= l);
    ordered && matches!(protocol, "tcp" | "udp" | "sctp")
}

/// Whether `port[/proto]` lies in `first[-last][/proto]`.
fn port_in(port: &str, wanted: &str) -> bool {
    let Some((port, protocol)) = parse_port_proto(port) else { return false };
    let (range, wanted_protocol) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let within =
        first.parse::<u16>().is_ok_and(|f| f <= port) && last.parse::<u16>().is_ok_and(|l| port <= l);
    within && wanted_protocol == protocol.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_patterns() {
        assert!(
            name_matches("web", "my-web-1") && name_matches("^/web$", "web") && name_matches("^web", "web1")
        );
        assert!(!name_matches("^web$", "web1") && !name_matches("web$", "web1"));
    }

    #[test]
    fn port_filters() {
        for good in ["80", "80/udp", "1-65535/tcp"] {
            assert!(is_port_filter(good), "{good}");
        }
        for bad in ["x", "", "80/foo", "9-8", "70000", "-1"] {
            assert!(!is_port_filter(bad), "{bad}");
        }
    }

    #[test]
    fn port_ranges() {
        assert!(port_in("80/tcp", "80") && port_in("80/tcp", "70-90/tcp") && !port_in("80/udp", "80"));
    }
}
