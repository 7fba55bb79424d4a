//! Values of directives, whether they came from the command line or from the file.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::directives::{Directive, Kind};

/// Values by the name of their directive, each in the form the file has it.
#[derive(Debug, Default, Clone)]
pub struct Values {
    values: BTreeMap<&'static str, Value>,
    /// What was asked for, to find directives nobody asks for.
    asked: RefCell<BTreeSet<String>>,
}

impl Values {
    /// Adds a flag's value; lists and maps grow.
    ///
    /// # Errors
    /// Why the text is no value, in the words of Docker's flags.
    pub fn add_flag(&mut self, directive: &'static Directive, text: &str) -> Result<(), String> {
        let slot = self.values.entry(directive.name());
        match directive.kind {
            Kind::Text => drop(slot.insert_entry(check(directive, text)?.into())),
            Kind::Bool => drop(slot.insert_entry(boolean(text)?.into())),
            Kind::Int => {
                let number: i64 = text
                    .parse()
                    .map_err(|_| format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))?;
                slot.insert_entry(number.into());
            }
            Kind::Bytes => drop(slot.insert_entry(bytes(text)?.into())),
            Kind::List => {
                let mut items: Vec<Value> = Vec::new();
                // Docker's type for addresses takes several at once.
                let parts = if directive.flag == "dns" { text.split(',').collect() } else { vec![text] };
                for part in parts {
                    items.push(check(directive, part)?.into());
                }
                if let Some(list) = slot.or_insert_with(|| json!([])).as_array_mut() {
                    list.append(&mut items);
                }
            }
            Kind::Pools => {
                let pool = pool(text)?;
                if let Some(list) = slot.or_insert_with(|| json!([])).as_array_mut() {
                    list.push(pool);
                }
            }
            Kind::Map | Kind::Switches | Kind::Ulimits | Kind::Runtimes | Kind::MapMap => {
                let (key, value) = entry(directive.kind, text)?;
                if let Some(map) = slot.or_insert_with(|| json!({})).as_object_mut() {
                    match (directive.kind, map.get_mut(&key), value) {
                        // Several flags for one root key say several things about it.
                        (Kind::MapMap, Some(Value::Object(known)), Value::Object(more)) => known.extend(more),
                        (_, _, value) => drop(map.insert(key, value)),
                    }
                }
            }
        }
        Ok(())
    }

    /// Sets a value of the file.
    ///
    /// # Errors
    /// When it has the wrong type; Docker's words are those of Go's decoder.
    pub fn set_key(&mut self, directive: &'static Directive, value: Value) -> Result<(), String> {
        let wrong = |wanted: &str| {
            let found = match &value {
                Value::Null => "null",
                Value::Bool(_) => "bool",
                Value::Number(_) => "number",
                Value::String(_) => "string",
                Value::Array(_) => "array",
                Value::Object(_) => "object",
            };
            let key = directive.key;
            format!("json: cannot unmarshal {found} into Go struct field Config.{key} of type {wanted}")
        };
        if value.is_null() {
            return Ok(());
        }
        let is_text_list = |v: &Value| v.as_array().is_some_and(|list| list.iter().all(Value::is_string));
        let value = match directive.kind {
            Kind::Text if value.is_string() => value,
            Kind::Text => return Err(wrong("string")),
            Kind::Bool if value.is_boolean() => value,
            Kind::Bool => return Err(wrong("bool")),
            Kind::Int if value.is_i64() => value,
            Kind::Int => return Err(wrong("int")),
            Kind::Bytes => match &value {
                Value::Number(n) if n.is_u64() => value,
                Value::String(text) => bytes(text)?.into(),
                _ => return Err(wrong("opts.MemBytes")),
            },
            // One address is enough for the older of two names.
            Kind::List if directive.flag == "host-gateway-ip" && value.is_string() => json!([value]),
            Kind::List if is_text_list(&value) => value,
            Kind::List => return Err(wrong("[]string")),
            Kind::Pools if value.is_array() => value,
            Kind::Pools => return Err(wrong("opts.PoolsOpt")),
            Kind::Map | Kind::Switches | Kind::Ulimits | Kind::Runtimes | Kind::MapMap
                if value.is_object() =>
            {
                value
            }
            Kind::Map | Kind::Switches | Kind::Ulimits | Kind::Runtimes | Kind::MapMap => {
                return Err(wrong("map"));
            }
        };
        let value = match value {
            Value::String(text) if directive.kind == Kind::Text => check(directive, &text)?.into(),
            Value::Array(items) => {
                let checked = |item: Value| match item {
                    Value::String(text) => check(directive, &text).map(Value::from),
                    other => Ok(other),
                };
                items.into_iter().map(checked).collect::<Result<Vec<_>, String>>()?.into()
            }
            other => other,
        };
        self.values.insert(directive.name(), value);
        Ok(())
    }

    /// Whether a directive was given at all.
    pub fn is_set(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// A directive's value.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.asked.borrow_mut().insert(name.to_owned());
        self.values.get(name)
    }

    /// What was asked for so far.
    #[cfg(test)]
    pub fn asked(&self) -> BTreeSet<String> {
        self.asked.borrow().clone()
    }

    /// A text that is not empty.
    pub fn text(&self, name: &str) -> Option<String> {
        self.get(name)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
    }

    /// A switch.
    pub fn flag(&self, name: &str) -> Option<bool> {
        self.get(name)?.as_bool()
    }

    /// A number.
    pub fn int(&self, name: &str) -> Option<i64> {
        self.get(name)?.as_i64()
    }

    /// A list of texts, empty when it was not given.
    pub fn list(&self, name: &str) -> Vec<String> {
        let items = self.get(name).and_then(Value::as_array).into_iter().flatten();
        items.filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// An object's members, none when it was not given.
    pub fn map(&self, name: &str) -> Map<String, Value> {
        self.get(name).and_then(Value::as_object).cloned().unwrap_or_default()
    }

    /// These values with those of `over` in place of the ones both have.
    pub fn overlaid(mut self, over: Self) -> Self {
        for (name, value) in over.values {
            // Runtimes may be named in both places.
            match (self.values.get_mut(name), value) {
                (Some(Value::Object(own)), Value::Object(others)) => own.extend(others),
                (_, value) => {
                    self.values.insert(name, value);
                }
            }
        }
        self
    }

    /// Names and values of everything given.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Value)> {
        self.values.iter().map(|(name, value)| (*name, value))
    }
}

fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {text:?}: invalid syntax")),
    }
}

/// A size with binary units, as `64m`.
fn bytes(text: &str) -> Result<i64, String> {
    let invalid = || format!("invalid size: '{text}'");
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: i64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        _ => return Err(invalid()),
    };
    let number: f64 = number.parse().map_err(|_| invalid())?;
    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
    Ok((number * factor as f64) as i64)
}

/// What Docker checks of single values as soon as it sees them.
fn check(directive: &Directive, text: &str) -> Result<String, String> {
    let address = || text.trim().parse::<std::net::IpAddr>();
    match directive.flag {
        "label" if !text.contains('=') || text.starts_with('=') => {
            Err(format!("bad attribute format: {text}"))
        }
        "dns" => address()
            .map(|a| a.to_string())
            .map_err(|_| format!("invalid string being converted to IP address: {text}")),
        "ip" if !text.is_empty() => {
            address().map(|a| a.to_string()).map_err(|_| format!("failed to parse IP: {text:?}"))
        }
        "host-gateway-ip" => {
            address().map(|a| a.to_string()).map_err(|_| format!("ParseAddr({text:?}): unable to parse IP"))
        }
        "dns-search" => domain(text),
        "registry-mirror" => mirror(text),
        "node-generic-resource" if !text.contains('=') => {
            Err(format!("invalid node-generic-resource format `{text}` expected `name=value`"))
        }
        _ => Ok(text.to_owned()),
    }
}

fn domain(text: &str) -> Result<String, String> {
    let text = text.trim_matches(' ');
    let label = |l: &str| {
        !l.is_empty()
            && l.len() <= 63
            && l.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    let valid = text == "." || text.trim_end_matches('.').split('.').all(label);
    if valid { Ok(text.to_owned()) } else { Err(format!("{text} is not a valid domain")) }
}

fn mirror(text: &str) -> Result<String, String> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(format!(
            "invalid mirror: no scheme specified for {text:?}: must use either 'https://' or 'http://'"
        ));
    };
    if !matches!(scheme, "http" | "https") {
        return Err(format!(
            "invalid mirror: unsupported scheme {scheme:?} in {text:?}: must use either 'https://' or 'http://'"
        ));
    }
    if rest.contains(['?', '#']) {
        return Err(format!("invalid mirror: query or fragment at end of the URI {text:?}"));
    }
    Ok(format!("{}/", text.trim_end_matches('/')))
}

/// `base=CIDR,size=N`.
fn pool(text: &str) -> Result<Value, String> {
    let mut pool = Map::new();
    for field in text.split(',') {
        let (key, value) = field
            .split_once('=')
            .ok_or_else(|| format!("invalid field '{field}' must be a key=value pair"))?;
        let value = match key {
            "base" => {
                value.parse::<ipnet::IpNet>().map_err(|_| {
                    format!("invalid base prefix {value:?}: netip.ParsePrefix({value:?}): no '/'")
                })?;
                Value::from(value)
            }
            "size" => value
                .parse::<u8>()
                .map(Value::from)
                .map_err(|_| format!("invalid size value: {value} (must be integer)"))?,
            other => return Err(format!("unexpected key '{other}' in '{field}'")),
        };
        pool.insert(key.to_owned(), value);
    }
    Ok(pool.into())
}

