//! Pulling from a scripted registry: progress, resume after broken connections and across pulls, and
//! content that is not what it should be.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ferry_engine::pull::{LayerState, PullError, PullEvent, pull};
use ferry_image::{CommitOptions, ImageId, ImageStore, ImportOptions};
use ferry_registry_client::{Auth, ClientOptions, RegistryClient};
use ferry_types::ImageRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// How the server misbehaves.
#[derive(Clone, Copy, Default)]
struct Faults {
    /// Breaks the connection after this many bytes of a layer.
    cut: Option<usize>,
    /// Does so only this many times.
    cuts: usize,
    /// Ignores `Range`.
    no_ranges: bool,
    /// Stops sending after `cut` bytes instead of breaking the connection.
    hang: bool,
}

#[derive(Default)]
struct Served {
    files: HashMap<String, Vec<u8>>,
    faults: Faults,
    /// Start offsets of the requests for the large layer.
    offsets: Vec<usize>,
}

struct Server {
    address: String,
    served: Arc<Mutex<Served>>,
}

impl Server {
    async fn start(files: HashMap<String, Vec<u8>>, faults: Faults) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let served = Arc::new(Mutex::new(Served { files, faults, offsets: Vec::new() }));
        let own = served.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let served = own.clone();
                tokio::spawn(async move {
                    let mut text = Vec::new();
                    let mut buffer = [0; 4096];
                    while !text.windows(4).any(|w| w == b"\r\n\r\n") {
                        match stream.read(&mut buffer).await {
                            Ok(n) if n > 0 => text.extend_from_slice(&buffer[..n]),
                            _ => return,
                        }
                        // A TLS hello: this server speaks HTTP only.
                        if text[0] == 0x16 {
                            return;
                        }
                    }
                    let text = String::from_utf8_lossy(&text).to_ascii_lowercase();
                    let (head, body, hang) = respond(&served, &text);
                    stream.write_all(head.as_bytes()).await.ok();
                    stream.write_all(&body).await.ok();
                    if hang {
                        tokio::time::sleep(Duration::from_secs(60)).await;
                    }
                });
            }
        });
        Self { address, served }
    }

    fn offsets(&self) -> Vec<usize> {
        std::mem::take(&mut self.served.lock().unwrap().offsets)
    }

    fn set_faults(&self, faults: Faults) {
        self.served.lock().unwrap().faults = faults;
    }

    fn reference(&self) -> ImageRef {
        format!("{}/app:1", self.address).parse().unwrap()
    }
}

fn respond(served: &Mutex<Served>, request: &str) -> (String, Vec<u8>, bool) {
    let mut served = served.lock().unwrap();
    let path = request.split(' ').nth(1).unwrap();
    let Some(body) = served.files.get(path).cloned() else {
        let head = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        return (head.to_owned(), Vec::new(), false);
    };
    let range =
        request.lines().find_map(|l| l.strip_prefix("range: bytes=")?.strip_suffix('-')?.parse().ok());
    let start = range.filter(|_| !served.faults.no_ranges).unwrap_or(0);
    let status = if start > 0 { "206 Partial Content" } else { "200 OK" };
    let manifest = path.contains("manifests");
    let kind = if manifest { "application/vnd.oci.image.manifest.v1+json" } else { "x/y" };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\ncontent-type: {kind}\r\nconnection: close\r\n\r\n",
        body.len() - start
    );
    let large = body.len() > 100_000;
    let mut body = body[start..].to_vec();
    let mut hang = false;
    if large {
        served.offsets.push(start);
        if let Some(cut) = served.faults.cut.filter(|c| *c < body.len() && served.faults.cuts > 0) {
            served.faults.cuts -= 1;
            body.truncate(cut);
            hang = served.faults.hang;
        }
    }
    (head, body, hang)
}

struct Bench {
    dir: tempfile::TempDir,
    store: Arc<ImageStore>,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let database = Arc::new(redb::Database::create(dir.path().join("db")).unwrap());
        let store = Arc::new(ImageStore::open(&dir.path().join("images"), database).unwrap());
        Self { dir, store }
    }

    fn count(&self, directory: &str) -> usize {
        std::fs::read_dir(self.dir.path().join("images").join(directory)).unwrap().count()
    }

    /// Staging goes with the workers, which may take a moment longer than the pull.
    async fn settle(&self) {
        for _ in 0..100 {
            if self.count("tmp") == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("staging directories stay behind");
    }
}

/// An image of two layers, the lower one of 400 kB, as a registry serves it.
fn image() -> (ImageId, HashMap<String, Vec<u8>>) {
    let bench = Bench::new();
    let upper = bench.dir.path().join("upper");
    std::fs::create_dir(&upper).unwrap();
    let noise: Vec<u8> = (0..400_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    std::fs::write(upper.join("noise"), noise).unwrap();
    let mut tar = Vec::new();
    ferry_image::diff_tar(&upper, &mut tar).unwrap();
    let base = bench.store.import_rootfs(&mut &tar[..], ImportOptions::default()).unwrap();
    std::fs::remove_file(upper.join("noise")).unwrap();
    std::fs::write(upper.join("small"), "small").unwrap();
    let options = CommitOptions {
        parent: base,
        upper,
        config: Default::default(),
        created_by: String::new(),
        author: None,
        message: None,
        changes: Vec::new(),
        reference: None,
    };
    let id = bench.store.commit(options).unwrap();
    let image = bench.store.get(&id).unwrap();
    let mut files = HashMap::new();
    let mut layers = Vec::new();
    for (chain, diff_id) in image.chain.iter().zip(&image.config.rootfs.diff_ids) {
        let mut tar = Vec::new();
        bench.store.write_layer_tar(chain, &mut tar).unwrap();
        layers.push(serde_json::json!({ "mediaType": "x", "digest": diff_id.as_str(), "size": tar.len() }));
        files.insert(format!("/v2/app/blobs/{diff_id}"), tar);
    }
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "config": { "digest": id.as_str(), "size": image.raw_config.len() },
        "layers": layers,
    });
    files.insert(format!("/v2/app/blobs/{id}"), image.raw_config.clone());
    files.insert("/v2/app/manifests/1".to_owned(), manifest.to_string().into_bytes());
    (id, files)
}

