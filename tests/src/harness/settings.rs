//! What `cargo xtask test` tells the suite, through environment variables.

use std::path::PathBuf;

use anyhow::{Context, Result};

/// Paths and options of this run.
#[derive(Debug)]
pub struct Settings {
    /// `FERRY_TEST_BIN`: directory of `ferry` and `ferry-shim`.
    pub bin: PathBuf,
    /// `FERRY_TEST_BUSYBOX`: root file system of busybox, a tar.
    pub busybox: PathBuf,
    /// `FERRY_TEST_HELLO`: root file system with the static program `/hello`, a tar.
    pub hello: PathBuf,
    /// `FERRY_TEST_DEBIAN`: root file system of a Debian in which apt works, a tar.
    pub debian: Option<PathBuf>,
    /// `FERRY_TEST_REDIS`: an archive with the image `redis:latest`.
    pub redis: Option<PathBuf>,
    /// `FERRY_TEST_MARIADB`: an archive with the image `mariadb:latest`.
    pub mariadb: Option<PathBuf>,
    /// `FERRY_TEST_TOMCAT`: an archive with the image `tomcat:latest`.
    pub tomcat: Option<PathBuf>,
    /// `FERRY_TEST_HAPROXY`: an archive with the image `haproxy:latest`, which has Keepalived, too.
    pub haproxy: Option<PathBuf>,
    /// `FERRY_TEST_DOCKER`: the stock docker client.
    pub docker: Option<PathBuf>,
    /// `FERRY_TEST_REGISTRY`: the program `docker-registry`.
    pub registry: Option<PathBuf>,
    /// `FERRY_TEST_RUNTIMES`: directory with `runc` and `crun` where Debian's packages have them.
    pub runtimes: Option<PathBuf>,
    /// `FERRY_TEST_VM`: directory with an unpacked Debian kernel package.
    pub vm: Option<PathBuf>,
    /// `FERRY_TEST_WORK`: directory for the engines' data.
    pub work: PathBuf,
    /// `FERRY_TEST_RESULTS`: file that gets a JSON object per finished test.
    pub results: Option<PathBuf>,
    /// `FERRY_TEST_AGAINST`: another engine to run the client cases against.
    pub against: Option<String>,
}

impl Settings {
    /// Reads the variables; fails with the reason why the suite cannot run.
    pub fn from_env() -> Result<Self> {
        let optional =
            |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let needed =
            |name: &str| optional(name).with_context(|| format!("{name} is not set; run `cargo xtask test`"));
        Ok(Self {
            bin: needed("FERRY_TEST_BIN")?,
            busybox: needed("FERRY_TEST_BUSYBOX")?,
            hello: needed("FERRY_TEST_HELLO")?,
            debian: optional("FERRY_TEST_DEBIAN"),
            redis: optional("FERRY_TEST_REDIS"),
            mariadb: optional("FERRY_TEST_MARIADB"),
            tomcat: optional("FERRY_TEST_TOMCAT"),
            haproxy: optional("FERRY_TEST_HAPROXY"),
            docker: optional("FERRY_TEST_DOCKER"),
            registry: optional("FERRY_TEST_REGISTRY"),
            runtimes: optional("FERRY_TEST_RUNTIMES"),
            vm: optional("FERRY_TEST_VM"),
            work: needed("FERRY_TEST_WORK")?,
            results: optional("FERRY_TEST_RESULTS"),
            against: std::env::var("FERRY_TEST_AGAINST").ok().filter(|value| !value.is_empty()),
        })
    }

    /// The `ferry` command.
    pub fn ferry(&self) -> PathBuf {
        self.bin.join("ferry")
    }
}
