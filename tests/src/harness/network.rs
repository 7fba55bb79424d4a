//! Networks of a case, and containers on them.

use anyhow::Result;

use super::Ctx;

/// Makes a network that is removed when `act` is done, with what is on it.
pub fn with_network(
    t: &Ctx,
    name: &str,
    options: &[&str],
    act: impl FnOnce(&str) -> Result<()>,
) -> Result<()> {
    let mut args = vec!["network", "create"];
    args.extend(options);
    args.push(name);
    t.ok(&args)?;
    let outcome = act(name);
    let listed = t.ok(&["ps", "-aq", "--filter", &format!("network={name}")])?;
    for id in listed.lines() {
        t.client.run(&["rm", "-f", id])?;
    }
    let removed = t.client.run(&["network", "rm", name])?;
    outcome?;
    removed.code(0).map(drop)
}

/// A container that does nothing, by its name.
pub fn sleeper(t: &Ctx, what: &str, network: &str, options: &[&str]) -> Result<String> {
    let name = t.name(what);
    let mut args = vec!["run", "-d", "--name", &name, "--network", network];
    args.extend(options);
    args.extend(["busybox", "sleep", "1000"]);
    t.ok(&args)?;
    Ok(name)
}

/// Whether a container gets an answer from a name or an address; `family` is an option of ping's, or empty.
pub fn reaches(t: &Ctx, from: &str, family: &str, to: &str) -> Result<bool> {
    let mut args = vec!["exec", from, "ping"];
    args.extend(Some(family).filter(|f| !f.is_empty()));
    args.extend(["-c", "1", "-w", "2", to]);
    Ok(t.client.run(&args)?.code == 0)
}
