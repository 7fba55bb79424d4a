//! Volumes: made, listed, mounted, protected and removed.

use std::collections::HashMap;

use anyhow::{Context as _, Result};
use bollard::models::VolumeCreateRequest;
use bollard::query_parameters::{
    ListVolumesOptionsBuilder, PruneVolumesOptionsBuilder, RemoveContainerOptionsBuilder, RemoveVolumeOptions,
};
use serde_json::json;

use crate::harness::{Ctx, LABEL, cases, refused};

cases!("volumes":
    settings_come_back,
    data_outlives_containers,
    content_of_the_image,
    read_only,
    mounts,
    volumes_of_another_container,
    options_of_the_driver,
    list_filters,
    volume_in_use,
    anonymous_volume,
    prune,
);

async fn volume(t: &Ctx, label: &str) -> Result<String> {
    let name = t.name("volume");
    let request: VolumeCreateRequest =
        serde_json::from_value(json!({"Name": name, "Labels": {LABEL: label}}))?;
    t.docker.create_volume(request).await?;
    t.remove_volume_later(&name);
    Ok(name)
}

async fn settings_come_back(t: &Ctx) -> Result<()> {
    let name = volume(t, "x").await?;
    let seen = t.docker.inspect_volume(&name).await?;
    assert_eq!((&*seen.driver, seen.labels.get(LABEL).map(String::as_str)), ("local", Some("x")));
    assert!(seen.mountpoint.ends_with(&format!("/{name}/_data")), "{}", seen.mountpoint);
    // Made again, it stays the same volume.
    let again =
        t.docker.create_volume(VolumeCreateRequest { name: Some(name), ..Default::default() }).await?;
    assert_eq!(again.created_at, seen.created_at);
    Ok(())
}

async fn data_outlives_containers(t: &Ctx) -> Result<()> {
    let name = volume(t, "").await?;
    let binds = json!({"HostConfig": {"Binds": [format!("{name}:/data")]}});
    let writer = t.run("echo kept > /data/file", binds.clone()).await?;
    assert_eq!(t.inspect_json(&writer).await?["Mounts"][0]["Name"], name);
    let options = RemoveContainerOptionsBuilder::new().v(true).build();
    t.docker.remove_container(&writer, Some(options)).await?;
    assert_eq!(t.output("cat /data/file", binds).await?, "kept\n");
    Ok(())
}

async fn content_of_the_image(t: &Ctx) -> Result<()> {
    let (copied, empty) = (volume(t, "").await?, volume(t, "").await?);
    let etc =
        |volume: &str, options: &str| json!({"HostConfig": {"Binds": [format!("{volume}:/etc{options}")]}});
    assert!(t.output("cat /etc/passwd", etc(&copied, "")).await?.starts_with("root:"));
    assert!(!t.output("ls /etc", etc(&empty, ":nocopy")).await?.contains("passwd"));
    Ok(())
}

async fn read_only(t: &Ctx) -> Result<()> {
    let name = volume(t, "").await?;
    let binds = json!({"HostConfig": {"Binds": [format!("{name}:/data:ro")]}});
    assert_eq!(t.output("echo x 2>/dev/null > /data/x || echo refused", binds).await?, "refused\n");
    Ok(())
}

