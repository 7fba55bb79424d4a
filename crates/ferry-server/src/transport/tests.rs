//! Connections over real sockets, with a service that knows a few paths.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;
use std::time::Duration;

use ferry_api::ApiVersion;
use futures_util::stream;
use http::header::UPGRADE;
use tokio::sync::oneshot;

use super::*;
use crate::body::Body;

/// `/hijack` echoes over the raw socket, `/endless` sends one line and then nothing, others say ok.
struct Fake;

impl Service for Fake {
    fn call(
        self: Arc<Self>,
        request: Request<Incoming>,
        conn: ConnHandle,
    ) -> BoxFuture<'static, Response<Body>> {
        Box::pin(async move {
            match request.uri().path() {
                "/hijack" => {
                    let head = hijack_head(request.headers().contains_key(UPGRADE), true, ApiVersion(55));
                    let echo: hijack::Taker = Box::new(|client| {
                        Box::pin(async move {
                            let mut socket = StdUnixStream::from(client.socket);
                            socket.set_nonblocking(false).unwrap();
                            let echo = move || {
                                socket.write_all(b"got:").unwrap();
                                socket.write_all(&client.pending_input).unwrap();
                                let mut more = Vec::new();
                                socket.read_to_end(&mut more).unwrap();
                                socket.write_all(&more).unwrap();
                            };
                            tokio::task::spawn_blocking(echo).await.unwrap();
                        })
                    });
                    conn.hijack(head, false, echo).unwrap_or_else(|| Response::new(Body::full("no socket")))
                }
                "/endless" => {
                    let first = stream::iter([Ok(bytes::Bytes::from_static(b"line\n"))]);
                    Response::new(Body::stream(futures_util::StreamExt::chain(first, stream::pending())))
                }
                _ => Response::new(Body::full("ok")),
            }
        })
    }
}

/// A running server; dropping `stop` stops it.
struct Server {
    path: PathBuf,
    dir: tempfile::TempDir,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/api.sock");
        let bound = Bound::open(vec![spec(&path)]).await.unwrap();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            bound
                .serve(|_| Arc::new(Fake), async {
                    drop(stopped.await);
                    Duration::from_secs(5)
                })
                .await;
        });
        Self { path, dir, stop, task }
    }

    /// Sends `request`, reads to the end, and closes the sending direction once it has seen `close_at`.
    async fn exchange(&self, request: &str, close_at: &'static str) -> String {
        let (path, request) = (self.path.clone(), request.to_owned());
        let talk = move || {
            let mut socket = StdUnixStream::connect(path).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            // A server that has seen enough may stop reading.
            let _ = socket.write_all(request.as_bytes());
            let (mut answer, mut chunk) = (Vec::new(), [0_u8; 4096]);
            loop {
                match socket.read(&mut chunk) {
                    Ok(0) => break,
                    Ok(n) => answer.extend_from_slice(&chunk[..n]),
                    Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                        panic!("still open after {:?}", String::from_utf8_lossy(&answer))
                    }
                    Err(_) => break,
                }
                if !close_at.is_empty() && String::from_utf8_lossy(&answer).contains(close_at) {
                    let _ = socket.shutdown(std::net::Shutdown::Write);
                }
            }
            String::from_utf8(answer).unwrap()
        };
        tokio::task::spawn_blocking(talk).await.unwrap()
    }
}

fn spec(path: &std::path::Path) -> ListenSpec {
    format!("unix://{}", path.display()).parse().unwrap()
}

#[tokio::test]
async fn hijack_with_upgrade_hands_over_the_socket_and_what_was_read() {
    let server = Server::start().await;
    let request = "POST /hijack HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nearly";
    let answer = server.exchange(request, "got:").await;
    assert_eq!(
        answer,
        "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\n\
         Connection: Upgrade\r\nUpgrade: tcp\r\n\r\ngot:early"
    );
}

#[tokio::test]
async fn hijack_without_upgrade_is_a_200_and_raw() {
    let server = Server::start().await;
    for version in ["1.0", "1.1"] {
        let request = format!(
            "POST /hijack HTTP/{version}\r\nHost: x\r\nContent-Length: 2\r\n\
             Content-Type: application/json\r\n\r\n{{}}early"
        );
        let answer = server.exchange(&request, "got:").await;
        assert_eq!(
            answer, "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\ngot:early",
            "{version}"
        );
    }
}

#[tokio::test]
async fn hijack_follows_ordinary_requests_on_one_connection() {
    let server = Server::start().await;
    let request =
        "GET /a HTTP/1.1\r\nHost: x\r\n\r\nPOST /hijack HTTP/1.1\r\nHost: x\r\nUpgrade: tcp\r\n\r\n";
    let answer = server.exchange(request, "got:").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let rest = answer.split_once("\r\n\r\nok").unwrap().1;
    assert!(rest.starts_with("HTTP/1.1 101 UPGRADED\r\n") && rest.ends_with("\r\n\r\ngot:"), "{answer}");
}

