//! The sockets of all containers: queries come in, answers from the table go out at once, the rest is asked of
//! other servers meanwhile.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::answer::{self, Outcome, Question, Transport};
use crate::host::HostServers;
use crate::table::{Network, Table, View};
use crate::upstream::{Upstream, read_framed, write_framed};

/// A TCP connection that says nothing for so long is closed (RFC 7766 section 6.2.3).
const IDLE: Duration = Duration::from_secs(10);

/// TCP connections of one container at once.
const CONNECTIONS: usize = 64;

/// Bytes of a query; what is longer is no query.
const LONGEST_QUERY: usize = 4096;

/// Questions of one container under way elsewhere at once. More are dropped, as a full queue of the kernel's would drop
/// them: one container shall not take all memory.
const UNDER_WAY: usize = 10_000;

/// Answers the containers' queries. All work is done by tasks of the runtime that calls [`Server::add`].
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    clients: Arc<Mutex<HashMap<String, Client>>>,
}

#[derive(Debug)]
struct Shared {
    table: RwLock<Table>,
    upstream: Upstream,
    host: HostServers,
    turn: AtomicUsize,
}

#[derive(Debug)]
struct Client {
    view: Arc<RwLock<Arc<View>>>,
    tasks: [AbortHandle; 2],
    /// Waits for the end of its process.
    watcher: Option<AbortHandle>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.tasks.iter().chain(&self.watcher).for_each(AbortHandle::abort);
    }
}

impl Server {
    /// `sockets`: how many questions may be asked of other servers at once; further ones wait. `resolv_conf` is the file
    /// that names the host's servers.
    pub fn new(sockets: usize, resolv_conf: PathBuf) -> Self {
        let shared = Shared {
            table: RwLock::default(),
            upstream: Upstream::new(sockets),
            host: HostServers::new(resolv_conf),
            turn: AtomicUsize::new(0),
        };
        Self { shared: Arc::new(shared), clients: Arc::default() }
    }

    /// Sets what a network's containers know of each other.
    pub fn set_network(&self, id: &str, network: &Network) {
        self.shared.table.write().unwrap_or_else(PoisonError::into_inner).set(id, network);
    }

    /// Forgets a network.
    pub fn remove_network(&self, id: &str) {
        self.shared.table.write().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// Serves a container whose queries arrive on these sockets; an earlier one of that id is served no more.
    pub fn add(&self, id: &str, view: View, udp: UdpSocket, tcp: TcpListener) -> io::Result<()> {
        udp.set_nonblocking(true)?;
        tcp.set_nonblocking(true)?;
        let udp = tokio::net::UdpSocket::from_std(udp)?;
        let tcp = tokio::net::TcpListener::from_std(tcp)?;
        let view = Arc::new(RwLock::new(Arc::new(view)));
        let datagrams = tokio::spawn(serve_udp(Arc::clone(&self.shared), Arc::clone(&view), udp));
        let streams = tokio::spawn(serve_tcp(Arc::clone(&self.shared), Arc::clone(&view), tcp));
        let tasks = [datagrams.abort_handle(), streams.abort_handle()];
        self.clients().insert(id.to_owned(), Client { view, tasks, watcher: None });
        Ok(())
    }

    /// Changes what a container sees; `false` when it is not served.
    pub fn set_view(&self, id: &str, view: View) -> bool {
        match self.clients().get(id) {
            Some(client) => {
                *client.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(view);
                true
            }
            None => false,
        }
    }

    /// Closes a container's sockets when the process behind `pidfd` ends: they keep its network namespace from going away,
    /// and there may be no engine to say so. `false` when the container is not served.
    pub fn watch(&self, id: &str, pidfd: OwnedFd) -> io::Result<bool> {
        // It is never read from, only waited for, which works for whatever epoll(7) takes.
        let pidfd = Receiver::from_owned_fd_unchecked(pidfd)?;
        let mut clients = self.clients();
        let Some(client) = clients.get_mut(id) else { return Ok(false) };
        let (all, view, id) = (Arc::downgrade(&self.clients), Arc::clone(&client.view), id.to_owned());
        let waiting = tokio::spawn(async move {
            // Readable for good once the process has ended (pidfd_open(2)).
            let ended = pidfd.readable().await;
            let Some(all) = all.upgrade().filter(|_| ended.is_ok()) else { return };
            let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
            // A container that was started again has another view.
            if all.get(&id).is_some_and(|client| Arc::ptr_eq(&client.view, &view)) {
                all.remove(&id);
            }
        });
        if let Some(earlier) = client.watcher.replace(waiting.abort_handle()) {
            earlier.abort();
        }
        Ok(true)
    }

    /// Closes a container's sockets.
    pub fn remove(&self, id: &str) {
        self.clients().remove(id);
    }

    /// Serves only these containers and knows only these networks: what a restarted engine says once it has taken
    /// stock. What other servers said to nobody who is left is forgotten.
    pub fn retain(&self, client: impl Fn(&str) -> bool, network: impl Fn(&str) -> bool) {
        let mut clients = self.clients();
        clients.retain(|id, _| client(id));
        self.shared.table.write().unwrap_or_else(PoisonError::into_inner).retain(network);
        let views: Vec<_> = clients.values().map(|c| current(&c.view)).collect();
        let host = self.shared.host.get(Instant::now());
        self.shared
            .upstream
            .retain(|servers| *host == *servers || views.iter().any(|v| v.servers == servers));
    }

    /// Containers served, in no order.
    pub fn served(&self) -> Vec<String> {
        self.clients().keys().cloned().collect()
    }

    fn clients(&self) -> std::sync::MutexGuard<'_, HashMap<String, Client>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn current(view: &RwLock<Arc<View>>) -> Arc<View> {
    Arc::clone(&view.read().unwrap_or_else(PoisonError::into_inner))
}

/// What is to be done with a query.
enum Next {
    Send(Vec<u8>),
    Ask(Arc<[IpAddr]>, Question),
    Nothing,
}

impl Shared {
    /// Answers from the table or the cache.
    fn decide(&self, view: &RwLock<Arc<View>>, query: &[u8], transport: Transport) -> Next {
        let view = current(view);
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let outcome = {
            let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
            answer::answer(&table, &view, query, transport, turn)
        };
        match outcome {
            Outcome::Respond(bytes) => Next::Send(bytes),
            Outcome::Ignore => Next::Nothing,
            Outcome::Forward(question) => {
                let servers = match view.host_servers {
                    true => self.host.get(Instant::now()),
                    false => view.servers.as_slice().into(),
                };
                let known = self.upstream.remembered(&servers, &question);
                match known.and_then(|bytes| fit(&bytes, query, transport)) {
                    Some(bytes) => Next::Send(bytes),
                    None => Next::Ask(servers, question),
                }
            }
        }
    }

