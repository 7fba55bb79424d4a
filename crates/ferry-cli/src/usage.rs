//! Parsing of a command's arguments: clap set up to behave as Docker's flags do, and its errors put
//! into Docker's words.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::text;
use crate::verb::{Arity, Spec};

/// What came of parsing.
#[derive(Debug)]
pub enum Parsed {
    /// Go on with these.
    Matches(ArgMatches),
    /// The user asked for help; with the old `-h` where that is not a flag of the command.
    Help {
        /// Written `-h`.
        deprecated: bool,
    },
    /// A complaint about a flag, without usage line and trailer.
    BadFlag(String),
    /// A complaint about the number of arguments.
    BadCount(String),
}

/// Id of the added `--help`.
const HELP: &str = "help";

/// Adapts a derived command to Docker's rules: switches take `=false`, a repeated option's last value
/// counts, an option's value may start with a hyphen, and help is ours.
pub fn prepare(command: Command) -> Command {
    let has_h = command.get_arguments().any(|a| a.get_short() == Some('h'));
    command
        .no_binary_name(true)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .args_override_self(true)
        .mut_args(adapt)
        .arg({
            // Shown only where `-h` means something else.
            let help = Arg::new(HELP).long("help").action(ArgAction::SetTrue).help("Print usage");
            if has_h { help } else { help.short('h').hide(true) }
        })
}

fn adapt(arg: Arg) -> Arg {
    if arg.get_long().is_none() {
        return arg;
    }
    let default = match arg.get_action() {
        ArgAction::SetTrue => "false",
        ArgAction::SetFalse => "true",
        _ => return arg.allow_hyphen_values(true),
    };
    arg.action(ArgAction::Set)
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
        .default_value(default)
        .value_parser(text::parse_bool)
}

/// Whether the flag is a boolean.
pub fn is_switch(arg: &Arg) -> bool {
    arg.get_num_args().is_some_and(|n| n.min_values() == 0) || !arg.get_action().takes_values()
}

/// Parses `args` for one command called as `path` (with the program's name).
pub fn parse(spec: &Spec, path: &str, args: &[OsString]) -> Parsed {
    let command = prepare((spec.define)());
    let matches = match parse_flags(command, args) {
        Parsed::Matches(matches) => matches,
        other => return other,
    };
    let given = matches
        .ids()
        .find(|id| id.as_str() == "args")
        .and_then(|id| matches.get_raw(id.as_str()))
        .map_or(0, Iterator::count);
    if let (true, Arity::Exact(n)) = (spec.bare_count, spec.arity)
        && given != n
    {
        return Parsed::BadCount(format!("accepts {n} arg(s), received {given}"));
    }
    match count_error(spec.arity, given) {
        Some(complaint) => Parsed::BadCount(format!("'{path}' {complaint}")),
        None => Parsed::Matches(matches),
    }
}

/// Parses flags only.
pub fn parse_flags(command: Command, args: &[OsString]) -> Parsed {
    // A copy to look flags up in: parsing consumes the command, and errors name flags clap's way.
    let mut lookup = command.clone();
    match command.try_get_matches_from(args) {
        Ok(matches) if matches.value_source(HELP) == Some(clap::parser::ValueSource::CommandLine) => {
            Parsed::Help { deprecated: !args.iter().any(|a| a == "--help") }
        }
        Ok(matches) => Parsed::Matches(matches),
        Err(e) => {
            lookup.build();
            Parsed::BadFlag(describe(&e, &lookup, args))
        }
    }
}

fn count_error(arity: Arity, given: usize) -> Option<String> {
    let plural = |n: usize| if n == 1 { "argument" } else { "arguments" };
    match arity {
        Arity::None if given > 0 => Some("accepts no arguments".to_owned()),
        Arity::Exact(n) if given != n => Some(format!("requires {n} {}", plural(n))),
        Arity::AtLeast(n) if given < n => Some(format!("requires at least {n} {}", plural(n))),
        Arity::AtMost(n) if given > n => Some(format!("requires at most {n} {}", plural(n))),
        Arity::Range(low, high) if given < low || given > high => {
            Some(format!("requires at least {low} and at most {high} {}", plural(high)))
        }
        _ => None,
    }
}

