//! Which route a method and a path name. Image names hold slashes, so paths are matched from both
//! ends: the area in front, the verb behind, and what lies between is the name.

use http::Method;
use percent_encoding::percent_decode_str;

/// Every endpoint of the API; names in routes are decoded and may be empty or hold slashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    Ping,
    Version,
    Info,
    Auth,
    Events,
    DiskUsage,
    /// Ferry's own: a check without, or with, repair.
    Check {
        repair: bool,
    },
    Commit,
    ContainerList,
    ContainerCreate,
    ContainerPrune,
    ContainerInspect(String),
    ContainerTop(String),
    ContainerLogs(String),
    ContainerChanges(String),
    ContainerExport(String),
    ContainerStats(String),
    ContainerResize(String),
    ContainerStart(String),
    ContainerStop(String),
    ContainerRestart(String),
    ContainerKill(String),
    ContainerUpdate(String),
    ContainerRename(String),
    ContainerPause(String),
    ContainerUnpause(String),
    ContainerAttach(String),
    ContainerAttachWs(String),
    ContainerWait(String),
    ContainerRemove(String),
    ArchiveStat(String),
    ArchiveGet(String),
    ArchivePut(String),
    ExecCreate(String),
    ExecStart(String),
    ExecResize(String),
    ExecInspect(String),
    ImageList,
    ImageCreate,
    ImageInspect(String),
    ImageHistory(String),
    ImagePush(String),
    ImageTag(String),
    ImageRemove(String),
    ImageSearch,
    ImageGet(String),
    ImagesGet,
    ImageLoad,
    ImagePrune,
    VolumeList,
    VolumeCreate,
    VolumeInspect(String),
    VolumeUpdate,
    VolumeRemove(String),
    VolumePrune,
    NetworkList,
    NetworkInspect(String),
    NetworkCreate,
    NetworkRemove(String),
    NetworkConnect(String),
    NetworkDisconnect(String),
    NetworkPrune,
    Distribution(String),
    Plugin(Plugin),
    Swarm(Swarm),
    BuildPrune,
    BuildCancel,
    /// `/session` and `/grpc`: an upgrade to another protocol, of image builds.
    BuildSession(&'static str),
    /// Checkpoints, which Docker has in experimental mode only.
    Checkpoint,
    /// `OPTIONS` of anything.
    Options,
    /// Known to Docker, not built yet; the text says what.
    Missing(&'static str),
}

/// Endpoints of plugins, of which there are none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Plugin {
    List,
    Privileges,
    Pull,
    Create,
    /// Of one plugin by its name.
    Named(String),
    Enable(String),
    Upgrade(String),
}

/// Endpoints of swarms, by what Docker checks before it finds that it is in none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Swarm {
    /// Nothing.
    Read,
    /// The body must be JSON.
    Write,
    /// The filters must be in one of their forms.
    List,
    /// The version of the object, a number; how the message begins.
    Update(&'static str),
    /// As [`Swarm::Update`], with a message that says less.
    UpdateOpaque(&'static str),
    /// A stream must be chosen.
    Logs,
    Init,
    Join,
    Leave,
}

impl Route {
    /// Whether the work goes on when its client leaves: what has several steps must not stop between two of them, and a
    /// container that is being stopped is stopped.
    pub(crate) fn outlives_client(&self) -> bool {
        use Route as R;
        matches!(
            self,
            R::Commit
                | R::ContainerCreate
                | R::ContainerPrune
                | R::ContainerRemove(_)
                | R::ContainerRestart(_)
                | R::ContainerStop(_)
                | R::ContainerUpdate(_)
                | R::ImagePrune
                | R::ImageRemove(_)
                | R::VolumeCreate
                | R::VolumePrune
                | R::VolumeRemove(_)
        )
    }

    /// Whether the handler reads the request's body itself, or takes the connection over.
    pub(crate) fn takes_body(&self) -> bool {
        use Route as R;
        matches!(
            self,
            R::Auth
                | R::Commit
                | R::ContainerCreate
                | R::ContainerUpdate(_)
                | R::ContainerAttach(_)
                | R::ContainerAttachWs(_)
                | R::ArchivePut(_)
                | R::ExecCreate(_)
                | R::ExecStart(_)
                | R::ImageCreate
                | R::ImageLoad
                | R::VolumeCreate
                | R::NetworkCreate
                | R::NetworkConnect(_)
                | R::NetworkDisconnect(_)
                | R::BuildSession(_)
                | R::Swarm(_)
        )
    }
}

/// A route and the version in front of its path, without the `v`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) route: Route,
    pub(crate) version: Option<String>,
}

