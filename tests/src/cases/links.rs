//! Links (`--link`): variables, lines in /etc/hosts, names, removal, and what is refused.

use anyhow::Result;

use super::{cases, check, equal};
use crate::harness::{Case, Ctx};

pub fn cases() -> Vec<Case> {
    cases!(
        "links",
        EachClient,
        [variables_and_hosts, hosts_follow_a_restart, names, removing_a_link, a_renamed_target, refusals]
    )
}

fn target(t: &Ctx) -> Result<String> {
    let name = t.name("target");
    let args =
        ["run", "-d", "--name", &name, "--expose", "80", "--expose", "9000-9001", "-e", "A=b", "busybox"];
    let mut args = args.to_vec();
    args.extend(["sleep", "1000"]);
    t.ok(&args)?;
    Ok(name)
}

fn address(t: &Ctx, name: &str) -> Result<String> {
    t.inspect(name, "{{.NetworkSettings.Networks.bridge.IPAddress}}")
}

fn variables_and_hosts(t: &Ctx) -> Result<()> {
    let (target, name) = (target(t)?, t.name("x"));
    let link = format!("{target}:my-db");
    let script = "env; cat /etc/hosts";
    let text = t.ok(&["run", "--name", &name, "--link", &link, "busybox", "sh", "-c", script])?;
    let ip = address(t, &target)?;
    let short = &t.inspect(&target, "{{.Id}}")?[..12];
    for line in [
        format!("MY_DB_PORT=tcp://{ip}:80"),
        format!("MY_DB_PORT_80_TCP_ADDR={ip}"),
        "MY_DB_PORT_80_TCP_PROTO=tcp".to_owned(),
        "MY_DB_PORT_9000_TCP_PORT_END=9001".to_owned(),
        format!("MY_DB_NAME=/{name}/my-db"),
        "MY_DB_ENV_A=b".to_owned(),
        format!("{ip}\tmy-db {short} {target}"),
    ] {
        check!(text.lines().any(|l| l == line), "{line:?} is not in {text}");
    }
    Ok(())
}

fn hosts_follow_a_restart(t: &Ctx) -> Result<()> {
    let (target, name) = (target(t)?, t.name("x"));
    t.ok(&["run", "-d", "--name", &name, "--link", &format!("{target}:db"), "busybox", "sleep", "1000"])?;
    let before = address(t, &target)?;
    t.ok(&["stop", "-t", "0", &target])?;
    // Somebody else gets its address.
    let thief = t.name("thief");
    t.ok(&["run", "-d", "--name", &thief, "busybox", "sleep", "1000"])?;
    t.ok(&["start", &target])?;
    let after = address(t, &target)?;
    crate::harness::eventually("the line is changed", std::time::Duration::from_secs(10), || {
        let hosts = t.ok(&["exec", &name, "grep", "-w", "db", "/etc/hosts"])?;
        Ok(hosts.starts_with(&format!("{after}\t")) && hosts.lines().count() == 1)
    })?;
    check!(before != after || thief.is_empty(), "the address did not change: the test shows nothing");
    Ok(())
}

fn names(t: &Ctx) -> Result<()> {
    let (target, name) = (target(t)?, t.name("x"));
    t.ok(&["run", "-d", "--name", &name, "--link", &format!("{target}:db"), "busybox", "sleep", "1000"])?;
    equal!(t.inspect(&name, "{{json .HostConfig.Links}}")?, format!("[\"/{target}:/{name}/db\"]"));
    equal!(t.inspect(&format!("{name}/db"), "{{.Name}}")?, format!("/{target}"));
    let filter = format!("name={target}");
    equal!(t.ok(&["ps", "--filter", &filter, "--format", "{{.Names}}"])?, target);
    let all = t.ok(&["ps", "--no-trunc", "--filter", &filter, "--format", "{{.Names}}"])?;
    equal!(all, format!("{target},{name}/db"));
    Ok(())
}

fn removing_a_link(t: &Ctx) -> Result<()> {
    let (target, name) = (target(t)?, t.name("x"));
    t.ok(&["run", "-d", "--name", &name, "--link", &format!("{target}:db"), "busybox", "sleep", "1000"])?;
    t.client.run(&["rm", "--link", &name])?.code(1)?.stderr_has("cannot remove the default link name")?;
    t.ok(&["rm", "--link", &format!("{name}/db")])?;
    equal!(t.inspect(&name, "{{json .HostConfig.Links}}")?, "null");
    t.client.run(&["rm", "--link", &format!("{name}/db")])?.code(1)?.stderr_has("No such container")?;
    Ok(())
}

fn a_renamed_target(t: &Ctx) -> Result<()> {
    let (target, name, new) = (target(t)?, t.name("x"), t.name("new"));
    t.ok(&["run", "-d", "--name", &name, "--link", &format!("{target}:db"), "busybox", "sleep", "1000"])?;
    t.ok(&["rename", &target, &new])?;
    t.remove_later(&new);
    equal!(t.inspect(&name, "{{json .HostConfig.Links}}")?, format!("[\"/{new}:/{name}/db\"]"));
    Ok(())
}

fn refusals(t: &Ctx) -> Result<()> {
    let target = target(t)?;
    let run = |options: &[&str]| {
        let mut args = vec!["run", "--rm"];
        args.extend(options);
        args.extend(["busybox", "true"]);
        t.client.run(&args)
    };
    let missing = "could not get container for nosuch: No such container: nosuch";
    run(&["--link", "nosuch:x"])?.code(125)?.stderr_has(missing)?;
    run(&["--link", "a:b:c"])?.code(125)?.stderr_has("bad format for links: a:b:c")?;
    let conflict = "conflicting options: host type networking can't be used with links";
    run(&["--network", "host", "--link", &target])?.code(125)?.stderr_has(conflict)?;
    t.ok(&["stop", "-t", "0", &target])?;
    let name = t.name("x");
    run(&["--name", &name, "--link", &format!("{target}:db")])?
        .code(125)?
        .stderr_has(&format!("Cannot link to a non running container: /{target} AS /{name}/db"))?;
    Ok(())
}
