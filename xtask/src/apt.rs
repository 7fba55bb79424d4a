//! Debian packages: installing what a chore needs, and fetching packages without installing them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::{host, sh, sources, ui};

/// Installs those of `packages` that are missing, showing apt's progress.
pub fn install(packages: &[&str]) -> Result<()> {
    let missing: Vec<&str> = packages.iter().copied().filter(|package| !is_installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if sh::which("apt-get").is_none() {
        bail!(
            "these Debian packages are needed and apt-get is not here to install them: {}",
            missing.join(" ")
        );
    }
    ui::note(format!("installing with apt-get: {}", missing.join(" ")));
    if let Err(first) = install_now(&missing) {
        // The package lists may be missing or older than the archive.
        ui::note("refreshing the package lists");
        sh::run(apt_get(["update", "-q"]).env("DEBIAN_FRONTEND", "noninteractive"))
            .with_context(|| format!("{first:#}; then"))?;
        install_now(&missing)?;
    }
    Ok(())
}

fn install_now(packages: &[&str]) -> Result<()> {
    let args = ["install", "-q", "-y", "--no-install-recommends"].into_iter().chain(packages.iter().copied());
    let mut command = apt_get(args);
    // Services of the installed packages must not start on the host: a test starts what it needs.
    command.env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1");
    sh::run(&mut command)
}

fn apt_get<'a>(args: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = sh::cmd("apt-get", ["-o", "Acquire::Retries=3", "-o", "DPkg::Lock::Timeout=300"]);
    command.args(args);
    command
}

/// Whether dpkg has the package installed.
pub fn is_installed(package: &str) -> bool {
    let mut query = sh::cmd("dpkg-query", ["-W", "-f", "${Status}", package]);
    sh::capture(&mut query).is_ok_and(|status| status.trim() == "install ok installed")
}

/// Lines of apt configuration that say how to reach the archives (proxies), for use in a container.
pub fn proxy_config() -> String {
    let dump = sh::capture(&mut sh::cmd("apt-config", ["dump"])).unwrap_or_default();
    dump.lines()
        .filter(|line| {
            line.starts_with("Acquire::http") && line.contains("Proxy") && !line.ends_with("\"\";")
        })
        .map(|line| format!("{line}\n"))
        .collect()
}

/// An apt of its own: its state, lists and downloads are in one directory and it shares nothing with
/// the host's apt but the way to reach the mirrors.
pub struct Separate {
    dir: PathBuf,
}

impl Separate {
    /// Package lists of `suite` from the mirror the host uses.
    pub fn new(dir: &Path, suite: &str) -> Result<Self> {
        let codename = host::os_release("VERSION_CODENAME").unwrap_or_default();
        let own = sources::of_distribution(&sources::read(Path::new("/")), &codename);
        let mirror = sources::main_mirror(&own, &codename)
            .context("no Debian mirror found in /etc/apt/sources.list or /etc/apt/sources.list.d")?;
        let dir = dir.join(format!("apt-{suite}"));
        for sub in ["state/lists/partial", "cache/archives/partial", "parts", "debs"] {
            std::fs::create_dir_all(dir.join(sub))
                .with_context(|| format!("cannot create {}", dir.display()))?;
        }
        std::fs::write(dir.join("sources.list"), format!("deb {mirror} {suite} main\n"))?;
        std::fs::write(dir.join("status"), "")?;
        let this = Self { dir };
        if !this.is_fresh() {
            ui::note(format!("reading the package lists of {suite}"));
            sh::capture(this.apt("apt-get").args(["update", "-q"]))?;
            std::fs::write(this.dir.join("updated"), "")?;
        }
        Ok(this)
    }

    /// Whether the lists are younger than a day.
    fn is_fresh(&self) -> bool {
        let age = self.dir.join("updated").metadata().and_then(|meta| meta.modified()).map(|at| at.elapsed());
        matches!(age, Ok(Ok(age)) if age < Duration::from_secs(86_400))
    }

    fn apt(&self, program: &str) -> Command {
        let path = |sub: &str| self.dir.join(sub).display().to_string();
        let options = [
            format!("Dir::State={}", path("state")),
            format!("Dir::State::status={}", path("status")),
            format!("Dir::Cache={}", path("cache")),
            format!("Dir::Etc::sourcelist={}", path("sources.list")),
            format!("Dir::Etc::sourceparts={}", path("parts")),
            // Downloads land in a directory of root's, which apt's own user may not enter.
            "APT::Sandbox::User=root".to_owned(),
            "Acquire::Retries=3".to_owned(),
        ];
        let mut command = Command::new(program);
        for option in options {
            command.args(["-o", &option]);
        }
        command
    }

    /// The version of `package` that `suite` offers.
    pub fn candidate(&self, package: &str) -> Result<String> {
        let policy = sh::capture(self.apt("apt-cache").args(["policy", package]))?;
        policy
            .lines()
            .find_map(|line| line.trim().strip_prefix("Candidate: "))
            .filter(|version| *version != "(none)")
            .map(str::to_owned)
            .with_context(|| format!("the archive has no package {package}"))
    }

    /// The packages `package` depends on directly, as far as they can be named without solving.
    pub fn depends(&self, package: &str) -> Result<Vec<String>> {
        let text = sh::capture(self.apt("apt-cache").args(["depends", package]))?;
        Ok(text.lines().filter_map(|line| line.trim().strip_prefix("Depends: ")).map(str::to_owned).collect())
    }

    /// Downloads packages and unpacks them, without running anything of theirs, under `into`.
    pub fn unpack(&self, packages: &[&str], into: &Path) -> Result<()> {
        std::fs::create_dir_all(into)?;
        for package in packages {
            let debs = self.dir.join("debs").join(package);
            std::fs::create_dir_all(&debs)?;
            ui::note(format!("fetching {package} {}", self.candidate(package)?));
            sh::capture(self.apt("apt-get").args(["download", "-q", package]).current_dir(&debs))?;
            let newest = newest_deb(&debs).with_context(|| format!("apt-get left no file for {package}"))?;
            sh::capture(sh::cmd("dpkg", ["-x"]).arg(newest).arg(into))?;
        }
        Ok(())
    }
}

fn newest_deb(dir: &Path) -> Option<PathBuf> {
    std::fs::read_dir(dir)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .max_by_key(|path| path.metadata().and_then(|meta| meta.modified()).ok())
}
