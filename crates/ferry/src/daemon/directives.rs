//! Every directive dockerd 28.5 knows, and the few of ferry's own: as a flag, as a key of `daemon.json`, and what becomes of
//! it here. Nothing is swallowed: what has no effect says so, and what would change a promise is refused.

/// How a directive's value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    Bool,
    Int,
    /// A size with binary units.
    Bytes,
    /// May be given many times.
    List,
    /// `key=value`, many times; an object in the file.
    Map,
    /// `key=true`, many times; an object in the file.
    Switches,
    /// `name=soft:hard`; an object in the file.
    Ulimits,
    /// `name=path`; an object in the file.
    Runtimes,
    /// `base=CIDR,size=N`; a list of objects in the file.
    Pools,
    /// `driver=key=value`; an object of objects in the file.
    MapMap,
}

/// What becomes of a directive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It does what it does in Docker.
    Applied,
    /// Another value than this one is noted in the log with the reason why it changes nothing.
    Warned(&'static str, &'static str),
    /// Another value than this one keeps the daemon from starting, with the reason.
    Refused(&'static str, &'static str),
}

/// One directive.
#[derive(Debug)]
pub struct Directive {
    /// Name of the flag; empty when it is for the file only.
    pub flag: &'static str,
    /// One-letter form.
    pub short: Option<char>,
    /// Name in the file; empty when it is for the command line only.
    pub key: &'static str,
    pub kind: Kind,
    pub effect: Effect,
    /// What `--help` calls the value.
    pub value: &'static str,
    /// What `--help` says. Empty: hidden.
    pub help: &'static str,
}

impl Directive {
    /// The name under which the value is kept: the key, or the flag.
    pub fn name(&self) -> &'static str {
        if self.key.is_empty() { self.flag } else { self.key }
    }

    /// How messages show the flag.
    pub fn shown(&self) -> String {
        match self.short {
            Some(short) => format!("-{short}, --{}", self.flag),
            None => format!("--{}", self.flag),
        }
    }
}

use Effect::{Applied, Refused, Warned};
use Kind::{Bool, Bytes, Int, List, Map, MapMap, Pools, Runtimes, Switches, Text, Ulimits};

const NO_CONTAINERD: &str = "ferry runs containers itself, without containerd";
const NO_SWARM: &str = "ferry has no swarm";
const NO_PROXY_PROCESS: &str =
    "published ports go through the kernel, or a relay in the container's supervisor";

macro_rules! directive {
    ($flag:literal, $short:expr, $key:literal, $kind:expr, $effect:expr, $value:literal, $help:literal) => {
        Directive {
            flag: $flag,
            short: $short,
            key: $key,
            kind: $kind,
            effect: $effect,
            value: $value,
            help: $help,
        }
    };
}

