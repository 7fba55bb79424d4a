//! The wire types against Docker's description of the API: every field it has is read and written
//! back, and what the types write by default is of the described kinds.

mod description;

use description::Description;
use ferry_api::{container, events, exec, image, json, network, stats, stream, system, volume};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Reads an example of the definition in which every field is set, writes it, and lists what got lost.
fn lost<T: Serialize + DeserializeOwned>(description: &Description, definition: &str) -> Vec<String> {
    let example = description.example(definition);
    let text = serde_json::to_vec(&example).unwrap();
    let value: T = json::from_slice(&text).unwrap_or_else(|e| panic!("{definition}: {e}"));
    let mut lost = Vec::new();
    differences(&example, &serde_json::to_value(&value).unwrap(), definition, &mut lost);
    lost
}

fn differences(wanted: &Value, found: &Value, path: &str, lost: &mut Vec<String>) {
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => {
            for (name, value) in wanted {
                match found.get(name) {
                    Some(inner) => differences(value, inner, &format!("{path}.{name}"), lost),
                    None => lost.push(format!("{path}.{name}")),
                }
            }
        }
        (Value::Array(wanted), Value::Array(found)) if wanted.len() == found.len() => {
            wanted.iter().zip(found).for_each(|(w, f)| differences(w, f, path, lost));
        }
        _ if wanted == found => {}
        _ => lost.push(format!("{path}: {wanted} became {found}")),
    }
}

/// Fields ferry never sends and no client of it may send (of swarm, Windows, containerd, provenance),
/// and where Docker itself does not do as described.
const LEFT_OUT: &[&str] = &[
    "Resources.Init",
    ".MemorySwappiness: null",
    ".OomKillDisable: null",
    "ImageInspect.RootFS.Type is missing",
    // An empty object, which is left out.
    "SystemVersion.Components.Details",
    ".Identity",
    ".Storage",
    ".ClusterVolume",
    ".Containerd",
    ".NRI",
    ".DiscoveredDevices",
    ".SystemStatus",
    ".Cluster",
    ".AttestationData",
    ".commitbytes",
    ".commitpeakbytes",
    ".privateworkingset",
    ".storage_stats.",
    ".endpoint_id",
    ".instance_id",
];

macro_rules! round_trips {
    ($($test:ident: $($definition:literal => $ty:ty),+;)*) => {$(
        #[test]
        fn $test() {
            let description = Description::load();
            let mut faults = Vec::new();
            $(
                faults.extend(lost::<$ty>(&description, $definition));
                let default = serde_json::to_value(<$ty>::default()).unwrap();
                faults.extend(description.mismatches($definition, &default));
            )+
            faults.retain(|field| !LEFT_OUT.iter().any(|known| field.contains(known)));
            assert!(faults.is_empty(), "{faults:#?}");
        }
    )*};
}

round_trips! {
    container_requests:
        "ContainerConfig" => container::ContainerConfig,
        "HostConfig" => container::HostConfig,
        "Resources" => container::Resources,
        "NetworkingConfig" => network::NetworkingConfig,
        "Mount" => ferry_api::Mount;
    container_answers:
        "ContainerInspectResponse" => container::ContainerInspect,
        "ContainerSummary" => container::ContainerSummary,
        "ContainerCreateResponse" => container::ContainerCreateResponse,
        "ContainerUpdateResponse" => container::ContainerUpdateResponse,
        "ContainerTopResponse" => container::ContainerTopResponse,
        "ContainerWaitResponse" => container::ContainerWaitResponse,
        "FilesystemChange" => container::FilesystemChange,
        "ContainerStatsResponse" => stats::ContainerStats,
        "IDResponse" => exec::IdResponse;
    images:
        "ImageInspect" => image::ImageInspect,
        "ImageSummary" => image::ImageSummary,
        "ImageHistoryResponseItem" => image::HistoryItem,
        "ImageDeleteResponseItem" => image::ImageDeleteItem,
        "DistributionInspect" => image::DistributionInspect,
        "CreateImageInfo" => stream::JsonMessage,
        "AuthConfig" => ferry_api::AuthConfig,
        "AuthResponse" => ferry_api::AuthResponse;
    volumes_and_networks:
        "Volume" => volume::Volume,
        "VolumeCreateRequest" => volume::VolumeCreateRequest,
        "VolumeListResponse" => volume::VolumeListResponse,
        "Network" => network::Network,
        "NetworkInspect" => network::NetworkInspect,
        "NetworkSettings" => network::NetworkSettings,
        "NetworkCreateResponse" => network::NetworkCreateResponse,
        "NetworkConnectRequest" => network::NetworkConnectRequest,
        "NetworkDisconnectRequest" => network::NetworkDisconnectRequest;
    the_daemon:
        "SystemVersion" => system::VersionResponse,
        "SystemInfo" => system::SystemInfo,
        "EventMessage" => events::EventMessage,
        "ImagesDiskUsage" => system::UsageOf<image::ImageSummary>,
        "ContainersDiskUsage" => system::UsageOf<container::ContainerSummary>,
        "VolumesDiskUsage" => system::UsageOf<volume::Volume>,
        "BuildCacheDiskUsage" => system::UsageOf<system::BuildCacheRecord>,
        "ErrorResponse" => ferry_api::ErrorResponse;
}

#[test]
fn the_checker_finds_wrong_kinds() {
    let description = Description::load();
    let wrong = serde_json::json!({"Id": 5, "Names": "x", "Ports": [{"PrivatePort": "80"}], "Bogus": 1});
    let found = description.mismatches("ContainerSummary", &wrong);
    assert_eq!(found.len(), 5, "{found:#?}");
}
