//! Layers on disk: fidelity of unpacking, overlay mounts of many, diff, export and changes.

mod common;

use std::ffi::CString;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use common::{Bench, Tar, names, read};
use ferry_image::{Change, ChangeKind, CommitOptions, ImageId, changes};
use rustix::fs::{FileType, Mode};
use tar::EntryType;

/// An overlay mount that goes with its owner.
struct Mounted {
    dir: tempfile::TempDir,
}

impl Mounted {
    fn new(lowers: &[PathBuf]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["upper", "work", "merged"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, *};
        let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
        for lower in lowers {
            fsconfig_set_string(&fs, "lowerdir+", lower).unwrap();
        }
        fsconfig_set_string(&fs, "upperdir", dir.path().join("upper")).unwrap();
        fsconfig_set_string(&fs, "workdir", dir.path().join("work")).unwrap();
        fsconfig_set_string(&fs, "redirect_dir", "off").unwrap();
        fsconfig_create(&fs).unwrap();
        let mount = fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).unwrap();
        let at = dir.path().join("merged");
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(&mount, "", rustix::fs::CWD, &at, flags).unwrap();
        Self { dir }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("merged")
    }

    fn upper(&self) -> PathBuf {
        self.dir.path().join("upper")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        rustix::mount::unmount(self.root(), rustix::mount::UnmountFlags::DETACH).unwrap();
    }
}

fn commit(bench: &Bench, parent: &ImageId, upper: &Path) -> ImageId {
    let options = CommitOptions {
        parent: parent.clone(),
        upper: upper.to_owned(),
        config: Default::default(),
        created_by: String::new(),
        author: None,
        message: None,
        changes: Vec::new(),
        reference: None,
    };
    bench.store.commit(options).unwrap()
}

#[test]
fn every_kind_of_member_is_unpacked() {
    let bench = Bench::new();
    let mut tar = Tar::new().dir("dir");
    let mut add = |kind: EntryType, name: &str, mode: u32, device: (u32, u32), data: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(12_345);
        header.set_gid(4_000_000_000);
        header.set_mtime(1_500_000_000);
        header.set_size(data.len() as u64);
        header.set_device_major(device.0).unwrap();
        header.set_device_minor(device.1).unwrap();
        tar.0.append_data(&mut header, name, data).unwrap();
    };
    let long = format!("dir/{}/{}", "x".repeat(150), "y".repeat(200));
    add(EntryType::Regular, "suid", 0o6755, (0, 0), b"s");
    add(EntryType::Char, "null", 0o666, (1, 3), b"");
    add(EntryType::Block, "loop", 0o660, (7, 200), b"");
    add(EntryType::Fifo, "pipe", 0o622, (0, 0), b"");
    add(EntryType::Directory, "tmp", 0o1777, (0, 0), b"");
    add(EntryType::Regular, &long, 0o600, (0, 0), b"deep");
    let mut builder = tar.0;
    let records = [
        ("mtime", &b"1234567890.123456789"[..]),
        ("SCHILY.xattr.security.capability", &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    ];
    builder.append_pax_extensions(records).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(1);
    builder.append_data(&mut header, "ping", &b"p"[..]).unwrap();
    let id = bench.import(&builder.into_inner().unwrap(), None).unwrap();
    let top = bench.top(&id);
    let meta = |name: &str| std::fs::symlink_metadata(top.join(name)).unwrap();
    let suid = meta("suid");
    assert_eq!((suid.uid(), suid.gid(), suid.mode() & 0o7777), (12_345, 4_000_000_000, 0o6755));
    assert_eq!(suid.mtime(), 1_500_000_000);
    assert_eq!((meta("null").rdev(), meta("null").mode() & 0o7777), (rustix::fs::makedev(1, 3), 0o666));
    assert!(meta("loop").file_type().is_block_device() && meta("pipe").file_type().is_fifo());
    assert_eq!((meta("tmp").mode() & 0o7777, meta("tmp").mtime()), (0o1777, 1_500_000_000));
    assert_eq!(read(top.join(&long)), "deep");
    assert_eq!((meta("ping").mtime(), meta("ping").mtime_nsec()), (1_234_567_890, 123_456_789));
    let mut capability = [0; 32];
    assert_eq!(rustix::fs::getxattr(top.join("ping"), "security.capability", &mut capability).unwrap(), 20);
    assert_eq!(std::fs::metadata(&top).unwrap().permissions().mode() & 0o7777, 0o755);
}

