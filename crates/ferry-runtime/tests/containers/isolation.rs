//! Namespaces, credentials, seccomp, hidden paths, descriptors.

use std::collections::HashSet;
use std::fs::File;

use ferry_runtime::{Stdio, seccomp};
use serde_json::json;

use crate::support::{Fixture, wait};

pub const TESTS: &[(&str, fn())] = &[
    ("isolation::own_namespaces", own_namespaces),
    ("isolation::given_network_namespace", given_network_namespace),
    ("isolation::loopback_is_up", loopback_is_up),
    ("isolation::capabilities", capabilities),
    ("isolation::user", user),
    ("isolation::seccomp_filter", seccomp_filter),
    ("isolation::seccomp_and_no_new_privileges", seccomp_and_no_new_privileges),
    ("isolation::hidden_and_readonly_paths", hidden_and_readonly_paths),
    ("isolation::no_leaked_descriptors", no_leaked_descriptors),
    ("isolation::signals_are_at_their_defaults", signals_are_at_their_defaults),
    ("isolation::terminal", terminal),
    ("isolation::sysctls", sysctls),
    ("isolation::hooks", hooks),
];

fn own_namespaces() {
    let mut fixture = Fixture::new(
        "echo $$; hostname; for n in mnt pid net ipc uts cgroup user; do readlink /proc/self/ns/$n; done",
    );
    let output = fixture.output();
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[..2], ["1", "latency"]);
    for (name, inside) in ["mnt", "pid", "net", "ipc", "uts", "cgroup"].iter().zip(&lines[2..]) {
        let outside = std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        assert!(inside.starts_with(name), "{inside}");
        assert_ne!(*inside, outside.to_str().unwrap());
    }
    assert_eq!(lines[8], std::fs::read_link("/proc/self/ns/user").unwrap().to_str().unwrap());
    fixture.assert_gone();
}

fn given_network_namespace() {
    let mut fixture = Fixture::new("readlink /proc/self/ns/net");
    fixture.netns = Some(File::open("/proc/self/ns/net").unwrap().into());
    let outside = std::fs::read_link("/proc/self/ns/net").unwrap();
    assert_eq!(fixture.output().trim(), outside.to_str().unwrap());
}

fn loopback_is_up() {
    let output = Fixture::new("cat /proc/net/if_inet6; cat /sys/class/net/lo/flags").output();
    assert!(output.lines().last().unwrap().ends_with('9'), "{output}");
}

fn capabilities() {
    let output = Fixture::new("grep Cap /proc/self/status; grep NoNewPrivs /proc/self/status").output();
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert!(output.contains(&format!("{set}:\t00000000a80425fb")), "{output}");
    }
    assert!(output.contains("CapInh:\t0000000000000000") && output.contains("CapAmb:\t0000000000000000"));
    assert!(output.contains("NoNewPrivs:\t0"));
}

fn user() {
    let mut fixture = Fixture::new(
        "id -u; id -g; id -G; echo $HOME; umask; grep -E 'CapEff|CapAmb' /proc/self/status; echo x >/dev/stdout",
    );
    fixture.set("/process/user", json!({"uid": 33, "gid": 34, "additionalGids": [5, 6], "umask": 0o27}));
    fixture.set("/process/capabilities/ambient", json!(["CAP_NET_RAW"]));
    fixture.set("/process/capabilities/inheritable", json!(["CAP_NET_RAW"]));
    let output = fixture.output();
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[..5], ["33", "34", "34 5 6", "/var/www", "0027"], "{output}");
    // Across execve only the ambient capability is left to an ordinary user.
    assert_eq!(lines[5..7], ["CapEff:\t0000000000002000", "CapAmb:\t0000000000002000"]);
}

fn docker_profile(fixture: &mut Fixture) {
    let profile = seccomp::docker_default(&HashSet::new());
    fixture.set("/linux/seccomp", serde_json::to_value(profile).unwrap());
}

fn seccomp_filter() {
    let mut fixture =
        Fixture::new("grep Seccomp: /proc/self/status; sleep 0; mount -t tmpfs x /bin || echo refused");
    docker_profile(&mut fixture);
    let output = fixture.output();
    assert!(output.starts_with("Seccomp:\t2\n"), "{output}");
    assert!(output.contains("permission denied") && output.ends_with("refused\n"), "{output}");
}