/// A clap error in Docker's words.
fn describe(e: &clap::Error, command: &Command, args: &[OsString]) -> String {
    let text_of = |kind| match e.get(kind) {
        Some(ContextValue::String(s)) => Some(s.clone()),
        Some(ContextValue::Strings(s)) => s.first().cloned(),
        _ => None,
    };
    let shown = text_of(ContextKind::InvalidArg).unwrap_or_default();
    let value = text_of(ContextKind::InvalidValue).unwrap_or_default();
    let flag = find(command, &shown);
    match e.kind() {
        ErrorKind::UnknownArgument => unknown(&shown, args),
        ErrorKind::InvalidValue
        | ErrorKind::NoEquals
        | ErrorKind::TooFewValues
        | ErrorKind::WrongNumberOfValues
            if value.is_empty() =>
        {
            missing_value(flag, &shown, args)
        }
        ErrorKind::ValueValidation | ErrorKind::InvalidValue | ErrorKind::TooManyValues => {
            let reason =
                std::error::Error::source(e).map_or_else(|| "invalid value".to_owned(), ToString::to_string);
            format!(
                "invalid argument {} for {} flag: {reason}",
                text::quote(&value),
                text::quote(&name(flag, &shown))
            )
        }
        _ => e.to_string().lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned(),
    }
}

fn unknown(shown: &str, args: &[OsString]) -> String {
    match shown.strip_prefix('-') {
        Some(short) if !short.starts_with('-') => {
            let letter = short.chars().next().unwrap_or('-');
            // What came before the letter has been understood and is not shown.
            let cluster = args
                .iter()
                .filter_map(|a| a.to_str())
                .find(|a| a.starts_with('-') && !a.starts_with("--") && a.contains(letter))
                .and_then(|a| a.find(letter).map(|at| format!("-{}", &a[at..])))
                .unwrap_or_else(|| shown.to_owned());
            format!("unknown shorthand flag: '{letter}' in {cluster}")
        }
        _ => format!("unknown flag: {}", shown.split('=').next().unwrap_or(shown)),
    }
}

fn missing_value(flag: Option<&Arg>, shown: &str, args: &[OsString]) -> String {
    let last = args.last().and_then(|a| a.to_str()).unwrap_or_default();
    match flag.and_then(Arg::get_short) {
        Some(short) if last.starts_with('-') && !last.starts_with("--") && last.ends_with(short) => {
            format!("flag needs an argument: '{short}' in {last}")
        }
        _ => {
            let long = flag.and_then(Arg::get_long).map_or_else(|| shown.to_owned(), |l| format!("--{l}"));
            format!("flag needs an argument: {long}")
        }
    }
}

/// `-p, --publish`.
fn name(flag: Option<&Arg>, shown: &str) -> String {
    match flag.map(|f| (f.get_short(), f.get_long())) {
        Some((Some(short), Some(long))) => format!("-{short}, --{long}"),
        Some((None, Some(long))) => format!("--{long}"),
        _ => shown.to_owned(),
    }
}

/// The flag clap shows as `--publish <list>` or `-p <list>`.
fn find<'a>(command: &'a Command, shown: &str) -> Option<&'a Arg> {
    let bare = shown.split([' ', '=', '[']).next().unwrap_or(shown);
    command.get_arguments().find(|a| match bare.strip_prefix("--") {
        Some(long) => a.get_long() == Some(long),
        None => {
            bare.strip_prefix('-').and_then(|s| s.chars().next()).is_some_and(|c| a.get_short() == Some(c))
        }
    })
}
