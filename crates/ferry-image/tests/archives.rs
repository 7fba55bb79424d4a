//! Save and load: what goes out comes in again bit for bit.

mod common;

use std::collections::BTreeMap;
use std::io::{Read, Write};

use common::{Bench, Tar, names, read};
use ferry_image::{CommitOptions, ImageId, ImageStore};
use ferry_types::Digest;
use sha2::Digest as _;

fn save(store: &ImageStore, wanted: &[&str]) -> Vec<u8> {
    let mut archive = Vec::new();
    let wanted: Vec<String> = wanted.iter().map(|s| (*s).to_owned()).collect();
    store.save(&wanted, &mut archive).unwrap();
    archive
}

fn load(
    store: &ImageStore,
    archive: &[u8],
) -> Result<Vec<ferry_image::LoadedImage>, ferry_image::ImageError> {
    store.load(&mut &archive[..], None, &mut |_| {})
}

fn members(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut reader = tar::Archive::new(archive);
    let mut all = Vec::new();
    for entry in reader.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut data = Vec::new();
        entry.read_to_end(&mut data).unwrap();
        if entry.header().entry_type().is_file() {
            all.push((name, data));
        }
    }
    all
}

fn archive(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    members.iter().fold(Tar::new(), |tar, (name, data)| tar.file(name, data)).done()
}

