//! Completion in shells: `completion SHELL` prints a small script, which asks the hidden `__complete`
//! for candidates while the user types. The protocol is that of Docker's client (cobra's): a candidate
//! per line, its description behind a tab, and last a colon with what the shell is to do.

mod candidates;
mod scripts;

use std::ffi::OsString;

use clap::{Arg, Command};

use crate::app::App;
use crate::commands::{GROUPS, HIDDEN, TABLE, UNLISTED};
use crate::failure::{CmdResult, Failure};
use crate::globals::Globals;
use crate::verb::Spec;
use crate::{help, out, plugins, usage};

pub use scripts::{SHELLS, group_help, script, shell_help};

/// What the shell is to do besides offering the candidates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Directive {
    /// Offer files when there are no candidates.
    Default,
    /// Never offer files.
    NoFiles,
}

impl Directive {
    fn number(self) -> u8 {
        match self {
            Self::Default => 0,
            Self::NoFiles => 4,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Default => "ShellCompDirectiveDefault",
            Self::NoFiles => "ShellCompDirectiveNoFileComp",
        }
    }
}

/// Candidates, each with its description, and what to do with them.
type Answer = (Vec<(String, String)>, Directive);

/// Where on the command line the word to complete is.
enum Place {
    /// A command of the program or of a group.
    Command(Option<String>),
    /// The value of a flag.
    Value(String, String),
    /// A flag of a command, or of the program.
    Flag(Option<&'static Spec>, String),
    /// An argument of a command; so many came before it.
    Argument(String, usize),
}

/// Answers `__complete`: `args` are the words behind the program's name, the last one being typed.
///
/// # Errors
/// When nothing is given to complete.
pub fn answer(app: &App, args: &[OsString], described: bool) -> CmdResult {
    let words: Vec<String> = args.iter().map(|a| a.to_string_lossy().into_owned()).collect();
    let Some((current, before)) = words.split_last() else {
        return Err(Failure::new("Error: requires at least 1 arg(s), only received 0"));
    };
    let (candidates, directive) = match place(before, current) {
        Place::Command(group) => (commands(app, group.as_deref(), current), Directive::NoFiles),
        Place::Flag(spec, current) => (flags(spec, &current, app), Directive::NoFiles),
        Place::Value(command, flag) => block_on(candidates::value(app, &command, &flag))?,
        Place::Argument(command, count) => block_on(candidates::argument(app, &command, count))?,
    };
    for (name, description) in candidates {
        if described && !description.is_empty() {
            out::println(format!("{name}\t{description}"))?;
        } else {
            out::println(name)?;
        }
    }
    out::println(format!(":{}", directive.number()))?;
    out::note(format!("Completion ended with directive: {}", directive.name()));
    Ok(0)
}

fn block_on(future: impl Future<Output = Answer>) -> Result<Answer, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new(crate::text::io_reason(&e)))?;
    Ok(runtime.block_on(future))
}

/// The flag a word is, and whether its value comes in the next word.
fn takes_next(command: &Command, word: &str) -> Option<(String, bool)> {
    let long = |name: &str| command.get_arguments().find(|a| a.get_long() == Some(name));
    let named = |arg: &Arg| arg.get_long().unwrap_or_default().to_owned();
    if let Some(name) = word.strip_prefix("--") {
        if name.contains('=') {
            return None;
        }
        return long(name).map(|arg| (named(arg), !usage::is_switch(arg)));
    }
    // In a cluster of short flags the last one may want a value; an earlier one takes the rest.
    let letters: Vec<char> = word.strip_prefix('-')?.chars().collect();
    for (at, letter) in letters.iter().enumerate() {
        let arg = command.get_arguments().find(|a| a.get_short() == Some(*letter))?;
        if !usage::is_switch(arg) {
            return Some((named(arg), at + 1 == letters.len()));
        }
    }
    Some((String::new(), false))
}

