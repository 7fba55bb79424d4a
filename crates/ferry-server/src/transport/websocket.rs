//! Websockets (RFC 6455), which `attach/ws` speaks. Container's shims do not, so the daemon copies between a client's
//! websocket and one end of a socket pair whose other end the shim gets.

use std::io;
use std::os::fd::OwnedFd;

use ferry_api::auth::base64;
use ferry_engine::api::Hijacked;
use futures_util::{SinkExt as _, StreamExt as _};
use http::HeaderMap;
use http::header::{CONNECTION, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::error::{HttpError, Result};

/// What a server appends to the client's key (RFC 6455, 1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Most bytes of output in one message.
const CHUNK: usize = 32 << 10;

/// Checks the client's side of the handshake and gives the head of the answer.
pub(crate) fn handshake(headers: &HeaderMap) -> Result<Vec<u8>> {
    let text = |name| headers.get(name).and_then(|v: &http::HeaderValue| v.to_str().ok()).unwrap_or_default();
    let listed = |name, wanted: &str| text(name).split(',').any(|v| v.trim().eq_ignore_ascii_case(wanted));
    if !listed(UPGRADE, "websocket") || !listed(CONNECTION, "upgrade") {
        return Err(HttpError::invalid("not websocket protocol"));
    }
    if text(SEC_WEBSOCKET_VERSION) != "13" {
        return Err(HttpError::invalid("missing or bad WebSocket Version"));
    }
    let key = text(SEC_WEBSOCKET_KEY);
    if key.is_empty() {
        return Err(HttpError::invalid("mismatch challenge/response"));
    }
    let answer =
        ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{GUID}").as_bytes());
    let mut head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n",
        base64(answer.as_ref())
    );
    let protocol = text(SEC_WEBSOCKET_PROTOCOL);
    if !protocol.is_empty() && !protocol.contains(',') {
        head.push_str(&format!("Sec-WebSocket-Protocol: {protocol}\r\n"));
    }
    head.push_str("\r\n");
    Ok(head.into_bytes())
}

/// A client and our end of its socket pair.
pub(crate) struct Ours {
    client: Hijacked,
    pair: UnixStream,
}

/// Our end with the client, and the end that the engine gets in the client's stead.
pub(crate) fn socket_pair(client: Hijacked) -> io::Result<(Ours, Hijacked)> {
    let (pair, theirs) = UnixStream::pair()?;
    let socket: OwnedFd = theirs.into_std()?.into();
    Ok((Ours { client, pair }, Hijacked { socket, pending_input: Vec::new() }))
}

/// Copies both ways until either side ends.
pub(crate) async fn relay(ours: Ours, binary: bool) {
    let Ours { client, pair } = ours;
    // Reading and writing are the same for a TCP socket.
    let client_socket = match UnixStream::from_std(client.socket.into()) {
        Ok(socket) => socket,
        Err(error) => return tracing::warn!(%error, "a websocket client's socket is unusable"),
    };
    let socket =
        WebSocketStream::from_partially_read(client_socket, client.pending_input, Role::Server, None).await;
    let (mut sink, mut source) = socket.split();
    let (mut output, mut input) = pair.into_split();
    let inward = async {
        while let Some(Ok(message)) = source.next().await {
            match message {
                Message::Text(_) | Message::Binary(_) => {
                    if input.write_all(&message.into_data()).await.is_err() {
                        break;
                    }
                }
                Message::Close(_) => break,
                // Pings are answered underneath.
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    };
    let outward = async {
        let mut buffer = vec![0; CHUNK];
        while let Ok(count @ 1..) = output.read(&mut buffer).await {
            let data = &buffer[..count];
            let message = match binary {
                true => Message::binary(data.to_vec()),
                false => Message::text(String::from_utf8_lossy(data).into_owned()),
            };
            if sink.send(message).await.is_err() {
                return;
            }
        }
        let _ = sink.send(Message::Close(None)).await;
    };
    tokio::select! {
        () = inward => {}
        () = outward => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (http::HeaderName::from_static(n), v.parse().unwrap())).collect()
    }

    const GOOD: &[(&str, &str)] = &[
        ("upgrade", "WebSocket"),
        ("connection", "keep-alive, Upgrade"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-protocol", "chat"),
    ];

    #[test]
    fn the_handshake_of_the_rfc() {
        let head = String::from_utf8(handshake(&headers(GOOD)).unwrap()).unwrap();
        assert!(head.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{head}");
        assert!(head.ends_with("Sec-WebSocket-Protocol: chat\r\n\r\n"), "{head}");
    }

    #[test]
    fn other_requests_are_refused() {
        for missing in 0..4 {
            let pairs: Vec<_> =
                GOOD.iter().enumerate().filter(|(i, _)| *i != missing).map(|(_, pair)| *pair).collect();
            assert_eq!(handshake(&headers(&pairs)).unwrap_err().status.as_u16(), 400);
        }
    }

    #[tokio::test]
    async fn messages_become_bytes_and_back() {
        let (there, here) = UnixStream::pair().unwrap();
        let client = Hijacked { socket: here.into_std().unwrap().into(), pending_input: Vec::new() };
        let (ours, engine) = socket_pair(client).unwrap();
        let relay = tokio::spawn(relay(ours, true));
        let mut engine = UnixStream::from_std(engine.socket.into()).unwrap();
        let mut client = WebSocketStream::from_raw_socket(there, Role::Client, None).await;
        client.send(Message::text("in")).await.unwrap();
        let mut read = [0; 2];
        engine.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"in");
        engine.write_all(b"out").await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), Message::binary(b"out".to_vec()));
        drop(engine);
        assert!(matches!(client.next().await, Some(Ok(Message::Close(_)))));
        relay.await.unwrap();
    }
}
