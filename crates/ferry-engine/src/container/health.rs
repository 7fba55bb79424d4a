//! Health checks: what is asked for, and what a probe's outcome means. Pure; the owner runs the probes (`monitor`).
//!
//! ```text
//!               exit 0                       retries failures
//!  Starting ─────────────► Healthy ◄──────► Unhealthy
//!      └───────── retries failures, after the start period ────────┘
//! ```

use std::collections::VecDeque;
use std::time::Duration;

use ferry_api::container::{Health as WireHealth, HealthConfig, HealthcheckResult};
use ferry_api::{ContainerConfig, Time};
use ferry_image::Healthcheck;
use serde::{Deserialize, Serialize};

/// Results kept, as in Docker.
const LOG_LENGTH: usize = 5;
/// Bytes of a probe's output kept, as in Docker.
pub(crate) const OUTPUT_LIMIT: usize = 4096;
/// What Docker takes for settings left out.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(30);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_START_INTERVAL: Duration = Duration::from_secs(5);
const DEFAULT_RETRIES: u32 = 3;
/// The shortest span accepted, in nanoseconds.
const SHORTEST: i64 = 1_000_000;
/// The label that says what is to happen to a container that becomes unhealthy. Docker has nothing of the kind.
pub(crate) const ACTION_LABEL: &str = "ferry.health.action";

/// How a container's health is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Check {
    /// The command, program first.
    pub command: Vec<String>,
    pub interval: Duration,
    pub timeout: Duration,
    pub start_period: Duration,
    pub start_interval: Duration,
    pub retries: u32,
    pub action: Action,
}

/// What happens to a container that becomes unhealthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Nothing, as in Docker.
    None,
    /// It is stopped and started again, with the back-off of restart policies.
    Restart,
    /// It is stopped as by a user.
    Stop,
    /// It is killed; its restart policy decides about the rest.
    Kill,
}

impl Action {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "" | "none" => Ok(Self::None),
            "restart" => Ok(Self::Restart),
            "stop" => Ok(Self::Stop),
            "kill" => Ok(Self::Kill),
            other => Err(format!(
                "invalid value for label {ACTION_LABEL}: '{other}'; use one of 'none', 'restart', 'stop', or 'kill'"
            )),
        }
    }
}

impl Check {
    /// The check of a container, when it has one.
    pub fn of(config: &ContainerConfig) -> Option<Self> {
        let wanted = config.healthcheck.as_ref()?;
        let command = match wanted.test.split_first()? {
            (kind, rest) if kind == "CMD" && !rest.is_empty() => rest.to_vec(),
            (kind, rest) if kind == "CMD-SHELL" && !rest.is_empty() => {
                let default = || vec!["/bin/sh".to_owned(), "-c".to_owned()];
                let shell = if config.shell.is_empty() { default() } else { config.shell.to_vec() };
                shell.into_iter().chain(rest.iter().cloned()).collect()
            }
            _ => return None,
        };
        let span = |nanos: i64, default| match u64::try_from(nanos) {
            Ok(nanos) if nanos > 0 => Duration::from_nanos(nanos),
            _ => default,
        };
        Some(Self {
            command,
            interval: span(wanted.interval, DEFAULT_INTERVAL),
            timeout: span(wanted.timeout, DEFAULT_TIMEOUT),
            start_period: span(wanted.start_period, Duration::ZERO),
            start_interval: span(wanted.start_interval, DEFAULT_START_INTERVAL),
            retries: u32::try_from(wanted.retries).ok().filter(|n| *n > 0).unwrap_or(DEFAULT_RETRIES),
            action: config
                .labels
                .get(ACTION_LABEL)
                .and_then(|text| Action::parse(text).ok())
                .unwrap_or(Action::None),
        })
    }

    /// How long to wait before the next probe, `since_start` after the container started.
    pub fn pause(&self, status: Status, since_start: Duration) -> Duration {
        if since_start < self.start_period && status == Status::Starting {
            self.start_interval
        } else {
            self.interval
        }
    }
}