fn seccomp_and_no_new_privileges() {
    let mut fixture = Fixture::new("grep -E 'Seccomp:|NoNewPrivs' /proc/self/status");
    docker_profile(&mut fixture);
    fixture.set("/process/noNewPrivileges", json!(true));
    fixture.set("/process/user/uid", json!(33));
    assert_eq!(fixture.output(), "NoNewPrivs:\t1\nSeccomp:\t2\n");
}

fn hidden_and_readonly_paths() {
    let script = "wc -c </proc/keys; ls /sys/firmware | wc -l; echo 1 >/proc/sys/kernel/panic; touch /sys/x; touch /sys/firmware/x; true";
    let output = Fixture::new(script).output();
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[..2], ["0", "0"], "{output}");
    assert_eq!(output.matches("Read-only file system").count(), 3, "{output}");
}

fn no_leaked_descriptors() {
    // A descriptor that survives execve, as a careless caller may have.
    let leak = File::open("/etc/passwd").unwrap();
    rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty()).unwrap();
    // ls itself has the directory open.
    assert_eq!(Fixture::new("ls /proc/self/fd").output(), "0\n1\n2\n3\n");
}

fn signals_are_at_their_defaults() {
    // Rust programs ignore SIGPIPE, their containers must not.
    let mut fixture = Fixture::new("");
    fixture.args(&["grep", "-E", "SigIgn|SigBlk", "/proc/self/status"]);
    let output = fixture.output();
    assert_eq!(output, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
}

fn terminal() {
    let mut fixture = Fixture::new(
        "tty; stty size; test -t 0 && test -t 1 && test -c /dev/console && echo yes; ls /proc/self/fd",
    );
    let mut container = fixture.create(Stdio::Terminal { size: Some((33, 77)) }).unwrap();
    container.start().unwrap();
    let console = container.console.take().unwrap();
    let mut output = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(n @ 1..) = rustix::io::read(&console, &mut buffer) {
        output.extend_from_slice(&buffer[..n]);
    }
    assert_eq!(wait(container.pid), 0);
    container.cgroup.remove().unwrap();
    let output = String::from_utf8(output).unwrap();
    let words: Vec<&str> = output.split_whitespace().collect();
    assert_eq!(words, ["/dev/pts/0", "33", "77", "yes", "0", "1", "2", "3"]);
}

fn sysctls() {
    let mut fixture = Fixture::new("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmax");
    fixture.set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1", "kernel.shmmax": "123456"}));
    assert_eq!(fixture.output(), "1\n123456\n");
    fixture.set("/linux/sysctl", json!({"vm.swappiness": "1"}));
    let error = fixture.run().unwrap_err().to_string();
    assert_eq!(error, "sysctl \"vm.swappiness\" is not in a separate kernel namespace");
    fixture.assert_gone();
}

fn hooks() {
    let mut fixture = Fixture::new("cat /hooked");
    let log = fixture.dir.path().join("log");
    let note = |word: &str| {
        let script = format!("echo {word} $(readlink /proc/self/ns/uts) >>{}", log.display());
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}])
    };
    let inside = json!([{"path": "/bin/sh", "args": ["sh", "-c", "echo inside >/hooked"]}]);
    fixture.set(
        "/hooks",
        json!({"prestart": note("prestart"), "createRuntime": note("createRuntime"), "createContainer": note("createContainer"),
               "startContainer": inside, "poststart": note("poststart")}),
    );
    assert_eq!(fixture.output(), "inside\n");
    let log = std::fs::read_to_string(log).unwrap();
    let words: Vec<(&str, &str)> = log.lines().map(|l| l.split_once(' ').unwrap()).collect();
    let names: Vec<&str> = words.iter().map(|w| w.0).collect();
    assert_eq!(names, ["prestart", "createRuntime", "createContainer", "poststart"]);
    assert_eq!(words[0].1, words[1].1);
    assert_ne!(words[1].1, words[2].1);
    assert_eq!(words[0].1, words[3].1);

    fixture.set("/hooks", json!({"createRuntime": [{"path": "/bin/false"}]}));
    assert!(fixture.run().unwrap_err().to_string().contains("createRuntime hook #0"));
    fixture.assert_gone();
}
