//! Containers from their creation to their removal.

use std::collections::HashMap;

use anyhow::{Context as _, Result};
use bollard::models::{ChangeType, ContainerUpdateBody};
use bollard::query_parameters::{
    KillContainerOptionsBuilder, ListContainersOptionsBuilder, PruneContainersOptionsBuilder,
    RemoveContainerOptions, RenameContainerOptionsBuilder, ResizeContainerTTYOptionsBuilder,
    RestartContainerOptionsBuilder, StatsOptionsBuilder, StopContainerOptionsBuilder, TopOptionsBuilder,
    WaitContainerOptionsBuilder,
};
use futures_util::StreamExt as _;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::{Ctx, IMAGE, LABEL, cases, eventually, exit_status, refused};

cases!("containers":
    settings_come_back,
    settings_hold_inside,
    life,
    waiting_for_each_condition,
    list_filters,
    rename,
    top,
    update,
    diff,
    published_port,
    health,
    restarted_on_failure,
    prune,
    one_sample_of_stats,
    stream_of_stats,
    resize,
);

async fn settings_come_back(t: &Ctx) -> Result<()> {
    let host = json!({
        "Memory": 64 << 20, "PidsLimit": 50, "CapAdd": ["NET_ADMIN"], "CapDrop": ["MKNOD"],
        "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3},
        "Ulimits": [{"Name": "nofile", "Soft": 512, "Hard": 1024}],
        "ExtraHosts": ["db:10.1.2.3"], "Dns": ["10.9.8.7"], "Tmpfs": {"/scratch": "size=1m"},
        "ReadonlyRootfs": true, "Binds": ["/tmp:/in:ro"], "Init": true, "ShmSize": 1 << 20,
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m"}},
    });
    let more = json!({
        "Hostname": "box", "User": "33:33", "WorkingDir": "/var", "Env": ["A=1", "B=two words"],
        "Labels": {LABEL: "settings"}, "StopSignal": "SIGINT", "StopTimeout": 3, "HostConfig": host,
    });
    let name = t.name("settings");
    let id = t.create_named(&name, "exit 0", more).await?;
    let seen = t.inspect_json(&id).await?;
    assert_eq!(seen["Name"], format!("/{name}"));
    assert_eq!(seen["State"]["Status"], "created");
    assert_eq!(seen["Args"], json!(["-c", "exit 0"]));
    let config = &seen["Config"];
    assert_eq!(config["Hostname"], "box");
    assert_eq!(config["User"], "33:33");
    assert_eq!(config["WorkingDir"], "/var");
    assert_eq!(config["Labels"][LABEL], "settings");
    assert_eq!(config["StopSignal"], "SIGINT");
    assert_eq!(config["StopTimeout"], 3);
    assert_eq!(config["Image"], IMAGE);
    for (key, value) in host.as_object().context("an object")? {
        assert_eq!(&seen["HostConfig"][key], value, "{key}");
    }
    assert_eq!(seen["Mounts"][0]["Destination"], "/in");
    assert_eq!(seen["Mounts"][0]["RW"], false);
    assert_eq!(t.inspect(&id[..12]).await?.id.as_deref(), Some(&*id));
    Ok(())
}

async fn settings_hold_inside(t: &Ctx) -> Result<()> {
    let more = json!({
        "Hostname": "box", "User": "33:33", "WorkingDir": "/var", "Env": ["B=two words"],
        "HostConfig": {
            "Ulimits": [{"Name": "nofile", "Soft": 512, "Hard": 1024}],
            "ExtraHosts": ["db:10.1.2.3"], "Dns": ["10.9.8.7"], "Tmpfs": {"/scratch": "mode=1777"},
            "ReadonlyRootfs": true, "Sysctls": {"net.ipv4.ip_default_ttl": "77"},
        },
    });
    let script = "hostname; id -u; pwd; echo $B; ulimit -n; grep -c 10.1.2.3.db /etc/hosts; \
        grep -c 10.9.8.7 /etc/resolv.conf; cat /proc/sys/net/ipv4/ip_default_ttl; \
        echo x > /scratch/x && echo scratch; echo x 2>/dev/null > /no || echo read-only";
    let expected = "box\n33\n/var\ntwo words\n512\n1\n1\n77\nscratch\nread-only\n";
    assert_eq!(t.output(script, more).await?, expected);
    Ok(())
}

