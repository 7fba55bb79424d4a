//! `system check`: ferry's own; Docker has nothing like it.

use clap::Args;
use ferry_client::Request;
use serde_json::Value;

use crate::app::App;
use crate::failure::CmdResult;
use crate::format::template::Format;
use crate::verb::{Arity, Verb};
use crate::{format, out};

/// Check everything kept on disk and on the host, and repair it
#[derive(Debug, Args)]
pub struct Check {
    /// Read every byte of every layer
    #[arg(long)]
    deep: bool,
    #[arg(long, short = 'f', value_name = "string", help = super::INSPECT_FORMAT_HELP)]
    format: Option<String>,
    /// Mend what can be mended; what is damaged is moved to lost+found
    #[arg(long)]
    repair: bool,
    #[arg(hide = true)]
    args: Vec<String>,
}

impl Verb for Check {
    const PATHS: &'static [&'static str] = &["system check"];
    const USAGE: &'static str = "[OPTIONS]";
    const ARITY: Arity = Arity::None;

    async fn run(self, app: &App) -> CmdResult {
        const PATH: &str = "/ferry/system/check";
        let format = self.format.as_deref().filter(|f| !f.is_empty());
        let template = match format {
            None | Some("json") => None,
            Some(source) => Some(Format::parse(source)?),
        };
        let request = if self.repair { Request::post(PATH) } else { Request::get(PATH) };
        let report = app.json(request.flag("deep", self.deep)).await?;
        match (&template, format) {
            (Some(template), _) => out::println(template.show(&report, "")?)?,
            (None, Some(_)) => out::println(format::json::compact(&report))?,
            (None, None) => out::print(text(&report))?,
        }
        let open = problems(&report).filter(|p| p["State"] != "repaired").count();
        Ok(u8::from(open > 0))
    }
}

fn problems(report: &Value) -> impl Iterator<Item = &Value> {
    report["Problems"].as_array().into_iter().flatten()
}

/// A block for each problem, what was set aside, and a line that counts.
fn text(report: &Value) -> String {
    let field = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    let mut text = String::new();
    for problem in problems(report) {
        let (area, path) = (field(problem, "Area"), field(problem, "Path"));
        text.push_str(&format!("{area}: {path}\n  problem: {}\n", field(problem, "Problem")));
        let remedy = field(problem, "Remedy");
        text.push_str(&match problem["State"].as_str() {
            Some("repaired") => format!("  repaired: {remedy}\n"),
            Some("left") => format!("  left as it is: {remedy}\n"),
            Some("failed") => format!("  repair failed: {}\n", field(problem, "Error")),
            _ => format!("  repair would: {remedy}\n"),
        });
    }
    for entry in report["SetAside"].as_array().into_iter().flatten() {
        text.push_str(&format!(
            "set aside: {}\n  because: {}\n",
            field(entry, "Path"),
            field(entry, "Reason")
        ));
    }
    let count = |key: &str, noun: &str| match report[key].as_u64().unwrap_or_default() {
        1 => format!("1 {noun}"),
        n => format!("{n} {noun}s"),
    };
    let found = problems(report).count();
    let open = problems(report).filter(|p| p["State"] != "repaired").count();
    let outcome = match (found, report["Repair"] == true) {
        (0, _) => "no problems".to_owned(),
        (1, false) => "1 problem".to_owned(),
        (_, false) => format!("{found} problems"),
        (_, true) => format!("{} repaired, {open} left", found - open),
    };
    text.push_str(&format!(
        "Checked {}, {}, {}, {}: {outcome}\n",
        count("Images", "image"),
        count("Layers", "layer"),
        count("Containers", "container"),
        count("Volumes", "volume"),
    ));
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_sound_engine_has_one_line() {
        let report = json!({"Problems": [], "SetAside": null, "Images": 1, "Layers": 2, "Containers": 0, "Volumes": 1});
        assert_eq!(text(&report), "Checked 1 image, 2 layers, 0 containers, 1 volume: no problems\n");
    }

    #[test]
    fn problems_say_where_and_what() {
        let problem = |state: &str| json!({"Area": "volume", "Path": "/d/v", "Problem": "torn", "Remedy": "mend it", "State": state, "Error": "full"});
        let report = json!({"Problems": [problem("repaired"), problem("failed")], "Repair": true,
            "SetAside": [{"Path": "/d/lost+found/1", "Reason": "torn"}]});
        let text = text(&report);
        assert!(text.starts_with("volume: /d/v\n  problem: torn\n  repaired: mend it\n"), "{text}");
        assert!(text.contains("  repair failed: full\n"), "{text}");
        assert!(text.contains("set aside: /d/lost+found/1\n  because: torn\n"), "{text}");
        assert!(text.ends_with(": 1 repaired, 1 left\n"), "{text}");
    }
}
