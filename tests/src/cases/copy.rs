//! `cp` and the archive endpoints: both ways, onto what is there and what is not, mounts, and a container that works
//! against it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::{cases, check, equal};
use crate::harness::{Case, Ctx, archive, http};

pub fn cases() -> Vec<Case> {
    let mut all = cases!(
        "copy",
        EachClient,
        [
            out_of_a_container,
            into_a_container,
            trailing_dots,
            links,
            through_pipes,
            owners_and_modes,
            mounts,
            read_only,
            in_every_state,
            refusals,
        ]
    );
    all.extend(cases!("copy", Engine, [path_stat, put_archives, a_racing_container]));
    all
}

/// A container that lives; `script` ran in it.
fn container(t: &Ctx, what: &str, options: &[&str], script: &str) -> Result<String> {
    let name = t.name(what);
    t.remove_later(&name);
    let mut args = vec!["run", "-d", "--name", &name];
    args.extend(options);
    let command = format!("{script}; touch /tmp/ready; sleep 1000");
    args.extend(["busybox", "sh", "-c", &command]);
    t.ok(&args)?;
    t.ok(&["exec", &name, "sh", "-c", "while ! [ -e /tmp/ready ]; do sleep 0.01; done"])?;
    Ok(name)
}

fn out_of_a_container(t: &Ctx) -> Result<()> {
    let name = container(t, "c", &[], "mkdir -p /d/sub; echo one >/d/f; echo two >/d/sub/g")?;
    let dir = t.path("out");
    fs::create_dir(&dir)?;
    let at = |below: &str| dir.join(below).display().to_string();
    let text = |below: &str| fs::read_to_string(dir.join(below)).with_context(|| below.to_owned());
    // A file: into a directory, under a new name, over another one.
    t.ok(&["cp", &format!("{name}:/d/f"), &at("")])?;
    equal!(text("f")?, "one\n");
    t.ok(&["cp", &format!("{name}:d/f"), &at("new")])?;
    equal!(text("new")?, "one\n");
    t.ok(&["cp", &format!("{name}:/d/sub/g"), &at("new")])?;
    equal!(text("new")?, "two\n");
    // A directory: into one that is there, and as a new one.
    t.ok(&["cp", &format!("{name}:/d"), &at("")])?;
    equal!(text("d/sub/g")?, "two\n");
    t.ok(&["cp", &format!("{name}:/d"), &at("as")])?;
    equal!(text("as/sub/g")?, "two\n");
    t.client.run(&["cp", &format!("{name}:/d"), &at("f")])?.code(1)?.stderr_has("cannot copy directory")?;
    t.client
        .run(&["cp", &format!("{name}:/d/f"), &at("no/where")])?
        .code(1)?
        .stderr_has(&format!("invalid output path: directory \"{}\" does not exist", at("no")))?;
    Ok(())
}

fn into_a_container(t: &Ctx) -> Result<()> {
    let name = container(t, "c", &[], "mkdir /d; echo old >/d/f")?;
    let dir = t.path("in");
    fs::create_dir_all(dir.join("tree/sub"))?;
    fs::write(dir.join("f"), "new\n")?;
    fs::write(dir.join("tree/sub/g"), "deep\n")?;
    let f = dir.join("f").display().to_string();
    let tree = dir.join("tree").display().to_string();
    let cat = |path: &str| t.ok(&["exec", &name, "cat", path]);
    t.ok(&["cp", &f, &format!("{name}:/d")])?;
    equal!(cat("/d/f")?, "new");
    t.ok(&["cp", &f, &format!("{name}:/d/named")])?;
    equal!(cat("/d/named")?, "new");
    t.ok(&["cp", &tree, &format!("{name}:/d")])?;
    equal!(cat("/d/tree/sub/g")?, "deep");
    t.ok(&["cp", &tree, &format!("{name}:/d/as")])?;
    equal!(cat("/d/as/sub/g")?, "deep");
    t.client.run(&["cp", &tree, &format!("{name}:/d/f")])?.code(1)?.stderr_has("cannot copy directory")?;
    t.client.run(&["cp", &f, &format!("{name}:/d/nd/")])?.code(1)?.stderr_has("no such directory")?;
    t.client
        .run(&["cp", &f, &format!("{name}:/d/nd/x")])?
        .code(1)?
        .stderr_has(&format!("Could not find the file /d/nd in container {name}"))?;
    Ok(())
}

