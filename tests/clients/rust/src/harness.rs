//! What the tests have in common: the client, short ways to run containers, the removal of what was made,
//! and the report.

use std::cell::RefCell;
use std::io::Write as _;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bollard::Docker;
use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::models::ContainerInspectResponse;
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, LogsOptionsBuilder, RemoveContainerOptionsBuilder,
    RemoveImageOptionsBuilder, WaitContainerOptions,
};
use futures_util::{FutureExt as _, Stream, StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};

/// The image every test may use.
pub const IMAGE: &str = "busybox:latest";
/// The label on everything that prune is tried on, so that nothing else is pruned.
pub const LABEL: &str = "ferry.clients.rust";
const TEST_TIMEOUT: Duration = Duration::from_secs(60);

/// A test and its name.
pub struct Case {
    pub name: &'static str,
    pub run: for<'a> fn(&'a Ctx) -> Pin<Box<dyn Future<Output = Result<()>> + 'a>>,
}

/// The tests of a module: `cases!("area": function, function)`.
macro_rules! cases {
    ($area:literal: $($name:ident),* $(,)?) => {
        pub fn cases() -> Vec<crate::harness::Case> {
            vec![$(crate::harness::Case {
                name: concat!("rust::", $area, "::", stringify!($name)),
                run: |t| Box::pin($name(t)),
            }),*]
        }
    };
}
pub(crate) use cases;

/// Ends a test that the engine has no means for yet; not a failure.
#[derive(Debug)]
struct Skipped(String);

impl std::fmt::Display for Skipped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skipped {}

/// Skips the test for a reason.
pub fn skip<T>(reason: impl Into<String>) -> Result<T> {
    Err(Skipped(reason.into()).into())
}

/// Skips the test when the engine says that it does not have something yet.
pub fn unless_missing<T>(result: Result<T, Error>) -> Result<T> {
    match result {
        Err(Error::DockerResponseServerError { status_code: 501, message })
            if message.contains("not supported by this version") =>
        {
            skip(message)
        }
        other => Ok(other?),
    }
}

/// Expects the engine to refuse, with this status and this text in its message.
pub fn refused<T>(result: Result<T, Error>, status: u16, text: &str) {
    match result {
        Ok(_) => panic!("not refused, {status} {text:?} was expected"),
        Err(Error::DockerResponseServerError { status_code, message }) => {
            assert_eq!(status_code, status, "{message}");
            assert!(message.contains(text), "{message:?} has no {text:?}");
        }
        Err(other) => panic!("{other:?} instead of {status} {text:?}"),
    }
}

enum Made {
    Container(String),
    Image(String),
    Volume(String),
    Network(String),
}

/// What a test gets.
pub struct Ctx {
    pub docker: Docker,
    made: RefCell<Vec<Made>>,
}

/// What streams delivered: stdout and stderr apart, and what came from a terminal.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Output {
    pub out: String,
    pub err: String,
    pub console: String,
}

impl Output {
    pub fn add(&mut self, part: LogOutput) {
        let target = match &part {
            LogOutput::StdOut { .. } => &mut self.out,
            LogOutput::StdErr { .. } => &mut self.err,
            LogOutput::StdIn { .. } | LogOutput::Console { .. } => &mut self.console,
        };
        target.push_str(&String::from_utf8_lossy(&part.into_bytes()));
    }

    /// Reads a stream to its end.
    pub async fn of(stream: impl Stream<Item = Result<LogOutput, Error>>) -> Result<Self, Error> {
        let mut output = Self::default();
        let mut stream = std::pin::pin!(stream);
        while let Some(part) = stream.next().await {
            output.add(part?);
        }
        Ok(output)
    }
}

impl Ctx {
    /// A name nothing else on the engine has.
    pub fn name(&self, what: &str) -> String {
        static SERIAL: AtomicU32 = AtomicU32::new(1);
        format!("rust-{}-{what}-{}", std::process::id(), SERIAL.fetch_add(1, Ordering::Relaxed))
    }

    pub fn remove_image_later(&self, name: &str) {
        self.made.borrow_mut().push(Made::Image(name.to_owned()));
    }

    pub fn remove_volume_later(&self, name: &str) {
        self.made.borrow_mut().push(Made::Volume(name.to_owned()));
    }

    pub fn remove_network_later(&self, id: &str) {
        self.made.borrow_mut().push(Made::Network(id.to_owned()));
    }

    /// Creates a container of [`IMAGE`] that runs a shell script; `more` is added to the request.
    pub async fn create(&self, script: &str, more: Value) -> Result<String> {
        self.create_named(&self.name("container"), script, more).await
    }

