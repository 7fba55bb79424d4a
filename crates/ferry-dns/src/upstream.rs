//! Asking other servers. Identical questions that are under way are asked once; nothing limits how many different
//! ones are, except the sockets there are.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, MessageType, ResponseCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

use crate::answer::{Question, Transport};
use crate::cache::Cache;

/// How long one server has for its response. Resolvers in containers give up after five seconds (resolv.conf(5)),
/// and the second server should have had its turn by then.
const PATIENCE: Duration = Duration::from_secs(2);

/// As many servers as resolv.conf(5) knows (`MAXNS`).
const SERVERS: usize = 3;

/// The port of the other servers.
const PORT: u16 = 53;

type Waiting = Vec<oneshot::Sender<Option<Arc<[u8]>>>>;

/// What is known of, and being asked of, one list of servers.
#[derive(Debug, Default)]
struct Group {
    cache: Cache,
    under_way: HashMap<(Question, bool), Waiting>,
}

/// Asks servers, and remembers what they said.
#[derive(Debug)]
pub struct Upstream {
    groups: Mutex<HashMap<Vec<IpAddr>, Group>>,
    sockets: Semaphore,
    port: u16,
}

/// Removes a question from those under way, also when the asking task is cancelled: whoever waits then sees its
/// sender go and does not wait for ever.
struct UnderWay<'a> {
    upstream: &'a Upstream,
    servers: &'a [IpAddr],
    key: (Question, bool),
}

impl UnderWay<'_> {
    fn finish(&self, response: Option<&Arc<[u8]>>) {
        let waiting = self.upstream.with(self.servers, |group| group.under_way.remove(&self.key));
        for waiter in waiting.into_iter().flatten() {
            let _ = waiter.send(response.cloned());
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.finish(None);
    }
}

impl Upstream {
    /// `sockets`: how many may be open at once; further questions wait.
    pub fn new(sockets: usize) -> Self {
        Self::on_port(sockets, PORT)
    }

    fn on_port(sockets: usize, port: u16) -> Self {
        Self { groups: Mutex::default(), sockets: Semaphore::new(sockets), port }
    }

    fn with<T>(&self, servers: &[IpAddr], act: impl FnOnce(&mut Group) -> T) -> T {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        match groups.get_mut(servers) {
            Some(group) => act(group),
            None => act(groups.entry(servers.to_vec()).or_default()),
        }
    }

    /// Forgets what other servers than these lists said.
    pub fn retain(&self, keep: impl Fn(&[IpAddr]) -> bool) {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        groups.retain(|servers, group| keep(servers) || !group.under_way.is_empty());
    }

    /// The response to a question that is in the cache.
    pub fn remembered(&self, servers: &[IpAddr], question: &Question) -> Option<Vec<u8>> {
        self.with(servers, |group| group.cache.get(question, Instant::now()))
    }

    /// Asks `servers` in turn. The response's id is not the query's. `None`: nobody answered.
    pub async fn ask(
        &self,
        servers: &[IpAddr],
        question: Question,
        query: &[u8],
        transport: Transport,
    ) -> Option<Arc<[u8]>> {
        if let Some(found) = self.remembered(servers, &question) {
            return Some(found.into());
        }
        let key = (question, transport == Transport::Tcp);
        let waiting = self.with(servers, |group| match group.under_way.get_mut(&key) {
            Some(waiting) => {
                let (sender, receiver) = oneshot::channel();
                waiting.push(sender);
                Some(receiver)
            }
            None => {
                group.under_way.insert(key.clone(), Vec::new());
                None
            }
        });
        if let Some(waiting) = waiting {
            return waiting.await.ok().flatten();
        }
        let asking = UnderWay { upstream: self, servers, key };
        let response: Option<Arc<[u8]>> = self.ask_in_turn(servers, query, transport).await.map(Arc::from);
        if let Some(response) = &response {
            let question = asking.key.0.clone();
            self.with(servers, |group| group.cache.put(question, response, Instant::now()));
        }
        asking.finish(response.as_ref());
        response
    }

