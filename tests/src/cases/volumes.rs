//! Volumes and mounts: driver options, parts of volumes, images, other containers' volumes, propagation.

use std::fs;
use std::process::Command;

use anyhow::Result;

use super::{cases, check, equal};
use crate::harness::daemon::{Daemon, import_images};
use crate::harness::{Case, Ctx};

pub fn cases() -> Vec<Case> {
    let mut all = cases!(
        "volumes",
        EachClient,
        [
            tmpfs_volume,
            bind_volume,
            bad_options,
            list_and_prune,
            copy_up,
            subpaths,
            read_only_throughout,
            not_recursive,
            propagation_needs_a_shared_source,
            image_mounts,
            volumes_from,
            volumes_from_refused,
            anonymous_ones,
        ]
    );
    all.extend(cases!("volumes", Nothing, [mounted_ones_survive_the_daemon]));
    all
}

fn busybox<'a>(options: &[&'a str], script: &'a str) -> Vec<&'a str> {
    [&["run", "--rm"], options, &["busybox", "sh", "-c", script]].concat()
}

fn tmpfs_volume(t: &Ctx) -> Result<()> {
    let (volume, name) = (t.name("v"), t.name("c"));
    t.ok(&[
        "volume",
        "create",
        "-o",
        "type=tmpfs",
        "-o",
        "device=tmpfs",
        "-o",
        "o=size=10m,uid=1000",
        &volume,
    ])?;
    let mount = format!("{volume}:/t");
    let seen = t.ok(&busybox(&["-v", &mount], "grep ' /t ' /proc/mounts; stat -c %u /t; touch /t/x"))?;
    check!(
        seen.contains("tmpfs /t tmpfs") && seen.contains("size=10240k") && seen.ends_with("1000"),
        "{seen}"
    );
    equal!(t.ok(&busybox(&["-v", &mount], "ls /t"))?, "");
    // Two users share it; the first one's end does not take it from the second.
    t.ok(&["run", "-d", "--name", &name, "-v", &mount, "busybox", "sleep", "1000"])?;
    t.ok(&busybox(&["-v", &mount], "echo shared >/t/f"))?;
    equal!(t.ok(&["exec", &name, "cat", "/t/f"])?, "shared");
    t.client.run(&["volume", "rm", &volume])?.code(1)?.stderr_has("volume is in use")?;
    t.ok(&["rm", "-f", &name])?;
    t.ok(&["volume", "rm", &volume])?;
    Ok(())
}

fn bind_volume(t: &Ctx) -> Result<()> {
    let (volume, host) = (t.name("v"), t.path("host"));
    fs::create_dir(&host)?;
    fs::write(host.join("f"), "of the host\n")?;
    let device = format!("device={}", host.display());
    t.ok(&["volume", "create", "-o", "type=none", "-o", &device, "-o", "o=bind", &volume])?;
    equal!(t.ok(&busybox(&["-v", &format!("{volume}:/v")], "cat /v/f; touch /v/new"))?, "of the host");
    t.ok(&["volume", "rm", &volume])?;
    check!(host.join("new").exists() && host.join("f").exists(), "the host's files went with the volume");
    Ok(())
}

fn bad_options(t: &Ctx) -> Result<()> {
    let volume = t.name("v");
    for (options, text) in [
        (&["-o", "foo=bar"][..], "invalid option: \"foo\""),
        (&["-o", "type=tmpfs"], "missing required option: \"device\""),
        (&["-o", "device=/x"], "missing required option: \"type\""),
        (&["-o", "size=abc"], "invalid size: 'abc'"),
    ] {
        let args = [&["volume", "create"], options, &[&volume]].concat();
        let expected = format!("Error response from daemon: create {volume}: {text}");
        t.client.run(&args)?.code(1)?.stderr_has(&expected)?;
    }
    t.client.run(&["volume", "create", "-d", "nosuch", &volume])?.code(1)?.stderr_has(&format!(
        "create {volume}: error looking up volume plugin nosuch: plugin \"nosuch\" not found"
    ))?;
    // What is mounted only fails when it is used.
    t.ok(&["volume", "create", "-o", "type=none", "-o", "device=/no/such", "-o", "o=bind", &volume])?;
    t.client
        .run(&busybox(&["-v", &format!("{volume}:/v")], "true"))?
        .stderr_has("failed to mount local volume: mount /no/such:")?;
    t.ok(&["volume", "rm", &volume])?;
    Ok(())
}

