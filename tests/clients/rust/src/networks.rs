//! The networks every engine has, and those users make.

use std::collections::HashMap;

use anyhow::{Context as _, Result};
use bollard::models::{NetworkConnectRequest, NetworkCreateRequest, NetworkDisconnectRequest};
use bollard::query_parameters::ListNetworksOptionsBuilder;
use serde_json::json;

use crate::harness::{Ctx, LABEL, cases, refused, unless_missing};

cases!("networks":
    default_networks,
    bridge_shows_its_containers,
    containers_reach_each_other,
    without_a_network,
    absent,
    own_network,
    connect_and_disconnect,
);

async fn default_networks(t: &Ctx) -> Result<()> {
    let list = async |filters: &[(&str, &str)]| -> Result<Vec<String>> {
        let filters: HashMap<&str, Vec<&str>> = filters.iter().map(|(k, v)| (*k, vec![*v])).collect();
        let options = ListNetworksOptionsBuilder::new().filters(&filters).build();
        Ok(t.docker.list_networks(Some(options)).await?.into_iter().filter_map(|n| n.name).collect())
    };
    let all = list(&[]).await?;
    assert!(["bridge", "host", "none"].iter().all(|name| all.iter().any(|n| n == name)), "{all:?}");
    assert_eq!(list(&[("driver", "host")]).await?, ["host"]);
    assert_eq!(list(&[("type", "builtin"), ("name", "none")]).await?, ["none"]);
    Ok(())
}

async fn bridge_shows_its_containers(t: &Ctx) -> Result<()> {
    let id = t.start("exec sleep 60", json!({})).await?;
    let bridge = serde_json::to_value(t.docker.inspect_network("bridge", None).await?)?;
    assert_eq!(bridge["Driver"], "bridge");
    assert_eq!(bridge["Options"]["com.docker.network.bridge.default_bridge"], "true");
    assert!(bridge["IPAM"]["Config"][0]["Subnet"].is_string());
    let seen = t.inspect_json(&id).await?;
    let endpoint = &seen["NetworkSettings"]["Networks"]["bridge"];
    let address = endpoint["IPAddress"].as_str().context("no address")?;
    let listed = bridge["Containers"][&id]["IPv4Address"].as_str().unwrap_or_default();
    assert!(listed.starts_with(&format!("{address}/")), "{listed}");
    assert_eq!(bridge["Containers"][&id]["MacAddress"], endpoint["MacAddress"]);
    Ok(())
}

async fn containers_reach_each_other(t: &Ctx) -> Result<()> {
    let server =
        t.start("mkdir /w; echo hello > /w/index.html; exec httpd -f -p 80 -h /w", json!({})).await?;
    let seen = t.inspect_json(&server).await?;
    let address =
        seen["NetworkSettings"]["Networks"]["bridge"]["IPAddress"].as_str().context("no address")?;
    let script =
        format!("for i in 1 2 3 4 5; do wget -q -O - http://{address}/ && exit; sleep 0.3; done; exit 1");
    assert_eq!(t.output(&script, json!({})).await?, "hello\n");
    Ok(())
}

async fn without_a_network(t: &Ctx) -> Result<()> {
    let none = json!({"HostConfig": {"NetworkMode": "none"}});
    assert_eq!(t.output("ls /sys/class/net", none).await?, "lo\n");
    Ok(())
}

async fn absent(t: &Ctx) -> Result<()> {
    refused(t.docker.inspect_network("absent", None).await, 404, "network absent not found");
    Ok(())
}

/// Makes a network, if the engine can.
async fn network(t: &Ctx) -> Result<(String, String)> {
    let name = t.name("network");
    let request: NetworkCreateRequest =
        serde_json::from_value(json!({"Name": name, "Labels": {LABEL: "own"}}))?;
    let id = unless_missing(t.docker.create_network(request).await)?.id;
    t.remove_network_later(&id);
    Ok((name, id))
}

async fn own_network(t: &Ctx) -> Result<()> {
    let (name, id) = network(t).await?;
    let seen = t.docker.inspect_network(&name, None).await?;
    assert_eq!(seen.id, Some(id));
    assert_eq!(seen.labels.unwrap_or_default().get(LABEL).map(String::as_str), Some("own"));
    let mode = json!({"HostConfig": {"NetworkMode": name}});
    let server = t.name("server");
    let container = t
        .create_named(
            &server,
            "mkdir /w; echo by name > /w/index.html; exec httpd -f -p 80 -h /w",
            mode.clone(),
        )
        .await?;
    t.docker.start_container(&container, None).await?;
    let script =
        format!("for i in 1 2 3 4 5; do wget -q -O - http://{server}/ && exit; sleep 0.3; done; exit 1");
    assert_eq!(t.output(&script, mode).await?, "by name\n");
    Ok(())
}

async fn connect_and_disconnect(t: &Ctx) -> Result<()> {
    let (name, id) = network(t).await?;
    let container = t.start("exec sleep 60", json!({})).await?;
    let connect = NetworkConnectRequest { container: container.clone(), ..Default::default() };
    t.docker.connect_network(&id, connect).await?;
    let connected = async || -> Result<bool> {
        Ok(t.inspect_json(&container).await?["NetworkSettings"]["Networks"][&name].is_object())
    };
    assert!(connected().await?);
    let disconnect = NetworkDisconnectRequest { container: container.clone(), ..Default::default() };
    t.docker.disconnect_network(&id, disconnect).await?;
    assert!(!connected().await?);
    t.docker.remove_network(&id).await?;
    refused(t.docker.inspect_network(&id, None).await, 404, "not found");
    Ok(())
}
