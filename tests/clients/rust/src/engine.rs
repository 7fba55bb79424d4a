//! The engine itself: events, information, versions, disk usage.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use bollard::models::{EventMessage, VolumeCreateRequest};
use bollard::query_parameters::{
    DataUsageOptions, EventsOptionsBuilder, RemoveContainerOptions, RemoveImageOptions,
    TagImageOptionsBuilder,
};
use futures_util::{StreamExt as _, TryStreamExt as _};
use serde_json::json;

use crate::harness::{Ctx, IMAGE, LABEL, cases, skip};

cases!("engine":
    ping,
    version,
    info,
    disk_usage,
    events_of_a_container,
    events_filtered,
    events_of_images,
    events_as_they_happen,
);

async fn ping(t: &Ctx) -> Result<()> {
    assert_eq!(t.docker.ping().await?, "OK");
    Ok(())
}

async fn version(t: &Ctx) -> Result<()> {
    let version = t.docker.version().await?;
    assert!(version.version.is_some_and(|v| !v.is_empty()));
    assert_eq!((version.os.as_deref(), version.min_api_version.as_deref()), (Some("linux"), Some("1.24")));
    assert!(version.components.unwrap_or_default().iter().any(|component| component.name == "Engine"));
    Ok(())
}

async fn info(t: &Ctx) -> Result<()> {
    t.start("exec sleep 60", json!({})).await?;
    t.create("true", json!({})).await?;
    let info = t.docker.info().await?;
    assert!(info.containers >= Some(2) && info.containers_running >= Some(1) && info.images >= Some(1));
    assert!(info.ncpu > Some(0) && info.mem_total > Some(0));
    assert_eq!(info.os_type.as_deref(), Some("linux"));
    assert_eq!(info.server_version, t.docker.version().await?.version);
    let plugins = info.plugins.context("no plugins")?;
    assert!(plugins.volume.unwrap_or_default().contains(&"local".to_owned()));
    assert!(plugins.network.unwrap_or_default().contains(&"bridge".to_owned()));
    Ok(())
}

async fn disk_usage(t: &Ctx) -> Result<()> {
    let id = t.run("head -c 200000 /dev/zero > /file", json!({})).await?;
    let version = t.docker.client_version();
    if version.major_version == 1 && version.minor_version < 52 {
        return skip("the library reads the disk usage only as version 1.52 of the API writes it");
    }
    let usage = t.docker.df(None::<DataUsageOptions>).await?;
    let containers = usage.container_usage.context("no containers")?;
    assert!(containers.total_size >= Some(200_000), "{containers:?}");
    assert!(containers.total_count >= Some(1));
    let images = usage.image_usage.context("no images")?;
    assert!(images.total_size > Some(100_000) && images.total_count >= Some(1), "{images:?}");
    t.inspect(&id).await?;
    Ok(())
}

fn seconds() -> Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())
}

/// What happened from a second on until now.
async fn past(t: &Ctx, since: u64, filters: &[(&str, &str)]) -> Result<Vec<EventMessage>> {
    let mut all: HashMap<&str, Vec<&str>> = HashMap::new();
    for (key, value) in filters {
        all.entry(key).or_default().push(value);
    }
    let (since, until) = (since.to_string(), (seconds()? + 1).to_string());
    let options = EventsOptionsBuilder::new().since(&since).until(&until).filters(&all).build();
    Ok(t.docker.events(Some(options)).try_collect().await?)
}

fn actions(events: &[EventMessage]) -> Vec<&str> {
    events.iter().filter_map(|event| event.action.as_deref()).collect()
}

async fn events_of_a_container(t: &Ctx) -> Result<()> {
    let since = seconds()?;
    let id = t.start("exit 6", json!({"Labels": {LABEL: "events"}})).await?;
    assert_eq!(t.wait(&id).await?, 6);
    t.docker.remove_container(&id, None::<RemoveContainerOptions>).await?;
    let events = past(t, since, &[("container", &id), ("type", "container")]).await?;
    assert_eq!(actions(&events), ["create", "start", "die", "destroy"]);
    let die = serde_json::to_value(&events[2])?;
    assert_eq!(die["Actor"]["ID"], id);
    assert_eq!(die["Actor"]["Attributes"]["exitCode"], "6");
    assert_eq!(die["Actor"]["Attributes"]["image"], IMAGE);
    assert_eq!(die["Actor"]["Attributes"][LABEL], "events");
    assert_eq!(die["scope"], "local");
    Ok(())
}

async fn events_filtered(t: &Ctx) -> Result<()> {
    let since = seconds()?;
    let value = t.name("filter");
    let id = t.run("true", json!({"Labels": {LABEL: value}})).await?;
    t.run("true", json!({})).await?;
    let label = format!("{LABEL}={value}");
    let events = past(t, since, &[("label", &label), ("event", "start"), ("event", "die")]).await?;
    assert_eq!(actions(&events), ["start", "die"]);
    assert!(events.iter().all(|e| e.actor.as_ref().and_then(|a| a.id.as_ref()) == Some(&id)));
    Ok(())
}

async fn events_of_images(t: &Ctx) -> Result<()> {
    let since = seconds()?;
    let repository = t.name("event");
    let name = format!("{repository}:t");
    t.remove_image_later(&name);
    t.docker.tag_image(IMAGE, Some(TagImageOptionsBuilder::new().repo(&repository).tag("t").build())).await?;
    t.docker.remove_image(&name, None::<RemoveImageOptions>, None).await?;
    let events = past(t, since, &[("type", "image"), ("event", "tag")]).await?;
    let named: Vec<&str> = events
        .iter()
        .filter_map(|event| event.actor.as_ref()?.attributes.as_ref()?.get("name"))
        .map(String::as_str)
        .collect();
    assert!(named.contains(&&*name), "{named:?}");
    assert!(actions(&past(t, since, &[("type", "image")]).await?).contains(&"untag"));
    Ok(())
}

async fn events_as_they_happen(t: &Ctx) -> Result<()> {
    let filters = HashMap::from([("type", vec!["volume"])]);
    let mut live = Box::pin(t.docker.events(Some(EventsOptionsBuilder::new().filters(&filters).build())));
    let name = t.name("live");
    t.remove_volume_later(&name);
    let make = async {
        // The engine has to be listening before something happens.
        tokio::time::sleep(Duration::from_millis(500)).await;
        t.docker.create_volume(VolumeCreateRequest { name: Some(name.clone()), ..Default::default() }).await
    };
    let listen = async {
        while let Some(event) = live.try_next().await? {
            if event.actor.as_ref().and_then(|actor| actor.id.as_ref()) == Some(&name) {
                return anyhow::Ok(event);
            }
        }
        anyhow::bail!("the stream ended")
    };
    let (event, made) = tokio::join!(listen, make);
    made?;
    let event = event?;
    assert_eq!(event.action.as_deref(), Some("create"));
    // A listener that nothing is left for gets nothing more.
    assert!(tokio::time::timeout(Duration::from_millis(200), live.next()).await.is_err());
    Ok(())
}
