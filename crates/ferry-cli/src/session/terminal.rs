//! The user's terminal.

use std::io;
use std::os::fd::AsFd as _;

use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};

/// Raw mode of the terminal on stdin. Dropping it restores what was before, on every way out.
#[derive(Debug)]
pub struct RawMode(Termios);

impl RawMode {
    /// Switches stdin to raw mode; `None` when stdin is no terminal.
    ///
    /// # Errors
    /// When the terminal cannot be set.
    pub fn enter() -> io::Result<Option<Self>> {
        let stdin = io::stdin();
        if !isatty(stdin.as_fd()) {
            return Ok(None);
        }
        let saved = tcgetattr(stdin.as_fd())?;
        let mut raw = saved.clone();
        raw.make_raw();
        tcsetattr(stdin.as_fd(), OptionalActions::Now, &raw)?;
        Ok(Some(Self(saved)))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // Nothing can be done about a terminal that went away.
        let _ = tcsetattr(io::stdin().as_fd(), OptionalActions::Now, &self.0);
    }
}

/// Whether stdin is a terminal.
pub fn stdin_is_terminal() -> bool {
    isatty(io::stdin().as_fd())
}

/// Rows and columns of the terminal on stdout; `None` when there is none, or it does not know.
pub fn size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(io::stdout().as_fd()).ok()?;
    (size.ws_row > 0 || size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}
