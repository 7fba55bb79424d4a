//! `login` and `logout`.

use std::io::{BufRead as _, Read as _};
use std::os::fd::AsFd as _;

use clap::Args;
use ferry_client::Request;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use serde_json::json;

use super::credentials::{self, Login as Stored};
use crate::app::App;
use crate::failure::{CmdResult, Failure};
use crate::out;
use crate::out::Stream;
use crate::session::terminal;
use crate::verb::{Arity, Verb};

/// Authenticate to a registry
#[derive(Debug, Args)]
#[command(long_about = "Authenticate to a registry.\nDefaults to Docker Hub if no server is specified.")]
pub struct Login {
    /// Password or Personal Access Token (PAT)
    #[arg(long, short = 'p', value_name = "string")]
    password: Option<String>,
    /// Take the Password or Personal Access Token (PAT) from stdin
    #[arg(long)]
    password_stdin: bool,
    /// Username
    #[arg(long, short = 'u', value_name = "string")]
    username: Option<String>,
    #[arg(hide = true)]
    args: Vec<String>,
}

/// Log out from a registry
#[derive(Debug, Args)]
#[command(
    long_about = "Log out from a registry.\nIf no server is specified, the default is defined by the daemon."
)]
pub struct Logout {
    #[arg(hide = true)]
    args: Vec<String>,
}

impl Verb for Login {
    const PATHS: &'static [&'static str] = &["login"];
    const USAGE: &'static str = "[OPTIONS] [SERVER]";
    const ARITY: Arity = Arity::AtMost(1);

    async fn run(self, app: &App) -> CmdResult {
        let server = credentials::server(self.args.first().map(String::as_str));
        let given = self.given()?;
        let stored = credentials::stored(app, &server)?;
        let login = match (given, stored) {
            (Some(login), _) => login,
            (None, Some(stored)) if self.username.is_none() => {
                out::note(format!(
                    "Authenticating with existing credentials... [Username: {}]",
                    stored.username
                ));
                stored
            }
            (None, _) => self.ask()?,
        };
        let body = json!({"username": login.username, "password": login.password, "serveraddress": server});
        let answer = app.json(Request::post("/auth").json(&body)?).await?;
        credentials::store(app, &server, &login, answer["IdentityToken"].as_str().unwrap_or_default())?;
        if let Some(status) = answer["Status"].as_str().filter(|s| !s.is_empty()) {
            out::println(status)?;
        }
        Ok(0)
    }
}

impl Login {
    /// What the flags say, if they say all.
    fn given(&self) -> Result<Option<Stored>, Failure> {
        if self.password.is_some() && self.password_stdin {
            return Err(Failure::new(
                "conflicting options: cannot specify both --password and --password-stdin",
            ));
        }
        let username = self.username.clone().filter(|u| !u.is_empty());
        if self.password_stdin {
            let Some(username) = username else {
                return Err(Failure::new("the --password-stdin option requires --username to be set"));
            };
            let mut password = String::new();
            std::io::stdin().lock().read_to_string(&mut password)?;
            let password = password.trim_end_matches('\n').trim_end_matches('\r').to_owned();
            return Ok(Some(Stored { username, password }));
        }
        if self.password.is_some() {
            out::note("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
        }
        Ok(username.zip(self.password.clone()).map(|(username, password)| Stored { username, password }))
    }

    fn ask(&self) -> Result<Stored, Failure> {
        if !terminal::stdin_is_terminal() {
            return Err(Failure::new("Error: Cannot perform an interactive login from a non TTY device"));
        }
        let username = match self.username.clone().filter(|u| !u.is_empty()) {
            Some(username) => username,
            None => prompt("Username: ", true)?,
        };
        if username.is_empty() {
            return Err(Failure::new("Error: Non-null Username Required"));
        }
        let password = match self.password.clone() {
            Some(password) => password,
            None => prompt("Password: ", false)?,
        };
        if password.is_empty() {
            return Err(Failure::new("Error: Password Required"));
        }
        Ok(Stored { username, password })
    }
}

/// Asks at the terminal; a secret is not shown while it is typed.
fn prompt(question: &str, shown: bool) -> Result<String, Failure> {
    let stdin = std::io::stdin();
    let before = tcgetattr(stdin.as_fd()).map_err(std::io::Error::from)?;
    Stream::Stdout.write(question.as_bytes())?;
    if !shown {
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(stdin.as_fd(), OptionalActions::Now, &hidden).map_err(std::io::Error::from)?;
    }
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    if !shown {
        tcsetattr(stdin.as_fd(), OptionalActions::Now, &before).map_err(std::io::Error::from)?;
        Stream::Stdout.write(b"\n")?;
    }
    read?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}

impl Verb for Logout {
    const PATHS: &'static [&'static str] = &["logout"];
    const USAGE: &'static str = "[SERVER]";
    const ARITY: Arity = Arity::AtMost(1);

    async fn run(self, app: &App) -> CmdResult {
        let server = credentials::server(self.args.first().map(String::as_str));
        out::println(format!("Removing login credentials for {server}"))?;
        credentials::erase(app, &server)?;
        Ok(0)
    }
}
