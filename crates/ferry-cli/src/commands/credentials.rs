//! Credentials of registries: in `config.json`, or with the helper programs it names.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::app::App;
use crate::failure::Failure;
use crate::out;

/// The key of Docker Hub, which is an address for reasons of history.
const HUB: &str = "https://index.docker.io/v1/";

/// A name and a password; a name of `<token>` says that the password is an identity token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    pub username: String,
    pub password: String,
}

/// The name under which a registry's credentials are kept.
pub fn server(given: Option<&str>) -> String {
    let bare = given.unwrap_or_default().trim();
    let host = bare.trim_start_matches("https://").trim_start_matches("http://");
    let host = host.split('/').next().unwrap_or_default();
    match host {
        "" | "docker.io" | "index.docker.io" | "registry-1.docker.io" => HUB.to_owned(),
        host => host.to_owned(),
    }
}

fn helper(app: &App, server: &str) -> Option<String> {
    let config = app.config();
    config.cred_helpers.get(server).cloned().or_else(|| config.creds_store.clone()).filter(|h| !h.is_empty())
}

/// Calls `docker-credential-NAME ACTION` with `input`.
fn ask_helper(name: &str, action: &str, input: &str) -> Result<Vec<u8>, Failure> {
    let program = format!("docker-credential-{name}");
    let failed = |e: std::io::Error| {
        Failure::new(format!(
            "error getting credentials - err: exec: {program}: {}",
            crate::text::io_reason(&e)
        ))
    };
    let mut child = Command::new(&program)
        .arg(action)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not want its input is still heard.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Err(Failure::new(format!("error getting credentials - err: {}, out: `{text}`", output.status)))
}

/// What is known of a registry's credentials.
///
/// # Errors
/// When a helper fails.
pub fn stored(app: &App, server: &str) -> Result<Option<Login>, Failure> {
    if let Some(helper) = helper(app, server) {
        let answer = match ask_helper(&helper, "get", server) {
            Ok(answer) => answer,
            // It knows none, which is no failure.
            Err(e) if e.message.contains("credentials not found") => return Ok(None),
            Err(e) => return Err(e),
        };
        let answer: Value = serde_json::from_slice(&answer)?;
        let text = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
        return Ok(Some(Login { username: text("Username"), password: text("Secret") }));
    }
    let Some(auth) = app.config().auths.get(server) else { return Ok(None) };
    let field = |key: &str| auth.get(key).and_then(Value::as_str).filter(|t| !t.is_empty());
    if let Some(token) = field("identitytoken") {
        return Ok(Some(Login { username: "<token>".to_owned(), password: token.to_owned() }));
    }
    let decoded =
        field("auth").and_then(super::base64_decode).and_then(|bytes| String::from_utf8(bytes).ok());
    Ok(decoded.and_then(|text| {
        let (username, password) = text.split_once(':')?;
        let password = password.trim_end_matches('\0').to_owned();
        Some(Login { username: username.to_owned(), password })
    }))
}

/// Keeps credentials.
///
/// # Errors
/// When they cannot be written, or a helper refuses.
pub fn store(app: &App, server: &str, login: &Login, token: &str) -> Result<(), Failure> {
    let login = if token.is_empty() {
        login.clone()
    } else {
        Login { username: "<token>".to_owned(), password: token.to_owned() }
    };
    if let Some(helper) = helper(app, server) {
        let body = json!({"ServerURL": server, "Username": login.username, "Secret": login.password});
        return ask_helper(&helper, "store", &body.to_string()).map(drop);
    }
    let entry = if login.username == "<token>" {
        json!({"identitytoken": login.password})
    } else {
        let plain = format!("{}:{}", login.username, login.password);
        json!({"auth": super::base64_encode(plain.as_bytes()).replace('-', "+").replace('_', "/")})
    };
    super::contexts::change_config(app, |config| {
        config["auths"][server] = entry;
    })?;
    let file = app.config_dir().join("config.json");
    out::note(format!(
        "\nWARNING! Your credentials are stored unencrypted in '{}'.\nConfigure a credential helper to remove this warning. See\nhttps://docs.docker.com/go/credential-store/\n",
        file.display()
    ));
    Ok(())
}

/// Forgets credentials.
///
/// # Errors
/// When the configuration cannot be written, or a helper fails.
pub fn erase(app: &App, server: &str) -> Result<(), Failure> {
    if let Some(helper) = helper(app, server) {
        ask_helper(&helper, "erase", server)?;
    }
    if !app.config().auths.contains_key(server) {
        return Ok(());
    }
    super::contexts::change_config(app, |config| {
        if let Some(auths) = config["auths"].as_object_mut() {
            auths.remove(server);
        }
    })
}

/// The `X-Registry-Auth` value for a registry's domain, when there are credentials. A helper that fails
/// is reported; the registry may do without.
pub fn header(app: &App, domain: &str) -> Option<String> {
    let server = server(Some(domain));
    let login = match stored(app, &server) {
        Ok(login) => login?,
        Err(e) => {
            out::note(format!("WARNING: {}", e.message));
            return None;
        }
    };
    let json = if login.username == "<token>" {
        json!({"identitytoken": login.password, "serveraddress": server})
    } else {
        json!({"username": login.username, "password": login.password, "serveraddress": server})
    };
    Some(super::base64_encode(json.to_string().as_bytes()))
}

/// The value that says there are none.
pub fn none() -> String {
    super::base64_encode(b"{}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_have_one_name() {
        for hub in [None, Some("docker.io"), Some("https://index.docker.io/v1/")] {
            assert_eq!(server(hub), HUB);
        }
        assert_eq!(server(Some("https://localhost:5000/v2/")), "localhost:5000");
        assert_eq!(server(Some("ghcr.io")), "ghcr.io");
    }
}
