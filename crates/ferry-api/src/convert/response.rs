//! Responses in the form of older versions.

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::container::{ContainerInspect, ContainerSummary};
use crate::events::{EventMessage, LegacyEvent};
use crate::image::{ImageInspect, ImageSummary};
use crate::network::{LegacyNetworkSettings, NetworkInspect};
use crate::stats::ContainerStats;
use crate::system::{BuildCacheRecord, DiskUsage, SystemInfo};
use crate::version::ApiVersion;
use crate::volume::Volume;

/// `GET /containers/json`.
pub fn container_list(list: &mut [ContainerSummary], version: ApiVersion) {
    if version >= ApiVersion(52) {
        return;
    }
    for container in list {
        container.health = None;
        if version < ApiVersion(48) {
            container.image_manifest_descriptor = None;
        }
        if version < ApiVersion(46) {
            container.host_config.annotations = Default::default();
        }
    }
}

/// `GET /containers/{id}/json`.
///
/// The old members for the default bridge go to clients of every version, unlike with Docker, which
/// dropped them in 1.52: `--format '{{.NetworkSettings.IPAddress}}'` is too common to break.
pub fn container_inspect(container: &mut ContainerInspect, version: ApiVersion) {
    let bridge = container.network_settings.networks.get("bridge").cloned().unwrap_or_default();
    container.network_settings.legacy = Some(Box::new(LegacyNetworkSettings {
        endpoint_id: bridge.endpoint_id,
        gateway: bridge.gateway,
        global_ipv6_address: bridge.global_ipv6_address,
        global_ipv6_prefix_len: bridge.global_ipv6_prefix_len,
        ip_address: bridge.ip_address,
        ip_prefix_len: bridge.ip_prefix_len,
        ipv6_gateway: bridge.ipv6_gateway,
        mac_address: bridge.mac_address,
        ..LegacyNetworkSettings::default()
    }));
    if version < ApiVersion(48) {
        container.image_manifest_descriptor = None;
    }
    if version < ApiVersion(45) {
        let own_names = [container.id.chars().take(12).collect(), container.config.hostname.clone()];
        let networks = &mut container.network_settings.networks;
        let user_defined = |name: &str| !matches!(name, "bridge" | "host" | "none" | "default");
        for (_, endpoint) in networks.get_mut().iter_mut().filter(|(name, _)| user_defined(name)) {
            for name in own_names.iter().filter(|n| !n.is_empty()) {
                if !endpoint.aliases.contains(name) {
                    endpoint.aliases.get_mut().push(name.clone());
                }
            }
        }
    }
}

/// `GET /images/json`.
pub fn image_list(list: &mut [ImageSummary], version: ApiVersion) {
    if version >= ApiVersion(51) {
        return;
    }
    for image in list {
        image.containers = -1;
        if version < ApiVersion(48) {
            image.descriptor = None;
        }
        if version < ApiVersion(44) {
            image.virtual_size = image.size;
        }
        if version < ApiVersion(43) && image.repo_tags.is_empty() && image.repo_digests.is_empty() {
            image.repo_tags.push("<none>:<none>".to_owned());
            image.repo_digests.push("<none>@<none>".to_owned());
        }
    }
}

/// `GET /images/{name}/json`.
///
/// # Errors
/// Never for this type: it has no map key that is not a string.
pub fn image_inspect(
    mut image: ImageInspect,
    version: ApiVersion,
) -> Result<Box<RawValue>, serde_json::Error> {
    if version < ApiVersion(48) {
        image.descriptor = None;
    }
    if version < ApiVersion(44) {
        image.virtual_size = image.size;
        if image.created.is_empty() {
            image.created = crate::json::Time::default().to_string();
        }
    }
    if version >= ApiVersion(52) {
        return serde_json::value::to_raw_value(&image);
    }
    let mut value = serde_json::to_value(&image)?;
    add_missing(&mut value, json!({"Parent": "", "Comment": "", "DockerVersion": "", "Author": ""}));
    let config = &mut value["Config"];
    add_missing(
        config,
        json!({"Cmd": null, "Entrypoint": null, "Env": null, "Labels": null, "OnBuild": null,
               "User": "", "Volumes": null, "WorkingDir": ""}),
    );
    if version < ApiVersion(50) {
        add_missing(
            config,
            json!({"AttachStderr": false, "AttachStdin": false, "AttachStdout": false, "Domainname": "",
                   "Hostname": "", "Image": "", "OpenStdin": false, "StdinOnce": false, "Tty": false}),
        );
    }
    if version < ApiVersion(45) {
        add_missing(&mut value, json!({"Container": "", "ContainerConfig": null}));
    }
    RawValue::from_string(in_order(&value, &IMAGE_MEMBERS))
}

