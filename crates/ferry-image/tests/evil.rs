//! Archives that try to write outside of the layer, and archives that are damaged.

#![allow(clippy::print_stdout, reason = "says how long each took")]

mod common;

use std::path::Path;

use common::{Bench, Tar, names};
use tar::EntryType;

/// A file next to the store that no archive may touch, and a directory that none may fill.
fn target(bench: &Bench) -> (std::path::PathBuf, String) {
    let outside = bench.dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("victim"), "untouched").unwrap();
    let shown = outside.to_str().unwrap().to_owned();
    (outside, shown)
}

fn assert_untouched(outside: &Path) {
    assert_eq!(names(outside), ["victim"]);
    assert_eq!(common::read(outside.join("victim")), "untouched");
}

#[test]
fn nothing_is_written_outside() {
    let bench = Bench::new();
    let (outside, shown) = target(&bench);
    let up = "../".repeat(12);
    let climb = format!("{}{}", up, &shown[1..]);
    // Name of the attack, the archive, and whether it is refused (else it is resolved inside).
    let attacks: Vec<(&str, Tar, bool)> = vec![
        ("dotdot", Tar::new().file(&format!("{climb}/x"), b"x"), true),
        ("inner dotdot", Tar::new().file(&format!("a/b/../../{climb}/x"), b"x"), true),
        ("dotdot dir", Tar::new().dir("../evil"), true),
        ("dotdot symlink", Tar::new().symlink("../evil", "x"), true),
        ("dotdot whiteout", Tar::new().file(&format!("{climb}/.wh.victim"), b""), true),
        ("dotdot opaque", Tar::new().file("../.wh..wh..opq", b""), true),
        ("absolute", Tar::new().file(&format!("{shown}/x"), b"x"), false),
        ("absolute dotdot", Tar::new().file(&format!("/../..{shown}/x"), b"x"), false),
        ("through absolute symlink", Tar::new().symlink("l", &shown).file("l/x", b"x"), true),
        ("through relative symlink", Tar::new().symlink("l", &climb).file("l/x", b"x"), true),
        ("through two symlinks", Tar::new().symlink("a", &shown).symlink("b", "a").file("b/x", b"x"), true),
        ("directory over symlink", Tar::new().symlink("l", &shown).dir("l").file("l/x", b"x"), false),
        ("file over symlink", Tar::new().symlink("l", &format!("{shown}/victim")).file("l", b"x"), false),
        ("whiteout through symlink", Tar::new().symlink("l", &shown).file("l/.wh.victim", b""), true),
        ("opaque through symlink", Tar::new().symlink("l", &shown).file("l/.wh..wh..opq", b""), true),
        ("hard link to outside", Tar::new().hard_link("h", &format!("{climb}/victim")).file("h", b"x"), true),
        ("hard link absolute", Tar::new().hard_link("h", &format!("{shown}/victim")), true),
        (
            "hard link through symlink",
            Tar::new().symlink("l", &shown).hard_link("h", "l/victim").file("h", b"x"),
            true,
        ),
        (
            "hard link to symlink",
            Tar::new().symlink("l", &format!("{shown}/victim")).hard_link("h", "l").file("h", b"x"),
            false,
        ),
        ("whiteout of the parent", Tar::new().file(".wh...", b""), true),
        ("whiteout of itself", Tar::new().file(".wh..", b""), true),
        ("whiteout of nothing", Tar::new().file("d/.wh.", b""), true),
        ("a file as parent", Tar::new().file("f", b"x").file("f/x", b"x"), true),
        ("empty name", Tar::new().file("", b"x"), true),
        ("top as file", Tar::new().file("./", b""), false),
        ("symlink loop", Tar::new().symlink("a", "b").symlink("b", "a").file("a/x", b""), true),
        ("hard link to nothing", Tar::new().hard_link("h", "nothing"), true),
        ("unknown type", Tar::new().raw(EntryType::new(b'Q'), "q", "", b""), true),
    ];
    for (name, tar, refused) in attacks {
        let result = bench.import(&tar.done(), None);
        assert_eq!(result.is_err(), refused, "{name}: {result:?}");
        if let Err(error) = &result {
            assert_eq!(
                ferry_types::Classify::kind(error),
                ferry_types::ErrorKind::InvalidParameter,
                "{name}"
            );
        }
        assert_untouched(&outside);
        bench.assert_tidy();
    }
    assert!(!bench.dir.path().join("evil").exists());
    assert!(!bench.root().join("layers/evil").exists());
}

#[test]
fn symbolic_links_among_parents_lead_within_the_layer() {
    let bench = Bench::new();
    for target in ["/real", "../../real", "real"] {
        let tar = Tar::new().dir("real").symlink("l", target).file("l/x", b"in").file("l/x", b"again");
        let id = bench.import(&tar.done(), Some("x")).unwrap();
        assert_eq!(common::read(bench.top(&id).join("real/x")), "again", "{target}");
        // The recipe knows the real path.
        bench.store.save(&["x".to_owned()], &mut std::io::sink()).unwrap();
    }
}

