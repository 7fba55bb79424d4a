//! What engines may leave on the host: mounts, cgroups, network namespaces, links, firewall elements,
//! directories, processes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::process;

/// The control group all engines of this run make those of their containers in.
pub fn cgroup_parent() -> String {
    format!("/ferry-t{}", std::process::id())
}

/// What the engines of this run have on the host. Other engines may be at work meanwhile, so only what
/// bears this run's name counts, and links that belong to nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    ours: BTreeSet<String>,
    links: BTreeSet<String>,
}

impl Host {
    /// Looks.
    pub fn look() -> Self {
        let (name, bridge) =
            (format!("ferry-t{}", std::process::id()), format!("ft{}-", std::process::id() % 100_000));
        let mut ours: BTreeSet<String> = container_cgroups()
            .into_iter()
            .filter(|path| path.iter().any(|part| part == name.as_str()))
            .map(|path| format!("cgroup {}", path.display()))
            .collect();
        let rules = firewall();
        let tables = rules.lines().filter(|line| line.starts_with("table") && line.contains(&bridge));
        ours.extend(tables.map(str::to_owned));
        ours.extend(
            names_in("/run")
                .filter(|entry| entry.starts_with(&format!("{name}-")))
                .map(|entry| format!("/run/{entry}")),
        );
        let shims = processes_named("ferry-shim");
        ours.extend(
            shims
                .iter()
                .filter(|pid| mentions(**pid, &format!("/run/{name}-")))
                .map(|pid| format!("shim {pid}")),
        );
        let links = names_in("/sys/class/net").filter(|link| {
            // A port of somebody else's bridge is theirs.
            let master = std::fs::read_link(format!("/sys/class/net/{link}/master"));
            master.is_err() || link.starts_with(&bridge)
        });
        Self { ours, links: links.collect() }
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
        let links = now.links.difference(&self.links).map(|name| format!("link {name}"));
        now.ours.difference(&self.ours).cloned().chain(links).collect()
    }
}

/// Removes the control group of this run from each hierarchy, once it is empty.
pub fn remove_cgroup_parent() {
    let name = cgroup_parent();
    let name = name.trim_start_matches('/');
    let hierarchies = names_in("/sys/fs/cgroup").map(|entry| Path::new("/sys/fs/cgroup").join(entry));
    for hierarchy in hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]) {
        // Not there, or, when something was left behind, not empty: the search for leaks has said so.
        let _ = std::fs::remove_dir(hierarchy.join(name));
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
        now.ours.insert("shim 4242".to_owned());
        assert_eq!(then.difference(&now), ["shim 4242", "link veth123"]);
        assert!(now.difference(&then).is_empty());
    }
}
