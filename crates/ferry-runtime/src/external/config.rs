//! From the config ferry writes to one that any runtime understands. Worked on as JSON: what is not named here stays as it is.

use std::path::Path;

use oci_spec::runtime::Mount;
use serde_json::{Map, Value, json};

use super::root::Prepared;
use crate::plan::{MountKind, mount_plan};
use crate::{Error, Stage};

/// The runtime-spec version of what comes out. crun of Debian 12 refuses a higher one, and nothing here needs it.
const OCI_VERSION: &str = "1.0.2";

/// Changes the config and returns what must be mounted, below `mounts`, before it is used: parts of volumes, images, and what
/// belongs to another container, none of which a runtime can mount by itself.
///
/// `netns` is a path of the network namespace to join; `size` that of the terminal.
pub(super) fn adapt(
    config: &mut Value,
    mounts: &Path,
    netns: Option<&str>,
    size: Option<(u16, u16)>,
) -> Result<Vec<Prepared>, Error> {
    if let Some(config) = config.as_object_mut() {
        config.insert("ociVersion".to_owned(), json!(OCI_VERSION));
    }
    if let Some(path) = netns {
        join_network(config, path)?;
    }
    if let Some(process) = config.get_mut("process") {
        set_size(process, size);
    }
    // runc knows `domainname` since 1.2 only; Docker has always set it this way.
    if let Some(name) = config.as_object_mut().and_then(|config| config.remove("domainname")) {
        let sysctls = member(config, "linux")?.entry("sysctl").or_insert_with(|| json!({}));
        if let Some(sysctls) = sysctls.as_object_mut() {
            sysctls.insert("kernel.domainname".to_owned(), name);
        }
    }
    let list = config.get_mut("mounts").and_then(Value::as_array_mut).into_iter().flatten();
    let mut prepared = Vec::new();
    for mount in list {
        if needs_preparation(mount) {
            let place = mounts.join(prepared.len().to_string());
            prepared.push(prepare(mount, &place)?);
        }
    }
    Ok(prepared)
}

/// Makes what is no directory read-only in the plain way, for crun of Debian 12, which looks for mounts below it. The sources
/// must be as the runtime will see them.
pub(super) fn recurse_into_directories_only(config: &mut Value) {
    for mount in config.get_mut("mounts").and_then(Value::as_array_mut).into_iter().flatten() {
        let source = mount["source"].as_str().map(Path::new);
        if mount["type"] == "bind" && source.is_some_and(|source| source.exists() && !source.is_dir()) {
            for option in mount["options"].as_array_mut().into_iter().flatten() {
                if option == "rro" {
                    *option = json!("ro");
                }
            }
        }
    }
}

/// The initial size of a process' terminal.
pub(super) fn set_size(process: &mut Value, size: Option<(u16, u16)>) {
    if let (Some((height, width)), Some(process)) = (size, process.as_object_mut()) {
        process.insert("consoleSize".to_owned(), json!({ "height": height, "width": width }));
    }
}

fn member<'a>(config: &'a mut Value, name: &str) -> Result<&'a mut Map<String, Value>, Error> {
    config
        .get_mut(name)
        .and_then(Value::as_object_mut)
        .ok_or_else(|| Error::invalid(Stage::Config, format!("{name}: section missing in config")))
}

fn join_network(config: &mut Value, path: &str) -> Result<(), Error> {
    let namespaces = member(config, "linux")?.entry("namespaces").or_insert_with(|| json!([]));
    let Some(namespaces) = namespaces.as_array_mut() else {
        return Err(Error::invalid(Stage::Config, "linux.namespaces: not a list"));
    };
    namespaces.retain(|namespace| namespace["type"] != "network");
    namespaces.push(json!({ "type": "network", "path": path }));
    Ok(())
}

