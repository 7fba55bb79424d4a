//! `events`.

use clap::Args;
use ferry_client::Request;
use serde_json::Value;

use crate::app::App;
use crate::failure::{CmdResult, Failure};
use crate::format::template::{self, Format};
use crate::opts::filter;
use crate::out::Stream;
use crate::time;
use crate::verb::{Arity, Verb};

/// Get real time events from the server
#[derive(Debug, Args)]
pub struct Events {
    /// Filter output based on conditions provided
    #[arg(long, short = 'f', value_name = "filter", value_parser = filter::check)]
    filter: Vec<String>,
    #[arg(long, value_name = "string", help = super::INSPECT_FORMAT_HELP)]
    format: Option<String>,
    /// Show all events created since timestamp
    #[arg(long, value_name = "string")]
    since: Option<String>,
    /// Stream events until this timestamp
    #[arg(long, value_name = "string")]
    until: Option<String>,
    #[arg(hide = true)]
    args: Vec<String>,
}

impl Verb for Events {
    const PATHS: &'static [&'static str] = &["system events", "events"];
    const USAGE: &'static str = "[OPTIONS]";
    const ARITY: Arity = Arity::None;

    async fn run(self, app: &App) -> CmdResult {
        let instant = |text: &Option<String>| {
            let given = text.as_deref().filter(|t| !t.is_empty());
            given.map_or_else(|| Ok(String::new()), time::checked_timestamp).map_err(Failure::new)
        };
        let format = self.format.as_deref().filter(|f| !f.is_empty());
        let template = match format {
            None | Some("json") => None,
            Some(source) => {
                let complain = |e| Failure::new(format!("Error parsing format: {e}")).with_code(64);
                let template = Format::parse_list(source).map_err(complain)?;
                // A mistake in it shows at once and not with the first event.
                template.run(&template::pointer_to_nothing("events.Message")).map_err(complain)?;
                Some(template)
            }
        };
        let request = Request::get("/events")
            .query_opt("since", &instant(&self.since)?)
            .query_opt("until", &instant(&self.until)?)
            .query_opt("filters", &filter::parameter(&self.filter));
        let mut response = app.send(request).await?;
        let mut pending: Vec<u8> = Vec::new();
        loop {
            let chunk = response.chunk().await?;
            let last = chunk.is_none();
            pending.extend_from_slice(&chunk.unwrap_or_default());
            let (events, used) = complete_objects(&pending);
            for event in events {
                let line = match (&template, format) {
                    (Some(template), _) => {
                        let data = template::typed(&serde_json::from_slice(event)?, "events.Message");
                        template.run(&data).map_err(Failure::new)?
                    }
                    (None, Some(_)) => String::from_utf8_lossy(event).into_owned(),
                    (None, None) => plain(&serde_json::from_slice(event)?),
                };
                Stream::Stdout.write_async(format!("{line}\n").as_bytes()).await?;
            }
            pending.drain(..used);
            if last {
                return Ok(0);
            }
        }
    }
}

/// The complete JSON objects at the start of `data`, which need no separator, and their total length.
fn complete_objects(data: &[u8]) -> (Vec<&[u8]>, usize) {
    let mut found = Vec::new();
    let mut used = 0;
    let mut stream = serde_json::Deserializer::from_slice(data).into_iter::<serde::de::IgnoredAny>();
    while let Some(Ok(_)) = stream.next() {
        let end = stream.byte_offset();
        found.push(data[used..end].trim_ascii());
        used = end;
    }
    (found, used)
}

/// `TIME TYPE ACTION ID (ATTRIBUTES)`.
fn plain(event: &Value) -> String {
    let nanos = event["timeNano"].as_i64().unwrap_or(0);
    let stamp = if nanos == 0 {
        jiff::Timestamp::from_second(event["time"].as_i64().unwrap_or(0))
    } else {
        jiff::Timestamp::from_nanosecond(i128::from(nanos))
    };
    let zoned = stamp.unwrap_or_default().to_zoned(jiff::tz::TimeZone::system());
    let time = zoned.strftime("%Y-%m-%dT%H:%M:%S.%9f%:z").to_string();
    let time = time.strip_suffix("+00:00").map(|t| format!("{t}Z")).unwrap_or(time);
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let attributes: Vec<String> = event["Actor"]["Attributes"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()))
        .collect();
    let head =
        format!("{time} {} {} {}", text(&event["Type"]), text(&event["Action"]), text(&event["Actor"]["ID"]));
    if attributes.is_empty() { head } else { format!("{head} ({})", attributes.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_across_chunks() {
        let (found, used) = complete_objects(b"{\"a\":1}\n{\"b\":2}{\"c\"");
        assert_eq!(found, [&b"{\"a\":1}"[..], b"{\"b\":2}"]);
        assert_eq!(used, 15);
    }

    #[test]
    fn plain_line() {
        let event = serde_json::json!({"Type": "container", "Action": "die", "timeNano": 1_000_000_001_i64,
            "Actor": {"ID": "abc", "Attributes": {"exitCode": "0", "image": "x"}}});
        assert!(plain(&event).ends_with(" container die abc (exitCode=0, image=x)"));
    }
}