/// All of them, in the order of `--help`.
#[rustfmt::skip]
pub static DIRECTIVES: &[Directive] = &[
    directive!("add-runtime", None, "runtimes", Runtimes, Applied, "runtime", "Register an additional OCI compatible runtime (default [])"),
    directive!("allow-direct-routing", None, "allow-direct-routing", Bool, Applied, "", "Let other hosts reach published ports at containers' own addresses"),
    directive!("authorization-plugin", None, "authorization-plugins", List, Refused("", "ferry has no plugins"), "list", "Authorization plugins (not supported)"),
    directive!("bip", None, "bip", Text, Applied, "string", "IPv4 address and prefix length of the default bridge"),
    directive!("bip6", None, "bip6", Text, Applied, "string", "IPv6 address and prefix length of the default bridge"),
    directive!("bridge", Some('b'), "bridge", Text, Applied, "string", "Interface name of the default bridge"),
    directive!("cdi-spec-dir", None, "cdi-spec-dirs", List, Applied, "list", "Directories with CDI specifications of devices"),
    directive!("cgroup-parent", None, "cgroup-parent", Text, Applied, "string", "Control group that containers' groups are made in (default \"/ferry\")"),
    directive!("config-file", None, "", Text, Applied, "string", "Configuration file"),
    directive!("containerd", None, "containerd", Text, Warned("", NO_CONTAINERD), "string", "Address of containerd (no effect)"),
    directive!("containerd-namespace", None, "containerd-namespace", Text, Warned("moby", NO_CONTAINERD), "string", "Namespace of containerd (no effect)"),
    directive!("containerd-plugins-namespace", None, "containerd-plugin-namespace", Text, Warned("plugins.moby", NO_CONTAINERD), "string", "Namespace of containerd for plugins (no effect)"),
    directive!("cpu-rt-period", None, "cpu-rt-period", Int, Refused("0", "real-time scheduling of the parent group is not supported"), "int", "Real-time period of the parent control group (not supported)"),
    directive!("cpu-rt-runtime", None, "cpu-rt-runtime", Int, Refused("0", "real-time scheduling of the parent group is not supported"), "int", "Real-time runtime of the parent control group (not supported)"),
    directive!("cri-containerd", None, "cri-containerd", Bool, Refused("false", NO_CONTAINERD), "", "Start containerd with its CRI plugin (not supported)"),
    directive!("data-root", None, "data-root", Text, Applied, "string", "Root directory of persistent state (default \"/var/lib/ferry\")"),
    directive!("debug", Some('D'), "debug", Bool, Applied, "", "Log at debug level"),
    directive!("default-address-pool", None, "default-address-pools", Pools, Applied, "pool-options", "Pools that subnets of networks are taken from"),
    directive!("default-cgroupns-mode", None, "default-cgroupns-mode", Text, Applied, "string", "Control group namespace of containers (\"host\" | \"private\")"),
    directive!("default-gateway", None, "default-gateway", Text, Applied, "ip", "IPv4 router of containers on the default bridge, when it is not the bridge"),
    directive!("default-gateway-v6", None, "default-gateway-v6", Text, Applied, "ip", "IPv6 router of containers on the default bridge, when it is not the bridge"),
    directive!("default-ipc-mode", None, "default-ipc-mode", Text, Applied, "string", "IPC namespace of containers (\"shareable\" | \"private\") (default \"private\")"),
    directive!("default-network-opt", None, "default-network-opts", MapMap, Applied, "mapmap", "Options of networks that do not set them, by driver (default map[])"),
    directive!("default-runtime", None, "default-runtime", Text, Applied, "string", "OCI runtime of containers (default \"ferry\")"),
    directive!("default-shm-size", None, "default-shm-size", Bytes, Applied, "bytes", "Size of containers' /dev/shm (default 64MiB)"),
    directive!("default-ulimit", None, "default-ulimits", Ulimits, Applied, "ulimit", "Resource limits of containers (default [])"),
    directive!("dns", None, "dns", List, Applied, "ipSlice", "DNS servers of containers (default [])"),
    directive!("dns-opt", None, "dns-opts", List, Applied, "list", "Resolver options of containers"),
    directive!("dns-search", None, "dns-search", List, Applied, "list", "DNS search domains of containers"),
    directive!("exec-opt", None, "exec-opts", List, Applied, "list", "Options of the runtime"),
    directive!("exec-root", None, "exec-root", Text, Applied, "string", "Root directory of run-time state (default \"/run/ferry\")"),
    directive!("experimental", None, "experimental", Bool, Applied, "", "Call this an experimental build"),
    directive!("feature", None, "features", Switches, Applied, "map", "Switch features of Docker's daemon (default map[])"),
    directive!("firewall-backend", None, "firewall-backend", Text, Applied, "string", "What rules are made of (\"nftables\" | \"iptables\") (default nftables where the kernel has it)"),
    directive!("fixed-cidr", None, "fixed-cidr", Text, Applied, "string", "Part of the default bridge's subnet that containers get addresses from"),
    directive!("fixed-cidr-v6", None, "fixed-cidr-v6", Text, Applied, "string", "IPv6 subnet of the default bridge, or the part of it that containers get addresses from"),
    directive!("group", Some('G'), "group", Text, Applied, "string", "Group that may use the unix socket (default \"docker\")"),
    directive!("help", None, "", Bool, Applied, "", "Print usage"),
    directive!("host", Some('H'), "hosts", List, Applied, "list", "Sockets to listen on"),
    directive!("host-gateway-ip", None, "host-gateway-ips", List, Applied, "list", "Addresses that host-gateway means in --add-host; the default bridge's when none is given"),
    directive!("http-proxy", None, "http-proxy", Text, Applied, "string", "Proxy for http: URLs"),
    directive!("https-proxy", None, "https-proxy", Text, Applied, "string", "Proxy for https: URLs"),
    directive!("icc", None, "icc", Bool, Applied, "", "Let containers on the default bridge reach each other (default true)"),
    directive!("init", None, "init", Bool, Applied, "", "Run an init in containers that forwards signals and reaps processes"),
    directive!("init-path", None, "init-path", Text, Applied, "string", "The program to use as init, in place of ferry's own"),
    directive!("insecure-registry", None, "insecure-registries", List, Applied, "list", "Registries that may be reached without TLS"),
    directive!("insecure-tcp", None, "", Bool, Applied, "", "Serve TCP without TLS on addresses other hosts can reach"),
    directive!("ip", None, "ip", Text, Applied, "ip", "Host address of published ports that name none (default 0.0.0.0)"),
    directive!("ip-forward", None, "ip-forward", Bool, Applied, "", "Have the kernel forward packets (default true)"),
    directive!("ip-forward-no-drop", None, "ip-forward-no-drop", Bool, Applied, "", "Leave the policy of the FORWARD chain alone; how ferry always works"),
    directive!("ip-masq", None, "ip-masq", Bool, Applied, "", "Give traffic from the default bridge the host's address (default true)"),
    directive!("ip6tables", None, "ip6tables", Bool, Applied, "", "Add packet filter rules for IPv6 (default true)"),
    directive!("iptables", None, "iptables", Bool, Applied, "", "Add packet filter rules for IPv4 (default true)"),
    directive!("ipv6", None, "ipv6", Bool, Applied, "", "IPv6 for the default bridge"),
    directive!("label", None, "labels", List, Applied, "list", "Labels of the daemon, key=value"),
    directive!("live-restore", None, "live-restore", Bool, Warned("true", "containers always outlive the daemon"), "", "Let containers outlive the daemon; how ferry always works"),
    directive!("log-budget", None, "log-budget", Bytes, Applied, "bytes", "Disk space for the logs of all containers; beyond it the oldest rotated ones go"),
    directive!("log-driver", None, "log-driver", Text, Applied, "string", "Log driver of containers (default \"json-file\")"),
    directive!("log-format", None, "log-format", Text, Applied, "string", "Format of the daemon's own log (\"text\" | \"json\") (default \"text\")"),
    directive!("log-level", Some('l'), "log-level", Text, Applied, "string", "Least severe messages of the daemon's own log (\"debug\" | \"info\" | \"warn\" | \"error\" | \"fatal\") (default \"info\")"),
    directive!("log-opt", None, "log-opts", Map, Applied, "map", "Options of containers' log driver (default map[])"),
    directive!("max-concurrent-downloads", None, "max-concurrent-downloads", Int, Applied, "int", "Layers of an image downloaded at once (default 3)"),
    directive!("max-concurrent-uploads", None, "max-concurrent-uploads", Int, Applied, "int", "Layers of an image uploaded at once (default 5)"),
    directive!("max-download-attempts", None, "max-download-attempts", Int, Applied, "int", "Attempts at each download (default 5)"),
    directive!("metrics-addr", None, "metrics-addr", Text, Applied, "string", "Address and port to serve metrics on"),
    directive!("mtu", None, "mtu", Int, Applied, "int", "MTU of the default bridge (default 1500)"),
    directive!("network-control-plane-mtu", None, "network-control-plane-mtu", Int, Warned("1500", NO_SWARM), "int", "MTU of swarm's control plane (no effect) (default 1500)"),
    directive!("network-diagnostic-port", None, "network-diagnostic-port", Int, Refused("0", "there is no network diagnostic server"), "int", ""),
    directive!("no-new-privileges", None, "no-new-privileges", Bool, Applied, "", "Give containers' processes no new privileges"),
    directive!("no-proxy", None, "no-proxy", Text, Applied, "string", "Hosts and addresses reached without a proxy, separated by commas"),
    directive!("node-generic-resource", None, "node-generic-resources", List, Warned("", NO_SWARM), "list", "Resources advertised to a swarm (no effect)"),
    directive!("pidfile", Some('p'), "pidfile", Text, Applied, "string", "File the daemon's process id is written to"),
    directive!("publish", None, "publish", Text, Applied, "string", "Whether the host's own rules for what it receives apply to published ports (\"open\" | \"respect-host-firewall\") (default \"open\")"),
    directive!("raw-logs", None, "raw-logs", Bool, Applied, "", "Full times and no colours in the daemon's own log"),
    directive!("registry-mirror", None, "registry-mirrors", List, Applied, "list", "Mirrors asked before Docker Hub"),
    directive!("rootless", None, "rootless", Bool, Refused("false", "rootless mode is not supported yet"), "", "Rootless mode (not supported)"),
    directive!("seccomp-profile", None, "seccomp-profile", Text, Applied, "string", "File with a seccomp profile, or \"unconfined\" (default \"builtin\")"),
    directive!("selinux-enabled", None, "selinux-enabled", Bool, Refused("false", "SELinux labels are not supported yet"), "", "SELinux labels (not supported)"),
    directive!("shim", None, "", Text, Applied, "string", "The ferry-shim program; next to this one unless given"),
    directive!("shutdown-timeout", None, "shutdown-timeout", Int, Applied, "int", "Seconds that requests in flight may take when the daemon stops (default 15)"),
    directive!("storage-driver", Some('s'), "storage-driver", Text, Applied, "string", "Storage driver: overlay2"),
    directive!("storage-opt", None, "storage-opts", List, Applied, "list", "Options of the storage driver"),
    directive!("swarm-default-advertise-addr", None, "swarm-default-advertise-addr", Text, Warned("", NO_SWARM), "string", "Address advertised to a swarm (no effect)"),
    directive!("tls", None, "tls", Bool, Applied, "", "Serve TCP with TLS; implied by --tlsverify"),
    directive!("tlscacert", None, "tlscacert", Text, Applied, "string", "CA whose client certificates are accepted (default \"~/.docker/ca.pem\")"),
    directive!("tlscert", None, "tlscert", Text, Applied, "string", "Certificate of the TCP sockets (default \"~/.docker/cert.pem\")"),
    directive!("tlskey", None, "tlskey", Text, Applied, "string", "Key of the TCP sockets (default \"~/.docker/key.pem\")"),
    directive!("tlsverify", None, "tlsverify", Bool, Applied, "", "Serve TCP with TLS and demand a client certificate"),
    directive!("userland-proxy", None, "userland-proxy", Bool, Applied, "", "Let supervisors relay what the kernel does not forward to published ports (default true)"),
    directive!("userland-proxy-path", None, "userland-proxy-path", Text, Warned("", NO_PROXY_PROCESS), "string", "The proxies' program (no effect)"),
    directive!("userns-remap", None, "userns-remap", Text, Refused("", "containers cannot have user namespaces yet"), "string", "User namespaces of containers (not supported)"),
    directive!("validate", None, "", Bool, Applied, "", "Check the configuration and exit"),
    directive!("version", Some('v'), "", Bool, Applied, "", "Print version information and quit"),
    // Docker's deprecated ones, and what only the file has.
    directive!("allow-nondistributable-artifacts", None, "allow-nondistributable-artifacts", List, Warned("", "such layers are always pushed"), "list", ""),
    directive!("api-cors-header", None, "api-cors-header", Text, Applied, "string", ""),
    directive!("restart", Some('r'), "", Bool, Warned("true", "containers have restart policies"), "", ""),
    directive!("", None, "builder", MapMap, Warned("", "ferry has no builder yet"), "", ""),
    directive!("", None, "deprecated-key-path", Text, Warned("", "Docker dropped it"), "", ""),
];

/// The directive of a flag.
pub fn by_flag(name: &str) -> Option<&'static Directive> {
    DIRECTIVES.iter().find(|d| !name.is_empty() && d.flag == name)
}

/// The directive of a one-letter flag.
pub fn by_short(letter: char) -> Option<&'static Directive> {
    DIRECTIVES.iter().find(|d| d.short == Some(letter))
}

/// The directive of a key of the file.
pub fn by_key(name: &str) -> Option<&'static Directive> {
    // Docker's older name for one of them.
    let name = if name == "host-gateway-ip" { "host-gateway-ips" } else { name };
    DIRECTIVES.iter().find(|d| !name.is_empty() && d.key == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        for (at, a) in DIRECTIVES.iter().enumerate() {
            for b in &DIRECTIVES[at + 1..] {
                assert_ne!(a.name(), b.name());
                assert!(a.short.is_none() || a.short != b.short, "{}", a.flag);
            }
        }
    }
}
