//! What can stand in a place: names the engine knows, and the values of flags.

use ferry_client::Request;
use serde_json::Value;

use super::{Answer, Directive};
use crate::app::App;
use crate::context;

fn plain(names: impl IntoIterator<Item = String>) -> Answer {
    (names.into_iter().map(|n| (n, String::new())).collect(), Directive::NoFiles)
}

fn words(names: &[&str]) -> Answer {
    plain(names.iter().map(|n| (*n).to_owned()))
}

const NOTHING: Answer = (Vec::new(), Directive::NoFiles);
const FILES: Answer = (Vec::new(), Directive::Default);

/// A list of the engine; nobody is told when it cannot be had.
async fn list(app: &App, path: &str, key: Option<&str>) -> Vec<Value> {
    let answer = app.json(Request::get(path)).await.unwrap_or_default();
    let list = key.map_or(&answer, |key| &answer[key]);
    list.as_array().cloned().unwrap_or_default()
}

/// Which containers make sense for a command.
#[derive(Clone, Copy)]
enum Which {
    All,
    In(&'static [&'static str]),
}

async fn containers(app: &App, which: Which) -> Answer {
    let all = list(app, "/containers/json?all=1", None).await;
    let fits = |c: &&Value| match which {
        Which::All => true,
        Which::In(states) => c["State"].as_str().is_some_and(|s| states.contains(&s)),
    };
    let names = all.iter().filter(fits).filter_map(|c| c["Names"][0].as_str());
    plain(names.map(|n| n.trim_start_matches('/').to_owned()))
}

async fn images(app: &App) -> Answer {
    let all = list(app, "/images/json", None).await;
    let names = all.iter().flat_map(|i| i["RepoTags"].as_array().cloned().unwrap_or_default());
    plain(names.filter_map(|n| n.as_str().map(str::to_owned)).filter(|n| !n.starts_with("<none>")))
}

async fn volumes(app: &App) -> Answer {
    let all = list(app, "/volumes", Some("Volumes")).await;
    plain(all.iter().filter_map(|v| v["Name"].as_str().map(str::to_owned)))
}

async fn networks(app: &App) -> Answer {
    let all = list(app, "/networks", None).await;
    plain(all.iter().filter_map(|n| n["Name"].as_str().map(str::to_owned)))
}

fn contexts(app: &App) -> Answer {
    let mut names: Vec<String> = context::all(app).into_iter().map(|c| c.name).collect();
    names.push("default".to_owned());
    names.sort();
    plain(names)
}

/// Values of a flag of a command.
pub async fn value(app: &App, command: &str, flag: &str) -> Answer {
    match flag {
        "context" => contexts(app),
        "pull" => words(&["always", "missing", "never"]),
        "restart" => words(&["no", "always", "on-failure", "unless-stopped"]),
        "network" => networks(app).await,
        "volumes-from" | "link" => containers(app, Which::All).await,
        "log-level" => words(&["debug", "info", "warn", "error", "fatal", "panic"]),
        "cgroupns" | "userns" | "uts" if command.ends_with("run") || command.ends_with("create") => {
            words(if flag == "cgroupns" { &["host", "private"] } else { &["host"] })
        }
        "type" => words(&[
            "config",
            "container",
            "image",
            "network",
            "node",
            "plugin",
            "secret",
            "service",
            "task",
            "volume",
        ]),
        "log-driver" => {
            let info = app.json(Request::get("/info")).await.unwrap_or_default();
            let drivers = info["Plugins"]["Log"].as_array().cloned().unwrap_or_default();
            plain(drivers.iter().filter_map(|d| d.as_str().map(str::to_owned)))
        }
        "platform" => words(&["linux/amd64", "linux/arm64", "linux/arm/v7"]),
        "signal" | "stop-signal" => words(&["HUP", "INT", "KILL", "QUIT", "STOP", "TERM", "USR1", "USR2"]),
        "cap-add" | "cap-drop" => {
            words(&["ALL", "CHOWN", "NET_ADMIN", "NET_RAW", "SYS_ADMIN", "SYS_PTRACE", "SYS_TIME"])
        }
        "format" => words(&["json", "table"]),
        "env" => plain(std::env::vars().map(|(name, _)| name)),
        "cidfile" | "env-file" | "label-file" | "input" | "output" | "config" | "tlscacert" | "tlscert"
        | "tlskey" | "volume" | "device" | "host" | "from" | "filter" => FILES,
        _ => NOTHING,
    }
}

/// Arguments of a command; `count` came before.
pub async fn argument(app: &App, command: &str, count: usize) -> Answer {
    let name = command.rsplit(' ').next().unwrap_or_default();
    let group = command.split_once(' ').map_or("", |(group, _)| group);
    const RUNNING: Which = Which::In(&["running"]);
    match (group, name) {
        ("context", "use" | "rm" | "remove" | "inspect" | "export" | "update") => contexts(app),
        ("context", "import") => {
            if count == 1 {
                FILES
            } else {
                NOTHING
            }
        }
        ("volume", "rm" | "remove" | "inspect") => volumes(app).await,
        ("network", "rm" | "remove" | "inspect") => networks(app).await,
        ("network", "connect" | "disconnect") => match count {
            0 => networks(app).await,
            1 => containers(app, Which::All).await,
            _ => NOTHING,
        },
        ("image", "rm" | "remove" | "inspect") | ("", "rmi") => images(app).await,
        ("image" | "", "history" | "push" | "pull") => {
            if count == 0 {
                images(app).await
            } else {
                NOTHING
            }
        }
        ("image" | "", "save") => images(app).await,
        ("image" | "", "tag") => {
            if count < 2 {
                images(app).await
            } else {
                NOTHING
            }
        }
        ("image" | "", "import" | "load") => FILES,
        ("container" | "", "run" | "create") => {
            if count == 0 {
                images(app).await
            } else {
                FILES
            }
        }
        ("container" | "", "exec") => {
            if count == 0 {
                containers(app, RUNNING).await
            } else {
                FILES
            }
        }
        ("container" | "", "attach" | "top") => {
            if count == 0 {
                containers(app, RUNNING).await
            } else {
                NOTHING
            }
        }
        ("container" | "", "kill" | "pause") => containers(app, RUNNING).await,
        ("container" | "", "stop") => containers(app, Which::In(&["running", "paused", "restarting"])).await,
        ("container" | "", "unpause") => containers(app, Which::In(&["paused"])).await,
        ("container" | "", "start") => containers(app, Which::In(&["created", "exited"])).await,
        ("container" | "", "logs" | "diff" | "export" | "port" | "commit" | "rename") => {
            if count == 0 {
                containers(app, Which::All).await
            } else {
                NOTHING
            }
        }
        ("container" | "", "rm" | "remove" | "restart" | "stats" | "update" | "wait" | "inspect") => {
            containers(app, Which::All).await
        }
        ("container" | "", "cp") => FILES,
        _ => NOTHING,
    }
}
