//! `inspect` of everything.

use clap::Args;
use ferry_client::Request;
use ferry_types::{Platform, PlatformError};
use serde_json::Value;

use crate::app::App;
use crate::failure::{CmdResult, Failure, finish};
use crate::format::{json, template};
use crate::out;
use crate::verb::{Arity, Verb};

/// Return low-level information on Docker objects
#[derive(Debug, Args)]
pub struct Inspect {
    #[arg(long, short = 'f', value_name = "string", help = super::INSPECT_FORMAT_HELP)]
    format: Option<String>,
    /// Display total file sizes if the type is container
    #[arg(long, short = 's')]
    size: bool,
    /// Only inspect objects of the given type
    #[arg(long = "type", value_name = "string")]
    kind: Option<String>,
    #[arg(hide = true)]
    args: Vec<String>,
}

/// Display detailed information on one or more containers
#[derive(Debug, Args)]
pub struct Containers {
    #[arg(long, short = 'f', value_name = "string", help = super::INSPECT_FORMAT_HELP)]
    format: Option<String>,
    /// Display total file sizes
    #[arg(long, short = 's')]
    size: bool,
    #[arg(hide = true)]
    args: Vec<String>,
}

/// Display detailed information on one or more images
#[derive(Debug, Args)]
pub struct Images {
    #[arg(long, short = 'f', value_name = "string", help = super::INSPECT_FORMAT_HELP)]
    format: Option<String>,
    /// Inspect a specific platform of the multi-platform image.
    /// If the image or the server is not multi-platform capable, the command will error out if the platform does not match.
    /// 'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)
    #[arg(long, value_name = "string", verbatim_doc_comment)]
    platform: Option<String>,
    #[arg(hide = true)]
    args: Vec<String>,
}

/// Display detailed information on one or more volumes
#[derive(Debug, Args)]
pub struct Volumes {
    #[arg(long, short = 'f', value_name = "string", help = super::INSPECT_FORMAT_HELP)]
    format: Option<String>,
    #[arg(hide = true)]
    args: Vec<String>,
}

/// Display detailed information on one or more networks
#[derive(Debug, Args)]
pub struct Networks {
    #[arg(long, short = 'f', value_name = "string", help = super::INSPECT_FORMAT_HELP)]
    format: Option<String>,
    /// Verbose output for diagnostics
    #[arg(long, short = 'v')]
    verbose: bool,
    #[arg(hide = true)]
    args: Vec<String>,
}

/// What can be inspected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Container,
    Image,
    Network,
    Volume,
    Node,
    Service,
    Secret,
    Config,
    Task,
    Plugin,
}

/// The order in which `inspect` without `--type` looks.
const SEARCHED: [Kind; 4] = [Kind::Container, Kind::Image, Kind::Network, Kind::Volume];

impl Kind {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "container" => Some(Self::Container),
            "image" => Some(Self::Image),
            "network" => Some(Self::Network),
            "volume" => Some(Self::Volume),
            "node" => Some(Self::Node),
            "service" => Some(Self::Service),
            "secret" => Some(Self::Secret),
            "config" => Some(Self::Config),
            "task" => Some(Self::Task),
            "plugin" => Some(Self::Plugin),
            _ => None,
        }
    }

    /// What its objects are called in messages.
    fn noun(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Image => "image",
            Self::Network => "network",
            Self::Volume => "volume",
            Self::Node => "node",
            Self::Service => "service",
            Self::Secret => "secret",
            Self::Config => "config",
            Self::Task => "task",
            Self::Plugin => "plugin",
        }
    }

    /// The type its objects have for templates.
    fn schema(self) -> &'static str {
        match self {
            Self::Container => "container.InspectResponse",
            Self::Image => "image.InspectResponse",
            Self::Network => "network.Inspect",
            Self::Volume => "volume.Volume",
            // Shown as they come.
            Self::Node | Self::Service | Self::Secret | Self::Config | Self::Task | Self::Plugin => "",
        }
    }

    fn request(self, name: &str, size: bool) -> Request {
        let name = Request::escape(name);
        match self {
            Self::Container => Request::get(format!("/containers/{name}/json")).flag("size", size),
            Self::Image => Request::get(format!("/images/{name}/json")),
            Self::Network => Request::get(format!("/networks/{name}")),
            Self::Volume => Request::get(format!("/volumes/{name}")),
            Self::Node => Request::get(format!("/nodes/{name}")),
            Self::Service => Request::get(format!("/services/{name}")),
            Self::Secret => Request::get(format!("/secrets/{name}")),
            Self::Config => Request::get(format!("/configs/{name}")),
            Self::Task => Request::get(format!("/tasks/{name}")),
            Self::Plugin => Request::get(format!("/plugins/{name}/json")),
        }
    }
}