/// Members of an image in the order Docker writes them in; those of its configuration have that of the
/// alphabet. The members of inner objects stand in the same list, as no name stands in both.
const IMAGE_MEMBERS: [&str; 23] = [
    "Id",
    "RepoTags",
    "RepoDigests",
    "Parent",
    "Comment",
    "Created",
    "Container",
    "ContainerConfig",
    "DockerVersion",
    "Author",
    "Architecture",
    "Variant",
    "Os",
    "OsVersion",
    "Size",
    "VirtualSize",
    "GraphDriver",
    "RootFS",
    "Metadata",
    "Descriptor",
    "Manifests",
    "Config",
    "Type",
];

/// JSON with the members of objects in the order of `names`, the others behind them.
fn in_order(value: &Value, names: &[&str]) -> String {
    match value {
        Value::Object(members) => {
            let place = |name: &str| names.iter().position(|n| *n == name).unwrap_or(names.len());
            let mut sorted: Vec<(&String, &Value)> = members.iter().collect();
            sorted.sort_by_key(|(name, _)| place(name));
            let texts: Vec<String> = sorted
                .into_iter()
                .map(|(name, value)| format!("{}:{}", Value::from(name.as_str()), in_order(value, names)))
                .collect();
            format!("{{{}}}", texts.join(","))
        }
        Value::Array(items) => {
            let texts: Vec<String> = items.iter().map(|item| in_order(item, names)).collect();
            format!("[{}]", texts.join(","))
        }
        other => other.to_string(),
    }
}

/// Adds the members of one object that another does not have.
fn add_missing(to: &mut Value, members: Value) {
    if let (Value::Object(to), Value::Object(members)) = (to, members) {
        for (name, value) in members {
            to.entry(name).or_insert(value);
        }
    }
}

/// `GET /info`.
pub fn info(info: &mut SystemInfo, version: ApiVersion) {
    if version < ApiVersion(50) {
        info.bridge_nf_iptables = Some(false);
        info.bridge_nf_ip6tables = Some(false);
        info.discovered_devices = Default::default();
    }
    if version < ApiVersion(49) {
        info.firewall_backend = None;
        for commit in [&mut info.containerd_commit, &mut info.runc_commit, &mut info.init_commit] {
            commit.expected = commit.id.clone();
        }
    }
    if version < ApiVersion(44) && !info.runtimes.is_null() {
        for runtime in info.runtimes.get_mut().values_mut() {
            runtime.status = Default::default();
        }
    }
}

/// One event; `None` when clients of that version do not know it.
pub fn event(mut event: EventMessage, version: ApiVersion) -> Option<EventMessage> {
    if version < ApiVersion(46) && event.kind == "image" && event.action == "create" {
        return None;
    }
    if version < ApiVersion(52) && matches!(event.kind.as_str(), "container" | "image") {
        let from = match event.kind.as_str() {
            "container" => event.actor.attributes.get("image").cloned().unwrap_or_default(),
            _ => String::new(),
        };
        event.legacy = Some(LegacyEvent { status: event.action.clone(), id: event.actor.id.clone(), from });
    }
    Some(event)
}

/// `GET /networks/{id}`.
pub fn network_inspect(inspect: &mut NetworkInspect, version: ApiVersion) {
    if version < ApiVersion(52) {
        inspect.status = None;
    }
}

/// `GET /system/df` of a version: the old members, the new ones, or both.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DiskUsageBody {
    #[serde(flatten)]
    old: Option<OldDiskUsage>,
    #[serde(flatten)]
    new: Option<DiskUsage>,
}

/// Members of `GET /system/df` before API 1.52; a part is null when it was not asked for.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct OldDiskUsage {
    layers_size: i64,
    images: Option<Vec<ImageSummary>>,
    containers: Option<Vec<ContainerSummary>>,
    volumes: Option<Vec<Volume>>,
    build_cache: Option<Vec<BuildCacheRecord>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    builder_size: Option<i64>,
}

/// `GET /containers/{id}/stats`.
pub fn stats(stats: &mut ContainerStats, version: ApiVersion) {
    if version < ApiVersion(52) {
        stats.os_type = String::new();
    }
}

