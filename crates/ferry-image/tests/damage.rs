//! Damaged stores: what is wrong is found, said, and set aside, and the rest goes on.

mod common;

use std::sync::Arc;

use common::{Bench, Tar, names};
use ferry_image::{CommitOptions, DefectKind, ImageId, ImageStore, InUse, LostFound, Mended, RemoveOptions};

fn nobody(_: &ImageId) -> Option<InUse> {
    None
}

/// Two images that share a layer, and a third.
fn filled() -> (Bench, [ImageId; 3]) {
    let bench = Bench::new();
    let base = bench.import(&Tar::new().file("etc/base", b"base").done(), Some("base:1")).unwrap();
    let upper = bench.dir.path().join("upper");
    std::fs::create_dir_all(&upper).unwrap();
    std::fs::write(upper.join("more"), "more").unwrap();
    let options = CommitOptions {
        parent: base.clone(),
        upper,
        reference: Some("child:1".parse().unwrap()),
        config: bench.store.get(&base).unwrap().config.config.clone(),
        changes: Vec::new(),
        author: None,
        message: None,
        created_by: String::new(),
    };
    let child = bench.store.commit(options).unwrap();
    let other = bench.import(&Tar::new().file("other", b"other").done(), Some("other:1")).unwrap();
    (bench, [base, child, other])
}

fn lost(bench: &Bench) -> LostFound {
    LostFound::new(bench.dir.path().join("lost+found"))
}

/// Opens the store with an empty database after a rebuild.
fn rebuilt(bench: Bench) -> (Bench, ferry_image::Rebuilt) {
    let aside = lost(&bench);
    let Bench { dir, store } = bench;
    drop(store);
    std::fs::remove_file(dir.path().join("db")).unwrap();
    let database = redb::Database::create(dir.path().join("db")).unwrap();
    let root = dir.path().join("images");
    let rebuilt = ImageStore::rebuild(&root, &database, &aside).unwrap();
    let store = Arc::new(ImageStore::open(&root, Arc::new(database)).unwrap());
    (Bench { dir, store }, rebuilt)
}

#[test]
fn a_sound_store_has_no_defects() {
    let (bench, _) = filled();
    for deep in [false, true] {
        let checked = bench.store.check(deep).unwrap();
        assert_eq!(checked.defects, []);
        assert_eq!((checked.images, checked.layers), (3, 3));
    }
}

#[test]
fn a_lost_database_is_made_anew_with_all_names() {
    let (bench, ids) = filled();
    let (bench, rebuilt) = rebuilt(bench);
    assert_eq!((rebuilt.images, rebuilt.names, rebuilt.layers), (3, 3, 3));
    assert!(rebuilt.set_aside.is_empty());
    for (name, id) in ["base:1", "child:1", "other:1"].iter().zip(&ids) {
        assert_eq!(bench.store.resolve(name).unwrap(), *id);
    }
    assert_eq!(bench.store.get(&ids[1]).unwrap().parent, Some(ids[0].clone()));
    assert_eq!(bench.store.check(true).unwrap().defects, []);
}

#[test]
fn without_the_copy_the_content_is_enough_for_everything_but_names() {
    let (bench, ids) = filled();
    let sizes: Vec<u64> = ids.iter().map(|id| bench.store.get(id).unwrap().size).collect();
    std::fs::write(bench.root().join("metadata.json"), "{\"images\": {torn").unwrap();
    let half = bench.root().join("layers/zz");
    std::fs::create_dir_all(half.join("diff")).unwrap();
    std::fs::write(half.join("recipe"), "torn").unwrap();
    let (bench, rebuilt) = rebuilt(bench);
    assert_eq!((rebuilt.images, rebuilt.names, rebuilt.layers), (3, 0, 3));
    assert_eq!(rebuilt.set_aside.len(), 1);
    assert!(rebuilt.set_aside[0].join("diff").is_dir());
    for (id, size) in ids.iter().zip(sizes) {
        assert_eq!(bench.store.get(id).unwrap().size, size);
    }
    assert_eq!(bench.store.check(true).unwrap().defects, []);
}

