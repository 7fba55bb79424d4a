//! Archives that come from elsewhere: both formats, many layers, and what an attacker would send.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{cases, check, equal};
use crate::harness::archive::{self, Tar};
use crate::harness::{Case, Ctx, skip};

pub fn cases() -> Vec<Case> {
    cases!(
        "load",
        Engine,
        [
            docker_archive,
            oci_archive,
            whiteouts,
            many_layers,
            too_many_layers_or_all_of_them,
            truncated_archives,
            not_an_archive,
            wrong_digest,
            parent_directories,
            absolute_names,
            through_a_symbolic_link,
            through_an_absolute_symbolic_link,
            hard_link_to_the_outside,
            whiteout_of_the_outside,
            evil_import,
            evil_names_in_the_archive,
        ]
    )
}

fn busybox_layer(t: &Ctx) -> Result<Vec<u8>> {
    Ok(std::fs::read(&t.settings.busybox)?)
}

/// An image of busybox and further layers, loaded from a docker archive; its name.
fn load(t: &Ctx, layers: Vec<Vec<u8>>) -> Result<String> {
    let name = format!("test/{}:latest", t.name("image"));
    let mut all = vec![busybox_layer(t)?];
    all.extend(layers);
    let tar = archive::docker_archive(&name, &all, &["sh"])?;
    t.client.run_with(&["load"], tar)?.code(0)?.stdout_has(&format!("Loaded image: {name}"))?;
    Ok(name)
}

fn docker_archive(t: &Ctx) -> Result<()> {
    let name = load(t, vec![Tar::default().file("hello", 0o644, b"from a layer\n").bytes()])?;
    equal!(t.ok(&["run", "--rm", &name, "cat", "/hello"])?, "from a layer");
    t.ok(&["rmi", &name])?;
    Ok(())
}

fn oci_archive(t: &Ctx) -> Result<()> {
    if t.settings.against.is_some() {
        return skip("Docker needs its containerd image store for this");
    }
    let name = format!("docker.io/test/{}:latest", t.name("oci"));
    let layers = [busybox_layer(t)?, Tar::default().file("hello", 0o644, b"from oci\n").bytes()];
    let tar = archive::oci_archive(&name, &layers, &["cat", "/hello"])?;
    let output = t.client.run_with(&["load"], tar)?;
    let short = name.trim_start_matches("docker.io/");
    output.code(0)?.stdout_has(&format!("Loaded image: {short}"))?;
    equal!(t.ok(&["run", "--rm", short])?, "from oci");
    t.ok(&["rmi", short])?;
    Ok(())
}

fn whiteouts(t: &Ctx) -> Result<()> {
    let one = Tar::default()
        .dir("d/")
        .file("d/a", 0o644, b"a")
        .file("d/b", 0o644, b"b")
        .dir("o/")
        .file("o/old", 0o644, b"")
        .bytes();
    let two = Tar::default()
        .file("d/.wh.a", 0o644, b"")
        .dir("o/")
        .file("o/.wh..wh..opq", 0o644, b"")
        .file("o/new", 0o644, b"")
        .bytes();
    let name = load(t, vec![one, two])?;
    equal!(t.ok(&["run", "--rm", &name, "sh", "-c", "ls /d /o"])?, "/d:\nb\n\n/o:\nnew");
    t.ok(&["rmi", &name])?;
    Ok(())
}

/// An image of `count` layers, each with a file of its own.
fn layered(t: &Ctx, count: usize) -> Result<String> {
    let layers = (1..count).map(|i| {
        Tar::default().dir("layers/").file(&format!("layers/{i}"), 0o644, format!("{i}\n").as_bytes()).bytes()
    });
    load(t, layers.collect())
}

fn many_layers(t: &Ctx) -> Result<()> {
    if t.settings.against.is_some() {
        return skip("Docker itself takes 125 layers at most");
    }
    let name = layered(t, 127)?;
    equal!(t.ok(&["run", "--rm", &name, "sh", "-c", "ls /layers | wc -l; cat /layers/126"])?, "126\n126");
    // One more on top, by a container that writes.
    equal!(t.ok(&["run", "--rm", &name, "sh", "-c", "echo x > /layers/1 && cat /layers/1"])?, "x");
    t.ok(&["rmi", &name])?;
    Ok(())
}

fn too_many_layers_or_all_of_them(t: &Ctx) -> Result<()> {
    // Docker refuses more than 125 layers (`max depth exceeded`); an engine that can take more may.
    let name = format!("test/{}:latest", t.name("image"));
    let mut layers = vec![busybox_layer(t)?];
    layers.extend((1..200).map(|i| Tar::default().file(&format!("l{i}"), 0o644, b"").bytes()));
    let tar = archive::docker_archive(&name, &layers, &["sh"])?;
    let output = t.client.run_with(&["load"], tar)?;
    if output.code == 0 {
        equal!(t.ok(&["run", "--rm", &name, "sh", "-c", "ls /l* | wc -l"])?, "199");
        t.ok(&["rmi", &name])?;
    } else {
        output.stderr_has("max depth exceeded")?;
    }
    Ok(())
}