async fn mounts(t: &Ctx) -> Result<()> {
    let name = volume(t, "").await?;
    let mounts = json!({"HostConfig": {"Mounts": [
        {"Type": "volume", "Source": name, "Target": "/v"},
        {"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 1 << 20}},
        {"Type": "bind", "Source": "/tmp", "Target": "/b", "ReadOnly": true},
    ]}});
    let script =
        "echo x > /v/x && echo volume; stat -f -c %T /t; echo x 2>/dev/null > /b/x || echo read-only";
    assert_eq!(t.output(script, mounts).await?, "volume\ntmpfs\nread-only\n");
    Ok(())
}

async fn volumes_of_another_container(t: &Ctx) -> Result<()> {
    let name = volume(t, "").await?;
    let binds = json!({"HostConfig": {"Binds": [format!("{name}:/data")]}});
    let first = t.run("echo shared > /data/file", binds).await?;
    let from = json!({"HostConfig": {"VolumesFrom": [first]}});
    assert_eq!(t.output("cat /data/file", from).await?, "shared\n");
    Ok(())
}

async fn options_of_the_driver(t: &Ctx) -> Result<()> {
    let name = t.name("tmpfs");
    let request: VolumeCreateRequest = serde_json::from_value(json!({
        "Name": name, "DriverOpts": {"type": "tmpfs", "device": "tmpfs", "o": "size=1m"},
    }))?;
    t.docker.create_volume(request).await?;
    t.remove_volume_later(&name);
    assert_eq!(t.docker.inspect_volume(&name).await?.options.get("type").map(String::as_str), Some("tmpfs"));
    let binds = json!({"HostConfig": {"Binds": [format!("{name}:/data")]}});
    assert_eq!(t.output("stat -f -c %T /data", binds).await?, "tmpfs\n");
    Ok(())
}

async fn list_filters(t: &Ctx) -> Result<()> {
    let value = t.name("list");
    let label = format!("{LABEL}={value}");
    let free = volume(t, &value).await?;
    let used = volume(t, &value).await?;
    t.create("true", json!({"HostConfig": {"Binds": [format!("{used}:/data")]}})).await?;
    let list = async |filters: &[(&str, &str)]| -> Result<Vec<String>> {
        let mut filters: HashMap<&str, Vec<&str>> = filters.iter().map(|(k, v)| (*k, vec![*v])).collect();
        filters.insert("label", vec![&label]);
        let options = ListVolumesOptionsBuilder::new().filters(&filters).build();
        let mut names: Vec<String> = t
            .docker
            .list_volumes(Some(options))
            .await?
            .volumes
            .unwrap_or_default()
            .into_iter()
            .map(|v| v.name)
            .collect();
        names.sort();
        Ok(names)
    };
    let mut both = [free.clone(), used.clone()];
    both.sort();
    assert_eq!(list(&[]).await?, both);
    assert_eq!(list(&[("dangling", "true")]).await?, [free]);
    assert_eq!(list(&[("dangling", "false")]).await?, [used.clone()]);
    assert_eq!(list(&[("name", &used)]).await?, [used]);
    Ok(())
}

async fn volume_in_use(t: &Ctx) -> Result<()> {
    let name = volume(t, "").await?;
    let id = t.create("true", json!({"HostConfig": {"Binds": [format!("{name}:/data")]}})).await?;
    let remove = async || t.docker.remove_volume(&name, None::<RemoveVolumeOptions>).await;
    refused(remove().await, 409, &format!("volume is in use - [{id}]"));
    t.docker.remove_container(&id, None::<bollard::query_parameters::RemoveContainerOptions>).await?;
    remove().await?;
    refused(t.docker.inspect_volume(&name).await, 404, "no such volume");
    Ok(())
}

async fn anonymous_volume(t: &Ctx) -> Result<()> {
    let id = t.create("true", json!({"Volumes": {"/anonymous": {}}})).await?;
    let seen = t.inspect_json(&id).await?;
    let name = seen["Mounts"][0]["Name"].as_str().context("no volume")?;
    assert_eq!(name.len(), 64);
    t.docker.inspect_volume(name).await?;
    let options = RemoveContainerOptionsBuilder::new().v(true).build();
    t.docker.remove_container(&id, Some(options)).await?;
    refused(t.docker.inspect_volume(name).await, 404, "no such volume");
    Ok(())
}

async fn prune(t: &Ctx) -> Result<()> {
    let value = t.name("prune");
    let named = volume(t, &value).await?;
    let request: VolumeCreateRequest = serde_json::from_value(json!({"Labels": {LABEL: value}}))?;
    let anonymous = t.docker.create_volume(request).await?.name;
    let label = format!("{LABEL}={value}");
    let prune = async |all: &str| -> Result<Vec<String>> {
        let filters = HashMap::from([("label", vec![&*label]), ("all", vec![all])]);
        let options = PruneVolumesOptionsBuilder::new().filters(&filters).build();
        Ok(t.docker.prune_volumes(Some(options)).await?.volumes_deleted.unwrap_or_default())
    };
    assert_eq!(prune("false").await?, [anonymous]);
    assert_eq!(prune("true").await?, [named]);
    Ok(())
}
