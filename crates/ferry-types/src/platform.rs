//! What an image was made for.

use std::fmt;

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
