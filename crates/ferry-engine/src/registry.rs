//! What is asked of registries besides pulls: logging in, searching, looking at an image that is not here.

use ferry_api::auth::{AuthConfig, AuthResponse};
use ferry_api::image::{Descriptor, DistributionInspect, ImageSearchItem, Platform};
use ferry_registry_client::{Auth, Fetched, Index, Manifest, Search};
use ferry_types::ImageRef;
use serde::Deserialize;

use crate::Engine;
use crate::api::SearchOptions;
use crate::error::{EngineError, Result};
use crate::image_pull::credentials;

/// Results of a search when nobody says how many; most of them.
const SEARCH_DEFAULT: i64 = 25;
const SEARCH_MAX: i64 = 100;

/// The members of an image config that say what it runs on.
#[derive(Deserialize)]
struct RunsOn {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    #[serde(default)]
    variant: String,
}

impl Engine {
    /// `POST /auth`: asks a registry whether it takes the credentials.
    pub async fn registry_login(&self, auth: AuthConfig) -> Result<AuthResponse> {
        let server = auth.server_address.clone();
        let auth = match auth.credentials() {
            Some((username, password)) if auth.identity_token.is_empty() => {
                Auth::Basic { username, password }
            }
            _ => credentials(Some(auth)),
        };
        let token = self.inner.live.registry().login(&server, &auth).await?;
        Ok(AuthResponse { status: "Login Succeeded".to_owned(), identity_token: token.unwrap_or_default() })
    }

    /// `GET /images/search`.
    pub async fn image_search(&self, o: SearchOptions) -> Result<Vec<ImageSearchItem>> {
        let invalid = |message: String| EngineError::InvalidParameter(message);
        let refused = |e: ferry_api::filters::FilterError| invalid(e.to_string());
        o.filters.allow(&["is-automated", "is-official", "stars"]).map_err(refused)?;
        o.filters.bool("is-automated").map_err(refused)?;
        let official = o.filters.bool("is-official").map_err(refused)?;
        let mut stars = None;
        for text in o.filters.get("stars") {
            let number: i64 = text.parse().map_err(|_| {
                invalid(format!(
                    "invalid filter 'stars={text}': strconv.Atoi: parsing {text:?}: invalid syntax"
                ))
            })?;
            stars = stars.max(Some(number));
        }
        let limit = o.limit.unwrap_or(SEARCH_DEFAULT);
        if !(1..=SEARCH_MAX).contains(&limit) {
            return Err(invalid(format!("limit {limit} is outside the range of [1, {SEARCH_MAX}]")));
        }
        if o.term.contains("://") {
            let term = o.term;
            return Err(invalid(format!(
                "invalid repository name: repository name ({term}) should not have a scheme"
            )));
        }
        let search = Search { term: &o.term, limit: u32::try_from(limit).unwrap_or(u32::MAX) };
        let found = self.inner.live.registry().search(&search, &credentials(o.auth)).await?;
        let wanted = found.into_iter().filter(|f| {
            official.is_none_or(|wanted| f.is_official == wanted) && stars.is_none_or(|s| f.star_count >= s)
        });
        let item = |f: ferry_registry_client::Found| ImageSearchItem {
            star_count: f.star_count,
            is_official: f.is_official,
            name: f.name,
            is_automated: false,
            description: f.description,
        };
        Ok(wanted.map(item).collect())
    }

    /// `GET /distribution/{name}/json`: digest and platforms of an image in its registry.
    pub async fn distribution_inspect(
        &self,
        name: &str,
        auth: Option<AuthConfig>,
    ) -> Result<DistributionInspect> {
        if name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(EngineError::System("no manifest found for full image ID".to_owned()));
        }
        let reference: ImageRef = name
            .parse()
            .map_err(|e: ferry_types::ImageRefError| EngineError::InvalidParameter(e.to_string()))?;
        let auth = credentials(auth);
        let fetched = self.inner.live.registry().manifest(&reference, &auth).await?;
        let platforms = self.platforms(&reference, &fetched, &auth).await?;
        let descriptor = Descriptor {
            media_type: fetched.media_type,
            digest: fetched.digest.to_string(),
            size: i64::try_from(fetched.bytes.len()).unwrap_or(i64::MAX),
            ..Descriptor::default()
        };
        Ok(DistributionInspect { descriptor, platforms: platforms.into() })
    }

    /// An index names its platforms, a manifest leads to a config that does.
    async fn platforms(&self, reference: &ImageRef, found: &Fetched, auth: &Auth) -> Result<Vec<Platform>> {
        let malformed = |e: serde_json::Error| EngineError::System(format!("invalid manifest: {e}"));
        if found.media_type.contains("index") || found.media_type.contains("manifest.list") {
            let index: Index = serde_json::from_slice(&found.bytes).map_err(malformed)?;
            return Ok(index.platforms().map(wire_platform).collect());
        }
        let manifest: Manifest = serde_json::from_slice(&found.bytes).map_err(malformed)?;
        let config = self.inner.live.registry().document(reference, &manifest.config, auth).await?;
        // Artifacts have a config of another kind, and run on nothing.
        let Ok(RunsOn { architecture, os, variant }) = serde_json::from_slice(&config) else {
            return Ok(Vec::new());
        };
        if os.is_empty() && architecture.is_empty() {
            return Ok(Vec::new());
        }
        Ok(vec![Platform { architecture, os, variant, ..Platform::default() }])
    }
}

impl From<ferry_registry_client::RegistryError> for EngineError {
    fn from(error: ferry_registry_client::RegistryError) -> Self {
        Self::Pull(error.into())
    }
}

fn wire_platform(platform: ferry_types::Platform) -> Platform {
    Platform {
        architecture: platform.architecture,
        os: platform.os,
        variant: platform.variant.unwrap_or_default(),
        ..Platform::default()
    }
}
