//! Bodies as Docker writes them, to the letter.

use ferry_api::container::{ContainerCreateRequest, ContainerInspect, ContainerSummary, HostConfig, Port};
use ferry_api::convert::response;
use ferry_api::{ApiVersion, EndpointSettings, EventMessage, JsonMessage, Time, json};

fn text<T: serde::Serialize>(value: &T) -> String {
    String::from_utf8(json::to_vec(value).unwrap()).unwrap()
}

/// What `docker run -it --rm -p 8080:80 debian sh` sends (client 28).
const RUN: &str = r#"{"Hostname":"","Domainname":"","User":"","AttachStdin":true,"AttachStdout":true,"AttachStderr":true,"ExposedPorts":{"80/tcp":{}},"Tty":true,"OpenStdin":true,"StdinOnce":true,"Env":null,"Cmd":["sh"],"Image":"debian","Volumes":{},"WorkingDir":"","Entrypoint":null,"Labels":{},"HostConfig":{"Binds":null,"ContainerIDFile":"","LogConfig":{"Type":"","Config":{}},"NetworkMode":"default","PortBindings":{"80/tcp":[{"HostIp":"","HostPort":"8080"}]},"RestartPolicy":{"Name":"no","MaximumRetryCount":0},"AutoRemove":true,"VolumeDriver":"","VolumesFrom":null,"ConsoleSize":[24,80],"CapAdd":null,"CapDrop":null,"CgroupnsMode":"","Dns":[],"DnsOptions":[],"DnsSearch":[],"ExtraHosts":null,"GroupAdd":null,"IpcMode":"","Cgroup":"","Links":null,"OomScoreAdj":0,"PidMode":"","Privileged":false,"PublishAllPorts":false,"ReadonlyRootfs":false,"SecurityOpt":null,"UTSMode":"","UsernsMode":"","ShmSize":0,"Isolation":"","CpuShares":0,"Memory":0,"NanoCpus":0,"CgroupParent":"","BlkioWeight":0,"BlkioWeightDevice":[],"BlkioDeviceReadBps":[],"BlkioDeviceWriteBps":[],"BlkioDeviceReadIOps":[],"BlkioDeviceWriteIOps":[],"CpuPeriod":0,"CpuQuota":0,"CpuRealtimePeriod":0,"CpuRealtimeRuntime":0,"CpusetCpus":"","CpusetMems":"","Devices":[],"DeviceCgroupRules":null,"DeviceRequests":null,"MemoryReservation":0,"MemorySwap":0,"MemorySwappiness":-1,"OomKillDisable":false,"PidsLimit":0,"Ulimits":[],"CpuCount":0,"CpuPercent":0,"IOMaximumIOps":0,"IOMaximumBandwidth":0,"MaskedPaths":null,"ReadonlyPaths":null},"NetworkingConfig":{"EndpointsConfig":{"default":{"IPAMConfig":null,"Links":null,"Aliases":null,"DriverOpts":null,"GwPriority":0,"NetworkID":"","EndpointID":"","Gateway":"","IPAddress":"","MacAddress":"","IPPrefixLen":0,"IPv6Gateway":"","GlobalIPv6Address":"","GlobalIPv6PrefixLen":0,"DNSNames":null}}}}"#;

#[test]
fn a_run_request_comes_back_byte_for_byte() {
    let request: ContainerCreateRequest = json::from_slice(RUN.as_bytes()).unwrap();
    assert_eq!(text(&request).trim_end(), RUN);
    let host = request.host_config.unwrap();
    assert_eq!(host.port_bindings["80/tcp"][0].host_port, "8080");
    assert_eq!(host.resources.memory_swappiness, Some(-1));
    assert!(host.auto_remove && request.config.tty);
}

#[test]
fn nulls_of_an_empty_host_config() {
    let value = serde_json::to_value(HostConfig::default()).unwrap();
    for name in ["Binds", "PortBindings", "Dns", "CapAdd", "Devices", "Ulimits", "MaskedPaths", "PidsLimit"] {
        assert_eq!(value.get(name), Some(&serde_json::Value::Null), "{name}");
    }
    for name in ["Mounts", "Tmpfs", "Init", "Runtime", "Sysctls", "Annotations", "StorageOpt", "KernelMemory"]
    {
        assert_eq!(value.get(name), None, "{name}");
    }
    assert_eq!(value["ConsoleSize"], serde_json::json!([0, 0]));
}

