//! Hosts, containers and peers for tests.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use ferry_sys::netlink::route::{self, Link, LinkChange, LinkRef};
use ferry_sys::netlink::{Batch, Protocol as Family, Socket};
use ferry_sys::netns;
use ferry_types::ContainerId;
use ferry_types::net::{Protocol, PublishRequest};

use crate::config::TableProtection;
use crate::{
    BridgeConfig, BridgeNetwork, ChildKind, Endpoint, EndpointRequest, FirewallBackend, FirewallConfig,
    NetworkStack, ParentConfig, StackConfig, Subnet4, Ways,
};

pub(super) const TABLE: &str = "ferry-test";
pub(super) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 213, 0, 1);
/// The host's address towards its neighbour, and the neighbour's.
pub(super) const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(super) const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

/// For answers that must come, on a machine that may be busy; tcp sends a lost segment again after a second.
const PATIENCE: Duration = Duration::from_secs(5);
/// For answers that must not come.
const IMPATIENCE: Duration = Duration::from_millis(300);

/// Runs a test on a host of its own.
pub(crate) fn on_a_host(test: impl FnOnce() + Send + 'static) {
    let run = || {
        netns::unshare().expect("tests run as root");
        loopback_up(&mut Socket::open(Family::Route).unwrap());
        test();
    };
    let result = thread::Builder::new().name(test_name()).spawn(run).unwrap().join();
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

fn test_name() -> String {
    thread::current().name().unwrap_or("test").to_owned()
}

fn loopback_up(socket: &mut Socket) {
    let mut batch = Batch::new();
    let up = LinkChange { up: Some(true), ..LinkChange::default() };
    route::set_link(&mut batch, LinkRef::Index(1), &up);
    socket.execute(batch).unwrap();
}

pub(super) fn stack(pool_size: usize) -> NetworkStack {
    NetworkStack::open(StackConfig {
        table_name: TABLE.to_owned(),
        pool_size,
        spare: 0,
        firewall: firewall(),
    })
    .unwrap()
}

/// The subnet of a bridge of this address.
pub(super) fn at(bridge: &str) -> Option<Subnet4> {
    bridge.parse().ok().map(Subnet4::at)
}

pub(super) fn config() -> BridgeConfig {
    BridgeConfig { ipv4: at("10.213.0.1/24"), ..BridgeConfig::new("ferry0") }
}

/// A bridge `ferry0` of 10.213.0.0/24.
pub(super) fn bridge() -> (NetworkStack, BridgeNetwork) {
    let stack = stack(2);
    let bridge = BridgeNetwork::open(&stack, config()).unwrap();
    (stack, bridge)
}

/// A network of 10.213.0.0/24 on an interface of the host's.
pub(super) fn on_parent(parent: Option<&str>, kind: ChildKind) -> ParentConfig {
    ParentConfig {
        id: ferry_types::NetworkId::random(),
        network: "second".to_owned(),
        kind,
        parent: parent.map(str::to_owned),
        made_parent: false,
        ipv4: at("10.213.0.1/24").map(|s| Subnet4 { bridge: None, ..s }).into_iter().collect(),
        ipv6: Vec::new(),
        announcements: None,
        mtu: None,
        internal: false,
    }
}

pub(crate) fn request(publish: Vec<PublishRequest>) -> EndpointRequest {
    EndpointRequest {
        container: ContainerId::random(),
        name: "web".to_owned(),
        ipv4: None,
        ipv6: None,
        mac: None,
        publish,
        open: Vec::new(),
        default_route: Ways { ipv4: true, ipv6: true },
        without_ipv6: false,
        link_local: Vec::new(),
        interface: None,
        sysctls: Vec::new(),
    }
}

pub(super) fn publish(
    host_ip: Option<IpAddr>,
    host: u16,
    container: u16,
    protocol: Protocol,
) -> PublishRequest {
    PublishRequest { host_ip, host_ports: (host, host), container_port: container, protocol }
}

pub(super) fn tcp(host: u16, container: u16) -> PublishRequest {
    publish(None, host, container, Protocol::Tcp)
}

pub(super) fn links() -> Vec<Link> {
    route::links(&mut Socket::open(Family::Route).unwrap()).unwrap()
}

/// Names of the veths there are.
pub(super) fn veths() -> Vec<String> {
    links().into_iter().filter(|l| l.kind == "veth").map(|l| l.name).collect()
}

/// Waits until `done`, for some seconds at most.
pub(super) fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        if done() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("not within {PATIENCE:?}: {what}");
}

