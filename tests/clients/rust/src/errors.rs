//! Refusals: their status and their words.

use anyhow::{Context as _, Result};
use bollard::exec::CreateExecOptions;
use bollard::models::VolumeCreateRequest;
use bollard::query_parameters::{
    KillContainerOptionsBuilder, RemoveContainerOptions, RemoveImageOptions, StopContainerOptions,
    TagImageOptionsBuilder,
};
use serde_json::json;

use crate::harness::{Ctx, IMAGE, Output, cases, refused};

cases!("errors":
    not_found,
    conflict,
    not_modified,
    bad_request,
    start_that_fails,
);

async fn not_found(t: &Ctx) -> Result<()> {
    let d = &t.docker;
    refused(d.inspect_container("absent", None).await, 404, "No such container: absent");
    refused(d.start_container("absent", None).await, 404, "No such container: absent");
    refused(
        d.remove_container("absent", None::<RemoveContainerOptions>).await,
        404,
        "No such container: absent",
    );
    refused(Output::of(d.logs("absent", None)).await, 400, "you must choose at least one stream");
    refused(d.container_changes("absent").await, 404, "No such container: absent");
    refused(d.inspect_image("absent").await, 404, "No such image: absent:latest");
    refused(d.image_history("absent").await, 404, "No such image: absent:latest");
    refused(
        d.remove_image("absent", None::<RemoveImageOptions>, None).await,
        404,
        "No such image: absent:latest",
    );
    refused(d.inspect_volume("absent").await, 404, "get absent: no such volume");
    refused(d.inspect_exec("absent").await, 404, "No such exec instance: absent");
    refused(d.start_exec("absent", None).await, 404, "No such exec instance: absent");
    let absent = serde_json::from_value(json!({"Image": "absent"}))?;
    refused(d.create_container(None, absent).await, 404, "No such image: absent:latest");
    Ok(())
}

async fn conflict(t: &Ctx) -> Result<()> {
    let d = &t.docker;
    let name = t.name("taken");
    let id = t.create_named(&name, "exec sleep 60", json!({})).await?;
    let text = format!("The container name \"/{name}\" is already in use by container \"{id}\"");
    let again = t.create_named(&name, "true", json!({})).await;
    refused(
        again.map_err(|e| e.downcast().unwrap_or(bollard::errors::Error::RequestTimeoutError)),
        409,
        &text,
    );

    let exec = || CreateExecOptions { cmd: Some(vec!["true"]), ..Default::default() };
    refused(d.create_exec(&id, exec()).await, 409, "is not running");
    refused(d.kill_container(&id, None).await, 409, "is not running");
    refused(d.pause_container(&id).await, 409, "is not running");
    d.start_container(&id, None).await?;
    refused(d.remove_container(&id, None::<RemoveContainerOptions>).await, 409, "container is running");
    refused(d.unpause_container(&id).await, 500, "is not paused");
    d.pause_container(&id).await?;
    refused(d.pause_container(&id).await, 409, "is already paused");
    refused(d.create_exec(&id, exec()).await, 409, "is paused, unpause the container before exec");
    d.unpause_container(&id).await?;
    Ok(())
}

/// The library takes 304 for success.
async fn not_modified(t: &Ctx) -> Result<()> {
    let id = t.start("exec sleep 60", json!({})).await?;
    let started = t.inspect_json(&id).await?["State"]["StartedAt"].clone();
    t.docker.start_container(&id, None).await?;
    assert_eq!(t.inspect_json(&id).await?["State"]["StartedAt"], started);
    t.docker.kill_container(&id, None).await?;
    assert_eq!(t.wait(&id).await?, 137);
    t.docker.stop_container(&id, None::<StopContainerOptions>).await?;
    Ok(())
}

async fn bad_request(t: &Ctx) -> Result<()> {
    let d = &t.docker;
    let create = async |more: serde_json::Value| -> Result<(), bollard::errors::Error> {
        t.create("true", more).await.map(drop).map_err(|error| match error.downcast() {
            Ok(error) => error,
            Err(other) => panic!("{other:#}"),
        })
    };
    refused(
        create(json!({"HostConfig": {"Memory": 1024}})).await,
        400,
        "Minimum memory limit allowed is 6MB",
    );
    refused(
        create(json!({"HostConfig": {"CpuShares": -1}})).await,
        400,
        "invalid CPU shares (-1): value must be a positive integer",
    );
    refused(
        create(json!({"HostConfig": {"NetworkMode": "host", "PortBindings": {"x/tcp": []}}})).await,
        400,
        "invalid port",
    );
    refused(
        create(json!({"HostConfig": {"AutoRemove": true, "RestartPolicy": {"Name": "always"}}})).await,
        400,
        "can't create 'AutoRemove' container with restart policy",
    );
    refused(
        d.tag_image(IMAGE, Some(TagImageOptionsBuilder::new().repo("lower/UPPER").build())).await,
        400,
        "invalid reference format",
    );
    let short = VolumeCreateRequest { name: Some("x".to_owned()), ..Default::default() };
    refused(d.create_volume(short).await, 400, "volume name is too short");
    let id = t.start("exec sleep 60", json!({})).await?;
    let nonsense = KillContainerOptionsBuilder::new().signal("NONSENSE").build();
    refused(d.kill_container(&id, Some(nonsense)).await, 400, "invalid signal: NONSENSE");
    Ok(())
}

async fn start_that_fails(t: &Ctx) -> Result<()> {
    let absent = t.create("", json!({"Cmd": ["/no/such/program"]})).await?;
    refused(t.docker.start_container(&absent, None).await, 400, "no such file or directory");
    assert_eq!(t.inspect_json(&absent).await?["State"]["ExitCode"], 127);

    let publish = |port: &str| json!({"ExposedPorts": {"80/tcp": {}}, "HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": port}]}}});
    let first = t.start("exec sleep 60", publish("")).await?;
    let seen = t.inspect_json(&first).await?;
    let taken = seen["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"].as_str().context("no port")?;
    let second = t.create("exec sleep 60", publish(taken)).await?;
    refused(t.docker.start_container(&second, None).await, 500, "port is already allocated");
    Ok(())
}
