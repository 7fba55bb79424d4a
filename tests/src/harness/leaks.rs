//! What engines may leave on the host: mounts, cgroups, network namespaces, links, firewall elements,
//! directories, processes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::process;

/// What can be seen on the host at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    cgroups: BTreeSet<String>,
    namespaces: BTreeSet<String>,
    links: BTreeSet<String>,
    shims: BTreeSet<i32>,
    tables: BTreeSet<String>,
    run: BTreeSet<String>,
}

impl Host {
    /// Looks.
    pub fn look() -> Self {
        Self {
            cgroups: container_cgroups().into_iter().map(|path| path.display().to_string()).collect(),
            namespaces: network_namespaces(),
            links: names_in("/sys/class/net").collect(),
            shims: processes_named("ferry-shim").into_iter().collect(),
            tables: firewall().lines().filter(|line| line.starts_with("table")).map(str::to_owned).collect(),
            run: names_in("/run").filter(|name| name.starts_with("ferry-t")).collect(),
        }
    }

    /// What is there now that was not there then. Teardown may go on for a moment after an answer, so
    /// this looks again until `patience` is over.
    pub fn left_behind(&self, patience: Duration) -> Vec<String> {
        let deadline = Instant::now() + patience;
        loop {
            let found = self.difference(&Self::look());
            if found.is_empty() || Instant::now() > deadline {
                return found;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn difference(&self, now: &Self) -> Vec<String> {
        let kinds = [
            ("cgroup", &self.cgroups, &now.cgroups),
            ("network namespace", &self.namespaces, &now.namespaces),
            ("link", &self.links, &now.links),
            ("firewall", &self.tables, &now.tables),
            ("directory /run/", &self.run, &now.run),
        ];
        let mut found: Vec<String> = kinds
            .iter()
            .flat_map(|(kind, then, now)| now.difference(then).map(move |name| format!("{kind} {name}")))
            .collect();
        found.extend(now.shims.difference(&self.shims).map(|pid| format!("process ferry-shim {pid}")));
        found
    }
}

/// What one engine keeps for its containers, as numbers that must come back to where they were.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Footprint {
    mounts: usize,
    ports: usize,
    elements: usize,
    shims: usize,
    entries: BTreeSet<PathBuf>,
}

impl Footprint {
    /// Of the engine with these directories, this bridge and containers in the /24 of `prefix`
    /// (`10.0.0.`).
    pub fn look(dirs: &[&Path], bridge: &str, prefix: &str) -> Self {
        let run = dirs.last().map(|dir| dir.display().to_string()).unwrap_or_default();
        let mut entries = BTreeSet::new();
        for dir in dirs {
            list(dir, dir, 4, &mut entries);
        }
        Self {
            mounts: mounts_below(dirs).len(),
            ports: names_in(format!("/sys/class/net/{bridge}/brif")).count(),
            elements: firewall().matches(prefix).count(),
            shims: processes_named("ferry-shim").into_iter().filter(|pid| mentions(*pid, &run)).count(),
            entries,
        }
    }

    /// What grew since; empty when nothing did.
    pub fn growth(&self, now: &Self) -> Vec<String> {
        let mut found = Vec::new();
        let numbers = [
            ("mounts", self.mounts, now.mounts),
            ("bridge ports", self.ports, now.ports),
            ("mentions in the firewall", self.elements, now.elements),
            ("shims", self.shims, now.shims),
        ];
        for (what, then, now) in numbers {
            if now > then {
                found.push(format!("{now} {what}, {then} before"));
            }
        }
        found.extend(
            now.entries.difference(&self.entries).take(10).map(|path| format!("new: {}", path.display())),
        );
        found
    }
}

fn list(root: &Path, dir: &Path, depth: usize, into: &mut BTreeSet<PathBuf>) {
    for name in names_in(dir) {
        let path = dir.join(name);
        // Logs and databases change, but they are one file each.
        if depth > 1 && path.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
            list(root, &path, depth - 1, into);
        }
        into.insert(path.strip_prefix(root).unwrap_or(&path).to_owned());
    }
}

/// Mount points below any of the directories, from `/proc/self/mountinfo`.
pub fn mounts_below(dirs: &[impl AsRef<Path>]) -> Vec<String> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split(' ').nth(4))
        .filter(|point| {
            dirs.iter().any(|dir| Path::new(point).starts_with(dir) && Path::new(point) != dir.as_ref())
        })
        .map(str::to_owned)
        .collect()
}