/// Runs `f` inside a namespace.
pub(super) fn inside<T: Send>(netns: impl AsFd + Send, f: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let run = move || {
            netns::enter(&netns).unwrap();
            f()
        };
        scope.spawn(run).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Whether new interfaces of this namespace search for duplicates of their addresses, which takes seconds on a busy
/// machine, and as long nobody is found by IPv6.
fn search_for_duplicates(on: bool) {
    // Without IPv6 in the kernel there is nothing to set.
    let _ = std::fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", if on { "1" } else { "0" });
}

/// A machine next to the host, 192.0.2.2, that routes everything through the host.
pub(super) fn neighbour() -> OwnedFd {
    let netns = thread::spawn(|| {
        netns::unshare().unwrap();
        search_for_duplicates(false);
        netns::current().unwrap()
    });
    search_for_duplicates(false);
    let netns = netns.join().unwrap();
    let mut host = Socket::open(Family::Route).unwrap();
    let mut batch = Batch::new();
    let up = LinkChange { up: Some(true), ..LinkChange::default() };
    route::create_veth(&mut batch, "uplink", None, "eth0", netns.as_fd(), None);
    route::set_link(&mut batch, LinkRef::Name("uplink"), &up);
    host.execute(batch).unwrap();
    search_for_duplicates(true);
    let uplink = route::link(&mut host, LinkRef::Name("uplink")).unwrap().unwrap().index;
    let mut batch = Batch::new();
    route::add_address(&mut batch, uplink, HOST, 24);
    host.execute(batch).unwrap();
    inside(&netns, || {
        let mut socket = Socket::open(Family::Route).unwrap();
        loopback_up(&mut socket);
        let eth0 = route::link(&mut socket, LinkRef::Name("eth0")).unwrap().unwrap().index;
        let mut batch = Batch::new();
        route::set_link(&mut batch, LinkRef::Index(eth0), &up);
        route::add_address(&mut batch, eth0, NEIGHBOUR, 24);
        route::add_default_route(&mut batch, eth0, HOST);
        socket.execute(batch).unwrap();
    });
    // Refused by the host: it is there.
    let refused = |e: io::Error| e.kind() == io::ErrorKind::ConnectionRefused;
    let ask = || tcp_exchange((HOST, 9).into(), IMPATIENCE);
    eventually("the neighbour is connected", || inside(&netns, ask).is_err_and(refused));
    netns
}

/// Serves one word and the client's address, over tcp, until the test ends.
pub(super) fn serve_tcp(netns: &OwnedFd, port: u16, word: &'static str) {
    let listener = inside(netns, || TcpListener::bind(("0.0.0.0", port)).unwrap());
    thread::spawn(move || {
        for client in listener.incoming() {
            let Ok(mut client) = client else { return };
            let _ = write!(client, "{word} {}", client.peer_addr().unwrap().ip());
        }
    });
}

/// Answers each datagram with one word and the client's address.
pub(super) fn serve_udp(netns: &OwnedFd, port: u16, word: &'static str) {
    let socket = inside(netns, || UdpSocket::bind(("0.0.0.0", port)).unwrap());
    thread::spawn(move || {
        let mut buf = [0; 64];
        while let Ok((_, client)) = socket.recv_from(&mut buf) {
            let _ = socket.send_to(format!("{word} {}", client.ip()).as_bytes(), client);
        }
    });
}

fn tcp_exchange(to: SocketAddr, patience: Duration) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, patience)?;
    stream.set_read_timeout(Some(patience))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// What a tcp server says, if it is reached at once.
pub(super) fn try_tcp(to: impl Into<SocketAddr>) -> io::Result<String> {
    tcp_exchange(to.into(), IMPATIENCE)
}

/// What a tcp server says.
pub(super) fn ask_tcp(to: impl Into<SocketAddr>) -> String {
    let to = to.into();
    tcp_exchange(to, PATIENCE).unwrap_or_else(|e| panic!("{to}: {e}"))
}

/// Nobody can be talked to there.
pub(super) fn assert_no_tcp(to: impl Into<SocketAddr>) {
    let to = to.into();
    let said = tcp_exchange(to, IMPATIENCE);
    assert!(said.is_err(), "{to} is reached: {said:?}");
}

fn udp_exchange(socket: &UdpSocket, to: SocketAddr) -> io::Result<String> {
    socket.set_read_timeout(Some(IMPATIENCE))?;
    // Only answers from the address asked are taken.
    socket.connect(to)?;
    socket.send(b"?")?;
    let mut buf = [0; 64];
    let len = socket.recv(&mut buf)?;
    Ok(String::from_utf8_lossy(&buf[..len]).into_owned())
}

/// What a udp server says.
pub(super) fn ask_udp(to: impl Into<SocketAddr>) -> String {
    ask_udp_from(&UdpSocket::bind("0.0.0.0:0").unwrap(), to)
}

