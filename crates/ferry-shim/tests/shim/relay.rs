//! Relayed ports.

use std::io::{Read, Write};
use std::net::{Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::thread;

use ferry_shim_proto::{Relay, Request};
use ferry_types::net::Protocol;

use crate::bed::{Bed, PATIENCE, await_that};

fn bed_with(relays: Vec<(Relay, std::os::fd::OwnedFd)>) -> Bed {
    let mut bed = Bed::idle();
    for (relay, socket) in relays {
        bed.relay(relay, socket);
    }
    bed.start()
}

fn tcp(target: SocketAddr) -> (SocketAddr, (Relay, std::os::fd::OwnedFd)) {
    let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    (address, (Relay { protocol: Protocol::Tcp, target }, listener.into()))
}

#[test]
fn tcp_connections_are_copied_with_half_close() {
    // The container shares the host's network here, so any address of the host does.
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, relay) = tcp(server.local_addr().unwrap());
    let mut bed = bed_with(vec![relay]);
    bed.await_settled();
    let before = bed.open_files().len();
    let serve = thread::spawn(move || {
        for _ in 0..3 {
            let (mut connection, _) = server.accept().unwrap();
            thread::spawn(move || {
                let mut all = Vec::new();
                connection.read_to_end(&mut all).unwrap();
                connection.write_all(&all).unwrap();
            });
        }
    });
    let clients: Vec<_> = (0..3u8)
        .map(|i| {
            thread::spawn(move || {
                let mut client = TcpStream::connect(address).unwrap();
                let sent = vec![i; 3_000_000];
                client.write_all(&sent).unwrap();
                client.shutdown(Shutdown::Write).unwrap();
                let mut got = Vec::new();
                client.read_to_end(&mut got).unwrap();
                assert!(got == sent);
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    serve.join().unwrap();
    await_that(|| bed.open_files().len() == before);
    bed.kill();
    bed.finish();
    assert!(TcpStream::connect(address).is_err(), "the port is still open");
}

#[test]
fn relays_are_replaced_while_the_container_runs() {
    let server = |word: &'static str| {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = server.local_addr().unwrap();
        thread::spawn(move || {
            for connection in server.incoming() {
                connection.unwrap().write_all(word.as_bytes()).unwrap();
            }
        });
        target
    };
    let ask = |address| {
        let mut said = String::new();
        TcpStream::connect(address).unwrap().read_to_string(&mut said).unwrap();
        said
    };
    let (address, relay) = tcp(server("first"));
    let mut bed = bed_with(vec![relay]);
    assert!(bed.subscribe().replaces_relays);
    assert_eq!(ask(address), "first");
    // The port is free at once.
    bed.call(Request::Relays { relays: Vec::new() }).unwrap();
    assert!(TcpStream::connect(address).is_err());
    let listener = TcpListener::bind(address).unwrap();
    let relays = vec![Relay { protocol: Protocol::Tcp, target: server("second") }];
    bed.client().call(Request::Relays { relays }, &[listener.as_fd()]).unwrap();
    drop(listener);
    assert_eq!(ask(address), "second");
    // One socket for each, and no sctp.
    let relays = vec![Relay { protocol: Protocol::Tcp, target: address }];
    bed.call(Request::Relays { relays }).unwrap_err();
    assert_eq!(ask(address), "second");
    bed.kill();
    bed.finish();
}

#[test]
fn a_refused_target_closes_the_client() {
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (address, relay) = tcp(unused);
    let mut bed = bed_with(vec![relay]);
    let mut client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    // An end or a reset, depending on who was faster.
    if let Ok(n) = client.read(&mut [0; 8]) {
        assert_eq!(n, 0);
    }
    bed.kill();
    bed.finish();
}

#[test]
fn a_client_that_does_not_read_stalls_only_itself() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, relay) = tcp(server.local_addr().unwrap());
    let mut bed = bed_with(vec![relay]);
    let stuck = TcpStream::connect(address).unwrap();
    let (mut source, _) = server.accept().unwrap();
    source.set_nonblocking(true).unwrap();
    let mut full = 0usize;
    while full < 20 {
        match source.write(&[7; 65536]) {
            Ok(n) => full = usize::from(n == 0),
            Err(_) => {
                full += 1;
                thread::sleep(std::time::Duration::from_millis(10));
            }
        }
    }
    assert!(crate::measure::memory_kib(bed.shim.pid, "Pss") < 8 * 1024);
    let before = crate::measure::cpu_ticks(bed.shim.pid);
    thread::sleep(std::time::Duration::from_millis(300));
    assert!(crate::measure::cpu_ticks(bed.shim.pid) - before < 10, "the shim is spinning");
    drop(stuck);
    bed.kill();
    bed.finish();
}

#[test]
fn udp_answers_find_their_client() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let relay = Relay { protocol: Protocol::Udp, target: server.local_addr().unwrap() };
    let socket = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    let mut bed = bed_with(vec![(relay, socket.into())]);
    let clients: Vec<UdpSocket> = (0..3)
        .map(|_| {
            let client = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            client.connect(address).unwrap();
            client
        })
        .collect();
    for round in 0..2u8 {
        for (i, client) in (0..).zip(&clients) {
            client.send(&[round, i]).unwrap();
        }
        let mut sources = Vec::new();
        for _ in &clients {
            let mut buf = [0; 16];
            let (n, from) = server.recv_from(&mut buf).unwrap();
            sources.push(from);
            server.send_to(&[&buf[..n], b"!"].concat(), from).unwrap();
        }
        sources.sort();
        sources.dedup();
        assert_eq!(sources.len(), 3);
        for (i, client) in (0..).zip(&clients) {
            let mut buf = [0; 16];
            assert_eq!(client.recv(&mut buf).unwrap(), 3);
            assert_eq!(buf[..3], [round, i, b'!']);
        }
    }
    bed.kill();
    bed.finish();
}