/// Control groups named after a container: with a 64-digit id in the name.
pub fn container_cgroups() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![(PathBuf::from("/sys/fs/cgroup"), 0)];
    while let Some((dir, depth)) = todo.pop() {
        for name in names_in(&dir) {
            let path = dir.join(&name);
            if depth < 5 && path.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
                if has_container_id(&name) {
                    found.push(path);
                } else {
                    todo.push((path, depth + 1));
                }
            }
        }
    }
    found
}

fn has_container_id(name: &str) -> bool {
    name.split(|c: char| !c.is_ascii_hexdigit()).any(|part| part.len() == 64)
}

/// Network namespaces that a process is in.
fn network_namespaces() -> BTreeSet<String> {
    names_in("/proc")
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        .filter_map(|pid| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok())
        .map(|link| link.display().to_string())
        .collect()
}

/// The host's nftables rules; empty where nft(8) is not installed.
pub fn firewall() -> String {
    let mut command = Command::new("nft");
    command.args(["list", "ruleset"]);
    process::run(command).map(|output| output.stdout).unwrap_or_default()
}

/// Pids of all processes with this name.
pub fn processes_named(name: &str) -> Vec<i32> {
    names_in("/proc")
        .filter_map(|entry| entry.parse::<i32>().ok())
        .filter(|pid| {
            std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim_end() == name)
        })
        .collect()
}

/// Whether a process has a file below `dir` open, its working directory there, or names it in its
/// arguments.
pub fn mentions(pid: i32, dir: &str) -> bool {
    let links = names_in(format!("/proc/{pid}/fd")).map(|fd| format!("/proc/{pid}/fd/{fd}"));
    let by_link = links
        .chain([format!("/proc/{pid}/cwd")])
        .filter_map(|link| std::fs::read_link(link).ok())
        .any(|target| target.starts_with(dir));
    let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let sockets = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
    by_link || String::from_utf8_lossy(&arguments).contains(dir) || listens_below(pid, dir, &sockets)
}

/// Whether one of a process's unix sockets is bound to a path below `dir`.
fn listens_below(pid: i32, dir: &str, sockets: &str) -> bool {
    let own: BTreeSet<String> = names_in(format!("/proc/{pid}/fd"))
        .filter_map(|fd| std::fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    sockets.lines().skip(1).any(|line| {
        let mut fields = line.split_whitespace();
        let inode = fields.nth(6);
        let path = fields.next();
        inode.is_some_and(|inode| own.contains(inode))
            && path.is_some_and(|path| Path::new(path).starts_with(dir))
    })
}

fn names_in(dir: impl AsRef<Path>) -> impl Iterator<Item = String> {
    std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn container_ids_are_seen_in_names() {
        let id = "0123456789abcdef".repeat(4);
        assert!(has_container_id(&id));
        assert!(has_container_id(&format!("ferry-{id}.scope")));
        assert!(!has_container_id(&id[1..]));
        assert!(!has_container_id("user.slice"));
    }

    #[test]
    fn what_is_new_is_found() {
        let then = Host::look();
        let mut now = then.clone();
        now.links.insert("veth123".to_owned());
        now.shims.insert(4242);
        assert_eq!(then.difference(&now), ["link veth123", "process ferry-shim 4242"]);
        assert!(now.difference(&then).is_empty());
    }
}
