//! From a request to its response: version, dispatch, headers that every response has.

use std::panic::AssertUnwindSafe;

use ferry_api::{ApiVersion, version};
use ferry_engine::Engine;
use ferry_types::ErrorKind;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::header::{HeaderMap, HeaderValue, SERVER};
use http::{Request, Response};
use hyper::body::Body as _;
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;

use crate::body::Body;
use crate::error::{HttpError, Result};
use crate::handlers::{
    build, container, exec, image, network, plugin, registry, stream, swarm, system, volume,
};
use crate::query::Query;
use crate::reply::{Reply, empty};
use crate::request::{Call, discard};
use crate::router::{self, Route};
use crate::transport::{ConnHandle, Service};

/// The application behind every connection.
pub(crate) struct App {
    engine: Engine,
    stop: CancellationToken,
}

impl App {
    pub(crate) fn new(engine: Engine, stop: CancellationToken) -> Self {
        Self { engine, stop }
    }

    async fn answer(&self, request: Request<Incoming>, conn: ConnHandle) -> Reply {
        let (head, mut body) = request.into_parts();
        let (found, version) = match route(&head) {
            Ok(known) => known,
            Err(error) => {
                discard(&mut body).await;
                return Err(error);
            }
        };
        let query = Query::parse(head.uri.query());
        if !found.route.takes_body() && !body.is_end_stream() {
            discard(&mut body).await;
        }
        let (engine, stop) = (self.engine.clone(), self.stop.clone());
        let outlives_client = found.route.outlives_client();
        let work = dispatch(found.route, Call { engine, version, query, head, body, stop, conn });
        if !outlives_client {
            return work.await;
        }
        match tokio::spawn(work).await {
            Ok(reply) => reply,
            Err(_) => Err(HttpError::internal("internal error: the request's handler failed")),
        }
    }
}

/// What is asked for, in which version of the API.
fn route(head: &http::request::Parts) -> Result<(router::Found, ApiVersion)> {
    let found = router::find(&head.method, head.uri.path()).ok_or_else(HttpError::page_not_found)?;
    let version = check_version(found.version.as_deref())?;
    if !matches!(found.route, Route::Ping | Route::Version | Route::Info) {
        Query::check(head.uri.query().unwrap_or_default())?;
    }
    Ok((found, version))
}

fn check_version(requested: Option<&str>) -> Result<ApiVersion> {
    let Some(requested) = requested else { return Ok(version::MAX) };
    requested.parse().map_err(|e: version::VersionError| {
        let error = HttpError::invalid(e.to_string());
        // Clients as old as that do not expect errors as JSON.
        if matches!(e, version::VersionError::TooOld(_)) { error.into_plain_text() } else { error }
    })
}

impl Service for App {
    fn call(
        self: std::sync::Arc<Self>,
        request: Request<Incoming>,
        conn: ConnHandle,
    ) -> BoxFuture<'static, Response<Body>> {
        Box::pin(async move {
            let (method, uri) = (request.method().clone(), request.uri().clone());
            let reply = AssertUnwindSafe(self.answer(request, conn)).catch_unwind().await;
            let mut response = match reply {
                Ok(Ok(response)) => response,
                Ok(Err(error)) => {
                    tracing::debug!(%method, %uri, status = error.status.as_u16(), message = error.message);
                    error.into_response()
                }
                Err(_) => {
                    tracing::error!(%method, %uri, "the handler panicked");
                    HttpError::internal("internal error: the request's handler failed").into_response()
                }
            };
            common_headers(response.headers_mut(), self.engine.is_experimental());
            response
        })
    }
}

/// Headers Docker puts on every response; clients negotiate the version by them.
fn common_headers(headers: &mut HeaderMap, experimental: bool) {
    headers.insert("api-version", HeaderValue::from_static("1.55"));
    let experimental = if experimental { "true" } else { "false" };
    headers.insert("docker-experimental", HeaderValue::from_static(experimental));
    headers.insert("ostype", HeaderValue::from_static("linux"));
    let server = concat!("Ferry/", env!("CARGO_PKG_VERSION"), " (linux)");
    headers.insert(SERVER, HeaderValue::from_static(server));
}

