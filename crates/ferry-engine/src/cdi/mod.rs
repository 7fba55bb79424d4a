//! Devices described by the Container Device Interface (CDI specification 1.1): which specifications there are on
//! the host, and what the devices a container asks for add to its `config.json`.

pub(crate) mod edits;
mod file;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use edits::ContainerEdits;
use file::SpecFile;

/// Where specifications lie when nothing is configured. Later directories win.
pub const DEFAULT_DIRS: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];

/// Why the devices of a container cannot be had.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum CdiError {
    #[error("unresolvable CDI devices {0}")]
    Unresolvable(String),
    #[error("device node {path} of CDI device {device}: {reason}")]
    Node { device: String, path: String, reason: String },
    #[error("mount type {kind:?} of CDI device {device} is not supported by ferry")]
    MountKind { device: String, kind: String },
    #[error("{what} of CDI device {device} are not supported by ferry")]
    NotSupported { device: String, what: &'static str },
}

/// The devices found in a set of directories.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    files: Vec<SpecFile>,
    /// Qualified name to (file, device) of those that are named once among the files of highest priority.
    devices: BTreeMap<String, (usize, usize)>,
}

impl Registry {
    /// Reads all `.json` and `.yaml` files of `dirs`. A file that cannot be used is named in the log and left out:
    /// it must not keep other vendors' devices from working. A device two files of one directory define is left
    /// out as well (CDI specification, "Error Handling").
    pub fn load(dirs: &[PathBuf]) -> Self {
        let mut found = Self::default();
        for dir in dirs {
            let first = found.files.len();
            for path in spec_paths(dir) {
                match file::read(&path) {
                    Ok(spec) => found.files.push(spec),
                    Err(reason) => tracing::warn!("CDI specification {}: {reason}", path.display()),
                }
            }
            found.index(first, dir);
        }
        found
    }

    fn index(&mut self, first: usize, dir: &Path) {
        let mut here: BTreeMap<String, Option<(usize, usize)>> = BTreeMap::new();
        for (at, file) in self.files.iter().enumerate().skip(first) {
            for (nth, device) in file.devices.iter().enumerate() {
                let name = format!("{}={}", file.kind, device.name);
                here.entry(name).and_modify(|place| *place = None).or_insert(Some((at, nth)));
            }
        }
        for (name, place) in here {
            match place {
                Some(place) => drop(self.devices.insert(name, place)),
                None => {
                    tracing::warn!("CDI device {name} is defined more than once in {}", dir.display());
                    self.devices.remove(&name);
                }
            }
        }
    }

    /// Qualified names, `vendor/class=name`, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.devices.keys().map(String::as_str)
    }

    /// The edits for some devices, in the order asked for: each file's common edits once, before its first device's.
    pub fn edits(&self, names: &[String]) -> Result<Vec<(String, ContainerEdits)>, CdiError> {
        let missing: Vec<&str> =
            names.iter().map(String::as_str).filter(|name| !self.devices.contains_key(*name)).collect();
        if !missing.is_empty() {
            return Err(CdiError::Unresolvable(missing.join(", ")));
        }
        let (mut all, mut common, mut seen) = (Vec::new(), Vec::new(), Vec::new());
        for name in names {
            let Some(&(file, device)) = self.devices.get(name) else { continue };
            if seen.contains(&(file, device)) {
                continue;
            }
            seen.push((file, device));
            let spec = &self.files[file];
            if !common.contains(&file) {
                common.push(file);
                all.push((name.clone(), spec.container_edits.clone()));
            }
            all.push((name.clone(), spec.devices[device].container_edits.clone()));
        }
        Ok(all)
    }
}

fn spec_paths(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "json" || e == "yaml"))
        .collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, name: &str, text: &str) {
        std::fs::create_dir_all(dir).unwrap();
        std::fs::write(dir.join(name), text).unwrap();
    }

    const YAML: &str = "cdiVersion: \"0.6.0\"\nkind: \"test.org/thing\"\ndevices:\n- name: one\n  containerEdits:\n    \
                        env: [\"THING=one\"]\n- name: two\n  containerEdits: {env: [\"THING=two\"]}\n\
                        containerEdits:\n  env: [\"COMMON=yes\"]\n";

    #[test]
    fn later_directories_win_and_bad_files_are_left_out() {
        let temp = tempfile::tempdir().unwrap();
        let dirs = [temp.path().join("a"), temp.path().join("b")];
        write(&dirs[0], "thing.yaml", YAML);
        write(&dirs[0], "bad.yaml", "kind: bad");
        write(&dirs[0], "ignored.txt", YAML);
        write(
            &dirs[1],
            "thing.json",
            r#"{"cdiVersion":"0.6.0","kind":"test.org/thing","devices":[{"name":"two","containerEdits":{"env":["B=2"]}}]}"#,
        );
        let registry = Registry::load(&dirs);
        assert_eq!(registry.names().collect::<Vec<_>>(), ["test.org/thing=one", "test.org/thing=two"]);
        let env = |names: &[&str]| -> Vec<String> {
            let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
            registry.edits(&names).unwrap().into_iter().flat_map(|(_, e)| e.env).collect()
        };
        assert_eq!(env(&["test.org/thing=one", "test.org/thing=one"]), ["COMMON=yes", "THING=one"]);
        assert_eq!(env(&["test.org/thing=two"]), ["B=2"]);
        let missing = ["x/y=z".to_owned(), "test.org/thing=one".to_owned(), "x/y=w".to_owned()];
        let text = registry.edits(&missing).unwrap_err().to_string();
        assert_eq!(text, "unresolvable CDI devices x/y=z, x/y=w");
    }

    #[test]
    fn a_device_defined_twice_in_a_directory_is_nobodys() {
        let temp = tempfile::tempdir().unwrap();
        write(temp.path(), "a.yaml", YAML);
        write(temp.path(), "b.yaml", &YAML.replace("name: two", "name: three"));
        let registry = Registry::load(&[temp.path().to_owned()]);
        assert_eq!(registry.names().collect::<Vec<_>>(), ["test.org/thing=three", "test.org/thing=two"]);
    }
}
