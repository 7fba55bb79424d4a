//! The `options` of an OCI mount, sorted by what they are for (runtime-spec `config.md`, mount(8)).

use std::path::PathBuf;

use ferry_sys::mount::{
    ATTR_ATIME_MASK, ATTR_NOATIME, ATTR_NODEV, ATTR_NODIRATIME, ATTR_NOEXEC, ATTR_NOSUID, ATTR_NOSYMFOLLOW,
    ATTR_RDONLY, ATTR_STRICTATIME,
};
use rustix::mount::MountPropagationFlags;

/// Attributes to set and to clear on a mount.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub set: u64,
    pub clear: u64,
}

impl Attributes {
    pub fn is_empty(self) -> bool {
        self == Attributes::default()
    }

    fn add(&mut self, bit: u64, on: bool) {
        if on {
            self.set |= bit;
            self.clear &= !bit;
        } else {
            self.clear |= bit;
            self.set &= !bit;
        }
    }

    fn atime(&mut self, mode: u64) {
        self.set = self.set & !ATTR_ATIME_MASK | mode;
        self.clear |= ATTR_ATIME_MASK;
    }
}

/// Options sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct MountOptions {
    /// `bind` or `rbind` was there.
    pub bind: bool,
    /// `rbind`.
    pub recursive: bool,
    /// For the mount itself.
    pub attributes: Attributes,
    /// For the mount and everything below (`rro`, …).
    pub recursive_attributes: Attributes,
    /// Propagation changes, in order.
    pub propagation: Vec<MountPropagationFlags>,
    /// Superblock flags by name (`sync`, …).
    pub flags: Vec<&'static str>,
    /// Everything else, for the file system.
    pub data: Vec<String>,
    /// Copy what the image has there into a tmpfs (`tmpcopyup`).
    pub copy_up: bool,
    /// `idmap` (false) or `ridmap` (true).
    pub idmap: Option<bool>,
    /// Mount only this part of the source (`x-ferry.subpath=`), whose contents are not trusted.
    pub subpath: Option<PathBuf>,
}

impl MountOptions {
    /// Sorts the options of one mount.
    pub fn parse(options: &[String]) -> MountOptions {
        let mut parsed = MountOptions::default();
        for option in options {
            if !parsed.standard(option) && !parsed.recursive_attribute(option) {
                parsed.data.push(option.clone());
            }
        }
        parsed
    }

    fn standard(&mut self, option: &str) -> bool {
        let propagation = |flag: MountPropagationFlags, recursive: bool| {
            if recursive { flag | MountPropagationFlags::REC } else { flag }
        };
        match option {
            "bind" => self.bind = true,
            "rbind" => {
                self.bind = true;
                self.recursive = true;
            }
            "defaults" | "async" | "loud" | "nomand" | "norelatime" | "nostrictatime" | "nolazytime" => {}
            "relatime" => self.attributes.atime(0),
            "noatime" => self.attributes.atime(ATTR_NOATIME),
            "atime" => self.attributes.atime(0),
            "strictatime" => self.attributes.atime(ATTR_STRICTATIME),
            "sync" => self.flags.push("sync"),
            "dirsync" => self.flags.push("dirsync"),
            "mand" => self.flags.push("mand"),
            "silent" => self.flags.push("silent"),
            "lazytime" => self.flags.push("lazytime"),
            "tmpcopyup" => self.copy_up = true,
            "idmap" => self.idmap = Some(false),
            "ridmap" => self.idmap = Some(true),
            "private" | "rprivate" => {
                self.propagation.push(propagation(MountPropagationFlags::PRIVATE, option == "rprivate"));
            }
            "shared" | "rshared" => {
                self.propagation.push(propagation(MountPropagationFlags::SHARED, option == "rshared"));
            }
            "slave" | "rslave" => {
                self.propagation.push(propagation(MountPropagationFlags::DOWNSTREAM, option == "rslave"));
            }
            "unbindable" | "runbindable" => {
                self.propagation
                    .push(propagation(MountPropagationFlags::UNBINDABLE, option == "runbindable"));
            }
            _ => match (attribute(option), option.strip_prefix("x-ferry.subpath=")) {
                (Some((bit, on)), _) => self.attributes.add(bit, on),
                (None, Some(path)) => self.subpath = Some(PathBuf::from(path)),
                (None, None) => return false,
            },
        }
        true
    }

