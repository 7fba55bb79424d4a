//! What the cases are written with. `run` turns them into trials, gives each its engine and client,
//! records what became of it, and at the end looks for what was left on the host.

pub mod archive;
pub mod client;
pub mod daemon;
pub mod http;
pub mod leaks;
pub mod network;
pub mod process;
pub mod pty;
pub mod registry;
pub mod report;
pub mod settings;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use libtest_mimic::{Arguments, Completion, Trial};

use self::client::{Client, Flavour};
use self::daemon::Daemon;
use self::settings::Settings;

/// One test.
pub struct Case {
    /// Unique, `area::what`.
    pub name: &'static str,
    /// What it runs on.
    pub needs: Needs,
    /// The test itself.
    pub test: fn(&Ctx) -> Result<()>,
}

/// What a case runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// The engine that all such cases share, through each of the clients in turn.
    EachClient,
    /// The shared engine; the case brings its own client, or asks for one.
    Engine,
    /// Nothing: the case starts engines of its own, or none.
    Nothing,
}

/// A reason not to run a test, as an error; see [`skip`].
#[derive(Debug)]
struct Skip(String);

impl std::fmt::Display for Skip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skip {}

/// Ends the test without success or failure: `return skip("no network")`.
pub fn skip<T>(reason: impl Into<String>) -> Result<T> {
    Err(Skip(reason.into()).into())
}

/// What a test gets.
pub struct Ctx {
    /// Paths and options of this run.
    pub settings: Arc<Settings>,
    /// Client of the shared engine.
    pub client: Client,
    name: String,
    made: Mutex<Vec<String>>,
    paths: Mutex<Vec<PathBuf>>,
}

impl Ctx {
    /// A container name nobody else uses. The container is removed when the test ends.
    pub fn name(&self, what: &str) -> String {
        let name = format!("{}-{what}", self.name.replace("::", "-").replace(['[', ']'], "-"));
        self.remove_later(name.clone());
        name
    }

    /// A path in the suite's work directory that nobody else uses. What is there is removed when the
    /// test ends.
    pub fn path(&self, what: &str) -> PathBuf {
        let path = self.settings.work.join(format!("{}-{what}", self.name.replace("::", "-")));
        lock(&self.paths).push(path.clone());
        path
    }

    /// Has a container removed when the test ends.
    pub fn remove_later(&self, container: impl Into<String>) {
        lock(&self.made).push(container.into());
    }

    /// Runs a command that must succeed; its stdout without the final newline.
    pub fn ok(&self, args: &[&str]) -> Result<String> {
        self.client.ok(args)
    }

    /// A value of `inspect`.
    pub fn inspect(&self, container: &str, template: &str) -> Result<String> {
        self.ok(&["inspect", "-f", template, container])
    }

    /// A Debian image on the shared engine; the test is skipped when there is none.
    pub fn debian(&self) -> Result<&'static str> {
        static IMPORTED: Mutex<bool> = Mutex::new(false);
        let Some(tar) = &self.settings.debian else { return skip("no Debian image could be made") };
        let mut imported = lock(&IMPORTED);
        if !*imported {
            self.ok(&["import", "--change", "CMD [\"bash\"]", &tar.display().to_string(), "debian:latest"])?;
            *imported = true;
        }
        Ok("debian")
    }

    /// The image `redis` on the shared engine; the test is skipped when there is none.
    pub fn redis(&self) -> Result<&'static str> {
        self.load("redis", self.settings.redis.as_deref())
    }

    /// The image `mariadb` on the shared engine; the test is skipped when there is none.
    pub fn mariadb(&self) -> Result<&'static str> {
        self.load("mariadb", self.settings.mariadb.as_deref())
    }

    /// The image `tomcat` on the shared engine; the test is skipped when there is none.
    pub fn tomcat(&self) -> Result<&'static str> {
        self.load("tomcat", self.settings.tomcat.as_deref())
    }

    /// The image `haproxy` on the shared engine; the test is skipped when there is none.
    pub fn haproxy(&self) -> Result<&'static str> {
        self.load("haproxy", self.settings.haproxy.as_deref())
    }

    fn load(&self, name: &'static str, archive: Option<&Path>) -> Result<&'static str> {
        static LOADED: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());
        let Some(archive) = archive else { return skip(format!("no image of {name} could be made")) };
        let mut loaded = lock(&LOADED);
        if !loaded.contains(&name) {
            let output = self.client.start(&["load", "-i", &archive.display().to_string()])?;
            output.finish(Duration::from_secs(120))?.code(0)?.stdout_has(&format!("{name}:latest"))?;
            loaded.push(name);
        }
        Ok(name)
    }
}

