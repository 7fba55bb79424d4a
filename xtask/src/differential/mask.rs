//! Makes two engines' outputs comparable: what must differ (ids, times, addresses an engine chooses,
//! paths) becomes a placeholder; everything else stays as it is.

use anyhow::Result;
use regex::{Captures, Regex};

use super::script::Look;

/// The patterns, compiled once.
pub struct Masks {
    rules: Vec<Rule>,
    sizes: Regex,
    numbers: Regex,
    made_up: Regex,
    padding: Regex,
    word: Regex,
}

struct Rule {
    pattern: Regex,
    with: &'static str,
    /// The placeholder is not as long as what it replaces, so columns behind it shift.
    shifts: bool,
}

/// The address every test engine's bridge has, in its own network namespace.
pub const BRIDGE_ADDRESS: &str = "172.31.250.1/24";

impl Masks {
    /// Compiles the patterns.
    pub fn new() -> Result<Self> {
        let rule =
            |pattern: &str, with, shifts| anyhow::Ok(Rule { pattern: Regex::new(pattern)?, with, shifts });
        let age = r"(?:Less than a second|About a minute|About an hour|\d+ (?:second|minute|hour|day|week|month|year)s?)";
        Ok(Self {
            rules: vec![
                rule(r"\b[0-9a-f]{64}\b", "<ID>", true)?,
                rule(r"\b[0-9a-f]{12}\b", "<SHORT-ID-->", false)?,
                rule(r"\b(?:20\d\d)-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)", "<TIME>", true)?,
                rule(r"\b20\d\d-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)? [+-]\d{4} [A-Z]+", "<TIME>", true)?,
                rule(&format!("{age} ago"), "<AGE> ago", true)?,
                rule(&format!("Up {age}"), "Up <AGE>", true)?,
                rule(r"\b172\.31\.250\.(?:[2-9]|\d\d+)\b", "<ADDRESS>", true)?,
                rule(r"\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b", "<MAC>", true)?,
                // Docker names sometimes one family, sometimes the other.
                rule(r"Bind for (?:0\.0\.0\.0|::):(\d+) failed", "Bind for <ANY>:$1 failed", true)?,
                rule(r#"(:|"HostPort": ?")(?:3[2-9]|4\d|5\d|60)\d{3}\b"#, "$1<PORT>", true)?,
                rule(r#"("Pid": ?)[1-9]\d*"#, "$1<PID>", true)?,
                rule(r#"("time(?:Nano)?": ?)\d+"#, "$1<TIME>", true)?,
                rule(r"\b0xc[0-9a-f]{9,}\b", "<POINTER>", true)?,
            ],
            sizes: Regex::new(r"\b\d+(?:\.\d+)?(?:[kMGT]i?)?B\b")?,
            numbers: Regex::new(r"\d+(?:\.\d+)?")?,
            made_up: Regex::new(r"\b[a-z]+_[a-z]+\d?\b")?,
            padding: Regex::new(r" {3,}")?,
            word: Regex::new(r"(\b|_)([Ff]erry|FERRY)\b")?,
        })
    }

    /// The text without what has to differ. `paths` are replaced first, longest first; `own_name` says
    /// that the program under test calls itself ferry.
    pub fn apply(&self, text: &str, look: Look, paths: &[(String, &str)], own_name: bool) -> String {
        let mut text = text.to_owned();
        let mut shifted = false;
        for (path, with) in paths {
            if text.contains(path.as_str()) {
                text = text.replace(path.as_str(), with);
                shifted = true;
            }
        }
        if own_name {
            let renamed = self.word.replace_all(&text, |found: &Captures<'_>| {
                let name = match &found[2] {
                    "Ferry" => "Docker",
                    "FERRY" => "DOCKER",
                    _ => "docker",
                };
                format!("{}{name}", &found[1])
            });
            text = renamed.into_owned();
        }
        for rule in &self.rules {
            let masked = rule.pattern.replace_all(&text, rule.with);
            if let std::borrow::Cow::Owned(masked) = masked {
                shifted |= rule.shifts;
                text = masked;
            }
        }
        let optional = [
            (look.size, &self.sizes, "<SIZE>"),
            (look.num, &self.numbers, "<N>"),
            (look.names, &self.made_up, "<NAME>"),
        ];
        for (wanted, pattern, with) in optional {
            if wanted {
                text = pattern.replace_all(&text, with).into_owned();
                shifted = true;
            }
        }
        if shifted { self.padding.replace_all(&text, "   ").into_owned() } else { text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(text: &str) -> String {
        Masks::new().unwrap().apply(text, Look::default(), &[("/tmp/x".to_owned(), "<DIR>")], true)
    }

    #[test]
    fn what_must_differ_is_masked() {
        assert_eq!(masked("Up 3 seconds      x"), "Up <AGE>   x");
        assert_eq!(masked("a   2026-01-02T03:04:05.6Z"), "a   <TIME>");
        assert_eq!(masked("0001-01-01T00:00:00Z"), "0001-01-01T00:00:00Z", "no time at all is a value");
        assert_eq!(masked("ferry: /tmp/x/y of Ferry"), "docker: <DIR>/y of Docker");
        assert_eq!(masked("0.0.0.0:49153->80/tcp :8080"), "0.0.0.0:<PORT>->80/tcp :8080");
        assert_eq!(masked("Bind for :::7000 failed"), "Bind for <ANY>:7000 failed");
    }

    #[test]
    fn what_need_not_differ_stays() {
        let text = "CONTAINER ID   IMAGE     12B\n172.31.250.1 exited (3)";
        assert_eq!(masked(text), text);
    }

    #[test]
    fn sizes_only_when_asked() {
        let look = Look { size: true, ..Look::default() };
        let masks = Masks::new().unwrap();
        assert_eq!(masks.apply("1.5kB 3MiB 7", look, &[], false), "<SIZE> <SIZE> 7");
    }
}