fn list_and_prune(t: &Ctx) -> Result<()> {
    let (a, b) = (t.name("a"), t.name("b"));
    let label = format!("of={}", t.name("l"));
    t.ok(&["volume", "create", "--label", &label, &a])?;
    t.ok(&["volume", "create", &b])?;
    let list = |filter: &str| t.ok(&["volume", "ls", "-q", "-f", filter]);
    equal!(list(&format!("label={label}"))?, a);
    equal!(list(&format!("name=^{b}$"))?, b);
    equal!(list("driver=nosuch")?, "");
    t.client.run(&["volume", "ls", "-f", "bad=x"])?.code(1)?.stderr_has("invalid filter 'bad'")?;
    // Named ones stay unless all are asked for.
    t.ok(&["volume", "prune", "-f", "--filter", &format!("label={label}")])?;
    equal!(list(&format!("label={label}"))?, a);
    let pruned = t.ok(&["volume", "prune", "-f", "-a", "--filter", &format!("label={label}")])?;
    check!(pruned.contains(&a) && !pruned.contains(&b), "{pruned}");
    t.ok(&["volume", "rm", &b])?;
    Ok(())
}

fn copy_up(t: &Ctx) -> Result<()> {
    let volume = t.name("v");
    let at = |path: &str| format!("{volume}:{path}");
    // Used empty first, it still takes what an image has.
    equal!(t.ok(&busybox(&["-v", &at("/new")], "ls /new"))?, "");
    let nocopy = format!("{}:nocopy", at("/etc"));
    equal!(t.ok(&busybox(&["-v", &nocopy], "test -e /etc/passwd || echo empty"))?, "empty");
    t.ok(&["volume", "rm", &volume])?;
    equal!(t.ok(&busybox(&["-v", &at("/etc")], "head -c 5 /etc/passwd"))?, "root:");
    equal!(t.ok(&busybox(&["-v", &at("/x")], "head -c 5 /x/passwd"))?, "root:");
    t.ok(&["volume", "rm", &volume])?;
    Ok(())
}

fn subpaths(t: &Ctx) -> Result<()> {
    let volume = t.name("v");
    t.ok(&busybox(
        &["-v", &format!("{volume}:/v")],
        "mkdir -p /v/a/b; echo deep >/v/a/b/f; ln -s / /v/abs; ln -s a /v/inside; ln -s ../../.. /v/up",
    ))?;
    let mount = |part: &str| format!("type=volume,src={volume},dst=/x,volume-subpath={part}");
    equal!(t.ok(&busybox(&["--mount", &mount("a/b")], "cat /x/f"))?, "deep");
    equal!(t.ok(&busybox(&["--mount", &mount("a/b/f")], "cat /x"))?, "deep");
    equal!(t.ok(&busybox(&["--mount", &mount("inside")], "ls /x"))?, "b");
    // What the image has there is copied into an empty directory.
    t.ok(&busybox(&["-v", &format!("{volume}:/v")], "mkdir /v/etc"))?;
    let over = format!("type=volume,src={volume},dst=/etc,volume-subpath=etc");
    equal!(t.ok(&busybox(&["--mount", &over], "ls -d /etc/passwd"))?, "/etc/passwd");
    equal!(t.ok(&busybox(&["-v", &format!("{volume}:/v")], "ls -d /v/etc/passwd"))?, "/v/etc/passwd");
    for out in ["abs", "up"] {
        t.client
            .run(&busybox(&["--mount", &mount(out)], "ls /x"))?
            .stderr_has("path concatenation escapes the base directory")?;
    }
    for bad in ["../x", "/a"] {
        t.client
            .run(&busybox(&["--mount", &mount(bad)], "ls /x"))?
            .code(125)?
            .stderr_has("subpath must be a relative path within the volume")?;
    }
    t.client.run(&busybox(&["--mount", &mount("nope")], "ls /x"))?.stderr_has("cannot access path")?;
    t.ok(&["volume", "rm", &volume])?;
    Ok(())
}

/// A directory with a file system mounted in it; taken away when dropped.
struct Nested(std::path::PathBuf);

impl Nested {
    fn new(t: &Ctx) -> Result<Self> {
        let dir = t.path("nested");
        fs::create_dir_all(dir.join("m"))?;
        super::check!(
            Command::new("mount").args(["-t", "tmpfs", "none"]).arg(dir.join("m")).status()?.success(),
            "cannot mount"
        );
        fs::write(dir.join("m/inside"), "")?;
        Ok(Self(dir))
    }
}

impl Drop for Nested {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.join("m")).status();
    }
}