#[test]
fn a_changed_file_of_a_layer_is_found_by_a_deep_check_and_its_images_go() {
    let (bench, ids) = filled();
    std::fs::write(bench.top(&ids[0]).join("etc/base"), "BASE").unwrap();
    assert_eq!(bench.store.check(false).unwrap().defects, []);
    let defects = bench.store.check(true).unwrap().defects;
    assert_eq!(defects.len(), 1);
    assert!(matches!(defects[0].kind, DefectKind::Layer(_)), "{defects:?}");
    // A container needs it: nothing happens.
    let used = |_: &ImageId| Some(InUse { container: "c".repeat(64), running: false });
    let left = bench.store.mend(&defects[0], &lost(&bench), &used).unwrap();
    assert!(matches!(left, Mended::Left(_)), "{left:?}");
    assert!(bench.store.resolve("child:1").is_ok());
    let done = bench.store.mend(&defects[0], &lost(&bench), &nobody).unwrap();
    assert!(matches!(done, Mended::Done(_)), "{done:?}");
    assert!(bench.store.resolve("base:1").is_err() && bench.store.resolve("child:1").is_err());
    assert!(bench.store.resolve("other:1").is_ok());
    // Two images' notes and configs, two layers.
    assert_eq!(lost(&bench).list().len(), 6);
    let bench = bench.reopen();
    assert_eq!(bench.store.check(true).unwrap().defects, []);
    assert_eq!(bench.store.list().len(), 1);
}

#[test]
fn a_half_written_layer_does_not_keep_the_store_from_opening() {
    let (bench, ids) = filled();
    let dir = bench.top(&ids[1]).parent().unwrap().to_owned();
    std::fs::write(dir.join("recipe"), "").unwrap();
    let bench = bench.reopen();
    let defects = bench.store.check(false).unwrap().defects;
    assert_eq!(defects.len(), 1, "{defects:?}");
    assert_eq!(defects[0].path, dir);
    bench.store.mend(&defects[0], &lost(&bench), &nobody).unwrap();
    assert!(bench.store.resolve("child:1").is_err());
    assert!(bench.store.resolve("base:1").is_ok());
    assert_eq!(bench.store.check(true).unwrap().defects, []);
}

#[test]
fn an_image_with_a_damaged_config_keeps_its_layers_until_it_is_set_aside() {
    let (bench, ids) = filled();
    let config = bench.root().join("content/sha256").join(ids[2].hex());
    std::fs::write(&config, "{}").unwrap();
    let bench = bench.reopen();
    assert!(bench.store.resolve("other:1").is_err());
    // Removing another image must not take the layers of the damaged one with it.
    bench.store.remove("child:1", RemoveOptions { force: false, prune: true }, &nobody).unwrap();
    assert_eq!(names(&bench.root().join("layers")).len(), 2);
    let defects = bench.store.check(false).unwrap().defects;
    assert!(
        defects.iter().any(|d| matches!(&d.kind, DefectKind::Config(id) if *id == ids[2])),
        "{defects:?}"
    );
    for defect in &defects {
        bench.store.mend(defect, &lost(&bench), &nobody).unwrap();
    }
    assert_eq!(bench.store.check(true).unwrap().defects, []);
    assert_eq!(names(&bench.root().join("layers")).len(), 1);
    let bench = bench.reopen();
    assert!(bench.store.resolve("base:1").is_ok());
}

#[test]
fn what_nothing_refers_to_is_set_aside() {
    let (bench, _) = filled();
    std::fs::create_dir_all(bench.root().join("layers/zz/diff")).unwrap();
    std::fs::write(bench.root().join("content/sha256").join("ab".repeat(32)), "stray").unwrap();
    let defects = bench.store.check(false).unwrap().defects;
    assert_eq!(defects.len(), 2, "{defects:?}");
    for defect in &defects {
        bench.store.mend(defect, &lost(&bench), &nobody).unwrap();
    }
    assert_eq!(bench.store.check(true).unwrap().defects, []);
    assert_eq!(lost(&bench).list().len(), 2);
}
