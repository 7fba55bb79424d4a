//! `info`.

use clap::Args;
use ferry_client::Request;
use serde_json::{Value, json};

use crate::app::App;
use crate::failure::{CmdResult, Failure};
use crate::format::template::{self, Format};
use crate::verb::{Arity, Verb};
use crate::{context, out, units};

/// Display system-wide information
#[derive(Debug, Args)]
pub struct Info {
    #[arg(long, short = 'f', value_name = "string", help = super::INSPECT_FORMAT_HELP)]
    format: Option<String>,
    #[arg(hide = true)]
    args: Vec<String>,
}

impl Verb for Info {
    const PATHS: &'static [&'static str] = &["system info", "info"];
    const USAGE: &'static str = "[OPTIONS]";
    const ARITY: Arity = Arity::None;

    async fn run(self, app: &App) -> CmdResult {
        let format = self.format.as_deref().filter(|f| !f.is_empty());
        let template = match format {
            None | Some("json") => None,
            Some(source) => Some(Format::parse(source)?),
        };
        let client = json!({
            "Debug": app.globals.debug,
            "Version": env!("CARGO_PKG_VERSION"),
            "Os": std::env::consts::OS,
            "Arch": super::version::architecture(),
            "Context": context::current(app),
            "Plugins": plugins(app),
            "Warnings": null,
        });
        let answer = app.json(Request::get("/info")).await;
        let (server, failure) = match answer {
            Ok(server) => (server, None),
            Err(e) => (Value::Null, Some(e)),
        };
        if format.is_none() {
            out::print(client_text(&client))?;
            out::print("\nServer:\n")?;
            if failure.is_none() {
                out::print(server_text(&server))?;
                for warning in server["Warnings"].as_array().into_iter().flatten() {
                    out::note(warning.as_str().unwrap_or_default());
                }
            }
        } else if failure.is_none() {
            let mut all = server;
            all["ClientInfo"] = client;
            match &template {
                Some(template) => {
                    let text = template.run(&template::typed(&all, "system.dockerInfo"));
                    out::println(text.as_deref().unwrap_or_default())?;
                    text.map_err(Failure::new)?;
                }
                None => out::println(template::typed_json(&all, "system.dockerInfo"))?,
            }
        }
        failure.map_or(Ok(0), Err)
    }
}

/// The plugins of the client.
fn plugins(app: &App) -> Value {
    let all = crate::plugins::all(app).into_iter().filter_map(|plugin| {
        let about = plugin.about.ok()?;
        Some(json!({
            "SchemaVersion": about.schema_version, "Vendor": about.vendor, "Version": about.version,
            "ShortDescription": about.short_description, "Name": plugin.name, "Path": plugin.path,
        }))
    });
    all.collect()
}

fn client_text(client: &Value) -> String {
    let field = |key: &str| client[key].as_str().unwrap_or_default();
    let mut plugins = String::new();
    for plugin in client["Plugins"].as_array().into_iter().flatten() {
        let text = |key: &str| plugin[key].as_str().unwrap_or_default();
        if plugins.is_empty() {
            plugins.push_str(" Plugins:\n");
        }
        plugins.push_str(&format!("  {}: {} ({})\n", text("Name"), text("ShortDescription"), text("Vendor")));
        if !text("Version").is_empty() {
            plugins.push_str(&format!("    Version:  {}\n", text("Version")));
        }
        plugins.push_str(&format!("    Path:     {}\n", text("Path")));
    }
    let head = format!(
        "Client:\n Version:    {}\n Context:    {}\n Debug Mode: {}\n",
        field("Version"),
        field("Context"),
        client["Debug"].as_bool().unwrap_or(false)
    );
    head + &plugins
}

/// Text under construction: one labelled line per fact the engine gives.
struct Page<'a> {
    info: &'a Value,
    out: String,
}

impl Page<'_> {
    fn line(&mut self, indent: usize, label: &str, value: &str) {
        self.out.push_str(&format!("{}{label}: {value}\n", " ".repeat(indent)));
    }

    fn field(&mut self, indent: usize, label: &str, key: &str) {
        let value = match &self.info[key] {
            Value::Null => return,
            Value::String(s) => s.clone(),
            other => other.to_string(),
        };
        self.line(indent, label, &value);
    }

    /// As [`Page::field`], without a line for an empty text.
    fn present(&mut self, indent: usize, label: &str, key: &str) {
        if self.info[key].as_str().is_some_and(|s| !s.is_empty()) {
            self.field(indent, label, key);
        }
    }
}

