//! What a CDI device adds to a container (CDI specification, "containerEdits"), and adding it.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};
use serde::{Deserialize, Serialize};

use super::CdiError;
use crate::spec::devices;
use crate::spec::document::{Device, Mount};

/// One set of edits.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(crate) struct ContainerEdits {
    /// `NAME=value`.
    pub env: Vec<String>,
    device_nodes: Vec<DeviceNode>,
    mounts: Vec<CdiMount>,
    hooks: Vec<CdiHook>,
    additional_gids: Vec<u32>,
    intel_rdt: Option<serde_json::Value>,
    net_devices: Vec<serde_json::Value>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DeviceNode {
    path: String,
    #[serde(default)]
    host_path: String,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    major: i64,
    #[serde(default)]
    minor: i64,
    file_mode: Option<u32>,
    #[serde(default)]
    permissions: String,
    uid: Option<u32>,
    gid: Option<u32>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CdiMount {
    host_path: PathBuf,
    container_path: PathBuf,
    #[serde(default)]
    options: Vec<String>,
    #[serde(default, rename = "type")]
    kind: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CdiHook {
    hook_name: String,
    path: PathBuf,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: Vec<String>,
    timeout: Option<i64>,
}

/// A hook as the runtime-spec writes it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Hook {
    path: PathBuf,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    args: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    env: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<i64>,
}

/// Hooks by the moment they run (runtime-spec `config.md`, "POSIX-platform Hooks").
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Hooks {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    prestart: Vec<Hook>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    create_runtime: Vec<Hook>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    create_container: Vec<Hook>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    start_container: Vec<Hook>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    poststart: Vec<Hook>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    poststop: Vec<Hook>,
}

/// The parts of a container's document that edits change.
pub(crate) struct Target<'a> {
    /// The container's user, whom nodes without an owner belong to.
    pub uid: u32,
    pub gid: u32,
    pub env: &'a mut Vec<String>,
    pub additional_gids: &'a mut Vec<u32>,
    pub nodes: &'a mut Vec<Device>,
    pub rules: &'a mut Vec<LinuxDeviceCgroup>,
    pub mounts: &'a mut Vec<Mount>,
    pub hooks: &'a mut Hooks,
}

const HOOKS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

impl ContainerEdits {
    /// Checks what can be checked without looking at the host.
    pub fn check(&self) -> Result<(), String> {
        if let Some(env) = self.env.iter().find(|e| e.find('=').is_none_or(|at| at == 0)) {
            return Err(format!("invalid env {env:?}"));
        }
        for node in &self.device_nodes {
            if node.path.is_empty() {
                return Err("a device node without a path".to_owned());
            }
            if !matches!(node.kind.as_str(), "" | "b" | "c" | "u" | "p") {
                return Err(format!("device node {}: invalid type {:?}", node.path, node.kind));
            }
            if !node.permissions.bytes().all(|b| b"rwm".contains(&b)) {
                return Err(format!("device node {}: invalid permissions {:?}", node.path, node.permissions));
            }
        }
        for hook in &self.hooks {
            if !HOOKS.contains(&hook.hook_name.as_str()) {
                return Err(format!("invalid hook name {:?}", hook.hook_name));
            }
            if !hook.path.is_absolute() {
                return Err(format!("hook path {} is not absolute", hook.path.display()));
            }
        }
        let relative = self.mounts.iter().find(|m| !m.container_path.is_absolute());
        relative.map_or(Ok(()), |m| Err(format!("mount to {} is not absolute", m.container_path.display())))
    }

    /// Adds the edits of `device`.
    pub fn apply(self, device: &str, target: &mut Target<'_>) -> Result<(), CdiError> {
        let missing = |what| CdiError::NotSupported { device: device.to_owned(), what };
        if self.intel_rdt.is_some() {
            return Err(missing("Intel RDT settings"));
        }
        if !self.net_devices.is_empty() {
            return Err(missing("network devices"));
        }
        for variable in self.env {
            let name = variable.split('=').next().unwrap_or_default();
            target.env.retain(|known| known.split('=').next() != Some(name));
            target.env.push(variable);
        }
        for node in &self.device_nodes {
            node.apply(device, target)?;
        }
        for mount in self.mounts {
            target.mounts.retain(|known| known.destination != mount.container_path);
            target.mounts.push(mount.to_oci(device)?);
        }
        for hook in self.hooks {
            let list = match hook.hook_name.as_str() {
                "prestart" => &mut target.hooks.prestart,
                "createRuntime" => &mut target.hooks.create_runtime,
                "createContainer" => &mut target.hooks.create_container,
                "startContainer" => &mut target.hooks.start_container,
                "poststart" => &mut target.hooks.poststart,
                _ => &mut target.hooks.poststop,
            };
            list.push(Hook { path: hook.path, args: hook.args, env: hook.env, timeout: hook.timeout });
        }
        for gid in self.additional_gids {
            // 0 is the spec's way of saying nothing.
            if gid != 0 && !target.additional_gids.contains(&gid) {
                target.additional_gids.push(gid);
            }
        }
        Ok(())
    }
}