#[test]
fn directories_without_a_member_look_like_those_below() {
    let bench = Bench::new();
    let base = Tar::new().raw(EntryType::Directory, "tmp", "", b"").done();
    let base = bench.import(&base, None).unwrap();
    std::fs::set_permissions(bench.top(&base).join("tmp"), PermissionsExt::from_mode(0o1777)).unwrap();
    let layer = Tar::new().file("tmp/x", b"x").done();
    let mut ingest = bench.store.ingest_layer(Default::default()).unwrap();
    std::io::Write::write_all(&mut ingest, &layer).unwrap();
    let staged = ingest.finish().unwrap();
    let mut config = bench.store.get(&base).unwrap().config.clone();
    config.rootfs.diff_ids.push(staged.diff_id.clone());
    let id = bench
        .store
        .register(ferry_image::Registration {
            config: &serde_json::to_vec(&config).unwrap(),
            manifest: None,
            layers: vec![ferry_image::LayerSource::Stored, ferry_image::LayerSource::Staged(staged)],
            parent: None,
            references: Vec::new(),
        })
        .unwrap();
    let mode = std::fs::metadata(bench.top(&id).join("tmp")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o1777);
}

#[test]
fn whiteouts_travel_through_commit_and_mount() {
    let bench = Bench::new();
    let base =
        Tar::new().dir("d").file("d/a", b"a").file("d/b", b"b").dir("o").file("o/x", b"x").file("f", b"f");
    let base = bench.import(&base.done(), None).unwrap();
    let first = Mounted::new(&bench.store.layer_dirs(&base).unwrap());
    let root = first.root();
    std::fs::remove_file(root.join("d/a")).unwrap();
    std::fs::write(root.join("f"), "changed").unwrap();
    std::fs::remove_dir_all(root.join("o")).unwrap();
    std::fs::create_dir(root.join("o")).unwrap();
    std::fs::write(root.join("o/new"), "n").unwrap();
    std::fs::write(root.join("added"), "n").unwrap();
    std::fs::hard_link(root.join("added"), root.join("link")).unwrap();
    let found = changes(&first.upper(), &bench.store.layer_dirs(&base).unwrap()).unwrap();
    let shown: Vec<_> = found
        .iter()
        .map(|Change { path, kind }| {
            let letter = match kind {
                ChangeKind::Changed => 'C',
                ChangeKind::Added => 'A',
                ChangeKind::Deleted => 'D',
            };
            format!("{letter} {}", path.display())
        })
        .collect();
    let want = ["A /added", "C /d", "D /d/a", "C /f", "A /link", "C /o", "A /o/new", "D /o/x"];
    assert_eq!(shown, want);
    let child = commit(&bench, &base, &first.upper());
    let second = Mounted::new(&bench.store.layer_dirs(&child).unwrap());
    let root = second.root();
    assert_eq!(names(&root), ["added", "d", "f", "link", "o"]);
    assert_eq!(names(&root.join("d")), ["b"]);
    assert_eq!(names(&root.join("o")), ["new"]);
    assert_eq!(read(root.join("f")), "changed");
    assert_eq!(std::fs::metadata(root.join("link")).unwrap().nlink(), 2);

    // Export of the merged tree, imported again, is the same tree.
    let mut flat = Vec::new();
    let dir = std::fs::File::open(&root).unwrap();
    ferry_image::export(std::os::fd::AsFd::as_fd(&dir), &mut flat).unwrap();
    let again = bench.import(&flat, None).unwrap();
    assert_eq!(names(&bench.top(&again)), ["added", "d", "f", "link", "o"]);
    assert_eq!(names(&bench.top(&again).join("o")), ["new"]);
}

#[test]
fn whiteouts_do_not_depend_on_the_order_of_members() {
    let bench = Bench::new();
    for tar in [
        Tar::new().dir("d").file("d/new", b"n").file(".wh.d", b""),
        Tar::new().file(".wh.d", b"").dir("d").file("d/new", b"n"),
        Tar::new().file(".wh.d", b"").file("d/new", b"n"),
        Tar::new().dir("d").file("d/.wh..wh..opq", b"").file("d/new", b"n"),
        Tar::new().file("d/.wh..wh..opq", b"").dir("d").file("d/new", b"n"),
    ] {
        let base = bench.import(&Tar::new().dir("d").file("d/old", b"o").done(), None).unwrap();
        let upper = bench.import(&tar.done(), None).unwrap();
        let lowers = [bench.top(&upper), bench.top(&base)];
        let mounted = Mounted::new(&lowers);
        assert_eq!(names(&mounted.root().join("d")), ["new"]);
    }
}

