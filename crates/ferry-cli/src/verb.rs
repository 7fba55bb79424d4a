//! What a command is: its names, usage line, argument count, flags and code.

use std::future::Future;
use std::pin::Pin;

use clap::{ArgMatches, Args, Command};

use crate::app::App;
use crate::failure::{CmdResult, Failure};

/// How many positional arguments a command takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arity {
    /// None at all.
    None,
    /// Exactly so many.
    Exact(usize),
    /// So many or more.
    AtLeast(usize),
    /// None up to so many.
    AtMost(usize),
    /// From the first to the second, both included.
    Range(usize, usize),
}

/// One command. The doc comment of the implementing type is its help text, the doc comments of its
/// fields are those of its flags.
pub trait Verb: Args + Sized {
    /// Every way to call it (`container run`, `run`), in the order the help shows them.
    const PATHS: &'static [&'static str];
    /// What follows the command in its usage line.
    const USAGE: &'static str;
    /// Number of positional arguments.
    const ARITY: Arity;
    /// Whether failures are shown as `run`'s are: program name in front, pointer to the help behind.
    const RUN_STYLE_ERRORS: bool = false;

    /// Whether a wrong number of arguments is reported in cobra's bare words, as some commands do.
    const BARE_COUNT: bool = false;

    /// Does it.
    async fn run(self, app: &App) -> CmdResult;
}

/// A command's future; the client is single-threaded.
pub type Running<'a> = Pin<Box<dyn Future<Output = CmdResult> + 'a>>;

/// A row of the table of commands.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    pub paths: &'static [&'static str],
    pub usage: &'static str,
    pub arity: Arity,
    pub run_style_errors: bool,
    pub bare_count: bool,
    pub define: fn() -> Command,
    pub start: for<'a> fn(&'a App, ArgMatches) -> Running<'a>,
}

/// The row of `V`.
pub const fn spec<V: Verb + 'static>() -> Spec {
    Spec {
        paths: V::PATHS,
        usage: V::USAGE,
        arity: V::ARITY,
        run_style_errors: V::RUN_STYLE_ERRORS,
        bare_count: V::BARE_COUNT,
        define: define::<V>,
        start: start::<V>,
    }
}

fn define<V: Args>() -> Command {
    V::augment_args(Command::new(""))
}

fn start<V: Verb + 'static>(app: &App, mut matches: ArgMatches) -> Running<'_> {
    Box::pin(async move {
        let verb = V::from_arg_matches_mut(&mut matches).map_err(|e| Failure::new(e.to_string()))?;
        verb.run(app).await
    })
}