impl DeviceNode {
    /// Fills in from the host's node what the file leaves open.
    fn apply(&self, device: &str, target: &mut Target<'_>) -> Result<(), CdiError> {
        let error =
            |reason: String| CdiError::Node { device: device.to_owned(), path: self.path.clone(), reason };
        let host = if self.host_path.is_empty() { &self.path } else { &self.host_path };
        let known = self.kind == "p" || (!self.kind.is_empty() && (self.major != 0 || self.minor != 0));
        let mut node = if known {
            let kind = match self.kind.as_str() {
                "b" => "b",
                "p" => return Err(error("FIFOs are not supported by ferry".to_owned())),
                _ => "c",
            };
            let path = PathBuf::from(&self.path);
            Device { path, kind, major: self.major, minor: self.minor, file_mode: 0o666, uid: 0, gid: 0 }
        } else {
            let metadata = std::fs::metadata(host)
                .map_err(|e| error(format!("{host}: {}", devices::plain_reason(&e))))?;
            let node = devices::node(&metadata, PathBuf::from(&self.path));
            let node = node.ok_or_else(|| error(format!("{host} is not a device node")))?;
            if !self.kind.is_empty() && self.kind.replace('u', "c") != node.kind {
                return Err(error(format!("{host} is of type {}, not {}", node.kind, self.kind)));
            }
            node
        };
        node.file_mode = self.file_mode.map_or(node.file_mode, |mode| mode & 0o7777);
        node.uid = self.uid.unwrap_or(if target.uid > 0 { target.uid } else { node.uid });
        node.gid = self.gid.unwrap_or(if target.gid > 0 { target.gid } else { node.gid });
        let access = if self.permissions.is_empty() { "rwm" } else { &self.permissions };
        let kind = if node.kind == "b" { LinuxDeviceType::B } else { LinuxDeviceType::C };
        let rule = devices::rule(true, kind, Some(node.major), Some(node.minor), access).map_err(error)?;
        target.rules.push(rule);
        target.nodes.retain(|known| known.path != node.path);
        target.nodes.push(node);
        Ok(())
    }
}

impl CdiMount {
    fn to_oci(&self, device: &str) -> Result<Mount, CdiError> {
        let recursive = self.options.iter().any(|o| o == "rbind");
        let kind = match self.kind.as_str() {
            "" | "bind" | "none" => "bind",
            "tmpfs" => "tmpfs",
            "proc" => "proc",
            "sysfs" => "sysfs",
            other => {
                return Err(CdiError::MountKind { device: device.to_owned(), kind: other.to_owned() });
            }
        };
        let mut options = self.options.clone();
        if kind == "bind" && !recursive && !options.iter().any(|o| o == "bind") {
            options.insert(0, "bind".to_owned());
        }
        Ok(Mount {
            destination: self.container_path.clone(),
            kind,
            source: Path::new(&self.host_path).to_owned(),
            options,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_added_and_nodes_filled_in() {
        let edits: ContainerEdits = serde_json::from_value(serde_json::json!({
            "env": ["A=new"],
            "deviceNodes": [{"path": "/dev/thing", "hostPath": "/dev/null", "permissions": "rw"}],
            "mounts": [{"hostPath": "/etc", "containerPath": "/vendor", "options": ["ro"]}],
            "hooks": [{"hookName": "createContainer", "path": "/bin/true", "args": ["true"]}],
            "additionalGids": [0, 44],
        }))
        .unwrap();
        edits.check().unwrap();
        let (mut env, mut gids) = (vec!["A=old".to_owned(), "B=1".to_owned()], vec![44]);
        let (mut nodes, mut rules, mut mounts) = (Vec::new(), Vec::new(), Vec::new());
        let mut hooks = Hooks::default();
        let mut target = Target {
            uid: 5,
            gid: 0,
            env: &mut env,
            additional_gids: &mut gids,
            nodes: &mut nodes,
            rules: &mut rules,
            mounts: &mut mounts,
            hooks: &mut hooks,
        };
        edits.apply("a/b=c", &mut target).unwrap();
        assert_eq!(env, ["B=1", "A=new"]);
        assert_eq!(gids, [44]);
        let node = &nodes[0];
        assert_eq!((node.major, node.minor, node.kind, node.uid), (1, 3, "c", 5));
        assert_eq!(rules[0].access().as_deref(), Some("rw"));
        assert_eq!(mounts[0].options, ["bind", "ro"]);
        let hooks = serde_json::to_value(&hooks).unwrap();
        let wanted = serde_json::json!({"createContainer": [{"path": "/bin/true", "args": ["true"]}]});
        assert_eq!(hooks, wanted);
    }
}
