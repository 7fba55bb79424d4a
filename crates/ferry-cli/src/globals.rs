//! Options that come before the command.

use clap::Args;

/// A self-sufficient runtime for containers
#[derive(Debug, Default, Args, Clone)]
pub struct Globals {
    /// Location of client config files (default "{config}")
    #[arg(long, value_name = "string")]
    pub config: Option<String>,
    /// Name of the context to use to connect to the daemon (overrides DOCKER_HOST env var and default
    /// context set with "{prog} context use")
    #[arg(long, short = 'c', value_name = "string")]
    pub context: Option<String>,
    /// Enable debug mode
    #[arg(long, short = 'D')]
    pub debug: bool,
    /// Daemon socket to connect to
    #[arg(long, short = 'H', value_name = "string")]
    pub host: Vec<String>,
    /// Set the logging level ("debug", "info", "warn", "error", "fatal") (default "info")
    #[arg(long, short = 'l', value_name = "string")]
    pub log_level: Option<String>,
    /// Use TLS; implied by --tlsverify
    #[arg(long)]
    pub tls: bool,
    /// Trust certs signed only by this CA (default "{config}/ca.pem")
    #[arg(long, value_name = "string")]
    pub tlscacert: Option<String>,
    /// Path to TLS certificate file (default "{config}/cert.pem")
    #[arg(long, value_name = "string")]
    pub tlscert: Option<String>,
    /// Path to TLS key file (default "{config}/key.pem")
    #[arg(long, value_name = "string")]
    pub tlskey: Option<String>,
    /// Use TLS and verify the remote
    #[arg(long)]
    pub tlsverify: bool,
    /// Print version information and quit
    #[arg(long, short = 'v')]
    pub version: bool,
    /// The command and everything behind it.
    #[arg(hide = true, trailing_var_arg = true)]
    pub command: Vec<OsString>,
}

use std::ffi::OsString;