impl Verb for Inspect {
    const PATHS: &'static [&'static str] = &["inspect"];
    const USAGE: &'static str = "[OPTIONS] NAME|ID [NAME|ID...]";
    const ARITY: Arity = Arity::AtLeast(1);

    async fn run(self, app: &App) -> CmdResult {
        let kind = match self.kind.as_deref() {
            None | Some("") => None,
            Some(text) => {
                let known = Kind::parse(text);
                Some(
                    known
                        .ok_or_else(|| Failure::new(format!(
                        "unknown type: {}: must be one of \"config\", \"container\", \"image\", \"network\", \"node\", \"plugin\", \"secret\", \"service\", \"task\", \"volume\"",
                        crate::text::quote(text)
                    )))?,
                )
            }
        };
        let size = self.size;
        show(app, self.format.as_deref(), &self.args, async |name| match kind {
            Some(kind) => fetch(app, kind, kind.request(name, size)).await,
            None => search(app, name, size).await,
        })
        .await
    }
}

/// The first object of any type with that name.
async fn search(app: &App, name: &str, size: bool) -> Result<(Kind, String), Failure> {
    for kind in SEARCHED {
        match fetch(app, kind, kind.request(name, size)).await {
            Err(e) if matches!(e.status, Some(404 | 501 | 503)) => {}
            // A name no image can have is no reason to stop looking.
            Err(e) if kind == Kind::Image && e.status == Some(400) => {}
            other => return other,
        }
    }
    Err(Failure::new(format!("Error: No such object: {name}")))
}

/// An object as the engine wrote it.
async fn fetch(app: &App, kind: Kind, request: Request) -> Result<(Kind, String), Failure> {
    let bytes = app.send(request).await?.bytes().await?;
    let text =
        String::from_utf8(bytes.to_vec()).map_err(|_| Failure::new("the engine's answer is not UTF-8"))?;
    Ok((kind, text))
}

macro_rules! inspect_one_kind {
    ($type:ty, $kind:expr, $paths:expr, $usage:expr, $self:ident => $request:expr) => {
        impl Verb for $type {
            const PATHS: &'static [&'static str] = $paths;
            const USAGE: &'static str = $usage;
            const ARITY: Arity = Arity::AtLeast(1);

            async fn run($self, app: &App) -> CmdResult {
                let request = $request;
                show(app, $self.format.as_deref(), &$self.args, async |name| match name.trim() {
                    // An image's name may be looked for, whatever it is.
                    "" if $kind != Kind::Image => Err(Failure::new(format!("invalid {} name or ID: value is empty", $kind.noun()))),
                    _ => fetch(app, $kind, request(name)).await,
                })
                .await
            }
        }
    };
}

inspect_one_kind!(Containers, Kind::Container, &["container inspect"], "[OPTIONS] CONTAINER [CONTAINER...]",
    self => |name: &str| Kind::Container.request(name, self.size));
