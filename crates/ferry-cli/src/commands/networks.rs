//! `network` commands.

use clap::Args;
use ferry_client::Request;
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::failure::{CmdResult, Failure};
use crate::format::listing::{Listing, Row};
use crate::opts::{env, filter, mount, values};
use crate::verb::{Arity, Verb};
use crate::{out, text, time};

/// List networks
#[derive(Debug, Args)]
pub struct List {
    /// Provide filter values (e.g. "driver=bridge")
    #[arg(long, short = 'f', value_name = "filter", value_parser = filter::check)]
    filter: Vec<String>,
    #[arg(long, value_name = "string", help = super::LIST_FORMAT_HELP)]
    format: Option<String>,
    /// Do not truncate the output
    #[arg(long)]
    no_trunc: bool,
    /// Only display network IDs
    #[arg(long, short = 'q')]
    quiet: bool,
    #[arg(hide = true)]
    args: Vec<String>,
}

/// Create a network
#[derive(Debug, Args)]
pub struct Create {
    /// Enable manual container attachment
    #[arg(long)]
    attachable: bool,
    /// Auxiliary IPv4 or IPv6 addresses used by Network driver (default map[])
    #[arg(long, value_name = "map")]
    aux_address: Vec<String>,
    /// The network from which to copy the configuration
    #[arg(long, value_name = "string")]
    config_from: Option<String>,
    /// Create a configuration only network
    #[arg(long)]
    config_only: bool,
    /// Create swarm routing-mesh network
    #[arg(long)]
    ingress: bool,
    /// Driver to manage the Network (default "bridge")
    #[arg(long, short = 'd', value_name = "string")]
    driver: Option<String>,
    /// IPv4 or IPv6 Gateway for the master subnet
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    gateway: Vec<String>,
    /// Restrict external access to the network
    #[arg(long)]
    internal: bool,
    /// Allocate container ip from a sub-range
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    ip_range: Vec<String>,
    /// IP Address Management Driver (default "default")
    #[arg(long, value_name = "string")]
    ipam_driver: Option<String>,
    /// Set IPAM driver specific options (default map[])
    #[arg(long, value_name = "map")]
    ipam_opt: Vec<String>,
    /// Enable or disable IPv4 address assignment (default true)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = text::parse_bool)]
    ipv4: Option<bool>,
    /// Enable or disable IPv6 address assignment
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = text::parse_bool)]
    ipv6: Option<bool>,
    /// Set metadata on a network
    #[arg(long, value_name = "list", value_parser = values::label)]
    label: Vec<String>,
    /// Set driver specific options (default map[])
    #[arg(long, short = 'o', value_name = "map")]
    opt: Vec<String>,
    /// Control the network's scope
    #[arg(long, value_name = "string")]
    scope: Option<String>,
    /// Subnet in CIDR format that represents a network segment
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    subnet: Vec<String>,
    #[arg(hide = true)]
    args: Vec<String>,
}

/// Remove one or more networks
#[derive(Debug, Args)]
pub struct Remove {
    /// Do not error if the network does not exist
    #[arg(long, short = 'f')]
    force: bool,
    #[arg(hide = true)]
    args: Vec<String>,
}

/// Connect a container to a network
#[derive(Debug, Args)]
pub struct Connect {
    /// Add network-scoped alias for the container
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    alias: Vec<String>,
    /// driver options for the network
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    driver_opt: Vec<String>,
    /// Highest gw-priority provides the default gateway. Accepts positive and negative values.
    #[arg(long, value_name = "int", value_parser = text::parse_int, verbatim_doc_comment)]
    gw_priority: Option<i64>,
    /// IPv4 address (e.g., "172.30.100.104")
    #[arg(long, value_name = "string")]
    ip: Option<String>,
    /// IPv6 address (e.g., "2001:db8::33")
    #[arg(long, value_name = "string")]
    ip6: Option<String>,
    /// Add link to another container
    #[arg(long, value_name = "list")]
    link: Vec<String>,
    /// Add a link-local address for the container
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    link_local_ip: Vec<String>,
    #[arg(hide = true)]
    args: Vec<String>,
}

