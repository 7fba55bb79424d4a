//! `-v` and `--mount`: from their notations to where things are and what they hide.

use std::collections::BTreeMap;

use ferry_api::MountPoint;

use crate::spec::is_clean_absolute;

/// A mount as asked for, checked but not yet looked up on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MountRequest {
    pub source: MountSource,
    pub destination: String,
    pub read_only: bool,
    /// Options as written, for inspect.
    pub mode: String,
    /// Empty means `rprivate`.
    pub propagation: String,
    /// Leave a new volume empty.
    pub no_copy: bool,
    /// A missing bind source is created (`-v`) or is an error (`--mount`).
    pub create_source: bool,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MountSource {
    /// A host path.
    Bind(String),
    /// A volume by name.
    Volume(String, BTreeMap<String, String>),
    /// A volume without a name.
    Anonymous(BTreeMap<String, String>),
}

const PROPAGATIONS: [&str; 6] = ["private", "rprivate", "shared", "rshared", "slave", "rslave"];

/// `[source:]destination[:options]`; the error texts are Docker's.
pub(crate) fn parse_bind(text: &str) -> Result<MountRequest, String> {
    let invalid = || format!("invalid volume specification: '{text}'");
    let parts: Vec<&str> = text.split(':').collect();
    let (source, destination, mode) = match parts[..] {
        [destination] => ("", destination, ""),
        [source, destination] => (source, destination, ""),
        [source, destination, mode] => (source, destination, mode),
        _ => return Err(invalid()),
    };
    if parts.len() > 1 && source.is_empty() || destination.is_empty() {
        return Err(invalid());
    }
    let kind = if source.starts_with('/') { "bind" } else { "volume" };
    check_destination(destination)
        .map_err(|why| format!("{}: invalid mount config for type {kind:?}: {why}", invalid()))?;
    let mut request = MountRequest {
        source: match source {
            "" => MountSource::Anonymous(BTreeMap::new()),
            path if path.starts_with('/') => MountSource::Bind(clean(path)),
            name if ferry_types::name::is_restricted_name(name) => {
                MountSource::Volume(name.to_owned(), BTreeMap::new())
            }
            name => {
                return Err(format!(
                    "create {name}: {name:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
                ));
            }
        },
        destination: clean(destination),
        read_only: false,
        mode: mode.to_owned(),
        propagation: String::new(),
        no_copy: false,
        create_source: true,
    };
    let mut access = None;
    for option in mode.split(',').filter(|o| !o.is_empty()) {
        if matches!(option, "rw" | "ro") && access.replace(option).is_some() {
            return Err(format!("invalid mode: {mode}"));
        }
        match option {
            "rw" => request.read_only = false,
            "ro" => request.read_only = true,
            "nocopy" if !matches!(request.source, MountSource::Bind(_)) => request.no_copy = true,
            // Relabelling does nothing on hosts without SELinux, as in Docker.
            "z" | "Z" | "consistent" | "cached" | "delegated" => {}
            p if PROPAGATIONS.contains(&p) && matches!(request.source, MountSource::Bind(_)) => {
                p.clone_into(&mut request.propagation);
            }
            _ => return Err(format!("invalid mode: {mode}")),
        }
    }
    Ok(request)
}

/// `--mount` of type bind or volume; others are not handled here.
pub(crate) fn parse_mount(mount: &ferry_api::Mount) -> Result<Option<MountRequest>, String> {
    let invalid = |why: &str| format!("invalid mount config for type {:?}: {why}", mount.kind);
    if mount.target.is_empty() {
        return Err(invalid("field Target must not be empty"));
    }
    check_destination(&mount.target).map_err(|why| invalid(&why))?;
    let mut request = MountRequest {
        source: MountSource::Anonymous(BTreeMap::new()),
        destination: clean(&mount.target),
        read_only: mount.read_only,
        mode: String::new(),
        propagation: String::new(),
        no_copy: false,
        create_source: false,
    };
    match mount.kind.as_str() {
        "bind" => {
            if mount.source.is_empty() {
                return Err(invalid("field Source must not be empty"));
            }
            if !mount.source.starts_with('/') {
                return Err(invalid(&format!(
                    "invalid mount path: '{}' mount path must be absolute",
                    mount.source
                )));
            }
            if mount.volume_options.is_some() || mount.tmpfs_options.is_some() {
                return Err(invalid("field VolumeOptions must not be specified"));
            }
            request.source = MountSource::Bind(clean(&mount.source));
            if let Some(options) = &mount.bind_options {
                if options.non_recursive
                    || options.read_only_non_recursive
                    || options.read_only_force_recursive
                {
                    return Err(invalid("non-recursive binds are not supported by ferry yet"));
                }
                if !options.propagation.is_empty() && !PROPAGATIONS.contains(&options.propagation.as_str()) {
                    return Err(invalid(&format!("invalid propagation mode: {}", options.propagation)));
                }
                request.propagation.clone_from(&options.propagation);
                request.create_source = options.create_mountpoint;
            }
        }
        "volume" => {
            let options = mount.volume_options.clone().unwrap_or_default();
            if mount.bind_options.is_some() {
                return Err(invalid("field BindOptions must not be specified"));
            }
            if !options.subpath.is_empty() {
                return Err(invalid("volume sub-paths are not supported by ferry yet"));
            }
            if let Some(driver) = &options.driver_config
                && (!matches!(driver.name.as_str(), "" | "local") || !driver.options.is_empty())
            {
                return Err(invalid("volume drivers and their options are not supported by ferry yet"));
            }
            request.no_copy = options.no_copy;
            let labels = options.labels.into_map();
            request.source = if mount.source.is_empty() {
                MountSource::Anonymous(labels)
            } else if ferry_types::name::is_restricted_name(&mount.source) {
                MountSource::Volume(mount.source.clone(), labels)
            } else {
                return Err(invalid(&format!("invalid volume name {:?}", mount.source)));
            };
        }
        "tmpfs" => {
            if !mount.source.is_empty() {
                return Err(invalid("field Source must not be specified"));
            }
            return Ok(None);
        }
        "image" | "cluster" | "npipe" => {
            return Err(invalid("this mount type is not supported by ferry yet"));
        }
        _ => return Err(invalid("mount type unknown")),
    }
    Ok(Some(request))
}

