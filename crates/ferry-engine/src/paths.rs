//! Where everything of an engine lies. The only place that joins these paths.

use std::path::{Path, PathBuf};

use ferry_types::{ContainerId, ExecId};

/// The layout of one engine's data root and run root.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    data: PathBuf,
    run: PathBuf,
}

impl Paths {
    pub fn new(data: PathBuf, run: PathBuf) -> Self {
        Self { data, run }
    }

    pub fn data_root(&self) -> &Path {
        &self.data
    }

    /// The init of containers that ask for one.
    pub fn init_program(&self) -> PathBuf {
        self.data.join("docker-init")
    }

    /// The metadata database.
    pub fn database(&self) -> PathBuf {
        self.data.join("ferry.redb")
    }

    /// Held with flock(2) while an engine owns the data root.
    pub fn lock(&self) -> PathBuf {
        self.data.join("lock")
    }

    /// Root of what does not survive the host's next boot.
    pub fn run_root(&self) -> &Path {
        &self.run
    }

    /// Held with flock(2) while an engine owns the exec root.
    pub fn run_lock(&self) -> PathBuf {
        self.run.join("lock")
    }

    /// Records of users' networks.
    pub fn networks(&self) -> PathBuf {
        self.data.join("networks")
    }

    /// Where the name server of containers is reached.
    pub fn name_socket(&self) -> PathBuf {
        self.run.join("names.sock")
    }

    /// The image store's root.
    pub fn images(&self) -> PathBuf {
        self.data.join("image")
    }

    /// A layer between image and container that has what every container mounts something onto, so that these
    /// places are no changes of the container's (Docker's "init layer").
    pub fn mount_points(&self) -> PathBuf {
        self.data.join("mount-points")
    }

    /// What was damaged and set aside.
    pub fn lost_found(&self) -> PathBuf {
        self.data.join("lost+found")
    }

    /// All volumes.
    pub fn volumes(&self) -> PathBuf {
        self.data.join("volumes")
    }

    /// All containers' durable directories.
    pub fn containers(&self) -> PathBuf {
        self.data.join("containers")
    }

    /// Scratch files; cleared when an engine opens.
    pub fn tmp(&self) -> PathBuf {
        self.data.join("tmp")
    }

    /// One container's durable directory.
    pub fn container(&self, id: &ContainerId) -> ContainerDir {
        ContainerDir(self.containers().join(id.as_str()))
    }

    /// All containers' run directories.
    pub fn run_containers(&self) -> PathBuf {
        self.run.join("containers")
    }

    /// One container's run directory. Named by 32 digits of the id: the path of a unix socket in it must fit
    /// into 108 bytes (unix(7)).
    pub fn bundle(&self, id: &ContainerId) -> BundleDir {
        BundleDir(self.run_containers().join(&id.as_str()[..32]))
    }
}

/// A container's durable directory.
#[derive(Debug, Clone)]
pub(crate) struct ContainerDir(PathBuf);

impl ContainerDir {
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The durable record, see `container::record`.
    pub fn record(&self) -> PathBuf {
        self.0.join("container.json")
    }

    /// Written by the shim when the init process has ended.
    pub fn exit_record(&self) -> PathBuf {
        self.0.join("exit.json")
    }

    /// The log, at the path and in the format tools know from Docker.
    pub fn log(&self) -> PathBuf {
        let id = self.0.file_name().unwrap_or_default().to_string_lossy();
        self.0.join(format!("{id}-json.log"))
    }

    /// The log of the `local` driver.
    pub fn local_log(&self) -> PathBuf {
        self.0.join("local-logs").join("container.log")
    }

    /// What `logs` reads when the driver sends the log elsewhere.
    pub fn cached_log(&self) -> PathBuf {
        self.0.join("container-cached.log")
    }

    pub fn upper(&self) -> PathBuf {
        self.0.join("upper")
    }

    pub fn work(&self) -> PathBuf {
        self.0.join("work")
    }

    pub fn hosts(&self) -> PathBuf {
        self.0.join("hosts")
    }

    pub fn hostname(&self) -> PathBuf {
        self.0.join("hostname")
    }

    pub fn resolv_conf(&self) -> PathBuf {
        self.0.join("resolv.conf")
    }
}

/// A container's run directory: its OCI bundle and the shim's files.
#[derive(Debug, Clone)]
pub(crate) struct BundleDir(PathBuf);

impl BundleDir {
    /// The run directory at a path, whoever it belongs to.
    pub fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The OCI runtime-spec configuration.
    pub fn config(&self) -> PathBuf {
        self.0.join("config.json")
    }

    /// Mount point of the root file system, inside the container's mount namespace only.
    pub fn rootfs(&self) -> PathBuf {
        self.0.join("rootfs")
    }

    pub fn socket(&self) -> PathBuf {
        self.0.join("shim.sock")
    }

    pub fn pid_file(&self) -> PathBuf {
        self.0.join("shim.pid")
    }

    /// The process object of the health check's probes.
    pub fn probe(&self) -> PathBuf {
        self.0.join("probe.json")
    }

    /// What the probes found, for the next engine.
    pub fn health(&self) -> PathBuf {
        self.0.join("health.json")
    }

    pub fn exec_process(&self, id: &ExecId) -> PathBuf {
        self.0.join(format!("exec-{}.json", id.short()))
    }
}
