//! `--security-opt`: which confinement a container gets.

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// Which system calls a container may make.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum SeccompChoice {
    /// ferry's default list, which follows Docker's.
    #[default]
    Default,
    /// Every call.
    Unconfined,
    /// A profile in Docker's format.
    Profile(String),
}

/// Parsed security options.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SecurityOptions {
    pub no_new_privileges: bool,
    pub seccomp: SeccompChoice,
    pub apparmor: Option<String>,
    /// Whether the container may write to its control groups; as privileged says when absent.
    pub writable_cgroups: Option<bool>,
    /// Nothing masked, nothing read-only under /proc and /sys.
    pub unconfined_paths: bool,
}

/// Reads `--security-opt` values; the error texts are Docker's.
pub(crate) fn parse(options: &[String]) -> Result<SecurityOptions, String> {
    let mut parsed = SecurityOptions::default();
    for option in options {
        if option == "no-new-privileges" {
            parsed.no_new_privileges = true;
            continue;
        }
        if option == "writable-cgroups" {
            parsed.writable_cgroups = Some(true);
            continue;
        }
        if option == "disable" {
            // An SELinux label without its key, from API versions before 1.23; labels are off anyway.
            continue;
        }
        let (key, value) = option
            .split_once('=')
            .or_else(|| option.split_once(':'))
            .ok_or_else(|| format!("invalid --security-opt 1: {option:?}"))?;
        match key {
            "no-new-privileges" => {
                parsed.no_new_privileges =
                    go_bool(value).ok_or_else(|| format!("invalid --security-opt 2: {option:?}"))?;
            }
            "seccomp" => {
                parsed.seccomp = match value {
                    "unconfined" => SeccompChoice::Unconfined,
                    "builtin" => SeccompChoice::Default,
                    profile => SeccompChoice::Profile(profile.to_owned()),
                }
            }
            "apparmor" if value == "unconfined" => {}
            "apparmor" => parsed.apparmor = Some(apparmor(value)?),
            "label" if value == "disable" => {}
            "label" => {
                return Err(
                    "SELinux labels (--security-opt label=…) are not supported by ferry yet".to_owned()
                );
            }
            "systempaths" if value == "unconfined" => parsed.unconfined_paths = true,
            "writable-cgroups" => {
                let value = go_bool(value).ok_or_else(|| format!("invalid --security-opt 2: {option:?}"))?;
                parsed.writable_cgroups = Some(value);
            }
            _ => return Err(format!("invalid --security-opt 2: {option:?}")),
        }
    }
    if let SeccompChoice::Profile(profile) = &parsed.seccomp {
        // Checked now, so that a bad profile fails the create and not the start.
        profile_to_oci(profile, &[], "")?;
    }
    Ok(parsed)
}

/// What the daemon's settings say, as options that come before a container's own.
pub(crate) fn defaults(config: &crate::EngineConfig) -> Vec<String> {
    let mut options = Vec::new();
    if config.no_new_privileges {
        options.push("no-new-privileges".to_owned());
    }
    match &config.seccomp {
        crate::DefaultSeccomp::Builtin => {}
        crate::DefaultSeccomp::Unconfined => options.push("seccomp=unconfined".to_owned()),
        crate::DefaultSeccomp::Profile { json, .. } => options.push(format!("seccomp={json}")),
    }
    options
}

/// A container's options over the daemon's. A privileged container has no profile but its own.
pub(crate) fn resolve(
    defaults: &[String],
    own: &[String],
    privileged: bool,
) -> Result<SecurityOptions, String> {
    if defaults.is_empty() {
        return parse(own);
    }
    let inherited = defaults.iter().filter(|o| !(privileged && o.starts_with("seccomp=")));
    parse(&inherited.chain(own).cloned().collect::<Vec<_>>())
}

