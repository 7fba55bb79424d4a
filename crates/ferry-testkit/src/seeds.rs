//! Inputs to begin with, and the words they are made of.

/// For names of images.
pub const REFERENCE_WORDS: &[&str] = &[
    "docker.io/",
    "library/",
    "localhost",
    ":5000/",
    "@sha256:",
    ":latest",
    "__",
    "..",
    "[::1]",
    "a.b/",
    "_",
    "-",
];
/// For tars.
pub const TAR_WORDS: &[&str] = &[
    "../",
    "/etc/passwd",
    ".wh.",
    ".wh..wh..opq",
    "././@LongLink",
    "ustar",
    "30 path=../../x\n",
    "manifest.json",
    "oci-layout",
    "index.json",
    "GNU.sparse.major=1\n",
    "GNU.sparse.realsize=9223372036854775807\n",
    "77777777777",
    "\u{80}",
    "layer.tar",
    "blobs/sha256/",
    "SCHILY.xattr.trusted.overlay.opaque=y\n",
];
/// For bodies of create.
pub const BODY_WORDS: &[&str] = &[
    "\"HostConfig\":{",
    "\"Binds\":[",
    "\"PortBindings\":{\"80/tcp\":[{\"HostPort\":\"8080\"}]}",
    "null",
    "true",
    "-1",
    "1e400",
    "9223372036854775807",
    "\"Mounts\":[{\"Type\":\"bind\",\"Source\":\"/a\",\"Target\":\"/b\"}]",
    "\"Cmd\":",
    "\"Env\":",
    "\"\\ud800\"",
    "\"NetworkMode\":\"container:x\"",
    "\"Healthcheck\":{\"Test\":[\"CMD\"]}",
    "\"RestartPolicy\":{\"Name\":\"always\"}",
    "\"LogConfig\":{\"Type\":\"local\",\"Config\":{\"max-size\":\"1k\"}}",
    "[[[[",
    "{",
    "}",
    ",",
];
/// For DNS messages: labels, pointers, types, classes and options as they are written.
pub const DNS_WORDS: &[&str] = &[
    "\x03web",
    "\x03net\0",
    "\x03www\x07example\0",
    "\x04\x61rpa\0",
    "\x07in-addr",
    "\0\x01\0\x01",
    "\0\x1c\0\x01",
    "\0\x0c\0\x01",
    "\0\u{7f}\0\x01",
    "\0\0\x29\x04\0",
    "\0\x06\0\x01",
    "\0\0\0\x3c\0\x04",
    "\x3f",
    "\0",
];
/// For ports.
pub const PORT_WORDS: &[&str] = &[
    "0.0.0.0:",
    "[::1]:",
    "80-90",
    "/tcp",
    "/udp",
    "65535",
    "65536",
    "target=",
    "published=",
    "protocol=",
    "::",
    "-",
    "%eth0",
];
/// For mounts.
pub const MOUNT_WORDS: &[&str] = &[
    "type=bind",
    "type=volume",
    "type=tmpfs",
    "type=image",
    "source=/a",
    "target=/b",
    "readonly",
    "ro",
    "rw",
    "z,Z",
    "nocopy",
    "bind-propagation=rshared",
    "volume-opt=",
    "volume-subpath=../..",
    "tmpfs-size=1g",
    "tmpfs-mode=7777",
    "\"",
    ",",
    ":/b:",
    "/..",
    "consistency=cached",
    "volume-driver=local",
];
/// For filters.
pub const FILTER_WORDS: &[&str] = &[
    "{\"label\":",
    "{\"a=b\":true}",
    "[\"a\"]",
    "\"until\":",
    "\"24h\"",
    "\"dangling\":",
    "\"before\":",
    "\"status\":",
    "\"exited\":[\"0\"]",
    "\"publish\":[\"80-90/tcp\"]",
    "null",
    "false",
    "\"reference\":[\"*[\"]",
    "2006-01-02T15:04:05Z",
];
/// For templates.
pub const TEMPLATE_WORDS: &[&str] = &[
    "{{",
    "}}",
    "{{range .}}",
    "{{end}}",
    "{{if ",
    "{{else}}",
    "{{with .Labels}}",
    "{{template \"a\"}}",
    "{{define \"a\"}}",
    "{{block \"a\" .}}",
    "json .",
    "join",
    "split",
    "printf \"%",
    "slice .Name ",
    "index .",
    "len ",
    "table ",
    "| upper",
    "pad ",
    "truncate ",
    "$x := ",
    "{{/*",
    "{{-",
    "99999999999",
    "%*d",
    "println",
    "{{break}}",
];
/// For logs.
pub const LOG_WORDS: &[&str] = &[
    "{\"log\":\"a\\n\",\"stream\":\"stdout\",\"time\":\"2026-11-20T10:00:00.5Z\"}\n",
    "\\u0000",
    "\\ud83d\\ude00",
    "\\ud800",
    "\n",
    "\"attrs\":{\"a\":\"b\"},",
    "o1763632800000000000 text\n",
    "E1763632800000000000 part\n",
    "\0\0\0\0\0\0\0\0",
    "9999-99-99T99:99:99Z",
];