/// Disconnect a container from a network
#[derive(Debug, Args)]
pub struct Disconnect {
    /// Force the container to disconnect from a network
    #[arg(long, short = 'f')]
    force: bool,
    #[arg(hide = true)]
    args: Vec<String>,
}

/// The time of what has none.
const NEVER: &str = "0001-01-01 00:00:00 +0000 UTC";

impl Verb for List {
    const PATHS: &'static [&'static str] = &["network ls", "network list"];
    const USAGE: &'static str = "[OPTIONS]";
    const ARITY: Arity = Arity::None;

    async fn run(self, app: &App) -> CmdResult {
        let request = Request::get("/networks").query_opt("filters", &filter::parameter(&self.filter));
        let answer = app.json(request).await?;
        let mut networks: Vec<&Value> = answer.as_array().into_iter().flatten().collect();
        networks.sort_by_key(|n| n["Name"].as_str().unwrap_or_default());
        let rows: Vec<Row> = networks.into_iter().map(|n| row(n, self.no_trunc)).collect();
        let listing = Listing {
            type_name: "*network.networkContext",
            raw: if self.quiet {
                "network_id: {{.ID}}\\n"
            } else {
                "network_id: {{.ID}}\\nname: {{.Name}}\\ndriver: {{.Driver}}\\nscope: {{.Scope}}\\n"
            },
            headers: &[
                ("ID", "NETWORK ID"),
                ("Name", "NAME"),
                ("Driver", "DRIVER"),
                ("Scope", "SCOPE"),
                ("IPv4", "IPV4"),
                ("IPv6", "IPV6"),
                ("Internal", "INTERNAL"),
                ("Labels", "LABELS"),
                ("CreatedAt", "CREATED AT"),
            ],
            columns: &["ID", "Name", "Driver", "Scope"],
            quiet: self.quiet.then_some("ID"),
        };
        let format = self
            .format
            .as_deref()
            .or_else(|| app.config().networks_format.as_deref().filter(|_| !self.quiet));
        out::print(listing.render(format, &rows)?)?;
        Ok(0)
    }
}

fn row(n: &Value, no_trunc: bool) -> Row {
    let field = |key: &str| n[key].as_str().unwrap_or_default().to_owned();
    let flag = |key: &str| n[key].as_bool().unwrap_or(false).to_string();
    let id = field("Id");
    Row::new([
        ("ID", if no_trunc { id } else { text::short_id(&id).to_owned() }),
        ("Name", field("Name")),
        ("Driver", field("Driver")),
        ("Scope", field("Scope")),
        ("IPv4", n["EnableIPv4"].as_bool().unwrap_or(true).to_string()),
        ("IPv6", flag("EnableIPv6")),
        ("Internal", flag("Internal")),
        ("Labels", super::join_labels(&n["Labels"])),
        ("CreatedAt", time::parse(&field("Created")).map_or_else(|| NEVER.to_owned(), time::go_style_nanos)),
    ])
    .with_labels(&n["Labels"])
}

impl Verb for Create {
    const PATHS: &'static [&'static str] = &["network create"];
    const USAGE: &'static str = "[OPTIONS] NETWORK";
    const ARITY: Arity = Arity::Exact(1);

    async fn run(mut self, app: &App) -> CmdResult {
        // An empty value is none.
        for list in [&mut self.subnet, &mut self.gateway, &mut self.ip_range] {
            list.retain(|value| !value.is_empty());
        }
        let body = json!({
            "Name": self.args[0],
            "Driver": self.driver.as_deref().unwrap_or("bridge"),
            "Scope": self.scope.as_deref().unwrap_or(""),
            "EnableIPv4": self.ipv4,
            "EnableIPv6": self.ipv6,
            "ConfigFrom": self.config_from.as_ref().map(|name| json!({"Network": name})),
            "ConfigOnly": self.config_only,
            "Ingress": self.ingress,
            "Internal": self.internal,
            "Attachable": self.attachable,
            "IPAM": {
                "Driver": self.ipam_driver.as_deref().unwrap_or("default"),
                "Options": options(&self.ipam_opt),
                "Config": self.pools()?,
            },
            "Options": options(&self.opt),
            "Labels": env::labels(&[], &self.label)?,
        });
        let answer = app.json(Request::post("/networks/create").json(&body)?).await?;
        if let Some(warning) = answer["Warning"].as_str().filter(|w| !w.is_empty()) {
            out::note(format!("WARNING: {warning}"));
        }
        out::println(answer["Id"].as_str().unwrap_or_default())?;
        Ok(0)
    }
}