/// Checks what a create request says; the texts are Docker's where Docker refuses. Docker takes a test of an unknown kind
/// for none.
pub(crate) fn validate(config: &ContainerConfig) -> Result<(), String> {
    if let Some(action) = config.labels.get(ACTION_LABEL) {
        Action::parse(action)?;
    }
    let Some(check) = &config.healthcheck else { return Ok(()) };
    match check.test.split_first() {
        None => {}
        Some((kind, [])) if kind == "NONE" => {}
        Some((kind, [_, ..])) if kind == "CMD" || kind == "CMD-SHELL" => {}
        Some((kind, [])) if kind == "CMD" || kind == "CMD-SHELL" => {
            return Err(format!("Healthcheck of type '{kind}' has no command"));
        }
        Some((kind, _)) if kind == "NONE" => {
            return Err("Healthcheck of type 'NONE' must not have a command".to_owned());
        }
        Some((kind, _)) => {
            return Err(format!("Unknown healthcheck type '{kind}' (expected 'NONE', 'CMD' or 'CMD-SHELL')"));
        }
    }
    let spans = [
        ("Interval", check.interval),
        ("Timeout", check.timeout),
        ("StartPeriod", check.start_period),
        ("StartInterval", check.start_interval),
    ];
    if let Some((name, _)) = spans.into_iter().find(|(_, n)| *n != 0 && *n < SHORTEST) {
        return Err(format!("{name} in Healthcheck cannot be less than 1ms"));
    }
    if check.retries < 0 {
        return Err("Retries in Healthcheck cannot be negative".to_owned());
    }
    Ok(())
}

/// Fills what a request leaves open from the image.
pub(crate) fn inherit(own: &mut Option<HealthConfig>, image: Option<&Healthcheck>) {
    let Some(image) = image else { return };
    let own = own.get_or_insert_default();
    if own.test.is_empty() {
        own.test = image.test.clone().into();
    }
    let fill = |own: &mut i64, image: i64| {
        if *own == 0 {
            *own = image;
        }
    };
    fill(&mut own.interval, image.interval);
    fill(&mut own.timeout, image.timeout);
    fill(&mut own.start_period, image.start_period);
    fill(&mut own.start_interval, image.start_interval);
    fill(&mut own.retries, image.retries);
}

/// What is known about a container's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    Starting,
    Healthy,
    Unhealthy,
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// One probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Nanoseconds since the epoch.
    pub start: i64,
    /// Nanoseconds since the epoch.
    pub end: i64,
    /// Of the command; -1 when it could not be run or took too long.
    pub code: i32,
    pub output: String,
}

/// A container's health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Health {
    pub status: Status,
    pub failing_streak: u32,
    /// The last ones, oldest first. They outlast a restart of the container, as in Docker.
    pub log: VecDeque<Outcome>,
}

impl Health {
    /// Of a container that starts; `last` is what was known of its last run.
    pub fn starting(last: Option<&Self>) -> Self {
        let log = last.map(|h| h.log.clone()).unwrap_or_default();
        Self { status: Status::Starting, failing_streak: 0, log }
    }

    /// Takes note of a probe that began `since_start` after the container. Returns the new status when it changed.
    pub fn note(&mut self, check: &Check, outcome: Outcome, since_start: Duration) -> Option<Status> {
        let before = self.status;
        if outcome.code == 0 {
            self.failing_streak = 0;
            self.status = Status::Healthy;
        } else if self.status != Status::Starting || since_start >= check.start_period {
            self.failing_streak += 1;
            if self.failing_streak >= check.retries {
                self.status = Status::Unhealthy;
            }
        }
        while self.log.len() >= LOG_LENGTH {
            self.log.pop_front();
        }
        self.log.push_back(outcome);
        (self.status != before).then_some(self.status)
    }

    /// As `inspect` shows it.
    pub fn to_wire(&self) -> WireHealth {
        let time = |nanos: i64| Time::from_unix_nanos(i128::from(nanos));
        let result = |o: &Outcome| HealthcheckResult {
            start: time(o.start),
            end: time(o.end),
            exit_code: o.code,
            output: o.output.clone(),
        };
        WireHealth {
            status: self.status.as_str().to_owned(),
            failing_streak: i64::from(self.failing_streak),
            log: self.log.iter().map(result).collect::<Vec<_>>().into(),
        }
    }
}