async fn dispatch(route: Route, call: Call) -> Reply {
    match route {
        Route::Ping => system::ping(&call),
        Route::Version => system::version(&call),
        Route::Info => system::info(&call),
        Route::Auth => registry::login(call).await,
        Route::Events => stream::events(call).await,
        Route::DiskUsage => system::disk_usage(&call).await,
        Route::Check { repair } => system::check(&call, repair).await,
        Route::Commit => container::commit(call).await,
        Route::ContainerList => container::list(&call),
        Route::ContainerCreate => container::create(call).await,
        Route::ContainerPrune => container::prune(&call).await,
        Route::ContainerInspect(id) => container::inspect(&call, &id).await,
        Route::ContainerTop(id) => container::top(&call, &id).await,
        Route::ContainerLogs(id) => stream::logs(call, &id).await,
        Route::ContainerChanges(id) => container::changes(&call, &id).await,
        Route::ContainerExport(id) => stream::export(&call, &id).await,
        Route::ContainerStats(id) => stream::stats(call, &id).await,
        Route::ContainerResize(id) => container::resize(&call, &id).await,
        Route::ContainerStart(id) => container::start(&call, &id).await,
        Route::ContainerStop(id) => container::stop(&call, &id).await,
        Route::ContainerRestart(id) => container::restart(&call, &id).await,
        Route::ContainerKill(id) => container::kill(&call, &id).await,
        Route::ContainerUpdate(id) => container::update(call, &id).await,
        Route::ContainerRename(id) => container::rename(&call, &id).await,
        Route::ContainerPause(id) => container::pause(&call, &id).await,
        Route::ContainerUnpause(id) => container::unpause(&call, &id).await,
        Route::ContainerAttach(id) => container::attach(&call, &id),
        Route::ContainerAttachWs(id) => container::attach_websocket(&call, &id),
        Route::ContainerWait(id) => stream::wait(call, &id).await,
        Route::ContainerRemove(id) => container::remove(&call, &id).await,
        Route::ArchiveStat(id) => stream::archive_stat(&call, &id).await,
        Route::ArchiveGet(id) => stream::archive_get(&call, &id).await,
        Route::ArchivePut(id) => stream::archive_put(call, &id).await,
        Route::ExecCreate(id) => exec::create(call, &id).await,
        Route::ExecStart(id) => exec::start(call, &id).await,
        Route::ExecResize(id) => exec::resize(&call, &id).await,
        Route::ExecInspect(id) => exec::inspect(&call, &id).await,
        Route::ImageList => image::list(&call),
        Route::ImageCreate => image::create(call).await,
        Route::ImageInspect(name) => image::inspect(&call, &name),
        Route::ImageHistory(name) => image::history(&call, &name),
        Route::ImagePush(name) => image::push(&call, &name).await,
        Route::ImageTag(name) => image::tag(&call, &name).await,
        Route::ImageRemove(name) => image::remove(&call, &name).await,
        Route::ImageSearch => registry::search(&call).await,
        Route::ImageGet(name) => image::save(&call, &[name]).await,
        Route::ImagesGet => image::save(&call, &call.query.all("names")).await,
        Route::ImageLoad => image::load(call).await,
        Route::ImagePrune => image::prune(&call).await,
        Route::VolumeList => volume::list(&call),
        Route::VolumeCreate => volume::create(call).await,
        Route::VolumeInspect(name) => volume::inspect(&call, &name),
        Route::VolumeUpdate => Err(HttpError::new(
            ErrorKind::Unavailable,
            "volume update only valid for cluster volumes, but swarm is unavailable",
        )),
        Route::VolumeRemove(name) => volume::remove(&call, &name).await,
        Route::VolumePrune => volume::prune(&call).await,
        Route::NetworkList => network::list(&call),
        Route::NetworkCreate => network::create(call).await,
        Route::NetworkPrune => network::prune(&call).await,
        Route::NetworkRemove(name) => network::remove(&call, &name).await,
        Route::NetworkConnect(name) => network::connect(call, &name).await,
        Route::NetworkDisconnect(name) => network::disconnect(call, &name).await,
        Route::NetworkInspect(name) => network::inspect(&call, &name),
        Route::Distribution(name) => registry::distribution(&call, &name).await,
        Route::Plugin(endpoint) => plugin::answer(&call, endpoint),
        Route::Swarm(endpoint) => swarm::answer(call, endpoint).await,
        Route::BuildPrune => build::prune(&call),
        Route::BuildCancel => build::cancel(&call),
        Route::BuildSession(protocol) => build::session(&call, protocol),
        Route::Checkpoint => Err(HttpError::not_implemented(
            "This experimental feature is disabled by default. Start the Docker daemon in experimental mode in \
             order to enable it.",
        )),
        Route::Options => empty(http::StatusCode::OK),
        Route::Missing(what) => Err(not_built(what)),
    }
}

/// What later versions of ferry will have.
fn not_built(what: &str) -> HttpError {
    HttpError::not_implemented(format!("{what}: not supported by this version of ferry"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_out_of_range_are_refused_in_dockers_words() {
        assert_eq!(check_version(None), Ok(version::MAX));
        assert_eq!(check_version(Some("1.24")), Ok(version::MIN));
        let old = check_version(Some("1.23")).unwrap_err();
        assert_eq!((old.status.as_u16(), old.plain), (400, true));
        assert!(
            old.message.starts_with("client version 1.23 is too old. Minimum supported API version is 1.24")
        );
        let new = check_version(Some("1.99")).unwrap_err();
        assert_eq!(new.message, "client version 1.99 is too new. Maximum supported API version is 1.55");
    }

    #[test]
    fn the_announced_version_is_the_newest() {
        let mut headers = HeaderMap::new();
        common_headers(&mut headers, false);
        assert_eq!(headers["api-version"], version::MAX.to_string());
    }
}