fn texts(all: &[&str]) -> Vec<Vec<u8>> {
    all.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// Names of images.
pub fn references() -> Vec<Vec<u8>> {
    let digest = format!("busybox@sha256:{}", "0123456789abcdef".repeat(4));
    let both = format!("localhost:5000/a/b_c.d:tag@sha256:{}", "ab".repeat(32));
    texts(&[
        "busybox",
        "docker.io/library/busybox:latest",
        "[::1]:5000/x:1",
        "a--b/c__d:T_1.2",
        &digest,
        &both,
    ])
}

/// Bodies of create.
pub fn bodies() -> Vec<Vec<u8>> {
    texts(&[
        r#"{"Image":"busybox","Cmd":["sh"],"Env":["A=b"],"Labels":{"a":"b"},"Tty":true,"StopTimeout":3}"#,
        r#"{"image":"busybox","cmd":"sh","Entrypoint":"","ExposedPorts":{"80/tcp":{}},"Volumes":{"/v":{}}}"#,
        r#"{"Image":"x","HostConfig":{"Binds":["/a:/b:ro","v:/v"],"PortBindings":{"80/tcp":[{"HostIp":"127.0.0.1","HostPort":"8080-8090"}]},"RestartPolicy":{"Name":"on-failure","MaximumRetryCount":3}}}"#,
        r#"{"Image":"x","HostConfig":{"Mounts":[{"Type":"volume","Source":"v","Target":"/t","VolumeOptions":{"NoCopy":true,"Subpath":"a"}},{"Type":"tmpfs","Target":"/x","TmpfsOptions":{"SizeBytes":100,"Mode":511}}],"LogConfig":{"Type":"json-file","Config":{"max-size":"10m"}}}}"#,
        r#"{"Image":"x","HostConfig":{"Ulimits":[{"Name":"nofile","Soft":1,"Hard":2}],"Devices":[{"PathOnHost":"/dev/null"}],"NetworkMode":"host","Memory":4000000,"NanoCpus":500000000},"NetworkingConfig":{"EndpointsConfig":{"bridge":{"IPAMConfig":{"IPv4Address":"10.0.0.1"}}}}}"#,
        r#"{"Image":"x","Healthcheck":{"Test":["CMD-SHELL","true"],"Interval":1000000000},"HostConfig":{"LogConfig":{"Type":"local","Config":{"tag":"{{.Name}}"}},"Sysctls":{"net.a":"1"},"CapAdd":["ALL"]}}"#,
    ])
}

/// Ports.
pub fn ports() -> Vec<Vec<u8>> {
    texts(&[
        "80",
        "8080:80",
        "127.0.0.1:8080:80/udp",
        "[::1]:80-90:80-90/tcp",
        "127.0.0.1::80",
        "8000-9000:80",
        "target=80,published=8080,protocol=tcp",
        "1-65535/sctp",
    ])
}

/// DNS messages.
pub fn dns_messages() -> Vec<Vec<u8>> {
    let header = |flags: u8, counts: [u8; 4]| {
        let [a, b, c, d] = counts;
        vec![7, 9, flags, 0, 0, a, 0, b, 0, c, 0, d]
    };
    let with = |mut message: Vec<u8>, parts: &[&[u8]]| {
        parts.iter().for_each(|part| message.extend(*part));
        message
    };
    let (web, a, aaaa) = (b"\x03web\0".as_slice(), b"\0\x01\0\x01".as_slice(), b"\0\x1c\0\x01".as_slice());
    let elsewhere = b"\x03www\x07Example\x03org\0".as_slice();
    let reverse = b"\x012\x010\x011\x0210\x07in-addr\x04arpa\0\0\x0c\0\x01".as_slice();
    let edns = b"\0\0\x29\x10\0\0\0\x80\0\0\0".as_slice();
    let address = b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x07".as_slice();
    let soa = b"\xc0\x10\0\x06\0\x01\0\0\0\x3c\0\x18\xc0\x10\xc0\x10\0\0\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\x04\0\0\0\x05".as_slice();
    vec![
        with(header(1, [1, 0, 0, 0]), &[web, a]),
        with(header(1, [1, 0, 0, 1]), &[web, aaaa, edns]),
        with(header(1, [1, 0, 0, 0]), &[b"\x03WEB\x03net\0", a]),
        with(header(1, [1, 0, 0, 0]), &[reverse]),
        with(header(1, [1, 0, 0, 1]), &[elsewhere, a, edns]),
        with(header(0x81, [1, 1, 0, 0]), &[elsewhere, a, address]),
        with(header(0x85, [1, 1, 0, 1]), &[elsewhere, a, address, edns]),
        with(header(0x81, [1, 0, 1, 0]), &[elsewhere, a, soa]),
        // A name that points to itself, and two that point to each other.
        with(header(1, [1, 0, 0, 0]), &[b"\xc0\x0c", a]),
        with(header(1, [1, 0, 0, 0]), &[b"\xc0\x0e\xc0\x0c", a]),
        // Counts of what is not there.
        with(header(1, [255, 255, 255, 255]), &[web, a]),
    ]
}

/// Mounts.
pub fn mounts() -> Vec<Vec<u8>> {
    texts(&[
        "type=bind,source=/a,target=/b,readonly",
        "type=volume,src=v,dst=/v,volume-opt=type=tmpfs,volume-nocopy",
        "\"type=tmpfs\",target=/t,tmpfs-size=64m,tmpfs-mode=1777",
        "/a:/b:ro,z",
        "v:/v:nocopy",
        "/only",
        "/run:size=64m,mode=755,noexec",
        "type=image,source=busybox,target=/i,image-subpath=bin",
    ])
}

/// Filters.
pub fn filters() -> Vec<Vec<u8>> {
    texts(&[
        r#"{"label":{"a=b":true}}"#,
        r#"{"status":["running","exited"],"name":["x"]}"#,
        r#"{"until":["24h"],"dangling":["true"],"before":["busybox"]}"#,
        r#"{"publish":["80-90/tcp"],"expose":["53/udp"],"exited":["1"],"ancestor":["busybox"],"volume":["/v"]}"#,
    ])
}

/// Templates.
pub fn templates() -> Vec<Vec<u8>> {
    texts(&[
        "{{.ID}}",
        "table {{.Names}}\\t{{.Status}}",
        "{{json .}}",
        "{{range .Mounts}}{{.Source}} {{end}}",
        "{{if .State.Running}}up{{else}}down{{end}}",
        "{{index .Config.Labels \"a\"}}",
        "{{join .Args \" \"}}",
        "{{range $k, $v := .Config.Labels}}{{$k}}={{$v}},{{end}}",
        "{{printf \"%5.2f|%-10s|%x\" .Number .Name .ID}}",
        "{{with .State}}{{.Pid}}{{end}}{{slice .ID 0 12 | upper}}",
        "{{define \"a\"}}{{.}}{{end}}{{template \"a\" .Name}}",
        "{{(index .Mounts 0).Source}}",
        "{{split .Name \"-\" | len}}",
        "{{- /* no */ -}} {{ println .Name }}",
    ])
}

/// Log files, behind four bytes of options.
pub fn logs() -> Vec<Vec<u8>> {
    let json = "{\"log\":\"hello\\n\",\"stream\":\"stdout\",\"time\":\"2026-11-20T10:00:00.123456789Z\"}\n\
                {\"log\":\"part\",\"stream\":\"stderr\",\"attrs\":{\"a\":\"b c\"},\"time\":\"2026-11-20T10:00:01Z\"}\n\
                {\"log\":\"torn\",\"stre";
    let local = "o1763632800000000000 hello\nE1763632800000000001 par\nO17636328";
    let mut all = Vec::new();
    for options in 0..8_u8 {
        all.push([&[options, 3, 0, 0], json.as_bytes()].concat());
        all.push([&[options | 0x40, 200, 0, 0], local.as_bytes()].concat());
    }
    all
}

/// A member of a tar (POSIX `pax`, ustar format): header, then the data padded to blocks.
fn member(kind: u8, name: &str, link: &str, data: &[u8]) -> Vec<u8> {
    let mut header = vec![0_u8; 512];
    let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
    put(0, &name.as_bytes()[..name.len().min(100)]);
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{:011o}\0", data.len()).as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, &[kind]);
    put(157, &link.as_bytes()[..link.len().min(100)]);
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header.extend_from_slice(data);
    header.resize(header.len().next_multiple_of(512), 0);
    header
}

fn tar(members: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = members.concat();
    bytes.extend_from_slice(&[0; 1024]);
    bytes
}

/// Layers: every kind of member, links, whiteouts, long names, attributes.
pub fn tars() -> Vec<Vec<u8>> {
    let pax = |records: &[(&str, &str)]| {
        let mut text = String::new();
        for (key, value) in records {
            let body = format!(" {key}={value}\n");
            let mut length = body.len() + 1;
            while length != body.len() + length.to_string().len() {
                length = body.len() + length.to_string().len();
            }
            text.push_str(&format!("{length}{body}"));
        }
        member(b'x', "pax", "", text.as_bytes())
    };
    let long = "long/".repeat(40);
    vec![
        tar(&[]),
        tar(&[
            member(b'5', "etc/", "", b""),
            member(b'0', "etc/motd", "", b"hello"),
            member(b'2', "l", "etc/motd", b""),
        ]),
        tar(&[
            member(b'0', "f", "", &[7; 1000]),
            member(b'1', "h", "f", b""),
            member(b'0', "f", "", b"again"),
        ]),
        tar(&[
            member(b'5', "d/", "", b""),
            member(b'0', "d/.wh.x", "", b""),
            member(b'0', "d/.wh..wh..opq", "", b""),
        ]),
        tar(&[
            member(b'3', "dev/null", "", b""),
            member(b'6', "fifo", "", b""),
            member(b'4', "dev/sda", "", b""),
        ]),
        tar(&[member(b'L', "././@LongLink", "", long.as_bytes()), member(b'0', "short", "", b"x")]),
        tar(&[
            pax(&[("path", "a/b/c"), ("mtime", "1.5"), ("SCHILY.xattr.user.a", "b")]),
            member(b'0', "x", "", b"x"),
        ]),
        tar(&[
            pax(&[
                ("GNU.sparse.major", "1"),
                ("GNU.sparse.minor", "0"),
                ("GNU.sparse.name", "s"),
                ("GNU.sparse.realsize", "1048576"),
            ]),
            member(b'0', "GNUSparseFile.0/s", "", &{
                let mut map = b"1\n4096\n3\n".to_vec();
                map.resize(512, 0);
                map.extend_from_slice(b"abc");
                map
            }),
        ]),
        tar(&[member(b'2', "l", "/etc", b""), member(b'0', "l/passwd", "", b"evil")]),
        tar(&[member(b'0', "../evil", "", b"evil")]),
        tar(&[member(b'g', "global", "", b"18 path=global/p\n"), member(b'0', "x", "", b"x")]),
    ]
}

/// Archives for `load`.
pub fn archives() -> Vec<Vec<u8>> {
    let config = br#"{"architecture":"amd64","os":"linux","config":{"Cmd":["/x"]},"rootfs":{"type":"layers","diff_ids":[]}}"#;
    let manifest = br#"[{"Config":"c.json","RepoTags":["fuzz:1"],"Layers":[]}]"#;
    let with_layer = br#"[{"Config":"c.json","RepoTags":["fuzz:1"],"Layers":["l/layer.tar"]}]"#;
    let layer = tar(&[member(b'0', "etc/motd", "", b"hello")]);
    let index = br#"{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2}]}"#;
    vec![
        tar(&[member(b'0', "manifest.json", "", manifest), member(b'0', "c.json", "", config)]),
        tar(&[
            member(b'0', "c.json", "", config),
            member(b'0', "l/layer.tar", "", &layer),
            member(b'0', "manifest.json", "", with_layer),
        ]),
        tar(&[
            member(b'0', "oci-layout", "", br#"{"imageLayoutVersion":"1.0.0"}"#),
            member(b'0', "index.json", "", index),
            member(
                b'0',
                "blobs/sha256/44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
                "",
                b"{}",
            ),
        ]),
        tar(&[member(b'2', "manifest.json", "/etc/passwd", b"")]),
    ]
}
