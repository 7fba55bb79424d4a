//! Root file systems that tests, bench and quickstart turn into images with `ferry import`: busybox,
//! hello-world and Debian. They are made once and kept in the cache directory.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::{apt, host, sh, sources, ui};

/// Prints a greeting and ends; what `docker run hello-world` is for.
const HELLO: &str = r#"#include <unistd.h>
int main(void) {
    static const char text[] = "\nHello from ferry!\nThis container runs a static program and nothing else.\n\n";
    return write(1, text, sizeof text - 1) == (ssize_t)(sizeof text - 1) ? 0 : 1;
}
"#;

/// Sends every datagram back to where it came from; busybox has no such applet.
const UDP_ECHO: &str = r#"#include <arpa/inet.h>
#include <stdlib.h>
#include <sys/socket.h>
int main(int argc, char **argv) {
    int s = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_port = htons(argc > 1 ? atoi(argv[1]) : 7)};
    if (s < 0 || bind(s, (struct sockaddr *)&own, sizeof own)) return 1;
    for (;;) {
        char buffer[65536];
        struct sockaddr_in peer;
        socklen_t size = sizeof peer;
        ssize_t length = recvfrom(s, buffer, sizeof buffer, 0, (struct sockaddr *)&peer, &size);
        if (length < 0) return 1;
        sendto(s, buffer, length, 0, (struct sockaddr *)&peer, size);
    }
}
"#;

/// Packages [`busybox`] and [`hello_world`] are made from. The C library's headers come with gcc,
/// which Rust needs for linking anyway.
pub const PACKAGES: &[&str] = &["busybox-static", "gcc", "libc6-dev"];

/// A tar of busybox with a link for each of its applets, the few files programs look for, and
/// `udp-echo PORT`.
pub fn busybox(cache: &Path) -> Result<PathBuf> {
    cached(&cache.join("busybox-v2.tar"), |root| {
        for dir in ["bin", "dev", "etc", "proc", "root", "sys", "tmp", "usr", "var/spool", "home"] {
            std::fs::create_dir_all(root.join(dir))?;
        }
        let busybox = sh::which("busybox").context("busybox is not installed")?;
        std::fs::copy(&busybox, root.join("bin/busybox"))?;
        for applet in
            sh::capture(&mut sh::cmd(&busybox, ["--list"]))?.lines().filter(|name| *name != "busybox")
        {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(applet))?;
        }
        compile(UDP_ECHO, &root.join("bin/udp-echo"))?;
        std::os::unix::fs::symlink("../bin", root.join("usr/bin"))?;
        std::os::unix::fs::symlink("bin", root.join("sbin"))?;
        std::fs::write(
            root.join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\n\
             www-data:x:33:33:www-data:/var/www:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n",
        )?;
        std::fs::write(
            root.join("etc/group"),
            "root:x:0:\ndaemon:x:1:\nadm:x:4:www-data\naudio:x:29:www-data\nwww-data:x:33:\nnogroup:x:65534:\n",
        )?;
        sh::capture(sh::cmd("chmod", ["1777"]).arg(root.join("tmp")))?;
        Ok(())
    })
}

/// A tar of one static program, `/hello`.
pub fn hello_world(cache: &Path) -> Result<PathBuf> {
    cached(&cache.join("hello-world.tar"), |root| compile(HELLO, &root.join("hello")))
}

/// Makes a small static program.
fn compile(source: &str, program: &Path) -> Result<()> {
    let file = program.with_extension("c");
    std::fs::write(&file, source)?;
    let made = sh::capture(sh::cmd("cc", ["-static", "-Os", "-s", "-o"]).arg(program).arg(&file));
    std::fs::remove_file(&file)?;
    made.map(drop)
}

/// A tar of a small Debian, made by debootstrap from the mirror the host uses; apt works in it.
pub fn debian(cache: &Path) -> Result<PathBuf> {
    let codename = host::os_release("VERSION_CODENAME").unwrap_or_else(|| "stable".to_owned());
    cached(&cache.join(format!("debian-{codename}.tar")), |root| {
        apt::install(&["debootstrap"])?;
        let own = sources::of_distribution(&sources::read(Path::new("/")), &codename);
        let mut command = sh::cmd("debootstrap", ["--variant=minbase", "--merged-usr"]);
        command.arg(&codename).arg(root);
        // Without a mirror of the host's, debootstrap takes Debian's own.
        if let Some(mirror) = sources::main_mirror(&own, &codename) {
            command.arg(mirror);
        }
        ui::command(&sh::display(&command));
        sh::run(&mut command)?;

        let etc = root.join("etc/apt");
        if !own.is_empty() {
            std::fs::write(etc.join("sources.list"), sources::render(&own))?;
        }
        let mut config = apt::proxy_config();
        config.push_str(
            "APT::Install-Recommends \"false\";\nAcquire::Languages \"none\";\nAcquire::Retries \"3\";\n",
        );
        std::fs::write(etc.join("apt.conf.d/90container"), config)?;
        // A container has no init: packages must not try to start their services when installed.
        std::fs::write(root.join("usr/sbin/policy-rc.d"), "#!/bin/sh\nexit 101\n")?;
        sh::capture(sh::cmd("chmod", ["755"]).arg(root.join("usr/sbin/policy-rc.d")))?;
        for waste in ["var/cache/apt/archives", "var/lib/apt/lists", "usr/share/doc", "usr/share/man"] {
            let dir = root.join(waste);
            if dir.exists() {
                std::fs::remove_dir_all(&dir)?;
            }
            std::fs::create_dir_all(&dir)?;
        }
        std::fs::create_dir_all(root.join("var/cache/apt/archives/partial"))?;
        std::fs::create_dir_all(root.join("var/lib/apt/lists/partial"))?;
        Ok(())
    })
}

/// Makes `tar` from a directory that `fill` fills, unless it is there already. It appears whole or
/// not at all.
fn cached(tar: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    if tar.exists() {
        return Ok(tar.to_owned());
    }
    ui::note(format!("making {}", tar.display()));
    let work = tar.with_extension("work");
    let root = work.join("root");
    if work.exists() {
        std::fs::remove_dir_all(&work)?;
    }
    std::fs::create_dir_all(&root)?;
    sh::capture(sh::cmd("chmod", ["755"]).arg(&root))?;
    fill(&root).with_context(|| format!("cannot make {}", tar.display()))?;
    let partial = work.join("partial.tar");
    sh::capture(
        sh::cmd("tar", ["--numeric-owner", "--xattrs", "--one-file-system", "-cf"])
            .arg(&partial)
            .arg("-C")
            .arg(&root)
            .arg("."),
    )?;
    std::fs::rename(&partial, tar)?;
    std::fs::remove_dir_all(&work)?;
    Ok(tar.to_owned())
}