#[test]
fn an_inspected_container() {
    let mut container = ContainerInspect { id: "c".into(), ..ContainerInspect::default() };
    response::container_inspect(&mut container, ApiVersion(51));
    let text = text(&container);
    let start = r#"{"Id":"c","Created":"0001-01-01T00:00:00Z","Path":"","Args":[],"State":{"Status":"","Running":false,"Paused":false,"Restarting":false,"OOMKilled":false,"Dead":false,"Pid":0,"ExitCode":0,"Error":"","StartedAt":"0001-01-01T00:00:00Z","FinishedAt":"0001-01-01T00:00:00Z"},"Image":"","ResolvConfPath":"","HostnamePath":"","HostsPath":"","LogPath":"","Name":"","RestartCount":0,"Driver":"","Platform":"","MountLabel":"","ProcessLabel":"","AppArmorProfile":"","ExecIDs":null,"HostConfig":{"#;
    assert!(text.starts_with(start), "{text}");
    let settings = r#""NetworkSettings":{"SandboxID":"","SandboxKey":"","Ports":null,"Bridge":"","HairpinMode":false,"LinkLocalIPv6Address":"","LinkLocalIPv6PrefixLen":0,"SecondaryIPAddresses":null,"SecondaryIPv6Addresses":null,"EndpointID":"","Gateway":"","GlobalIPv6Address":"","GlobalIPv6PrefixLen":0,"IPAddress":"","IPPrefixLen":0,"IPv6Gateway":"","MacAddress":"","Networks":null}}"#;
    assert!(text.trim_end().ends_with(settings), "{text}");
    assert!(text.contains(r#""Mounts":[],"Config":{"Hostname":"","#), "{text}");
}

#[test]
fn a_listed_container() {
    let mut container = ContainerSummary { id: "c".into(), names: vec!["/n".into()], ..Default::default() };
    container.ports = vec![
        Port { private_port: 80, kind: "tcp".into(), ..Port::default() },
        Port { ip: "::".into(), private_port: 80, public_port: 8080, kind: "tcp".into() },
    ];
    container.network_settings.networks.get_mut().insert("bridge".into(), EndpointSettings::default());
    let expected = r#"{"Id":"c","Names":["/n"],"Image":"","ImageID":"","Command":"","Created":0,"Ports":[{"PrivatePort":80,"Type":"tcp"},{"IP":"::","PrivatePort":80,"PublicPort":8080,"Type":"tcp"}],"Labels":null,"State":"","Status":"","HostConfig":{},"NetworkSettings":{"Networks":{"bridge":{"IPAMConfig":null,"Links":null,"Aliases":null,"DriverOpts":null,"GwPriority":0,"NetworkID":"","EndpointID":"","Gateway":"","IPAddress":"","MacAddress":"","IPPrefixLen":0,"IPv6Gateway":"","GlobalIPv6Address":"","GlobalIPv6PrefixLen":0,"DNSNames":null}}},"Mounts":[]}"#;
    assert_eq!(text(&container).trim_end(), expected);
}

#[test]
fn lines_of_streams() {
    let line = JsonMessage::progress("abc", "Downloading", 1, 2);
    let expected =
        "{\"status\":\"Downloading\",\"progressDetail\":{\"current\":1,\"total\":2},\"id\":\"abc\"}\n";
    assert_eq!(text(&line), expected);
    let line = JsonMessage::error("no");
    assert_eq!(text(&line), "{\"errorDetail\":{\"message\":\"no\"},\"error\":\"no\"}\n");
    let event = EventMessage { kind: "container".into(), time: 1, time_nano: 2, ..EventMessage::default() };
    assert_eq!(
        text(&event),
        "{\"Type\":\"container\",\"Action\":\"\",\"Actor\":{\"ID\":\"\",\"Attributes\":null},\"time\":1,\"timeNano\":2}\n"
    );
}

#[test]
fn times_are_read_and_written() {
    let text = "\"2024-05-06T07:08:09.000000001Z\"";
    let time: Time = json::from_slice(text.as_bytes()).unwrap();
    assert_eq!(serde_json::to_string(&time).unwrap(), text);
    assert!(json::from_slice::<Time>(b"\"0001-01-01T00:00:00Z\"").unwrap().is_zero());
    let offset: Time = json::from_slice(b"\"2024-05-06T07:08:09+02:00\"").unwrap();
    assert_eq!(offset.to_string(), "2024-05-06T05:08:09Z");
}