/// Options of a driver; one without a value has an empty one.
fn options(given: &[String]) -> Map<String, Value> {
    let pair = |option: &String| {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        (key.to_owned(), value.into())
    };
    given.iter().map(pair).collect()
}

impl Create {
    /// One pool per subnet; ranges, gateways and reserved addresses go to the subnet they lie in.
    fn pools(&self) -> Result<Vec<Value>, Failure> {
        if self.subnet.len() < self.ip_range.len().max(self.gateway.len()) {
            return Err(Failure::new("every ip-range or gateway must have a corresponding subnet"));
        }
        // A subnet is looked at only where it is compared with something; else the engine says what is wrong with it.
        let mut pools: Vec<(&str, Map<String, Value>)> = Vec::new();
        for text in &self.subnet {
            for (other, _) in &pools {
                if other.parse::<Subnet>()?.overlaps(&text.parse()?) {
                    return Err(Failure::new("multiple overlapping subnet configuration is not supported"));
                }
            }
            pools.push((text, Map::from_iter([("Subnet".to_owned(), text.as_str().into())])));
        }
        let mut put = |key: &str, address: &str, text: &str, what: &str| {
            let ip: Option<std::net::IpAddr> = address.split('/').next().unwrap_or(address).parse().ok();
            let mut found = None;
            for (at, (subnet, _)) in pools.iter().enumerate() {
                let subnet: Subnet = subnet.parse()?;
                if found.is_none() && ip.is_some_and(|ip| subnet.contains(ip)) {
                    found = Some(at);
                }
            }
            let Some((_, pool)) = found.and_then(|at| pools.get_mut(at)) else {
                return Err(Failure::new(format!("no matching subnet for {what} {text}")));
            };
            match key.split_once('.') {
                Some((owner, name)) => {
                    let map = pool.entry(owner).or_insert_with(|| json!({}));
                    if let Some(map) = map.as_object_mut() {
                        map.insert(name.to_owned(), address.into());
                    }
                }
                None if pool.contains_key(key) => {
                    return Err(Failure::new(format!(
                        "cannot configure multiple {what}s ({text}) on the same subnet"
                    )));
                }
                None => {
                    pool.insert(key.to_owned(), address.into());
                }
            }
            Ok(())
        };
        for range in &self.ip_range {
            range.parse::<Subnet>()?;
            put("IPRange", range, range, "range")?;
        }
        for gateway in &self.gateway {
            put("Gateway", gateway, gateway, "gateway")?;
        }
        for pair in &self.aux_address {
            let (name, address) = pair.split_once('=').unwrap_or((pair, ""));
            put(&format!("AuxiliaryAddresses.{name}"), address, address, "aux-address")?;
        }
        Ok(pools.into_iter().map(|p| Value::Object(p.1)).collect())
    }
}

/// An address range in CIDR form.
#[derive(Debug, Clone, Copy)]
struct Subnet {
    base: u128,
    bits: u32,
    v6: bool,
}

impl std::str::FromStr for Subnet {
    type Err = Failure;
    fn from_str(text: &str) -> Result<Self, Failure> {
        let bad = || Failure::new(format!("invalid CIDR address: {text}"));
        let (ip, bits) = text.split_once('/').ok_or_else(bad)?;
        let (ip, bits): (std::net::IpAddr, u32) =
            (ip.parse().map_err(|_| bad())?, bits.parse().map_err(|_| bad())?);
        let v6 = ip.is_ipv6();
        if bits > if v6 { 128 } else { 32 } {
            return Err(bad());
        }
        let bits = if v6 { bits } else { bits + 96 };
        let shift = 128 - bits;
        let value = number(ip);
        let base = if shift == 128 { 0 } else { value >> shift << shift };
        Ok(Self { base, bits, v6 })
    }
}

