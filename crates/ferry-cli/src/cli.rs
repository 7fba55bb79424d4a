//! From a command line to a running command: globals, lookup, parsing, errors, exit code.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{Args as _, Command, FromArgMatches as _};

use crate::app::App;
use crate::commands::{GROUPS, TABLE};
use crate::failure::{self, CLIENT_FAILED, FAILED, Failure};
use crate::globals::Globals;
use crate::usage::{self, Parsed};
use crate::verb::{Arity, Spec};
use crate::{completion, help, out, plugins};

/// See [`crate::main`].
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut args = args.into_iter();
    let prog = program_name(args.next());
    let rest: Vec<OsString> = args.collect();
    let code = match dispatch(&prog, &rest) {
        Ok(code) => code,
        Err(failure) => {
            if !failure.message.is_empty() {
                out::note(failure::finish(&failure.message, &prog));
            }
            failure.code
        }
    };
    ExitCode::from(code)
}

/// `docker` when called so, else `ferry`.
fn program_name(arg0: Option<OsString>) -> String {
    let name = arg0.as_deref().map(Path::new).and_then(Path::file_name).and_then(|n| n.to_str());
    if name == Some("docker") { "docker".to_owned() } else { "ferry".to_owned() }
}

fn dispatch(prog: &str, args: &[OsString]) -> Result<u8, Failure> {
    let define = || usage::prepare(Globals::augment_args(Command::new("")));
    let bad_flag = |message: String| {
        let text = format!(
            "{message}\n\nUsage:  {prog} [OPTIONS] COMMAND [ARG...]\n\nRun '{prog} --help' for more information"
        );
        Failure::new(text).with_code(CLIENT_FAILED)
    };
    let overview = |config: Option<&str>| {
        // The defaults are shown as they are without the flag that changes them.
        let dir = crate::config::directory(None);
        let globals = Globals { config: config.map(str::to_owned), ..Globals::default() };
        help::overview(prog, &define(), &dir.to_string_lossy(), &plugins::all(&App::new(prog, globals)))
    };
    let globals = match usage::parse_flags(define(), args) {
        Parsed::Matches(mut m) => {
            Globals::from_arg_matches_mut(&mut m).map_err(|e| bad_flag(e.to_string()))?
        }
        Parsed::Help { .. } => {
            out::print(overview(config_folder(args).as_deref()))?;
            return Ok(0);
        }
        Parsed::BadFlag(message) | Parsed::BadCount(message) => return Err(bad_flag(message)),
    };
    if let [_, second, ..] = globals.host.as_slice() {
        let shown = crate::text::quote(second);
        return Err(bad_flag(format!(
            "invalid argument {shown} for \"-H, --host\" flag: specify only one -H"
        )));
    }
    if globals.version {
        out::println(format!("{} version {}", crate::app::product(prog), env!("CARGO_PKG_VERSION")))?;
        return Ok(0);
    }
    if let Some(level) = &globals.log_level
        && !["trace", "debug", "info", "warn", "warning", "error", "fatal", "panic"].contains(&level.as_str())
    {
        return Err(Failure::new(format!("Unable to parse logging level: {level}")));
    }
    let words = globals.command.clone();
    let Some(first) = words.first().and_then(|w| w.to_str()) else {
        out::note(overview(globals.config.as_deref()).trim_end());
        return Ok(0);
    };
    match first {
        "__complete" => return completion::answer(&App::new(prog, globals), &words[1..], true),
        "__completeNoDesc" => return completion::answer(&App::new(prog, globals), &words[1..], false),
        "completion" => return show_completion(prog, &words[1..]),
        _ => {}
    }
    if first == "help" {
        let text = overview(globals.config.as_deref());
        return show_help(&App::new(prog, globals), &words[1..], args, &text);
    }
    let app = App::new(prog, globals);
    let Some((path, spec, rest)) = find(&words) else {
        if let Some(plugin) = plugins::find(&app, first) {
            return Err(plugins::become_it(&app, &plugin, args));
        }
        return no_such_command(prog, &words);
    };
    // Where the builder is installed, it is what builds.
    let path_words: Vec<&str> = path.split(' ').collect();
    let buildx: &[&str] = match path.as_str() {
        "build" | "image build" | "builder build" => &["buildx", "build"],
        "builder prune" => &["buildx", "prune"],
        _ => &[],
    };
    if !buildx.is_empty()
        && let Some(plugin) = plugins::find(&app, "buildx")
    {
        return Err(plugins::become_it(&app, &plugin, &plugins::replaced(args, &path_words, buildx)));
    }
    execute(app, spec, &path, rest)
}

/// `--config` among arguments whose parsing ended with `--help`.
fn config_folder(args: &[OsString]) -> Option<String> {
    let mut words = args.iter().map(|a| a.to_string_lossy());
    while let Some(word) = words.next() {
        if word == "--config" {
            return words.next().map(std::borrow::Cow::into_owned);
        }
        if let Some(folder) = word.strip_prefix("--config=") {
            return Some(folder.to_owned());
        }
    }
    None
}