fn check_destination(destination: &str) -> Result<(), String> {
    if !destination.starts_with('/') {
        return Err(format!("invalid mount path: '{destination}' mount path must be absolute"));
    }
    if clean(destination) == "/" {
        return Err("invalid specification: destination can't be '/'".to_owned());
    }
    if !is_clean_absolute(&clean(destination)) {
        return Err(format!("invalid mount path: '{destination}'"));
    }
    Ok(())
}

/// Go's `filepath.Clean` for absolute paths.
pub(crate) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    format!("/{}", parts.join("/"))
}

/// The API's view of a resolved mount.
pub(crate) fn bind_point(request: &MountRequest, source: String) -> MountPoint {
    MountPoint {
        kind: "bind".to_owned(),
        source,
        destination: request.destination.clone(),
        mode: request.mode.clone(),
        rw: !request.read_only,
        propagation: if request.propagation.is_empty() {
            "rprivate".to_owned()
        } else {
            request.propagation.clone()
        },
        ..MountPoint::default()
    }
}

/// The API's view of a mounted volume.
pub(crate) fn volume_point(request: &MountRequest, name: &str, source: String) -> MountPoint {
    MountPoint {
        kind: "volume".to_owned(),
        name: name.to_owned(),
        source,
        destination: request.destination.clone(),
        driver: "local".to_owned(),
        mode: match &request.source {
            // What Docker shows for a named volume without options.
            MountSource::Volume(..) if request.mode.is_empty() => "z".to_owned(),
            _ => request.mode.clone(),
        },
        rw: !request.read_only,
        propagation: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_notation() {
        let bind = parse_bind("/a/../b:/c//d:ro,rslave").unwrap();
        assert_eq!(bind.source, MountSource::Bind("/b".into()));
        assert_eq!(
            (bind.destination.as_str(), bind.read_only, bind.propagation.as_str()),
            ("/c/d", true, "rslave")
        );
        assert_eq!(
            parse_bind("data:/v:nocopy").unwrap().source,
            MountSource::Volume("data".into(), BTreeMap::new())
        );
        assert_eq!(parse_bind("/v").unwrap().source, MountSource::Anonymous(BTreeMap::new()));
        for bad in [
            "",
            ":",
            "a:b",
            "/a:/",
            "/a:/b:bad",
            "/a:/b:ro:x",
            "./x:/y",
            ":/x",
            "/a:",
            "/a:/b:nocopy",
            "v:/b:shared",
            "/a:/b:rw,ro",
        ] {
            assert!(parse_bind(bad).is_err(), "{bad}");
        }
        assert!(parse_bind("/a:/..").is_err());
    }

    #[test]
    fn the_long_notation() {
        let mount = |kind: &str, source: &str, target: &str| ferry_api::Mount {
            kind: kind.into(),
            source: source.into(),
            target: target.into(),
            ..Default::default()
        };
        assert!(parse_mount(&mount("bind", "/a", "/b")).unwrap().is_some());
        assert!(parse_mount(&mount("tmpfs", "", "/b")).unwrap().is_none());
        for (kind, source, target) in [
            ("bind", "", "/b"),
            ("bind", "a", "/b"),
            ("bind", "/a", ""),
            ("x", "/a", "/b"),
            ("image", "i", "/b"),
            ("tmpfs", "/a", "/b"),
            ("volume", "a/b", "/c"),
        ] {
            assert!(parse_mount(&mount(kind, source, target)).is_err(), "{kind} {source} {target}");
        }
    }
}
