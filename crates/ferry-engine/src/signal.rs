//! Signal names and numbers of Linux on x86_64 and aarch64 (signal(7)).

const NAMES: [(&str, i32); 34] = [
    ("ABRT", 6),
    ("ALRM", 14),
    ("BUS", 7),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("FPE", 8),
    ("HUP", 1),
    ("ILL", 4),
    ("INT", 2),
    ("IO", 29),
    ("IOT", 6),
    ("KILL", 9),
    ("PIPE", 13),
    ("POLL", 29),
    ("PROF", 27),
    ("PWR", 30),
    ("QUIT", 3),
    ("SEGV", 11),
    ("STKFLT", 16),
    ("STOP", 19),
    ("SYS", 31),
    ("TERM", 15),
    ("TRAP", 5),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("USR1", 10),
    ("USR2", 12),
    ("VTALRM", 26),
    ("WINCH", 28),
    ("XCPU", 24),
    ("XFSZ", 25),
];
/// First and last realtime signal as the C library numbers them.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// SIGTERM.
pub(crate) const TERM: i32 = 15;
/// SIGKILL.
pub(crate) const KILL: i32 = 9;

/// Reads `KILL`, `SIGKILL`, `9`, `RTMIN+3`; the error text is Docker's.
pub(crate) fn parse(text: &str) -> Result<i32, String> {
    let invalid = || format!("invalid signal: {text}");
    if let Ok(number) = text.parse::<i32>() {
        return match number {
            1..=RTMAX => Ok(number),
            0 => Err(invalid()),
            _ => Err(format!("the linux daemon does not support signal {number}")),
        };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some((_, number)) = NAMES.iter().find(|(n, _)| *n == name) {
        return Ok(*number);
    }
    let offset =
        |s: &str| if s.is_empty() { Some(0) } else { s.get(1..).and_then(|n| n.parse::<i32>().ok()) };
    let number = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(rest), _) if rest.is_empty() || rest.starts_with('+') => offset(rest).map(|n| RTMIN + n),
        (_, Some(rest)) if rest.is_empty() || rest.starts_with('-') => offset(rest).map(|n| RTMAX - n),
        _ => None,
    };
    number.filter(|n| (RTMIN..=RTMAX).contains(n)).ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_notations() {
        for (text, number) in [
            ("9", 9),
            ("KILL", 9),
            ("sigkill", 9),
            ("SIGUSR1", 10),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
        ] {
            assert_eq!(parse(text), Ok(number), "{text}");
        }
        for bad in ["", "0", "-1", "65", "SIGFOO", "RTMIN+99", "RTMIN-1", "KILL9"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
