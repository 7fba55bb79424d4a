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
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::answer::{LARGEST_UDP, Question, Transport};
use crate::cache::Cache;

/// How long a question may take. Resolvers in containers give up after five seconds (resolv.conf(5)).
const PATIENCE: Duration = Duration::from_millis(4500);

/// How long a server is waited for before the next one is asked as well; whoever answers first is heard.
const HEAD_START: Duration = Duration::from_secs(1);

/// Bytes of a response by datagram: what we say we take, and some more for servers that do not listen.
const DATAGRAM: usize = 2048;

/// Lists of servers whose responses are remembered.
const GROUPS: usize = 16;

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
        if let Some(group) = groups.get_mut(servers) {
            return act(group);
        }
        if groups.len() >= GROUPS {
            let idle = groups.iter().find(|(_, group)| group.under_way.is_empty());
            if let Some(idle) = idle.map(|(servers, _)| servers.clone()) {
                groups.remove(&idle);
            }
        }
        act(groups.entry(servers.to_vec()).or_default())
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

    /// Asks one server after the other, each with a head start; the first useful response wins.
    async fn ask_in_turn(&self, servers: &[IpAddr], query: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let _socket = self.sockets.acquire().await.ok()?;
        let query: Arc<[u8]> = query.into();
        let servers: Vec<SocketAddr> =
            servers.iter().take(SERVERS).map(|server| SocketAddr::new(*server, self.port)).collect();
        let mut next = servers.into_iter().peekable();
        // Whoever is still being asked when this returns, is asked no more.
        let mut asked = JoinSet::new();
        let mut refused = None;
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(server) = next.next() {
                let query = Arc::clone(&query);
                asked.spawn(async move { (server, ask_one(server, &query, transport).await) });
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let patience = if next.peek().is_some() { left.min(HEAD_START) } else { left };
            match timeout(patience, asked.join_next()).await {
                Ok(Some(Ok((_, Ok(response))))) => match code(&response) {
                    // Another server may be able or willing.
                    Some(ResponseCode::ServFail | ResponseCode::Refused | ResponseCode::NotImp) => {
                        refused = Some(response);
                    }
                    Some(_) => return Some(response),
                    None => {}
                },
                Ok(Some(Ok((server, Err(error))))) => tracing::debug!("name server {server}: {error}"),
                Ok(Some(Err(_))) => {}
                Ok(None) if next.peek().is_none() => return refused,
                Err(_) if left.is_zero() || next.peek().is_none() => {
                    tracing::debug!("no name server answered in time");
                    return refused;
                }
                Ok(None) | Err(_) => {}
            }
        }
    }
}

/// Asks one server; what does not fit into a datagram is asked for again over TCP (RFC 7766 section 5).
async fn ask_one(server: SocketAddr, query: &[u8], transport: Transport) -> std::io::Result<Vec<u8>> {
    if transport == Transport::Udp {
        let response = over_udp(server, query).await?;
        // The flag TC of the header.
        if response.get(2).is_none_or(|flags| flags & 2 == 0) {
            return Ok(response);
        }
        return Ok(over_tcp(server, query).await.unwrap_or(response));
    }
    over_tcp(server, query).await
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
        let mut message = Message::from_vec(&query).map_err(|_| invalid("malformed query"))?;
        message.metadata.id = u16::from_be_bytes(id);
        match &mut message.edns {
            // No more than is read.
            Some(edns) if edns.max_payload() > LARGEST_UDP => {
                edns.set_max_payload(LARGEST_UDP);
                query = message.to_vec().map_err(|_| invalid("query that cannot be encoded"))?;
            }
            _ => query.get_mut(..2).ok_or_else(|| invalid("short query"))?.copy_from_slice(&id),
        }
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

/// Whether `response` would be taken for the response to `query` if it were sent as it is.
pub fn answers(query: &[u8], response: &[u8]) -> bool {
    Message::from_vec(query)
        .is_ok_and(|message| Sent { query: query.to_vec(), message }.is_answered_by(response))
}

async fn over_udp(server: SocketAddr, query: &[u8]) -> std::io::Result<Vec<u8>> {
    let sent = Sent::new(query)?;
    let any: IpAddr = if server.is_ipv4() { [0u8; 4].into() } else { [0u16; 8].into() };
    // A fresh socket: its port is the other half of what a forger has to guess.
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(&sent.query).await?;
    let mut buffer = vec![0; DATAGRAM];
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
    async fn a_silent_server_delays_by_its_head_start_only() {
        let (first, second) = (Ipv4Addr::new(127, 0, 0, 4), Ipv4Addr::new(127, 0, 0, 5));
        let silent = UdpSocket::bind((first, 0)).await.unwrap();
        let port = silent.local_addr().unwrap().port();
        server(second, port, ResponseCode::NoError).await;
        let upstream = Upstream::on_port(10, port);
        let (question, bytes) = query();
        let begin = Instant::now();
        let servers = [first.into(), second.into()];
        assert!(upstream.ask(&servers, question.clone(), &bytes, Transport::Udp).await.is_some());
        assert!(begin.elapsed() < HEAD_START * 2, "{:?}", begin.elapsed());
        // With nobody else to ask, it is waited for until the container gives up, not longer.
        let begin = Instant::now();
        assert_eq!(upstream.ask(&[first.into()], question, &bytes, Transport::Udp).await, None);
        assert!((PATIENCE..PATIENCE * 2).contains(&begin.elapsed()), "{:?}", begin.elapsed());
    }

    #[tokio::test]
    async fn what_is_torn_is_asked_for_again_over_tcp() {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = udp.local_addr().unwrap().port();
        let tcp = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            let (length, peer) = udp.recv_from(&mut buffer).await.unwrap();
            let query = Message::from_vec(&buffer[..length]).unwrap();
            assert_eq!(query.edns.as_ref().unwrap().max_payload(), LARGEST_UDP, "no more than we read");
            let mut torn = query.into_response();
            torn.metadata.truncation = true;
            udp.send_to(&torn.to_vec().unwrap(), peer).await.unwrap();
            let (mut stream, _) = tcp.accept().await.unwrap();
            let query = read_framed(&mut stream).await.unwrap();
            let mut whole = Message::from_vec(&query).unwrap().into_response();
            let name = whole.queries[0].name.clone();
            for n in 0..100 {
                whole.add_answer(Record::from_rdata(
                    name.clone(),
                    60,
                    RData::A(A(Ipv4Addr::new(192, 0, 2, n))),
                ));
            }
            write_framed(&mut stream, &whole.to_vec().unwrap()).await.unwrap();
        });
        let upstream = Upstream::on_port(10, port);
        let (question, bytes) = query();
        let mut large = Message::from_vec(&bytes).unwrap();
        let mut edns = hickory_proto::op::Edns::new();
        edns.set_max_payload(65_000);
        large.set_edns(edns);
        let bytes = large.to_vec().unwrap();
        let servers = [IpAddr::from(Ipv4Addr::LOCALHOST)];
        let response = upstream.ask(&servers, question.clone(), &bytes, Transport::Udp).await.unwrap();
        assert_eq!(Message::from_vec(&response).unwrap().answers.len(), 100);
        assert!(upstream.remembered(&servers, &question).is_some(), "whole answers are remembered");
    }

    #[tokio::test]
    async fn lists_of_servers_are_forgotten() {
        let upstream = Upstream::on_port(10, 1);
        for n in 0..100 {
            upstream.remembered(&[IpAddr::from([10, 0, 0, n])], &query().0);
        }
        assert_eq!(upstream.groups.lock().unwrap().len(), GROUPS);
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