fn truncated_archives(t: &Ctx) -> Result<()> {
    let name = format!("test/{}:latest", t.name("image"));
    let tar = archive::docker_archive(&name, &[busybox_layer(t)?], &["sh"])?;
    let images = t.ok(&["images", "-aq"])?.lines().count();
    for share in [3, 10, 50, 90] {
        let cut = tar[..tar.len() * share / 100].to_vec();
        let output = t.client.run_with(&["load"], cut)?;
        output.code(1)?;
        check!(!output.stderr.is_empty(), "no word about it\n{output}");
    }
    let rootfs = std::fs::read(&t.settings.busybox)?;
    t.client.run_with(&["import", "-", &name], rootfs[..rootfs.len() / 2].to_vec())?.code(1)?;
    t.client.run(&["image", "inspect", &name])?.code(1)?;
    check!(t.ok(&["images", "-aq"])?.lines().count() <= images + 2, "half images are left");
    Ok(())
}

fn not_an_archive(t: &Ctx) -> Result<()> {
    t.client.run_with(&["load"], "this is no tar\n".repeat(1000))?.code(1)?;
    t.client.run_with(&["load"], Tar::default().file("other", 0o644, b"").bytes())?.code(1)?;
    t.client.run_with(&["load"], Tar::default().file("manifest.json", 0o644, b"[{").bytes())?.code(1)?;
    let nothing =
        Tar::default().file("manifest.json", 0o644, br#"[{"Config":"c.json","Layers":["l"]}]"#).bytes();
    t.client.run_with(&["load"], nothing)?.code(1)?;
    Ok(())
}

fn wrong_digest(t: &Ctx) -> Result<()> {
    let name = format!("test/{}:latest", t.name("image"));
    let layer = Tar::default().file("f", 0o644, b"the right one").bytes();
    let mut tar = archive::docker_archive(&name, &[layer], &["sh"])?;
    let at = tar.windows(13).position(|window| window == b"the right one").unwrap_or(0);
    tar[at..at + 13].copy_from_slice(b"another one !");
    t.client.run_with(&["load"], tar)?.code(1)?;
    t.client.run(&["image", "inspect", &name])?.code(1)?;
    Ok(())
}

/// Loads a layer that tries to write to the outside. It may be refused or confined; nothing may appear
/// outside, neither when it is loaded nor when a container of it runs.
fn nothing_escapes(t: &Ctx, layers: Vec<Vec<u8>>, target: &Path) -> Result<()> {
    let name = format!("test/{}:latest", t.name("evil"));
    let mut all = vec![busybox_layer(t)?];
    all.extend(layers);
    let tar = archive::docker_archive(&name, &all, &["sh"])?;
    let output = t.client.run_with(&["load"], tar)?;
    check!(!target.exists(), "{} was written by an image\n{output}", target.display());
    if output.code == 0 {
        t.client.run(&["run", "--rm", &name, "true"])?;
        check!(!target.exists(), "{} was written by a container", target.display());
        t.ok(&["rmi", "-f", &name])?;
    }
    // The engine goes on.
    equal!(t.ok(&["run", "--rm", "busybox", "echo", "alive"])?, "alive");
    Ok(())
}

/// A file on the host that must not appear.
fn target(t: &Ctx, what: &str) -> PathBuf {
    PathBuf::from(format!("/tmp/{}-{}", t.name(what), std::process::id()))
}

fn parent_directories(t: &Ctx) -> Result<()> {
    let target = target(t, "escaped");
    let up = format!("{}{}", "../".repeat(14), &target.display().to_string()[1..]);
    nothing_escapes(t, vec![Tar::default().file(&up, 0o644, b"x").bytes()], &target)?;
    let inner = format!("a/{}{}", "../".repeat(15), &target.display().to_string()[1..]);
    nothing_escapes(t, vec![Tar::default().dir("a/").file(&inner, 0o644, b"x").bytes()], &target)
}

fn absolute_names(t: &Ctx) -> Result<()> {
    let target = target(t, "escaped");
    nothing_escapes(t, vec![Tar::default().file(&target.display().to_string(), 0o644, b"x").bytes()], &target)
}

fn through_a_symbolic_link(t: &Ctx) -> Result<()> {
    let target = target(t, "escaped");
    let name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let up = format!("{}tmp", "../".repeat(14));
    let same = Tar::default().symlink("out", &up).file(&format!("out/{name}"), 0o644, b"x").bytes();
    nothing_escapes(t, vec![same], &target)?;
    // The link in one layer, the file in the next.
    let link = Tar::default().symlink("out", &up).bytes();
    let file = Tar::default().file(&format!("out/{name}"), 0o644, b"x").bytes();
    nothing_escapes(t, vec![link, file], &target)
}

fn through_an_absolute_symbolic_link(t: &Ctx) -> Result<()> {
    let target = target(t, "escaped");
    let name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let tar = Tar::default().symlink("out", "/tmp").file(&format!("out/{name}"), 0o644, b"x").bytes();
    nothing_escapes(t, vec![tar], &target)?;
    // A file whose place a link already has must replace the link and not write through it.
    let onto =
        Tar::default().symlink("link", &target.display().to_string()).file("link", 0o644, b"x").bytes();
    nothing_escapes(t, vec![onto], &target)
}

fn hard_link_to_the_outside(t: &Ctx) -> Result<()> {
    let secret = target(t, "secret");
    std::fs::write(&secret, "secret of the host")?;
    let name = format!("test/{}:latest", t.name("evil"));
    let mut seen = false;
    for source in
        [secret.display().to_string(), format!("{}{}", "../".repeat(14), &secret.display().to_string()[1..])]
    {
        let layer = Tar::default().hardlink("stolen", &source).bytes();
        let tar = archive::docker_archive(&name, &[busybox_layer(t)?, layer], &["sh"])?;
        let output = t.client.run_with(&["load"], tar)?;
        if output.code == 0 {
            seen |= t
                .client
                .run(&["run", "--rm", &name, "cat", "/stolen"])?
                .stdout
                .contains("secret of the host");
            t.ok(&["rmi", "-f", &name])?;
        }
    }
    std::fs::remove_file(&secret)?;
    check!(!seen, "a layer linked to a file of the host");
    Ok(())
}

fn whiteout_of_the_outside(t: &Ctx) -> Result<()> {
    let kept = target(t, "kept");
    std::fs::write(&kept, "")?;
    let name = kept.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let up = format!("{}tmp/.wh.{name}", "../".repeat(14));
    let link = Tar::default().symlink("out", "/tmp").file(&format!("out/.wh.{name}"), 0o644, b"").bytes();
    for layer in [Tar::default().file(&up, 0o644, b"").bytes(), link] {
        let image = format!("test/{}:latest", t.name("evil"));
        let tar = archive::docker_archive(&image, &[busybox_layer(t)?, layer], &["sh"])?;
        if t.client.run_with(&["load"], tar)?.code == 0 {
            t.ok(&["rmi", "-f", &image])?;
        }
        check!(kept.exists(), "a layer removed a file of the host");
    }
    std::fs::remove_file(kept)?;
    Ok(())
}

fn evil_import(t: &Ctx) -> Result<()> {
    let target = target(t, "escaped");
    let up = format!("{}{}", "../".repeat(14), &target.display().to_string()[1..]);
    let name = format!("test/{}", t.name("evil"));
    let tars = [
        Tar::default().file(&up, 0o644, b"x").bytes(),
        Tar::default().file(&target.display().to_string(), 0o644, b"x").bytes(),
        Tar::default()
            .symlink("out", "/tmp")
            .file(&format!("out/{}", &target.display().to_string()[5..]), 0o644, b"x")
            .bytes(),
    ];
    for tar in tars {
        let output = t.client.run_with(&["import", "-", &name], tar)?;
        check!(!target.exists(), "{} was written by import\n{output}", target.display());
        if output.code == 0 {
            t.ok(&["rmi", &name])?;
        }
    }
    Ok(())
}

fn evil_names_in_the_archive(t: &Ctx) -> Result<()> {
    let target = target(t, "escaped");
    let up = format!("{}{}", "../".repeat(14), &target.display().to_string()[1..]);
    let manifest = format!(r#"[{{"Config":"{up}","RepoTags":["test/evil:latest"],"Layers":["{up}"]}}]"#);
    let tar =
        Tar::default().file("manifest.json", 0o644, manifest.as_bytes()).file(&up, 0o644, b"{}").bytes();
    t.client.run_with(&["load"], tar)?.code(1)?;
    check!(!target.exists(), "{} was written", target.display());
    // A config that is read from the host would be an image that shows the host's files.
    let manifest = r#"[{"Config":"/etc/hostname","RepoTags":["test/evil:latest"],"Layers":[]}]"#;
    t.client
        .run_with(&["load"], Tar::default().file("manifest.json", 0o644, manifest.as_bytes()).bytes())?
        .code(1)?;
    Ok(())
}