inspect_one_kind!(Images, Kind::Image, &["image inspect"], "[OPTIONS] IMAGE [IMAGE...]",
self => {
    let platform = platform(self.platform.as_deref()).map_err(Failure::new)?;
    move |name: &str| Kind::Image.request(name, false).query_opt("platform", &platform)
});
inspect_one_kind!(Volumes, Kind::Volume, &["volume inspect"], "[OPTIONS] VOLUME [VOLUME...]",
    self => |name: &str| Kind::Volume.request(name, false));
inspect_one_kind!(Networks, Kind::Network, &["network inspect"], "[OPTIONS] NETWORK [NETWORK...]",
    self => |name: &str| Kind::Network.request(name, false).flag("verbose", self.verbose));

/// `os[/arch[/variant]]` as the API's JSON; empty for none.
///
/// # Errors
/// When it makes no sense.
pub fn platform(text: Option<&str>) -> Result<String, PlatformError> {
    let Some(text) = text.filter(|t| !t.is_empty()) else { return Ok(String::new()) };
    let platform: Platform = text.parse()?;
    let mut fields = serde_json::Map::new();
    fields.insert("architecture".to_owned(), platform.architecture.into());
    fields.insert("os".to_owned(), platform.os.into());
    if let Some(variant) = platform.variant {
        fields.insert("variant".to_owned(), variant.into());
    }
    Ok(Value::Object(fields).to_string())
}

/// Shows all objects, then says what could not be had.
async fn show<F>(app: &App, format: Option<&str>, names: &[String], get: F) -> CmdResult
where
    F: AsyncFn(&str) -> Result<(Kind, String), Failure>,
{
    let format = format.filter(|f| !f.is_empty());
    let parsed = match format {
        None | Some("json") => None,
        Some(source) => Some(template::Format::parse(source)?),
    };
    let mut shown = Vec::new();
    let mut complaints = Vec::new();
    for name in names {
        let text = match get(name).await {
            Ok((kind, object)) => match &parsed {
                None => Ok(object),
                Some(template) => template.show(&serde_json::from_str(&object)?, kind.schema()),
            },
            Err(e) if e.unreachable && shown.is_empty() => return Err(e),
            Err(e) => Err(e),
        };
        match text {
            Ok(text) => shown.push(text),
            Err(e) => complaints.push(finish(&e.message, &app.prog)),
        }
    }
    match (&parsed, format) {
        (Some(_), _) if shown.is_empty() => out::println("")?,
        (Some(_), _) => shown.iter().try_for_each(out::println)?,
        (None, Some(_)) => {
            let all: Vec<String> = shown.iter().map(|o| json::squeeze(o)).collect();
            out::println(format!("[{}]", all.join(",")))?;
        }
        (None, None) => out::println(json::indent(&format!("[{}]", shown.join(",")), "", "    "))?,
    }
    if complaints.is_empty() {
        return Ok(0);
    }
    Err(Failure::new(complaints.join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_can_be_asked_for() {
        let object = serde_json::json!({"State": {"Status": "running"}, "HostConfig": {}, "Id": "a"});
        let show = |t: &str| template::Format::parse(t).unwrap().show(&object, Kind::Container.schema());
        assert_eq!(show("{{if .State.Health}}y{{else}}n{{end}}").unwrap(), "n");
        assert_eq!(show("{{.State.Health}} {{.ID}}").unwrap(), "<nil> a");
        assert_eq!(show("{{.Id}}").unwrap(), "a", "names of the wire do too");
        assert_eq!(
            show("{{.State.Health.Status}}").unwrap_err().message,
            "template parsing error: template: :1:8: executing \"\" at <.State.Health.Status>: map has no entry for key \"Health\""
        );
    }

    #[test]
    fn platforms() {
        assert_eq!(
            platform(Some("linux/arm/v6")).unwrap(),
            r#"{"architecture":"arm","os":"linux","variant":"v6"}"#
        );
        assert_eq!(platform(None), Ok(String::new()));
    }
}