fn trailing_dots(t: &Ctx) -> Result<()> {
    let name = container(t, "c", &[], "mkdir /d /e; echo one >/d/f; ln -s /d /l")?;
    let dir = t.path("dots");
    fs::create_dir_all(dir.join("src"))?;
    fs::create_dir(dir.join("out"))?;
    fs::write(dir.join("src/g"), "two\n")?;
    let out = dir.join("out").display().to_string();
    t.ok(&["cp", &format!("{name}:/d/."), &out])?;
    check!(dir.join("out/f").is_file(), "not the contents alone");
    t.ok(&["cp", &format!("{name}:/l/."), &format!("{out}/through")])?;
    check!(dir.join("out/through/f").is_file(), "the link was not followed");
    t.ok(&["cp", &format!("{}/.", dir.join("src").display()), &format!("{name}:/e")])?;
    equal!(t.ok(&["exec", &name, "cat", "/e/g"])?, "two");
    Ok(())
}

fn links(t: &Ctx) -> Result<()> {
    let name =
        container(t, "c", &[], "mkdir /d; echo one >/d/f; ln -s f /d/l; ln -s /d /dl; ln -s nowhere /d/x")?;
    let dir = t.path("links");
    fs::create_dir(&dir)?;
    let at = |below: &str| dir.join(below).display().to_string();
    t.ok(&["cp", &format!("{name}:/d/l"), &at("l")])?;
    equal!(fs::read_link(dir.join("l"))?.display().to_string(), "f");
    t.ok(&["cp", "-L", &format!("{name}:/d/l"), &at("followed")])?;
    equal!(fs::read_to_string(dir.join("followed"))?, "one\n");
    check!(!dir.join("followed").is_symlink(), "still a link");
    t.ok(&["cp", &format!("{name}:/d/x"), &at("x")])?;
    check!(dir.join("x").is_symlink(), "a dangling link is a link");
    // A destination that is a link is followed; to nowhere, it is made there.
    fs::write(dir.join("f"), "two\n")?;
    t.ok(&["cp", &at("f"), &format!("{name}:/dl")])?;
    t.ok(&["cp", &at("f"), &format!("{name}:/d/x")])?;
    equal!(t.ok(&["exec", &name, "cat", "/d/f", "/d/nowhere"])?, "two\ntwo");
    Ok(())
}

fn through_pipes(t: &Ctx) -> Result<()> {
    let name = container(t, "c", &[], "mkdir /d; echo one >/d/f")?;
    let output = t.client.run(&["cp", &format!("{name}:/d"), "-"])?;
    output.code(0)?;
    let tar = t.path("d.tar");
    fs::write(&tar, &output.stdout)?;
    let unpacked = t.path("unpacked");
    archive::unpack(&tar, &unpacked)?;
    equal!(fs::read_to_string(unpacked.join("d/f"))?, "one\n");
    let tar = archive::Tar::default().file("g", 0o644, b"two").bytes();
    t.client.run_with(&["cp", "-", &format!("{name}:/d")], tar.clone())?.code(0)?;
    equal!(t.ok(&["exec", &name, "cat", "/d/g"])?, "two");
    t.client
        .run_with(&["cp", "-", &format!("{name}:/d/f")], tar)?
        .code(1)?
        .stderr_has(&format!("destination \"{name}:/d/f\" must be a directory"))?;
    t.client
        .run_with(&["cp", "-", &format!("{name}:/d")], b"no tar".to_vec())?
        .code(1)?
        .stderr_has("unexpected EOF")?;
    Ok(())
}

