//! Where things are on this host: the repository, cargo's target directory, places for caches and data.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::sh;

/// Magic numbers (statfs(2)) of file systems that cannot hold an overlay's upper directory.
const NO_UPPER_DIR: [i64; 6] = [
    0x794c_7630, // overlay
    0x6969,      // nfs
    0x0102_1997, // 9p
    0x6573_5546, // fuse, virtiofs
    0xf15f,      // ecryptfs
    0x00ff_534d, // cifs
];

/// The root of the repository.
pub fn workspace() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_owned()
}

/// Cargo's target directory, as cargo itself resolves it.
pub fn target_dir() -> Result<PathBuf> {
    #[derive(serde::Deserialize)]
    struct Metadata {
        target_directory: PathBuf,
    }
    let json = sh::capture(&mut cargo(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: Metadata = serde_json::from_str(&json).context("cannot read `cargo metadata`")?;
    Ok(metadata.target_directory)
}

/// The cargo that runs us, in the repository. What `cargo run` put into our environment is left out:
/// build scripts that look at it would run again, and half of the dependencies with them, each time
/// somebody calls cargo directly.
pub fn cargo<'a>(args: impl IntoIterator<Item = &'a str>) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = sh::cmd(program, args);
    command.current_dir(workspace());
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        let ours =
            ["CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH", "CARGO_CRATE_NAME", "CARGO_BIN_NAME", "OUT_DIR"];
        if name.starts_with("CARGO_PKG_") || name.starts_with("DEP_") || ours.contains(&&*name) {
            command.env_remove(&*name);
        }
    }
    command
}

/// A directory for what is expensive to make again (fixture images, fetched packages); it lives in
/// the target directory, so that `cargo clean` removes it.
pub fn cache_dir() -> Result<PathBuf> {
    let dir = target_dir()?.join("ferry-cache");
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    Ok(dir)
}

/// The first candidate whose file system can hold an engine's data root; it is created.
pub fn data_dir(candidates: &[PathBuf]) -> Result<PathBuf> {
    let mut refused = Vec::new();
    for dir in candidates {
        if let Err(error) = std::fs::create_dir_all(dir) {
            refused.push(format!("{}: {error}", dir.display()));
            continue;
        }
        match rustix::fs::statfs(dir) {
            Ok(stat) if !NO_UPPER_DIR.contains(&stat.f_type) => return Ok(dir.clone()),
            Ok(stat) => refused.push(format!(
                "{}: file system type {:#x} cannot hold containers",
                dir.display(),
                stat.f_type
            )),
            Err(error) => refused.push(format!("{}: {error}", dir.display())),
        }
    }
    bail!("no place for the engine's data: {}", refused.join("; "))
}

/// Refuses to go on without root's rights, naming the command that has them.
pub fn require_root(chore: &str) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("this needs root: run `sudo -E cargo xtask {chore}`");
    }
    Ok(())
}

/// The host's architecture as Debian names it.
pub fn debian_arch() -> Result<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => bail!("ferry is not built for {other}"),
    }
}

/// A value of `/etc/os-release`.
pub fn os_release(key: &str) -> Option<String> {
    let text = std::fs::read_to_string("/etc/os-release").ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
        .map(|value| value.trim_matches('"').to_owned())
}

/// The first of the /24 networks that overlaps no route of the host, except routes of `bridge` itself.
pub fn free_subnet(candidates: &[Ipv4Addr], bridge: &str) -> Option<Ipv4Addr> {
    let table = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    let routes = parse_routes(&table, bridge);
    candidates.iter().copied().find(|candidate| {
        let net = u32::from(*candidate) & 0xffff_ff00;
        routes.iter().all(|&(dest, mask)| {
            let common = mask & 0xffff_ff00;
            mask == 0 || net & common != dest & common
        })
    })
}

/// Destination and mask of each IPv4 route in `/proc/net/route` (proc_pid_net(5)), without those
/// that lead to `except`.
fn parse_routes(table: &str, except: &str) -> Vec<(u32, u32)> {
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let hex = |i: usize| u32::from_str_radix(fields.get(i)?, 16).ok().map(u32::swap_bytes);
            (*fields.first()? != except).then_some(())?;
            Some((hex(1)?, hex(7)?))
        })
        .collect()
}

/// Processors this process may use.
pub fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
        eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
        eth0\t0000A8C0\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
        br0\t0001C90A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";

    #[test]
    fn routes_are_read_in_host_order() {
        let routes = parse_routes(TABLE, "br0");
        assert_eq!(routes, [(0, 0), (0xc0a8_0000, 0xffff_0000)]);
        assert_eq!(parse_routes(TABLE, "")[2], (0x0ac9_0100, 0xffff_ff00));
    }
}