/// The route of a request; `None` for paths and methods the API does not have.
pub(crate) fn find(method: &Method, path: &str) -> Option<Found> {
    let path = percent_decode_str(path).decode_utf8().ok()?;
    let path = path.strip_prefix('/')?;
    let (version, path) = match path.split_once('/') {
        Some((first, rest)) if is_version(first) => (Some(first[1..].to_owned()), rest),
        _ => (None, path),
    };
    let (area, tail) = path.split_once('/').map_or((path, None), |(area, tail)| (area, Some(tail)));
    let route = match tail {
        _ if method == Method::OPTIONS => Some(Route::Options),
        None => top(method, area),
        Some(tail) => below(method, area, tail),
    }?;
    Some(Found { route, version })
}

fn is_version(segment: &str) -> bool {
    let digits = segment.strip_prefix('v').unwrap_or_default();
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

fn top(method: &Method, area: &str) -> Option<Route> {
    Some(match (method.as_str(), area) {
        ("GET" | "HEAD", "_ping") => Route::Ping,
        ("GET", "version") => Route::Version,
        ("GET", "info") => Route::Info,
        ("GET", "events") => Route::Events,
        ("POST", "auth") => Route::Auth,
        ("POST", "commit") => Route::Commit,
        ("GET", "volumes") => Route::VolumeList,
        ("GET", "networks") => Route::NetworkList,
        ("GET", "plugins") => Route::Plugin(Plugin::List),
        ("POST", "build") => Route::Missing("building images"),
        ("POST", "session") => Route::BuildSession("h2c"),
        ("POST", "grpc") => Route::BuildSession("h2c"),
        ("GET", "swarm") => Route::Swarm(Swarm::Read),
        ("GET", "nodes" | "services" | "tasks" | "secrets" | "configs") => Route::Swarm(Swarm::List),
        _ => return None,
    })
}

fn below(method: &Method, area: &str, tail: &str) -> Option<Route> {
    match area {
        "containers" => containers(method, tail),
        "images" => images(method, tail),
        "exec" => exec(method, tail),
        "volumes" => volumes(method, tail),
        "networks" => networks(method, tail),
        "ferry" => match (method.as_str(), tail) {
            ("GET", "system/check") => Some(Route::Check { repair: false }),
            ("POST", "system/check") => Some(Route::Check { repair: true }),
            _ => None,
        },
        "system" => (method == Method::GET && tail == "df").then_some(Route::DiskUsage),
        "build" => match (method.as_str(), tail) {
            ("POST", "prune") => Some(Route::BuildPrune),
            ("POST", "cancel") => Some(Route::BuildCancel),
            _ => None,
        },
        "distribution" => {
            let (name, verb) = tail.rsplit_once('/')?;
            (method == Method::GET && verb == "json").then(|| Route::Distribution(name.to_owned()))
        }
        "plugins" => plugins(method, tail).map(Route::Plugin),
        "swarm" => swarm(method, tail).map(Route::Swarm),
        "nodes" | "services" | "tasks" | "secrets" | "configs" => {
            swarm_object(method, area, tail).map(Route::Swarm)
        }
        _ => None,
    }
}

fn containers(method: &Method, tail: &str) -> Option<Route> {
    match (method.as_str(), tail) {
        ("GET", "json") => return Some(Route::ContainerList),
        ("POST", "create") => return Some(Route::ContainerCreate),
        ("POST", "prune") => return Some(Route::ContainerPrune),
        ("DELETE", name) if name.contains("/checkpoints/") => return Some(Route::Checkpoint),
        ("DELETE", name) => return Some(Route::ContainerRemove(name.to_owned())),
        _ => {}
    }
    let (name, verb) = tail.rsplit_once('/')?;
    if let (Some(name), "GET", "ws") = (name.strip_suffix("/attach"), method.as_str(), verb) {
        return Some(Route::ContainerAttachWs(name.to_owned()));
    }
    let name = name.to_owned();
    Some(match (method.as_str(), verb) {
        ("GET" | "POST", "checkpoints") => Route::Checkpoint,
        ("GET", "json") => Route::ContainerInspect(name),
        ("GET", "top") => Route::ContainerTop(name),
        ("GET", "logs") => Route::ContainerLogs(name),
        ("GET", "changes") => Route::ContainerChanges(name),
        ("GET", "export") => Route::ContainerExport(name),
        ("GET", "stats") => Route::ContainerStats(name),
        ("HEAD", "archive") => Route::ArchiveStat(name),
        ("GET", "archive") => Route::ArchiveGet(name),
        ("PUT", "archive") => Route::ArchivePut(name),
        ("POST", "resize") => Route::ContainerResize(name),
        ("POST", "start") => Route::ContainerStart(name),
        ("POST", "stop") => Route::ContainerStop(name),
        ("POST", "restart") => Route::ContainerRestart(name),
        ("POST", "kill") => Route::ContainerKill(name),
        ("POST", "update") => Route::ContainerUpdate(name),
        ("POST", "rename") => Route::ContainerRename(name),
        ("POST", "pause") => Route::ContainerPause(name),
        ("POST", "unpause") => Route::ContainerUnpause(name),
        ("POST", "attach") => Route::ContainerAttach(name),
        ("POST", "wait") => Route::ContainerWait(name),
        ("POST", "exec") => Route::ExecCreate(name),
        _ => return None,
    })
}

fn exec(method: &Method, tail: &str) -> Option<Route> {
    let (id, verb) = tail.rsplit_once('/')?;
    let id = id.to_owned();
    Some(match (method.as_str(), verb) {
        ("POST", "start") => Route::ExecStart(id),
        ("POST", "resize") => Route::ExecResize(id),
        ("GET", "json") => Route::ExecInspect(id),
        _ => return None,
    })
}

fn images(method: &Method, tail: &str) -> Option<Route> {
    match (method.as_str(), tail) {
        ("GET", "json") => return Some(Route::ImageList),
        ("GET", "search") => return Some(Route::ImageSearch),
        ("GET", "get") => return Some(Route::ImagesGet),
        ("POST", "create") => return Some(Route::ImageCreate),
        ("POST", "load") => return Some(Route::ImageLoad),
        ("POST", "prune") => return Some(Route::ImagePrune),
        ("DELETE", name) => return Some(Route::ImageRemove(name.to_owned())),
        _ => {}
    }
    let (name, verb) = tail.rsplit_once('/')?;
    let name = name.to_owned();
    Some(match (method.as_str(), verb) {
        ("GET", "json") => Route::ImageInspect(name),
        ("GET", "history") => Route::ImageHistory(name),
        ("GET", "get") => Route::ImageGet(name),
        ("GET", "attestations") => Route::Missing("image attestations"),
        ("POST", "push") => Route::ImagePush(name),
        ("POST", "tag") => Route::ImageTag(name),
        _ => return None,
    })
}

fn volumes(method: &Method, tail: &str) -> Option<Route> {
    Some(match (method.as_str(), tail) {
        ("POST", "create") => Route::VolumeCreate,
        ("POST", "prune") => Route::VolumePrune,
        ("GET", name) => Route::VolumeInspect(name.to_owned()),
        ("PUT", _) => Route::VolumeUpdate,
        ("DELETE", name) => Route::VolumeRemove(name.to_owned()),
        _ => return None,
    })
}

fn networks(method: &Method, tail: &str) -> Option<Route> {
    Some(match (method.as_str(), tail) {
        // Docker knows the list by this path as well.
        ("GET", "") => Route::NetworkList,
        ("GET", name) => Route::NetworkInspect(name.to_owned()),
        ("POST", "create") => Route::NetworkCreate,
        ("POST", "prune") => Route::NetworkPrune,
        ("DELETE", name) => Route::NetworkRemove(name.to_owned()),
        ("POST", other) => match other.rsplit_once('/')? {
            (name, "connect") => Route::NetworkConnect(name.to_owned()),
            (name, "disconnect") => Route::NetworkDisconnect(name.to_owned()),
            _ => return None,
        },
        _ => return None,
    })
}

fn plugins(method: &Method, tail: &str) -> Option<Plugin> {
    match (method.as_str(), tail) {
        ("GET", "privileges") => return Some(Plugin::Privileges),
        ("POST", "pull") => return Some(Plugin::Pull),
        ("POST", "create") => return Some(Plugin::Create),
        ("DELETE", name) => return Some(Plugin::Named(name.to_owned())),
        _ => {}
    }
    let (name, verb) = tail.rsplit_once('/')?;
    let name = name.to_owned();
    Some(match (method.as_str(), verb) {
        ("POST", "enable") => Plugin::Enable(name),
        ("POST", "upgrade") => Plugin::Upgrade(name),
        ("GET", "json") | ("POST", "disable" | "push" | "set") => Plugin::Named(name),
        _ => return None,
    })
}

fn swarm(method: &Method, tail: &str) -> Option<Swarm> {
    Some(match (method.as_str(), tail) {
        ("POST", "init") => Swarm::Init,
        ("POST", "join") => Swarm::Join,
        ("POST", "leave") => Swarm::Leave,
        ("POST", "update") => Swarm::Update("swarm"),
        ("POST", "unlock") => Swarm::Write,
        ("GET", "unlockkey") => Swarm::Read,
        _ => return None,
    })
}

/// `/nodes/…` and its like.
fn swarm_object(method: &Method, area: &str, tail: &str) -> Option<Swarm> {
    let verb = tail.rsplit_once('/').map(|(_, verb)| verb);
    Some(match (method.as_str(), area, verb) {
        ("POST", "services" | "secrets" | "configs", None) if tail == "create" => Swarm::Write,
        ("POST", "nodes", Some("update")) => Swarm::Update("node"),
        ("POST", "services", Some("update")) => Swarm::Update("service"),
        ("POST", "secrets", Some("update")) => Swarm::UpdateOpaque("secret"),
        ("POST", "configs", Some("update")) => Swarm::UpdateOpaque("config"),
        ("GET", "services" | "tasks", Some("logs")) => Swarm::Logs,
        ("GET", _, None) => Swarm::Read,
        ("DELETE", "nodes" | "services" | "secrets" | "configs", None) => Swarm::Read,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(method: &str, path: &str) -> Option<Route> {
        find(&method.parse().unwrap(), path).map(|found| found.route)
    }

    #[test]
    fn names_may_hold_slashes() {
        let name = || "localhost:5000/a/b:1".to_owned();
        assert_eq!(route("GET", "/images/localhost:5000/a/b:1/json"), Some(Route::ImageInspect(name())));
        assert_eq!(
            route("GET", "/images/localhost%3A5000%2Fa%2Fb:1/json"),
            Some(Route::ImageInspect(name()))
        );
        assert_eq!(route("DELETE", "/images/localhost:5000/a/b:1"), Some(Route::ImageRemove(name())));
        assert_eq!(route("POST", "/v1.44/images/localhost:5000/a/b:1/tag"), Some(Route::ImageTag(name())));
        assert_eq!(route("GET", "/images/get/get"), Some(Route::ImageGet("get".into())));
    }

    #[test]
    fn a_check_repairs_only_when_posted() {
        assert_eq!(route("GET", "/ferry/system/check"), Some(Route::Check { repair: false }));
        assert_eq!(route("POST", "/v1.51/ferry/system/check"), Some(Route::Check { repair: true }));
        assert_eq!(route("DELETE", "/ferry/system/check"), None);
        assert_eq!(route("GET", "/ferry"), None);
    }

    #[test]
    fn versions_are_split_off() {
        let found = find(&Method::GET, "/v1.51/containers/json").unwrap();
        assert_eq!(found, Found { route: Route::ContainerList, version: Some("1.51".into()) });
        assert_eq!(find(&Method::GET, "/containers/json").unwrap().version, None);
        assert_eq!(find(&Method::GET, "/v1.2.3/_ping").unwrap().version.as_deref(), Some("1.2.3"));
        assert_eq!(route("GET", "/vx/_ping"), None);
    }

    #[test]
    fn verbs_of_containers() {
        let id = || "abc".to_owned();
        assert_eq!(route("GET", "/containers/abc/json"), Some(Route::ContainerInspect(id())));
        assert_eq!(route("GET", "/containers/abc/attach/ws"), Some(Route::ContainerAttachWs(id())));
        assert_eq!(route("POST", "/containers/abc/attach"), Some(Route::ContainerAttach(id())));
        assert_eq!(route("HEAD", "/containers/abc/archive"), Some(Route::ArchiveStat(id())));
        assert_eq!(route("POST", "/containers/abc/exec"), Some(Route::ExecCreate(id())));
        assert_eq!(route("DELETE", "/containers/abc"), Some(Route::ContainerRemove(id())));
    }

    #[test]
    fn swarms_and_plugins_are_known_paths() {
        assert_eq!(route("GET", "/services/a/logs"), Some(Route::Swarm(Swarm::Logs)));
        assert_eq!(route("POST", "/v1.51/nodes/a/update"), Some(Route::Swarm(Swarm::Update("node"))));
        assert_eq!(route("GET", "/secrets"), Some(Route::Swarm(Swarm::List)));
        let name = || "localhost:5000/a/b".to_owned();
        assert_eq!(
            route("GET", "/plugins/localhost:5000/a/b/json"),
            Some(Route::Plugin(Plugin::Named(name())))
        );
        assert_eq!(
            route("POST", "/plugins/localhost:5000/a/b/enable"),
            Some(Route::Plugin(Plugin::Enable(name())))
        );
        assert_eq!(route("GET", "/distribution/localhost:5000/a/b/json"), Some(Route::Distribution(name())));
        assert_eq!(route("DELETE", "/containers/a/checkpoints/b"), Some(Route::Checkpoint));
        assert_eq!(route("OPTIONS", "/anything"), Some(Route::Options));
    }

    #[test]
    fn what_the_api_does_not_have_is_not_found() {
        for (method, path) in [
            ("GET", "/"),
            ("GET", "/nope"),
            ("POST", "/containers/json"),
            ("GET", "/containers/abc"),
            ("GET", "/containers/abc/start"),
            ("PUT", "/images/abc"),
            ("GET", "/exec/abc"),
            ("POST", "/plugins/abc/bogus"),
            ("POST", "/tasks/create"),
            ("DELETE", "/tasks/abc"),
            ("GET", "/v1.44"),
            ("GET", "/images/%ff/json"),
        ] {
            assert_eq!(route(method, path), None, "{method} {path}");
        }
    }

    /// Every path and method of the API description must be routed somewhere.
    #[test]
    fn the_whole_api_description_is_routed() {
        let description = include_str!("../../ferry-api/tests/data/docker-engine-v1.55.yaml");
        let paths = description.split_once("\npaths:\n").unwrap().1;
        let (mut path, mut count) = (String::new(), 0);
        for line in paths.lines() {
            if let Some(template) = line.strip_prefix("  /").and_then(|l| l.strip_suffix(':')) {
                path = format!("/{}", template.replace("{id}", "abc").replace("{name}", "abc"));
            }
            let method = line.strip_prefix("    ").and_then(|l| l.strip_suffix(':')).unwrap_or_default();
            if matches!(method, "get" | "post" | "put" | "head" | "delete") {
                assert!(route(&method.to_uppercase(), &path).is_some(), "{method} {path}");
                count += 1;
            }
        }
        assert!(count > 100, "only {count} operations found");
    }
}
