//! `--opt` of macvlan and ipvlan networks: Docker's names, checked, in Docker's words. Labels of other names are kept and
//! have no effect, as in Docker.

use ferry_network::{ChildKind, IpvlanFlag, IpvlanMode, MacvlanMode, ParentConfig};

use super::options::{announcements, parse_mtu};
use super::record::{Driver, NetworkRecord};
use crate::error::{EngineError, Result};

/// The option that names the parent interface.
const PARENT: &str = "parent";

fn option<'a>(record: &'a NetworkRecord, name: &str) -> &'a str {
    record.options.get(name).map_or("", String::as_str)
}

/// The parent interface the user named.
fn parent(record: &NetworkRecord) -> Option<&str> {
    Some(option(record, PARENT)).filter(|name| !name.is_empty())
}

/// Driver and mode of a network that is no bridge.
pub(crate) fn child_kind(record: &NetworkRecord) -> Result<ChildKind> {
    let kind = match record.driver {
        Driver::Bridge => return Err(EngineError::System(format!("{} is a bridge", record.name))),
        Driver::Macvlan => ChildKind::Macvlan(macvlan_mode(option(record, "macvlan_mode"))?),
        Driver::Ipvlan => {
            let mode = ipvlan_mode(option(record, "ipvlan_mode"))?;
            ChildKind::Ipvlan(mode, ipvlan_flag(option(record, "ipvlan_flag"))?)
        }
    };
    if parent(record) == Some("lo") {
        return Err(invalid(format!("loopback interface is not a valid {} parent link", kind.name())));
    }
    Ok(kind)
}

fn invalid(message: String) -> EngineError {
    EngineError::InvalidParameter(message)
}

fn macvlan_mode(text: &str) -> Result<MacvlanMode> {
    Ok(match text {
        "" | "bridge" => MacvlanMode::Bridge,
        "private" => MacvlanMode::Private,
        "vepa" => MacvlanMode::Vepa,
        "passthru" => MacvlanMode::Passthru,
        _ => {
            return Err(invalid(format!(
                "requested macvlan mode '{text}' is not valid, 'bridge' mode is the macvlan driver default"
            )));
        }
    })
}

fn ipvlan_mode(text: &str) -> Result<IpvlanMode> {
    Ok(match text {
        "" | "l2" => IpvlanMode::L2,
        "l3" => IpvlanMode::L3,
        "l3s" => IpvlanMode::L3s,
        _ => {
            return Err(invalid(format!(
                "requested ipvlan mode '{text}' is not valid, 'l2' mode is the ipvlan driver default"
            )));
        }
    })
}

fn ipvlan_flag(text: &str) -> Result<IpvlanFlag> {
    Ok(match text {
        "" | "bridge" => IpvlanFlag::Bridge,
        "private" => IpvlanFlag::Private,
        "vepa" => IpvlanFlag::Vepa,
        _ => {
            return Err(invalid(format!(
                "requested ipvlan flag '{text}' is not valid, 'bridge' is the ipvlan driver default"
            )));
        }
    })
}

/// How a network is opened.
pub(crate) fn config(record: &NetworkRecord) -> Result<ParentConfig> {
    Ok(ParentConfig {
        id: record.id.clone(),
        network: record.name.clone(),
        kind: child_kind(record)?,
        parent: parent(record).map(str::to_owned),
        made_parent: record.made_parent,
        ipv4: record.addresses4().collect(),
        ipv6: record.addresses6().collect(),
        mtu: match record.options.get("com.docker.network.driver.mtu") {
            Some(text) => parse_mtu("com.docker.network.driver.mtu", text)?,
            None => None,
        },
        announcements: announcements(&record.options)?,
        internal: record.internal,
    })
}

/// Whether two networks have the same parent interface of the host's.
pub(crate) fn same(one: &NetworkRecord, other: &NetworkRecord) -> bool {
    let on_parent = |r: &NetworkRecord| r.driver != Driver::Bridge && !r.config_only;
    on_parent(one) && on_parent(other) && parent(one).is_some() && parent(one) == parent(other)
}

/// Several networks may share a parent, unless one takes it for itself.
pub(crate) fn check_shared<'a>(
    record: &NetworkRecord,
    others: impl Iterator<Item = &'a NetworkRecord>,
) -> Result<()> {
    let passthru = |r: &NetworkRecord| r.driver == Driver::Macvlan && option(r, "macvlan_mode") == "passthru";
    let parent = option(record, PARENT);
    for other in others.filter(|other| same(other, record)) {
        let id = &other.id;
        if passthru(record) {
            return Err(EngineError::System(format!(
                "cannot use mode passthru, macvlan network {id} is already using parent interface {parent}"
            )));
        }
        if passthru(other) {
            return Err(EngineError::System(format!(
                "macvlan network {id} is already using parent interface {parent} in mode passthru"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::network::request::to_record;

    fn record(driver: &str, options: &[(&str, &str)]) -> Result<NetworkRecord> {
        let options: BTreeMap<String, String> =
            options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let request = ferry_api::network::NetworkCreateRequest {
            name: "n".to_owned(),
            driver: driver.to_owned(),
            options: options.into(),
            ..Default::default()
        };
        to_record(request, &Default::default(), |_| None)
    }

    #[test]
    fn modes_are_read_or_refused() {
        let kind = |driver, options: &[(&str, &str)]| child_kind(&record(driver, options).unwrap()).unwrap();
        assert_eq!(kind("macvlan", &[]), ChildKind::Macvlan(MacvlanMode::Bridge));
        assert_eq!(kind("macvlan", &[("macvlan_mode", "vepa")]), ChildKind::Macvlan(MacvlanMode::Vepa));
        assert_eq!(kind("ipvlan", &[]), ChildKind::Ipvlan(IpvlanMode::L2, IpvlanFlag::Bridge));
        let l3s = [("ipvlan_mode", "l3s"), ("ipvlan_flag", "private")];
        assert_eq!(kind("ipvlan", &l3s), ChildKind::Ipvlan(IpvlanMode::L3s, IpvlanFlag::Private));
        let refused = |driver, option| record(driver, &[option]).unwrap_err().to_string();
        assert_eq!(
            refused("macvlan", ("macvlan_mode", "foo")),
            "requested macvlan mode 'foo' is not valid, 'bridge' mode is the macvlan driver default"
        );
        assert_eq!(
            refused("ipvlan", ("ipvlan_flag", "foo")),
            "requested ipvlan flag 'foo' is not valid, 'bridge' is the ipvlan driver default"
        );
        assert_eq!(
            refused("macvlan", ("parent", "lo")),
            "loopback interface is not a valid macvlan parent link"
        );
    }

    #[test]
    fn a_parent_is_shared_unless_one_takes_it_for_itself() {
        let on = |driver, mode| record(driver, &[("parent", "eth0"), ("macvlan_mode", mode)]).unwrap();
        let (plain, other) = (on("macvlan", ""), on("ipvlan", ""));
        let alone = on("macvlan", "passthru");
        check_shared(&plain, [&other].into_iter()).unwrap();
        let error = check_shared(&alone, [&plain].into_iter()).unwrap_err().to_string();
        assert!(error.starts_with("cannot use mode passthru, macvlan network "), "{error}");
        let error = check_shared(&plain, [&alone].into_iter()).unwrap_err().to_string();
        assert!(error.ends_with(" is already using parent interface eth0 in mode passthru"), "{error}");
        let nowhere = record("macvlan", &[]).unwrap();
        assert!(!same(&nowhere, &record("macvlan", &[]).unwrap()));
    }
}