    async fn ask(
        &self,
        servers: &[IpAddr],
        question: Question,
        query: &[u8],
        transport: Transport,
    ) -> Option<Vec<u8>> {
        match self.upstream.ask(servers, question, query, transport).await {
            Some(bytes) => fit(&bytes, query, transport),
            None => answer::failure(query),
        }
    }
}

fn fit(response: &[u8], query: &[u8], transport: Transport) -> Option<Vec<u8>> {
    let id = [*query.first()?, *query.get(1)?];
    answer::adapt(response, id, answer::limit(query, transport))
}

async fn serve_udp(shared: Arc<Shared>, view: Arc<RwLock<Arc<View>>>, socket: tokio::net::UdpSocket) {
    let socket = Arc::new(socket);
    let room = Arc::new(Semaphore::new(UNDER_WAY));
    let mut buffer = vec![0; LONGEST_QUERY];
    loop {
        let (length, peer) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            // An earlier response met a closed port; that is the client's affair.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
            Err(error) => {
                tracing::debug!("name service socket: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let query = &buffer[..length];
        match shared.decide(&view, query, Transport::Udp) {
            Next::Nothing => {}
            Next::Send(response) => send(&socket, &response, peer).await,
            Next::Ask(servers, question) => {
                let Ok(permit) = Arc::clone(&room).try_acquire_owned() else { continue };
                let (shared, socket, query) = (Arc::clone(&shared), Arc::clone(&socket), query.to_vec());
                tokio::spawn(async move {
                    let _permit = permit;
                    let response = shared.ask(&servers, question, &query, Transport::Udp).await;
                    if let Some(response) = response {
                        send(&socket, &response, peer).await;
                    }
                });
            }
        }
    }
}

async fn send(socket: &tokio::net::UdpSocket, response: &[u8], peer: SocketAddr) {
    if let Err(error) = socket.send_to(response, peer).await {
        tracing::debug!("response to {peer}: {error}");
    }
}

async fn serve_tcp(shared: Arc<Shared>, view: Arc<RwLock<Arc<View>>>, listener: tokio::net::TcpListener) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!("name service listener: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // Beyond the limit the connection is closed; the client asks again.
        if let Ok(permit) = Arc::clone(&room).try_acquire_owned() {
            let (shared, view) = (Arc::clone(&shared), Arc::clone(&view));
            tokio::spawn(async move {
                let _ = serve_connection(&shared, &view, stream).await;
                drop(permit);
            });
        }
    }
}

async fn serve_connection(
    shared: &Shared,
    view: &RwLock<Arc<View>>,
    mut stream: TcpStream,
) -> io::Result<()> {
    loop {
        let query = timeout(IDLE, read_framed(&mut stream)).await??;
        let response = match shared.decide(view, &query, Transport::Tcp) {
            Next::Nothing => return Ok(()),
            Next::Send(response) => Some(response),
            Next::Ask(servers, question) => shared.ask(&servers, question, &query, Transport::Tcp).await,
        };
        match response {
            Some(response) => timeout(IDLE, write_framed(&mut stream, &response)).await??,
            None => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hickory_proto::op::{Message, MessageType, OpCode, Query};
    use hickory_proto::rr::{Name, RecordType};

    use super::*;
    use crate::table::Host;

    fn query(name: &str) -> Vec<u8> {
        let mut message = Message::new(9, MessageType::Query, OpCode::Query);
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
        message.to_vec().unwrap()
    }

    fn network() -> Network {
        let host =
            Host { name: "web".into(), names: vec!["web".into()], addresses: vec![[10, 1, 0, 2].into()] };
        Network { name: "net".into(), hosts: vec![host] }
    }

    fn sockets() -> (UdpSocket, TcpListener, SocketAddr) {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let at = tcp.local_addr().unwrap();
        (UdpSocket::bind(at).unwrap(), tcp, at)
    }

    async fn ask(at: SocketAddr, name: &str) -> Option<Message> {
        let socket = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        socket.connect(at).await.unwrap();
        socket.send(&query(name)).await.unwrap();
        let mut buffer = [0; 512];
        let received = timeout(Duration::from_millis(500), socket.recv(&mut buffer)).await;
        received.ok()?.ok().and_then(|length| Message::from_vec(&buffer[..length]).ok())
    }

    #[tokio::test]
    async fn serves_over_udp_and_tcp_and_stops() {
        let server = Server::new(8, PathBuf::from("/nonexistent"));
        server.set_network("n", &network());
        let (udp, tcp, at) = sockets();
        let view = View { networks: vec!["n".into()], ..View::default() };
        server.add("c", view, udp, tcp).unwrap();
        assert_eq!(ask(at, "web.").await.unwrap().answers[0].data.to_string(), "10.1.0.2");
        let mut stream = TcpStream::connect(at).await.unwrap();
        for _ in 0..2 {
            write_framed(&mut stream, &query("web.net.")).await.unwrap();
            let reply = Message::from_vec(&read_framed(&mut stream).await.unwrap()).unwrap();
            assert_eq!(reply.answers.len(), 1);
        }
        assert!(server.set_view("c", View::default()));
        assert!(ask(at, "web.").await.unwrap().answers.is_empty(), "it left the network");
        assert!(!server.set_view("other", View::default()));
        server.retain(|_| false, |_| true);
        assert!(server.served().is_empty());
        tokio::task::yield_now().await;
        assert!(ask(at, "web.").await.is_none(), "its sockets are closed");
    }

    /// Ten thousand questions a second, none lost: a burst of questions answered one and all.
    #[tokio::test]
    async fn a_burst_is_answered_without_loss() {
        let server = Server::new(8, PathBuf::from("/nonexistent"));
        server.set_network("n", &network());
        let (udp, tcp, at) = sockets();
        server.add("c", View { networks: vec!["n".into()], ..View::default() }, udp, tcp).unwrap();
        let socket = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        socket.connect(at).await.unwrap();
        let (bytes, mut buffer, mut answered) = (query("web."), [0; 512], 0);
        for _ in 0..100 {
            for _ in 0..100 {
                socket.send(&bytes).await.unwrap();
            }
            for _ in 0..100 {
                timeout(Duration::from_secs(5), socket.recv(&mut buffer)).await.unwrap().unwrap();
                answered += 1;
            }
        }
        assert_eq!(answered, 10_000);
    }

    #[tokio::test]
    async fn a_container_whose_process_ends_is_served_no_more() {
        let server = Server::new(8, PathBuf::from("/nonexistent"));
        // A pipe whose writer goes away becomes readable as a pidfd does.
        let watch = |server: &Server| {
            let (reader, writer) = std::io::pipe().unwrap();
            assert!(server.watch("c", reader.into()).unwrap());
            writer
        };
        let add = |server: &Server| {
            let (udp, tcp, _) = sockets();
            server.add("c", View::default(), udp, tcp).unwrap();
        };
        assert!(!server.watch("c", std::io::pipe().unwrap().0.into()).unwrap(), "it is not served yet");
        add(&server);
        let first = watch(&server);
        add(&server);
        let second = watch(&server);
        drop(first);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(server.served(), ["c"], "it was started again");
        drop(second);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(server.served().is_empty());
    }

    #[tokio::test]
    async fn one_container_has_a_limit_of_open_questions() {
        let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let server = Server::new(4, PathBuf::from("/nonexistent"));
        let (udp, tcp, at) = sockets();
        let servers = vec![silent.local_addr().unwrap().ip()];
        server.add("c", View { servers, ..View::default() }, udp, tcp).unwrap();
        let socket = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        socket.connect(at).await.unwrap();
        for n in 0..UNDER_WAY + 2_000 {
            socket.send(&query(&format!("n{n}.example."))).await.unwrap();
            if n % 100 == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        assert!((UNDER_WAY / 2..UNDER_WAY + 100).contains(&tasks), "{tasks}");
    }
}