    async fn ask_in_turn(&self, servers: &[IpAddr], query: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let _socket = self.sockets.acquire().await.ok()?;
        let mut refused = None;
        for server in servers.iter().take(SERVERS) {
            let at = SocketAddr::new(*server, self.port);
            let asked = async {
                match transport {
                    Transport::Udp => over_udp(at, query).await,
                    Transport::Tcp => over_tcp(at, query).await,
                }
            };
            match timeout(PATIENCE, asked).await {
                Ok(Ok(response)) => match code(&response) {
                    // Another server may be able or willing.
                    Some(ResponseCode::ServFail | ResponseCode::Refused | ResponseCode::NotImp) => {
                        refused = Some(response);
                    }
                    Some(_) => return Some(response),
                    None => {}
                },
                Ok(Err(error)) => tracing::debug!("name server {server}: {error}"),
                Err(_) => tracing::debug!("name server {server} did not answer in time"),
            }
        }
        refused
    }
}

fn code(response: &[u8]) -> Option<ResponseCode> {
    Message::from_vec(response).ok().map(|message| message.metadata.response_code)
}

/// A query with an id nobody can guess, and the means to recognise its response: the id, and that the question
/// comes back (RFC 5452 section 9.1).
struct Sent {
    query: Vec<u8>,
    message: Message,
}

impl Sent {
    fn new(query: &[u8]) -> std::io::Result<Self> {
        let invalid = |what: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, what.to_owned());
        let mut id = [0; 2];
        getrandom::fill(&mut id).map_err(|_| invalid("no random numbers"))?;
        let mut query = query.to_vec();
        query.get_mut(..2).ok_or_else(|| invalid("short query"))?.copy_from_slice(&id);
        let message = Message::from_vec(&query).map_err(|_| invalid("malformed query"))?;
        Ok(Self { query, message })
    }

    fn is_answered_by(&self, response: &[u8]) -> bool {
        let Ok(response) = Message::from_vec(response) else { return false };
        let same = |(ours, theirs): (&hickory_proto::op::Query, &hickory_proto::op::Query)| {
            ours.query_type == theirs.query_type && ours.name.to_lowercase() == theirs.name.to_lowercase()
        };
        response.metadata.message_type == MessageType::Response
            && response.metadata.id == self.message.metadata.id
            && response.queries.len() <= self.message.queries.len()
            && self.message.queries.iter().zip(&response.queries).all(same)
    }
}

async fn over_udp(server: SocketAddr, query: &[u8]) -> std::io::Result<Vec<u8>> {
    let sent = Sent::new(query)?;
    let any: IpAddr = if server.is_ipv4() { [0u8; 4].into() } else { [0u16; 8].into() };
    // A fresh socket: its port is the other half of what a forger has to guess.
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(&sent.query).await?;
    let mut buffer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if sent.is_answered_by(&buffer[..length]) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

async fn over_tcp(server: SocketAddr, query: &[u8]) -> std::io::Result<Vec<u8>> {
    let sent = Sent::new(query)?;
    let mut stream = TcpStream::connect(server).await?;
    write_framed(&mut stream, &sent.query).await?;
    loop {
        let response = read_framed(&mut stream).await?;
        if sent.is_answered_by(&response) {
            return Ok(response);
        }
    }
}

/// Writes a message with its length before it (RFC 1035 section 4.2.2), in one segment.
pub(crate) async fn write_framed(stream: &mut TcpStream, message: &[u8]) -> std::io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| {
        std::io::Error::new(std::io::ErrorKind::InvalidData, "message longer than 65535 bytes")
    })?;
    let mut framed = Vec::with_capacity(message.len() + 2);
    framed.extend(length.to_be_bytes());
    framed.extend(message);
    stream.write_all(&framed).await
}