async fn life(t: &Ctx) -> Result<()> {
    let id = t.start("trap 'exit 7' TERM; while :; do sleep 0.1; done", json!({})).await?;
    t.docker.pause_container(&id).await?;
    assert_eq!(t.inspect_json(&id).await?["State"]["Status"], "paused");
    t.docker.unpause_container(&id).await?;
    assert_eq!(t.inspect_json(&id).await?["State"]["Status"], "running");

    let stop = StopContainerOptionsBuilder::new().t(10).build();
    t.docker.stop_container(&id, Some(stop)).await?;
    let state = t.inspect_json(&id).await?["State"].clone();
    assert_eq!((&state["Status"], &state["ExitCode"]), (&json!("exited"), &json!(7)));

    t.docker.start_container(&id, None).await?;
    let first = t.inspect_json(&id).await?["State"]["StartedAt"].clone();
    let restart = RestartContainerOptionsBuilder::new().t(10).build();
    t.docker.restart_container(&id, Some(restart)).await?;
    let state = t.inspect_json(&id).await?["State"].clone();
    assert_eq!(state["Running"], true);
    assert_ne!(state["StartedAt"], first);

    let kill = KillContainerOptionsBuilder::new().signal("KILL").build();
    t.docker.kill_container(&id, Some(kill)).await?;
    assert_eq!(t.wait(&id).await?, 137);
    t.docker.remove_container(&id, None::<RemoveContainerOptions>).await?;
    refused(t.docker.inspect_container(&id, None).await, 404, "No such container");
    Ok(())
}

async fn waiting_for_each_condition(t: &Ctx) -> Result<()> {
    let id = t.create("exit 3", json!({})).await?;
    let condition = |name: &str| Some(WaitContainerOptionsBuilder::new().condition(name).build());
    let mut exit = Box::pin(t.docker.wait_container(&id, condition("next-exit")));
    let started = async {
        // The engine has to be waiting before the container ends.
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        t.docker.start_container(&id, None).await
    };
    let (answer, started) = tokio::join!(exit.next(), started);
    started?;
    assert_eq!(exit_status(answer.context("no answer")?)?, 3);
    assert_eq!(t.wait(&id).await?, 3);

    let mut removal = Box::pin(t.docker.wait_container(&id, condition("removed")));
    let removed = async {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        t.docker.remove_container(&id, None::<RemoveContainerOptions>).await
    };
    let (answer, removed) = tokio::join!(removal.next(), removed);
    removed?;
    assert_eq!(exit_status(answer.context("no answer")?)?, 3);
    Ok(())
}

async fn list_filters(t: &Ctx) -> Result<()> {
    let label = format!("{LABEL}={}", t.name("list"));
    let (key, value) = label.split_once('=').context("a label")?;
    let labels = json!({"Labels": {key: value}});
    let running = t.start("exec sleep 60", labels.clone()).await?;
    let ended = t.start("exit 4", labels.clone()).await?;
    t.wait(&ended).await?;
    let fresh = t.create("exit 0", labels).await?;
    let list = async |all: bool, filters: &[(&str, &str)]| -> Result<Vec<String>> {
        let mut filters: HashMap<&str, Vec<&str>> = filters.iter().map(|(k, v)| (*k, vec![*v])).collect();
        filters.insert("label", vec![&label]);
        let options = ListContainersOptionsBuilder::new().all(all).filters(&filters).build();
        let found = t.docker.list_containers(Some(options)).await?;
        Ok(found.into_iter().filter_map(|c| c.id).collect())
    };
    assert_eq!(list(false, &[]).await?, [running.clone()]);
    assert_eq!(list(true, &[]).await?, [fresh.clone(), ended.clone(), running.clone()]);
    assert_eq!(list(true, &[("exited", "4")]).await?, [ended.clone()]);
    assert_eq!(list(false, &[("status", "created")]).await?, [fresh.clone()]);
    assert_eq!(list(true, &[("since", &running)]).await?, [fresh.clone(), ended.clone()]);
    assert_eq!(list(true, &[("before", &ended)]).await?, [running.clone()]);
    assert_eq!(list(false, &[("ancestor", IMAGE)]).await?, [running.clone()]);
    assert_eq!(list(true, &[("id", &fresh)]).await?, [fresh]);

    let options =
        ListContainersOptionsBuilder::new().filters(&HashMap::from([("id", vec![&running])])).size(true);
    let entry = t.docker.list_containers(Some(options.build())).await?.remove(0);
    let entry = serde_json::to_value(entry)?;
    assert_eq!(entry["State"], "running");
    assert!(entry["Status"].as_str().is_some_and(|s| s.starts_with("Up ")), "{entry}");
    assert_eq!(entry["Command"], "sh -c 'exec sleep 60'");
    assert!(entry["SizeRootFs"].as_i64() > Some(100_000), "{entry}");
    Ok(())
}

