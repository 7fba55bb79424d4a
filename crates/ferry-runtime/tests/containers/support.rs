//! Making, running and inspecting one test container.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use ferry_runtime::{Container, CreateRequest, Error, Stdio, create};
use ferry_types::Overlay;
use oci_spec::runtime::{Process, Spec};
use rustix::process::{Pid, WaitOptions, waitpid};
use tempfile::TempDir;

const APPLETS: &[&str] = &[
    "cat", "chmod", "dd", "echo", "env", "grep", "head", "hostname", "id", "ls", "mkdir", "mknod", "mount",
    "ps", "pwd", "readlink", "sh", "sleep", "stat", "stty", "tail", "test", "touch", "true", "tty", "umount",
    "wc",
];

/// A container to be: its config and its layers in a temporary directory.
pub struct Fixture {
    pub dir: TempDir,
    pub spec: Spec,
    pub overlay: Overlay,
    pub netns: Option<OwnedFd>,
    pub id: String,
}

/// How a container ended.
#[derive(Debug)]
pub struct Outcome {
    /// As a shell reports it.
    pub code: i32,
    /// Both streams.
    pub output: String,
}

impl Fixture {
    /// Docker's defaults, running `sh -c SCRIPT`.
    pub fn new(script: &str) -> Fixture {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let id = format!("test-{}-{number}", std::process::id());
        let dir = TempDir::new().unwrap();
        let lower = dir.path().join("lower");
        std::fs::create_dir_all(lower.join("bin")).unwrap();
        std::fs::create_dir_all(lower.join("etc")).unwrap();
        std::fs::write(
            lower.join("etc/passwd"),
            "root:x:0:0::/root:/bin/sh\nweb:x:33:33::/var/www:/bin/sh\n",
        )
        .unwrap();
        std::fs::copy("/bin/busybox", lower.join("bin/busybox")).unwrap();
        for applet in APPLETS {
            std::os::unix::fs::symlink("busybox", lower.join("bin").join(applet)).unwrap();
        }
        let (upper, work) = (dir.path().join("upper"), dir.path().join("work"));
        std::fs::create_dir(&upper).unwrap();
        std::fs::create_dir(&work).unwrap();
        let mut spec: Spec = serde_json::from_str(include_str!("../../examples/config.json")).unwrap();
        spec.linux_mut()
            .as_mut()
            .unwrap()
            .set_cgroups_path(Some(Path::new("/ferry-runtime-tests").join(&id)));
        let mut fixture =
            Fixture { dir, spec, overlay: Overlay { lower: vec![lower], upper, work }, netns: None, id };
        fixture.args(&["sh", "-c", script]);
        fixture
    }

    pub fn process(&mut self) -> &mut Process {
        self.spec.process_mut().as_mut().unwrap()
    }

    pub fn args(&mut self, args: &[&str]) {
        self.process().set_args(Some(args.iter().map(|&a| a.to_owned()).collect()));
    }

    /// Replaces a part of the config by JSON pointer.
    pub fn set(&mut self, pointer: &str, value: serde_json::Value) {
        let mut config = serde_json::to_value(&self.spec).unwrap();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        config.pointer_mut(parent).unwrap()[key] = value;
        self.spec = serde_json::from_value(config).unwrap();
    }

    /// Adds a mount.
    pub fn mount(&mut self, mount: serde_json::Value) {
        self.spec.mounts_mut().as_mut().unwrap().push(serde_json::from_value(mount).unwrap());
    }

    pub fn lower(&self) -> PathBuf {
        self.overlay.lower[0].clone()
    }

    pub fn create(&mut self, stdio: Stdio) -> Result<Container, Error> {
        create(CreateRequest {
            id: &self.id,
            bundle: self.dir.path(),
            spec: &self.spec,
            overlay: Some(&self.overlay),
            netns: self.netns.take(),
            stdio,
        })
    }

    /// From creation to removal.
    pub fn run(&mut self) -> Result<Outcome, Error> {
        let (stdio, mut output) = captured();
        let mut container = self.create(stdio)?;
        container.start()?;
        let mut text = Vec::new();
        output.read_to_end(&mut text).unwrap();
        let code = wait(container.pid);
        container.cgroup.remove().unwrap();
        Ok(Outcome { code, output: String::from_utf8_lossy(&text).into_owned() })
    }

    /// The output of a run that must succeed.
    pub fn output(&mut self) -> String {
        let outcome = self.run().unwrap();
        assert_eq!(outcome.code, 0, "{}", outcome.output);
        outcome.output
    }

    /// Whether anything of the container is left on the host.
    pub fn assert_gone(&self) {
        for (_, dir) in ferry_runtime::cgroup::Cgroup::open(&Path::new("/ferry-runtime-tests").join(&self.id))
            .unwrap()
            .paths()
        {
            assert!(!dir.exists(), "{} is left", dir.display());
        }
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        assert!(!mounts.contains(&*self.dir.path().to_string_lossy()), "{mounts}");
    }
}

/// A container that runs until it is dropped.
pub struct Running {
    pub container: Container,
    pub fixture: Fixture,
}

impl Running {
    pub fn start(mut fixture: Fixture) -> Running {
        fixture.args(&["sleep", "1000"]);
        let mut container = fixture.create(null()).unwrap();
        container.start().unwrap();
        Running { container, fixture }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.container.cgroup.kill_all().unwrap();
        wait(self.container.pid);
        self.container.cgroup.remove().unwrap();
    }
}

/// Standard streams whose output can be read.
pub fn captured() -> (Stdio, File) {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let stdin = File::open("/dev/null").unwrap().into();
    (Stdio::Fds { stdin, stdout: write.try_clone().unwrap(), stderr: write }, read.into())
}

pub fn null() -> Stdio {
    let open = || File::options().read(true).write(true).open("/dev/null").unwrap().into();
    Stdio::Fds { stdin: open(), stdout: open(), stderr: open() }
}

/// Waits for a process; its code as a shell reports it.
pub fn wait(pid: i32) -> i32 {
    let (_, status) = waitpid(Pid::from_raw(pid), WaitOptions::empty()).unwrap().unwrap();
    match status.exit_status() {
        Some(code) => code,
        None => 128 + status.terminating_signal().unwrap(),
    }
}