/// The command named by the first one or two words, and the remaining ones.
fn find(words: &[OsString]) -> Option<(String, &'static Spec, &[OsString])> {
    let first = words.first()?.to_str()?;
    let is_group = GROUPS.iter().any(|g| g.0 == first);
    let (path, rest) = if is_group {
        (format!("{first} {}", words.get(1)?.to_str()?), &words[2..])
    } else {
        (first.to_owned(), &words[1..])
    };
    let spec = TABLE.iter().find(|s| s.paths.contains(&path.as_str()))?;
    Some((path, spec, rest))
}

/// `completion SHELL`; without a shell it known, its help.
fn show_completion(prog: &str, words: &[OsString]) -> Result<u8, Failure> {
    let words: Vec<&str> = words.iter().filter_map(|w| w.to_str()).collect();
    let shell = words.first().copied().filter(|w| completion::SHELLS.contains(w));
    let Some(shell) = shell else {
        out::print(completion::group_help(prog))?;
        return Ok(0);
    };
    let mut described = true;
    for word in &words[1..] {
        match *word {
            "--no-descriptions" | "--no-descriptions=true" => described = false,
            "--no-descriptions=false" => described = true,
            "--help" | "-h" => {
                out::print(completion::shell_help(prog, shell))?;
                return Ok(0);
            }
            other => {
                return Err(Failure::new(format!(
                    "{prog}: unknown command: {prog} completion {shell} {other}\n\nRun '{prog} completion {shell} --help' for more information"
                )));
            }
        }
    }
    out::print(completion::script(shell, prog, described).unwrap_or_default())?;
    Ok(0)
}

fn show_help(app: &App, words: &[OsString], args: &[OsString], overview: &str) -> Result<u8, Failure> {
    let prog = app.prog.as_str();
    if let Some(name) = words.first().and_then(|w| w.to_str())
        && find(words).is_none()
        && let Some(plugin) = plugins::find(app, name)
    {
        return Err(plugins::become_it(app, &plugin, args));
    }
    let text = match (words.first().and_then(|w| w.to_str()), find(words)) {
        (None, _) => overview.to_owned(),
        (_, Some((path, spec, _))) => help::command(prog, &path, spec),
        (Some(name), None) if GROUPS.iter().any(|g| g.0 == name) => help::group(prog, name),
        (Some(name), None) => return Err(Failure::new(format!("unknown help topic: {name}"))),
    };
    out::print(text)?;
    Ok(0)
}

fn no_such_command(prog: &str, words: &[OsString]) -> Result<u8, Failure> {
    let word = |i: usize| words.get(i).map(|w| w.to_string_lossy().into_owned());
    let first = word(0).unwrap_or_default();
    if !GROUPS.iter().any(|g| g.0 == first) {
        return Err(Failure::new(format!(
            "{prog}: unknown command: {prog} {first}\n\nRun '{prog} --help' for more information"
        )));
    }
    let command = if first == "volume" { " COMMAND" } else { "" };
    match word(1) {
        None => {
            out::note(help::group(prog, &first).trim_end());
            Ok(0)
        }
        Some(flag) if flag == "--help" || flag == "-h" => {
            out::print(help::group(prog, &first))?;
            Ok(0)
        }
        Some(flag) if flag.starts_with("--") => Err(Failure::new(format!(
            "unknown flag: {flag}\n\nUsage:  {prog} {first}\n\nRun '{prog} {first} --help' for more information"
        ))
        .with_code(CLIENT_FAILED)),
        // Go's flag library shows what the group was declared with, and one was declared differently.
        Some(second) => Err(Failure::new(format!(
            "{prog}: unknown command: {prog} {first} {second}\n\nUsage:  {prog} {first}{command}\n\nRun '{prog} {first} --help' for more information"
        ))),
    }
}

fn execute(app: App, spec: &'static Spec, path: &str, args: &[OsString]) -> Result<u8, Failure> {
    let prog = app.prog.clone();
    let called = format!("{prog} {path}");
    let usage_line = help::usage_line(&prog, path, spec);
    let matches = match usage::parse(spec, &called, args) {
        Parsed::Matches(matches) => matches,
        Parsed::Help { deprecated } => {
            if deprecated {
                out::println("Flag shorthand -h has been deprecated, use --help")?;
            }
            out::print(help::command(&prog, path, spec))?;
            return Ok(0);
        }
        Parsed::BadFlag(message) => {
            let text =
                format!("{message}\n\nUsage:  {usage_line}\n\nRun '{called} --help' for more information");
            return Err(Failure::new(text).with_code(CLIENT_FAILED));
        }
        Parsed::BadCount(message) => {
            if spec.bare_count {
                return Err(Failure::new(message));
            }
            let verb = if matches!(spec.arity, Arity::AtLeast(_)) { "See" } else { "Run" };
            return Err(Failure::new(format!(
                "{prog}: {message}\n\nUsage:  {usage_line}\n\n{verb} '{called} --help' for more information"
            )));
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new(format!("cannot start: {}", crate::text::io_reason(&e))))?;
    let result = runtime.block_on((spec.start)(&app, matches));
    // A thread blocked in a read of stdin must not keep the program alive.
    runtime.shutdown_background();
    result.map_err(|mut failure| {
        if spec.run_style_errors && failure.code >= CLIENT_FAILED && !failure.message.is_empty() {
            failure.message =
                format!("{prog}: {}\n\nRun '{called} --help' for more information", failure.message);
        }
        if failure.code == 0 {
            failure.code = FAILED;
        }
        failure
    })
}