async fn rename(t: &Ctx) -> Result<()> {
    let id = t.create("exit 0", json!({})).await?;
    let name = t.name("renamed");
    t.docker.rename_container(&id, RenameContainerOptionsBuilder::new().name(&name).build()).await?;
    assert_eq!(t.inspect(&name).await?.id, Some(id));
    Ok(())
}

async fn top(t: &Ctx) -> Result<()> {
    let id = t.start("sleep 71 & exec sleep 72", json!({})).await?;
    let options = TopOptionsBuilder::new().ps_args("-o pid,args").build();
    let commands = async || -> Result<Vec<String>> {
        let top = t.docker.top_processes(&id, Some(options.clone())).await?;
        assert_eq!(top.titles.unwrap_or_default(), ["PID", "COMMAND"]);
        let mut commands: Vec<String> =
            top.processes.unwrap_or_default().into_iter().filter_map(|mut p| p.pop()).collect();
        commands.sort();
        Ok(commands)
    };
    eventually("both are sleep", || async { Ok(commands().await? == ["sleep 71", "sleep 72"]) }).await
}

async fn update(t: &Ctx) -> Result<()> {
    let id = t.start("exec sleep 60", json!({})).await?;
    let body: ContainerUpdateBody = serde_json::from_value(json!({
        "Memory": 96 << 20, "MemorySwap": 96 << 20, "CpuShares": 300, "PidsLimit": 44,
        "RestartPolicy": {"Name": "unless-stopped"},
    }))?;
    t.docker.update_container(&id, body).await?;
    let host = t.inspect_json(&id).await?["HostConfig"].clone();
    assert_eq!(host["Memory"], 96 << 20);
    assert_eq!(host["CpuShares"], 300);
    assert_eq!(host["PidsLimit"], 44);
    assert_eq!(host["RestartPolicy"]["Name"], "unless-stopped");
    Ok(())
}

async fn diff(t: &Ctx) -> Result<()> {
    let id = t.run("echo x > /new; rm /etc/group; echo y >> /etc/passwd", json!({})).await?;
    let mut changes: Vec<(String, ChangeType)> = t
        .docker
        .container_changes(&id)
        .await?
        .unwrap_or_default()
        .into_iter()
        .map(|change| (change.path, change.kind))
        .collect();
    changes.sort_by(|a, b| a.0.cmp(&b.0));
    let expected = [
        ("/etc", ChangeType::_0),
        ("/etc/group", ChangeType::_2),
        ("/etc/passwd", ChangeType::_0),
        ("/new", ChangeType::_1),
    ];
    assert_eq!(changes, expected.map(|(path, kind)| (path.to_owned(), kind)));
    Ok(())
}

async fn published_port(t: &Ctx) -> Result<()> {
    let more = json!({
        "ExposedPorts": {"8080/tcp": {}},
        "HostConfig": {"PortBindings": {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}},
    });
    let script = "while :; do echo served | nc -l -p 8080; done";
    let id = t.start(script, more).await?;
    let seen = t.inspect_json(&id).await?;
    let bound = &seen["NetworkSettings"]["Ports"]["8080/tcp"][0];
    assert_eq!(bound["HostIp"], "127.0.0.1");
    let port: u16 = bound["HostPort"].as_str().context("a port")?.parse()?;
    eventually("the published port answers", || async {
        let Ok(mut stream) = tokio::net::TcpStream::connect(("127.0.0.1", port)).await else {
            return Ok(false);
        };
        stream.shutdown().await.ok();
        let mut text = String::new();
        Ok(stream.read_to_string(&mut text).await.is_ok() && text == "served\n")
    })
    .await
}

