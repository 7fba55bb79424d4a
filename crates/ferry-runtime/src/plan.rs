//! A config checked and digested before anything is touched.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use ferry_sys::process as sys;
use ferry_sys::seccomp::SockFilter;
use oci_spec::runtime::{
    Capability, LinuxCapabilities, LinuxDevice, LinuxNamespaceType, Mount, PosixRlimit, PosixRlimitType,
    Process, Spec,
};
use rustix::fs::{Mode, OFlags, open};
use rustix::mount::MountPropagationFlags;
use rustix::thread::CapabilitySet;

use crate::error::At;
use crate::hooks::HookPlan;
use crate::options::{MountOptions, root_propagation};
use crate::{Error, Stage};

/// One mount to make.
#[derive(Debug)]
pub(crate) struct MountPlan {
    pub destination: PathBuf,
    pub kind: MountKind,
    pub options: MountOptions,
}

#[derive(Debug)]
pub(crate) enum MountKind {
    /// A bind of a path of the host.
    Bind { source: PathBuf },
    /// The container's view of the control groups.
    Cgroup,
    /// A file system of its own.
    Fs { fstype: String, source: String },
}

/// Everything the container's first process needs, besides the process it becomes.
#[derive(Debug)]
pub(crate) struct Plan {
    pub id: String,
    /// `CLONE_NEW*` to pass to clone3.
    pub clone_flags: u64,
    /// Namespaces to join, with their type, in the order to join them in.
    pub join: Vec<(OwnedFd, u64)>,
    /// Pid namespace the caller enters before it clones.
    pub join_pid: Option<OwnedFd>,
    /// New control group namespace, made once the process is in its group.
    pub new_cgroupns: bool,
    /// Whether the container's network namespace is a fresh one, whose loopback is down.
    pub bring_lo_up: bool,
    pub rootfs: PathBuf,
    pub root_readonly: bool,
    pub root_propagation: MountPropagationFlags,
    pub mounts: Vec<MountPlan>,
    pub devices: Vec<LinuxDevice>,
    pub masked: Vec<PathBuf>,
    pub readonly: Vec<PathBuf>,
    pub hostname: Option<String>,
    pub domainname: Option<String>,
    pub sysctl: Vec<(String, String)>,
    pub process: ProcessPlan,
    pub hooks: Option<HookPlan>,
}

/// A process to become.
#[derive(Debug)]
pub(crate) struct ProcessPlan {
    pub args: Vec<CString>,
    pub env: Vec<CString>,
    pub cwd: PathBuf,
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub umask: u32,
    /// Bounding, permitted, effective, inheritable, ambient; `None` keeps what the caller has.
    pub caps: Option<CapPlan>,
    pub rlimits: Vec<PosixRlimit>,
    pub no_new_privileges: bool,
    pub oom_score_adj: Option<i32>,
    pub apparmor: Option<String>,
    pub selinux: Option<String>,
    pub seccomp: Option<(Vec<SockFilter>, u32)>,
    pub personality: Option<u32>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct CapPlan {
    pub bounding: CapabilitySet,
    pub permitted: CapabilitySet,
    pub effective: CapabilitySet,
    pub inheritable: CapabilitySet,
    pub ambient: CapabilitySet,
}

fn invalid(message: impl Into<String>) -> Error {
    Error::invalid(Stage::Config, message)
}

impl Plan {
    /// Digests a config. `netns` wins over the config's network namespace.
    pub fn new(id: &str, bundle: &Path, spec: &Spec, netns: Option<OwnedFd>) -> Result<Plan, Error> {
        let linux = spec.linux().as_ref().ok_or_else(|| invalid("linux: section missing in config"))?;
        let process = spec.process().as_ref().ok_or_else(|| invalid("process: section missing in config"))?;
        let root = spec.root().as_ref().ok_or_else(|| invalid("root: section missing in config"))?;
        refuse_unsupported(spec)?;

        let mut plan = Plan {
            id: id.to_owned(),
            clone_flags: 0,
            join: Vec::new(),
            join_pid: None,
            new_cgroupns: false,
            bring_lo_up: false,
            rootfs: bundle.join(root.path()),
            root_readonly: root.readonly().unwrap_or(false),
            root_propagation: MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC,
            mounts: Vec::new(),
            devices: linux.devices().clone().unwrap_or_default(),
            masked: linux.masked_paths().iter().flatten().map(PathBuf::from).collect(),
            readonly: linux.readonly_paths().iter().flatten().map(PathBuf::from).collect(),
            hostname: spec.hostname().clone().filter(|name| !name.is_empty()),
            domainname: spec.domainname().clone().filter(|name| !name.is_empty()),
            sysctl: linux.sysctl().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect(),
            process: ProcessPlan::new(process, spec)?,
            hooks: HookPlan::new(id, bundle, spec)?,
        };
        if let Some(value) = linux.rootfs_propagation().as_deref().filter(|v| !v.is_empty()) {
            plan.root_propagation = root_propagation(value)
                .ok_or_else(|| invalid(format!("rootfsPropagation: unknown value {value:?}")))?;
        }
        plan.namespaces(spec, netns)?;
        let own = |flag: u64| plan.clone_flags & flag != 0 || plan.join.iter().any(|(_, kind)| *kind == flag);
        for (key, _) in &plan.sysctl {
            crate::sysctl::check(
                key,
                own(sys::CLONE_NEWIPC),
                own(sys::CLONE_NEWNET),
                own(sys::CLONE_NEWUTS),
            )?;
        }
        for mount in spec.mounts().iter().flatten() {
            plan.mounts.push(mount_plan(mount, bundle)?);
        }
        Ok(plan)
    }

