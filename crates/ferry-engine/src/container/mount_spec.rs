//! `-v` and `--mount`: from their notations to where things are and what they hide.

use std::collections::BTreeMap;

use ferry_api::MountPoint;

use super::record::{MountDetail, ReadOnly};
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
    /// Driver of a new volume; the default when empty.
    pub driver: String,
    /// Options of a new volume.
    pub options: BTreeMap<String, String>,
    pub detail: MountDetail,
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
    /// An image by name.
    Image(String),
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
        driver: String::new(),
        options: BTreeMap::new(),
        detail: MountDetail::default(),
    };
    let is_bind = matches!(request.source, MountSource::Bind(_));
    let mut access = None;
    for option in mode.split(',').filter(|o| !o.is_empty()) {
        if matches!(option, "rw" | "ro") && access.replace(option).is_some() {
            return Err(format!("invalid mode: {mode}"));
        }
        match option {
            "rw" => request.read_only = false,
            "ro" => request.read_only = true,
            "nocopy" if !is_bind => request.no_copy = true,
            "nocopy" => {
                return Err(format!(
                    "{}: invalid mount config for type \"bind\": field VolumeOptions must not be specified",
                    invalid()
                ));
            }
            // Relabelling does nothing on hosts without SELinux, as in Docker.
            "z" | "Z" | "consistent" | "cached" | "delegated" => {}
            p if PROPAGATIONS.contains(&p) && is_bind => p.clone_into(&mut request.propagation),
            p if PROPAGATIONS.contains(&p) => {
                return Err(format!(
                    "{}: invalid mount config for type \"volume\": field BindOptions must not be specified",
                    invalid()
                ));
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
    for (given, of, name) in [
        (mount.bind_options.is_some(), "bind", "BindOptions"),
        (mount.volume_options.is_some(), "volume", "VolumeOptions"),
        (mount.image_options.is_some(), "image", "ImageOptions"),
        (mount.tmpfs_options.is_some(), "tmpfs", "TmpfsOptions"),
    ] {
        if given && mount.kind != of {
            return Err(format!("{name} must not be specified on mount type {:?}", mount.kind));
        }
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
        driver: String::new(),
        options: BTreeMap::new(),
        detail: MountDetail::default(),
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
            request.source = MountSource::Bind(clean(&mount.source));
            if let Some(options) = &mount.bind_options {
                if !options.propagation.is_empty() && !PROPAGATIONS.contains(&options.propagation.as_str()) {
                    return Err(invalid(&format!("invalid propagation mode: {}", options.propagation)));
                }
                request.propagation.clone_from(&options.propagation);
                request.create_source = options.create_mountpoint;
                request.detail.non_recursive = options.non_recursive;
                request.detail.read_only =
                    match (options.read_only_non_recursive, options.read_only_force_recursive) {
                        (true, _) => ReadOnly::Top,
                        (false, true) => ReadOnly::Forced,
                        (false, false) => ReadOnly::Recursive,
                    };
            }
        }
        "volume" => {
            let options = mount.volume_options.clone().unwrap_or_default();
            if !options.subpath.is_empty() && mount.source.is_empty() {
                return Err(invalid("must not set Subpath when using anonymous volumes"));
            }
            request.detail.subpath = subpath(&options.subpath).map_err(|why| invalid(&why))?;
            if let Some(driver) = options.driver_config {
                request.driver = driver.name;
                request.options = driver.options.into_map();
            }
            request.no_copy = options.no_copy;
            let labels = options.labels.into_map();
            request.source = if mount.source.is_empty() {
                // As Docker shows it.
                request.mode = "z".to_owned();
                MountSource::Anonymous(labels)
            } else {
                MountSource::Volume(mount.source.clone(), labels)
            };
        }
        "image" => {
            if mount.source.is_empty() {
                return Err(invalid("field Source must not be empty"));
            }
            let options = mount.image_options.clone().unwrap_or_default();
            request.detail.subpath = subpath(&options.subpath).map_err(|why| invalid(&why))?;
            request.read_only = true;
            request.source = MountSource::Image(mount.source.clone());
        }
        "tmpfs" => {
            if !mount.source.is_empty() {
                return Err(invalid("field Source must not be specified"));
            }
            for option in mount.tmpfs_options.iter().flat_map(|o| o.options.iter()) {
                match option.as_ref() {
                    [flag] if flag == "exec" || flag == "noexec" => {}
                    [name] | [name, _] => return Err(invalid(&format!("invalid option: {name}"))),
                    _ => return Err(invalid("invalid option array length")),
                }
            }
            return Ok(None);
        }
        _ => return Err(invalid("mount type unknown")),
    }
    Ok(Some(request))
}

/// A path within a volume or image: relative, and not leading out by its letters.
fn subpath(path: &str) -> Result<String, String> {
    if path.is_empty() {
        return Ok(String::new());
    }
    let mut depth = 0_i32;
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => depth -= 1,
            _ => depth += 1,
        }
        if depth < 0 || path.starts_with('/') {
            return Err("subpath must be a relative path within the volume".to_owned());
        }
    }
    Ok(clean(path).trim_start_matches('/').to_owned())
}

