//! Commands ferry will have and does not have yet. Each says so instead of being unknown; those the
//! engine has an answer for pass that on.

use clap::Args;
use ferry_client::Request;

use crate::app::App;
use crate::failure::{CmdResult, Failure};
use crate::verb::{Arity, Verb};

macro_rules! later {
    ($(#[$doc:meta])* $name:ident, $paths:expr, $asked:literal, $what:literal) => {
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
                refuse(app, $paths[0], &self.args, $asked, $what).await
            }
        }
    };
}

/// Asks the engine at `asked`, whose refusal says more than ours, and refuses.
async fn refuse(app: &App, name: &str, args: &[String], asked: &str, what: &str) -> CmdResult {
    if !asked.is_empty() {
        app.json(Request::get(asked)).await?;
    }
    let words = args.first().map(|a| format!(" {a}")).unwrap_or_default();
    Err(Failure::new(format!("{} {name}{words}: {what} not supported yet", app.prog)))
}

later!(
    /// Build an image from a Dockerfile
    Build, &["image build", "build", "builder build"], "", "building images is"
);
later!(
    /// Manage checkpoints
    Checkpoint, &["checkpoint"], "", "checkpoints are"
);
later!(
    /// Manage Swarm configs
    Config, &["config"], "/configs", "Swarm is"
);
later!(
    /// Manage Docker image manifests and manifest lists
    Manifest, &["manifest"], "", "manifest lists are"
);
later!(
    /// Manage Swarm nodes
    Node, &["node"], "/nodes", "Swarm is"
);
later!(
    /// Manage plugins
    Plugin, &["plugin"], "/plugins", "engine plugins are"
);
later!(
    /// Manage Swarm secrets
    Secret, &["secret"], "/secrets", "Swarm is"
);
later!(
    /// Manage Swarm services
    Service, &["service"], "/services", "Swarm is"
);
later!(
    /// Manage Swarm stacks
    Stack, &["stack"], "/services", "Swarm is"
);
later!(
    /// Manage Swarm
    Swarm, &["swarm"], "/swarm", "Swarm is"
);
later!(
    /// Manage trust on Docker images
    Trust, &["trust"], "", "content trust is"
);