impl Drop for Ctx {
    fn drop(&mut self) {
        let made = std::mem::take(&mut *lock(&self.made));
        if !made.is_empty() {
            let names: Vec<&str> = made.iter().map(String::as_str).collect();
            // Many are gone already; what stays behind, the search for leaks finds.
            let _ = self.client.run(&[&["rm", "-f", "-v"], names.as_slice()].concat());
        }
        for path in std::mem::take(&mut *lock(&self.paths)) {
            // Most tests remove what they made.
            let _ = std::fs::remove_dir_all(&path).or_else(|_| std::fs::remove_file(&path));
        }
    }
}

/// Locks; a test that panicked elsewhere is no reason not to clean up.
pub fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Tries until `condition` holds.
pub fn eventually(what: &str, limit: Duration, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        let outcome = condition();
        if matches!(outcome, Ok(true)) {
            return Ok(());
        }
        if Instant::now() > deadline {
            return match outcome {
                Err(error) => Err(error.context(format!("not within {limit:?}: {what}"))),
                _ => bail!("not within {limit:?}: {what}"),
            };
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The engine most cases share, started when the first of them needs it.
struct Shared {
    settings: Arc<Settings>,
    daemon: OnceLock<Result<Option<Daemon>, String>>,
}

impl Shared {
    /// Where its API is; the images of [`Settings`] are in it.
    fn host(&self) -> Result<String> {
        let started = self.daemon.get_or_init(|| self.start().map_err(|error| format!("{error:#}")));
        match started {
            Ok(Some(daemon)) => Ok(daemon.host()),
            Ok(None) => self.settings.against.clone().context("no engine to run against"),
            Err(error) => bail!("the shared engine does not start: {error}"),
        }
    }

    fn start(&self) -> Result<Option<Daemon>> {
        if let Some(host) = &self.settings.against {
            let client = Client::new(&self.settings, Flavour::Docker, host)?;
            daemon::import_images(&self.settings, &client)?;
            return Ok(None);
        }
        let daemon = Daemon::start(&self.settings, "shared")?;
        daemon::import_images(&self.settings, &daemon.client()?)?;
        Ok(Some(daemon))
    }

    fn stop(self) -> Vec<String> {
        match self.daemon.into_inner() {
            Some(Ok(Some(daemon))) => daemon.finish(),
            _ => Vec::new(),
        }
    }

    fn log_tail(&self) -> String {
        match self.daemon.get() {
            Some(Ok(Some(daemon))) => daemon.log_tail(),
            _ => String::new(),
        }
    }
}

/// Runs the cases that the command line asks for.
pub fn run(arguments: &Arguments, cases: Vec<Case>) -> ExitCode {
    let settings = match Settings::from_env() {
        Ok(settings) => Arc::new(settings),
        Err(reason) => {
            println!("{} tests skipped: {reason:#}", cases.len());
            return ExitCode::SUCCESS;
        }
    };
    let before = leaks::Host::look();
    let report = Arc::new(report::Report::new(settings.results.as_deref()));
    let shared = Arc::new(Shared { settings: settings.clone(), daemon: OnceLock::new() });

    let mut trials = Vec::new();
    for case in cases {
        let flavours: &[Option<Flavour>] = match case.needs {
            Needs::EachClient if settings.against.is_some() => &[Some(Flavour::Docker)],
            Needs::EachClient => &[Some(Flavour::Ferry), Some(Flavour::Docker)],
            Needs::Engine | Needs::Nothing => &[None],
        };
        for flavour in flavours {
            trials.push(trial(&case, *flavour, &settings, &shared, &report));
        }
    }
    let conclusion = libtest_mimic::run(arguments, trials);

    let mut left = match Arc::try_unwrap(shared) {
        Ok(shared) => shared.stop(),
        Err(_) => vec!["the shared engine is still in use".to_owned()],
    };
    if conclusion.num_passed + conclusion.num_failed > 0 {
        left.extend(before.left_behind(Duration::from_secs(10)));
        leaks::remove_cgroup_parent();
        let outcome = if left.is_empty() { Ok(()) } else { Err(left.join("\n")) };
        println!(
            "the whole suite leaves nothing behind ... {}",
            if left.is_empty() { "ok" } else { "FAILED" }
        );
        for line in &left {
            println!("    {line}");
        }
        report.add(
            "suite::leaves_nothing_behind",
            &outcome.map_err(report::NotPassed::Failed),
            Duration::ZERO,
        );
    }
    if conclusion.has_failed() || !left.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn trial(
    case: &Case,
    flavour: Option<Flavour>,
    settings: &Arc<Settings>,
    shared: &Arc<Shared>,
    report: &Arc<report::Report>,
) -> Trial {
    let name = match flavour {
        Some(flavour) => format!("{}[{}]", case.name, flavour.name()),
        None => case.name.to_owned(),
    };
    let (settings, shared, report) = (settings.clone(), shared.clone(), report.clone());
    let (needs, test) = (case.needs, case.test);
    Trial::ignorable_test(name.clone(), move || {
        let began = Instant::now();
        let outcome = attempt(&name, needs, test, flavour, &settings, &shared);
        report.add(&name, &outcome, began.elapsed());
        match outcome {
            Ok(()) => Ok(Completion::Completed),
            Err(report::NotPassed::Skipped(reason)) => Ok(Completion::ignored_with(reason)),
            Err(report::NotPassed::Failed(mut message)) => {
                if needs != Needs::Nothing {
                    message = format!("{message}\n--- the engine's log ends ---\n{}", shared.log_tail());
                }
                Err(message.into())
            }
        }
    })
}

fn attempt(
    name: &str,
    needs: Needs,
    test: fn(&Ctx) -> Result<()>,
    flavour: Option<Flavour>,
    settings: &Arc<Settings>,
    shared: &Shared,
) -> Result<(), report::NotPassed> {
    let body = || -> Result<()> {
        let host = match needs {
            Needs::EachClient | Needs::Engine => shared.host()?,
            Needs::Nothing if settings.against.is_some() => return skip("the engine is another one"),
            Needs::Nothing => "unix:///nonexistent/ferry.sock".to_owned(),
        };
        let fallback = if settings.against.is_some() { Flavour::Docker } else { Flavour::Ferry };
        let client = Client::new(settings, flavour.unwrap_or(fallback), &host)?;
        let ctx = Ctx {
            settings: settings.clone(),
            client,
            name: short(name),
            made: Mutex::new(Vec::new()),
            paths: Mutex::new(Vec::new()),
        };
        test(&ctx)
    };
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => match error.downcast::<Skip>() {
            Ok(Skip(reason)) => Err(report::NotPassed::Skipped(reason)),
            Err(error) => Err(report::NotPassed::Failed(format!("{error:#}"))),
        },
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Err(report::NotPassed::Failed(format!("panicked: {}", text.unwrap_or_default())))
        }
    }
}

fn short(name: &str) -> String {
    name.replace("[ferry]", "-f").replace("[docker]", "-d").replace('_', "-")
}
