//! The line that says how far a copy is, redrawn in place; on terminals only.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::out::{self, Stream};
use crate::units;

/// How often the size is looked at.
const TICK: Duration = Duration::from_millis(75);

/// Bytes copied so far, shared with whoever copies.
pub type Counter = Arc<AtomicU64>;

/// A line being shown.
#[derive(Debug)]
pub struct Progress {
    /// To be counted up.
    pub bytes: Counter,
    drawing: Option<JoinHandle<()>>,
    quiet: bool,
}

#[expect(clippy::cast_precision_loss, reason = "sizes for people")]
fn size(bytes: u64) -> String {
    units::human_size_digits(bytes as f64, 3)
}

impl Progress {
    /// Starts the line `header`; a quiet one counts only.
    pub fn start(header: &'static str, quiet: bool) -> Self {
        let bytes = Counter::default();
        let drawing = (!quiet && Stream::Stderr.is_terminal()).then(|| {
            let bytes = Arc::clone(&bytes);
            tokio::spawn(async move {
                let mut ticks = tokio::time::interval(TICK);
                let mut last = None;
                loop {
                    ticks.tick().await;
                    let now = bytes.load(Ordering::Relaxed);
                    if last != Some(now) {
                        last = Some(now);
                        let line = format!("\x1b[?25l\r\x1b[2K{header}{}", size(now));
                        let _ = Stream::Stderr.write(line.as_bytes());
                    }
                }
            })
        });
        Self { bytes, drawing, quiet }
    }

    /// Takes the line away; after a success says what was copied where.
    pub fn end(mut self, copied_to: Option<&str>) {
        self.clear();
        if let Some(to) = copied_to.filter(|_| !self.quiet) {
            out::note(format!("Successfully copied {} to {to}", size(self.bytes.load(Ordering::Relaxed))));
        }
    }

    fn clear(&mut self) {
        if let Some(drawing) = self.drawing.take() {
            drawing.abort();
            let _ = Stream::Stderr.write(b"\r\x1b[2K\x1b[?25h");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
