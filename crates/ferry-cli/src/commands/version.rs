//! `version`.

use clap::Args;
use ferry_client::{CLIENT_API_VERSION, Request};
use serde_json::{Value, json};

use crate::app::App;
use crate::failure::{CmdResult, Failure};
use crate::format::template::{self, Format};
use crate::verb::{Arity, Verb};
use crate::{context, out, time};

/// Show the {product} version information
#[derive(Debug, Args)]
pub struct Version {
    #[arg(long, short = 'f', value_name = "string", help = super::INSPECT_FORMAT_HELP)]
    format: Option<String>,
    #[arg(hide = true)]
    args: Vec<String>,
}

/// Architecture in Go's words.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

impl Verb for Version {
    const PATHS: &'static [&'static str] = &["version"];
    const USAGE: &'static str = "[OPTIONS]";
    const ARITY: Arity = Arity::None;

    async fn run(self, app: &App) -> CmdResult {
        let format = self.format.as_deref().filter(|f| !f.is_empty());
        let template = match format {
            None | Some("json") => None,
            Some(source) => Some(
                Format::parse_as("version", source)
                    .map_err(|e| Failure::new(format!("template parsing error: {e}")).with_code(64))?,
            ),
        };
        let answer = match app.client() {
            Ok(_) => app.json(Request::get("/version")).await,
            Err(e) => Err(e),
        };
        let spoken = app.client().map_or(CLIENT_API_VERSION, ferry_client::Client::api_version);
        let client = json!({
            "Version": env!("CARGO_PKG_VERSION"),
            "ApiVersion": spoken.to_string(),
            "DefaultAPIVersion": CLIENT_API_VERSION.to_string(),
            "GitCommit": "",
            "Os": std::env::consts::OS,
            "Arch": architecture(),
            "Context": context::current(app),
        });
        let (server, failure) = match answer {
            Ok(server) => (server, None),
            Err(e) => (Value::Null, Some(e)),
        };
        match (template, format) {
            (Some(template), _) => {
                let data = json!({"Client": client, "Server": server});
                let text = template.run(&template::typed(&data, "system.versionInfo"));
                // What came before a mistake in the template is shown, be it only the line's end.
                out::println(text.as_deref().unwrap_or_default())?;
                text.map_err(Failure::new)?;
            }
            (None, Some(_)) => {
                let data = json!({"Client": client, "Server": server});
                out::println(template::typed_json(&data, "system.versionInfo"))?;
            }
            (None, None) => {
                out::print(client_text(&client, spoken))?;
                if failure.is_none() {
                    out::print(server_text(&server))?;
                }
            }
        }
        failure.map_or(Ok(0), Err)
    }
}

fn line(label: &str, value: &str) -> String {
    format!(" {:<18} {value}\n", format!("{label}:"))
}

fn client_text(client: &Value, spoken: ferry_client::ApiVersion) -> String {
    let field = |key: &str| client[key].as_str().unwrap_or_default();
    let api = if spoken == CLIENT_API_VERSION {
        spoken.to_string()
    } else {
        format!("{spoken} (downgraded from {CLIENT_API_VERSION})")
    };
    let mut out = "Client:\n".to_owned();
    out.push_str(&line("Version", field("Version")));
    out.push_str(&line("API version", &api));
    out.push_str(&line("OS/Arch", &format!("{}/{}", field("Os"), field("Arch"))));
    out.push_str(&line("Context", field("Context")));
    out
}

fn server_text(server: &Value) -> String {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let platform = text(&server["Platform"]["Name"]);
    let mut out =
        if platform.is_empty() { "\nServer:\n".to_owned() } else { format!("\nServer: {platform}\n") };
    let mut line = |label: &str, value: &str| {
        out.push_str(&format!("  {:<17} {value}\n", format!("{label}:")));
    };
    let components = server["Components"].as_array().cloned().unwrap_or_default();
    if components.is_empty() {
        line("Version", &text(&server["Version"]));
        line("API version", &text(&server["ApiVersion"]));
    }
    for component in &components {
        let name = text(&component["Name"]);
        let details = &component["Details"];
        out.push_str(&format!(" {name}:\n"));
        let mut line = |label: &str, value: &str| {
            out.push_str(&format!("  {:<17} {value}\n", format!("{label}:")));
        };
        line("Version", &text(&component["Version"]));
        if name == "Engine" {
            let api = format!(
                "{} (minimum version {})",
                text(&details["ApiVersion"]),
                text(&details["MinAPIVersion"])
            );
            line("API version", &api);
            if details["GoVersion"].as_str().is_some_and(|g| !g.is_empty()) {
                line("Go version", &text(&details["GoVersion"]));
            }
            line("Git commit", &text(&details["GitCommit"]));
            line("Built", &built(&text(&details["BuildTime"])));
            line("OS/Arch", &format!("{}/{}", text(&details["Os"]), text(&details["Arch"])));
            line("Experimental", &text(&details["Experimental"]));
        } else {
            line("GitCommit", &text(&details["GitCommit"]));
        }
    }
    out
}

/// `Tue Sep 15 11:02:57 2026`.
fn built(stamp: &str) -> String {
    time::parse(stamp).map_or_else(
        || stamp.to_owned(),
        |t| t.to_zoned(jiff::tz::TimeZone::UTC).strftime("%a %b %e %H:%M:%S %Y").to_string(),
    )
}