async fn run(bench: &Bench, server: &Server) -> (Result<ImageId, PullError>, Vec<PullEvent>) {
    let client = RegistryClient::new(ClientOptions { user_agent: "test".to_owned(), ..Default::default() });
    let (sender, mut receiver) = mpsc::channel(1000);
    let result = pull(
        bench.store.clone(),
        &client,
        server.reference(),
        None,
        Auth::Anonymous,
        Default::default(),
        sender,
    )
    .await;
    let mut events = Vec::new();
    while let Ok(event) = receiver.try_recv() {
        events.push(event);
    }
    (result, events)
}

fn states(events: &[PullEvent]) -> Vec<LayerState> {
    let state = |e: &PullEvent| match e {
        PullEvent::Layer { state, .. } => Some(*state),
        _ => None,
    };
    events.iter().filter_map(state).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_pulled_once() {
    let (id, files) = image();
    let server = Server::start(files, Faults::default()).await;
    let bench = Bench::new();
    let (result, events) = run(&bench, &server).await;
    assert_eq!(result.unwrap(), id);
    let lines: Vec<_> = events.iter().map(|e| e.message().status).collect();
    assert_eq!(lines[0], "Pulling from app");
    assert_eq!(lines.iter().filter(|l| *l == "Pulling fs layer").count(), 2);
    assert_eq!(lines.iter().filter(|l| *l == "Pull complete").count(), 2);
    let name = server.reference().familiar();
    assert_eq!(lines[lines.len() - 1], format!("Status: Downloaded newer image for {name}"));
    assert!(lines[lines.len() - 2].starts_with("Digest: sha256:"));
    let image = bench.store.get(&id).unwrap();
    assert_eq!((image.repo_tags.len(), image.repo_digests.len()), (1, 1));
    let dirs = bench.store.layer_dirs(&id).unwrap();
    assert_eq!(std::fs::read_to_string(dirs[0].join("small")).unwrap(), "small");
    assert_eq!((bench.count("partial"), bench.count("tmp")), (0, 0));

    server.offsets();
    let (result, events) = run(&bench, &server).await;
    assert_eq!(result.unwrap(), id);
    assert_eq!(events.last().unwrap().message().status, format!("Status: Image is up to date for {name}"));
    assert!(server.offsets().is_empty() && states(&events).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_connections_are_resumed() {
    let (id, files) = image();
    let faults = Faults { cut: Some(150_000), cuts: 2, ..Faults::default() };
    let server = Server::start(files, faults).await;
    let bench = Bench::new();
    assert_eq!(run(&bench, &server).await.0.unwrap(), id);
    assert_eq!(server.offsets(), [0, 150_000, 300_000]);

    let faults = Faults { cut: Some(150_000), cuts: 1, no_ranges: true, ..Faults::default() };
    server.set_faults(faults);
    let bench = Bench::new();
    assert_eq!(run(&bench, &server).await.0.unwrap(), id, "without ranges it starts over");
    assert_eq!(server.offsets(), [0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_pull_takes_up_a_dropped_one() {
    let (id, files) = image();
    let faults = Faults { cut: Some(200_000), cuts: 1, hang: true, ..Faults::default() };
    let server = Server::start(files, faults).await;
    let bench = Bench::new();
    let dropped = tokio::time::timeout(Duration::from_secs(2), run(&bench, &server)).await;
    assert!(dropped.is_err());
    bench.settle().await;
    assert!(bench.store.list().is_empty());
    assert_eq!(server.offsets(), [0]);
    assert_eq!(run(&bench, &server).await.0.unwrap(), id);
    assert_eq!(server.offsets(), [200_000]);
    assert_eq!((bench.count("partial"), bench.count("tmp")), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_content_is_refused_and_forgotten() {
    let (_, files) = image();
    // A manifest asked for by tag has nothing to be checked against.
    for (path, body) in files.iter().filter(|(path, _)| path.contains("/blobs/")) {
        let mut wrong = files.clone();
        let mut body = body.clone();
        let middle = body.len() / 2;
        body[middle] ^= 1;
        wrong.insert(path.clone(), body);
        let server = Server::start(wrong, Faults::default()).await;
        let bench = Bench::new();
        assert!(run(&bench, &server).await.0.is_err(), "{path}");
        bench.settle().await;
        assert!(bench.store.list().is_empty());
        assert_eq!(bench.store.disk_usage().layers, 0);
        assert_eq!(bench.count("partial"), 0, "a damaged download is not taken up again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_of_the_store_are_not_fetched() {
    let (id, files) = image();
    let server = Server::start(files.clone(), Faults::default()).await;
    let bench = Bench::new();
    // The lower layer alone, from elsewhere.
    let large = files.values().find(|f| f.len() > 100_000).unwrap();
    bench.store.import_rootfs(&mut &large[..], ImportOptions::default()).unwrap();
    let (result, events) = run(&bench, &server).await;
    assert_eq!(result.unwrap(), id);
    assert_eq!(states(&events)[0], LayerState::AlreadyExists);
    assert!(server.offsets().is_empty());
}
