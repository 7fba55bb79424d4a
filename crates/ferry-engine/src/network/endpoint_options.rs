//! `--network …,driver-opt=…` and `network connect --driver-opt`: options of one container's endpoint. Labels of other names
//! are kept and have no effect, as in Docker.

use ferry_api::Map;

/// What the options say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct EndpointOptions {
    /// Name of the interface inside.
    pub interface: Option<String>,
    /// Sysctls of the interface, with `IFNAME` for its name.
    pub sysctls: Vec<String>,
}

impl EndpointOptions {
    /// Reads them; the error texts are Docker's.
    pub fn parse(options: &Map<String>) -> Result<Self, String> {
        let mut parsed = Self::default();
        for (name, value) in options.iter() {
            match name.as_str() {
                "com.docker.network.endpoint.ifname" if !value.is_empty() => {
                    parsed.interface = Some(value.clone());
                }
                "com.docker.network.endpoint.sysctls" => {
                    let sysctls = value.split(',').map(|s| check(s).map(|()| s.to_owned()));
                    parsed.sysctls = sysctls.collect::<Result<_, _>>()?;
                }
                _ => {}
            }
        }
        Ok(parsed)
    }

    /// Whether the interface is to have no IPv6.
    pub fn disables_ipv6(&self) -> bool {
        let is_it = |sysctl: &String| {
            sysctl.split_once('=').is_some_and(|(key, value)| {
                let key = key.to_ascii_lowercase();
                key == "net.ipv6.conf.ifname.disable_ipv6" && value == "1"
            })
        };
        self.sysctls.iter().any(is_it)
    }
}

/// `net.X.Y.IFNAME.Z`, which is of the interface and of nothing else.
fn check(sysctl: &str) -> Result<(), String> {
    let key = sysctl.split_once('=').map_or(sysctl, |(key, _)| key);
    let parts: Vec<&str> = key.splitn(5, '.').collect();
    match parts.as_slice() {
        // Docker's client makes it lower case.
        ["net", "ipv4" | "ipv6" | "mpls", _, name, _]
            if name.eq_ignore_ascii_case("IFNAME") && !key.contains('/') =>
        {
            Ok(())
        }
        _ => Err(format!(
            "unrecognised network interface sysctl '{sysctl}'; represent 'net.X.Y.ethN.Z=V' as 'net.X.Y.IFNAME.Z=V', \
             'X' must be 'ipv4', 'ipv6' or 'mpls'"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str, value: &str) -> Result<EndpointOptions, String> {
        let name = format!("com.docker.network.endpoint.{name}");
        EndpointOptions::parse(&[(name, value.to_owned())].into_iter().collect())
    }

    #[test]
    fn options_are_read_or_refused() {
        assert_eq!(parse("ifname", "foo0").unwrap().interface.as_deref(), Some("foo0"));
        assert_eq!(parse("ifname", "").unwrap().interface, None);
        let two = "net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.conf.ifname.accept_ra=0";
        assert_eq!(parse("sysctls", two).unwrap().sysctls.len(), 2);
        for bad in [
            "",
            "foo",
            "kernel.msgmax=1",
            "net.ipv4.ip_forward=1",
            "net.ipv4.conf.eth0.log_martians=1",
            "net.ipv4.conf.IFNAME",
            "net.ipv4.conf.IFNAME./../../../ip_forward=1",
            "net.core.conf.IFNAME.x=1",
        ] {
            let error = parse("sysctls", bad).unwrap_err();
            assert!(
                error.starts_with(&format!("unrecognised network interface sysctl '{bad}'; ")),
                "{error}"
            );
        }
        assert_eq!(parse("else", "x").unwrap(), EndpointOptions::default());
    }
}
