//! Waiting for the interface of an endpoint that was released: the kernel removes it with its namespace, some 50 ms after
//! the last process in it has ended. Until then its hardware address is taken, and a parent in passthru mode busy.

use std::thread;
use std::time::{Duration, Instant};

use crate::error::NetworkError;

/// How long a namespace may take to go.
pub(super) const DYING: Duration = Duration::from_secs(2);

const PAUSE: Duration = Duration::from_millis(5);

/// Repeats `attempt` while `wait` holds for its error, at most for [`DYING`].
pub(super) fn while_dying<T>(
    mut attempt: impl FnMut() -> Result<T, NetworkError>,
    wait: impl Fn(&NetworkError) -> bool,
) -> Result<T, NetworkError> {
    let begin = Instant::now();
    loop {
        match attempt() {
            Err(error) if wait(&error) && begin.elapsed() < DYING => thread::sleep(PAUSE),
            done => return done,
        }
    }
}
