//! The Debian mirrors the host uses, read from apt's source lists in both of their formats
//! (sources.list(5)), and what of them a container needs.

use std::path::Path;

/// One `deb` line, or one stanza for one of its URIs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Base address of the archive.
    pub uri: String,
    /// Suites (distributions), e.g. `bookworm`, `bookworm-updates`.
    pub suites: Vec<String>,
    /// Components, e.g. `main`.
    pub components: Vec<String>,
    /// The key the host trusts for it, when it names one.
    pub signed_by: Option<String>,
}

/// Reads `/etc/apt/sources.list` and `/etc/apt/sources.list.d/*` under `root`.
pub fn read(root: &Path) -> Vec<Source> {
    let etc = root.join("etc/apt");
    let mut files = vec![etc.join("sources.list")];
    if let Ok(dir) = std::fs::read_dir(etc.join("sources.list.d")) {
        files.extend(dir.filter_map(|entry| Some(entry.ok()?.path())));
    }
    files.sort();
    files
        .iter()
        .filter_map(|file| {
            let text = std::fs::read_to_string(file).ok()?;
            match file.extension()?.to_str()? {
                "list" => Some(parse_lines(&text)),
                "sources" => Some(parse_stanzas(&text)),
                _ => None,
            }
        })
        .flatten()
        .collect()
}

/// The one-line format.
fn parse_lines(text: &str) -> Vec<Source> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Source> {
    let line = line.split('#').next()?.trim();
    let rest = line.strip_prefix("deb")?.strip_prefix([' ', '\t'])?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(inner) => inner.split_once(']')?,
        None => ("", rest),
    };
    let signed_by = options.split_whitespace().find_map(|option| option.strip_prefix("signed-by="));
    let mut words = rest.split_whitespace().map(str::to_owned);
    Some(Source {
        uri: words.next()?,
        suites: vec![words.next()?],
        components: words.collect(),
        signed_by: signed_by.map(str::to_owned),
    })
}

/// The deb822 format.
fn parse_stanzas(text: &str) -> Vec<Source> {
    text.split("\n\n").flat_map(parse_stanza).collect()
}

fn parse_stanza(stanza: &str) -> Vec<Source> {
    let field = |name: &str| {
        let mut value = String::new();
        let mut inside = false;
        for line in stanza.lines().filter(|line| !line.starts_with('#')) {
            if line.starts_with([' ', '\t']) {
                if inside {
                    value.push(' ');
                    value.push_str(line.trim());
                }
                continue;
            }
            let (key, rest) = line.split_once(':').unwrap_or((line, ""));
            inside = key.eq_ignore_ascii_case(name);
            if inside {
                value = rest.trim().to_owned();
            }
        }
        value
    };
    let words = |name: &str| field(name).split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let off = field("Enabled").eq_ignore_ascii_case("no");
    if off || !words("Types").iter().any(|kind| kind == "deb") {
        return Vec::new();
    }
    let signed_by = Some(field("Signed-By")).filter(|value| !value.is_empty());
    words("URIs")
        .into_iter()
        .map(|uri| Source {
            uri,
            suites: words("Suites"),
            components: words("Components"),
            signed_by: signed_by.clone(),
        })
        .collect()
}

/// The distribution's own archives among `sources`: main component, a suite of `codename`, and no
/// third party's key. Containers have only the distribution's keyring.
pub fn of_distribution(sources: &[Source], codename: &str) -> Vec<Source> {
    sources
        .iter()
        .filter(|source| source.components.iter().any(|component| component == "main"))
        .filter(|source| {
            source
                .signed_by
                .as_deref()
                .is_none_or(|key| key.contains("archive-keyring") && key.contains("bian"))
        })
        .filter_map(|source| {
            let suites: Vec<String> =
                source.suites.iter().filter(|suite| belongs(suite, codename)).cloned().collect();
            (!suites.is_empty()).then(|| Source { suites, signed_by: None, ..source.clone() })
        })
        .collect()
}

fn belongs(suite: &str, codename: &str) -> bool {
    let name = suite.split('/').next().unwrap_or(suite);
    name.strip_prefix(codename).is_some_and(|rest| matches!(rest, "" | "-updates" | "-security"))
}

/// The archive of the release itself, for debootstrap.
pub fn main_mirror<'a>(sources: &'a [Source], codename: &str) -> Option<&'a str> {
    sources
        .iter()
        .find(|source| source.suites.iter().any(|suite| suite == codename))
        .map(|source| source.uri.as_str())
}

/// The sources as a `sources.list`.
pub fn render(sources: &[Source]) -> String {
    sources
        .iter()
        .flat_map(|source| {
            source
                .suites
                .iter()
                .map(|suite| format!("deb {} {suite} {}\n", source.uri, source.components.join(" ")))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STANZAS: &str = "Types: deb\n# a comment\nURIs: http://mirror.example/debian\n\
        Suites: bookworm bookworm-updates\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n\
        Types: deb\nURIs: http://mirror.example/debian-security\nSuites: bookworm-security\nComponents: main\n\n\
        Types: deb-src\nURIs: http://mirror.example/debian\nSuites: bookworm\nComponents: main\n\n\
        Enabled: no\nTypes: deb\nURIs: http://off.example\nSuites: bookworm\nComponents: main\n";

    #[test]
    fn stanzas_and_lines_say_the_same() {
        let stanza = parse_stanzas(
            "Types: deb\nURIs: http://m.example/debian\nSuites: trixie\nComponents: main contrib\n",
        );
        let line = parse_lines("deb [arch=amd64] http://m.example/debian trixie main contrib # note\n");
        assert_eq!(stanza, line);
    }

    #[test]
    fn a_container_gets_the_distributions_own_archives() {
        let mut all = parse_stanzas(STANZAS);
        all.extend(parse_lines(
            "deb [signed-by=/etc/apt/keyrings/other.gpg] http://other.example bookworm main\n\
             deb http://tools.example tools-bookworm main\n# deb http://no.example bookworm main\n",
        ));
        let own = of_distribution(&all, "bookworm");
        assert_eq!(
            render(&own),
            "deb http://mirror.example/debian bookworm main\n\
             deb http://mirror.example/debian bookworm-updates main\n\
             deb http://mirror.example/debian-security bookworm-security main\n"
        );
        assert_eq!(main_mirror(&own, "bookworm"), Some("http://mirror.example/debian"));
        assert_eq!(main_mirror(&own, "trixie"), None);
    }
}