/// `--volumes-from CONTAINER[:MODE]`: the container, whether its mounts become read-only, and the mode.
pub(crate) fn parse_volumes_from(spec: &str) -> Result<(&str, bool, &str), String> {
    if spec.is_empty() {
        return Err("volumes-from specification cannot be an empty string".to_owned());
    }
    let Some((name, mode)) = spec.split_once(':') else { return Ok((spec, false, "")) };
    let known = |m: &str| matches!(m, "ro" | "rw" | "z" | "Z" | "consistent" | "cached" | "delegated");
    if !mode.split(',').all(known) {
        return Err(format!("invalid mode: {mode}"));
    }
    Ok((name, mode.split(',').any(|m| m == "ro"), mode))
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
            ("image", "", "/b"),
            ("cluster", "i", "/b"),
            ("tmpfs", "/a", "/b"),
        ] {
            assert!(parse_mount(&mount(kind, source, target)).is_err(), "{kind} {source} {target}");
        }
    }

    #[test]
    fn options_of_the_long_notation() {
        let mount = |kind: &str, json: &str| -> ferry_api::Mount {
            let text = format!(r#"{{"Type":"{kind}","Source":"src","Target":"/b",{json}}}"#);
            serde_json::from_str(&text).unwrap()
        };
        let volume = |json: &str| parse_mount(&mount("volume", json)).map(Option::unwrap);
        let inside =
            volume(r#""VolumeOptions":{"Subpath":"a/./b","DriverConfig":{"Options":{"type":"tmpfs"}}}"#);
        let inside = inside.unwrap();
        assert_eq!(inside.detail.subpath, "a/b");
        assert_eq!(inside.options["type"], "tmpfs");
        for bad in ["../x", "/a", "a/../../x"] {
            let error = volume(&format!(r#""VolumeOptions":{{"Subpath":"{bad}"}}"#)).unwrap_err();
            assert!(error.ends_with("subpath must be a relative path within the volume"), "{error}");
        }
        assert_eq!(
            volume(r#""BindOptions":{}"#).unwrap_err(),
            "BindOptions must not be specified on mount type \"volume\""
        );
        let image = parse_mount(&mount("image", r#""ImageOptions":{"Subpath":"etc"}"#)).unwrap().unwrap();
        assert!(image.read_only && image.source == MountSource::Image("src".into()));
    }

    #[test]
    fn volumes_of_other_containers() {
        assert_eq!(parse_volumes_from("c"), Ok(("c", false, "")));
        assert_eq!(parse_volumes_from("c:ro,z"), Ok(("c", true, "ro,z")));
        assert!(parse_volumes_from("").is_err() && parse_volumes_from("c:bad").is_err());
    }
}
