//! Layers, mounts and hostile images.

use std::os::unix::fs::symlink;

use serde_json::json;

use crate::support::Fixture;

pub const TESTS: &[(&str, fn())] = &[
    ("rootfs::writes_go_to_the_upper_layer", writes_go_to_the_upper_layer),
    ("rootfs::readonly_root", readonly_root),
    ("rootfs::plain_directory", plain_directory),
    ("rootfs::many_layers", many_layers),
    ("rootfs::long_layer_paths", long_layer_paths),
    ("rootfs::binds", binds),
    ("rootfs::recursive_readonly_bind", recursive_readonly_bind),
    ("rootfs::links_never_lead_outside", links_never_lead_outside),
    ("rootfs::devices_and_links", devices_and_links),
    ("rootfs::host_root_is_gone", host_root_is_gone),
    ("rootfs::missing_sources", missing_sources),
    ("rootfs::missing_working_directory_is_made", missing_working_directory_is_made),
];

fn writes_go_to_the_upper_layer() {
    let mut fixture = Fixture::new("echo hi >/new; mount | head -n1");
    assert!(fixture.output().starts_with("overlay on / type overlay (rw"));
    assert_eq!(std::fs::read_to_string(fixture.overlay.upper.join("new")).unwrap(), "hi\n");
    assert!(!fixture.lower().join("new").exists());
    fixture.assert_gone();
}

fn readonly_root() {
    let mut fixture = Fixture::new("touch /x; touch /dev/shm/y && echo fine");
    fixture.set("/root/readonly", json!(true));
    let output = fixture.output();
    assert!(output.contains("Read-only file system") && output.ends_with("fine\n"), "{output}");
}

fn plain_directory() {
    let mut fixture = Fixture::new("echo hi >/new; pwd");
    fixture.set("/root/path", json!(fixture.lower()));
    let (stdio, _output) = crate::support::captured();
    let mut container = ferry_runtime::create(ferry_runtime::CreateRequest {
        id: &fixture.id,
        bundle: fixture.dir.path(),
        spec: &fixture.spec,
        overlay: None,
        netns: None,
        stdio,
    })
    .unwrap();
    container.start().unwrap();
    assert_eq!(crate::support::wait(container.pid), 0);
    container.cgroup.remove().unwrap();
    assert!(fixture.lower().join("new").exists());
    fixture.assert_gone();
}

/// 127 layers, the topmost with the highest number, all with a file of their own and one in common.
fn layers(fixture: &mut Fixture, prefix: &str) {
    for number in 0..126 {
        let layer = fixture.dir.path().join(format!("{prefix}{number}"));
        std::fs::create_dir_all(&layer).unwrap();
        std::fs::write(layer.join(format!("file{number}")), "").unwrap();
        std::fs::write(layer.join("common"), number.to_string()).unwrap();
        fixture.overlay.lower.insert(0, layer);
    }
}

fn many_layers() {
    let mut fixture = Fixture::new("ls / | grep -c file; cat /common");
    layers(&mut fixture, "layer");
    assert_eq!(fixture.overlay.lower.len(), 127);
    assert_eq!(fixture.output(), "126\n125");
}

/// Too long for fsconfig(2) and for one page of mount(2) options.
fn long_layer_paths() {
    let mut fixture = Fixture::new("ls / | grep -c file; cat /common");
    layers(&mut fixture, &format!("{}/{}:,\\", "x".repeat(200), "y".repeat(100)));
    assert_eq!(fixture.output(), "126\n125");
    fixture.assert_gone();
}

fn binds() {
    let mut fixture =
        Fixture::new("cat /data/new/file; echo b >/data/new/file; cat /a/single; echo x >/a/single; true");
    let host = fixture.dir.path().join("host");
    std::fs::create_dir(&host).unwrap();
    std::fs::write(host.join("file"), "a\n").unwrap();
    fixture.mount(
        json!({"destination": "/data/new", "type": "bind", "source": host, "options": ["rbind", "rprivate"]}),
    );
    fixture.mount(json!({"destination": "/a/single", "type": "bind", "source": host.join("file"), "options": ["rbind", "ro"]}));
    let output = fixture.output();
    assert!(output.starts_with("a\nb\n") && output.contains("Read-only file system"), "{output}");
    assert_eq!(std::fs::read_to_string(host.join("file")).unwrap(), "b\n");
}