/// One member of a value that is an object.
fn entry(kind: Kind, text: &str) -> Result<(String, Value), String> {
    match (kind, text.split_once('=')) {
        (Kind::Map, Some((key, value))) => Ok((key.to_owned(), value.into())),
        (Kind::Map, None) => Ok((text.to_owned(), "".into())),
        (Kind::Switches, Some((key, value))) => Ok((key.to_owned(), boolean(value)?.into())),
        (Kind::Switches, None) => Ok((text.to_owned(), true.into())),
        (Kind::Ulimits, Some((name, limits))) => {
            let invalid = || format!("invalid ulimit argument: {text}");
            let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
            let number = |text: &str| text.parse::<i64>().map_err(|_| invalid());
            let (soft, hard) = (number(soft)?, number(hard)?);
            if hard >= 0 && (soft > hard || soft < 0) {
                return Err(format!(
                    "ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
                ));
            }
            Ok((name.to_owned(), json!({ "Name": name, "Soft": soft, "Hard": hard })))
        }
        (Kind::Ulimits, None) => Err(format!("invalid ulimit argument: {text}")),
        (Kind::Runtimes, Some((name, path))) if !name.trim().is_empty() && !path.trim().is_empty() => {
            let name = name.trim().to_lowercase();
            if name == "runc" {
                return Err("runtime name 'runc' is reserved".to_owned());
            }
            Ok((name, json!({ "path": path.trim() })))
        }
        (Kind::Runtimes, _) => Err(format!("invalid runtime argument: {text}")),
        (Kind::MapMap, Some((root, rest))) if rest.contains('=') => {
            let (key, value) = rest.split_once('=').unwrap_or((rest, ""));
            Ok((root.to_owned(), json!({ key: value })))
        }
        _ => Err(format!("invalid value {text:?} for map option, should be root-key=key=value")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::directives::by_flag;
    use super::*;

    fn add(flag: &str, text: &str) -> Result<Value, String> {
        let directive = by_flag(flag).unwrap();
        let mut values = Values::default();
        values.add_flag(directive, text)?;
        Ok(values.get(directive.name()).unwrap().clone())
    }

    #[test]
    fn values_are_complained_about_as_docker_does() {
        for (flag, text, expected) in [
            ("label", "foo", "bad attribute format: foo"),
            ("mtu", "abc", "strconv.ParseInt: parsing \"abc\": invalid syntax"),
            ("tls", "maybe", "strconv.ParseBool: parsing \"maybe\": invalid syntax"),
            ("dns", "foo", "invalid string being converted to IP address: foo"),
            ("default-ulimit", "foo", "invalid ulimit argument: foo"),
            ("default-shm-size", "foo", "invalid size: 'foo'"),
            (
                "registry-mirror",
                "foo",
                "invalid mirror: no scheme specified for \"foo\": must use either 'https://' or 'http://'",
            ),
            ("default-address-pool", "foo", "invalid field 'foo' must be a key=value pair"),
            ("add-runtime", "foo", "invalid runtime argument: foo"),
            ("host-gateway-ip", "x", "ParseAddr(\"x\"): unable to parse IP"),
            ("ip", "x", "failed to parse IP: \"x\""),
            ("dns-search", "@@", "@@ is not a valid domain"),
            ("feature", "x=y", "strconv.ParseBool: parsing \"y\": invalid syntax"),
            ("default-network-opt", "x", "invalid value \"x\" for map option, should be root-key=key=value"),
        ] {
            assert_eq!(add(flag, text), Err(expected.to_owned()), "{flag}");
        }
    }

    #[test]
    fn flags_for_one_root_key_add_up() {
        let directive = by_flag("default-network-opt").unwrap();
        let mut values = Values::default();
        for text in ["bridge=a=1", "bridge=b=2", "bridge=a=3", "macvlan=c=4"] {
            values.add_flag(directive, text).unwrap();
        }
        let wanted = json!({"bridge": {"a": "3", "b": "2"}, "macvlan": {"c": "4"}});
        assert_eq!(values.get(directive.name()), Some(&wanted));
    }

    #[test]
    fn flags_take_the_form_of_the_file() {
        assert_eq!(
            add("default-ulimit", "nofile=1:2").unwrap(),
            json!({"nofile": {"Name": "nofile", "Soft": 1, "Hard": 2}})
        );
        assert_eq!(
            add("default-address-pool", "base=10.0.0.0/8,size=24").unwrap(),
            json!([{"base": "10.0.0.0/8", "size": 24}])
        );
        assert_eq!(add("default-shm-size", "64m").unwrap(), json!(64 << 20));
        assert_eq!(add("dns", "1.1.1.1,8.8.8.8").unwrap(), json!(["1.1.1.1", "8.8.8.8"]));
    }
}
