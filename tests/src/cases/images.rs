//! Images: import, list, inspect, tag, save, load, commit, remove.

use anyhow::Result;

use super::{cases, check, equal};
use crate::harness::{Case, Ctx};

pub fn cases() -> Vec<Case> {
    cases!(
        "images",
        EachClient,
        [
            import,
            import_from_stdin_with_changes,
            list,
            inspect,
            tag,
            save_and_load,
            save_several,
            commit,
            commit_with_changes,
            remove,
            remove_in_use,
            remove_missing,
            layers_are_shared,
        ]
    )
}

/// A name no other test uses; the image is removed by the test itself.
fn image(t: &Ctx, what: &str) -> String {
    format!("test/{}", t.name(what))
}

fn import(t: &Ctx) -> Result<()> {
    let name = image(t, "x");
    let id = t.ok(&["import", &t.settings.busybox.display().to_string(), &name])?;
    check!(id.starts_with("sha256:") && id.len() == 71, "not an id: {id}");
    equal!(t.ok(&["image", "inspect", "-f", "{{.Id}}", &name])?, id);
    equal!(t.ok(&["run", "--rm", &name, "echo", "works"])?, "works");
    // Without a command of the image there must be one of the user.
    t.client.run(&["run", "--rm", &name])?.code(125)?.stderr_has("no command specified")?;
    t.ok(&["rmi", &name])?;
    Ok(())
}

fn import_from_stdin_with_changes(t: &Ctx) -> Result<()> {
    let name = image(t, "x");
    let args =
        ["import", "-m", "a message", "-c", "ENV A=b", "-c", "CMD [\"sh\",\"-c\",\"echo $A\"]", "-", &name];
    let output = t.client.run_with(&args, std::fs::read(&t.settings.busybox)?)?;
    output.code(0)?;
    equal!(t.ok(&["run", "--rm", &name])?, "b");
    equal!(t.ok(&["image", "inspect", "-f", "{{.Comment}}", &name])?, "a message");
    t.ok(&["rmi", &name])?;
    Ok(())
}

