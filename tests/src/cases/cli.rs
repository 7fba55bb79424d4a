//! The `ferry` command where it stands alone: help, where it looks for an engine, what it says when
//! there is none.

use std::process::Command;

use anyhow::Result;

use super::{cases, check};
use crate::harness::client::Flavour;
use crate::harness::{Case, Ctx, process};

pub fn cases() -> Vec<Case> {
    let mut all = cases!("cli", Nothing, [help, help_of_every_command, no_engine, version_without_an_engine]);
    all.extend(cases!(
        "cli",
        EachClient,
        [
            version,
            info,
            host_flag_and_variable,
            context_flag,
            contexts_of_either_client,
            plugins,
            engine_by_ssh,
            completion
        ]
    ));
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

/// A program on a search path of its own.
fn script(path: &std::path::Path, text: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    std::fs::write(path, format!("#!/bin/sh\n{text}\n"))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// What one client stores, the other finds.
fn contexts_of_either_client(t: &Ctx) -> Result<()> {
    let dir = t.path("contexts");
    let run = |client: &crate::harness::client::Client, args: &[&str]| {
        let mut command = client.command(args);
        command.env_remove("DOCKER_HOST").env("DOCKER_CONFIG", &dir);
        process::run(command)
    };
    let endpoint = format!("host={}", t.client.host);
    run(&t.client, &["context", "create", "mine", "--description", "d", "--docker", &endpoint])?
        .code(0)?
        .stdout("mine")?;
    run(&t.client, &["context", "create", "mine", "--docker", &endpoint])?
        .code(1)?
        .stderr_has("already exists")?;
    for flavour in [Flavour::Ferry, Flavour::Docker] {
        if t.settings.against.is_some() && flavour == Flavour::Ferry {
            continue;
        }
        let Ok(other) = t.client.with(&t.settings, flavour) else { continue };
        run(&other, &["context", "use", "mine"])?.code(0)?;
        run(&other, &["ps", "-q"])?.code(0)?;
        run(&other, &["context", "inspect", "mine", "-f", "{{.Endpoints.docker.Host}}"])?
            .code(0)?
            .stdout(&t.client.host)?;
        let archive = dir.join("archive").display().to_string();
        run(&other, &["context", "export", "mine", &archive])?.code(0)?;
        run(&t.client, &["context", "import", "copy", &archive])?.code(0)?;
        run(&other, &["context", "rm", "copy"])?.code(0)?.stdout("copy")?;
        std::fs::remove_file(&archive)?;
    }
    run(&t.client, &["context", "rm", "mine"])?.code(1)?.stderr_has("is in use")?;
    run(&t.client, &["context", "rm", "-f", "mine"])?.code(0)?;
    run(&t.client, &["context", "show"])?.code(0)?.stdout("default")?;
    Ok(())
}

fn plugins(t: &Ctx) -> Result<()> {
    let dir = t.path("plugins");
    let metadata =
        r#"{"SchemaVersion":"0.1.0","Vendor":"v","Version":"1","ShortDescription":"Says what it was told"}"#;
    script(
        &dir.join("cli-plugins/docker-echo"),
        &format!(
            "[ \"$1\" != docker-cli-plugin-metadata ] || {{ echo '{metadata}'; exit 0; }}\necho \"$*\"; exit 7"
        ),
    )?;
    script(&dir.join("cli-plugins/docker-broken"), "exit 3")?;
    let run = |args: &[&str]| {
        let mut command = t.client.command(args);
        command.env("DOCKER_CONFIG", &dir);
        process::run(command)
    };
    run(&["echo", "-x", "--help", "y"])?.code(7)?.stdout("echo -x --help y")?;
    run(&["-D", "echo"])?.code(7)?.stdout_has("-D echo\n")?;
    run(&["--help"])?.code(0)?.stdout_has("echo*")?.stdout_has("Says what it was told")?;
    run(&["broken"])?.code(1)?.stderr_has("unknown command")?;
    Ok(())
}

/// The `ssh` of this test runs what it is told on this machine.
fn engine_by_ssh(t: &Ctx) -> Result<()> {
    let bin = t.path("ssh-bin");
    let program = std::path::PathBuf::from(t.client.command(&[]).get_program());
    script(
        &bin.join("ssh"),
        &format!("echo \"$@\" >{}/asked\nexec {} system dial-stdio", bin.display(), program.display()),
    )?;
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = t.client.command(&["-H", "ssh://me@elsewhere:2222", "ps", "-q"]);
    command.env("PATH", format!("{}:{path}", bin.display()));
    process::run(command)?.code(0)?;
    let asked = std::fs::read_to_string(bin.join("asked"))?;
    for part in ["-l me", "-p 2222", "-- elsewhere", "system dial-stdio"] {
        check!(asked.contains(part), "ssh was called with {asked}");
    }
    if t.settings.against.is_none() {
        let output = process::run(ferry(t, &["-H", "ssh://-oProxyCommand=false", "ps"]))?;
        output.code(1)?.stderr_has("invalid bind address format")?;
    }
    Ok(())
}

fn completion(t: &Ctx) -> Result<()> {
    let name = t.name("complete");
    t.ok(&["create", "--name", &name, "busybox"])?;
    t.client.run(&["__complete", "rm", ""])?.code(0)?.stdout_has(&name)?.stdout_has(":4\n")?;
    t.client.run(&["__complete", "container", "ren"])?.code(0)?.stdout("rename\tRename a container\n:4")?;
    t.client.run(&["__complete", "ps", "--no-t"])?.code(0)?.stdout_has("--no-trunc")?;
    for shell in ["bash", "zsh", "fish", "powershell"] {
        t.client.run(&["completion", shell])?.code(0)?.stdout_has("__complete")?;
    }
    Ok(())
}
