//! Bad input: Docker's code and wording, and nothing half-done left behind.

use std::time::Duration;

use anyhow::Result;

use super::{cases, check, equal};
use crate::harness::{Case, Ctx, eventually};

pub fn cases() -> Vec<Case> {
    cases!(
        "input",
        EachClient,
        [
            unknown_image,
            invalid_image_name,
            missing_bind_source,
            invalid_mounts,
            invalid_flags,
            invalid_names,
            conflicting_flags,
            unknown_network,
            unknown_commands,
            a_failed_start_leaves_nothing,
        ]
    )
}

fn unknown_image(t: &Ctx) -> Result<()> {
    let output = t.client.run(&["run", "--rm", "--pull", "never", "no-such-image"])?;
    output.code(125)?.stderr_has("No such image: no-such-image:latest")?;
    t.client
        .run(&["create", "--pull", "never", "no-such-image"])?
        .code(1)?
        .stderr_has("No such image: no-such-image:latest")?;
    Ok(())
}

fn invalid_image_name(t: &Ctx) -> Result<()> {
    for name in ["UpperCase", "a//b", "a:b:c", "-x", ":tag"] {
        let output = t.client.run(&["run", "--rm", "--", name])?;
        check!(output.code == 125, "code {}\n{output}", output.code);
    }
    t.client
        .run(&["run", "--rm", "UpperCase"])?
        .code(125)?
        .stderr_has("repository name")?
        .stderr_has("must be lowercase")?;
    Ok(())
}

fn missing_bind_source(t: &Ctx) -> Result<()> {
    // `-v` makes it, `--mount` does not.
    let name = t.name("x");
    let args =
        ["run", "--name", &name, "--mount", "type=bind,source=/no/such/path,target=/data", "busybox", "true"];
    t.client.run(&args)?.code(125)?.stderr_has("bind source path does not exist: /no/such/path")?;
    t.client.run(&["inspect", &name])?.code(1)?;
    Ok(())
}

fn invalid_mounts(t: &Ctx) -> Result<()> {
    for (volume, message) in [
        ("/tmp:relative", "invalid mount path: 'relative' mount path must be absolute"),
        ("/tmp:/", "destination can't be '/'"),
        ("/tmp:/data:nonsense", "invalid mode: nonsense"),
        ("in/valid:/data", "includes invalid characters for a local volume name"),
    ] {
        let output = t.client.run(&["run", "--rm", "-v", volume, "busybox", "true"])?;
        output.code(125)?.stderr_has(message)?;
    }
    Ok(())
}

fn invalid_flags(t: &Ctx) -> Result<()> {
    for (flag, value, message) in [
        ("--memory", "lots", "invalid size: 'lots'"),
        ("--cpus", "many", "failed to parse many as a rational number"),
        ("--pids-limit", "x", "invalid argument \"x\" for \"--pids-limit\" flag"),
        ("--restart", "sometimes", "invalid restart policy: unknown policy 'sometimes'"),
        ("--restart", "always:3", "maximum retry count can only be used with 'on-failure'"),
    ] {
        let output = t.client.run(&["run", flag, value, "busybox", "true"])?;
        output.code(125)?.stderr_has(message)?;
    }
    t.client
        .run(&["run", "--rm", "-e", "=x", "busybox", "true"])?
        .code(125)?
        .stderr_has("invalid environment variable: =x")?;
    Ok(())
}

fn invalid_names(t: &Ctx) -> Result<()> {
    let output = t.client.run(&["run", "--name", "has space", "busybox", "true"])?;
    output
        .code(125)?
        .stderr_has("Invalid container name (has space), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")?;
    t.client
        .run(&["run", "--name", "a", "busybox", "true"])?
        .code(125)?
        .stderr_has("Invalid container name (a)")?;
    Ok(())
}

fn conflicting_flags(t: &Ctx) -> Result<()> {
    let output = t.client.run(&["run", "--rm", "--restart", "always", "busybox", "true"])?;
    output.code(125)?.stderr_has("conflicting options: cannot specify both --restart and --rm")?;
    t.client.run(&["run", "--rm", "--network", "container:no-such-one", "busybox", "true"])?.code(125)?;
    Ok(())
}

fn unknown_network(t: &Ctx) -> Result<()> {
    let name = t.name("x");
    let output =
        t.client.run(&["run", "--name", &name, "--network", "no-such-network", "busybox", "true"])?;
    output.code(125)?.stderr_has("network no-such-network not found")?;
    Ok(())
}

fn unknown_commands(t: &Ctx) -> Result<()> {
    let output = t.client.run(&["frobnicate"])?;
    check!(output.code != 0, "it worked\n{output}");
    check!(output.stderr.contains("frobnicate"), "{output}");
    let output = t.client.run(&["run"])?;
    check!(output.code != 0, "run without an image worked\n{output}");
    Ok(())
}

fn a_failed_start_leaves_nothing(t: &Ctx) -> Result<()> {
    let before = t.ok(&["ps", "-aq"])?.lines().count();
    let name = t.name("x");
    for _ in 0..5 {
        t.client.run(&["run", "--rm", "--name", &name, "busybox", "no-such-program"])?.code(127)?;
        t.client.run(&["run", "--rm", "--name", &name, "-u", "nobody-here", "busybox", "true"])?.code(125)?;
        t.client.run(&["run", "--rm", "--name", &name, "-w", "/etc/passwd", "busybox", "true"])?;
    }
    // --rm holds for what never ran, too; without it the container is there as created.
    eventually("they are gone", Duration::from_secs(5), || Ok(t.client.run(&["inspect", &name])?.code == 1))?;
    t.client.run(&["run", "--name", &name, "busybox", "no-such-program"])?.code(127)?;
    equal!(t.inspect(&name, "{{.State.Status}} {{.State.ExitCode}}")?, "created 127");
    t.ok(&["rm", &name])?;
    check!(t.ok(&["ps", "-aq"])?.lines().count() <= before + 4, "containers are left");
    Ok(())
}
