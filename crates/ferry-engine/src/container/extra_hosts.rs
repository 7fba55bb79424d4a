//! `--add-host NAME:ADDRESS`.

use std::net::IpAddr;

/// The address of the host on the bridge, in place of an address.
const HOST_GATEWAY: &str = "host-gateway";

/// Splits an entry into name and address; `host-gateway` stays as it is.
pub(crate) fn parse(entry: &str) -> Result<(String, String), String> {
    let bad_format = || format!("bad format for add-host: {entry:?}");
    let (name, address) = entry.split_once([':', '=']).ok_or_else(bad_format)?;
    if name.is_empty() {
        return Err(bad_format());
    }
    if address == HOST_GATEWAY {
        return Ok((name.to_owned(), address.to_owned()));
    }
    let bare = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
    match bare.parse::<IpAddr>() {
        Ok(ip) => Ok((name.to_owned(), ip.to_string())),
        Err(_) => Err(format!("invalid IP address in add-host: {address:?}")),
    }
}

/// All entries with `host-gateway` replaced. The error is Docker's.
pub(crate) fn resolve(entries: &[String], gateways: &[String]) -> Result<Vec<(String, String)>, String> {
    let mut out = Vec::new();
    for (name, address) in entries.iter().filter_map(|e| parse(e).ok()) {
        match address == HOST_GATEWAY {
            true if gateways.is_empty() => {
                return Err("unable to derive the IP value for host-gateway".to_owned());
            }
            true => out.extend(gateways.iter().map(|gateway| (name.clone(), gateway.clone()))),
            false => out.push((name, address)),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries() {
        assert_eq!(parse("db:10.0.0.1"), Ok(("db".into(), "10.0.0.1".into())));
        assert_eq!(parse("db:::1"), Ok(("db".into(), "::1".into())));
        assert_eq!(parse("db=[::1]"), Ok(("db".into(), "::1".into())));
        assert!(parse("db").is_err() && parse(":1.2.3.4").is_err() && parse("db:x").is_err());
        assert_eq!(
            resolve(&["h:host-gateway".into()], &["172.17.0.1".into()]),
            Ok(vec![("h".to_owned(), "172.17.0.1".to_owned())])
        );
        assert!(resolve(&["h:host-gateway".into()], &[]).is_err());
    }
}
