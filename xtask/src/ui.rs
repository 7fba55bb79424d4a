//! What the chores say: numbered steps, notes, the commands they run, and failures.

use std::io::IsTerminal;
use std::time::Instant;

/// Counts the steps of a chore and says how long each took.
pub struct Steps {
    total: usize,
    current: usize,
    title: String,
    began: Instant,
}

impl Steps {
    /// A chore of `total` steps.
    pub fn new(total: usize) -> Self {
        Self { total, current: 0, title: String::new(), began: Instant::now() }
    }

    /// Announces the next step.
    pub fn next(&mut self, title: impl Into<String>) {
        self.current += 1;
        self.title = title.into();
        self.began = Instant::now();
        println!("\n{}", bold(&format!("[{}/{}] {}", self.current, self.total, self.title)));
    }

    /// The step under way, for error messages.
    pub fn current(&self) -> String {
        format!("step {} of {} ({})", self.current, self.total, self.title)
    }

    /// Says that the step under way is done.
    pub fn done(&self, what: &str) {
        println!("    {what} ({})", seconds(self.began.elapsed()));
    }
}

/// A line of information under a step.
pub fn note(text: impl AsRef<str>) {
    println!("    {}", text.as_ref());
}

/// The command about to be run, as a user would type it.
pub fn command(line: &str) {
    println!("{}", bold(&format!("  $ {line}")));
}

/// An error with all its causes, on stderr.
pub fn failure(error: &anyhow::Error) {
    eprintln!("\nerror: {error:#}");
}

/// A duration as people read it: `850 ms`, `3.2 s`, `4 min 10 s`.
pub fn seconds(duration: std::time::Duration) -> String {
    let millis = duration.as_millis();
    match millis {
        0..1_000 => format!("{millis} ms"),
        1_000..60_000 => format!("{:.1} s", duration.as_secs_f64()),
        _ => format!("{} min {} s", millis / 60_000, millis / 1_000 % 60),
    }
}

fn bold(text: &str) -> String {
    if std::io::stdout().is_terminal() { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
}
