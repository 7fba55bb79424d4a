//! The HEALTHCHECK instruction.

use super::{InstructionError, json_list};
use crate::config::Healthcheck;

pub(super) fn parse(rest: &str) -> Result<Healthcheck, InstructionError> {
    let bad = |text: String| InstructionError::Healthcheck(text);
    let mut health = Healthcheck::default();
    let mut rest = rest;
    while rest.starts_with("--") {
        let (flag, tail) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let (name, value) =
            flag.split_once('=').ok_or_else(|| bad(format!("missing a value on flag: {flag}")))?;
        let time = || duration(value).ok_or_else(|| bad(format!("invalid duration {value:?} of {name}")));
        match name {
            "--interval" => health.interval = time()?,
            "--timeout" => health.timeout = time()?,
            "--start-period" => health.start_period = time()?,
            "--start-interval" => health.start_interval = time()?,
            "--retries" => {
                health.retries = value
                    .parse()
                    .ok()
                    .filter(|n| *n >= 0)
                    .ok_or_else(|| bad(format!("--retries must be at least 0 (not {value})")))?;
            }
            _ => return Err(bad(format!("unknown flag: {}", name.trim_start_matches('-')))),
        }
        rest = tail.trim_start();
    }
    let (kind, command) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let command = command.trim();
    match kind.to_ascii_uppercase().as_str() {
        "NONE" if command.is_empty() => health.test = vec!["NONE".to_owned()],
        "NONE" => return Err(bad("NONE takes no arguments".to_owned())),
        "CMD" if command.is_empty() => return Err(bad("missing command after HEALTHCHECK CMD".to_owned())),
        "CMD" => {
            health.test = match json_list(command) {
                Some(list) => [vec!["CMD".to_owned()], list].concat(),
                None => vec!["CMD-SHELL".to_owned(), command.to_owned()],
            };
        }
        _ => return Err(bad(format!("unknown type {kind:?} (try CMD)"))),
    }
    Ok(health)
}

/// Go's durations (`1h30m`, `1.5s`, `250ms`), in nanoseconds; at least one millisecond, or zero.
fn duration(text: &str) -> Option<i64> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut total = 0.0_f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let nanos = match unit {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * nanos;
        rest = tail;
    }
    // Docker's range: from a millisecond to what fits.
    #[allow(clippy::cast_possible_truncation)]
    (!text.is_empty() && (total == 0.0 || (1e6..9.2e18).contains(&total))).then_some(total as i64)
}