fn options(mount: &Value) -> impl Iterator<Item = &str> {
    mount["options"].as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn is_ferrys(option: &str) -> bool {
    option.starts_with("x-ferry.") || option.starts_with("lowerdir+=")
}

fn needs_preparation(mount: &Value) -> bool {
    // In another mount namespace, from which mount(2) takes nothing.
    let foreign = || {
        let source = Path::new(mount["source"].as_str().unwrap_or_default());
        let mut parts = source.strip_prefix("/proc").into_iter().flat_map(Path::components);
        let pid =
            parts.next().is_some_and(|p| p.as_os_str().as_encoded_bytes().iter().all(u8::is_ascii_digit));
        pid && parts.next().is_some_and(|p| p.as_os_str() == "root")
    };
    options(mount).any(is_ferrys) || (mount["type"] == "bind" && foreign())
}

/// Turns a mount into a bind of what will be at `place`.
fn prepare(mount: &mut Value, place: &Path) -> Result<Prepared, Error> {
    let typed: Mount = serde_json::from_value(mount.clone())
        .map_err(|e| Error::invalid(Stage::Config, format!("mounts: {e}")))?;
    // Sources are absolute in what ferry writes.
    let plan = mount_plan(&typed, Path::new("/"))?;
    let bind = match (&plan.kind, plan.options.recursive) {
        (MountKind::Bind { .. }, false) => "bind",
        (MountKind::Bind { .. } | MountKind::Cgroup | MountKind::Fs { .. }, _) => "rbind",
    };
    let kept = options(mount).filter(|o| !is_ferrys(o) && !matches!(*o, "bind" | "rbind"));
    let options: Vec<&str> = std::iter::once(bind).chain(kept).collect();
    *mount = json!({
        "destination": mount["destination"],
        "type": "bind",
        "source": place.to_string_lossy(),
        "options": options,
    });
    Ok(Prepared { plan, place: place.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapted(mut config: Value, netns: Option<&str>) -> (Value, Vec<Prepared>) {
        let prepared = adapt(&mut config, Path::new("/m"), netns, Some((24, 80))).unwrap();
        (config, prepared)
    }

    #[test]
    fn what_only_ferry_knows_is_mounted_beforehand() {
        let ordinary =
            json!({"destination": "/a", "type": "bind", "source": "/s", "options": ["rbind", "ro"]});
        let part = json!({"destination": "/b", "type": "bind", "source": "/v",
                          "options": ["bind", "rprivate", "x-ferry.subpath=d"]});
        let image = json!({"destination": "/c", "type": "overlay", "source": "overlay",
                           "options": ["rprivate", "rro", "lowerdir+=/1", "lowerdir+=/2"]});
        let foreign = json!({"destination": "/dev/shm", "type": "bind", "source": "/proc/7/root/dev/shm",
                             "options": ["bind", "nosuid"]});
        let (config, prepared) = adapted(json!({"mounts": [ordinary, part, image, foreign]}), None);
        assert_eq!(
            config["mounts"],
            json!([
                ordinary,
                {"destination": "/b", "type": "bind", "source": "/m/0", "options": ["bind", "rprivate"]},
                {"destination": "/c", "type": "bind", "source": "/m/1", "options": ["rbind", "rprivate", "rro"]},
                {"destination": "/dev/shm", "type": "bind", "source": "/m/2", "options": ["bind", "nosuid"]},
            ])
        );
        assert_eq!(prepared[0].plan.options.subpath.as_deref(), Some(Path::new("d")));
        assert_eq!(prepared[1].plan.options.data.len(), 2);
        assert_eq!(prepared.len(), 3);
    }

    #[test]
    fn files_have_no_mounts_below() {
        let mut config = json!({"mounts": [
            {"type": "bind", "source": "/dev/null", "options": ["rbind", "rro"]},
            {"type": "bind", "source": "/dev", "options": ["rbind", "rro"]},
            {"type": "tmpfs", "source": "/dev/null", "options": ["rro"]},
        ]});
        recurse_into_directories_only(&mut config);
        let options: Vec<_> = (0..3).map(|i| config["mounts"][i]["options"].clone()).collect();
        assert_eq!(options, [json!(["rbind", "ro"]), json!(["rbind", "rro"]), json!(["rro"])]);
    }

    #[test]
    fn a_bind_of_procfs_is_the_users() {
        for source in ["/proc/sys/root", "/proc", "/proc/7/ns"] {
            assert!(!needs_preparation(&json!({"type": "bind", "source": source, "options": ["rbind"]})));
        }
    }

    #[test]
    fn namespace_name_and_terminal() {
        let namespaces = json!([{"type": "network"}, {"type": "pid"}]);
        let config = json!({"domainname": "d", "process": {}, "linux": {"namespaces": namespaces}});
        let (config, _) = adapted(config, Some("/proc/1/fd/2"));
        assert_eq!(
            config,
            json!({
                "ociVersion": "1.0.2",
                "process": {"consoleSize": {"height": 24, "width": 80}},
                "linux": {
                    "namespaces": [{"type": "pid"}, {"type": "network", "path": "/proc/1/fd/2"}],
                    "sysctl": {"kernel.domainname": "d"},
                },
            })
        );
    }
}
