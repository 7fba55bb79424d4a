//! Names, ids, removal and commits.

mod common;

use common::{Bench, Tar, read};
use ferry_image::{CommitOptions, ImageError, ImageId, InUse, RemoveOptions, Removed};

fn nobody(_: &ImageId) -> Option<InUse> {
    None
}

fn stopped(_: &ImageId) -> Option<InUse> {
    Some(InUse { container: "c".repeat(64), running: false })
}

fn running(_: &ImageId) -> Option<InUse> {
    Some(InUse { container: "c".repeat(64), running: true })
}

const PLAIN: RemoveOptions = RemoveOptions { force: false, prune: true };
const FORCE: RemoveOptions = RemoveOptions { force: true, prune: true };

#[test]
fn import_resolve_and_restart() {
    let bench = Bench::new();
    let id = bench.import(&Tar::new().file("etc/motd", b"hi").done(), Some("debian")).unwrap();
    for name in ["debian", "debian:latest", "docker.io/library/debian", id.as_str(), id.hex(), id.short()] {
        assert_eq!(bench.store.resolve(name).unwrap(), id, "{name}");
    }
    let error = |name: &str| bench.store.resolve(name).unwrap_err().to_string();
    assert_eq!(error("nope"), "No such image: nope:latest");
    assert_eq!(error("debian:12"), "No such image: debian:12");
    assert_eq!(read(bench.top(&id).join("etc/motd")), "hi");
    bench.assert_tidy();

    let bench = bench.reopen();
    let image = bench.store.get(&bench.store.resolve("debian").unwrap()).unwrap();
    assert_eq!(image.id, id);
    assert_eq!(image.size, 2);
    assert_eq!(image.repo_tags[0].familiar(), "debian:latest");
    assert!(image.last_tagged.is_some());
    assert_eq!(image.config.history[0].comment.as_deref(), Some("Imported from -"));
    assert_eq!(read(bench.top(&id).join("etc/motd")), "hi");
}

#[test]
fn an_ambiguous_prefix_is_refused() {
    let bench = Bench::new();
    // Seventeen ids cannot all start with different digits.
    let ids: Vec<_> =
        (0..17).map(|n| bench.import(&Tar::new().file("n", &[n]).done(), None).unwrap()).collect();
    let twice = ids.iter().find(|a| ids.iter().any(|b| b != *a && b.hex()[..1] == a.hex()[..1])).unwrap();
    let error = bench.store.resolve(&format!("sha256:{}", &twice.hex()[..1])).unwrap_err();
    assert!(matches!(error, ImageError::Ambiguous(_)), "{error}");
}

#[test]
fn untag_and_delete() {
    let bench = Bench::new();
    let id = bench.import(&Tar::new().file("a", b"a").done(), Some("one")).unwrap();
    bench.store.tag(&id, &"two:x".parse().unwrap()).unwrap();
    let removed = bench.store.remove("one", PLAIN, &nobody).unwrap();
    assert_eq!(removed, [Removed::Untagged("one:latest".to_owned())]);
    assert!(bench.store.get(&id).is_ok());

    bench.store.tag(&id, &"three".parse().unwrap()).unwrap();
    let error = bench.store.remove(id.short(), PLAIN, &nobody).unwrap_err().to_string();
    let want = format!(
        "conflict: unable to delete {} (must be forced) - image is referenced in multiple repositories",
        id.short()
    );
    assert_eq!(error, want);
    let removed = bench.store.remove(id.short(), FORCE, &nobody).unwrap();
    assert_eq!(removed.len(), 4, "two names, the image, its layer: {removed:?}");
    assert!(bench.store.list().is_empty());
    assert_eq!(bench.store.disk_usage(), Default::default());
    bench.assert_tidy();
    assert!(bench.reopen().store.list().is_empty());
}

