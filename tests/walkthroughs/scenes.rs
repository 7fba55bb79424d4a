//! Short scenes at a terminal: how one leaves a container, an editor committed into an image, files that
//! host and containers share.

use std::time::Duration;

use anyhow::Result;

use super::{directory, reaches_archive_only_from_host};
use crate::cases::{cases, check, equal};
use crate::harness::pty::Pty;
use crate::harness::{Case, Ctx, eventually, skip};

pub fn cases() -> Vec<Case> {
    [
        cases!(
            "walkthrough",
            EachClient,
            [leaving_a_container, shared_directory, inherited_volumes, dangling_images]
        ),
        cases!("walkthrough", Engine, [commit_of_an_image_with_vim]),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn shell(t: &Ctx, words: &[&str]) -> Result<Pty> {
    let mut pty = Pty::start(&t.client.command(words), 24, 100)?;
    pty.expect("#")?;
    Ok(pty)
}

fn leaving_a_container(t: &Ctx) -> Result<()> {
    let image = t.debian()?;
    let name = t.name("myu1");
    let running = || t.inspect(&name, "{{.State.Running}}");
    // exit stops it.
    let mut pty = shell(t, &["run", "-it", &format!("--name={name}"), image, "/bin/bash"])?;
    pty.send("exit\n")?;
    equal!(pty.wait()?, 0);
    equal!(running()?, "false");
    // Started again it waits; Ctrl-P Ctrl-Q leaves it running.
    t.ok(&["start", &name])?;
    let mut pty = Pty::start(&t.client.command(&["attach", &name]), 24, 100)?;
    pty.send("\n")?;
    pty.expect("#")?;
    pty.send("\x10\x11")?;
    pty.wait()?;
    equal!(running()?, "true");
    // A second program and its end are nothing to the first.
    let mut pty = shell(t, &["exec", "-it", &name, "/bin/bash"])?;
    pty.send("ps 2>/dev/null; echo pid $$\n")?;
    pty.expect("pid ")?;
    pty.send("exit\n")?;
    equal!(pty.wait()?, 0);
    equal!(running()?, "true");
    // attach, then exit, stops it.
    let mut pty = Pty::start(&t.client.command(&["attach", &name]), 24, 100)?;
    pty.send("\n")?;
    pty.expect("#")?;
    pty.send("exit\n")?;
    equal!(pty.wait()?, 0);
    eventually("it stops", Duration::from_secs(5), || Ok(running()? == "false"))?;
    // A service without a program in the foreground ends at once.
    let short = t.name("short");
    t.ok(&["run", "-d", "--name", &short, image])?;
    eventually("it ends", Duration::from_secs(5), || Ok(t.inspect(&short, "{{.State.Status}}")? == "exited"))
}

/// Both sides see what the other writes, also after the container was down.
fn shared_directory(t: &Ctx) -> Result<()> {
    let (dir, volume) = directory(t, "host_data", "/tmp/docker_data")?;
    let name = t.name("u1");
    t.ok(&["run", "-dit", "--privileged=true", "-v", &volume, "--name", &name, "busybox"])?;
    t.ok(&["exec", &name, "sh", "-c", "echo inside > /tmp/docker_data/docker_data.txt"])?;
    equal!(std::fs::read_to_string(dir.join("docker_data.txt"))?, "inside\n");
    t.ok(&["stop", "-t", "1", &name])?;
    std::fs::write(dir.join("host_data.txt"), "outside")?;
    t.ok(&["start", &name])?;
    equal!(t.ok(&["exec", &name, "cat", "/tmp/docker_data/host_data.txt"])?, "outside");
    let mounts =
        t.inspect(&name, "{{range .Mounts}}{{.Type}} {{.Source}} {{.Destination}} {{.RW}}{{end}}")?;
    equal!(mounts, format!("bind {} /tmp/docker_data true", dir.display()));

    let reader = t.name("u2");
    let read_only = format!("{volume}:ro");
    t.ok(&["run", "-dit", "--privileged=true", "-v", &read_only, "--name", &reader, "busybox"])?;
    equal!(t.ok(&["exec", &reader, "cat", "/tmp/docker_data/host_data.txt"])?, "outside");
    let refused = t.client.run(&["exec", &reader, "touch", "/tmp/docker_data/x"])?;
    refused.code(1)?.stderr_has("Read-only file system")?;
    Ok(())
}

/// Volumes are inherited, shared, and outlive the container they came from.
fn inherited_volumes(t: &Ctx) -> Result<()> {
    let (dir, volume) = directory(t, "mydocker", "/tmp/docker_data")?;
    let names = [t.name("u1"), t.name("u2"), t.name("u3")];
    let start = |name: &str, from: &[&str]| {
        let run = ["run", "-dit", "--privileged=true", "--name", name];
        t.ok(&[run.as_slice(), from, &["busybox"]].concat())
    };
    start(&names[0], &["-v", &volume, "-v", "/anonymous"])?;
    start(&names[1], &["--volumes-from", &names[0]])?;
    start(&names[2], &["--volumes-from", &names[1]])?;
    let touch = |name: &str, file: &str| t.ok(&["exec", name, "touch", file]);
    let list = |name: &str, at: &str| t.ok(&["exec", name, "ls", at]);
    for name in &names {
        touch(name, &format!("/tmp/docker_data/{name}"))?;
        touch(name, &format!("/anonymous/{name}"))?;
    }
    let all = names.join("\n");
    for name in &names {
        equal!(list(name, "/tmp/docker_data")?, all);
        equal!(list(name, "/anonymous")?, all);
    }
    // The parent's end, and its removal with its volumes, are nothing to the heirs.
    t.ok(&["stop", "-t", "0", &names[0]])?;
    t.ok(&["rm", "-v", &names[0]])?;
    touch(&names[1], "/anonymous/after")?;
    equal!(list(&names[2], "/anonymous")?, format!("after\n{all}"));
    check!(dir.join(&names[0]).exists(), "the host does not see the file");
    let mounts = |name: &str| t.inspect(name, "{{range .Mounts}}{{.Type}}:{{.Destination}} {{end}}");
    check!(mounts(&names[2])?.contains("bind:/tmp/docker_data"), "{}", mounts(&names[2])?);
    check!(mounts(&names[2])?.contains("volume:/anonymous"), "{}", mounts(&names[2])?);
    t.ok(&["rm", "-f", "-v", &names[1], &names[2]])?;
    Ok(())
}

fn dangling_images(t: &Ctx) -> Result<()> {
    let (name, image) = (t.name("a"), format!("dangle-{}", t.name("i").to_lowercase()));
    t.ok(&["create", "--name", &name, "busybox"])?;
    let first = t.ok(&["commit", "-m", "first", &name, &image])?;
    let second = t.ok(&["commit", "-m", "second", &name, &image])?;
    check!(first != second, "the same image twice");
    let dangling = t.ok(&["images", "-q", "--no-trunc", "-f", "dangling=true"])?;
    check!(dangling.lines().any(|id| id == first), "{first} is not among {dangling}");
    check!(!dangling.contains(&second), "{second} is among {dangling}");
    t.ok(&["rmi", &first])?;
    t.ok(&["rmi", &image])?;
    Ok(())
}

fn commit_of_an_image_with_vim(t: &Ctx) -> Result<()> {
    let base = t.debian()?;
    let (name, image) = (t.name("base"), "test/mydebian:1.1");
    let mut pty = shell(t, &["run", "-it", "--name", &name, base, "/bin/bash"])?;
    pty.send("vim a.txt\n")?;
    pty.expect("command not found")?;
    pty.send("apt-get -q update && apt-get -q -y install vim; echo installed=$?\n")?;
    // The first is the line as typed.
    pty.expect("installed=$?")?;
    pty.expect_within("installed=", Duration::from_secs(300))?;
    if !pty.screen().contains("installed=0") && reaches_archive_only_from_host(&pty.screen()) {
        return skip("the Debian archive cannot be reached from a container");
    }
    pty.expect("0")?;
    pty.send("vim -es -c 'normal iwritten with vim' -c 'wq' a.txt; cat a.txt\n")?;
    pty.expect("written with vim\r\n")?;
    pty.send("exit\n")?;
    pty.wait()?;

    let id = t.client.start(&["commit", "-m=vim cmd add ok", "-a=zzyy", &name, image])?;
    id.finish(Duration::from_secs(120))?.code(0)?;
    let outcome = check_vim(t, base, image);
    t.client.run(&["rmi", "-f", image])?;
    outcome
}

fn check_vim(t: &Ctx, base: &str, image: &str) -> Result<()> {
    equal!(t.ok(&["image", "inspect", "-f", "{{.Author}} {{.Comment}}", image])?, "zzyy vim cmd add ok");
    let size =
        |name: &str| -> Result<u64> { Ok(t.ok(&["image", "inspect", "-f", "{{.Size}}", name])?.parse()?) };
    check!(size(image)? > size(base)? + (10 << 20), "the new image is not larger");
    check!(t.ok(&["run", "--rm", image, "vim", "--version"])?.contains("Vi IMproved"), "no vim in the image");
    check!(t.client.run(&["run", "--rm", base, "vim", "--version"])?.code == 127, "vim in the base image");
    Ok(())
}