fn owners_and_modes(t: &Ctx) -> Result<()> {
    let name = container(t, "c", &["-u", "1000:1001"], "true")?;
    let file = t.path("f");
    fs::write(&file, "x")?;
    std::os::unix::fs::chown(&file, Some(12), Some(34))?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o4751))?;
    let file = file.display().to_string();
    t.ok(&["cp", &file, &format!("{name}:/tmp/plain")])?;
    t.ok(&["cp", "-a", &file, &format!("{name}:/tmp/archive")])?;
    let stat = |path: &str| t.ok(&["exec", &name, "stat", "-c", "%a %u:%g %s", path]);
    equal!(stat("/tmp/plain")?, "4751 12:34 1");
    // Archive mode gives everything to the container's user.
    equal!(stat("/tmp/archive")?, "4751 1000:1001 1");
    let back = t.path("back");
    t.ok(&["cp", &format!("{name}:/tmp/plain"), &back.display().to_string()])?;
    equal!(fs::metadata(&back)?.mode() & 0o7777, 0o4751);
    Ok(())
}

fn mounts(t: &Ctx) -> Result<()> {
    let volume = t.name("v");
    let host = t.path("host");
    fs::create_dir(&host)?;
    fs::write(host.join("f"), "bound\n")?;
    let bind = format!("{}:/bind", host.display());
    let name = container(t, "c", &["-v", &format!("{volume}:/vol"), "-v", &bind], "echo data >/vol/f")?;
    let at = |path: &str| format!("{name}:{path}");
    for stopped in [false, true] {
        if stopped {
            t.ok(&["stop", "-t", "0", &name])?;
        }
        let out = t.path(if stopped { "stopped" } else { "running" });
        fs::create_dir(&out)?;
        t.ok(&["cp", &at("/vol/."), &out.display().to_string()])?;
        equal!(fs::read_to_string(out.join("f"))?, "data\n");
        let new = if stopped { "new-stopped" } else { "new-running" };
        t.ok(&["cp", &at("/bind/f"), &format!("{}/g", out.display())])?;
        t.ok(&["cp", &format!("{}/g", out.display()), &at(&format!("/bind/{new}"))])?;
        equal!(fs::read_to_string(host.join(new))?, "bound\n");
        t.ok(&["cp", &format!("{}/g", out.display()), &at(&format!("/vol/{new}"))])?;
    }
    equal!(
        t.ok(&["run", "--rm", "-v", &format!("{volume}:/v"), "busybox", "ls", "/v"])?,
        "f\nnew-running\nnew-stopped"
    );
    t.ok(&["rm", "-f", &name])?;
    t.ok(&["volume", "rm", &volume])?;
    Ok(())
}

fn read_only(t: &Ctx) -> Result<()> {
    let host = t.path("host");
    fs::create_dir(&host)?;
    let name = t.name("c");
    t.remove_later(&name);
    let (ro, rw) = (format!("{}:/ro:ro", host.display()), format!("{}:/rw", host.display()));
    t.ok(&["run", "-d", "--name", &name, "--read-only", "-v", &ro, "-v", &rw, "busybox", "sleep", "1000"])?;
    let file = t.path("f");
    fs::write(&file, "x")?;
    let file = file.display().to_string();
    for stopped in [false, true] {
        if stopped {
            t.ok(&["stop", "-t", "0", &name])?;
        }
        let refused = t.client.run(&["cp", &file, &format!("{name}:/etc/x")])?;
        refused.code(1)?.stderr_has("Error response from daemon: container rootfs is marked read-only")?;
        let refused = t.client.run(&["cp", &file, &format!("{name}:/ro/x")])?;
        refused.code(1)?.stderr_has("Error response from daemon: mounted volume is marked read-only")?;
        check!(!host.join("x").exists(), "written through a read-only mount");
        t.ok(&["cp", &file, &format!("{name}:/rw/y")])?;
        fs::remove_file(host.join("y"))?;
    }
    Ok(())
}

