//! What an image was made for.

use std::fmt;
use std::str::FromStr;

/// `os/architecture[/variant]` (OCI image-index), in Go's names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64`, …
    pub architecture: String,
    /// `v7`, `v8`, …
    pub variant: Option<String>,
}

impl Platform {
    /// The platform this binary was built for.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "aarch64" => ("arm64", Some("v8")),
            "arm" => ("arm", Some("v7")),
            "x86" => ("386", None),
            other => (other, None),
        };
        Self {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
        }
    }

    /// How well something made for `other` runs here: 0 is exactly, more is worse, `None` not at all.
    /// Older variants of ARM run on newer ones; `v8` is what 64-bit ARM means anyway.
    pub fn rank(&self, os: &str, architecture: &str, variant: Option<&str>) -> Option<u32> {
        if self.os != os || self.architecture != architecture {
            return None;
        }
        let default = match architecture {
            "arm64" => 8,
            "arm" => 7,
            _ => 1,
        };
        let level = |v: Option<&str>| match v.filter(|v| !v.is_empty()) {
            None => Some(default),
            Some(v) => v.strip_prefix('v')?.parse::<u32>().ok(),
        };
        level(self.variant.as_deref())?.checked_sub(level(variant)?)
    }
}

/// Why a text is no platform, in the words of containerd's parser, which Docker shows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlatformError {
    /// More than three parts.
    #[error("{0:?}: cannot parse platform specifier: invalid argument")]
    TooManyParts(String),
    /// The first part is malformed.
    #[error(
        "{part:?} is an invalid OS component of {whole:?}: OSAndVersion specifier component must match \"{OS_PATTERN}\": invalid argument"
    )]
    Os {
        /// The part.
        part: String,
        /// The text it is part of.
        whole: String,
    },
    /// A later part is malformed.
    #[error(
        "{part:?} is an invalid component of {whole:?}: platform specifier component must match \"{PART_PATTERN}\": invalid argument"
    )]
    Part {
        /// The part.
        part: String,
        /// The text it is part of.
        whole: String,
    },
    /// A single word that is neither a system nor an architecture.
    #[error("{0:?}: unknown operating system or architecture: invalid argument")]
    Unknown(String),
}

// As they look in Go's double quotes.
const OS_PATTERN: &str = r"^([A-Za-z0-9_-]+)(?:\\(([A-Za-z0-9_.%-]*)((?:\\+[A-Za-z0-9_.%-]+)*)\\))?$";
const PART_PATTERN: &str = "^[A-Za-z0-9_.-]+$";

const SYSTEMS: [&str; 17] = [
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "hurd",
    "illumos",
    "ios",
    "js",
    "linux",
    "nacl",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "windows",
    "zos",
];

const ARCHITECTURES: [&str; 29] = [
    "386",
    "amd64",
    "amd64p32",
    "arm",
    "arm64",
    "arm64be",
    "armbe",
    "loong64",
    "mips",
    "mips64",
    "mips64le",
    "mips64p32",
    "mips64p32le",
    "mipsle",
    "ppc",
    "ppc64",
    "ppc64le",
    "riscv",
    "riscv64",
    "s390",
    "s390x",
    "sparc",
    "sparc64",
    "wasm",
    "armel",
    "armhf",
    "aarch64",
    "x86_64",
    "i386",
];

/// Parses `os[/architecture[/variant]]`; what is left out is the host's. Names people use for an architecture
/// become Go's.
impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let parts: Vec<&str> = text.split('/').collect();
        let [first, rest @ ..] = &parts[..] else { return Err(PlatformError::Unknown(text.to_owned())) };
        if rest.len() > 2 {
            return Err(PlatformError::TooManyParts(text.to_owned()));
        }
        if !is_os(first) {
            return Err(PlatformError::Os { part: (*first).to_owned(), whole: text.to_owned() });
        }
        let word =
            |p: &&str| !p.is_empty() && p.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        if let Some(bad) = rest.iter().find(|p| !word(p)) {
            return Err(PlatformError::Part { part: (*bad).to_owned(), whole: text.to_owned() });
        }
        let name = first.split('(').next().unwrap_or_default().to_ascii_lowercase();
        let os = if name == "macos" { "darwin".to_owned() } else { name };
        let host = Self::host();
        let (os, architecture, variant) = match rest {
            [] if SYSTEMS.contains(&os.as_str()) => (os, host.architecture, host.variant),
            [] => {
                if !ARCHITECTURES.contains(&os.as_str()) && os != "x86-64" {
                    return Err(PlatformError::Unknown(text.to_owned()));
                }
                let (architecture, variant) = architecture(&os, "");
                (host.os, architecture, variant)
            }
            [given] => {
                let (architecture, variant) = architecture(given, "");
                (os, architecture, variant.filter(|v| v != "v7"))
            }
            [given, variant, ..] => {
                let (architecture, variant) = architecture(given, variant);
                let default = (architecture == "arm64").then(|| "v8".to_owned());
                (os, architecture, variant.or(default))
            }
        };
        Ok(Self { os, architecture, variant })
    }
}