fn read_only_throughout(t: &Ctx) -> Result<()> {
    let host = Nested::new(t)?;
    let bind = format!("{}:/x:ro", host.0.display());
    let script = "touch /x/n 2>/dev/null && echo top; touch /x/m/n 2>/dev/null && echo below; true";
    equal!(t.ok(&busybox(&["-v", &bind], script))?, "");
    let mount = |recursive: &str| {
        format!("type=bind,src={},dst=/x,readonly,bind-recursive={recursive}", host.0.display())
    };
    equal!(t.ok(&busybox(&["--mount", &mount("writable")], script))?, "below");
    equal!(t.ok(&busybox(&["--mount", &mount("readonly,bind-propagation=rprivate")], script))?, "");
    t.client
        .run(&busybox(&["--mount", &mount("readonly")], script))?
        .code(125)?
        .stderr_has("requires 'bind-propagation=rprivate' to be specified in conjunction")?;
    Ok(())
}

fn not_recursive(t: &Ctx) -> Result<()> {
    let host = Nested::new(t)?;
    let mount = format!("type=bind,src={},dst=/x", host.0.display());
    equal!(t.ok(&busybox(&["--mount", &mount], "ls /x/m"))?, "inside");
    equal!(t.ok(&busybox(&["--mount", &format!("{mount},bind-recursive=disabled")], "ls /x/m"))?, "");
    Ok(())
}

fn propagation_needs_a_shared_source(t: &Ctx) -> Result<()> {
    let host = t.path("host");
    fs::create_dir(&host)?;
    let run = |what: &str, args: &[&str]| -> Result<()> {
        check!(Command::new(what).args(args).arg(&host).status()?.success(), "{what} {args:?}");
        Ok(())
    };
    let path = host.display().to_string();
    run("mount", &["--bind", &path])?;
    let tried = (|| -> Result<()> {
        run("mount", &["--make-private"])?;
        for (mode, text) in [("shared", "not a shared mount"), ("rslave", "not a shared or slave mount")] {
            t.client
                .run(&busybox(&["-v", &format!("{path}:/x:{mode}")], "true"))?
                .code(125)?
                .stderr_has(&format!("path {path} is mounted on {path} but it is {text}"))?;
        }
        run("mount", &["--make-shared"])?;
        for (mode, tag) in [("rshared", "shared:"), ("rslave", "master:")] {
            let script = format!("grep ' /x ' /proc/self/mountinfo | grep -c {tag}");
            equal!(t.ok(&busybox(&["-v", &format!("{path}:/x:{mode}")], &script))?, "1");
        }
        Ok(())
    })();
    run("umount", &["-l"])?;
    tried
}

fn image_mounts(t: &Ctx) -> Result<()> {
    let tag = format!("test/{}", t.name("i"));
    let name = t.name("c");
    t.ok(&["run", "--name", &name, "busybox", "sh", "-c", "mkdir /sub; echo second >/sub/layer"])?;
    t.ok(&["commit", &name, &tag])?;
    t.ok(&["rm", &name])?;
    let script =
        "cat /x/sub/layer; test -x /x/bin/busybox && echo first; touch /x/n 2>/dev/null || echo closed";
    equal!(
        t.ok(&busybox(&["--mount", &format!("type=image,src={tag},dst=/x")], script))?,
        "second\nfirst\nclosed"
    );
    let part = format!("type=image,src={tag},dst=/x,image-subpath=sub");
    equal!(t.ok(&busybox(&["--mount", &part], "cat /x/layer"))?, "second");
    let part = format!("type=image,src={tag},dst=/x,image-subpath=sub/layer");
    equal!(t.ok(&busybox(&["--mount", &part], "cat /x"))?, "second");
    // A stopped container shows it to cp, and keeps the image.
    t.ok(&["create", "--name", &name, "--mount", &format!("type=image,src={tag},dst=/x"), "busybox"])?;
    let out = t.path("out");
    t.ok(&["cp", &format!("{name}:/x/sub/layer"), &out.display().to_string()])?;
    equal!(fs::read_to_string(out)?, "second\n");
    t.ok(&["rm", &name])?;
    t.ok(&["rmi", &tag])?;
    Ok(())
}

