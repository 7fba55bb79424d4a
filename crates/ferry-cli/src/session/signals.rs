//! Signals on their way to the container, and the terminal's size.

use std::future::{pending, poll_fn};
use std::task::Poll;

use ferry_client::Request;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::terminal;
use crate::app::App;
use crate::failure::Failure;

/// What is passed on: everything a process may be sent but what the client itself lives by
/// (SIGCHLD, SIGPIPE, SIGURG, SIGWINCH). Numbers are those of Linux on x86 and Arm, signal(7).
const FORWARDED: [(&str, i32); 10] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("USR1", 10),
    ("USR2", 12),
    ("ALRM", 14),
    ("TERM", 15),
    ("CONT", 18),
    ("TSTP", 20),
    ("IO", 29),
];

/// Those that end a program and would leave its terminal raw.
const ENDING: [(&str, i32); 4] = [("HUP", 1), ("INT", 2), ("QUIT", 3), ("TERM", 15)];

/// Caught signals.
#[derive(Debug)]
pub struct Caught(Vec<(&'static str, i32, Signal)>);

impl Caught {
    /// Catches what is to be forwarded.
    ///
    /// # Errors
    /// When a handler cannot be installed.
    pub fn forwarded() -> Result<Self, Failure> {
        Self::catch(&FORWARDED)
    }

    /// Catches what would end the program.
    ///
    /// # Errors
    /// When a handler cannot be installed.
    pub fn ending() -> Result<Self, Failure> {
        Self::catch(&ENDING)
    }

    /// Catches nothing; the defaults stay in force.
    pub fn none() -> Self {
        Self(Vec::new())
    }

    fn catch(list: &[(&'static str, i32)]) -> Result<Self, Failure> {
        let one =
            |&(name, number): &(&'static str, i32)| Ok((name, number, signal(SignalKind::from_raw(number))?));
        list.iter().map(one).collect::<Result<_, std::io::Error>>().map(Self).map_err(Failure::from)
    }

    /// Name and number of the next signal.
    pub async fn next(&mut self) -> (&'static str, i32) {
        poll_fn(|cx| {
            for (name, number, stream) in &mut self.0 {
                if let Poll::Ready(Some(())) = stream.poll_recv(cx) {
                    return Poll::Ready((*name, *number));
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// Passes signals on to a container for as long as it is polled.
pub async fn forward(app: &App, container: &str, mut caught: Caught) {
    loop {
        let (name, _) = caught.next().await;
        let path = format!("/containers/{}/kill", Request::escape(container));
        // A container that is not running (any more) cannot be signalled, which is no news.
        let _ = app.done(Request::post(path).query("signal", name)).await;
    }
}

/// Tells the engine the terminal's size, now and whenever it changes, for as long as it is polled.
/// `path` is the process's `…/resize`.
pub async fn follow_size(app: &App, path: &str) {
    let Ok(mut changes) = signal(SignalKind::window_change()) else { return pending().await };
    loop {
        if let Some((rows, columns)) = terminal::size() {
            let request = Request::post(path).query("h", rows.to_string()).query("w", columns.to_string());
            // A process that has not started yet refuses: it is asked again shortly.
            if app.done(request).await.is_err() {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                if let Some((rows, columns)) = terminal::size() {
                    let again =
                        Request::post(path).query("h", rows.to_string()).query("w", columns.to_string());
                    let _ = app.done(again).await;
                }
            }
        }
        if changes.recv().await.is_none() {
            return pending().await;
        }
    }
}