/// `linux`, or `windows(10.0.17763)`.
fn is_os(part: &str) -> bool {
    let (name, version) = match part.split_once('(') {
        Some((name, rest)) => (name, rest.strip_suffix(')')),
        None => (part, Some("")),
    };
    let in_name = |b: u8| b.is_ascii_alphanumeric() || b"_-".contains(&b);
    let in_version = |b: u8| in_name(b) || b".%+".contains(&b);
    !name.is_empty() && name.bytes().all(in_name) && version.is_some_and(|v| v.bytes().all(in_version))
}

/// Go's names of an architecture and its variant.
fn architecture(name: &str, variant: &str) -> (String, Option<String>) {
    let (name, variant) = (name.to_ascii_lowercase(), variant.to_ascii_lowercase());
    let (name, variant) = match (name.as_str(), variant.as_str()) {
        ("i386", _) => ("386", ""),
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64", variant) => ("amd64", variant),
        ("aarch64" | "arm64", "8" | "v8") => ("arm64", ""),
        ("aarch64", variant) => ("arm64", variant),
        ("armhf", _) => ("arm", "v7"),
        ("armel", _) => ("arm", "v6"),
        ("arm", "" | "7") => ("arm", "v7"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "6") => ("arm", "v6"),
        ("arm", "8") => ("arm", "v8"),
        (name, variant) => (name, variant),
    };
    (name.to_owned(), (!variant.is_empty()).then(|| variant.to_owned()))
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_parsed() {
        let parsed = |text: &str| text.parse::<Platform>().map(|p| p.to_string()).map_err(|e| e.to_string());
        assert_eq!(parsed("linux"), Ok(Platform::host().to_string()));
        for (text, platform) in [
            ("Linux/x86_64", "linux/amd64"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/arm", "linux/arm"),
            ("linux/arm/6", "linux/arm/v6"),
            ("linux/aarch64/v8", "linux/arm64/v8"),
            ("armel", "linux/arm/v6"),
            ("windows(10.0.17763)/amd64", "windows/amd64"),
            ("a/b/c", "a/b/c"),
        ] {
            assert_eq!(parsed(text), Ok(platform.to_owned()), "{text}");
        }
        for (text, error) in [
            ("nonsense", "\"nonsense\": unknown operating system or architecture: invalid argument"),
            ("a/b/c/d", "\"a/b/c/d\": cannot parse platform specifier: invalid argument"),
            (
                "li nux/x",
                r#""li nux" is an invalid OS component of "li nux/x": OSAndVersion specifier component must match "^([A-Za-z0-9_-]+)(?:\\(([A-Za-z0-9_.%-]*)((?:\\+[A-Za-z0-9_.%-]+)*)\\))?$": invalid argument"#,
            ),
            (
                "linux/",
                "\"\" is an invalid component of \"linux/\": platform specifier component must match \"^[A-Za-z0-9_.-]+$\": invalid argument",
            ),
        ] {
            assert_eq!(parsed(text), Err(error.to_owned()), "{text}");
        }
    }

    #[test]
    fn ranks() {
        let arm = Platform { os: "linux".into(), architecture: "arm".into(), variant: Some("v7".into()) };
        assert_eq!(arm.rank("linux", "arm", Some("v7")), Some(0));
        assert_eq!(arm.rank("linux", "arm", Some("v6")), Some(1));
        assert_eq!(arm.rank("linux", "arm", Some("v8")), None);
        assert_eq!(arm.rank("linux", "arm64", Some("v8")), None);
        let arm64 = Platform { os: "linux".into(), architecture: "arm64".into(), variant: None };
        assert_eq!(arm64.rank("linux", "arm64", Some("v8")), Some(0));
    }
}