fn list(t: &Ctx) -> Result<()> {
    let output = t.ok(&["images"])?;
    let head: Vec<&str> = output
        .lines()
        .next()
        .unwrap_or_default()
        .split("  ")
        .map(str::trim)
        .filter(|it| !it.is_empty())
        .collect();
    equal!(head, ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"]);
    check!(output.lines().any(|line| line.starts_with("busybox ") && line.contains(" latest ")), "{output}");
    equal!(t.ok(&["images", "--format", "{{.Repository}}:{{.Tag}}", "busybox"])?, "busybox:latest");
    let id = t.ok(&["images", "-q", "busybox"])?;
    equal!(id.len(), 12);
    equal!(t.ok(&["images", "-q", "--no-trunc", "busybox:latest"])?.len(), 71);
    equal!(t.ok(&["images", "-q", "no-such-image"])?, "");
    // Other cases give the image further names meanwhile; there is a line for each.
    let found = t.ok(&["images", "-q", "--filter", "reference=busy*"])?;
    check!(!found.is_empty() && found.lines().all(|line| line == id), "{found}");
    Ok(())
}

fn inspect(t: &Ctx) -> Result<()> {
    let json: serde_json::Value = serde_json::from_str(&t.ok(&["image", "inspect", "busybox"])?)?;
    let image = &json[0];
    equal!(image["RepoTags"], serde_json::json!(["busybox:latest"]));
    equal!(image["Os"].as_str(), Some("linux"));
    equal!(image["Config"]["Cmd"], serde_json::json!(["sh"]));
    equal!(image["RootFS"]["Layers"].as_array().map(Vec::len), Some(1));
    check!(image["Size"].as_u64().is_some_and(|size| size > 500_000), "{}", image["Size"]);
    t.client
        .run(&["image", "inspect", "no-such-image"])?
        .code(1)?
        .stdout("[]")?
        .stderr_has("No such image: no-such-image")?;
    Ok(())
}

fn tag(t: &Ctx) -> Result<()> {
    let name = image(t, "x");
    t.ok(&["tag", "busybox", &format!("{name}:one")])?;
    t.ok(&["tag", &format!("{name}:one"), &format!("{name}:two")])?;
    equal!(t.ok(&["images", "-q", &format!("{name}:two")])?, t.ok(&["images", "-q", "busybox"])?);
    t.client.run(&["tag", "busybox", "Not/Valid"])?.code(1)?.stderr_has("invalid reference format")?;
    t.client
        .run(&["tag", "no-such-image", &name])?
        .code(1)?
        .stderr_has("No such image: no-such-image:latest")?;
    let output = t.client.run(&["rmi", &format!("{name}:one"), &format!("{name}:two")])?;
    output.code(0)?.stdout_has(&format!("Untagged: {name}:one"))?;
    check!(!output.stdout.contains("Deleted"), "busybox itself was deleted\n{output}");
    Ok(())
}

fn save_and_load(t: &Ctx) -> Result<()> {
    let name = image(t, "x");
    let file = t.path("tar").display().to_string();
    let args =
        ["import", "-c", "CMD [\"echo\",\"loaded\"]", &t.settings.busybox.display().to_string(), &name];
    let id = t.ok(&args)?;
    t.ok(&["save", "-o", &file, &name])?;
    t.ok(&["rmi", &name])?;
    let output = t.client.run(&["load", "-i", &file])?;
    output.code(0)?.stdout(&format!("Loaded image: {name}:latest"))?;
    equal!(t.ok(&["image", "inspect", "-f", "{{.Id}}", &name])?, id);
    equal!(t.ok(&["run", "--rm", &name])?, "loaded");
    t.ok(&["rmi", &name])?;
    // The same through pipes.
    t.client.run_with(&["load", "-q"], std::fs::read(&file)?)?.code(0)?;
    equal!(t.ok(&["run", "--rm", &name])?, "loaded");
    t.ok(&["rmi", &name])?;
    Ok(())
}

fn save_several(t: &Ctx) -> Result<()> {
    let file = t.path("tar").display().to_string();
    t.ok(&["save", "-o", &file, "busybox", "hello-world:latest"])?;
    let output = t.client.run(&["load", "-i", &file])?;
    output
        .code(0)?
        .stdout_has("Loaded image: busybox:latest")?
        .stdout_has("Loaded image: hello-world:latest")?;
    t.client.run(&["save", "no-such-image"])?.code(1)?;
    Ok(())
}

fn commit(t: &Ctx) -> Result<()> {
    let (container, name) = (t.name("c"), image(t, "x"));
    let script = "echo new > /made; rm /etc/group; mkdir -p /a/b; ln -s b /a/l; chmod 4755 /made";
    t.ok(&["run", "--name", &container, "-e", "KEPT=1", "busybox", "sh", "-c", script])?;
    let id = t.ok(&["commit", "-m", "why", "-a", "who", &container, &name])?;
    check!(id.starts_with("sha256:"), "{id}");
    let script = "cat /made; ls /etc/group 2>&1; stat -c %a /made; readlink /a/l; echo $KEPT";
    let output = t.client.run(&["run", "--rm", &name, "sh", "-c", script])?;
    output.code(0)?.stdout("new\nls: /etc/group: No such file or directory\n4755\nb\n1")?;
    let json: serde_json::Value = serde_json::from_str(&t.ok(&["image", "inspect", &name])?)?;
    equal!(json[0]["RootFS"]["Layers"].as_array().map(Vec::len), Some(2));
    equal!((json[0]["Comment"].as_str(), json[0]["Author"].as_str()), (Some("why"), Some("who")));
    t.ok(&["rmi", &name])?;
    Ok(())
}

fn commit_with_changes(t: &Ctx) -> Result<()> {
    let (container, name) = (t.name("c"), image(t, "x"));
    t.ok(&["create", "--name", &container, "busybox", "true"])?;
    let changes = [
        "-c",
        "CMD [\"pwd\"]",
        "-c",
        "WORKDIR /tmp",
        "--change",
        "ENV X=y",
        "-c",
        "EXPOSE 80",
        "-c",
        "USER www-data",
    ];
    t.ok(&[&["commit"], changes.as_slice(), &[&container, &name]].concat())?;
    equal!(t.ok(&["run", "--rm", &name])?, "/tmp");
    equal!(t.ok(&["run", "--rm", &name, "sh", "-c", "id -un; echo $X"])?, "www-data\ny");
    equal!(t.ok(&["image", "inspect", "-f", "{{json .Config.ExposedPorts}}", &name])?, "{\"80/tcp\":{}}");
    t.ok(&["rmi", &name])?;
    Ok(())
}

fn remove(t: &Ctx) -> Result<()> {
    let name = image(t, "x");
    let args = ["import", "-c", "LABEL unique=yes", &t.settings.hello.display().to_string(), &name];
    let id = t.ok(&args)?;
    let output = t.client.run(&["rmi", &name])?;
    output.code(0)?.stdout_has(&format!("Untagged: {name}:latest"))?.stdout_has(&format!("Deleted: {id}"))?;
    t.client.run(&["image", "inspect", &name])?.code(1)?;
    // By the start of its id.
    let id = t.ok(&args)?;
    t.client.run(&["rmi", &id[7..19]])?.code(0)?.stdout_has(&format!("Deleted: {id}"))?;
    Ok(())
}

fn remove_in_use(t: &Ctx) -> Result<()> {
    let (name, container) = (image(t, "x"), t.name("c"));
    t.ok(&["import", "-c", "LABEL in=use", &t.settings.busybox.display().to_string(), &name])?;
    let id = t.ok(&["run", "-d", "--name", &container, &name, "sleep", "1000"])?;
    let output = t.client.run(&["rmi", &name])?;
    output.code(1)?.stderr_has("conflict: unable to remove repository reference")?.stderr_has(&id[..12])?;
    equal!(t.inspect(&container, "{{.State.Running}}")?, "true");
    t.ok(&["rm", "-f", &container])?;
    t.ok(&["rmi", &name])?;
    Ok(())
}

fn remove_missing(t: &Ctx) -> Result<()> {
    t.client.run(&["rmi", "no-such-image"])?.code(1)?.stderr_has("No such image: no-such-image:latest")?;
    t.client
        .run(&["rmi", "-f", "no-such-image"])?
        .code(0)?
        .stderr_has("No such image: no-such-image:latest")?;
    Ok(())
}

fn layers_are_shared(t: &Ctx) -> Result<()> {
    let (container, name) = (t.name("c"), image(t, "x"));
    t.ok(&["run", "--name", &container, "busybox", "touch", "/made"])?;
    t.ok(&["commit", &container, &name])?;
    let layers = "{{json .RootFS.Layers}}";
    let below: Vec<String> = serde_json::from_str(&t.ok(&["image", "inspect", "-f", layers, "busybox"])?)?;
    let above: Vec<String> = serde_json::from_str(&t.ok(&["image", "inspect", "-f", layers, &name])?)?;
    equal!(above[..1], below[..]);
    t.ok(&["rmi", &name])?;
    equal!(t.ok(&["run", "--rm", "busybox", "echo", "still there"])?, "still there");
    Ok(())
}
