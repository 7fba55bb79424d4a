//! Archives made by hand, good ones and evil ones: tar members byte by byte (ustar, tar(5)), and image
//! archives in both formats (docker save's and the OCI image layout).

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use serde_json::json;

use super::process;

/// A tar under construction.
#[derive(Default)]
pub struct Tar(Vec<u8>);

impl Tar {
    /// Adds a file.
    pub fn file(mut self, name: &str, mode: u32, contents: &[u8]) -> Self {
        self.member(name, b'0', mode, "", contents);
        self
    }

    /// Adds a directory.
    pub fn dir(mut self, name: &str) -> Self {
        self.member(name, b'5', 0o755, "", &[]);
        self
    }

    /// Adds a symbolic link.
    pub fn symlink(mut self, name: &str, target: &str) -> Self {
        self.member(name, b'2', 0o777, target, &[]);
        self
    }

    /// Adds a hard link.
    pub fn hardlink(mut self, name: &str, target: &str) -> Self {
        self.member(name, b'1', 0o644, target, &[]);
        self
    }

    fn member(&mut self, name: &str, kind: u8, mode: u32, target: &str, contents: &[u8]) {
        let mut header = [0_u8; 512];
        let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(0, name);
        put(100, &format!("{mode:07o}"));
        put(108, "0000000");
        put(116, "0000000");
        put(124, &format!("{:011o}", contents.len()));
        put(136, "00000000000");
        put(148, "        ");
        put(157, target);
        put(257, "ustar");
        put(263, "00");
        header[156] = kind;
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend_from_slice(&header);
        self.0.extend_from_slice(contents);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
    }

    /// The whole archive.
    pub fn bytes(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// The hexadecimal sha256 of `bytes`, by sha256sum(1).
pub fn sha256(bytes: &[u8]) -> Result<String> {
    let mut child = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run sha256sum")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(bytes)?;
    }
    let output = child.wait_with_output()?;
    Ok(String::from_utf8_lossy(&output.stdout).chars().take(64).collect())
}

fn config(layers: &[Vec<u8>], command: &[&str]) -> Result<String> {
    let diff_ids: Vec<String> =
        layers.iter().map(|layer| Ok(format!("sha256:{}", sha256(layer)?))).collect::<Result<_>>()?;
    let arch = if std::env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" };
    let config = json!({
        "architecture": arch,
        "os": "linux",
        "created": "2020-01-01T00:00:00Z",
        "config": {"Cmd": command, "Env": ["PATH=/bin:/usr/bin"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": layers.iter().map(|_| json!({"created_by": "test"})).collect::<Vec<_>>(),
    });
    Ok(config.to_string())
}

/// An image archive as `docker save` wrote it before it took up the OCI layout.
pub fn docker_archive(tag: &str, layers: &[Vec<u8>], command: &[&str]) -> Result<Vec<u8>> {
    let config = config(layers, command)?;
    let config_name = format!("{}.json", sha256(config.as_bytes())?);
    let names: Vec<String> = (0..layers.len()).map(|i| format!("layer{i}/layer.tar")).collect();
    let manifest = json!([{"Config": config_name, "RepoTags": [tag], "Layers": names}]).to_string();
    let mut tar = Tar::default().file(&config_name, 0o644, config.as_bytes());
    for (name, layer) in names.iter().zip(layers) {
        tar = tar.file(name, 0o644, layer);
    }
    Ok(tar.file("manifest.json", 0o644, manifest.as_bytes()).bytes())
}

/// An OCI image layout in a tar, with a name annotation.
pub fn oci_archive(tag: &str, layers: &[Vec<u8>], command: &[&str]) -> Result<Vec<u8>> {
    let descriptor = |kind: &str, bytes: &[u8]| -> Result<serde_json::Value> {
        let digest = format!("sha256:{}", sha256(bytes)?);
        Ok(
            json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest, "size": bytes.len()}),
        )
    };
    let config = config(layers, command)?;
    let descriptors: Vec<_> =
        layers.iter().map(|layer| descriptor("layer.v1.tar", layer)).collect::<Result<_>>()?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("config.v1+json", config.as_bytes())?,
        "layers": descriptors,
    })
    .to_string();
    let mut entry = descriptor("manifest.v1+json", manifest.as_bytes())?;
    entry["annotations"] =
        json!({"io.containerd.image.name": tag, "org.opencontainers.image.ref.name": "latest"});
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry]});
    let mut tar = Tar::default()
        .file("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)
        .file("index.json", 0o644, index.to_string().as_bytes())
        .dir("blobs/")
        .dir("blobs/sha256/");
    for blob in layers.iter().map(Vec::as_slice).chain([config.as_bytes(), manifest.as_bytes()]) {
        tar = tar.file(&format!("blobs/sha256/{}", sha256(blob)?), 0o644, blob);
    }
    Ok(tar.bytes())
}

/// Writes bytes to a new file in `dir`.
pub fn save(dir: &Path, name: &str, bytes: &[u8]) -> Result<PathBuf> {
    std::fs::create_dir_all(dir)?;
    let path = dir.join(name);
    std::fs::write(&path, bytes).with_context(|| path.display().to_string())?;
    Ok(path)
}

/// Unpacks a tar with tar(1), for what needs a directory.
pub fn unpack(tar: &Path, into: &Path) -> Result<()> {
    std::fs::create_dir_all(into)?;
    let mut command = Command::new("tar");
    command.arg("-C").arg(into).arg("-xf").arg(tar);
    process::ok(command).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tar_reads_what_is_written_here() {
        let bytes = Tar::default().dir("d/").file("d/f", 0o640, b"hello").symlink("d/l", "f").bytes();
        let dir = std::env::temp_dir().join(format!("ferry-archive-{}", std::process::id()));
        let tar = save(&dir, "a.tar", &bytes).unwrap();
        unpack(&tar, &dir.join("out")).unwrap();
        assert_eq!(std::fs::read_to_string(dir.join("out/d/l")).unwrap(), "hello");
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn digests_are_sha256() {
        assert_eq!(sha256(b"").unwrap(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