    /// `rro`, `rnosuid`, …: the plain attribute with an `r` before it.
    fn recursive_attribute(&mut self, option: &str) -> bool {
        let Some(rest) = option.strip_prefix('r') else { return false };
        match rest {
            "relatime" | "atime" => self.recursive_attributes.atime(0),
            "noatime" => self.recursive_attributes.atime(ATTR_NOATIME),
            "strictatime" => self.recursive_attributes.atime(ATTR_STRICTATIME),
            _ => match attribute(rest) {
                Some((bit, on)) => self.recursive_attributes.add(bit, on),
                None => return false,
            },
        }
        true
    }
}

fn attribute(option: &str) -> Option<(u64, bool)> {
    Some(match option {
        "ro" => (ATTR_RDONLY, true),
        "rw" => (ATTR_RDONLY, false),
        "nosuid" => (ATTR_NOSUID, true),
        "suid" => (ATTR_NOSUID, false),
        "nodev" => (ATTR_NODEV, true),
        "dev" => (ATTR_NODEV, false),
        "noexec" => (ATTR_NOEXEC, true),
        "exec" => (ATTR_NOEXEC, false),
        "nodiratime" => (ATTR_NODIRATIME, true),
        "diratime" => (ATTR_NODIRATIME, false),
        "nosymfollow" => (ATTR_NOSYMFOLLOW, true),
        "symfollow" => (ATTR_NOSYMFOLLOW, false),
        _ => return None,
    })
}

/// The value of `linux.rootfsPropagation`; `None` when it is not a known one.
pub(crate) fn root_propagation(value: &str) -> Option<MountPropagationFlags> {
    let (name, recursive) = match value.strip_prefix('r') {
        Some(rest) => (rest, MountPropagationFlags::REC),
        None => (value, MountPropagationFlags::empty()),
    };
    let flag = match name {
        "private" => MountPropagationFlags::PRIVATE,
        "shared" => MountPropagationFlags::SHARED,
        "slave" => MountPropagationFlags::DOWNSTREAM,
        "unbindable" => MountPropagationFlags::UNBINDABLE,
        _ => return None,
    };
    Some(flag | recursive)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[&str]) -> MountOptions {
        MountOptions::parse(&options.iter().map(|&o| o.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn docker_volume() {
        let options = parse(&["rbind", "ro", "rprivate"]);
        assert!(options.bind && options.recursive && options.data.is_empty());
        assert_eq!(options.attributes, Attributes { set: ATTR_RDONLY, clear: 0 });
        assert_eq!(options.propagation, [MountPropagationFlags::PRIVATE | MountPropagationFlags::REC]);
    }

    #[test]
    fn docker_dev() {
        let options = parse(&["nosuid", "strictatime", "mode=755", "size=65536k"]);
        assert_eq!(options.attributes.set, ATTR_NOSUID | ATTR_STRICTATIME);
        assert_eq!(options.attributes.clear, ATTR_ATIME_MASK);
        assert_eq!(options.data, ["mode=755", "size=65536k"]);
    }

    #[test]
    fn the_last_of_two_contradicting_options_wins() {
        assert_eq!(parse(&["ro", "rw"]).attributes, Attributes { set: 0, clear: ATTR_RDONLY });
        assert_eq!(parse(&["rw", "ro"]).attributes, Attributes { set: ATTR_RDONLY, clear: 0 });
    }

    #[test]
    fn recursive_attributes_are_kept_apart() {
        let options = parse(&["rro", "rnosuid", "rw"]);
        assert_eq!(options.recursive_attributes.set, ATTR_RDONLY | ATTR_NOSUID);
        assert_eq!(options.attributes.clear, ATTR_RDONLY);
    }
}
