//! Checking a user's credentials, as `docker login` does.

use http::{StatusCode, header};

use crate::auth::Auth;
use crate::client::RegistryClient;
use crate::endpoint::{DOCKER_HUB, Endpoint, of_host};
use crate::error::{RegistryError, Result};
use crate::response::challenge_of;

impl RegistryClient {
    /// Asks the registry at `server` (a host, or the URL of its old API; empty for Docker Hub) whether it takes the
    /// credentials. Some registries answer with a token that stands for them from now on.
    ///
    /// # Errors
    /// When they are refused or the registry cannot be reached.
    pub async fn login(&self, server: &str, auth: &Auth) -> Result<Option<String>> {
        let mut last_error = None;
        for endpoint in of_host(host_of(server), &self.options.insecure) {
            match self.login_at(&endpoint, auth).await {
                // A registry that speaks HTTP fails the TLS handshake: plain HTTP is next, where allowed.
                Err(error @ RegistryError::Transport { .. }) => last_error = Some(error),
                other => return other,
            }
        }
        Err(last_error.unwrap_or_else(|| RegistryError::Url(server.to_owned())))
    }

    async fn login_at(&self, endpoint: &Endpoint, auth: &Auth) -> Result<Option<String>> {
        let url = format!("{}/v2/", endpoint.base);
        let client = self.transport.client(endpoint.insecure)?;
        let response = client.get(&url).send().await.map_err(|e| RegistryError::transport(&url, &e))?;
        let challenge = match (response.status(), challenge_of(&response)) {
            // Anybody is welcome.
            (StatusCode::OK, _) => return Ok(None),
            (StatusCode::UNAUTHORIZED, Some(challenge)) => challenge,
            (status, _) => return Err(RegistryError::Status { url, status: status.to_string() }),
        };
        let token = self.answer(endpoint, &challenge, None, auth).await.map_err(|e| match e {
            RegistryError::Unauthorized { message, .. } => {
                RegistryError::Unauthorized { url: url.clone(), message }
            }
            other => other,
        })?;
        let request = client.get(&url).header(header::AUTHORIZATION, token.header);
        let response = request.send().await.map_err(|e| RegistryError::transport(&url, &e))?;
        match response.status() {
            StatusCode::OK => Ok(token.refresh),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let message = "incorrect username or password".to_owned();
                Err(RegistryError::Unauthorized { url, message })
            }
            status => Err(RegistryError::Status { url, status: status.to_string() }),
        }
    }
}

/// The host clients name in one of several ways; Docker Hub's is the API's of old.
pub(crate) fn host_of(server: &str) -> &str {
    let rest = server.split_once("://").map_or(server, |(_, rest)| rest);
    match rest.split('/').next().unwrap_or_default() {
        "" | "docker.io" | "index.docker.io" => DOCKER_HUB,
        host => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_named_in_several_ways() {
        for hub in ["", "docker.io", "https://index.docker.io/v1/", "index.docker.io"] {
            assert_eq!(host_of(hub), DOCKER_HUB, "{hub}");
        }
        assert_eq!(host_of("http://localhost:5000/v2/"), "localhost:5000");
        assert_eq!(host_of("ghcr.io"), "ghcr.io");
    }
}
