//! Searching a registry, which only those do that still have the first version of the API: Docker Hub and few others.

use ferry_types::image_ref::DEFAULT_DOMAIN;
use http::header;
use serde::Deserialize;

use crate::auth::Auth;
use crate::client::RegistryClient;
use crate::endpoint::of_host;
use crate::error::{RegistryError, Result};
use crate::response::{parse, read_document};
use crate::token::basic;

/// Where Docker Hub is searched.
const HUB_INDEX: &str = "index.docker.io";

/// What to search for.
#[derive(Debug, Clone, Default)]
pub struct Search<'a> {
    /// Words, after the registry's host and a slash when it is not Docker Hub.
    pub term: &'a str,
    /// Most results.
    pub limit: u32,
}

/// A repository found; fields as the registry sends them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Found {
    /// Repository.
    pub name: String,
    /// One line about it.
    pub description: String,
    /// Stars it got.
    pub star_count: i64,
    /// Whether it is an official image.
    pub is_official: bool,
}

#[derive(Deserialize)]
struct Results {
    #[serde(default)]
    results: Vec<Found>,
}

impl RegistryClient {
    /// Searches the registry the term names.
    ///
    /// # Errors
    /// When it cannot be reached or does not know how to search.
    pub async fn search(&self, search: &Search<'_>, auth: &Auth) -> Result<Vec<Found>> {
        let (host, words) = split_term(search.term);
        let mut attempts = Vec::new();
        for endpoint in of_host(host, &self.options.insecure) {
            let mut url = reqwest::Url::parse(&format!("{}/v1/search", endpoint.base))
                .map_err(|_| RegistryError::Url(endpoint.base.clone()))?;
            url.query_pairs_mut().append_pair("q", words).append_pair("n", &search.limit.to_string());
            let mut request = self.transport.client(endpoint.insecure)?.get(url.clone());
            if let Auth::Basic { username, password } = auth {
                request = request.header(header::AUTHORIZATION, basic(username, password));
            }
            match request.send().await.map_err(|e| RegistryError::transport(url.as_str(), &e)) {
                Ok(response) if response.status().is_success() => {
                    let bytes = read_document(url.as_str(), response).await?;
                    return Ok(parse::<Results>(host, "search result", &bytes)?.results);
                }
                Ok(response) => {
                    let status = response.status().to_string();
                    return Err(RegistryError::Status { url: url.to_string(), status });
                }
                Err(error) => attempts.push(error),
            }
        }
        Err(match &attempts[..] {
            [https, http] => RegistryError::NoIndex {
                url: format!("http://{host}/v1/"),
                https: https.to_string(),
                http: http.to_string(),
            },
            _ => attempts.pop().unwrap_or_else(|| RegistryError::Url(host.to_owned())),
        })
    }
}

/// The registry's host and the words to search for. The first part of a name is a host when it looks like one.
fn split_term(term: &str) -> (&str, &str) {
    match term.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => {
            if [DEFAULT_DOMAIN, HUB_INDEX].contains(&host) {
                (HUB_INDEX, rest.strip_prefix("library/").unwrap_or(rest))
            } else {
                (host, rest)
            }
        }
        _ => (HUB_INDEX, term.strip_prefix("library/").unwrap_or(term)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_may_name_a_registry() {
        assert_eq!(split_term("redis"), (HUB_INDEX, "redis"));
        assert_eq!(split_term("library/redis"), (HUB_INDEX, "redis"));
        assert_eq!(split_term("bitnami/redis"), (HUB_INDEX, "bitnami/redis"));
        assert_eq!(split_term("docker.io/library/redis"), (HUB_INDEX, "redis"));
        assert_eq!(split_term("localhost:5000/a/b"), ("localhost:5000", "a/b"));
    }
}
