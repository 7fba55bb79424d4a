//! The API of an engine without containers, over a real socket. Needs root: the engine makes a bridge.

use std::io::{Read as _, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use ferry_engine::{DefaultBridge, Engine, EngineConfig};
use ferry_network::{BridgeConfig, BridgeNetwork, NetworkStack, StackConfig, Subnet4};
use ferry_server::ListenSpec;
use serde_json::{Value, json};

const BRIDGE: &str = "ferrysrvtest0";
const BIP: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 231, 77, 1), 24);

fn config(root: &Path) -> EngineConfig {
    EngineConfig {
        data_root: root.join("data"),
        exec_root: root.join("run"),
        bridge: DefaultBridge::Named(BRIDGE.to_owned()),
        bip: Some(BIP),
        ipv6: false,
        bip6: None,
        default_gateway: None,
        default_gateway_v6: None,
        ip_range_v6: None,
        default_network_opts: Default::default(),
        mtu: None,
        icc: true,
        dns: Vec::new(),
        dns_search: Vec::new(),
        dns_opts: Vec::new(),
        // Never executed: nothing is started here.
        shim_path: "/proc/self/exe".into(),
        search_path: "/bin".to_owned(),
        warm_shims: 0,
        warm_sandboxes: 0,
        cdi_spec_dirs: Vec::new(),
        name_server: Vec::new(),
        proxy: Default::default(),
        cgroup_parent: "ferry-server-test".to_owned(),
        log_driver: "json-file".to_owned(),
        log_opts: Default::default(),
        log_budget: None,
        init: false,
        init_path: None,
        ip_range: None,
        address_pools: Vec::new(),
        masquerade: true,
        default_host_ip: None,
        firewall: Default::default(),
        host_gateway: Vec::new(),
        default_ulimits: Vec::new(),
        no_new_privileges: false,
        seccomp: ferry_engine::DefaultSeccomp::Builtin,
        experimental: false,
        warnings: Vec::new(),
        live: Default::default(),
    }
}

/// Takes the bridge and the rules away again, whatever happened.
struct Cleanup;

impl Drop for Cleanup {
    fn drop(&mut self) {
        let stack = StackConfig {
            table_name: format!("ferry-{BRIDGE}"),
            pool_size: 0,
            spare: 0,
            ..StackConfig::default()
        };
        let stack = NetworkStack::open(stack).unwrap();
        let ipv4 = ipnet::Ipv4Net::new(BIP.0, BIP.1).ok().map(Subnet4::at);
        let bridge = BridgeNetwork::open(&stack, BridgeConfig { ipv4, ..BridgeConfig::new(BRIDGE) }).unwrap();
        bridge.destroy().unwrap();
        stack.destroy().unwrap();
    }
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e} in {:?}", self.body))
    }

    fn message(&self) -> String {
        self.json()["message"].as_str().unwrap().to_owned()
    }
}

