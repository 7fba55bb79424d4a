//! Go's fmt: `print`, `println`, `printf` and the way templates show a value.

use super::types::Type;
use super::value::Value;
use crate::text::quote;

/// A value as a template shows it.
pub fn shown(value: &Value) -> String {
    match value.follow() {
        (Value::Missing | Value::Null, _) => "<no value>".to_owned(),
        (value, _) => plain(value, 0, false),
    }
}

/// An operand of `print` and `println`, and `%v` of `printf`.
pub fn operand(value: &Value) -> String {
    plain(value, 0, false)
}

/// `%v`, or `%+v` with names of fields.
fn plain(value: &Value, depth: usize, named: bool) -> String {
    let join = |items: Vec<String>| items.join(" ");
    match value {
        Value::Missing | Value::Null => "<nil>".to_owned(),
        Value::Bool(b) => b.to_string(),
        Value::Int(i) => i.to_string(),
        Value::Uint(u) => u.to_string(),
        Value::Float(f) => general(*f, None),
        Value::Text(s) | Value::Number(s) => s.to_string(),
        Value::Time(s) => time(s),
        Value::Duration(nanos) => crate::units::shown_duration(*nanos),
        Value::List(list) => {
            format!("[{}]", join(list.items.iter().map(|v| plain(v, depth + 1, named)).collect()))
        }
        Value::Map(map) => {
            let items = map.items.iter().map(|(k, v)| format!("{k}:{}", plain(v, depth + 1, named)));
            format!("map[{}]", join(items.collect()))
        }
        Value::Struct(s) => {
            if let Some(text) = stringer(value) {
                return text;
            }
            let items = s.of.fields.iter().zip(&s.values).map(|(field, v)| {
                let text = plain(v, depth + 1, named);
                if named { format!("{}:{text}", field.name) } else { text }
            });
            format!("{{{}}}", join(items.collect()))
        }
        Value::Pointer(_, None) => "<nil>".to_owned(),
        Value::Pointer(of, Some(inner)) => {
            if let Some(text) = stringer(inner) {
                return text;
            }
            let compound = matches!(**of, Type::Struct(_) | Type::List(_) | Type::Map(..));
            // Go shows where nested values lie in memory, which nobody can use.
            if depth == 0 && compound {
                format!("&{}", plain(inner, 1, named))
            } else {
                "0xc000000000".to_owned()
            }
        }
        Value::Object(object) => object.json(),
    }
}

/// Types that say themselves how they are shown.
fn stringer(value: &Value) -> Option<String> {
    let Value::Struct(s) = value else { return None };
    let get = |name: &str| s.field(name).map(operand).unwrap_or_default();
    match s.of.name.as_str() {
        "units.Ulimit" => Some(format!("{}={}:{}", get("Name"), get("Soft"), get("Hard"))),
        "blkiodev.WeightDevice" => Some(format!("{}:{}", get("Path"), get("Weight"))),
        "blkiodev.ThrottleDevice" => Some(format!("{}:{}", get("Path"), get("Rate"))),
        _ => None,
    }
}

/// A time of the wire as Go prints it.
fn time(text: &str) -> String {
    text.parse::<jiff::Timestamp>().map_or_else(
        |_| {
            if text.starts_with("0001-01-01") {
                "0001-01-01 00:00:00 +0000 UTC".to_owned()
            } else {
                text.to_owned()
            }
        },
        |at| {
            let nanos = at.subsec_nanosecond();
            let fraction = if nanos == 0 {
                String::new()
            } else {
                format!(".{}", format!("{nanos:09}").trim_end_matches('0'))
            };
            at.to_zoned(jiff::tz::TimeZone::UTC)
                .strftime(&format!("%Y-%m-%d %H:%M:%S{fraction} +0000 UTC"))
                .to_string()
        },
    )
}

/// `print`: blanks between operands when neither is a string.
pub fn sprint(args: &[Value]) -> String {
    let mut out = String::new();
    for (i, arg) in args.iter().enumerate() {
        let text = |v: &Value| matches!(v, Value::Text(_));
        if i > 0 && !text(arg) && !text(&args[i - 1]) {
            out.push(' ');
        }
        out.push_str(&operand(arg));
    }
    out
}

/// `println`.
pub fn sprintln(args: &[Value]) -> String {
    let mut out = args.iter().map(operand).collect::<Vec<_>>().join(" ");
    out.push('\n');
    out
}