fn number(ip: std::net::IpAddr) -> u128 {
    match ip {
        std::net::IpAddr::V4(v4) => u128::from(v4.to_bits()),
        std::net::IpAddr::V6(v6) => v6.to_bits(),
    }
}

impl Subnet {
    fn contains(&self, ip: std::net::IpAddr) -> bool {
        let shift = 128 - self.bits;
        ip.is_ipv6() == self.v6 && (shift == 128 || number(ip) >> shift == self.base >> shift)
    }

    fn overlaps(&self, other: &Self) -> bool {
        let shift = 128 - self.bits.min(other.bits);
        self.v6 == other.v6 && (shift == 128 || self.base >> shift == other.base >> shift)
    }
}

impl Verb for Remove {
    const PATHS: &'static [&'static str] = &["network rm", "network remove"];
    const USAGE: &'static str = "NETWORK [NETWORK...]";
    const ARITY: Arity = Arity::AtLeast(1);

    async fn run(self, app: &App) -> CmdResult {
        app.for_each(&self.args, async |name| {
            let request = Request::delete(format!("/networks/{}", Request::escape(name)));
            match app.done(request).await {
                Err(e) if self.force && e.status == Some(404) => Ok(None),
                result => result.map(|()| Some(name.to_owned())),
            }
        })
        .await
        // So it says at its end, whatever it means by it.
        .map_err(|e| if e.message.is_empty() { Failure::new("exit status 1") } else { e })
    }
}

impl Verb for Connect {
    const PATHS: &'static [&'static str] = &["network connect"];
    const USAGE: &'static str = "[OPTIONS] NETWORK CONTAINER";
    const ARITY: Arity = Arity::Exact(2);

    async fn run(self, app: &App) -> CmdResult {
        let endpoint = json!({
            "IPAMConfig": {
                "IPv4Address": self.ip.as_deref().unwrap_or(""),
                "IPv6Address": self.ip6.as_deref().unwrap_or(""),
                "LinkLocalIPs": self.link_local_ip,
            },
            "Links": (!self.link.is_empty()).then_some(&self.link),
            "Aliases": self.alias,
            "DriverOpts": mount::pairs(&self.driver_opt, "invalid key/value pair format in driver options")?,
            "GwPriority": self.gw_priority.unwrap_or(0),
        });
        let request = Request::post(format!("/networks/{}/connect", Request::escape(&self.args[0])))
            .json(&json!({"Container": self.args[1], "EndpointConfig": endpoint}))?;
        app.done(request).await?;
        Ok(0)
    }
}

impl Verb for Disconnect {
    const PATHS: &'static [&'static str] = &["network disconnect"];
    const USAGE: &'static str = "[OPTIONS] NETWORK CONTAINER";
    const ARITY: Arity = Arity::Exact(2);

    async fn run(self, app: &App) -> CmdResult {
        let request = Request::post(format!("/networks/{}/disconnect", Request::escape(&self.args[0])))
            .json(&json!({"Container": self.args[1], "Force": self.force}))?;
        app.done(request).await?;
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets() {
        let subnet: Subnet = "10.1.0.0/16".parse().unwrap();
        assert!(subnet.contains("10.1.255.1".parse().unwrap()));
        assert!(!subnet.contains("10.2.0.1".parse().unwrap()));
        assert!(subnet.overlaps(&"10.0.0.0/8".parse().unwrap()));
        assert!(!subnet.overlaps(&"fd00::/8".parse().unwrap()));
        assert!("10.0.0.0/33".parse::<Subnet>().is_err());
        assert!("0.0.0.0/0".parse::<Subnet>().unwrap().contains("1.2.3.4".parse().unwrap()));
    }
}
