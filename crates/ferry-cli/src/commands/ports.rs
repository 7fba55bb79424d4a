//! `port`, and the PORTS column of `ps`.

use std::fmt::Write as _;

use clap::Args;
use ferry_client::Request;
use serde_json::Value;

use crate::app::App;
use crate::failure::{CmdResult, Failure};
use crate::out;
use crate::verb::{Arity, Verb};

/// List port mappings or a specific mapping for the container
#[derive(Debug, Args)]
pub struct Port {
    #[arg(hide = true)]
    args: Vec<String>,
}

impl Verb for Port {
    const PATHS: &'static [&'static str] = &["container port", "port"];
    const USAGE: &'static str = "CONTAINER [PRIVATE_PORT[/PROTO]]";
    const ARITY: Arity = Arity::Range(1, 2);

    async fn run(self, app: &App) -> CmdResult {
        let name = &self.args[0];
        let container = app.json(Request::get(format!("/containers/{}/json", Request::escape(name)))).await?;
        let ports = container["NetworkSettings"]["Ports"].as_object().cloned().unwrap_or_default();
        let address = |b: &Value| {
            let (ip, port) =
                (b["HostIp"].as_str().unwrap_or_default(), b["HostPort"].as_str().unwrap_or_default());
            if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
        };
        if let Some(wanted) = self.args.get(1) {
            let (number, proto) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
            crate::text::parse_uint16(number)
                .map_err(|e| Failure::new(format!("Error: invalid port ({number}): {e}")))?;
            let bindings = ports.get(&format!("{number}/{proto}")).and_then(Value::as_array);
            let Some(bindings) = bindings.filter(|b| !b.is_empty()) else {
                return Err(Failure::new(format!("Error: No public port '{wanted}' published for {name}")));
            };
            for binding in bindings {
                out::println(address(binding))?;
            }
            return Ok(0);
        }
        let mut lines: Vec<(u32, String)> = Vec::new();
        for (port, bindings) in &ports {
            let number = port.split('/').next().and_then(|n| n.parse().ok()).unwrap_or(0);
            for binding in bindings.as_array().into_iter().flatten() {
                lines.push((number, format!("{port} -> {}", address(binding))));
            }
        }
        lines.sort_by_key(|l| l.0);
        for (_, line) in lines {
            out::println(line)?;
        }
        Ok(0)
    }
}

/// A port of the list API.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Published {
    private: u64,
    proto: String,
    public: u64,
    ip: String,
}

/// Ports on one line; neighbours that map alike are shown as a range.
pub fn summary(ports: &Value) -> String {
    let mut all: Vec<Published> = ports
        .as_array()
        .into_iter()
        .flatten()
        .map(|p| Published {
            private: p["PrivatePort"].as_u64().unwrap_or(0),
            public: p["PublicPort"].as_u64().unwrap_or(0),
            ip: p["IP"].as_str().unwrap_or_default().to_owned(),
            proto: p["Type"].as_str().unwrap_or_default().to_owned(),
        })
        .collect();
    all.sort();
    // Groups of ports reachable under the same address with the same protocol, in order of their
    // first port; ports that map to another number are never joined.
    let mut groups: Vec<(String, String, u64, u64)> = Vec::new();
    let mut lines: Vec<String> = Vec::new();
    let mut singles: Vec<String> = Vec::new();
    for p in &all {
        if p.public != 0 && p.public != p.private {
            singles.push(format!("{}->{}/{}", host(&p.ip, &p.public.to_string()), p.private, p.proto));
            continue;
        }
        let ip = if p.public == 0 { String::new() } else { p.ip.clone() };
        let open = groups.iter_mut().find(|g| g.0 == ip && g.1 == p.proto);
        match open {
            Some(group) if group.3 == p.private || group.3 + 1 == p.private => group.3 = p.private,
            Some(group) => {
                lines.push(range(group));
                *group = (ip, p.proto.clone(), p.private, p.private);
            }
            None => {
                groups.push((ip, p.proto.clone(), p.private, p.private));
            }
        }
    }
    lines.extend(groups.iter().map(range));
    let mut out = String::new();
    for line in lines.into_iter().chain(singles) {
        let separator = if out.is_empty() { "" } else { ", " };
        let _ = write!(out, "{separator}{line}");
    }
    out
}

fn host(ip: &str, port: &str) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

fn range((ip, proto, first, last): &(String, String, u64, u64)) -> String {
    let ports = if first == last { first.to_string() } else { format!("{first}-{last}") };
    if ip.is_empty() { format!("{ports}/{proto}") } else { format!("{}->{ports}/{proto}", host(ip, &ports)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ranges_collapse() {
        let port = |ip: &str, private: u64, public: u64| json!({"IP": ip, "PrivatePort": private, "PublicPort": public, "Type": "tcp"});
        assert_eq!(
            summary(&json!([port("0.0.0.0", 80, 8080), port("::", 80, 8080)])),
            "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"
        );
        assert_eq!(
            summary(&json!([port("0.0.0.0", 82, 82), port("0.0.0.0", 80, 80), port("0.0.0.0", 81, 81)])),
            "0.0.0.0:80-82->80-82/tcp"
        );
        let exposed = json!([{"PrivatePort": 80, "Type": "tcp"}, {"PrivatePort": 443, "Type": "tcp"}]);
        assert_eq!(summary(&exposed), "80/tcp, 443/tcp");
        assert_eq!(summary(&json!([])), "");
    }
}