fn volumes_from(t: &Ctx) -> Result<()> {
    let (first, second, third, named) = (t.name("1"), t.name("2"), t.name("3"), t.name("v"));
    t.ok(&[
        "run",
        "-d",
        "--name",
        &first,
        "-v",
        "/anon",
        "-v",
        &format!("{named}:/named"),
        "busybox",
        "sh",
        "-c",
        "echo 1 >/anon/f; echo 2 >/named/f; sleep 1000",
    ])?;
    t.ok(&["run", "-d", "--name", &second, "--volumes-from", &first, "busybox", "sleep", "1000"])?;
    t.ok(&[
        "run",
        "-d",
        "--name",
        &third,
        "--volumes-from",
        &format!("{second}:ro"),
        "busybox",
        "sleep",
        "1000",
    ])?;
    let cat = |name: &str| {
        t.ok(&["exec", name, "sh", "-c", "until cat /anon/f /named/f 2>/dev/null; do sleep 0.01; done"])
    };
    equal!(cat(&second)?, "1\n2");
    equal!(cat(&third)?, "1\n2");
    let read_only = t.client.run(&["exec", &third, "touch", "/named/x"])?;
    read_only.code(1)?.stderr_has("Read-only file system")?;
    // The data outlives the container it was made for, and is protected as long as anybody has it.
    t.ok(&["rm", "-f", &first])?;
    equal!(cat(&second)?, "1\n2");
    t.client.run(&["volume", "rm", &named])?.code(1)?.stderr_has("volume is in use")?;
    let anonymous =
        t.inspect(&second, "{{range .Mounts}}{{if eq .Destination \"/anon\"}}{{.Name}}{{end}}{{end}}")?;
    t.ok(&["rm", "-f", &third])?;
    t.ok(&["rm", "-f", "-v", &second])?;
    t.client.run(&["volume", "inspect", &anonymous])?.code(1)?;
    t.ok(&["volume", "rm", &named])?;
    Ok(())
}

fn volumes_from_refused(t: &Ctx) -> Result<()> {
    let name = t.name("c");
    t.ok(&["create", "--name", &name, "-v", "/anon", "busybox"])?;
    for (from, text) in [
        ("nosuch", "No such container: nosuch"),
        ("", "volumes-from specification cannot be an empty string"),
        (&format!("{name}:bad"), "invalid mode: bad"),
    ] {
        t.client.run(&busybox(&["--volumes-from", from], "true"))?.code(125)?.stderr_has(text)?;
    }
    Ok(())
}

fn anonymous_ones(t: &Ctx) -> Result<()> {
    let name = t.name("c");
    let volume_of = |name: &str| t.inspect(name, "{{(index .Mounts 0).Name}}");
    t.ok(&["create", "--name", &name, "-v", "/anon", "busybox"])?;
    let kept = volume_of(&name)?;
    t.ok(&["rm", &name])?;
    t.ok(&["volume", "rm", &kept])?;
    t.ok(&["create", "--name", &name, "-v", "/anon", "busybox"])?;
    let gone = volume_of(&name)?;
    t.ok(&["rm", "-v", &name])?;
    t.client.run(&["volume", "inspect", &gone])?.code(1)?.stderr_has("no such volume")?;
    Ok(())
}

fn mounted_ones_survive_the_daemon(t: &Ctx) -> Result<()> {
    let daemon = Daemon::start(&t.settings, "volumes")?;
    let client = daemon.client()?;
    import_images(&t.settings, &client)?;
    for volume in ["used", "unused"] {
        client.ok(&["volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", volume])?;
        let mount = format!("{volume}:/v");
        client.ok(&[
            "run",
            "-d",
            "--name",
            volume,
            "-v",
            &mount,
            "busybox",
            "sh",
            "-c",
            "echo x >/v/f; sleep 1000",
        ])?;
    }
    let mounted = |volume: &str| -> Result<bool> {
        let dir = daemon.data_root().join(format!("volumes/{volume}/_data"));
        Ok(fs::read_to_string("/proc/self/mounts")?.contains(&dir.display().to_string()))
    };
    check!(mounted("used")? && mounted("unused")?, "not mounted");
    let pid = client.ok(&["inspect", "-f", "{{.State.Pid}}", "unused"])?;
    daemon.kill()?;
    // Ends while nobody watches.
    Command::new("kill").args(["-9", &pid]).status()?;
    daemon.up()?;
    check!(mounted("used")?, "taken from a running container");
    crate::harness::eventually("the unused volume is unmounted", std::time::Duration::from_secs(5), || {
        Ok(!mounted("unused")?)
    })?;
    equal!(client.ok(&["exec", "used", "cat", "/v/f"])?, "x");
    client.ok(&["rm", "-f", "used", "unused"])?;
    check!(!mounted("used")?, "still mounted");
    Ok(())
}