/// What `inspect` shows for a probe that took too long.
pub(crate) fn timeout_message(timeout: Duration, output: &str) -> String {
    let spent = crate::time::go_duration(timeout);
    match output {
        "" => format!("Health check exceeded timeout ({spent})"),
        output => format!("Health check exceeded timeout ({spent}): {output}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(test: &[&str]) -> ContainerConfig {
        let test = test.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>().into();
        let healthcheck = Some(HealthConfig { test, ..HealthConfig::default() });
        ContainerConfig { healthcheck, ..ContainerConfig::default() }
    }

    fn outcome(code: i32) -> Outcome {
        Outcome { start: 0, end: 0, code, output: String::new() }
    }

    #[test]
    fn tests_become_commands() {
        let command = |test: &[&str]| Check::of(&config(test)).map(|c| c.command);
        assert_eq!(command(&["CMD", "a", "b"]).unwrap(), ["a", "b"]);
        assert_eq!(command(&["CMD-SHELL", "a b"]).unwrap(), ["/bin/sh", "-c", "a b"]);
        assert_eq!(command(&["NONE"]), None);
        assert_eq!(command(&[]), None);
        assert_eq!(command(&["CMD"]), None);
        assert_eq!(Check::of(&ContainerConfig::default()), None);
    }

    #[test]
    fn bad_checks_are_refused() {
        for bad in [&["CMD"][..], &["CMD-SHELL"], &["NONE", "x"], &["HTTP", "http://x"], &[""]] {
            assert!(validate(&config(bad)).is_err(), "{bad:?}");
        }
        for good in [&["CMD", "x"][..], &["CMD-SHELL", "x"], &["NONE"], &[]] {
            assert_eq!(validate(&config(good)), Ok(()), "{good:?}");
        }
        let mut short = config(&[]);
        short.healthcheck.as_mut().unwrap().timeout = 999_999;
        assert_eq!(validate(&short).unwrap_err(), "Timeout in Healthcheck cannot be less than 1ms");
        let mut labelled = config(&[]);
        labelled.labels.get_mut().insert(ACTION_LABEL.to_owned(), "explode".to_owned());
        assert!(validate(&labelled).is_err());
    }

    #[test]
    fn the_image_fills_what_is_left_open() {
        let image = Healthcheck {
            test: vec!["CMD".to_owned(), "x".to_owned()],
            interval: 7,
            retries: 2,
            ..Healthcheck::default()
        };
        let mut own = Some(HealthConfig { interval: 9, ..HealthConfig::default() });
        inherit(&mut own, Some(&image));
        let own = own.unwrap();
        assert_eq!((own.test.len(), own.interval, own.retries), (2, 9, 2));
        let mut none = None;
        inherit(&mut none, None);
        assert!(none.is_none());
    }

    #[test]
    fn failures_count_after_the_start_period_or_the_first_success() {
        let mut check = Check::of(&config(&["CMD", "x"])).unwrap();
        check.start_period = Duration::from_secs(10);
        check.retries = 2;
        let (early, late) = (Duration::from_secs(1), Duration::from_secs(11));
        let mut health = Health::starting(None);
        assert_eq!(check.pause(health.status, early), DEFAULT_START_INTERVAL);
        for _ in 0..9 {
            assert_eq!(health.note(&check, outcome(1), early), None);
        }
        assert_eq!((health.failing_streak, health.log.len()), (0, LOG_LENGTH));
        assert_eq!(health.note(&check, outcome(0), early), Some(Status::Healthy));
        assert_eq!(check.pause(health.status, early), DEFAULT_INTERVAL);
        assert_eq!(health.note(&check, outcome(1), early), None);
        assert_eq!(health.note(&check, outcome(-1), late), Some(Status::Unhealthy));
        assert_eq!(health.note(&check, outcome(1), late), None);
        assert_eq!(health.failing_streak, 3);
        assert_eq!(health.note(&check, outcome(0), late), Some(Status::Healthy));
        let again = Health::starting(Some(&health));
        assert_eq!((again.status, again.failing_streak, again.log.len()), (Status::Starting, 0, LOG_LENGTH));
    }
}