/// `GET /system/df`; `verbose` clients of API 1.52 get the elements in the new members only.
pub fn disk_usage(mut usage: DiskUsage, version: ApiVersion, verbose: bool) -> DiskUsageBody {
    let new_client = version >= ApiVersion(52);
    if new_client && verbose {
        return DiskUsageBody { old: None, new: Some(usage) };
    }
    let mut old = OldDiskUsage {
        layers_size: usage.image_usage.as_ref().map_or(0, |u| u.total_size),
        images: usage.image_usage.as_mut().map(|u| std::mem::take(&mut u.items).into_vec()),
        containers: usage.container_usage.as_mut().map(|u| std::mem::take(&mut u.items).into_vec()),
        volumes: usage.volume_usage.as_mut().map(|u| std::mem::take(&mut u.items).into_vec()),
        build_cache: usage.build_cache_usage.as_mut().map(|u| std::mem::take(&mut u.items).into_vec()),
        builder_size: (version < ApiVersion(42)).then_some(0),
    };
    if !new_client {
        container_list(old.containers.as_deref_mut().unwrap_or_default(), version);
    }
    if version < ApiVersion(44) {
        for image in old.images.iter_mut().flatten() {
            image.virtual_size = image.size;
        }
    }
    DiskUsageBody { old: Some(old), new: new_client.then_some(usage) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::UsageOf;

    #[test]
    fn old_scripts_find_the_bridge_address() {
        let mut container = ContainerInspect::default();
        let endpoint = crate::EndpointSettings { ip_address: "172.17.0.2".into(), ..Default::default() };
        container.network_settings.networks.get_mut().insert("bridge".into(), endpoint);
        container_inspect(&mut container, ApiVersion(51));
        let value = serde_json::to_value(&container).unwrap();
        assert_eq!(value["NetworkSettings"]["IPAddress"], "172.17.0.2");
        assert_eq!(value["NetworkSettings"]["SecondaryIPAddresses"], Value::Null);
        assert_eq!(value["NetworkSettings"]["Bridge"], "");
    }

    #[test]
    fn image_configs_grow_towards_the_past() {
        let members = |minor| {
            let value = image_inspect(ImageInspect::default(), ApiVersion(minor)).unwrap();
            let value: Value = serde_json::from_str(value.get()).unwrap();
            (value.get("VirtualSize").is_some(), value["Config"].as_object().unwrap().len())
        };
        assert_eq!([members(52), members(51), members(49)].map(|m| m.1), [0, 8, 17]);
        let image = ImageInspect { size: 5, ..Default::default() };
        let text = image_inspect(image, ApiVersion(43)).unwrap();
        assert_eq!(serde_json::from_str::<Value>(text.get()).unwrap()["VirtualSize"], 5);
        assert!(text.get().starts_with("{\"Id\":"), "members come in the order people know");
    }

    #[test]
    fn disk_usage_has_three_shapes() {
        let usage = || DiskUsage {
            image_usage: Some(UsageOf {
                total_size: 7,
                items: vec![ImageSummary::default()].into(),
                ..UsageOf::default()
            }),
            ..DiskUsage::default()
        };
        let shape =
            |minor, verbose| serde_json::to_value(disk_usage(usage(), ApiVersion(minor), verbose)).unwrap();
        let old = shape(51, false);
        assert_eq!((&old["LayersSize"], old["Images"].as_array().unwrap().len()), (&json!(7), 1));
        assert_eq!((&old["Containers"], old.get("ImageUsage")), (&Value::Null, None));
        let both = shape(55, false);
        assert_eq!((&both["LayersSize"], &both["ImageUsage"]["TotalSize"]), (&json!(7), &json!(7)));
        let new = shape(55, true);
        assert_eq!((new.get("LayersSize"), new["ImageUsage"]["Items"].as_array().unwrap().len()), (None, 1));
    }

    #[test]
    fn events_carry_the_old_members_for_old_clients() {
        let mut message =
            EventMessage { kind: "container".into(), action: "die".into(), ..Default::default() };
        message.actor.id = "abc".into();
        message.actor.attributes.get_mut().insert("image".into(), "debian".into());
        let text =
            |minor| serde_json::to_string(&event(message.clone(), ApiVersion(minor)).unwrap()).unwrap();
        assert!(text(51).starts_with(r#"{"status":"die","id":"abc","from":"debian","Type":"container""#));
        assert!(text(52).starts_with(r#"{"Type":"container","Action":"die""#));
        message.kind = "image".into();
        message.action = "create".into();
        assert!(event(message, ApiVersion(45)).is_none());
    }
}