    fn namespaces(&mut self, spec: &Spec, mut netns: Option<OwnedFd>) -> Result<(), Error> {
        let mut seen = 0u64;
        for ns in spec.linux().iter().flat_map(|l| l.namespaces().iter().flatten()) {
            let flag = ns.typ() as u64;
            if seen & flag != 0 {
                return Err(invalid(format!("namespace {} is listed twice", ns.typ())));
            }
            seen |= flag;
            let path = ns.path().as_ref().filter(|p| !p.as_os_str().is_empty());
            if ns.typ() == LinuxNamespaceType::Network
                && let Some(fd) = netns.take()
            {
                self.join.push((fd, flag));
            } else if let Some(path) = path {
                if ns.typ() == LinuxNamespaceType::Mount {
                    return Err(invalid("joining an existing mount namespace is not supported"));
                }
                let fd = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                    .at(Stage::Namespaces, || format!("open {} namespace {}", ns.typ(), path.display()))?;
                match ns.typ() {
                    LinuxNamespaceType::Pid => self.join_pid = Some(fd),
                    // The user namespace owns the others, so it is joined first.
                    LinuxNamespaceType::User => self.join.insert(0, (fd, flag)),
                    _ => self.join.push((fd, flag)),
                }
            } else {
                match ns.typ() {
                    LinuxNamespaceType::Cgroup => self.new_cgroupns = true,
                    LinuxNamespaceType::Network => {
                        self.bring_lo_up = true;
                        self.clone_flags |= flag;
                    }
                    LinuxNamespaceType::User | LinuxNamespaceType::Time => {
                        return Err(invalid(format!("a new {} namespace is not supported yet", ns.typ())));
                    }
                    _ => self.clone_flags |= flag,
                }
            }
        }
        if let Some(fd) = netns {
            self.join.push((fd, sys::CLONE_NEWNET));
        }
        if self.clone_flags & sys::CLONE_NEWNS == 0 {
            return Err(invalid("a container without its own mount namespace is not supported"));
        }
        if (self.hostname.is_some() || self.domainname.is_some()) && seen & sys::CLONE_NEWUTS == 0 {
            return Err(invalid("unable to set hostname without a private UTS namespace"));
        }
        Ok(())
    }
}

/// Names what the config asks for and this runtime does not do, rather than ignoring it.
fn refuse_unsupported(spec: &Spec) -> Result<(), Error> {
    let unsupported = |what: &str| Err(invalid(format!("{what} is not supported")));
    if let Some(linux) = spec.linux() {
        if linux.intel_rdt().is_some() {
            return unsupported("linux.intelRdt");
        }
        if linux.memory_policy().is_some() {
            return unsupported("linux.memoryPolicy");
        }
        if linux.net_devices().as_ref().is_some_and(|d| !d.is_empty()) {
            return unsupported("linux.netDevices");
        }
        if linux.time_offsets().as_ref().is_some_and(|o| !o.is_empty()) {
            return unsupported("linux.timeOffsets");
        }
    }
    Ok(())
}

pub(crate) fn mount_plan(mount: &Mount, bundle: &Path) -> Result<MountPlan, Error> {
    let destination = mount.destination().clone();
    let options = MountOptions::parse(mount.options().as_deref().unwrap_or_default());
    let fstype = mount.typ().as_deref().unwrap_or_default();
    let what = destination.display();
    if !destination.is_absolute() {
        return Err(invalid(format!("mount destination {what} is not absolute")));
    }
    if options.idmap.is_some() || mount.uid_mappings().is_some() || mount.gid_mappings().is_some() {
        return Err(invalid(format!("mount {what}: id-mapped mounts are not supported")));
    }
    if options.copy_up {
        return Err(invalid(format!("mount {what}: tmpcopyup is not supported")));
    }
    let source = mount.source().as_deref();
    let kind = if options.bind || fstype == "bind" {
        let source = source
            .filter(|s| !s.as_os_str().is_empty())
            .ok_or_else(|| invalid(format!("mount {what}: bind mount without a source")))?;
        if !options.data.is_empty() {
            return Err(invalid(format!("mount {what}: unknown options {:?}", options.data)));
        }
        MountKind::Bind { source: bundle.join(source) }
    } else {
        match fstype {
            "" | "none" => return Err(invalid(format!("mount {what}: type missing"))),
            "cgroup" | "cgroup2" => MountKind::Cgroup,
            fstype => MountKind::Fs {
                fstype: fstype.to_owned(),
                source: source.map_or_else(|| fstype.to_owned(), |s| s.to_string_lossy().into_owned()),
            },
        }
    };
    Ok(MountPlan { destination, kind, options })
}

impl ProcessPlan {
    /// Digests a process of `spec`'s container: its init or an exec.
    pub fn new(process: &Process, spec: &Spec) -> Result<ProcessPlan, Error> {
        let strings = |what: &str, values: &[String]| {
            values
                .iter()
                .map(|value| CString::new(value.as_str()))
                .collect::<Result<Vec<_>, _>>()
                .map_err(|_| invalid(format!("process.{what} contains a null byte")))
        };
        let args = strings("args", process.args().as_deref().unwrap_or_default())?;
        if args.is_empty() {
            return Err(invalid("args must not be empty"));
        }
        let cwd = process.cwd().clone();
        if !cwd.is_absolute() {
            return Err(invalid("Cwd must be an absolute path"));
        }
        if process.scheduler().is_some()
            || process.io_priority().is_some()
            || process.exec_cpu_affinity().is_some()
        {
            return Err(invalid("process.scheduler, ioPriority and execCPUAffinity are not supported"));
        }
        let user = process.user();
        let label = |value: &Option<String>| value.clone().filter(|v| !v.is_empty());
        let linux = spec.linux().as_ref();
        let seccomp = match linux.and_then(|l| l.seccomp().as_ref()) {
            Some(profile) => Some((crate::seccomp::compile(profile)?, crate::seccomp::flags(profile))),
            None => None,
        };
        let personality = linux.and_then(|l| l.personality().as_ref()).map(personality).transpose()?;
        Ok(ProcessPlan {
            args,
            env: strings("env", process.env().as_deref().unwrap_or_default())?,
            cwd,
            uid: user.uid(),
            gid: user.gid(),
            groups: user.additional_gids().clone().unwrap_or_default(),
            umask: user.umask().unwrap_or(0o022),
            caps: process.capabilities().as_ref().map(CapPlan::new),
            rlimits: process.rlimits().clone().unwrap_or_default(),
            no_new_privileges: process.no_new_privileges().unwrap_or(false),
            oom_score_adj: process.oom_score_adj(),
            apparmor: label(process.apparmor_profile()),
            selinux: label(process.selinux_label()),
            seccomp,
            personality,
        })
    }
}

fn personality(value: &oci_spec::runtime::LinuxPersonality) -> Result<u32, Error> {
    use oci_spec::runtime::LinuxPersonalityDomain;
    if value.flags().as_ref().is_some_and(|flags| !flags.is_empty()) {
        return Err(invalid("linux.personality.flags are not supported"));
    }
    Ok(match value.domain() {
        LinuxPersonalityDomain::PerLinux => 0,
        LinuxPersonalityDomain::PerLinux32 => 8,
    })
}

impl CapPlan {
    fn new(caps: &LinuxCapabilities) -> CapPlan {
        let set = |names: &Option<oci_spec::runtime::Capabilities>| {
            names.iter().flatten().fold(CapabilitySet::empty(), |set, &cap| {
                set | CapabilitySet::from_bits_retain(1 << capability_number(cap))
            })
        };
        CapPlan {
            bounding: set(caps.bounding()),
            permitted: set(caps.permitted()),
            effective: set(caps.effective()),
            inheritable: set(caps.inheritable()),
            ambient: set(caps.ambient()),
        }
    }
}

/// The number of a capability (linux/capability.h).
pub(crate) fn capability_number(cap: Capability) -> u32 {
    match cap {
        Capability::Chown => 0,
        Capability::DacOverride => 1,
        Capability::DacReadSearch => 2,
        Capability::Fowner => 3,
        Capability::Fsetid => 4,
        Capability::Kill => 5,
        Capability::Setgid => 6,
        Capability::Setuid => 7,
        Capability::Setpcap => 8,
        Capability::LinuxImmutable => 9,
        Capability::NetBindService => 10,
        Capability::NetBroadcast => 11,
        Capability::NetAdmin => 12,
        Capability::NetRaw => 13,
        Capability::IpcLock => 14,
        Capability::IpcOwner => 15,
        Capability::SysModule => 16,
        Capability::SysRawio => 17,
        Capability::SysChroot => 18,
        Capability::SysPtrace => 19,
        Capability::SysPacct => 20,
        Capability::SysAdmin => 21,
        Capability::SysBoot => 22,
        Capability::SysNice => 23,
        Capability::SysResource => 24,
        Capability::SysTime => 25,
        Capability::SysTtyConfig => 26,
        Capability::Mknod => 27,
        Capability::Lease => 28,
        Capability::AuditWrite => 29,
        Capability::AuditControl => 30,
        Capability::Setfcap => 31,
        Capability::MacOverride => 32,
        Capability::MacAdmin => 33,
        Capability::Syslog => 34,
        Capability::WakeAlarm => 35,
        Capability::BlockSuspend => 36,
        Capability::AuditRead => 37,
        Capability::Perfmon => 38,
        Capability::Bpf => 39,
        Capability::CheckpointRestore => 40,
    }
}

/// The number of a resource limit (asm-generic/resource.h; the same on x86_64 and aarch64).
pub(crate) fn rlimit_number(kind: PosixRlimitType) -> u32 {
    match kind {
        PosixRlimitType::RlimitCpu => 0,
        PosixRlimitType::RlimitFsize => 1,
        PosixRlimitType::RlimitData => 2,
        PosixRlimitType::RlimitStack => 3,
        PosixRlimitType::RlimitCore => 4,
        PosixRlimitType::RlimitRss => 5,
        PosixRlimitType::RlimitNproc => 6,
        PosixRlimitType::RlimitNofile => 7,
        PosixRlimitType::RlimitMemlock => 8,
        PosixRlimitType::RlimitAs => 9,
        PosixRlimitType::RlimitLocks => 10,
        PosixRlimitType::RlimitSigpending => 11,
        PosixRlimitType::RlimitMsgqueue => 12,
        PosixRlimitType::RlimitNice => 13,
        PosixRlimitType::RlimitRtprio => 14,
        PosixRlimitType::RlimitRttime => 15,
    }
}
