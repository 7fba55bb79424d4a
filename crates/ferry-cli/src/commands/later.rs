//! Commands ferry will have and does not have yet. Each says so instead of being unknown.

use clap::Args;

use crate::app::App;
use crate::failure::{CmdResult, Failure};
use crate::verb::{Arity, Verb};

macro_rules! later {
    ($(#[$doc:meta])* $name:ident, $paths:expr, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Args)]
        pub struct $name {
            #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
            args: Vec<String>,
        }

        impl Verb for $name {
            const PATHS: &'static [&'static str] = $paths;
            const USAGE: &'static str = "";
            const ARITY: Arity = Arity::AtLeast(0);

            async fn run(self, app: &App) -> CmdResult {
                let words = self.args.first().map(|a| format!(" {a}")).unwrap_or_default();
                Err(Failure::new(format!("{} {}{words}: {} not supported yet", app.prog, $paths[$paths.len() - 1], $what)))
            }
        }
    };
}

later!(
    /// Build an image from a Dockerfile
    Build, &["image build", "builder build", "build"], "building images is"
);
later!(
    /// Remove build cache
    Builder, &["builder prune"], "building images is"
);
later!(
    /// Define and run multi-container applications
    Compose, &["compose"], "compose is"
);
later!(
    /// Authenticate to a registry
    Login, &["login"], "logging in to registries is"
);
later!(
    /// Log out from a registry
    Logout, &["logout"], "logging in to registries is"
);
later!(
    /// Upload an image to a registry
    Push, &["image push", "push"], "pushing images is"
);
later!(
    /// Search Docker Hub for images
    Search, &["search"], "searching registries is"
);
later!(
    /// Manage Swarm
    Swarm, &["swarm", "node", "service", "stack", "secret", "config", "plugin", "trust", "manifest", "checkpoint"],
    "clusters, plugins, trust, manifests and checkpoints are"
);