fn in_every_state(t: &Ctx) -> Result<()> {
    let name = t.name("c");
    t.remove_later(&name);
    t.ok(&["create", "--name", &name, "busybox", "sleep", "1000"])?;
    let file = t.path("f");
    fs::write(&file, "x")?;
    let file = file.display().to_string();
    let round = |state: &str| -> Result<()> {
        let back = t.path(state);
        t.ok(&["cp", &file, &format!("{name}:/{state}")])?;
        t.ok(&["cp", &format!("{name}:/{state}"), &back.display().to_string()])?;
        equal!(fs::read_to_string(back)?, "x");
        Ok(())
    };
    round("created")?;
    t.ok(&["start", &name])?;
    round("running")?;
    t.ok(&["pause", &name])?;
    round("paused")?;
    t.ok(&["unpause", &name])?;
    t.ok(&["kill", &name])?;
    t.ok(&["wait", &name])?;
    round("stopped")?;
    t.ok(&["start", &name])?;
    equal!(t.ok(&["exec", &name, "cat", "/created", "/running", "/paused", "/stopped"])?, "xxxx");
    let changed = t.ok(&["diff", &name])?;
    check!(["A /created", "A /stopped"].iter().all(|l| changed.contains(l)), "{changed}");
    Ok(())
}

fn refusals(t: &Ctx) -> Result<()> {
    let name = container(t, "c", &[], "true")?;
    let here = t.path("").display().to_string();
    for (args, text) in [
        (vec!["cp", "nosuch:/x", &here], "Error response from daemon: No such container: nosuch"),
        (
            vec!["cp", &format!("{name}:/nope"), &here],
            &format!("Error response from daemon: Could not find the file /nope in container {name}"),
        ),
        (vec!["cp", &here, &here], "must specify at least one container source"),
        (
            vec!["cp", &format!("{name}:/a"), &format!("{name}:/b")],
            "copying between containers is not supported",
        ),
        (vec!["cp", "", &here], "source can not be empty"),
        (vec!["cp", &here, ""], "destination can not be empty"),
        (vec!["cp", "/no-such-file", &format!("{name}:/")], "no-such-file: no such file or directory"),
    ] {
        t.client.run(&args)?.code(1)?.stderr_has(text)?;
    }
    Ok(())
}