/// The same from a socket used before.
pub(super) fn ask_udp_from(socket: &UdpSocket, to: impl Into<SocketAddr>) -> String {
    let to = to.into();
    let mut said = String::new();
    eventually("udp is answered", || udp_exchange(socket, to).map(|text| said = text).is_ok());
    said
}

/// Nobody answers there.
pub(super) fn assert_no_udp_from(socket: &UdpSocket, to: impl Into<SocketAddr>) {
    let to = to.into();
    let said = udp_exchange(socket, to);
    assert!(said.is_err(), "{to} is reached: {said:?}");
}

/// The IPv4 address of an endpoint.
pub(super) fn v4(endpoint: &Endpoint) -> Ipv4Addr {
    endpoint.record.ipv4.expect("an IPv4 address")
}

pub(super) fn container(bridge: &BridgeNetwork, publish: Vec<PublishRequest>) -> Endpoint {
    bridge.attach(&request(publish)).unwrap()
}

/// The output of `nft list table`, when nft(8) is installed.
pub(super) fn nft_list() -> Option<String> {
    let out = std::process::Command::new("nft").args(["list", "table", "inet", TABLE]).output().ok()?;
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    Some(String::from_utf8(out.stdout).unwrap())
}

thread_local! {
    /// The firewall of the stacks a test opens.
    static FIREWALL: std::cell::RefCell<FirewallConfig> = std::cell::RefCell::default();
}

fn firewall() -> FirewallConfig {
    FIREWALL.with_borrow(Clone::clone)
}

/// Runs a test on a host of its own whose stacks have this firewall.
pub(super) fn with_firewall(config: FirewallConfig, test: impl FnOnce() + Send + 'static) {
    on_a_host(move || {
        FIREWALL.set(config);
        test();
    });
}

pub(super) fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Runs a test with a table that anybody can change, as with kernels where it cannot be owned.
pub(super) fn with_an_open_table(test: impl FnOnce() + Send + 'static) {
    with_firewall(FirewallConfig { table: TableProtection::None, ..FirewallConfig::default() }, test);
}

/// Runs a test once with each kind of rules there is a program for.
pub(super) fn with_each_backend(test: impl Fn() + Send + Copy + 'static) {
    let mut backends = vec![FirewallBackend::Nftables];
    for variant in ["legacy", "nft"] {
        let programs = FirewallBackend::Iptables {
            ipv4: format!("iptables-{variant}"),
            ipv6: format!("ip6tables-{variant}"),
        };
        let installed =
            std::process::Command::new(format!("iptables-{variant}")).arg("--version").output().is_ok();
        match installed {
            true => backends.push(programs),
            false => say(&format!("skipped with iptables-{variant}: it is not installed")),
        }
    }
    for backend in backends {
        say(&format!("with {backend:?}"));
        with_firewall(FirewallConfig { backend, ..FirewallConfig::default() }, test);
    }
}

/// Runs a program in the current network namespace; false when it is not installed or fails.
pub(super) fn program(line: &str) -> bool {
    let mut words = line.split(' ');
    let Some(name) = words.next() else { return false };
    let output = std::process::Command::new(name).args(words).output();
    output.is_ok_and(|o| o.status.success())
}

/// Runs nft(8) with a script; false, with a note, when it is not installed.
pub(super) fn nft_script(script: &str) -> bool {
    let child =
        std::process::Command::new("nft").args(["-f", "-"]).stdin(std::process::Stdio::piped()).spawn();
    let Ok(mut child) = child else {
        say("skipped: nft is not installed");
        return false;
    };
    // nft wants a line of its own for what closes a block.
    child.stdin.take().unwrap().write_all(script.replace(" }", "\n}").as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{script}");
    true
}

/// Opens a connection that stays: what is sent comes back.
pub(super) fn echo_connection(netns: &OwnedFd, port: u16, from: &OwnedFd, to: SocketAddr) -> Echo {
    let listener = inside(netns, || TcpListener::bind(("0.0.0.0", port)).unwrap());
    thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut buf = [0; 64];
        while let Ok(length @ 1..) = client.read(&mut buf) {
            client.write_all(&buf[..length]).unwrap();
        }
    });
    let stream = inside(from, || TcpStream::connect_timeout(&to, PATIENCE).unwrap());
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    Echo { stream }
}

pub(super) struct Echo {
    stream: TcpStream,
}

impl Echo {
    /// Sends something and waits until it is back.
    pub(super) fn works(&mut self) {
        self.stream.write_all(b"hello").unwrap();
        let mut buf = [0; 5];
        self.stream.read_exact(&mut buf).unwrap();
        assert_eq!(&buf, b"hello");
    }
}