fn strings(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[expect(clippy::cast_precision_loss, reason = "sizes for people")]
fn server_text(info: &Value) -> String {
    let mut p = Page { info, out: String::new() };
    p.field(1, "Containers", "Containers");
    p.field(2, "Running", "ContainersRunning");
    p.field(2, "Paused", "ContainersPaused");
    p.field(2, "Stopped", "ContainersStopped");
    p.field(1, "Images", "Images");
    p.present(1, "Server Version", "ServerVersion");
    p.field(1, "Storage Driver", "Driver");
    for pair in info["DriverStatus"].as_array().into_iter().flatten() {
        p.line(2, pair[0].as_str().unwrap_or_default(), pair[1].as_str().unwrap_or_default());
    }
    p.present(1, "Logging Driver", "LoggingDriver");
    p.present(1, "Cgroup Driver", "CgroupDriver");
    p.present(1, "Cgroup Version", "CgroupVersion");
    p.out.push_str(" Plugins:\n");
    for kind in ["Volume", "Network", "Authorization", "Log"] {
        let names = strings(&info["Plugins"][kind]);
        if !names.is_empty() {
            p.line(2, kind, &names.join(" "));
        }
    }
    let cdi = strings(&info["CDISpecDirs"]);
    if !cdi.is_empty() {
        p.out.push_str(" CDI spec directories:\n");
        cdi.iter().for_each(|dir| p.out.push_str(&format!("  {dir}\n")));
    }
    p.line(
        1,
        "Swarm",
        info["Swarm"]["LocalNodeState"].as_str().filter(|s| !s.is_empty()).unwrap_or("inactive"),
    );
    if let Some(runtimes) = info["Runtimes"].as_object().filter(|r| !r.is_empty()) {
        p.line(1, "Runtimes", &runtimes.keys().cloned().collect::<Vec<_>>().join(" "));
        p.field(1, "Default Runtime", "DefaultRuntime");
    }
    p.present(1, "Init Binary", "InitBinary");
    for (label, key) in [
        ("containerd version", "ContainerdCommit"),
        ("runc version", "RuncCommit"),
        ("init version", "InitCommit"),
    ] {
        if let Some(id) = info[key]["ID"].as_str() {
            p.line(1, label, id);
        }
    }
    security(&mut p);
    p.present(1, "Kernel Version", "KernelVersion");
    p.present(1, "Operating System", "OperatingSystem");
    p.present(1, "OSType", "OSType");
    p.present(1, "Architecture", "Architecture");
    p.field(1, "CPUs", "NCPU");
    p.line(1, "Total Memory", &units::bytes_size(info["MemTotal"].as_i64().unwrap_or(0) as f64));
    p.present(1, "Name", "Name");
    p.present(1, "ID", "ID");
    p.field(1, "Docker Root Dir", "DockerRootDir");
    p.field(1, "Debug Mode", "Debug");
    p.present(1, "HTTP Proxy", "HttpProxy");
    p.present(1, "HTTPS Proxy", "HttpsProxy");
    p.present(1, "No Proxy", "NoProxy");
    let labels = strings(&info["Labels"]);
    if !labels.is_empty() {
        p.out.push_str(" Labels:\n");
        labels.iter().for_each(|l| p.out.push_str(&format!("  {l}\n")));
    }
    p.field(1, "Experimental", "ExperimentalBuild");
    registries(&mut p);
    p.field(1, "Live Restore Enabled", "LiveRestoreEnabled");
    p.present(1, "Product License", "ProductLicense");
    p.out.push('\n');
    p.out
}

fn security(p: &mut Page<'_>) {
    let options = strings(&p.info["SecurityOptions"]);
    if options.is_empty() {
        return;
    }
    let mut text = " Security Options:\n".to_owned();
    for option in options {
        for part in option.split(',') {
            match part.split_once('=') {
                Some(("name", name)) => text.push_str(&format!("  {name}\n")),
                Some(("profile", name)) => text.push_str(&format!("   Profile: {name}\n")),
                Some((key, value)) => text.push_str(&format!("   {key}: {value}\n")),
                None => text.push_str(&format!("  {part}\n")),
            }
        }
    }
    p.out.push_str(&text);
}

fn registries(p: &mut Page<'_>) {
    let config = &p.info["RegistryConfig"];
    let insecure = config["IndexConfigs"]
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(_, c)| c["Secure"] == false)
        .map(|(name, _)| name.as_str())
        .chain(strings(&config["InsecureRegistryCIDRs"]));
    let lines: String = insecure.map(|name| format!("  {name}\n")).collect();
    if !lines.is_empty() {
        p.out.push_str(" Insecure Registries:\n");
        p.out.push_str(&lines);
    }
    let mirrors: String = strings(&config["Mirrors"]).iter().map(|m| format!("  {m}\n")).collect();
    if !mirrors.is_empty() {
        p.out.push_str(" Registry Mirrors:\n");
        p.out.push_str(&mirrors);
    }
}
