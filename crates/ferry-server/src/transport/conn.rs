//! One connection, from accept to close or hijack.

use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use ferry_engine::api::Hijacked;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt as _;
use tokio_util::sync::CancellationToken;

use super::Service;
use super::hijack::{ConnHandle, Exit, Switch, Tap};
use super::socket::Socket;

/// Most bytes of a request's head.
const MAX_HEAD: usize = 128 << 10;
/// Most headers of a request.
const MAX_HEADERS: usize = 256;

/// How long a client that must read a head alone may take for it.
const HEAD_PATIENCE: Duration = Duration::from_secs(2);

/// Serves one connection until it ends, is hijacked, or `stop` is cancelled and its request done.
/// A request's head must arrive within `head_timeout`, which also bounds idle connections.
pub(super) async fn serve(
    socket: Socket,
    service: Arc<dyn Service>,
    stop: CancellationToken,
    head_timeout: Duration,
) {
    if socket.speaks_http2().await {
        serve_http2(socket, service, stop).await;
    } else {
        serve_http1(socket, service, stop, head_timeout).await;
    }
}

async fn serve_http1(
    socket: Socket,
    service: Arc<dyn Service>,
    stop: CancellationToken,
    head_timeout: Duration,
) {
    let exit = Arc::new(Exit::default());
    let io = TokioIo::new(Tap::new(socket, exit.clone()));
    let handle = ConnHandle(Some(exit.clone()));
    let answer = service_fn(move |request| {
        let response = service.clone().call(request, handle.clone());
        Box::pin(async move { Ok::<_, Infallible>(response.await) })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .serve_connection(io, answer);
    let mut stopping = false;
    let ended = loop {
        tokio::select! {
            biased;
            ended = poll_fn(|cx| connection.poll_without_shutdown(cx)) => break ended,
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                std::pin::Pin::new(&mut connection).graceful_shutdown();
            }
        }
    };
    let parts = connection.into_parts();
    let (mut socket, unsent) = parts.io.into_inner().into_parts();
    match (exit.take(), ended) {
        (Some(switch), _) => hand_over(socket, unsent, switch, parts.read_buf.to_vec()).await,
        (_, ended) => {
            if let Err(error) = ended {
                tracing::debug!(%error, "connection ended");
            }
            // For TLS, says goodbye; the client may be gone.
            let _ = socket.shutdown().await;
        }
    }
}

/// Writes the hijacked stream's head and gives the socket away.
async fn hand_over(mut socket: Socket, mut unsent: Vec<u8>, switch: Switch, pending_input: Vec<u8>) {
    unsent.extend_from_slice(&switch.head);
    let sent = async {
        socket.write_all(&unsent).await?;
        socket.flush().await?;
        if switch.head_alone {
            socket.until_read(HEAD_PATIENCE).await;
        }
        socket.into_fd()
    };
    match sent.await {
        Ok(socket) => (switch.then)(Hijacked { socket, pending_input }).await,
        Err(error) => tracing::debug!(%error, "the client left before its stream began"),
    }
}

async fn serve_http2(socket: Socket, service: Arc<dyn Service>, stop: CancellationToken) {
    let answer = service_fn(move |request| {
        let response = service.clone().call(request, ConnHandle(None));
        async move { Ok::<_, Infallible>(response.await) }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(60))
        .serve_connection(TokioIo::new(socket), answer);
    let mut connection = std::pin::pin!(connection);
    let mut stopping = false;
    loop {
        tokio::select! {
            biased;
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "connection ended");
                }
                return;
            }
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}