async fn health(t: &Ctx) -> Result<()> {
    let check = json!({"Healthcheck": {
        "Test": ["CMD-SHELL", "test -e /tmp/ok && echo fine"], "Interval": 500_000_000, "Retries": 50,
    }});
    let id = t.start("sleep 0.5; touch /tmp/ok; exec sleep 60", check).await?;
    assert_eq!(t.inspect_json(&id).await?["State"]["Health"]["Status"], "starting");
    eventually("healthy", || async {
        Ok(t.inspect_json(&id).await?["State"]["Health"]["Status"] == "healthy")
    })
    .await?;
    let health = t.inspect_json(&id).await?["State"]["Health"].clone();
    let last = health["Log"].as_array().and_then(|log| log.last()).context("no log of the checks")?;
    assert_eq!((&last["ExitCode"], &last["Output"]), (&json!(0), &json!("fine\n")));
    Ok(())
}

async fn restarted_on_failure(t: &Ctx) -> Result<()> {
    let policy = json!({"HostConfig": {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 2}}});
    let id = t.start("exit 5", policy).await?;
    eventually("two restarts", || async {
        let seen = t.inspect_json(&id).await?;
        Ok(seen["RestartCount"] == 2 && seen["State"]["Status"] == "exited" && seen["State"]["ExitCode"] == 5)
    })
    .await
}

async fn prune(t: &Ctx) -> Result<()> {
    let value = t.name("prune");
    let marked = t.run("echo some data > /file", json!({"Labels": {LABEL: value}})).await?;
    let other = t.run("exit 0", json!({})).await?;
    let filters = HashMap::from([("label", vec![format!("{LABEL}={value}")])]);
    let options = PruneContainersOptionsBuilder::new().filters(&filters).build();
    let pruned = t.docker.prune_containers(Some(options)).await?;
    assert_eq!(pruned.containers_deleted, Some(vec![marked]));
    assert!(pruned.space_reclaimed > Some(0));
    t.inspect(&other).await?;
    Ok(())
}

async fn one_sample_of_stats(t: &Ctx) -> Result<()> {
    let limits = json!({"HostConfig": {"Memory": 64 << 20, "PidsLimit": 33}});
    let id = t.start("while :; do :; done", limits).await?;
    let options = StatsOptionsBuilder::new().stream(false).build();
    let samples: Vec<_> = t.docker.stats(&id, Some(options)).collect().await;
    assert_eq!(samples.len(), 1);
    let sample = serde_json::to_value(samples.into_iter().next().context("no sample")??)?;
    assert_eq!(sample["memory_stats"]["limit"], 64 << 20);
    assert_eq!(sample["pids_stats"]["limit"], 33);
    assert!(sample["networks"]["eth0"]["rx_bytes"].is_u64(), "{sample}");
    let number =
        |key: &str, path: &str| sample[key].pointer(path).and_then(serde_json::Value::as_u64).unwrap_or(0);
    let used =
        number("cpu_stats", "/cpu_usage/total_usage") - number("precpu_stats", "/cpu_usage/total_usage");
    let all = number("cpu_stats", "/system_cpu_usage") - number("precpu_stats", "/system_cpu_usage");
    assert!(used > 0 && all > used, "{used} of {all}");
    Ok(())
}

async fn stream_of_stats(t: &Ctx) -> Result<()> {
    let id = t.start("exec sleep 60", json!({})).await?;
    let samples: Vec<_> = t.docker.stats(&id, None).take(2).collect().await;
    let mut samples = samples.into_iter();
    let first = samples.next().context("no first sample")??;
    let second = samples.next().context("no second sample")??;
    assert_eq!(first.read, second.preread);
    assert_eq!(second.id, Some(id));
    Ok(())
}

async fn resize(t: &Ctx) -> Result<()> {
    let id = t.start("read go; stty size", json!({"Tty": true, "OpenStdin": true})).await?;
    let size = ResizeContainerTTYOptionsBuilder::new().h(33).w(111).build();
    t.docker.resize_container_tty(&id, size).await?;
    let options = bollard::query_parameters::AttachContainerOptionsBuilder::new()
        .stdin(true)
        .stdout(true)
        .stream(true)
        .build();
    let mut attached = t.docker.attach_container(&id, Some(options)).await?;
    attached.input.write_all(b"\n").await?;
    let output = crate::harness::Output::of(attached.output).await?;
    assert!(output.console.contains("33 111") || output.out.contains("33 111"), "{output:?}");
    Ok(())
}