/// What Go's `strconv.ParseBool` takes.
fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn apparmor(profile: &str) -> Result<String, String> {
    if Path::new("/sys/kernel/security/apparmor").exists() {
        Ok(profile.to_owned())
    } else {
        Err(format!("AppArmor profile {profile:?} was asked for, but the host's kernel has no AppArmor"))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: String,
    #[serde(default)]
    default_errno_ret: Option<u32>,
    #[serde(default)]
    architectures: Vec<String>,
    #[serde(default)]
    arch_map: Vec<ArchMap>,
    #[serde(default)]
    flags: Vec<String>,
    #[serde(default)]
    listener_path: Option<String>,
    #[serde(default)]
    syscalls: Vec<ProfileRule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchMap {
    architecture: String,
    #[serde(default)]
    sub_architectures: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProfileRule {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    names: Vec<String>,
    action: String,
    #[serde(default)]
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Option<Vec<Value>>,
    #[serde(default)]
    includes: Option<Filter>,
    #[serde(default)]
    excludes: Option<Filter>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Filter {
    #[serde(default)]
    caps: Vec<String>,
    #[serde(default)]
    arches: Vec<String>,
    #[serde(default)]
    min_kernel: Option<String>,
}

/// Translates a profile in Docker's format (rules that depend on capabilities, architecture and kernel) into the OCI
/// object for a container with `caps` on a kernel of `release` (`uname -r`).
pub(crate) fn profile_to_oci(profile: &str, caps: &[&str], release: &str) -> Result<Arc<RawValue>, String> {
    let profile: Profile =
        serde_json::from_str(profile).map_err(|e| format!("Decoding seccomp profile failed: {e}"))?;
    if !profile.arch_map.is_empty() && !profile.architectures.is_empty() {
        return Err("both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or 'archMap'".to_owned());
    }
    let native = native_arch();
    let architectures = match profile.arch_map.iter().find(|m| m.architecture == native.1) {
        Some(map) => std::iter::once(map.architecture.clone())
            .chain(map.sub_architectures.clone().unwrap_or_default())
            .collect(),
        None => profile.architectures,
    };
    let mut syscalls = Vec::new();
    for rule in profile.syscalls {
        if rule.name.is_some() && !rule.names.is_empty() {
            return Err(
                "both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'"
                    .to_owned(),
            );
        }
        let excluded = rule.excludes.as_ref().is_some_and(|f| {
            f.arches.iter().any(|a| a == native.0)
                || f.caps.iter().any(|c| caps.contains(&c.as_str()))
                || f.min_kernel.as_ref().is_some_and(|k| kernel_at_least(release, k))
        });
        let included = rule.includes.as_ref().is_none_or(|f| {
            (f.arches.is_empty() || f.arches.iter().any(|a| a == native.0))
                && f.caps.iter().all(|c| caps.contains(&c.as_str()))
                && f.min_kernel.as_ref().is_none_or(|k| kernel_at_least(release, k))
        });
        if excluded || !included {
            continue;
        }
        let names = rule.name.map_or(rule.names, |n| vec![n]);
        let mut oci = json!({ "names": names, "action": rule.action });
        if let Some(errno) = rule.errno_ret {
            oci["errnoRet"] = errno.into();
        }
        if let Some(args) = rule.args.filter(|a| !a.is_empty()) {
            oci["args"] = args.into();
        }
        syscalls.push(oci);
    }
    let mut oci = json!({ "defaultAction": profile.default_action, "architectures": architectures, "syscalls": syscalls });
    if let Some(errno) = profile.default_errno_ret {
        oci["defaultErrnoRet"] = errno.into();
    }
    if !profile.flags.is_empty() {
        oci["flags"] = profile.flags.into();
    }
    if let Some(listener) = profile.listener_path {
        oci["listenerPath"] = listener.into();
    }
    let typed: oci_spec::runtime::LinuxSeccomp =
        serde_json::from_value(oci).map_err(|e| format!("Decoding seccomp profile failed: {e}"))?;
    serde_json::value::to_raw_value(&typed).map(Arc::from).map_err(|e| e.to_string())
}

/// Docker's and libseccomp's names of the architecture this runs on.
fn native_arch() -> (&'static str, &'static str) {
    match std::env::consts::ARCH {
        "x86_64" => ("amd64", "SCMP_ARCH_X86_64"),
        "aarch64" => ("arm64", "SCMP_ARCH_AARCH64"),
        other => (other, ""),
    }
}

fn kernel_at_least(release: &str, wanted: &str) -> bool {
    let numbers = |s: &str| -> Vec<u32> {
        s.split(|c: char| !c.is_ascii_digit()).take(2).map(|n| n.parse().unwrap_or(0)).collect()
    };
    numbers(release) >= numbers(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(list: &[&str]) -> Result<SecurityOptions, String> {
        parse(&list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn known_options() {
        let parsed = options(&["no-new-privileges", "seccomp=unconfined", "systempaths=unconfined"]).unwrap();
        assert!(parsed.no_new_privileges && parsed.unconfined_paths);
        assert_eq!(parsed.seccomp, SeccompChoice::Unconfined);
        assert!(!options(&["no-new-privileges=false", "label=disable"]).unwrap().no_new_privileges);
    }

    #[test]
    fn unknown_and_malformed_options_are_refused() {
        for bad in
            ["x", "x=y", "no-new-privileges=maybe", "seccomp={", "label=type:x", "seccomp={\"syscalls\":[]}"]
        {
            assert!(options(&[bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn profiles_depend_on_capabilities_and_kernel() {
        let profile = r#"{"defaultAction":"SCMP_ACT_ERRNO","archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]}],
            "syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW"},
              {"names":["mount"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_SYS_ADMIN"]}},
              {"names":["ptrace"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"4.8"}},
              {"names":["clone"],"action":"SCMP_ACT_ALLOW","excludes":{"caps":["CAP_SYS_ADMIN"]}}]}"#;
        let names = |caps: &[&str], release: &str| {
            let oci: Value =
                serde_json::from_str(profile_to_oci(profile, caps, release).unwrap().get()).unwrap();
            let names = oci["syscalls"]
                .as_array()
                .unwrap()
                .iter()
                .map(|s| s["names"][0].as_str().unwrap().to_owned());
            names.collect::<Vec<_>>()
        };
        assert_eq!(names(&[], "4.7.0"), ["read", "clone"]);
        assert_eq!(names(&["CAP_SYS_ADMIN"], "6.1.0-1-amd64"), ["read", "mount", "ptrace"]);
    }
}
