//! The daemon's own log.

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::reload::Handle;

/// How the daemon logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    pub level: String,
    /// At least debug level.
    pub debug: bool,
    /// One JSON object per line.
    pub json: bool,
    /// No colours.
    pub raw: bool,
}

impl LogSettings {
    fn filter(&self) -> EnvFilter {
        let level = match (self.level.as_str(), self.debug) {
            ("trace", _) => "trace",
            (_, true) => "debug",
            ("fatal" | "panic", _) => "error",
            (level, _) => level,
        };
        // The libraries' own chatter is of use to nobody below debug.
        EnvFilter::new(format!(
            "warn,ferry={level},ferry_engine={level},ferry_server={level},ferry_network={level},ferry_image={level},ferry_registry_client={level}"
        ))
    }
}

/// Changes the level of a log that is running.
pub struct Logging(Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>);

impl Logging {
    /// Starts logging to stderr.
    ///
    /// # Errors
    /// When something else of this process logs already.
    pub fn start(settings: &LogSettings) -> Result<Self, String> {
        let colours = !settings.raw && !settings.json && rustix::termios::isatty(std::io::stderr());
        let builder = tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(colours);
        let fail = |e: Box<dyn std::error::Error + Send + Sync>| format!("start logging: {e}");
        if settings.json {
            let builder =
                builder.event_format(Json).with_env_filter(settings.filter()).with_filter_reloading();
            let handle = builder.reload_handle();
            builder.try_init().map_err(fail)?;
            Ok(Self::with(handle))
        } else {
            let builder = builder.with_env_filter(settings.filter()).with_filter_reloading();
            let handle = builder.reload_handle();
            builder.try_init().map_err(fail)?;
            Ok(Self::with(handle))
        }
    }

    fn with<S: Subscriber + 'static>(handle: Handle<EnvFilter, S>) -> Self {
        Self(Box::new(move |filter| handle.reload(filter).map_err(|e| e.to_string())))
    }

    /// Puts other settings in force; the format stays.
    ///
    /// # Errors
    /// When the log is gone.
    pub fn change(&self, settings: &LogSettings) -> Result<(), String> {
        (self.0)(settings.filter())
    }
}

/// One JSON object per line, with the members Docker's log has.
struct Json;

#[derive(Default)]
struct Fields(Map<String, Value>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.add(field, format!("{value:?}").into());
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.into());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }
}

impl Fields {
    fn add(&mut self, field: &Field, value: Value) {
        let name = if field.name() == "message" { "msg" } else { field.name() };
        self.0.insert(name.to_owned(), value);
    }
}

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let level = match *event.metadata().level() {
            tracing::Level::WARN => "warning".to_owned(),
            level => level.to_string().to_lowercase(),
        };
        fields.0.insert("level".to_owned(), level.into());
        fields.0.insert("time".to_owned(), ferry_api::Time::now().to_string().into());
        writeln!(writer, "{}", Value::Object(fields.0))
    }
}
