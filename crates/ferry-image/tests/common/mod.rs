//! A store in a temporary directory, and tars made member by member.
#![allow(dead_code)]

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ferry_image::{ImageId, ImageStore, ImportOptions};

pub struct Bench {
    pub dir: tempfile::TempDir,
    pub store: Arc<ImageStore>,
}

impl Bench {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        Self { dir, store }
    }

    pub fn root(&self) -> PathBuf {
        self.dir.path().join("images")
    }

    /// Closes and opens again, as a restart does.
    pub fn reopen(self) -> Self {
        let Self { dir, store } = self;
        drop(store);
        let store = open(dir.path());
        Self { dir, store }
    }

    pub fn import(&self, tar: &[u8], name: Option<&str>) -> Result<ImageId, ferry_image::ImageError> {
        let options = ImportOptions { reference: name.map(|n| n.parse().unwrap()), ..Default::default() };
        self.store.import_rootfs(&mut &tar[..], options)
    }

    pub fn top(&self, id: &ImageId) -> PathBuf {
        self.store.layer_dirs(id).unwrap()[0].clone()
    }

    /// Nothing half-done: no staging, and no layer directory that the metadata does not know.
    pub fn assert_tidy(&self) {
        assert_eq!(names(&self.root().join("tmp")), Vec::<String>::new());
        let layers = self.store.disk_usage().layers;
        assert_eq!(names(&self.root().join("layers")).len(), layers);
    }
}

fn open(dir: &Path) -> Arc<ImageStore> {
    let database = redb::Database::create(dir.join("db")).unwrap();
    Arc::new(ImageStore::open(&dir.join("images"), Arc::new(database)).unwrap())
}

pub fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

pub struct Tar(pub tar::Builder<Vec<u8>>);

impl Tar {
    pub fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    /// A member with a name taken as it is, however bad.
    pub fn raw(mut self, kind: tar::EntryType, name: &str, link: &str, data: &[u8]) -> Self {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(if kind == tar::EntryType::Directory { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_600_000_000);
        header.set_size(data.len() as u64);
        let bytes = header.as_mut_bytes();
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        bytes[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        self.0.append(&header, data).unwrap();
        self
    }

    pub fn file(self, name: &str, data: &[u8]) -> Self {
        self.raw(tar::EntryType::Regular, name, "", data)
    }

    pub fn dir(self, name: &str) -> Self {
        self.raw(tar::EntryType::Directory, name, "", &[])
    }

    pub fn symlink(self, name: &str, target: &str) -> Self {
        self.raw(tar::EntryType::Symlink, name, target, &[])
    }

    pub fn hard_link(self, name: &str, target: &str) -> Self {
        self.raw(tar::EntryType::Link, name, target, &[])
    }

    pub fn done(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

pub fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap()
}

pub fn all(mut reader: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    bytes
}
