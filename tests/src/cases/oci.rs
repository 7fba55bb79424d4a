//! `ferry oci`: the runtime alone, driven as podman and containerd drive a runtime.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use super::{cases, check, equal};
use crate::harness::process::{self, Output};
use crate::harness::{Case, Ctx, archive, eventually};

pub fn cases() -> Vec<Case> {
    cases!("oci", Nothing, [run, create_start_kill_delete, exec, errors, state_of_a_missing_one])
}

/// A bundle and the runtime's state directory, removed in the end.
struct Bundle {
    /// The container's, unique because its control group is named after it.
    id: String,
    dir: PathBuf,
    ferry: PathBuf,
}

impl Bundle {
    fn new(t: &Ctx, args: &[&str]) -> Result<Self> {
        let dir = t.path("bundle");
        archive::unpack(&t.settings.busybox, &dir.join("rootfs"))?;
        let namespaces: Vec<Value> =
            ["pid", "ipc", "uts", "mount", "network"].iter().map(|kind| json!({"type": kind})).collect();
        let config = json!({
            "ociVersion": "1.2.0",
            "process": {
                "terminal": false, "user": {"uid": 0, "gid": 0}, "args": args, "cwd": "/",
                "env": ["PATH=/bin"], "noNewPrivileges": true,
                "capabilities": {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"]},
            },
            "root": {"path": "rootfs", "readonly": false},
            "hostname": "bundle",
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755"]},
                {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666"]},
            ],
            "linux": {"namespaces": namespaces, "resources": {"devices": [{"allow": false, "access": "rwm"}]}, "maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/proc/sys"]},
        });
        archive::save(&dir, "config.json", config.to_string().as_bytes())?;
        Ok(Self { id: t.name("oci"), dir, ferry: t.settings.ferry() })
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.ferry);
        command.arg("oci").arg("--root").arg(self.dir.join("state")).args(args);
        command
    }

    fn oci(&self, args: &[&str]) -> Result<Output> {
        process::run(self.command(args))
    }

    fn state(&self, id: &str) -> Result<Value> {
        Ok(serde_json::from_str(&process::ok(self.command(&["state", id]))?)?)
    }

    /// `create` leaves the container's stdio with the container: pipes would never end.
    fn create(&self) -> Result<()> {
        let id = self.id.as_str();
        let pid_file = self.dir.join("pid");
        let log = std::fs::File::create(self.dir.join("out"))?;
        let mut command =
            self.command(&["create", "--bundle", &self.dir.display().to_string(), "--pid-file"]);
        command.arg(&pid_file).arg(id).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let status = process::wait(&mut command.spawn()?, Duration::from_secs(10))?;
        let text = std::fs::read_to_string(self.dir.join("out"))?;
        check!(status.success(), "create ended with {status}: {text}");
        let pid: i32 = std::fs::read_to_string(pid_file)?.trim().parse()?;
        equal!(self.state(id)?["pid"].as_i64(), Some(i64::from(pid)));
        Ok(())
    }

    fn path(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let _ = self.oci(&["delete", "--force", &self.id]);
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn run(t: &Ctx) -> Result<()> {
    let bundle = Bundle::new(t, &["sh", "-c", "hostname; echo $$; exit 6"])?;
    let id = bundle.id.clone();
    let dir = bundle.path().display().to_string();
    bundle.oci(&["run", "--bundle", &dir, &id])?.code(6)?.stdout("bundle\n1")?;
    Ok(())
}

fn create_start_kill_delete(t: &Ctx) -> Result<()> {
    let bundle = Bundle::new(t, &["sh", "-c", "echo begun; exec sleep 1000"])?;
    let id = bundle.id.clone();
    bundle.create()?;
    let state = bundle.state(&id)?;
    equal!(state["status"].as_str(), Some("created"));
    equal!(state["bundle"].as_str(), bundle.path().to_str());
    equal!(std::fs::read_to_string(bundle.dir.join("out"))?, "");
    bundle.oci(&["start", &id])?.code(0)?;
    eventually("it has begun", Duration::from_secs(5), || {
        Ok(std::fs::read_to_string(bundle.dir.join("out"))? == "begun\n")
    })?;
    equal!(bundle.state(&id)?["status"].as_str(), Some("running"));
    check!(bundle.oci(&["delete", &id])?.code != 0, "a running container was deleted");
    bundle.oci(&["kill", &id, "KILL"])?.code(0)?;
    eventually("it is stopped", Duration::from_secs(5), || Ok(bundle.state(&id)?["status"] == "stopped"))?;
    bundle.oci(&["delete", &id])?.code(0)?;
    check!(bundle.oci(&["state", &id])?.code != 0, "it is still known");
    Ok(())
}

fn exec(t: &Ctx) -> Result<()> {
    let bundle = Bundle::new(t, &["sleep", "1000"])?;
    let id = bundle.id.clone();
    bundle.create()?;
    bundle.oci(&["start", &id])?.code(0)?;
    bundle.oci(&["exec", &id, "sh", "-c", "hostname; exit 4"])?.code(4)?.stdout("bundle")?;
    bundle.oci(&["delete", "--force", &id])?.code(0)?;
    Ok(())
}

fn errors(t: &Ctx) -> Result<()> {
    let bundle = Bundle::new(t, &["no-such-program"])?;
    let id = bundle.id.clone();
    let dir = bundle.path().display().to_string();
    let output = bundle.oci(&["run", "--bundle", &dir, &id])?;
    check!(output.code != 0 && output.stderr.contains("no-such-program"), "{output}");
    check!(bundle.oci(&["state", &id])?.code != 0, "a container that never ran is known");
    let output = bundle.oci(&["run", "--bundle", "/no/such/bundle", &id])?;
    check!(output.code != 0 && output.stderr.contains("/no/such/bundle"), "{output}");
    Ok(())
}

fn state_of_a_missing_one(t: &Ctx) -> Result<()> {
    let bundle = Bundle::new(t, &["true"])?;
    for verb in ["state", "start", "delete"] {
        let output = bundle.oci(&[verb, "nope"])?;
        check!(output.code != 0 && output.stderr.contains("does not exist"), "{output}");
    }
    bundle.oci(&["delete", "--force", "nope"])?.code(0)?;
    Ok(())
}
