//! Images: import, list, inspect, tag, save, load, commit, remove.

use anyhow::Result;

use super::{cases, check, equal};
use crate::harness::{Case, Ctx, archive};

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
            filters,
            through_compressors,
            first_archive_format,
            import_from_a_url,
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
    // Other cases give it further names.
    let tags = image["RepoTags"].as_array();
    check!(tags.is_some_and(|tags| tags.contains(&"busybox:latest".into())), "{}", image["RepoTags"]);
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

fn filters(t: &Ctx) -> Result<()> {
    let (old, new) = (image(t, "old"), image(t, "new"));
    let tar = t.settings.busybox.display().to_string();
    t.ok(&["import", &tar, &old])?;
    t.ok(&["import", "-c", "LABEL of=filters", &tar, &new])?;
    let names = |filters: &[&str]| -> Result<Vec<String>> {
        let mut args = vec!["images", "--format", "{{.Repository}}"];
        for filter in filters {
            args.extend(["--filter", filter]);
        }
        Ok(t.ok(&args)?.lines().map(str::to_owned).collect())
    };
    check!(names(&[&format!("since={old}")])?.contains(&new), "made after");
    check!(names(&[&format!("before={new}")])?.contains(&old), "made before");
    equal!(names(&["label=of=filters"])?, std::slice::from_ref(&new));
    equal!(names(&[&format!("reference={}[n]ew", old.trim_end_matches("old"))])?, std::slice::from_ref(&new));
    equal!(names(&[&format!("reference={old}"), "dangling=true"])?.len(), 0);
    for (filter, text) in [
        ("reference=[", "syntax error in pattern"),
        ("bad=x", "invalid filter 'bad'"),
        ("until=xx", "failed to parse value as time or duration: \"xx\""),
        ("before=no-such-image", "No such image: no-such-image:latest"),
    ] {
        t.client.run(&["images", "--filter", filter])?.code(1)?.stderr_has(text)?;
    }
    t.ok(&["rmi", &old, &new])?;
    Ok(())
}

fn through_compressors(t: &Ctx) -> Result<()> {
    let name = image(t, "x");
    t.ok(&["import", &t.settings.busybox.display().to_string(), &name])?;
    let id = t.ok(&["image", "inspect", "-f", "{{.Id}}", &name])?;
    let tar = t.path("x.tar");
    t.ok(&["save", "-o", &tar.display().to_string(), &name])?;
    t.ok(&["rmi", &name])?;
    for program in ["gzip", "bzip2", "xz", "zstd"] {
        let packed = std::process::Command::new(program).arg("-c").arg(&tar).output();
        let Ok(packed) = packed else { continue };
        check!(packed.status.success(), "{program} failed");
        let loaded = t.client.run_with(&["load"], packed.stdout)?;
        loaded.code(0)?;
        equal!(t.ok(&["image", "inspect", "-f", "{{.Id}}", &name])?, id);
        t.ok(&["rmi", &name])?;
    }
    Ok(())
}

fn first_archive_format(t: &Ctx) -> Result<()> {
    let name = image(t, "x");
    let (base, top) = ("a".repeat(64), "b".repeat(64));
    let layer = |file: &str| archive::Tar::default().file(file, 0o644, b"x").bytes();
    let part = |parent: &str| {
        format!(
            r#"{{"parent":"{parent}","created":"2015-01-01T00:00:00Z","config":{{"Cmd":["sh"]}},"os":"linux","architecture":"amd64"}}"#
        )
    };
    let repositories = format!(r#"{{"{name}":{{"old":"{top}"}}}}"#);
    let tar = archive::Tar::default()
        .file(&format!("{base}/json"), 0o644, part("").as_bytes())
        .file(&format!("{base}/layer.tar"), 0o644, &layer("first"))
        .file(&format!("{top}/VERSION"), 0o644, b"1.0")
        .file(&format!("{top}/json"), 0o644, part(&base).as_bytes())
        .file(&format!("{top}/layer.tar"), 0o644, &layer("second"))
        .file("repositories", 0o644, repositories.as_bytes())
        .bytes();
    t.client.run_with(&["load"], tar)?.code(0)?;
    let name = format!("{name}:old");
    equal!(t.ok(&["image", "inspect", "-f", "{{len .RootFS.Layers}} {{.Config.Cmd}}", &name])?, "2 [sh]");
    t.ok(&["rmi", &name])?;
    Ok(())
}

/// Serves one file once for every request.
fn import_from_a_url(t: &Ctx) -> Result<()> {
    use std::io::{Read as _, Write as _};
    let name = image(t, "x");
    let file = std::fs::read(&t.settings.busybox)?;
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let server = std::thread::spawn(move || -> std::io::Result<()> {
        for _ in 0..2 {
            let (mut client, _) = listener.accept()?;
            let mut request = [0_u8; 4096];
            let n = client.read(&mut request)?;
            let found = String::from_utf8_lossy(&request[..n]).starts_with("GET /rootfs.tar ");
            let status = if found { "200 OK" } else { "404 Not Found" };
            let body = if found { &file[..] } else { b"nothing here" };
            write!(
                client,
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            )?;
            client.write_all(body)?;
        }
        Ok(())
    });
    let output = t.ok(&["import", &format!("http://{address}/rootfs.tar"), &name])?;
    check!(output.starts_with(&format!("Downloading from http://{address}/rootfs.tar")), "{output}");
    equal!(t.ok(&["run", "--rm", &name, "echo", "works"])?, "works");
    t.client
        .run(&["import", &format!("http://{address}/other"), &name])?
        .code(1)?
        .stderr_has("with status 404 Not Found: nothing here")?;
    check!(server.join().is_ok_and(|served| served.is_ok()), "the server failed");
    t.ok(&["rmi", &name])?;
    t.client.run(&["import", "http://127.0.0.1:1/x", &name])?.code(1)?.stderr_has("connection refused")?;
    Ok(())
}
