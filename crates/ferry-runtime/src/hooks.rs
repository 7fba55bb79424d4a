//! Hooks of the OCI config (runtime-spec `config.md`, "POSIX-platform Hooks").

use std::fs::File;
use std::io::{Seek, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use oci_spec::runtime::{Hook, Hooks, Spec};
use rustix::fs::{MemfdFlags, memfd_create};
use serde::Serialize;

use crate::error::At;
use crate::{Error, Stage};

/// The container's state as hooks read it from stdin (runtime-spec `runtime.md`, "State").
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HookState {
    oci_version: String,
    id: String,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    bundle: PathBuf,
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    annotations: std::collections::BTreeMap<String, String>,
}

/// A config's hooks, with what they are told.
#[derive(Debug, Clone)]
pub(crate) struct HookPlan {
    hooks: Hooks,
    state: HookState,
}

impl HookPlan {
    /// `None` when the config has no hooks, which is the usual case.
    pub fn new(id: &str, bundle: &Path, spec: &Spec) -> Result<Option<HookPlan>, Error> {
        let Some(hooks) = spec.hooks().clone() else { return Ok(None) };
        let plan = HookPlan {
            hooks,
            state: HookState {
                oci_version: spec.version().clone(),
                id: id.to_owned(),
                status: "creating",
                pid: None,
                bundle: bundle.to_owned(),
                annotations: spec
                    .annotations()
                    .iter()
                    .flatten()
                    .map(|(k, v)| (k.clone(), v.clone()))
                    .collect(),
            },
        };
        if let Some(hook) = plan.all().find(|hook| !hook.path().is_absolute()) {
            let path = hook.path().display();
            return Err(Error::invalid(Stage::Config, format!("hook path {path} is not absolute")));
        }
        if plan.all().any(|hook| hook.timeout().is_some_and(|t| t <= 0)) {
            return Err(Error::invalid(Stage::Config, "hook timeout must be greater than zero"));
        }
        Ok(Some(plan))
    }

    #[allow(deprecated)] // prestart hooks are, but must still run
    fn all(&self) -> impl Iterator<Item = &Hook> {
        let hooks = &self.hooks;
        [
            hooks.prestart(),
            hooks.create_runtime(),
            hooks.create_container(),
            hooks.start_container(),
            hooks.poststart(),
            hooks.poststop(),
        ]
        .into_iter()
        .flat_map(|list| list.iter().flatten())
    }

    /// In the caller's namespaces, once the container's exist.
    #[allow(deprecated)] // as above
    pub fn create_runtime(&self, pid: i32) -> Result<(), Error> {
        self.run("prestart", self.hooks.prestart(), "creating", Some(pid))?;
        self.run("createRuntime", self.hooks.create_runtime(), "creating", Some(pid))
    }

    /// In the container's namespaces, before its root becomes `/`.
    pub fn create_container(&self, pid: i32) -> Result<(), Error> {
        self.run("createContainer", self.hooks.create_container(), "creating", Some(pid))
    }

    /// In the container, before the user's program.
    pub fn start_container(&self, pid: i32) -> Result<(), Error> {
        self.run("startContainer", self.hooks.start_container(), "created", Some(pid))
    }

    /// In the caller's namespaces, once the program runs.
    pub fn poststart(&self, pid: i32) -> Result<(), Error> {
        self.run("poststart", self.hooks.poststart(), "running", Some(pid))
    }

    /// In the caller's namespaces, once the container is gone.
    pub fn poststop(&self) -> Result<(), Error> {
        self.run("poststop", self.hooks.poststop(), "stopped", None)
    }

    /// Whether the caller has hooks to run while init waits.
    #[allow(deprecated)] // as above
    pub fn has_create_runtime(&self) -> bool {
        [self.hooks.prestart(), self.hooks.create_runtime()]
            .iter()
            .any(|l| l.as_ref().is_some_and(|l| !l.is_empty()))
    }

    fn run(
        &self,
        kind: &str,
        hooks: &Option<Vec<Hook>>,
        status: &'static str,
        pid: Option<i32>,
    ) -> Result<(), Error> {
        let Some(hooks) = hooks.as_ref().filter(|hooks| !hooks.is_empty()) else { return Ok(()) };
        let state = HookState { status, pid, ..self.state.clone() };
        let state = serde_json::to_vec(&state)
            .map_err(|_| Error::invalid(Stage::Hook, "the state for the hooks cannot be encoded"))?;
        for (index, hook) in hooks.iter().enumerate() {
            run_one(&format!("{kind} hook #{index}"), hook, &state)?;
        }
        Ok(())
    }
}

/// Runs a container's `poststop` hooks, after its resources are released.
pub fn run_poststop_hooks(id: &str, bundle: &Path, spec: &Spec) -> Result<(), Error> {
    match HookPlan::new(id, bundle, spec)? {
        Some(plan) => plan.poststop(),
        None => Ok(()),
    }
}

fn run_one(what: &str, hook: &Hook, state: &[u8]) -> Result<(), Error> {
    let at = || format!("error running {what} {}", hook.path().display());
    let mut command = Command::new(hook.path());
    command.env_clear().stdin(Stdio::from(stdin_with(state).at(Stage::Hook, at)?));
    command.stdout(Stdio::null()).stderr(Stdio::null());
    if let Some((name, rest)) = hook.args().as_deref().and_then(<[String]>::split_first) {
        command.arg0(name).args(rest);
    }
    for entry in hook.env().iter().flatten() {
        if let Some((key, value)) = entry.split_once('=') {
            command.env(key, value);
        }
    }
    let mut child = command.spawn().at(Stage::Hook, at)?;
    let deadline =
        hook.timeout().and_then(|t| u64::try_from(t).ok()).map(|t| Instant::now() + Duration::from_secs(t));
    let status = loop {
        let Some(deadline) = deadline else { break child.wait().at(Stage::Hook, at)? };
        if let Some(status) = child.try_wait().at(Stage::Hook, at)? {
            break status;
        }
        if Instant::now() >= deadline {
            // It may have ended this very moment; either way it is reaped below.
            drop(child.kill());
            drop(child.wait());
            return Err(Error::system(Stage::Hook, at(), rustix::io::Errno::TIMEDOUT));
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    if status.success() {
        return Ok(());
    }
    Err(Error::invalid(Stage::Hook, format!("{}: {status}", at())))
}

/// A file rather than a pipe: a hook that does not read it must not matter.
fn stdin_with(state: &[u8]) -> std::io::Result<File> {
    let mut file = File::from(memfd_create("state", MemfdFlags::CLOEXEC)?);
    file.write_all(state)?;
    file.rewind()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(hooks: &str) -> Result<HookPlan, Error> {
        let spec = format!(r#"{{"ociVersion":"1.2.0","hooks":{hooks},"annotations":{{"a":"b"}}}}"#);
        let spec: Spec = serde_json::from_str(&spec).unwrap();
        HookPlan::new("some-id", Path::new("/bundle"), &spec).map(Option::unwrap)
    }

    #[test]
    fn hooks_read_the_state_and_have_the_given_environment_only() {
        let script = r#"s=$(cat); [ "$X" = y ] && [ -z "$HOME" ] && case $s in *'"id":"some-id","status":"creating","pid":7'*) exit 0;; esac; exit 1"#;
        let hooks =
            serde_json::json!({"createRuntime":[{"path":"/bin/sh","args":["sh","-c",script],"env":["X=y"]}]});
        plan(&hooks.to_string()).unwrap().create_runtime(7).unwrap();
    }

    #[test]
    fn failures_and_timeouts_are_reported() {
        let hooks = r#"{"createRuntime":[{"path":"/bin/false"}],"poststop":[{"path":"/bin/sleep","args":["sleep","9"],"timeout":1}]}"#;
        let plan = plan(hooks).unwrap();
        assert!(plan.create_runtime(7).unwrap_err().to_string().contains("createRuntime hook #0 /bin/false"));
        assert!(plan.poststop().unwrap_err().to_string().contains("timed out"));
    }

    #[test]
    fn relative_paths_are_refused() {
        assert!(plan(r#"{"poststart":[{"path":"true"}]}"#).is_err());
    }
}