    pub async fn create_named(&self, name: &str, script: &str, more: Value) -> Result<String> {
        let mut body = json!({"Image": IMAGE, "Cmd": ["sh", "-c", script]});
        if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
            body.extend(more);
        }
        let options = CreateContainerOptionsBuilder::new().name(name).build();
        let made = self.docker.create_container(Some(options), serde_json::from_value(body)?).await?;
        self.made.borrow_mut().push(Made::Container(made.id.clone()));
        Ok(made.id)
    }

    pub async fn start(&self, script: &str, more: Value) -> Result<String> {
        let id = self.create(script, more).await?;
        self.docker.start_container(&id, None).await?;
        Ok(id)
    }

    /// Runs a container to its end and expects it to succeed.
    pub async fn run(&self, script: &str, more: Value) -> Result<String> {
        let id = self.start(script, more).await?;
        let status = self.wait(&id).await?;
        if status != 0 {
            bail!("{script:?} ended with {status}: {:?}", self.logs(&id).await?);
        }
        Ok(id)
    }

    /// Runs a container to its end and returns what it wrote to its standard output.
    pub async fn output(&self, script: &str, more: Value) -> Result<String> {
        let id = self.run(script, more).await?;
        Ok(self.logs(&id).await?.out)
    }

    /// The exit status; the library makes an error of every status but 0.
    pub async fn wait(&self, id: &str) -> Result<i64> {
        let answer = self.docker.wait_container(id, None::<WaitContainerOptions>).next().await;
        exit_status(answer.context("no answer to wait")?)
    }

    pub async fn logs(&self, id: &str) -> Result<Output> {
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).build();
        Ok(Output::of(self.docker.logs(id, Some(options))).await?)
    }

    pub async fn inspect(&self, id: &str) -> Result<ContainerInspectResponse> {
        Ok(self.docker.inspect_container(id, None).await?)
    }

    /// The container as JSON, for looking at many of its fields.
    pub async fn inspect_json(&self, id: &str) -> Result<Value> {
        Ok(serde_json::to_value(self.inspect(id).await?)?)
    }

    async fn remove_what_was_made(&self) -> Result<()> {
        let made = std::mem::take(&mut *self.made.borrow_mut());
        for made in made.into_iter().rev() {
            let result = match &made {
                Made::Container(id) => {
                    let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
                    self.docker.remove_container(id, Some(options)).await
                }
                Made::Image(name) => {
                    let options = RemoveImageOptionsBuilder::new().force(true).build();
                    self.docker.remove_image(name, Some(options), None).await.map(drop)
                }
                Made::Volume(name) => self.docker.remove_volume(name, None::<NoOptions>).await,
                Made::Network(id) => self.docker.remove_network(id).await,
            };
            match result {
                // The test removed it itself.
                Ok(()) | Err(Error::DockerResponseServerError { status_code: 404, .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

type NoOptions = bollard::query_parameters::RemoveVolumeOptions;

/// See [`Ctx::wait`].
pub fn exit_status(answer: Result<bollard::models::ContainerWaitResponse, Error>) -> Result<i64> {
    match answer {
        Ok(answer) => Ok(answer.status_code),
        Err(Error::DockerContainerWaitError { code, .. }) => Ok(code),
        Err(error) => Err(error.into()),
    }
}

/// All bytes of a stream.
pub async fn bytes(stream: impl Stream<Item = Result<bytes::Bytes, Error>>) -> Result<Vec<u8>, Error> {
    stream
        .try_fold(Vec::new(), |mut all, part| async move {
            all.extend_from_slice(&part);
            Ok(all)
        })
        .await
}

/// Waits until the condition holds.
pub async fn eventually<F: Future<Output = Result<bool>>>(
    what: &str,
    condition: impl Fn() -> F,
) -> Result<()> {
    for _ in 0..300 {
        if condition().await? {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bail!("waited in vain: {what}")
}

/// Runs the tests and reports them; `Ok(false)` when one failed.
pub async fn run(cases: impl Iterator<Item = Case>) -> Result<bool> {
    let filters: Vec<String> = std::env::args().skip(1).collect();
    let docker =
        Docker::connect_with_defaults()?.negotiate_version().await.context("cannot reach the engine")?;
    docker.inspect_image(IMAGE).await.with_context(|| format!("the engine has no {IMAGE}"))?;
    let mut report = match std::env::var_os("FERRY_TEST_RESULTS") {
        Some(path) => Some(std::fs::OpenOptions::new().create(true).append(true).open(path)?),
        None => None,
    };
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for case in cases.filter(|case| filters.is_empty() || filters.iter().any(|f| case.name.contains(f))) {
        let started = Instant::now();
        let ctx = Ctx { docker: docker.clone(), made: RefCell::default() };
        let mut result = one(case.run, &ctx).await;
        if let Err(error) = ctx.remove_what_was_made().await {
            result = result.and(Err(error.context("cannot remove what the test made")));
        }
        let (outcome, reason) = match result {
            Ok(()) => ("passed", None),
            Err(error) if error.is::<Skipped>() => ("skipped", Some(error.to_string())),
            Err(error) => ("failed", Some(format!("{error:#}"))),
        };
        match outcome {
            "passed" => passed += 1,
            "skipped" => skipped += 1,
            _ => failed += 1,
        }
        let seconds = started.elapsed().as_secs_f64();
        println!("{outcome:8} {} {}", case.name, reason.as_deref().unwrap_or_default());
        if let Some(report) = &mut report {
            let line = json!({"name": case.name, "outcome": outcome, "reason": reason, "seconds": seconds});
            writeln!(report, "{line}")?;
        }
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    Ok(failed == 0)
}

/// One test, whose failed assertions become errors.
async fn one(
    run: for<'a> fn(&'a Ctx) -> Pin<Box<dyn Future<Output = Result<()>> + 'a>>,
    ctx: &Ctx,
) -> Result<()> {
    let guarded = AssertUnwindSafe(run(ctx)).catch_unwind();
    match tokio::time::timeout(TEST_TIMEOUT, guarded).await {
        Err(_) => bail!("no end after {} s", TEST_TIMEOUT.as_secs()),
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            bail!("{}", text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("panic"))
        }
    }
}
