//! Links (`--link`), Docker's old way of telling a container about another one on the default bridge: lines in
//! `/etc/hosts` and variables in the environment, both from the moment the container starts; the lines follow the other
//! container to its next address.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use ferry_api::container::HostConfig;
use ferry_types::net::Protocol;
use ferry_types::{ContainerId, ContainerName};
use serde::{Deserialize, Serialize};

use super::handle::OwnerRequest;
use super::network_mode::NetworkMode;
use super::record::ContainerRecord;
use crate::config::parse_port_proto;
use crate::error::{EngineError, Result};
use crate::inner::Inner;
use crate::network::endpoints::BRIDGE;

/// A link as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Link {
    /// The container linked to.
    pub target: ContainerId,
    /// Its name when it was linked; what it is called when it is gone.
    pub name: ContainerName,
    /// What it is called here.
    pub alias: String,
}

/// A link to a running container.
pub(crate) struct Resolved {
    /// Names in `/etc/hosts`, separated by blanks.
    pub names: String,
    pub address: Ipv4Addr,
    pub env: Vec<String>,
}

fn invalid(message: impl Into<String>) -> EngineError {
    EngineError::InvalidParameter(message.into())
}

/// `NAME[:ALIAS]`, or `/NAME:/OWN-NAME/ALIAS` as `inspect` shows a link.
fn parse(text: &str) -> Result<(&str, &str)> {
    let mut parts = text.split(':');
    let (name, alias) = match (parts.next(), parts.next(), parts.next()) {
        (Some(name), None, _) => (name, name),
        (Some(name), Some(alias), None) => (name, alias),
        _ => return Err(invalid(format!("bad format for links: {text}"))),
    };
    match name.strip_prefix('/') {
        Some(bare) => Ok((bare, alias.rsplit('/').next().unwrap_or(alias))),
        None if alias.is_empty() => Ok((name, name)),
        None => Ok((name, alias.trim_start_matches('/'))),
    }
}

/// Looks up what a create request links to.
pub(crate) fn of_request(inner: &Inner, h: &HostConfig, warnings: &mut Vec<String>) -> Result<Vec<Link>> {
    const UNDEFINED: &str = "can't be used with links. This would result in undefined behavior";
    let mut links: Vec<Link> = Vec::new();
    if h.links.is_empty() {
        return Ok(links);
    }
    let mode = NetworkMode::parse(&h.network_mode);
    match mode {
        NetworkMode::Host => {
            return Err(invalid(format!("conflicting options: host type networking {UNDEFINED}")));
        }
        NetworkMode::Container(_) => {
            return Err(invalid(format!("conflicting options: container type network {UNDEFINED}")));
        }
        // There a link is a name of the network's: nothing has to be there yet.
        NetworkMode::Other(_) => return Ok(links),
        NetworkMode::Bridge | NetworkMode::None => {}
    }
    if !inner.config.icc {
        let text = "--link does not open ports between containers where communication between containers is turned off";
        return Err(EngineError::NotSupported(format!("{text} (icc)")));
    }
    for text in h.links.iter() {
        let (name, alias) = parse(text)?;
        let target = inner
            .containers
            .find(name)
            .map_err(|e| invalid(format!("could not get container for {name}: {e}")))?
            .snapshot();
        if target.record.host_config.network_mode == "host" {
            return Err(invalid(format!("conflicting options: host type networking {UNDEFINED}")));
        }
        if let Some(taken) = links.iter().find(|l| l.alias == alias) {
            if taken.target != target.record.id {
                warnings
                    .push(format!("The link to {name} as {alias} is ignored: {} has this alias", taken.name));
            }
            continue;
        }
        let (target, name) = (target.record.id.clone(), target.record.name.clone());
        links.push(Link { target, name, alias: alias.to_owned() });
    }
    Ok(links)
}

/// The links of a container that is about to start; all they lead to must run.
pub(crate) fn resolve(inner: &Inner, record: &ContainerRecord) -> Result<Vec<Resolved>> {
    if NetworkMode::parse(&record.host_config.network_mode) != NetworkMode::Bridge {
        return Ok(Vec::new());
    }
    record.links.iter().map(|link| resolve_one(inner, record, link)).collect()
}