/// Sends bytes to a path of a container.
fn put(t: &Ctx, container: &str, query: &str, body: &[u8]) -> Result<http::Answer> {
    let head = format!(
        "PUT /containers/{container}/archive?path={query} HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n\
         Content-Type: application/x-tar\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    http::raw(&t.client.socket()?, &[head.as_bytes(), body].concat(), false)
}

fn path_stat(t: &Ctx) -> Result<()> {
    let name = container(t, "c", &[], "mkdir /d; ln -s ../d/./x /d/l; ln -s b /a; ln -s a /b")?;
    let head = |path: &str| {
        http::request(&t.client.socket()?, "HEAD", &format!("/containers/{name}/archive?path={path}"), None)
    };
    let answer = head("/d/l")?;
    answer.status(200)?;
    let header = answer.header("x-docker-container-path-stat").context("no header")?.to_owned();
    check!(header.len() > 40, "{header}");
    head("/d/l/")?.status(404)?;
    head("/nope")?.status(404)?;
    head("/a")?.status(500)?;
    head("/etc/passwd/x")?.status(500)?;
    head("")?.status(400)?;
    Ok(())
}

fn put_archives(t: &Ctx) -> Result<()> {
    let name = container(t, "c", &[], "mkdir /d; mkdir /d/sub; echo x >/d/f; ln -s /etc /d/link")?;
    let tar = archive::Tar::default;
    let message = |query: &str, body: &[u8], status: u16| -> Result<String> {
        let answer = put(t, &name, query, body)?;
        answer.status(status)?;
        if status == 200 { Ok(String::new()) } else { answer.message() }
    };
    let sub = tar().file("sub", 0o644, b"x").bytes();
    equal!(
        message("/d&noOverwriteDirNonDir=1", &sub, 500)?,
        "cannot overwrite directory \"sub\" with non-directory \"/d\""
    );
    let f = tar().dir("f").bytes();
    equal!(
        message("/d&noOverwriteDirNonDir=1", &f, 500)?,
        "cannot overwrite non-directory \"f\" with directory \"/d\""
    );
    message("/d", &sub, 200)?;
    message("/d", &f, 200)?;
    equal!(t.ok(&["exec", &name, "sh", "-c", "test -f /d/sub && test -d /d/f && echo swapped"])?, "swapped");
    equal!(message("/d/sub", &sub, 400)?, "extraction point is not a directory");
    equal!(message("/nope", &sub, 404)?, format!("Could not find the file /nope in container {name}"));
    equal!(
        message("/d", &tar().file("../evil", 0o644, b"x").bytes(), 500)?,
        "invalid entry name \"../evil\""
    );
    equal!(
        message("/d", &tar().hardlink("h", "../../etc/passwd").bytes(), 500)?,
        "invalid hardlink target \"../../etc/passwd\""
    );
    // The directory is the archive's root: a link in it that leads out leads back in.
    message("/d", &tar().file("link/evil", 0o644, b"x").bytes(), 200)?;
    equal!(t.ok(&["exec", &name, "sh", "-c", "test -e /etc/evil || echo safe"])?, "safe");
    let whole = tar().file("big", 0o644, &[7; 5000]).bytes();
    equal!(message("/d", &whole[..2000], 500)?, "unexpected EOF");
    message("/d", &[], 200)?;
    Ok(())
}

/// A container swaps a directory for links out of it, and a file for a device, while files go in and out.
fn a_racing_container(t: &Ctx) -> Result<()> {
    let image = t.debian()?;
    let trap = t.path("trap");
    fs::create_dir(&trap)?;
    fs::write(trap.join("secret"), "of the host")?;
    let name = t.name("c");
    t.remove_later(&name);
    // renameat2(2) with RENAME_EXCHANGE.
    let script = format!(
        r#"mkdir "/r"; mkdir "/r/d"; open F, ">/r/d/secret"; print F "inside"; close F; open F, ">/r/f"; close F;
        symlink "{0}", "/r/l0"; symlink "../../../../../../../..{0}", "/r/l1"; symlink "/proc/1/root{0}", "/r/l2";
        system "mkfifo /r/p; mknod /r/n c 1 5"; my $i = 0; my $exchange = $ARGV[0];
        while (1) {{
            my ($l, $d, $o, $f) = ("/r/l" . ($i % 3) . "\0", "/r/d\0", ($i % 2 ? "/r/p\0" : "/r/n\0"), "/r/f\0");
            for (1, 2) {{ syscall($exchange, -100, $l, -100, $d, 2); syscall($exchange, -100, $o, -100, $f, 2) }}
            syscall($exchange, -100, $l, -100, $d, 2) if $i % 5 == 0;
            $i++;
        }}"#,
        trap.display()
    );
    let number = if cfg!(target_arch = "aarch64") { "276" } else { "316" };
    t.ok(&["run", "-d", "--name", &name, image, "perl", "-e", &script, number])?;
    let file = archive::Tar::default().file("pwned", 0o644, b"x").bytes();
    let tree = archive::Tar::default().dir("d").file("d/pwned", 0o644, b"x").bytes();
    let socket = t.client.socket()?;
    let (mut inside, end) = (0, Instant::now() + Duration::from_secs(4));
    while Instant::now() < end {
        for path in ["/r/d/secret", "/r/d", "/r", "/r/f"] {
            let url = format!("/containers/{name}/archive?path={path}");
            // Whatever is found gone, the engine answers.
            let answer = http::request(&socket, "GET", &url, None)?;
            check!(!answer.body.contains("of the host"), "{path} leads to the host");
            inside += usize::from(answer.body.contains("inside"));
        }
        put(t, &name, "/r/d", &file)?;
        put(t, &name, "/r", &tree)?;
        check!(fs::read_dir(&trap)?.count() == 1, "written to the host");
    }
    check!(inside > 0, "nothing was ever read");
    Ok(())
}