/// Flags of one verb.
#[derive(Debug, Default, Clone)]
struct Flags {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// Widest field, so that a template cannot ask for gigabytes.
const MAX_WIDTH: usize = 100_000;

/// `printf`.
pub fn sprintf(format: &str, args: &[Value]) -> String {
    let mut out = String::new();
    let mut next = 0;
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut flags = Flags::default();
        while let Some(&c) = chars.peek() {
            match c {
                '-' => flags.minus = true,
                '+' => flags.plus = true,
                '#' => flags.sharp = true,
                ' ' => flags.space = true,
                '0' => flags.zero = true,
                _ => break,
            }
            chars.next();
        }
        let mut number =
            |chars: &mut std::iter::Peekable<std::str::Chars<'_>>, out: &mut String, what: &str| {
                if chars.peek() == Some(&'*') {
                    chars.next();
                    let value = args.get(next);
                    next += 1;
                    return match value {
                        Some(Value::Int(i)) => usize::try_from(*i).ok().filter(|n| *n <= MAX_WIDTH),
                        _ => {
                            out.push_str(what);
                            None
                        }
                    };
                }
                let mut found = None;
                while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
                    chars.next();
                    found = Some((found.unwrap_or(0_usize) * 10 + digit as usize).min(MAX_WIDTH));
                }
                found
            };
        flags.width = number(&mut chars, &mut out, "%!(BADWIDTH)");
        if chars.peek() == Some(&'.') {
            chars.next();
            flags.precision = Some(number(&mut chars, &mut out, "%!(BADPREC)").unwrap_or(0));
        }
        let Some(verb) = chars.next() else {
            out.push_str("%!(NOVERB)");
            break;
        };
        if verb == '%' {
            out.push('%');
            continue;
        }
        match args.get(next) {
            None => out.push_str(&format!("%!{verb}(MISSING)")),
            Some(arg) => out.push_str(&one(verb, &flags, arg)),
        }
        next += 1;
    }
    if next < args.len() {
        let extra = args[next..].iter().map(|arg| match arg {
            Value::Missing | Value::Null => "<nil>".to_owned(),
            arg => format!("{}={}", arg.type_name(), operand(arg)),
        });
        out.push_str(&format!("%!(EXTRA {})", extra.collect::<Vec<_>>().join(", ")));
    }
    out
}

fn one(verb: char, flags: &Flags, arg: &Value) -> String {
    match verb {
        'T' => return pad(&arg.type_name(), flags),
        'v' if !flags.sharp => {
            return match arg {
                Value::Int(_) | Value::Uint(_) => integer('d', flags, arg).unwrap_or_default(),
                Value::Float(f) => pad_number(&signed(general(*f, flags.precision), flags), flags),
                other => pad(&plain(other, 0, flags.plus), flags),
            };
        }
        'v' => return pad(&go_syntax(arg), flags),
        _ => {}
    }
    let fitting = match arg {
        Value::Bool(b) => (verb == 't').then(|| pad(&b.to_string(), flags)),
        Value::Int(_) | Value::Uint(_) => integer(verb, flags, arg),
        Value::Duration(nanos) if matches!(verb, 's' | 'q') => {
            string(verb, flags, &crate::units::shown_duration(*nanos))
        }
        Value::Duration(nanos) => integer(verb, flags, &Value::Int(*nanos)),
        Value::Float(f) => real(verb, flags, *f),
        Value::Text(s) | Value::Number(s) => string(verb, flags, s),
        Value::Time(s) if matches!(verb, 's' | 'q') => string(verb, flags, &time(s)),
        Value::List(list) => {
            let items: Vec<String> = list.items.iter().map(|v| one(verb, flags, v)).collect();
            Some(format!("[{}]", items.join(" ")))
        }
        Value::Map(map) => {
            let items = map
                .items
                .iter()
                .map(|(k, v)| format!("{}:{}", one(verb, flags, &Value::text(k)), one(verb, flags, v)));
            Some(format!("map[{}]", items.collect::<Vec<_>>().join(" ")))
        }
        Value::Struct(s) => {
            let items: Vec<String> = s.values.iter().map(|v| one(verb, flags, v)).collect();
            Some(format!("{{{}}}", items.join(" ")))
        }
        Value::Pointer(_, Some(inner))
            if matches!(**inner, Value::Struct(_) | Value::List(_) | Value::Map(_)) =>
        {
            Some(format!("&{}", one(verb, flags, inner)))
        }
        _ => None,
    };
    fitting.unwrap_or_else(|| match arg {
        Value::Missing | Value::Null => format!("%!{verb}(<nil>)"),
        Value::Pointer(_, None) => format!("%!{verb}({}=nil)", arg.type_name()),
        arg => format!("%!{verb}({}={})", arg.type_name(), operand(arg)),
    })
}

fn string(verb: char, flags: &Flags, s: &str) -> Option<String> {
    let cut: String = match flags.precision {
        Some(max) if matches!(verb, 's' | 'q') => s.chars().take(max).collect(),
        _ => s.to_owned(),
    };
    match verb {
        's' => Some(pad(&cut, flags)),
        'q' if flags.sharp && !cut.contains('`') => Some(pad(&format!("`{cut}`"), flags)),
        'q' => Some(pad(&quote(&cut), flags)),
        'x' => Some(pad(&s.bytes().map(|b| format!("{b:02x}")).collect::<String>(), flags)),
        'X' => Some(pad(&s.bytes().map(|b| format!("{b:02X}")).collect::<String>(), flags)),
        _ => None,
    }
}