#[test]
fn replaced_directories_are_still_rebuilt() {
    let bench = Bench::new();
    let tar = Tar::new()
        .file("d/e/f", b"one")
        .file("d/g", b"two")
        .symlink("d", "x")
        .dir("x")
        .file("d/e", b"three")
        .file("x", b"four")
        .file("x", b"five");
    let id = bench.import(&tar.done(), Some("x")).unwrap();
    assert_eq!(names(&bench.top(&id)), ["d", "x"]);
    assert_eq!(common::read(bench.top(&id).join("x")), "five");
    bench.store.save(&["x".to_owned()], &mut std::io::sink()).unwrap();
}

#[test]
fn errors_name_the_member() {
    let bench = Bench::new();
    let tar = Tar::new().file("ok", b"").file("../etc/passwd", b"x").done();
    let error = bench.import(&tar, None).unwrap_err().to_string();
    assert!(error.contains("../etc/passwd"), "{error}");
}

#[test]
fn overlay_attributes_are_not_taken_over() {
    let bench = Bench::new();
    let mut builder = tar::Builder::new(Vec::new());
    let records =
        [("SCHILY.xattr.trusted.overlay.redirect", &b"/etc"[..]), ("SCHILY.xattr.user.note", b"kept")];
    builder.append_pax_extensions(records).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(EntryType::Directory);
    header.set_mode(0o755);
    header.set_size(0);
    header.set_uid(0);
    header.set_gid(0);
    builder.append_data(&mut header, "d", &b""[..]).unwrap();
    let id = bench.import(&builder.into_inner().unwrap(), None).unwrap();
    let dir = bench.top(&id).join("d");
    let mut value = [0; 16];
    let get = |name: &str, value: &mut [u8]| rustix::fs::getxattr(&dir, name, value);
    assert!(get("trusted.overlay.redirect", &mut value).is_err());
    let n = get("user.note", &mut value).unwrap();
    assert_eq!(&value[..n], b"kept");
}

#[test]
fn truncation_at_every_block_is_noticed() {
    let bench = Bench::new();
    let tar = Tar::new().dir("d").file("d/a", &[7; 1500]).symlink("l", "d/a").file("b", b"b").done();
    let end = tar.len() - 1024;
    for length in (512..end + 512).step_by(512) {
        let whole = length >= end + 512;
        let result = bench.import(&tar[..length], None);
        assert_eq!(result.is_ok(), whole, "cut at {length} of {}: {result:?}", tar.len());
    }
    for length in (1..end).step_by(97) {
        assert!(bench.import(&tar[..length], None).is_err(), "cut at {length}");
    }
    assert!(bench.store.list().is_empty());
    bench.assert_tidy();
    // One zero block of the two is enough of an end.
    bench.import(&tar[..end + 512], None).unwrap();
}

#[test]
fn truncated_compressed_archives_are_noticed() {
    use std::io::Write;
    let bench = Bench::new();
    let noise: Vec<u8> = (0..200_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let tar = Tar::new().file("noise", &noise).done();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar).unwrap();
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bzip2.write_all(&tar).unwrap();
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(&tar).unwrap();
    // Without the checksum zstd does not notice a changed byte of incompressible data.
    let mut zstd = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    zstd.include_checksum(true).unwrap();
    zstd.write_all(&tar).unwrap();
    for packed in
        [gzip.finish().unwrap(), bzip2.finish().unwrap(), xz.finish().unwrap(), zstd.finish().unwrap()]
    {
        let id = bench.import(&packed, None).unwrap();
        assert_eq!(std::fs::read(bench.top(&id).join("noise")).unwrap(), noise);
        for part in 1..8 {
            let cut = packed.len() * part / 8;
            assert!(bench.import(&packed[..cut], None).is_err(), "{:02x?} cut at {cut}", &packed[..3]);
        }
        let mut damaged = packed.clone();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 0xff;
        assert!(bench.import(&damaged, None).is_err(), "{:02x?} damaged", &packed[..3]);
    }
    bench.assert_tidy();
}

#[test]
fn garbage_is_no_archive() {
    let bench = Bench::new();
    for garbage in [&b"hello"[..], &[0xff; 4096], &[0x1f, 0x8b, 8, 0, 0], b"PK\x03\x04"] {
        assert!(bench.import(garbage, None).is_err());
    }
    // An empty tar, on the other hand, is one, and so is nothing at all.
    bench.import(&[0; 10240], None).unwrap();
    bench.import(b"", None).unwrap();
    bench.assert_tidy();
}

#[test]
fn a_failing_reader_leaves_nothing() {
    struct Failing(usize);
    impl std::io::Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            if self.0 == 0 {
                return Err(std::io::ErrorKind::BrokenPipe.into());
            }
            let n = self.0.min(buffer.len());
            buffer[..n].fill(0);
            self.0 -= n;
            Ok(n)
        }
    }
    let bench = Bench::new();
    for length in [0, 10240, 1 << 20] {
        let result = bench.store.import_rootfs(&mut Failing(length), Default::default());
        assert!(result.is_err(), "{length}");
    }
    assert!(bench.store.list().is_empty());
    bench.assert_tidy();
}

