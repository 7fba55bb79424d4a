//! Redis with its configuration and data on the host.

use std::time::Duration;

use anyhow::Result;

use super::{directory, free_port};
use crate::cases::{cases, check, equal};
use crate::harness::{Case, Ctx, eventually};

pub fn cases() -> Vec<Case> {
    cases!("walkthrough", EachClient, [redis_reads_its_configuration_again])
}

fn redis_reads_its_configuration_again(t: &Ctx) -> Result<()> {
    let image = t.redis()?;
    let (dir, _) = directory(t, "app-redis", "/unused")?;
    let conf = dir.join("redis.conf");
    std::fs::write(&conf, "protected-mode no\nappendonly yes\ndatabases 16\ntimeout 0\n")?;
    let conf_volume = format!("{}:/etc/redis/redis.conf", conf.display());
    let data = dir.join("data");
    let data_volume = format!("{}:/data", data.display());
    let (name, port) = (t.name("myr3"), free_port()?);
    t.ok(&[
        "run",
        "-p",
        &format!("{port}:6379"),
        "--name",
        &name,
        "--privileged=true",
        "-v",
        &conf_volume,
        "-v",
        &data_volume,
        "-d",
        image,
        "redis-server",
        "/etc/redis/redis.conf",
    ])?;
    let cli = |words: &[&str]| t.client.run(&[["exec", &name, "redis-cli"].as_slice(), words].concat());
    let answers = || {
        eventually("redis answers", Duration::from_secs(20), || Ok(cli(&["ping"])?.stdout.trim() == "PONG"))
    };
    answers()?;
    equal!(cli(&["set", "k1", "v1"])?.stdout, "OK\n");
    // Databases are numbered from 0.
    equal!(cli(&["-n", "15", "ping"])?.stdout, "PONG\n");
    // As with vim on the host: the file is another one afterwards, or the same; here the same.
    std::fs::write(&conf, "protected-mode no\nappendonly yes\ndatabases 10\ntimeout 0\n")?;
    t.ok(&["restart", &name])?;
    answers()?;
    let refused = cli(&["-n", "15", "get", "k1"])?;
    check!(
        format!("{}{}", refused.stdout, refused.stderr).contains("out of range"),
        "the new configuration is not read\n{refused}"
    );
    equal!(cli(&["get", "k1"])?.stdout, "v1\n");
    check!(
        data.join("appendonlydir").exists() || data.join("appendonly.aof").exists(),
        "no data on the host"
    );
    // From the host, through the published port.
    let mut command = std::process::Command::new("redis-cli");
    command.args(["-p", &port.to_string(), "get", "k1"]);
    equal!(crate::harness::process::ok(command)?, "v1");
    Ok(())
}