#[tokio::test]
async fn http2_is_spoken_but_has_no_socket_to_give() {
    let server = Server::start().await;
    let socket = tokio::net::UnixStream::connect(&server.path).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(socket);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut client, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    tokio::spawn(connection);
    let request = Request::post("http://x/hijack").body(Body::default()).unwrap();
    let answer = client.send_request(request).await.unwrap().into_body();
    let answer = http_body_util::BodyExt::collect(answer).await.unwrap().to_bytes();
    assert_eq!(&answer[..], b"no socket");
}

#[tokio::test]
async fn bad_requests_are_refused() {
    let server = Server::start().await;
    assert!(server.exchange("NONSENSE\r\n\r\n", "").await.starts_with("HTTP/1.1 400 "));
    let endless = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "y".repeat(1 << 20));
    assert!(server.exchange(&endless, "").await.starts_with("HTTP/1.1 431 "));
}

#[tokio::test]
async fn stopping_removes_the_socket_and_ends_idle_connections() {
    let server = Server::start().await;
    let mut idle = tokio::net::UnixStream::connect(&server.path).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut idle, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = [0_u8; 64];
    let read = tokio::io::AsyncReadExt::read(&mut idle, &mut answer).await.unwrap();
    assert!(answer[..read].starts_with(b"HTTP/1.1 200"));
    server.stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(3), server.task).await.unwrap().unwrap();
    assert!(!server.path.exists());
    drop(server.dir);
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("api.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let bound = Bound::open(vec![spec(&path)]).await.unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    assert!(matches!(Bound::open(vec![spec(&path)]).await, Err(ServeError::InUse(_))));
    assert!(path.exists(), "a refused second daemon must not remove the first one's socket");
    drop(bound);
    assert!(!path.exists());
    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(Bound::open(vec![spec(&path)]).await, Err(ServeError::NotASocket(_))));
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_stream() {
    struct Watch(std::sync::Mutex<Option<oneshot::Sender<()>>>);
    impl Service for Watch {
        fn call(self: Arc<Self>, _: Request<Incoming>, _: ConnHandle) -> BoxFuture<'static, Response<Body>> {
            let ended = self.0.lock().unwrap().take();
            let body = stream::unfold(ended, |ended| async move {
                // Holds the sender until the body is dropped.
                std::future::pending::<()>().await;
                Some((Ok(bytes::Bytes::new()), ended))
            });
            Box::pin(async move { Response::new(Body::stream(body)) })
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("api.sock");
    let bound = Bound::open(vec![spec(&path)]).await.unwrap();
    let (sender, ended) = oneshot::channel();
    let watch = Arc::new(Watch(std::sync::Mutex::new(Some(sender))));
    tokio::spawn(bound.serve(|_| watch, std::future::pending()));
    let mut client = tokio::net::UnixStream::connect(&path).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut client, b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let mut head = [0_u8; 16];
    tokio::io::AsyncReadExt::read_exact(&mut client, &mut head).await.unwrap();
    drop(client);
    tokio::time::timeout(Duration::from_secs(5), ended).await.unwrap().unwrap_err();
}

#[tokio::test]
async fn tls_clients_need_a_certificate_and_get_a_relay() {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
    let data = |name: &str| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls").join(name);
    let files =
        TlsFiles { cert: data("server.pem"), key: data("server-key.pem"), client_ca: Some(data("ca.pem")) };
    let addr = ListenAddr::Tcp("127.0.0.1:0".into());
    let listen = ListenSpec { addr, tls: Some(files), insecure_tcp: false, group: None };
    let bound = Bound::open(vec![listen]).await.unwrap();
    let address = bound.tcp_addresses()[0];
    tokio::spawn(bound.serve(|_| Arc::new(Fake), std::future::pending()));

    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(data("ca.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let own = vec![CertificateDer::from_pem_file(data("client.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(data("client-key.pem")).unwrap();
    let trusted = builder.clone().with_client_auth_cert(own, key).unwrap();
    let stranger = builder.with_no_client_auth();

    let talk = |config: rustls::ClientConfig| async move {
        let tcp = tokio::net::TcpStream::connect(address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        let mut tls = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
        let request = b"POST /hijack HTTP/1.1\r\nHost: x\r\nUpgrade: tcp\r\n\r\nearly";
        tokio::io::AsyncWriteExt::write_all(&mut tls, request).await?;
        tokio::io::AsyncWriteExt::shutdown(&mut tls).await?;
        let mut answer = String::new();
        tokio::io::AsyncReadExt::read_to_string(&mut tls, &mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = talk(trusted).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 101 UPGRADED\r\n") && answer.ends_with("got:early"), "{answer}");
    talk(stranger).await.unwrap_err();
}