fn resolve_one(inner: &Inner, record: &ContainerRecord, link: &Link) -> Result<Resolved> {
    let stopped = |name: &ContainerName| {
        let (own, alias) = (&record.name, &link.alias);
        EngineError::Conflict(format!("Cannot link to a non running container: /{name} AS /{own}/{alias}"))
    };
    let handle = inner.containers.find(link.target.as_str()).map_err(|_| stopped(&link.name))?;
    let target = handle.snapshot();
    if target.state.live().is_none() {
        return Err(stopped(&target.record.name));
    }
    let Some(endpoint) = target.record.endpoints.get(BRIDGE) else {
        let id = &link.target;
        return Err(EngineError::Conflict(format!("container {id} not attached to default bridge network")));
    };
    let mut names = vec![link.alias.as_str(), &target.record.config.hostname];
    if link.alias != target.record.name.as_str() {
        names.push(target.record.name.as_str());
    }
    // The default bridge always has IPv4.
    let address = endpoint.ipv4.ok_or_else(|| stopped(&target.record.name))?;
    Ok(Resolved {
        names: names.join(" "),
        address,
        env: variables(record, &link.alias, address, &target.record),
    })
}

/// `DB_PORT_80_TCP=tcp://172.17.0.2:80` and its companions.
fn variables(
    record: &ContainerRecord,
    alias: &str,
    address: Ipv4Addr,
    target: &ContainerRecord,
) -> Vec<String> {
    let prefix = alias.to_uppercase().replace('-', "_");
    let exposed = target.config.exposed_ports.keys().filter_map(|p| parse_port_proto(p));
    // TCP comes first, whatever the numbers.
    let ports: BTreeSet<(bool, u16, Protocol)> = exposed.map(|(n, p)| (p != Protocol::Tcp, n, p)).collect();
    let ports: Vec<(u16, Protocol)> = ports.into_iter().map(|(_, n, p)| (n, p)).collect();
    let mut env = Vec::new();
    if let Some((port, protocol)) = ports.first() {
        env.push(format!("{prefix}_PORT={protocol}://{address}:{port}"));
    }
    let stem = |port: u16, protocol: Protocol| {
        format!("{prefix}_PORT_{port}_{}", protocol.to_string().to_ascii_uppercase())
    };
    for &(port, protocol) in &ports {
        let stem = stem(port, protocol);
        env.push(format!("{stem}={protocol}://{address}:{port}"));
        env.push(format!("{stem}_ADDR={address}"));
        env.push(format!("{stem}_PORT={port}"));
        env.push(format!("{stem}_PROTO={protocol}"));
    }
    let follows = |(n, p): (u16, Protocol), (m, q): (u16, Protocol)| p == q && n.checked_add(1) == Some(m);
    for run in ports.chunk_by(|a, b| follows(*a, *b)).filter(|run| run.len() > 1) {
        let ((first, protocol), (last, _)) = (run[0], run[run.len() - 1]);
        let stem = stem(first, protocol);
        env.push(format!("{stem}_START={protocol}://{address}:{first}"));
        env.push(format!("{stem}_PORT_START={first}"));
        env.push(format!("{stem}_END={protocol}://{address}:{last}"));
        env.push(format!("{stem}_PORT_END={last}"));
    }
    env.push(format!("{prefix}_NAME=/{}/{alias}", record.name));
    for variable in target.config.env.iter() {
        if let Some((name, _)) = variable.split_once('=').filter(|(n, _)| !matches!(*n, "HOME" | "PATH")) {
            let value = &variable[name.len() + 1..];
            env.push(format!("{prefix}_ENV_{name}={value}"));
        }
    }
    env
}

