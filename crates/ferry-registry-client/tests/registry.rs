//! Against the `docker-registry` of Debian (`FERRY_TEST_REGISTRY`, else the one on the path), started on
//! a loopback port and seeded by plain HTTP. Skipped where there is none.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ferry_registry_client::{Auth, ClientOptions, RegistryClient, RegistryError};
use ferry_types::{Digest, ImageRef, Platform};
use sha2::{Digest as _, Sha256};

struct Registry {
    child: Child,
    address: String,
    _dir: tempfile::TempDir,
}

/// `user` with password `secret`, as htpasswd -B writes it.
const HTPASSWD: &str = "user:$2y$05$NCq3fbWCN8NxIqSGaFGnueOi4LJ1lEw4RmbMzFDjaCGVYjv7YGmsW\n";

impl Registry {
    fn start(authenticated: bool) -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("data");
        let mut config = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {address}\n",
            root.display()
        );
        if authenticated {
            let passwords = dir.path().join("htpasswd");
            std::fs::write(&passwords, HTPASSWD).unwrap();
            config += &format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", passwords.display());
        }
        let path = dir.path().join("config.yml");
        std::fs::write(&path, config).unwrap();
        let program = std::env::var_os("FERRY_TEST_REGISTRY").unwrap_or_else(|| "docker-registry".into());
        let child =
            Command::new(program).arg("serve").arg(&path).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = match child {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return None,
            child => child.unwrap(),
        };
        let started = Instant::now();
        while TcpStream::connect(&address).is_err() {
            assert!(started.elapsed() < Duration::from_secs(10), "docker-registry did not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(Self { child, address, _dir: dir })
    }

    fn reference(&self, name: &str) -> ImageRef {
        format!("{}/{name}", self.address).parse().unwrap()
    }

    async fn put_blob(&self, repository: &str, bytes: &[u8]) -> Digest {
        let http = reqwest::Client::new();
        let digest = digest(bytes);
        let start = http.post(format!("http://{}/v2/{repository}/blobs/uploads/", self.address));
        let location = start.send().await.unwrap().headers()["location"].to_str().unwrap().to_owned();
        let url = format!("{location}&digest={digest}");
        let done = http.put(url).body(bytes.to_vec()).send().await.unwrap();
        assert_eq!(done.status(), 201);
        digest
    }

    async fn put_manifest(&self, repository: &str, name: &str, kind: &str, body: &str) -> Digest {
        let url = format!("http://{}/v2/{repository}/manifests/{name}", self.address);
        let put = reqwest::Client::new().put(url).header("content-type", kind).body(body.to_owned());
        let answer = put.send().await.unwrap();
        let status = answer.status();
        assert_eq!(status, 201, "{}", answer.text().await.unwrap());
        digest(body.as_bytes())
    }

    /// An image for this host behind an index, next to one for another machine.
    async fn seed(&self, repository: &str) -> (Digest, Digest, Vec<u8>) {
        let layer: Vec<u8> =
            (0..300_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
        let layer_digest = self.put_blob(repository, &layer).await;
        let mut entries = Vec::new();
        let host = Platform::host();
        for architecture in ["s390x", host.architecture.as_str()] {
            let config = format!(r#"{{"architecture":"{architecture}","os":"linux"}}"#);
            let config_digest = self.put_blob(repository, config.as_bytes()).await;
            let kind = "application/vnd.oci.image.manifest.v1+json";
            let manifest = format!(
                r#"{{"schemaVersion":2,"mediaType":"{kind}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config_digest}","size":{}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{layer_digest}","size":{}}}]}}"#,
                config.len(),
                layer.len()
            );
            let name = digest(manifest.as_bytes());
            let digest = self.put_manifest(repository, name.as_str(), kind, &manifest).await;
            entries.push(format!(
                r#"{{"mediaType":"{kind}","digest":"{digest}","size":{},"platform":{{"os":"linux","architecture":"{architecture}"}}}}"#,
                manifest.len()
            ));
        }
        let kind = "application/vnd.oci.image.index.v1+json";
        let index =
            format!(r#"{{"schemaVersion":2,"mediaType":"{kind}","manifests":[{}]}}"#, entries.join(","));
        (self.put_manifest(repository, "1", kind, &index).await, layer_digest, layer)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn digest(bytes: &[u8]) -> Digest {
    Digest::sha256(Sha256::digest(bytes))
}

fn client() -> RegistryClient {
    RegistryClient::new(ClientOptions { user_agent: "ferry-test".to_owned(), ..ClientOptions::default() })
}

async fn read(client: &RegistryClient, reference: &ImageRef, digest: &Digest, offset: u64) -> (u64, Vec<u8>) {
    let mut blob = client.blob(reference, digest, offset, &Auth::Anonymous).await.unwrap();
    let mut bytes = Vec::new();
    while let Some(chunk) = blob.chunk().await.unwrap() {
        bytes.extend_from_slice(&chunk);
    }
    (blob.offset, bytes)
}

#[tokio::test]
async fn manifests_blobs_and_ranges() {
    let Some(registry) = Registry::start(false) else { return };
    let client = client();
    let (index, layer_digest, layer) = registry.seed("some/app").await;
    let reference = registry.reference("some/app:1");
    let host = Platform::host();
    let resolved = client.resolve(&reference, &host, &Auth::Anonymous).await.unwrap();
    assert_eq!(resolved.digest, index);
    assert_ne!(resolved.manifest_digest, index);
    let config = client.document(&reference, &resolved.manifest.config, &Auth::Anonymous).await.unwrap();
    assert!(String::from_utf8_lossy(&config).contains(&host.architecture));
    let by_digest = reference.with_digest(resolved.manifest_digest.clone());
    let same = client.resolve(&by_digest, &host, &Auth::Anonymous).await.unwrap();
    assert_eq!(same.raw_manifest, resolved.raw_manifest);
    assert_eq!(read(&client, &reference, &layer_digest, 0).await, (0, layer.clone()));
    assert_eq!(read(&client, &reference, &layer_digest, 123_456).await, (123_456, layer[123_456..].to_vec()));

    let riscv = Platform { os: "linux".into(), architecture: "riscv64".into(), variant: None };
    let error = client.resolve(&reference, &riscv, &Auth::Anonymous).await.unwrap_err();
    assert_eq!(error.to_string(), "no matching manifest for linux/riscv64 in the manifest list entries");
}

#[tokio::test]
async fn errors_are_dockers() {
    let Some(registry) = Registry::start(false) else { return };
    let client = client();
    registry.seed("some/app").await;
    let host = Platform::host();
    let missing = registry.reference("some/app:nope");
    let error = client.resolve(&missing, &host, &Auth::Anonymous).await.unwrap_err();
    let want = format!("manifest for {} not found: manifest unknown: manifest unknown", missing.familiar());
    assert_eq!(error.to_string(), want);
    let nowhere = registry.reference("no/such");
    let error = client.resolve(&nowhere, &host, &Auth::Anonymous).await.unwrap_err();
    assert!(error.to_string().contains(" not found: "), "{error}");

    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let dead: ImageRef = format!("127.0.0.1:{port}/x").parse().unwrap();
    let started = Instant::now();
    let error = client.resolve(&dead, &host, &Auth::Anonymous).await.unwrap_err().to_string();
    assert!(started.elapsed() < Duration::from_secs(2), "a refused connection is not waited for");
    // Of the two ways to a local registry Docker reports the last one, and asks for the root.
    assert!(error.starts_with(&format!("Get \"http://127.0.0.1:{port}/v2/\": ")), "{error}");
    assert!(error.ends_with(&format!("dial tcp 127.0.0.1:{port}: connect: connection refused")), "{error}");
}

#[tokio::test]
async fn basic_authentication() {
    let Some(registry) = Registry::start(true) else { return };
    let client = client();
    let reference = registry.reference("some/app");
    let host = Platform::host();
    let error = client.resolve(&reference, &host, &Auth::Anonymous).await.unwrap_err();
    assert!(matches!(error, RegistryError::Unauthorized { .. }), "{error}");
    let auth = |password: &str| Auth::Basic { username: "user".into(), password: password.into() };
    let error = client.resolve(&reference, &host, &auth("wrong")).await.unwrap_err();
    let want = format!(
        "pull access denied for {}, repository does not exist or may require 'docker login': denied: \
         requested access to the resource is denied",
        reference.familiar_name()
    );
    assert_eq!(error.to_string(), want);
    // The right password gets as far as "no such image".
    let error = client.resolve(&reference, &host, &auth("secret")).await.unwrap_err();
    assert!(
        matches!(error, RegistryError::ManifestNotFound { .. } | RegistryError::RepositoryNotFound { .. }),
        "{error}"
    );
}
