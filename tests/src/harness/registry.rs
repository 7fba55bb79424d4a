//! A registry on loopback: Debian's `docker-registry`, plain HTTP, its storage in a directory of ours.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use super::settings::Settings;
use super::{archive, eventually, http, skip};

/// A running registry.
pub struct Registry {
    child: Child,
    dir: PathBuf,
    /// Where it listens.
    pub addr: SocketAddr,
}

impl Registry {
    /// Starts one; the test is skipped where there is no such program.
    pub fn start(settings: &Settings, label: &str) -> Result<Self> {
        let Some(program) = &settings.registry else { return skip("no docker-registry on this machine") };
        let dir = settings.work.join(format!("registry-{label}-{}", std::process::id()));
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let config = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\n  delete:\n    enabled: true\nhttp:\n  addr: 127.0.0.1:{port}\n",
            dir.join("data").display()
        );
        let config = archive::save(&dir, "config.yml", config.as_bytes())?;
        let log = std::fs::File::create(dir.join("log"))?;
        let child = Command::new(program)
            .arg("serve")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot run docker-registry")?;
        let registry = Self { child, dir, addr: SocketAddr::from((Ipv4Addr::LOCALHOST, port)) };
        eventually("the registry listens", Duration::from_secs(10), || {
            Ok(TcpStream::connect(registry.addr).is_ok())
        })?;
        Ok(registry)
    }

    /// Puts an image into it through its HTTP API: the blobs of `layers`, a config and a manifest.
    pub fn put(&self, name: &str, tag: &str, layers: &[Vec<u8>], command: &[&str]) -> Result<()> {
        let tar = archive::oci_archive(&format!("{name}:{tag}"), layers, command)?;
        let path = archive::save(&self.dir, "image.tar", &tar)?;
        let image = self.dir.join("image");
        archive::unpack(&path, &image)?;
        let index: serde_json::Value = serde_json::from_slice(&std::fs::read(image.join("index.json"))?)?;
        let digest = index["manifests"][0]["digest"].as_str().context("no manifest")?.to_owned();
        let blob = |digest: &str| image.join("blobs/sha256").join(digest.trim_start_matches("sha256:"));
        let manifest = std::fs::read(blob(&digest))?;
        let parsed: serde_json::Value = serde_json::from_slice(&manifest)?;
        let mut digests = vec![parsed["config"]["digest"].as_str().context("no config")?.to_owned()];
        for layer in parsed["layers"].as_array().context("no layers")? {
            digests.push(layer["digest"].as_str().context("no digest")?.to_owned());
        }
        for digest in digests {
            self.upload(name, &digest, &std::fs::read(blob(&digest))?)?;
        }
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let answer = self.send("PUT", &format!("/v2/{name}/manifests/{tag}"), kind, &manifest)?;
        answer.status(201)?;
        std::fs::remove_dir_all(&image)?;
        Ok(())
    }

    fn upload(&self, name: &str, digest: &str, bytes: &[u8]) -> Result<()> {
        let answer =
            self.send("POST", &format!("/v2/{name}/blobs/uploads/"), "application/octet-stream", &[])?;
        let location = answer.header("location").context("no location")?.to_owned();
        let path = location.find("/v2/").map(|at| &location[at..]).context("location elsewhere")?;
        let joint = if path.contains('?') { '&' } else { '?' };
        let answer =
            self.send("PUT", &format!("{path}{joint}digest={digest}"), "application/octet-stream", bytes)?;
        answer.status(201)?;
        Ok(())
    }

    fn send(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> Result<http::Answer> {
        http::tcp(self.addr, method, path, kind, body)
    }

    /// Where it keeps things.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