fn recursive_readonly_bind() {
    let mut fixture = Fixture::new("touch /first/x; touch /second/sub/x; true");
    // The container's own /dev/shm lies below /dev, which makes a tree of two mounts.
    let host = fixture.dir.path().join("host");
    std::fs::create_dir_all(host.join("sub")).unwrap();
    fixture
        .mount(json!({"destination": "/first", "type": "bind", "source": host, "options": ["rbind", "ro"]}));
    fixture.mount(
        json!({"destination": "/second", "type": "bind", "source": host, "options": ["rbind", "rro"]}),
    );
    assert_eq!(fixture.output().matches("Read-only file system").count(), 2);
}

fn links_never_lead_outside() {
    let mut fixture =
        Fixture::new("cat /bait/victim/file /chain/victim/file /magic/victim/file; ls -d /proc/1 /dev/null");
    let outside = fixture.dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let host = fixture.dir.path().join("host");
    std::fs::create_dir(&host).unwrap();
    std::fs::write(host.join("file"), "mine\n").unwrap();
    let lower = fixture.lower();
    symlink(&outside, lower.join("bait")).unwrap();
    let up = "../".repeat(30);
    symlink(format!("{up}{}", outside.strip_prefix("/").unwrap().display()), lower.join("chain")).unwrap();
    symlink(format!("/proc/1/root{}", outside.display()), lower.join("magic")).unwrap();
    // Where /dev and /sys are to be mounted.
    symlink(&outside, lower.join("dev")).unwrap();
    symlink(format!("{up}sys"), lower.join("sys")).unwrap();
    for destination in ["/bait/victim", "/chain/victim", "/magic/victim"] {
        fixture
            .mount(json!({"destination": destination, "type": "bind", "source": host, "options": ["rbind"]}));
    }
    // /sys -> /sys inside the root does not resolve; that must be an error, not an escape.
    let result = fixture.run();
    assert!(std::fs::read_dir(&outside).unwrap().next().is_none(), "something was made outside");
    assert!(result.is_err(), "{result:?}");
    std::fs::remove_file(lower.join("sys")).unwrap();
    symlink("/proc/self/root/elsewhere", lower.join("sys")).unwrap();
    let outcome = fixture.run();
    assert!(std::fs::read_dir(&outside).unwrap().next().is_none(), "something was made outside");
    if let Ok(outcome) = outcome {
        assert_eq!(outcome.output.matches("mine").count(), 3, "{}", outcome.output);
    }
    fixture.assert_gone();
}

fn devices_and_links() {
    let mut fixture = Fixture::new(
        "stat -c '%n %t:%T %a %u' /dev/null /dev/tty /dev/fuse; for l in fd ptmx stdin; do readlink /dev/$l; done; test -e /dev/console || echo none",
    );
    fixture.set(
        "/linux/devices",
        json!([{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o600, "uid": 7, "gid": 8}]),
    );
    assert_eq!(
        fixture.output(),
        "/dev/null 1:3 666 0\n/dev/tty 5:0 666 0\n/dev/fuse a:e5 600 7\n/proc/self/fd\npts/ptmx\n/proc/self/fd/0\nnone\n"
    );
}

fn host_root_is_gone() {
    let host = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let root = host.lines().find(|l| l.split(' ').nth(4) == Some("/")).unwrap();
    let device = root.split(" - ").nth(1).unwrap().split(' ').nth(1).unwrap().to_owned();
    let output = Fixture::new("cat /proc/self/mountinfo; ls /..").output();
    assert!(!output.contains(&device), "{output}");
    assert!(output.ends_with("bin\ndev\netc\nproc\nsys\n"), "{output}");
}

fn missing_sources() {
    let mut fixture = Fixture::new("true");
    fixture.mount(
        json!({"destination": "/x", "type": "bind", "source": "/nonexistent/y", "options": ["rbind"]}),
    );
    let error = fixture.run().unwrap_err();
    assert_eq!(error.to_string(), "bind /nonexistent/y to /x: no such file or directory");
    fixture.assert_gone();
}

fn missing_working_directory_is_made() {
    let mut fixture = Fixture::new("pwd");
    fixture.set("/process/cwd", json!("/made/for/it"));
    assert_eq!(fixture.output(), "/made/for/it\n");
}
