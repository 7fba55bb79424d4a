//! `--network`: a name, or `name=…,alias=…,ip=…` and so on.

/// One network to join.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attachment {
    pub name: String,
    pub aliases: Vec<String>,
    pub driver_opts: Vec<(String, String)>,
    pub ip: Option<String>,
    pub ip6: Option<String>,
    pub mac: Option<String>,
    pub link_local: Vec<String>,
    pub gw_priority: i64,
}

/// Parses one value.
///
/// # Errors
/// Docker's text for a malformed value.
pub fn parse(text: &str) -> Result<Attachment, String> {
    if !text.contains('=') {
        return Ok(Attachment { name: text.to_owned(), ..Attachment::default() });
    }
    let mut all = Attachment::default();
    for field in crate::opts::mount::csv(text)? {
        let (key, value) = field.split_once('=').ok_or_else(|| format!("invalid field {field}"))?;
        let value = value.trim();
        match key.trim().to_ascii_lowercase().as_str() {
            "name" => all.name = value.to_owned(),
            "alias" => all.aliases.push(value.to_ascii_lowercase()),
            "driver-opt" => {
                let (k, v) = value
                    .split_once('=')
                    .ok_or_else(|| "invalid key value pair format in driver options".to_owned())?;
                all.driver_opts.push((k.trim().to_ascii_lowercase(), v.trim().to_ascii_lowercase()));
            }
            "ip" => all.ip = Some(super::values::ip(value)?),
            "ip6" => all.ip6 = Some(super::values::ip(value)?),
            "mac-address" => all.mac = Some(value.to_owned()),
            "link-local-ip" => all.link_local.push(super::values::ip(value)?),
            "gw-priority" => {
                all.gw_priority =
                    value.parse().map_err(|_| format!("invalid gw-priority ({value}): invalid syntax"))?;
            }
            other => return Err(format!("invalid field key {other}")),
        }
    }
    if all.name.is_empty() {
        return Err("network name/id is not specified".to_owned());
    }
    Ok(all)
}

/// Checks a MAC address.
///
/// # Errors
/// Docker's text for anything else.
pub fn mac(text: &str) -> Result<String, String> {
    let parts: Vec<&str> = text.split([':', '-']).collect();
    let good = parts.len() == 6 && parts.iter().all(|p| p.len() == 2 && u8::from_str_radix(p, 16).is_ok());
    if good { Ok(text.to_owned()) } else { Err(format!("{text} is not a valid mac address")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_form() {
        let got = parse("name=n,alias=A,alias=b,ip=10.0.0.2,driver-opt=k=v,gw-priority=3").unwrap();
        assert_eq!(got.name, "n");
        assert_eq!(got.aliases, ["a", "b"]);
        assert_eq!(got.ip.as_deref(), Some("10.0.0.2"));
        assert_eq!(got.driver_opts, [("k".to_owned(), "v".to_owned())]);
        assert_eq!(got.gw_priority, 3);
    }

    #[test]
    fn complaints() {
        assert_eq!(parse("foo=bar").unwrap_err(), "invalid field key foo");
        assert_eq!(parse("alias=x").unwrap_err(), "network name/id is not specified");
        assert!(mac("92:d0:c6:0a:29:33").is_ok());
        assert!(mac("92:d0:c6:0a:29").is_err());
    }
}
