//! OCI runtimes by name: ferry's own, and those the administrator registered.

use ferry_types::RuntimeProgram;

use crate::config::LiveSettings;
use crate::error::{EngineError, Result};

/// Names of ferry's own runtime. Clients that name Docker's mean the engine's own.
pub const OWN_RUNTIMES: [&str; 3] = ["ferry", "io.containerd.runc.v2", "runc"];

/// What is shown as the path of ferry's own.
pub(crate) const OWN_PATH: &str = "ferry-shim";

/// Whether a container that names this runtime has ferry's own.
pub(crate) fn is_own(name: &str) -> bool {
    name.is_empty() || OWN_RUNTIMES.contains(&name)
}

/// Refuses a name that nobody registered.
pub(crate) fn check(name: &str, live: &LiveSettings) -> Result<()> {
    if is_own(name) || live.runtimes.contains_key(name) {
        return Ok(());
    }
    Err(EngineError::InvalidParameter(format!("unknown or invalid runtime name: {name}")))
}

/// How to run a container's runtime; nothing for ferry's own.
pub(crate) fn program(name: &str, live: &LiveSettings, search_path: &str) -> Result<Option<RuntimeProgram>> {
    check(name, live)?;
    let registered = live.runtimes.get(name).filter(|_| !is_own(name));
    Ok(registered.map(|runtime| RuntimeProgram {
        name: name.to_owned(),
        path: runtime.path.clone().into(),
        args: runtime.args.clone(),
        search_path: search_path.to_owned(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Runtime;

    #[test]
    fn names_lead_to_programs() {
        let mut live = LiveSettings::default();
        let runtime = Runtime { path: "crun".to_owned(), args: vec!["-v".to_owned()] };
        live.runtimes.insert("x".to_owned(), runtime);
        for own in ["", "runc", "ferry", "io.containerd.runc.v2"] {
            assert!(program(own, &live, "/bin").unwrap().is_none(), "{own}");
        }
        let found = program("x", &live, "/bin").unwrap().unwrap();
        assert_eq!((found.path.to_str(), found.search_path.as_str()), (Some("crun"), "/bin"));
        assert_eq!(program("y", &live, "").unwrap_err().to_string(), "unknown or invalid runtime name: y");
    }
}