fn integer(verb: char, flags: &Flags, arg: &Value) -> Option<String> {
    let (negative, magnitude) = match arg {
        Value::Int(i) => (*i < 0, i.unsigned_abs()),
        Value::Uint(u) => (false, *u),
        _ => return None,
    };
    let character = || u32::try_from(magnitude).ok().and_then(char::from_u32).unwrap_or('\u{fffd}');
    let (prefix, digits) = match verb {
        'd' => ("", magnitude.to_string()),
        'b' => (if flags.sharp { "0b" } else { "" }, format!("{magnitude:b}")),
        'o' => (if flags.sharp { "0" } else { "" }, format!("{magnitude:o}")),
        'O' => ("0o", format!("{magnitude:o}")),
        'x' => (if flags.sharp { "0x" } else { "" }, format!("{magnitude:x}")),
        'X' => (if flags.sharp { "0X" } else { "" }, format!("{magnitude:X}")),
        'c' => return Some(pad(&character().to_string(), flags)),
        'q' => return Some(pad(&format!("'{}'", character()), flags)),
        'U' => return Some(pad(&format!("U+{magnitude:04X}"), flags)),
        _ => return None,
    };
    let mut digits = digits;
    if let Some(least) = flags.precision {
        digits = format!("{}{digits}", "0".repeat(least.saturating_sub(digits.len())));
    }
    let sign = if negative {
        "-"
    } else if flags.plus {
        "+"
    } else if flags.space {
        " "
    } else {
        ""
    };
    Some(pad_number(&format!("{sign}{prefix}{digits}"), flags))
}

fn real(verb: char, flags: &Flags, f: f64) -> Option<String> {
    let text = match verb {
        'f' | 'F' => format!("{f:.*}", flags.precision.unwrap_or(6)),
        'e' => exponent(f, Some(flags.precision.unwrap_or(6))),
        'E' => exponent(f, Some(flags.precision.unwrap_or(6))).to_uppercase(),
        'g' => general(f, flags.precision),
        'G' => general(f, flags.precision).to_uppercase(),
        _ => return None,
    };
    Some(pad_number(&signed(text, flags), flags))
}

fn signed(text: String, flags: &Flags) -> String {
    if text.starts_with('-') {
        text
    } else if flags.plus {
        format!("+{text}")
    } else if flags.space {
        format!(" {text}")
    } else {
        text
    }
}

/// `%e`: at least two digits of exponent, always with a sign.
fn exponent(f: f64, precision: Option<usize>) -> String {
    let text = match precision {
        Some(digits) => format!("{f:.digits$e}"),
        None => format!("{f:e}"),
    };
    match text.split_once('e') {
        Some((mantissa, power)) => {
            let (sign, digits) = power.strip_prefix('-').map_or(("+", power), |d| ("-", d));
            format!("{mantissa}e{sign}{digits:0>2}")
        }
        None => text,
    }
}

/// `%v` of a float: the shortest text that reads back the same, with an exponent when it is large or
/// small.
fn general(f: f64, precision: Option<usize>) -> String {
    if f == 0.0 || !f.is_finite() {
        return if f.is_nan() {
            "NaN".to_owned()
        } else if f.is_infinite() {
            if f > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
        } else {
            "0".to_owned()
        };
    }
    let power = f.abs().log10().floor();
    let limit = precision.map_or(6.0, |p| p.max(1) as f64);
    if power < -4.0 || power >= limit {
        return exponent(f, precision.map(|p| p.saturating_sub(1)));
    }
    match precision {
        None => f.to_string(),
        Some(digits) => {
            let decimals = (digits.max(1) as f64 - 1.0 - power).max(0.0) as usize;
            let text = format!("{f:.decimals$}");
            if text.contains('.') {
                text.trim_end_matches('0').trim_end_matches('.').to_owned()
            } else {
                text
            }
        }
    }
}

/// `%#v` of what is simple; other values are rarely asked for and print plainly.
fn go_syntax(value: &Value) -> String {
    match value {
        Value::Text(s) | Value::Number(s) => quote(s),
        Value::List(list) => {
            let items: Vec<String> = list.items.iter().map(go_syntax).collect();
            format!("{}{{{}}}", value.type_name(), items.join(", "))
        }
        Value::Map(map) => {
            let items: Vec<String> =
                map.items.iter().map(|(k, v)| format!("{}:{}", quote(k), go_syntax(v))).collect();
            format!("{}{{{}}}", value.type_name(), items.join(", "))
        }
        other => plain(other, 0, true),
    }
}

fn pad(text: &str, flags: &Flags) -> String {
    let missing = flags.width.unwrap_or(0).saturating_sub(text.chars().count());
    let fill = " ".repeat(missing);
    if flags.minus {
        format!("{text}{fill}")
    } else if flags.zero {
        format!("{}{text}", "0".repeat(missing))
    } else {
        format!("{fill}{text}")
    }
}

/// As [`pad`], with zeros between the sign and the digits.
fn pad_number(text: &str, flags: &Flags) -> String {
    if !flags.zero || flags.minus || flags.precision.is_some() && !text.contains('.') {
        return pad(text, &Flags { zero: false, ..flags.clone() });
    }
    let missing = flags.width.unwrap_or(0).saturating_sub(text.chars().count());
    let at = usize::from(text.starts_with(['-', '+', ' ']));
    format!("{}{}{}", &text[..at], "0".repeat(missing), &text[at..])
}