#[test]
fn images_in_use_are_protected() {
    let bench = Bench::new();
    let id = bench.import(&Tar::new().file("a", b"a").done(), Some("x")).unwrap();
    let error = |name: &str, options, in_use: &dyn Fn(&ImageId) -> Option<InUse>| {
        bench.store.remove(name, options, in_use).unwrap_err().to_string()
    };
    assert_eq!(
        error("x", PLAIN, &stopped),
        format!(
            "conflict: unable to remove repository reference \"x\" (must force) - container cccccccccccc \
             is using its referenced image {}",
            id.short()
        )
    );
    assert_eq!(
        error(id.short(), FORCE, &running),
        format!(
            "conflict: unable to delete {} (cannot be forced) - image is being used by running container \
             cccccccccccc",
            id.short()
        )
    );
    assert_eq!(
        error(id.short(), PLAIN, &stopped),
        format!(
            "conflict: unable to delete {} (must be forced) - image is being used by stopped container \
             cccccccccccc",
            id.short()
        )
    );
    // By name and with force only the name goes.
    let removed = bench.store.remove("x", FORCE, &running).unwrap();
    assert_eq!(removed, [Removed::Untagged("x:latest".to_owned())]);
    assert!(bench.store.get(&id).is_ok());
}

fn commit(bench: &Bench, parent: &ImageId, upper: &std::path::Path, name: &str) -> ImageId {
    let options = CommitOptions {
        parent: parent.clone(),
        upper: upper.to_owned(),
        config: bench.store.get(parent).unwrap().config.config.clone(),
        created_by: "/bin/sh".to_owned(),
        author: None,
        message: Some("note".to_owned()),
        changes: vec!["CMD [\"x\"]".to_owned()],
        reference: Some(name.parse().unwrap()),
    };
    bench.store.commit(options).unwrap()
}

#[test]
fn commit_shares_layers_and_prunes_parents() {
    let bench = Bench::new();
    let base = bench.import(&Tar::new().file("a", b"aa").done(), Some("base")).unwrap();
    let upper = bench.dir.path().join("upper");
    std::fs::create_dir(&upper).unwrap();
    std::fs::write(upper.join("b"), "bbb").unwrap();
    let child = commit(&bench, &base, &upper, "child");
    let image = bench.store.get(&child).unwrap();
    assert_eq!(image.size, 5);
    assert_eq!(image.parent.as_ref(), Some(&base));
    assert_eq!(image.config.config.cmd.as_deref(), Some(&["x".to_owned()][..]));
    let dirs = bench.store.layer_dirs(&child).unwrap();
    assert_eq!(dirs.len(), 2);
    assert_eq!(dirs[1], bench.top(&base));
    assert_eq!(bench.store.disk_usage().layers, 2);

    let error = bench.store.remove(base.short(), FORCE, &nobody).unwrap_err().to_string();
    assert!(error.ends_with("(cannot be forced) - image has dependent child images"), "{error}");
    bench.store.remove("base", PLAIN, &nobody).unwrap();
    assert!(bench.store.get(&base).is_ok(), "only its name went");
    let removed = bench.store.remove("child", PLAIN, &nobody).unwrap();
    let deleted = removed.iter().filter(|r| matches!(r, Removed::Deleted(_))).count();
    assert_eq!(deleted, 4, "two images, two layers: {removed:?}");
    assert!(bench.store.list().is_empty());
    bench.assert_tidy();
}

#[test]
fn a_crash_leaves_nothing_for_long() {
    let bench = Bench::new();
    let id = bench.import(&Tar::new().file("a", b"a").done(), Some("x")).unwrap();
    // An ingest and a layer that never got into the metadata.
    std::fs::create_dir_all(bench.root().join("tmp/7/diff/d")).unwrap();
    std::fs::create_dir_all(bench.root().join("layers/zz/diff/d")).unwrap();
    let bench = bench.reopen();
    bench.assert_tidy();
    assert_eq!(read(bench.top(&id).join("a")), "a");
    let started = std::time::Instant::now();
    while !common::names(&bench.root().join("trash")).is_empty() {
        assert!(started.elapsed().as_secs() < 30, "trash is emptied");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}
