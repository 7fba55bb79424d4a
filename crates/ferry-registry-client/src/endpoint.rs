//! Where a repository's registry is reached, and what may be trusted on the way.

use std::net::IpAddr;

use ferry_types::ImageRef;
use ferry_types::image_ref::DEFAULT_DOMAIN;

/// The host behind `docker.io`.
pub(crate) const DOCKER_HUB: &str = "registry-1.docker.io";

/// One place to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// `scheme://host[:port][/prefix]`, without a trailing slash.
    pub base: String,
    /// `host[:port]`.
    pub host: String,
    /// Certificates are not verified: a registry the administrator (or its loopback address) vouches for.
    pub insecure: bool,
    /// Only the registry itself gets the user's credentials, mirrors never do.
    pub credentials: bool,
}

impl Endpoint {
    pub fn is_plain(&self) -> bool {
        self.base.starts_with("http:")
    }
}

/// Places to try in order: mirrors, then the registry over HTTPS, then, where that is allowed, HTTP.
pub(crate) fn endpoints(reference: &ImageRef, mirrors: &[String], insecure: &[String]) -> Vec<Endpoint> {
    let domain = reference.domain();
    let mut all = Vec::new();
    if domain == DEFAULT_DOMAIN {
        for mirror in mirrors {
            let base = mirror.trim_end_matches('/').to_owned();
            let rest = base.split_once("://").map_or(base.as_str(), |(_, rest)| rest);
            let host = rest.split('/').next().unwrap_or_default().to_owned();
            let insecure = is_insecure(&host, insecure);
            let base = if base.contains("://") { base } else { format!("https://{base}") };
            all.push(Endpoint { base, host, insecure, credentials: false });
        }
    }
    let host = if domain == DEFAULT_DOMAIN { DOCKER_HUB } else { domain };
    all.extend(of_host(host, insecure));
    all
}

/// The registry at a host: over HTTPS, then, where that is allowed, HTTP.
pub(crate) fn of_host(host: &str, insecure: &[String]) -> Vec<Endpoint> {
    let insecure = host != DOCKER_HUB && is_insecure(host, insecure);
    let schemes: &[&str] = if insecure { &["https", "http"] } else { &["https"] };
    let at = |scheme: &&str| Endpoint {
        base: format!("{scheme}://{host}"),
        host: host.to_owned(),
        insecure,
        credentials: true,
    };
    schemes.iter().map(at).collect()
}

/// Loopback addresses, `localhost`, and what is configured: `host`, `host:port` or a network.
fn is_insecure(host: &str, configured: &[String]) -> bool {
    let name = without_port(host);
    let address: Option<IpAddr> = name.trim_matches(['[', ']']).parse().ok();
    let loopback = name == "localhost" || address.is_some_and(|a| a.is_loopback());
    loopback
        || configured.iter().any(|c| {
            let network = || in_network(address?, c);
            c == host || c == name || network().unwrap_or(false)
        })
}

pub(crate) fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.is_empty() => name,
        _ => host,
    }
}

fn in_network(address: IpAddr, network: &str) -> Option<bool> {
    let (base, length) = network.split_once('/')?;
    let length: u32 = length.parse().ok()?;
    Some(match (address, base.parse().ok()?) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            let mask = u32::MAX.checked_shl(32_u32.checked_sub(length)?).unwrap_or(0);
            a.to_bits() & mask == b.to_bits() & mask
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            let mask = u128::MAX.checked_shl(128_u32.checked_sub(length)?).unwrap_or(0);
            a.to_bits() & mask == b.to_bits() & mask
        }
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bases(reference: &str, insecure: &[&str]) -> Vec<String> {
        let insecure: Vec<String> = insecure.iter().map(|s| (*s).to_owned()).collect();
        let mirrors = ["https://mirror.example/x/".to_owned()];
        endpoints(&reference.parse().unwrap(), &mirrors, &insecure).into_iter().map(|e| e.base).collect()
    }

    #[test]
    fn order_and_trust() {
        assert_eq!(bases("debian", &[]), ["https://mirror.example/x", "https://registry-1.docker.io"]);
        assert_eq!(bases("ghcr.io/a/b", &[]), ["https://ghcr.io"]);
        for host in ["localhost:5000", "127.1.2.3:5000", "[::1]:5000"] {
            let want = [format!("https://{host}"), format!("http://{host}")];
            assert_eq!(bases(&format!("{host}/x"), &[]), want);
        }
        assert_eq!(bases("10.1.2.3:80/x", &["10.0.0.0/8"]).len(), 2);
        assert_eq!(bases("11.1.2.3:80/x", &["10.0.0.0/8"]).len(), 1);
        assert_eq!(bases("r.example:80/x", &["r.example:80"]).len(), 2);
        assert_eq!(bases("r.example:81/x", &["r.example:80"]).len(), 1);
    }

    #[test]
    fn mirrors_get_no_credentials() {
        let all = endpoints(&"debian".parse().unwrap(), &["https://m".to_owned()], &[]);
        assert_eq!(all.iter().map(|e| e.credentials).collect::<Vec<_>>(), [false, true]);
    }
}