/// A container has started, perhaps with another address than before: the running containers that link to it learn it.
pub(crate) fn tell_linked(inner: &Arc<Inner>, target: &ContainerId) {
    if !inner.containers.has_links() {
        return;
    }
    let links_here = |r: &ContainerRecord| r.links.iter().any(|l| l.target == *target);
    for handle in inner.containers.all() {
        let snapshot = handle.snapshot();
        if snapshot.state.live().is_none() || !links_here(&snapshot.record) {
            continue;
        }
        let inner = Arc::clone(inner);
        tokio::spawn(async move {
            let record = &snapshot.record;
            // Not all may run; those that do not keep their old address.
            let live: Vec<(String, Resolved)> = record
                .links
                .iter()
                .filter_map(|l| Some((l.alias.clone(), resolve_one(&inner, record, l).ok()?)))
                .collect();
            let path = inner.paths.container(&record.id).hosts();
            if let Ok(hosts) = std::fs::read_to_string(&path)
                // Written in place: the file is what is mounted in the container.
                && let Err(error) = std::fs::write(&path, with_links(&hosts, &live))
            {
                tracing::warn!(path = %path.display(), %error, "cannot tell a container its link's new address");
            }
            let env: Vec<String> = live.into_iter().flat_map(|(_, l)| l.env).collect();
            let edit = move |record: &mut ContainerRecord| {
                record.link_env = env;
                Ok(())
            };
            let _ = handle.ask(|reply| OwnerRequest::Edit { edit: Box::new(edit), reply }).await;
        });
    }
}

/// The file with the lines of links replaced.
fn with_links(hosts: &str, links: &[(String, Resolved)]) -> String {
    let mut text = String::with_capacity(hosts.len());
    for line in hosts.lines() {
        let name = line.split_whitespace().nth(1).filter(|_| !line.starts_with('#'));
        match links.iter().find(|(alias, _)| name == Some(alias)) {
            Some((_, link)) => text.push_str(&format!("{}\t{}", link.address, link.names)),
            None => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

/// The links of a container as `inspect` shows them: `/db:/web/alias`.
pub(crate) fn shown(inner: &Inner, record: &ContainerRecord) -> Vec<String> {
    let name = |link: &Link| match inner.containers.find(link.target.as_str()) {
        Ok(handle) => handle.snapshot().record.name.clone(),
        Err(_) => link.name.clone(),
    };
    record.links.iter().map(|l| format!("/{}:/{}/{}", name(l), record.name, l.alias)).collect()
}

/// What others call a container: `/web/db`.
pub(crate) fn names_elsewhere(inner: &Inner, target: &ContainerId) -> Vec<String> {
    if !inner.containers.has_links() {
        return Vec::new();
    }
    let mut names = Vec::new();
    for handle in inner.containers.all() {
        let snapshot = handle.snapshot();
        let record = &snapshot.record;
        let links = record.links.iter().filter(|l| l.target == *target);
        names.extend(links.map(|l| format!("/{}/{}", record.name, l.alias)));
    }
    names.sort();
    names
}

/// Takes a link away (`rm --link web/db`).
pub(crate) async fn remove(inner: &Arc<Inner>, name: &str) -> Result<()> {
    let missing = || EngineError::NoSuchContainer(name.to_owned());
    let Some((parent, alias)) = name.trim_start_matches('/').split_once('/') else {
        inner.containers.find(name)?;
        let text = "Conflict, cannot remove the default link name of the container";
        return Err(EngineError::Conflict(text.to_owned()));
    };
    let handle = inner.containers.find(parent).map_err(|_| missing())?;
    if !handle.snapshot().record.links.iter().any(|l| l.alias == alias) {
        return Err(missing());
    }
    let alias = alias.to_owned();
    let edit = move |record: &mut ContainerRecord| {
        record.links.retain(|l| l.alias != alias);
        Ok(())
    };
    handle.ask(|reply| OwnerRequest::Edit { edit: Box::new(edit), reply }).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notations() {
        assert_eq!(parse("db").unwrap(), ("db", "db"));
        assert_eq!(parse("db:x").unwrap(), ("db", "x"));
        assert_eq!(parse("/db:/web/x").unwrap(), ("db", "x"));
        assert!(parse("a:b:c").is_err());
    }

    #[test]
    fn lines_of_links_are_replaced_in_place() {
        let hosts = "127.0.0.1\tlocalhost\n10.0.0.2\tdb 0123 x\n# 1 db\n10.0.0.3\tme\n";
        let link =
            Resolved { names: "db 0123 x".to_owned(), address: Ipv4Addr::new(10, 0, 0, 9), env: Vec::new() };
        let expected = "127.0.0.1\tlocalhost\n10.0.0.9\tdb 0123 x\n# 1 db\n10.0.0.3\tme\n";
        assert_eq!(with_links(hosts, &[("db".to_owned(), link)]), expected);
    }
}
