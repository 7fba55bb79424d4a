//! Token authentication, redirects, mirrors and wrong content, against a scripted server.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use ferry_registry_client::{Auth, ClientOptions, RegistryClient, RegistryError};
use ferry_types::{Digest, ImageRef};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A request as text, lower-cased header names.
struct Seen {
    line: String,
    headers: HashMap<String, String>,
}

type Script = Arc<dyn Fn(&Seen) -> String + Send + Sync>;

struct Server {
    address: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    /// Answers each request with what `script` makes of it.
    async fn start(script: impl Fn(&Seen, &str) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let own = address.clone();
        let script: Script = Arc::new(move |s| script(s, &own));
        let log = seen.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (script, log) = (script.clone(), log.clone());
                tokio::spawn(async move {
                    let mut text = Vec::new();
                    let mut buffer = [0; 4096];
                    while !text.windows(4).any(|w| w == b"\r\n\r\n") {
                        match stream.read(&mut buffer).await {
                            Ok(n) if n > 0 => text.extend_from_slice(&buffer[..n]),
                            _ => return,
                        }
                        if text[0] == 0x16 {
                            // A TLS hello: this server speaks HTTP only.
                            return;
                        }
                    }
                    let text = String::from_utf8_lossy(&text).into_owned();
                    let mut lines = text.lines();
                    let line = lines.next().unwrap_or_default().to_owned();
                    let headers = lines
                        .filter_map(|l| l.split_once(": "))
                        .map(|(k, v)| (k.to_ascii_lowercase(), v.to_owned()))
                        .collect();
                    let request = Seen { line, headers };
                    let answer = script(&request);
                    log.lock().unwrap().push(request);
                    stream.write_all(answer.as_bytes()).await.ok();
                    stream.shutdown().await.ok();
                });
            }
        });
        Self { address, seen }
    }

    fn authorizations(&self, path: &str) -> Vec<Option<String>> {
        let seen = self.seen.lock().unwrap();
        seen.iter()
            .filter(|s| s.line.contains(path))
            .map(|s| s.headers.get("authorization").cloned())
            .collect()
    }
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n{body}", body.len())
}

fn client(mirrors: Vec<String>) -> RegistryClient {
    RegistryClient::new(ClientOptions { mirrors, user_agent: "ferry-test".to_owned(), ..Default::default() })
}

const MANIFEST: &str = r#"{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:0000000000000000000000000000000000000000000000000000000000000000","size":1},"layers":[]}"#;

#[tokio::test]
async fn bearer_tokens_are_fetched_once() {
    let server = Server::start(|seen, own| {
        if seen.line.contains("/token?") {
            assert!(seen.line.contains("scope=repository%3Aa%2Fb%3Apull"), "{}", seen.line);
            assert!(seen.line.contains("service=reg"), "{}", seen.line);
            return answer("200 OK", "", r#"{"token":"T","expires_in":300}"#);
        }
        match seen.headers.get("authorization").map(String::as_str) {
            Some("Bearer T") => answer("200 OK", "", MANIFEST),
            _ => {
                let challenge = format!(
                    "www-authenticate: Bearer realm=\"http://{own}/token\",service=\"reg\",scope=\"repository:a/b:pull\"\r\n"
                );
                answer("401 Unauthorized", &challenge, "{}")
            }
        }
    })
    .await;
    let client = client(Vec::new());
    let reference: ImageRef = format!("{}/a/b:1", server.address).parse().unwrap();
    let auth = Auth::Basic { username: "u".into(), password: "p".into() };
    for _ in 0..3 {
        let fetched = client.manifest(&reference, &auth).await.unwrap();
        assert_eq!(fetched.media_type, "application/vnd.oci.image.manifest.v1+json");
    }
    assert_eq!(server.authorizations("/token"), [Some("Basic dTpw".to_owned())]);
    // The password went to the token server only.
    let asked = server.authorizations("/manifests/");
    assert_eq!(asked.len(), 4);
    assert_eq!(asked[0], None);
    assert!(asked[1..].iter().all(|a| a.as_deref() == Some("Bearer T")), "{asked:?}");
}

#[tokio::test]
async fn redirects_carry_no_credentials() {
    let storage = Server::start(|_, _| answer("200 OK", "", "blob")).await;
    let location = storage.address.clone();
    let server = Server::start(move |seen, _| {
        if seen.headers.contains_key("authorization") {
            let header = format!("location: http://{location}/data\r\n");
            return answer("307 Temporary Redirect", &header, "");
        }
        answer("401 Unauthorized", "www-authenticate: Basic realm=\"x\"\r\n", "")
    })
    .await;
    let client = client(Vec::new());
    let reference: ImageRef = format!("{}/a/b:1", server.address).parse().unwrap();
    let auth = Auth::Basic { username: "u".into(), password: "p".into() };
    let digest = Digest::sha256([0; 32]);
    let mut blob = client.blob(&reference, &digest, 0, &auth).await.unwrap();
    assert_eq!(&blob.chunk().await.unwrap().unwrap()[..], b"blob");
    assert_eq!(storage.authorizations("/data"), [None]);
}

#[tokio::test]
async fn mirrors_serve_docker_hub_and_see_no_password() {
    let mirror = Server::start(|_, _| answer("200 OK", "", MANIFEST)).await;
    let client = client(vec![format!("http://{}", mirror.address)]);
    let auth = Auth::Basic { username: "u".into(), password: "p".into() };
    client.manifest(&"debian:12".parse().unwrap(), &auth).await.unwrap();
    assert_eq!(mirror.authorizations("/v2/library/debian/manifests/12"), [None]);
}

#[tokio::test]
async fn content_of_another_digest_is_refused() {
    let server = Server::start(|_, _| answer("200 OK", "", MANIFEST)).await;
    let client = client(Vec::new());
    let reference: ImageRef = format!("{}/a@sha256:{}", server.address, "1".repeat(64)).parse().unwrap();
    let error = client.manifest(&reference, &Auth::Anonymous).await.unwrap_err();
    assert!(matches!(error, RegistryError::Digest { .. }), "{error}");
}

#[tokio::test]
async fn a_busy_registry_is_asked_again() {
    let count = Arc::new(Mutex::new(0));
    let server = Server::start(move |_, _| {
        let mut count = count.lock().unwrap();
        *count += 1;
        if *count < 3 { answer("503 Service Unavailable", "", "") } else { answer("200 OK", "", MANIFEST) }
    })
    .await;
    let reference: ImageRef = format!("{}/a:1", server.address).parse().unwrap();
    client(Vec::new()).manifest(&reference, &Auth::Anonymous).await.unwrap();
    assert_eq!(server.seen.lock().unwrap().len(), 3);
}