/// Reads a message with its length before it.
pub(crate) async fn read_framed(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut message = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use hickory_proto::op::{OpCode, Query};
    use hickory_proto::rr::rdata::A;
    use hickory_proto::rr::{Name, RData, Record, RecordType};

    use super::*;

    fn query() -> (Question, Vec<u8>) {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message.add_query(Query::query(Name::from_ascii("example.org.").unwrap(), RecordType::A));
        let question = Question {
            name: "example.org.".into(),
            kind: 1,
            class: 1,
            dnssec: false,
            checking_disabled: false,
        };
        (question, message.to_vec().unwrap())
    }

    /// A server on a loopback address of its own, all on one port; `code` for its responses.
    async fn server(address: Ipv4Addr, port: u16, code: ResponseCode) -> (u16, Arc<AtomicUsize>) {
        let socket = UdpSocket::bind((address, port)).await.unwrap();
        let (port, count) = (socket.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
        let counter = Arc::clone(&count);
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
                counter.fetch_add(1, Ordering::Relaxed);
                let mut message = Message::from_vec(&buffer[..length]).unwrap().into_response();
                message.metadata.response_code = code;
                let name = message.queries[0].name.clone();
                message.add_answer(Record::from_rdata(name, 60, RData::A(A(Ipv4Addr::new(192, 0, 2, 7)))));
                // One that a forger might send, then the true one.
                let mut forged = message.to_vec().unwrap();
                forged[0] ^= 0xff;
                socket.send_to(&forged, peer).await.unwrap();
                tokio::time::sleep(Duration::from_millis(20)).await;
                socket.send_to(&message.to_vec().unwrap(), peer).await.unwrap();
            }
        });
        (port, count)
    }

    #[tokio::test]
    async fn questions_are_asked_once_and_answers_kept() {
        let (port, count) = server(Ipv4Addr::LOCALHOST, 0, ResponseCode::NoError).await;
        let upstream = Upstream::on_port(10, port);
        let servers = [IpAddr::from(Ipv4Addr::LOCALHOST)];
        let (question, bytes) = query();
        let ask = || upstream.ask(&servers, question.clone(), &bytes, Transport::Udp);
        let (a, b) = tokio::join!(ask(), ask());
        assert!(a.is_some() && a == b);
        assert!(ask().await.is_some());
        assert_eq!(count.load(Ordering::Relaxed), 1);
        upstream.retain(|_| false);
        assert!(ask().await.is_some());
        assert_eq!(count.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn the_next_server_is_asked_when_one_will_not_answer() {
        let (first, second) = (Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 3));
        let (port, _) = server(first, 0, ResponseCode::Refused).await;
        let upstream = Upstream::on_port(10, port);
        let (question, bytes) = query();
        let refused = upstream.ask(&[first.into()], question.clone(), &bytes, Transport::Udp).await.unwrap();
        assert_eq!(code(&refused), Some(ResponseCode::Refused));
        server(second, port, ResponseCode::NoError).await;
        let servers = [first.into(), second.into()];
        let answered = upstream.ask(&servers, question, &bytes, Transport::Udp).await.unwrap();
        assert_eq!(code(&answered), Some(ResponseCode::NoError));
    }

    #[tokio::test]
    async fn nobody_waits_for_one_who_went_away() {
        // Nobody reads this socket: the question stays open.
        let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let upstream = Arc::new(Upstream::on_port(10, silent.local_addr().unwrap().port()));
        let servers = [IpAddr::from(Ipv4Addr::LOCALHOST)];
        let (question, bytes) = query();
        let asking = {
            let (upstream, question, bytes) = (Arc::clone(&upstream), question.clone(), bytes.clone());
            tokio::spawn(async move { upstream.ask(&servers, question, &bytes, Transport::Udp).await })
        };
        tokio::time::sleep(Duration::from_millis(50)).await;
        let waiting = {
            let upstream = Arc::clone(&upstream);
            tokio::spawn(async move { upstream.ask(&servers, question, &bytes, Transport::Udp).await })
        };
        tokio::time::sleep(Duration::from_millis(50)).await;
        asking.abort();
        assert_eq!(timeout(Duration::from_secs(1), waiting).await.unwrap().unwrap(), None);
    }
}