#[test]
fn a_full_disk_leaves_nothing() {
    use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
    struct Small(tempfile::TempDir);
    impl Drop for Small {
        fn drop(&mut self) {
            unmount(self.0.path(), UnmountFlags::DETACH).unwrap();
        }
    }
    let small = Small(tempfile::tempdir().unwrap());
    mount("tmpfs", small.0.path(), "tmpfs", MountFlags::empty(), c"size=8m").unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let database = std::sync::Arc::new(redb::Database::create(elsewhere.path().join("db")).unwrap());
    let store = ferry_image::ImageStore::open(small.0.path(), database).unwrap();
    let import = |size: usize| {
        let tar = Tar::new().file("big", &vec![1; size]).done();
        store.import_rootfs(&mut &tar[..], Default::default())
    };
    let error = import(12 << 20).unwrap_err();
    assert_eq!(ferry_types::Classify::kind(&error), ferry_types::ErrorKind::System);
    assert!(error.to_string().contains("No space left on device"), "{error}");
    assert!(store.list().is_empty());
    assert!(names(&small.0.path().join("tmp")).is_empty());
    // The space is free again.
    import(6 << 20).unwrap();
}

/// A member `name` behind an extended header with these records.
fn extended(records: &[(&str, &str)], name: &str, data: &[u8]) -> Vec<u8> {
    let mut text = String::new();
    for (key, value) in records {
        let body = format!(" {key}={value}\n");
        let mut length = body.len();
        while length != body.len() + length.to_string().len() {
            length = body.len() + length.to_string().len();
        }
        text.push_str(&format!("{length}{body}"));
    }
    Tar::new().raw(EntryType::XHeader, "pax", "", text.as_bytes()).file(name, data).done()
}

#[test]
fn bombs_cost_what_they_weigh() {
    let bench = Bench::new();
    let sparse = |size: &str, map: &str| {
        let records = [
            ("GNU.sparse.major", "1"),
            ("GNU.sparse.minor", "0"),
            ("GNU.sparse.name", "s"),
            ("GNU.sparse.realsize", size),
        ];
        let mut data = map.as_bytes().to_vec();
        data.resize(512, 0);
        data.extend_from_slice(b"abc");
        extended(&records, "GNUSparseFile.0/s", &data)
    };
    let huge = (u64::MAX / 2).to_string();
    let before = space(&bench);
    for (what, tar) in [
        ("one terabyte with nothing in it", sparse("1099511627776", "1\n0\n3\n")),
        ("larger than any file", sparse(&huge, "1\n0\n3\n")),
        ("data beyond the end", sparse("10", "1\n4096\n3\n")),
        ("data at the end of all numbers", sparse(&huge, &format!("1\n{huge}\n3\n"))),
        ("more pieces than there are bytes", sparse("4096", "999999999\n0\n1\n")),
        ("pieces that overlap", sparse("4096", "2\n0\n2\n1\n1\n")),
        ("a size that is not there", extended(&[("size", "1099511627776")], "f", b"x")),
        ("a name of a megabyte", extended(&[("path", &"n".repeat(1 << 20))], "f", b"x")),
        ("a name as long as can be", extended(&[("path", &"d/".repeat(2000))], "f", b"x")),
        ("a name of many directories", extended(&[("path", &"d/".repeat(3000))], "f", b"x")),
        ("a record that is longer than its header", extended(&[("comment", "x")], "f", b"x")[..700].to_vec()),
        ("an attribute of a megabyte", extended(&[("SCHILY.xattr.user.a", &"v".repeat(1 << 20))], "f", b"x")),
    ] {
        let began = std::time::Instant::now();
        let result = bench.import(&tar, None);
        if let Ok(id) = &result {
            // What was taken can be given back as it came.
            let mut out = Vec::new();
            let chain = bench.store.get(id).unwrap().chain[0].clone();
            bench.store.write_layer_tar(&chain, &mut out).unwrap();
            assert_eq!(out, tar, "{what}");
        } else {
            let error = result.as_ref().unwrap_err();
            assert!(error.to_string().len() < 4096, "{what} makes a long message");
            let truncated = error.to_string().contains("unexpected EOF");
            let kind = ferry_types::Classify::kind(error);
            assert!(truncated || kind == ferry_types::ErrorKind::InvalidParameter, "{what}: {error:?}");
        }
        bench.assert_tidy();
        println!("{what}: {:?}", began.elapsed());
        assert!(space(&bench) < before + (32 << 20), "{what} takes {} bytes of disk", space(&bench) - before);
    }
}

/// Bytes the store takes on disk.
fn space(bench: &Bench) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let (mut total, mut todo) = (0, vec![bench.dir.path().to_owned()]);
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            total += meta.blocks() * 512;
            if meta.is_dir() {
                todo.push(entry.path());
            }
        }
    }
    total
}
