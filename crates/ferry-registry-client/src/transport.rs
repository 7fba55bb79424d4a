//! The HTTP clients underneath: one that verifies certificates, one for registries that are allowed not
//! to have any.

use std::sync::OnceLock;
use std::time::Duration;

use reqwest::redirect::Policy;

use crate::client::ClientOptions;
use crate::error::{RegistryError, Result};

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(15);
/// Longest silence within an answer.
const READ: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Transport {
    options: ClientOptions,
    secure: OnceLock<reqwest::Client>,
    insecure: OnceLock<reqwest::Client>,
}

impl Transport {
    pub fn new(options: ClientOptions) -> Self {
        // Process-wide, and the first one wins: ring is the only provider this workspace links.
        rustls::crypto::ring::default_provider().install_default().ok();
        Self { options, secure: OnceLock::new(), insecure: OnceLock::new() }
    }

    /// Made on first use: a host without CA certificates can still use its own registry.
    pub fn client(&self, insecure: bool) -> Result<&reqwest::Client> {
        let slot = if insecure { &self.insecure } else { &self.secure };
        if let Some(client) = slot.get() {
            return Ok(client);
        }
        let client = self.build(insecure)?;
        Ok(slot.get_or_init(|| client))
    }

    fn build(&self, insecure: bool) -> Result<reqwest::Client> {
        let failed = |e: reqwest::Error| {
            use std::error::Error;
            RegistryError::Tls(e.source().map_or_else(|| e.to_string(), ToString::to_string))
        };
        let mut builder = reqwest::Client::builder()
            .user_agent(self.options.user_agent.clone())
            .connect_timeout(CONNECT)
            .read_timeout(READ)
            .redirect(redirects(insecure))
            // Proxies come from the caller; a library does not read the environment.
            .no_proxy()
            .tls_danger_accept_invalid_certs(insecure);
        let proxy = &self.options.proxy;
        let exceptions = proxy.no_proxy.as_deref().and_then(reqwest::NoProxy::from_string);
        if let Some(url) = &proxy.http {
            builder = builder.proxy(reqwest::Proxy::http(url).map_err(failed)?.no_proxy(exceptions.clone()));
        }
        if let Some(url) = &proxy.https {
            builder = builder.proxy(reqwest::Proxy::https(url).map_err(failed)?.no_proxy(exceptions));
        }
        builder.build().map_err(failed)
    }
}

/// At most ten hops, and none from HTTPS to HTTP unless the registry is insecure anyway. Credentials are
/// dropped by reqwest when the host or port changes.
fn redirects(insecure: bool) -> Policy {
    Policy::custom(move |attempt| {
        let downgrade =
            attempt.url().scheme() == "http" && attempt.previous().iter().any(|u| u.scheme() == "https");
        if attempt.previous().len() > 10 {
            attempt.error("stopped after 10 redirects")
        } else if downgrade && !insecure {
            attempt.error("refusing to be redirected from https to http")
        } else {
            attempt.follow()
        }
    })
}