/// One request on a connection of its own.
fn request(socket: &Path, method: &str, path: &str, body: Option<&str>) -> Answer {
    let mut client = UnixStream::connect(socket).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let kind = if body.is_some() { "Content-Type: application/json\r\n" } else { "" };
    let body = body.unwrap_or_default();
    let text = format!(
        "{method} {path} HTTP/1.1\r\nHost: ferry\r\nConnection: close\r\n{kind}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    client.write_all(text.as_bytes()).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

#[test]
fn the_api_of_an_empty_engine() {
    assert!(rustix::process::geteuid().is_root(), "this test needs root");
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("api.sock");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _cleanup = Cleanup;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let listen = ListenSpec::parse(&format!("unix://{}", socket.display())).unwrap();
    let engine = runtime.block_on(Engine::open(config(dir.path()))).unwrap();
    let server = runtime.spawn(ferry_server::serve(engine, vec![listen], async {
        drop(stopped.await);
        Duration::from_secs(5)
    }));
    while !socket.exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    versions(&socket);
    errors(&socket);
    lists(&socket);
    volumes(&socket);
    streams_end_when_the_server_stops(&socket, || {
        stop.send(()).unwrap();
        runtime.block_on(server).unwrap().unwrap();
    });
    assert!(!socket.exists());
    runtime.shutdown_timeout(Duration::from_secs(5));
}

fn versions(socket: &Path) {
    let ping = request(socket, "GET", "/_ping", None);
    assert_eq!((ping.status, ping.body.as_str()), (200, "OK"));
    for header in ["api-version: 1.55", "ostype: linux", "docker-experimental: false", "server: ferry/"] {
        assert!(ping.head.contains(header), "{header} in {}", ping.head);
    }
    let head = request(socket, "HEAD", "/_ping", None);
    assert!(head.body.is_empty() && head.head.contains("content-length: 0"), "{}", head.head);
    let old = request(socket, "GET", "/v1.23/info", None);
    assert_eq!(old.status, 400);
    assert!(old.body.starts_with("client version 1.23 is too old. Minimum supported"));
    let version = request(socket, "GET", "/v1.24/version", None).json();
    assert_eq!((&version["ApiVersion"], &version["MinAPIVersion"]), (&json!("1.55"), &json!("1.24")));
    assert_eq!(request(socket, "GET", "/v1.48/info", None).json()["BridgeNfIptables"], json!(false));
    assert_eq!(request(socket, "GET", "/v1.50/info", None).json().get("BridgeNfIptables"), None);
}

fn errors(socket: &Path) {
    let refused = |method: &str, path: &str, body: Option<&str>| {
        let answer = request(socket, method, path, body);
        (answer.status, answer.message())
    };
    assert_eq!(refused("GET", "/nope", None), (404, "page not found".into()));
    assert_eq!(refused("GET", "/containers/x/json", None), (404, "No such container: x".into()));
    assert_eq!(
        refused("POST", "/containers/create", Some("{\"Image\":")),
        (400, "invalid JSON: unexpected EOF".into())
    );
    assert_eq!(
        refused("POST", "/containers/create", None),
        (400, "invalid JSON: got EOF while reading request body".into())
    );
    assert_eq!(refused("POST", "/containers/create", Some(r#"{"image":"no-such"}"#)).0, 404);
    assert_eq!(refused("POST", "/containers/x/attach", None).0, 404);
    assert_eq!(refused("POST", "/containers/x/wait", None).0, 404);
    assert_eq!(
        refused("POST", "/containers/x/wait?condition=y", None),
        (400, "invalid condition: \"y\"".into())
    );
    assert_eq!(refused("GET", "/containers/x/logs", None).0, 400);
    assert_eq!(refused("GET", "/containers/json?filters=%7B", None), (400, "invalid filter".into()));
    assert_eq!(refused("GET", "/images/x/y/z:1/json", None).0, 404);
    assert_eq!(refused("GET", "/services", None).0, 503);
    assert_eq!(refused("POST", "/build", None).0, 501);
    let message = refused("POST", "/containers/x/kill", None).1;
    assert_eq!(message, "cannot kill container: x: No such container: x");
}

fn lists(socket: &Path) {
    for path in ["/containers/json?all=1", "/images/json", "/plugins"] {
        assert_eq!(request(socket, "GET", path, None).body, "[]\n", "{path}");
    }
    let networks = request(socket, "GET", "/networks", None).json();
    let names: Vec<_> = networks.as_array().unwrap().iter().map(|n| n["Name"].as_str().unwrap()).collect();
    assert!(["bridge", "host", "none"].iter().all(|name| names.contains(name)), "{names:?}");
    assert_eq!(request(socket, "GET", "/networks/bridge", None).json()["Driver"], "bridge");
    let usage = request(socket, "GET", "/v1.44/system/df", None).json();
    assert_eq!((&usage["Images"], &usage["LayersSize"]), (&json!([]), &json!(0)));
    assert_eq!(request(socket, "POST", "/containers/prune", None).json()["ContainersDeleted"], Value::Null);
}

fn volumes(socket: &Path) {
    let made = request(socket, "POST", "/volumes/create", Some(r#"{"name":"data","LABELS":{"a":"b"}}"#));
    assert_eq!(
        (made.status, &made.json()["Name"], &made.json()["Labels"]["a"]),
        (201, &json!("data"), &json!("b"))
    );
    let list = request(socket, "GET", "/volumes", None).json();
    assert_eq!(list["Volumes"].as_array().unwrap().len(), 1);
    assert_eq!(request(socket, "DELETE", "/volumes/data", None).status, 204);
    assert_eq!(request(socket, "GET", "/volumes/data", None).status, 404);
}

fn streams_end_when_the_server_stops(socket: &Path, stop: impl FnOnce()) {
    let mut events = UnixStream::connect(socket).unwrap();
    events.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    events.write_all(b"GET /v1.51/events HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut head = [0_u8; 15];
    events.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    stop();
    let mut rest = String::new();
    events.read_to_string(&mut rest).unwrap();
    assert!(rest.ends_with("0\r\n\r\n"), "the stream was cut, not ended: {rest:?}");
}