fn digest(bytes: &[u8]) -> Digest {
    Digest::sha256(sha2::Sha256::digest(bytes))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

/// Two images that share a layer, with most kinds of member in it.
fn two_images(bench: &Bench) -> (ImageId, ImageId) {
    let long = format!("{}/name", "long".repeat(20));
    let mut tar = Tar::new().dir("d").file("d/a", &[1; 700]).symlink("l", "d/a").hard_link("h", "d/a");
    tar = tar.file("twice", b"first").file("twice", b"second").file(&long, b"x").file(".wh.gone", b"");
    // GNU long names, and odd padding at the end.
    let mut header = tar::Header::new_gnu();
    header.set_size(3);
    header.set_mode(0o4755);
    header.set_uid(70_000);
    header.set_gid(5);
    tar.0.append_data(&mut header, "n".repeat(180), &b"abc"[..]).unwrap();
    let mut bytes = tar.done();
    bytes.extend_from_slice(&[0; 3 * 512]);
    bytes.extend_from_slice(b"trailing bytes nobody reads");
    let base = bench.import(&bytes, Some("base:1")).unwrap();
    assert_eq!(bench.store.get(&base).unwrap().config.rootfs.diff_ids, [digest(&bytes)]);
    let upper = bench.dir.path().join("upper");
    std::fs::create_dir(&upper).unwrap();
    std::fs::write(upper.join("new"), vec![9; 100_000]).unwrap();
    let options = CommitOptions {
        parent: base.clone(),
        upper,
        config: Default::default(),
        created_by: String::new(),
        author: None,
        message: None,
        changes: Vec::new(),
        reference: Some("child:1".parse().unwrap()),
    };
    let child = bench.store.commit(options).unwrap();
    (base, child)
}

#[test]
fn save_and_load_reproduce_everything() {
    let bench = Bench::new();
    let (base, child) = two_images(&bench);
    let saved = save(&bench.store, &["base:1", "child:1"]);
    assert_eq!(saved, save(&bench.store, &["base:1", "child:1"]), "equal images give equal archives");
    for (name, data) in members(&saved) {
        if let Some(hex) = name.strip_prefix("blobs/sha256/") {
            assert_eq!(digest(&data).hex(), hex, "{name}");
        }
    }
    let other = Bench::new();
    let loaded = load(&other.store, &saved).unwrap();
    assert_eq!(loaded.iter().map(|l| &l.id).collect::<Vec<_>>(), [&base, &child]);
    assert_eq!(loaded[1].references, ["child:1"]);
    assert_eq!(other.store.disk_usage(), bench.store.disk_usage(), "the layer is shared");
    assert_eq!(save(&other.store, &["base:1", "child:1"]), saved);
    let top = other.store.layer_dirs(&base).unwrap()[0].clone();
    assert_eq!(read(top.join("twice")), "second");
    other.assert_tidy();

    // Once more into the same store: nothing changes.
    let before = bench.store.disk_usage();
    load(&bench.store, &saved).unwrap();
    assert_eq!(bench.store.disk_usage(), before);
    bench.assert_tidy();
}

#[test]
fn any_order_compression_and_layout() {
    let bench = Bench::new();
    let (_, child) = two_images(&bench);
    let saved = save(&bench.store, &["child:1"]);
    let mut parts = members(&saved);
    let fresh = |archive: &[u8], what: &str| {
        let other = Bench::new();
        let loaded = load(&other.store, archive).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(loaded[0].id, child, "{what}");
        assert_eq!(save(&other.store, &["child:1"]), saved, "{what}");
        other.assert_tidy();
    };
    parts.reverse();
    fresh(&archive(&parts), "reversed");
    fresh(&gzip(&saved), "gzip");
    fresh(&zstd::encode_all(&saved[..], 3).unwrap(), "zstd");
    let mut oci = parts.clone();
    oci.retain(|(name, _)| name != "manifest.json" && name != "repositories");
    fresh(&archive(&oci), "oci");

    // The layout of Docker before 25: config by id, layers as <id>/layer.tar, one of them gzipped, and
    // a symbolic link to a layer that another directory holds.
    let manifest: serde_json::Value =
        serde_json::from_slice(&parts.iter().find(|(n, _)| n == "manifest.json").unwrap().1).unwrap();
    let blob =
        |v: &serde_json::Value| parts.iter().find(|(n, _)| n == v.as_str().unwrap()).unwrap().1.clone();
    let config = format!("{}.json", child.hex());
    let legacy = serde_json::json!([{
        "Config": config, "RepoTags": ["child:1"], "Layers": ["one/layer.tar", "two/layer.tar"]
    }]);
    let tar = Tar::new()
        .file("real/layer.tar", &blob(&manifest[0]["Layers"][0]))
        .symlink("one/layer.tar", "../real/layer.tar")
        .file("two/VERSION", b"1.0")
        .file("two/layer.tar", &gzip(&blob(&manifest[0]["Layers"][1])))
        .file(&config, &blob(&manifest[0]["Config"]))
        .file("manifest.json", legacy.to_string().as_bytes());
    fresh(&tar.done(), "legacy");
}

#[test]
fn nested_indexes_lead_to_this_platform() {
    let bench = Bench::new();
    let (_, child) = two_images(&bench);
    let parts: BTreeMap<_, _> = members(&save(&bench.store, &["child:1"])).into_iter().collect();
    let index: serde_json::Value = serde_json::from_slice(&parts["index.json"]).unwrap();
    let host = ferry_types::Platform::host();
    let mut mine = index["manifests"][0].clone();
    mine["annotations"] = serde_json::Value::Null;
    mine["platform"] = serde_json::json!({ "os": host.os, "architecture": host.architecture });
    let mut alien = mine.clone();
    alien["digest"] = format!("sha256:{}", "0".repeat(64)).into();
    alien["platform"]["architecture"] = "s390x".into();
    let media = "application/vnd.oci.image.index.v1+json";
    let inner = serde_json::json!({ "schemaVersion": 2, "mediaType": media, "manifests": [alien, mine] });
    let inner = inner.to_string();
    let outer = serde_json::json!({ "schemaVersion": 2, "manifests": [{
        "mediaType": media, "digest": digest(inner.as_bytes()).as_str(), "size": inner.len(),
        "annotations": { "org.opencontainers.image.ref.name": "other:2" }
    }]});
    let mut oci: Vec<_> = parts.into_iter().filter(|(n, _)| n.starts_with("blobs/")).collect();
    oci.push((format!("blobs/sha256/{}", digest(inner.as_bytes()).hex()), inner.into_bytes()));
    oci.push(("index.json".to_owned(), outer.to_string().into_bytes()));
    let other = Bench::new();
    let loaded = load(&other.store, &archive(&oci)).unwrap();
    assert_eq!(loaded[0].id, child);
    assert_eq!(other.store.resolve("other:2").unwrap(), child);
}

#[test]
fn damaged_archives_leave_nothing() {
    let bench = Bench::new();
    two_images(&bench);
    let saved = save(&bench.store, &["child:1"]);
    let other = Bench::new();
    for length in (0..saved.len() - 512).step_by(512 * 7) {
        let result = load(&other.store, &saved[..length]);
        assert!(result.is_err(), "cut at {length} of {}: {result:?}", saved.len());
        assert!(other.store.list().is_empty(), "cut at {length}");
        other.assert_tidy();
    }
    let parts = members(&saved);
    for missing in 0..parts.len() {
        let mut some = parts.clone();
        let (name, _) = some.remove(missing);
        // Of these two each alone is enough, and the rest is decoration.
        let enough = ["index.json", "oci-layout", "repositories"].contains(&name.as_str());
        let manifest =
            name.starts_with("blobs/") && String::from_utf8_lossy(&parts[missing].1).contains("manifest.v1");
        if enough || manifest || name == "manifest.json" {
            continue;
        }
        assert!(load(&other.store, &archive(&some)).is_err(), "without {name}");
    }
    for (i, (name, data)) in parts.iter().enumerate().filter(|(_, (n, _))| n.starts_with("blobs/")) {
        let mut some = parts.clone();
        let middle = data.len() / 2;
        some[i].1[middle] ^= 1;
        assert!(load(&other.store, &archive(&some)).is_err(), "damaged {name}");
    }
    assert!(other.store.list().is_empty());
    other.assert_tidy();
}

#[test]
fn a_layer_used_twice_in_one_image() {
    let bench = Bench::new();
    let layer = Tar::new().file("a", b"a").done();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": null,
        "rootfs": { "type": "layers", "diff_ids": vec![digest(&layer).to_string(); 3] },
    });
    let manifest = serde_json::json!([{ "Config": "c.json", "RepoTags": null, "Layers": ["l", "l", "l"] }]);
    let tar = Tar::new()
        .file("c.json", config.to_string().as_bytes())
        .file("l", &layer)
        .file("manifest.json", manifest.to_string().as_bytes());
    let loaded = load(&bench.store, &tar.done()).unwrap();
    let dirs = bench.store.layer_dirs(&loaded[0].id).unwrap();
    assert_eq!(dirs.len(), 3);
    assert!(dirs.iter().all(|d| names(d) == ["a"]));
    bench.assert_tidy();
}

#[test]
fn a_damaged_layer_is_not_saved() {
    let bench = Bench::new();
    let id = bench.import(&Tar::new().file("a", b"good").done(), Some("x")).unwrap();
    std::fs::write(bench.top(&id).join("a"), "evil").unwrap();
    let error = bench.store.save(&["x".to_owned()], &mut std::io::sink()).unwrap_err().to_string();
    assert!(error.contains("diff id mismatch"), "{error}");
}