fn place(before: &[String], current: &str) -> Place {
    use clap::Args as _;
    let globals = usage::prepare(Globals::augment_args(Command::new("")));
    let mut path: Vec<&str> = Vec::new();
    let mut spec: Option<&'static Spec> = None;
    let mut definition = globals;
    let (mut arguments, mut only_arguments) = (0, false);
    let mut pending: Option<String> = None;
    for word in before {
        if pending.take().is_some() {
            continue;
        }
        if !only_arguments && word == "--" {
            only_arguments = true;
            continue;
        }
        if !only_arguments && word.starts_with('-') && word.len() > 1 {
            if let Some((flag, true)) = takes_next(&definition, word) {
                pending = Some(flag);
            }
            continue;
        }
        if spec.is_some() {
            arguments += 1;
            // Behind the image come the words of the container's command.
            let trailing = definition.get_arguments().any(Arg::is_trailing_var_arg_set);
            only_arguments |= trailing;
            continue;
        }
        path.push(word);
        let joined = path.join(" ");
        if let Some(found) = TABLE.iter().find(|s| s.paths.contains(&joined.as_str())) {
            spec = Some(found);
            definition = usage::prepare((found.define)());
        }
    }
    let called = path.join(" ");
    if let Some(flag) = pending {
        return Place::Value(called, flag);
    }
    if !only_arguments && current.starts_with('-') {
        if let Some((flag, _)) = current.strip_prefix("--").and_then(|c| c.split_once('=')) {
            return Place::Value(called, flag.to_owned());
        }
        return Place::Flag(spec, current.to_owned());
    }
    match (spec, path.first()) {
        (Some(_), _) => Place::Argument(called, arguments),
        (None, None) => Place::Command(None),
        (None, Some(group)) => Place::Command(Some((*group).to_owned())),
    }
}

fn commands(app: &App, group: Option<&str>, current: &str) -> Vec<(String, String)> {
    let prefix = group.map(|g| format!("{g} ")).unwrap_or_default();
    let mut all: Vec<(String, String)> = Vec::new();
    for spec in TABLE {
        // A command is offered under the first name it has in a group.
        let own = spec.paths.iter().find_map(|p| {
            p.strip_prefix(prefix.as_str()).filter(|n| !n.contains(' ') && !UNLISTED.contains(n))
        });
        if let Some(own) = own.filter(|n| !HIDDEN.contains(&format!("{prefix}{n}").as_str())) {
            all.push((own.to_owned(), help::summary(spec, &app.prog)));
        }
    }
    if group.is_none() {
        all.extend(GROUPS.iter().map(|g| (g.0.to_owned(), help::named(g.1, &app.prog))));
        for plugin in plugins::all(app) {
            if let Ok(about) = plugin.about
                && !about.hidden
            {
                all.push((plugin.name, about.short_description));
            }
        }
    }
    all.retain(|(name, _)| name.starts_with(current));
    all.sort();
    all
}

fn flags(spec: Option<&Spec>, current: &str, app: &App) -> Vec<(String, String)> {
    use clap::Args as _;
    let definition = match spec {
        Some(spec) => usage::prepare((spec.define)()),
        None => usage::prepare(Globals::augment_args(Command::new(""))),
    };
    let mut args: Vec<&Arg> =
        definition.get_arguments().filter(|a| a.get_long().is_some() && !a.is_hide_set()).collect();
    args.sort_by_key(|a| a.get_long().unwrap_or_default());
    let mut all = Vec::new();
    for arg in args {
        let text = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let text = help::named(text.lines().next().unwrap_or_default(), &app.prog);
        let long = format!("--{}", arg.get_long().unwrap_or_default());
        let short = arg.get_short().map(|s| format!("-{s}"));
        for name in std::iter::once(long).chain(short) {
            if name.starts_with(current) {
                all.push((name, text.clone()));
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: &str) -> String {
        let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let current = words.pop().unwrap();
        match place(&words, &current) {
            Place::Command(group) => format!("command of {}", group.unwrap_or_default()),
            Place::Value(command, flag) => format!("value of {flag} in {command}"),
            Place::Flag(spec, _) => format!("flag of {}", spec.map_or("", |s| s.paths[0])),
            Place::Argument(command, count) => format!("argument {count} of {command}"),
        }
    }

    #[test]
    fn places() {
        for (line, want) in [
            ("", "command of "),
            ("con", "command of "),
            ("-D con", "command of "),
            ("--context x ps -", "flag of container ls"),
            ("--context ", "value of context in "),
            ("container l", "command of container"),
            ("container rm -f ", "argument 0 of container rm"),
            ("run --pull ", "value of pull in run"),
            ("run -it --name x ", "argument 0 of run"),
            ("run busybox -", "argument 1 of run"),
            ("exec -e A=b c ", "argument 1 of exec"),
            ("ps --filter=", "value of filter in ps"),
            ("run -ti -e ", "value of env in run"),
            ("rm -- -x", "argument 0 of rm"),
        ] {
            assert_eq!(at(line), want, "{line}");
        }
    }
}
