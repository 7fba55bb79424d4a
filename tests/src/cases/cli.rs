//! The `ferry` command where it stands alone: help, where it looks for an engine, what it says when
//! there is none.

use std::process::Command;

use anyhow::Result;

use super::{cases, check};
use crate::harness::client::Flavour;
use crate::harness::{Case, Ctx, process};

pub fn cases() -> Vec<Case> {
    let mut all = cases!("cli", Nothing, [help, help_of_every_command, no_engine, version_without_an_engine]);
    all.extend(cases!("cli", EachClient, [version, info, host_flag_and_variable, context_flag]));
    all
}

fn ferry(t: &Ctx, args: &[&str]) -> Command {
    let mut command = Command::new(t.settings.ferry());
    command.args(args).env_remove("DOCKER_HOST").env_remove("DOCKER_CONTEXT");
    command
}

fn help(t: &Ctx) -> Result<()> {
    let output = process::run(ferry(t, &["--help"]))?;
    output.code(0)?;
    for command in ["run", "exec", "ps", "images", "pull", "logs", "daemon", "oci"] {
        check!(
            output.stdout.split_whitespace().any(|word| word == command),
            "{command} is not mentioned\n{output}"
        );
    }
    Ok(())
}

fn help_of_every_command(t: &Ctx) -> Result<()> {
    let commands = [
        "attach", "commit", "create", "daemon", "exec", "images", "import", "info", "inspect", "kill",
        "load", "logs", "pause", "port", "ps", "pull", "rename", "restart", "rm", "rmi", "run", "save",
        "start", "stats", "stop", "tag", "top", "unpause", "version", "wait",
    ];
    for command in commands {
        let output = process::run(ferry(t, &[command, "--help"]))?;
        output.code(0)?;
        check!(output.stdout.contains("Usage:"), "no usage\n{output}");
    }
    Ok(())
}

fn no_engine(t: &Ctx) -> Result<()> {
    let nowhere = "unix:///nonexistent/ferry.sock";
    for (args, code) in [(vec!["ps"], 1), (vec!["run", "--rm", "busybox"], 125), (vec!["images"], 1)] {
        let output = process::run(ferry(t, &[&["-H", nowhere], args.as_slice()].concat()))?;
        output.code(code)?.stdout("")?.stderr_has("annot connect to")?.stderr_has(nowhere)?;
    }
    Ok(())
}

fn version_without_an_engine(t: &Ctx) -> Result<()> {
    let output = process::run(ferry(t, &["-H", "unix:///nonexistent/ferry.sock", "version"]))?;
    output.code(1)?.stdout_has("Client:")?.stderr_has("annot connect to")?;
    process::run(ferry(t, &["--version"]))?.code(0)?;
    Ok(())
}

fn version(t: &Ctx) -> Result<()> {
    let output = t.client.run(&["version"])?;
    output.code(0)?.stdout_has("Client:")?.stdout_has("Server:")?.stdout_has("API version:")?;
    check!(t.ok(&["version", "--format", "{{.Server.APIVersion}}"])?.starts_with("1."), "no API version");
    Ok(())
}

fn info(t: &Ctx) -> Result<()> {
    let output = t.client.run(&["info"])?;
    output
        .code(0)?
        .stdout_has("Server:")?
        .stdout_has("Containers:")?
        .stdout_has("Storage Driver:")?
        .stdout_has("Cgroup Version:")?;
    check!(t.ok(&["info", "--format", "{{.NCPU}}"])?.parse::<u32>()? > 0, "no processors");
    Ok(())
}

fn host_flag_and_variable(t: &Ctx) -> Result<()> {
    let mut nowhere = t.client.clone();
    nowhere.host = "unix:///nonexistent/x.sock".to_owned();
    check!(nowhere.run(&["ps"])?.code == 1, "there is an engine where there is none");
    // The flag wins over the variable.
    nowhere.run(&["-H", &t.client.host, "ps"])?.code(0)?;
    nowhere.run(&["--host", &t.client.host, "ps"])?.code(0)?;
    Ok(())
}

fn context_flag(t: &Ctx) -> Result<()> {
    let mut command = t.client.command(&["--context", "no-such-context", "ps"]);
    command.env_remove("DOCKER_HOST");
    let output = process::run(command)?;
    output.code(1)?.stderr_has("no-such-context")?;
    // A variable is an override that contexts do not outlive.
    let mut command = t.client.command(&["ps"]);
    command.env("DOCKER_CONTEXT", "default");
    process::run(command)?.code(0)?;
    // Both clients read the same files.
    let dir = t.path("config");
    let meta = dir.join("contexts/meta/2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae");
    std::fs::create_dir_all(&meta)?;
    let json = serde_json::json!({"Name": "foo", "Metadata": {}, "Endpoints": {"docker": {"Host": t.client.host, "SkipTLSVerify": false}}});
    std::fs::write(meta.join("meta.json"), json.to_string())?;
    for flavour in [Flavour::Ferry, Flavour::Docker] {
        let Ok(client) = t.client.with(&t.settings, flavour) else { continue };
        if t.settings.against.is_some() && flavour == Flavour::Ferry {
            continue;
        }
        let mut command = client.command(&["--context", "foo", "ps"]);
        command.env_remove("DOCKER_HOST").env("DOCKER_CONFIG", &dir);
        process::run(command)?.code(0)?;
    }
    Ok(())
}
