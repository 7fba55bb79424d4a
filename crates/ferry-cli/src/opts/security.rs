//! `--security-opt`.

use crate::text;

/// What security options add up to.
#[derive(Debug, Default)]
pub struct Security {
    /// Options for the engine, with seccomp profiles inlined.
    pub opts: Vec<String>,
    /// `systempaths=unconfined`: no masked and no read-only paths.
    pub system_paths: bool,
}

/// Checks the options and reads the seccomp profile they name.
///
/// # Errors
/// When an option has no value or the profile cannot be used.
pub fn parse(options: &[String]) -> Result<Security, String> {
    let mut all = Security::default();
    for option in options {
        if option == "systempaths=unconfined" {
            all.system_paths = true;
            continue;
        }
        let (name, value) = match option.split_once('=').or_else(|| option.split_once(':')) {
            Some(pair) => pair,
            None if option == "no-new-privileges" => {
                all.opts.push(option.clone());
                continue;
            }
            None => return Err(format!("Invalid --security-opt: {}", text::quote(option))),
        };
        if name == "seccomp" && value != "unconfined" && value != "builtin" {
            all.opts.push(format!("seccomp={}", profile(value)?));
        } else {
            all.opts.push(option.clone());
        }
    }
    Ok(all)
}

fn profile(path: &str) -> Result<String, String> {
    let bytes = std::fs::read(path)
        .map_err(|e| format!("opening seccomp profile ({path}) failed: {}", text::open_error(path, &e)))?;
    let parsed: &serde_json::value::RawValue = serde_json::from_slice(&bytes)
        .map_err(|e| format!("compacting json for seccomp profile ({path}) failed: {e}"))?;
    // Order and numbers stay as the author wrote them; only the layout goes.
    let value: serde_json::Value = serde_json::from_str(parsed.get()).map_err(|e| e.to_string())?;
    Ok(value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options() {
        let opts = ["no-new-privileges", "label=disable", "systempaths=unconfined", "seccomp=unconfined"];
        let got = parse(&opts.map(str::to_owned)).unwrap();
        assert_eq!(got.opts, ["no-new-privileges", "label=disable", "seccomp=unconfined"]);
        assert!(got.system_paths);
        assert_eq!(parse(&["x".to_owned()]).unwrap_err(), "Invalid --security-opt: \"x\"");
        assert!(
            parse(&["seccomp=/nope".to_owned()]).unwrap_err().starts_with("opening seccomp profile (/nope)")
        );
    }

    #[test]
    fn profile_is_inlined() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.json");
        std::fs::write(&path, "{ \"defaultAction\":\n \"SCMP_ACT_ALLOW\" }").unwrap();
        let got = parse(&[format!("seccomp={}", path.display())]).unwrap();
        assert_eq!(got.opts, ["seccomp={\"defaultAction\":\"SCMP_ACT_ALLOW\"}"]);
    }
}