#[test]
fn a_redirected_directory_is_not_committed_silently() {
    let bench = Bench::new();
    let base = bench.import(&Tar::new().dir("d").done(), None).unwrap();
    let upper = bench.dir.path().join("upper");
    std::fs::create_dir_all(upper.join("e")).unwrap();
    let name = CString::new("trusted.overlay.redirect").unwrap();
    rustix::fs::setxattr(upper.join("e"), &name, b"/d", rustix::fs::XattrFlags::empty()).unwrap();
    let options = CommitOptions {
        parent: base,
        upper,
        config: Default::default(),
        created_by: String::new(),
        author: None,
        message: None,
        changes: Vec::new(),
        reference: None,
    };
    assert!(bench.store.commit(options).is_err());
    bench.assert_tidy();
}

#[test]
fn a_hundred_and_twenty_seven_layers_mount() {
    let bench = Bench::new();
    let mut id = bench.import(&Tar::new().file("n", b"0").done(), None).unwrap();
    let upper = bench.dir.path().join("upper");
    std::fs::create_dir(&upper).unwrap();
    for n in 1..127 {
        std::fs::write(upper.join("n"), n.to_string()).unwrap();
        id = commit(&bench, &id, &upper);
    }
    let dirs = bench.store.layer_dirs(&id).unwrap();
    assert_eq!(dirs.len(), 127);
    let layers = bench.root().canonicalize().unwrap().join("layers");
    let relative: Vec<_> = dirs.iter().map(|d| d.strip_prefix(&layers).unwrap().to_str().unwrap()).collect();
    assert!(relative.join(":").len() < 2048, "room for upperdir and workdir in one page");
    assert_eq!(read(Mounted::new(&dirs).root().join("n")), "126");
}

#[test]
fn sparse_files_keep_their_holes() {
    let bench = Bench::new();
    // GNU's old format: 4 KiB of data at 1 MiB of a 2 MiB file.
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(EntryType::GNUSparse);
    header.set_path("sparse").unwrap();
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(4096);
    let gnu = header.as_gnu_mut().unwrap();
    gnu.sparse[0].offset = *b"00004000000\0";
    gnu.sparse[0].numbytes = *b"00000010000\0";
    gnu.sparse[1].offset = *b"00010000000\0";
    gnu.sparse[1].numbytes = *b"00000000000\0";
    gnu.realsize = *b"00010000000\0";
    header.set_cksum();
    let mut old = tar::Builder::new(Vec::new());
    old.append(&header, &[b'x'; 4096][..]).unwrap();
    // PAX 1.0: the map is in the data.
    let mut data = b"2\n1048576\n4096\n2097152\n0\n".to_vec();
    data.resize(512, 0);
    data.extend_from_slice(&[b'x'; 4096]);
    let mut pax = tar::Builder::new(Vec::new());
    let records = [
        ("GNU.sparse.major", &b"1"[..]),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"sparse"),
        ("GNU.sparse.realsize", b"2097152"),
    ];
    pax.append_pax_extensions(records).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(data.len() as u64);
    pax.append_data(&mut header, "GNUSparseFile.0/sparse", &data[..]).unwrap();
    for tar in [old.into_inner().unwrap(), pax.into_inner().unwrap()] {
        let id = bench.import(&tar, Some("sparse")).unwrap();
        let path = bench.top(&id).join("sparse");
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 2 << 20);
        assert!(bytes[1 << 20..(1 << 20) + 4096].iter().all(|b| *b == b'x'));
        assert_eq!(bytes.iter().filter(|b| **b != 0).count(), 4096);
        assert!(std::fs::metadata(&path).unwrap().blocks() < 100, "holes stay holes");
        bench.store.save(&["sparse".to_owned()], &mut std::io::sink()).unwrap();
    }
}

#[test]
fn devices_in_an_upper_directory_are_not_whiteouts() {
    let bench = Bench::new();
    let base = bench.import(&Tar::new().file("a", b"").done(), None).unwrap();
    let upper = bench.dir.path().join("upper");
    std::fs::create_dir(&upper).unwrap();
    let device = rustix::fs::makedev(1, 3);
    let mode = Mode::from_raw_mode(0o666);
    rustix::fs::mknodat(rustix::fs::CWD, upper.join("null"), FileType::CharacterDevice, mode, device)
        .unwrap();
    let id = commit(&bench, &base, &upper);
    assert!(std::fs::metadata(bench.top(&id).join("null")).unwrap().file_type().is_char_device());
}
