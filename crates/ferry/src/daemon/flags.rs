//! The command line, read as Docker's flag package (pflag) reads it, and the text of `--help`.

use super::directives::{DIRECTIVES, Directive, Kind, by_flag, by_short};
use super::values::Values;

/// Column at which `--help` explains flags, and where its lines end.
const COLUMN: usize = 46;
const WIDTH: usize = 80;

/// Reads the arguments after the program's name.
///
/// # Errors
/// What is wrong with them, in Docker's words.
pub fn parse(args: &[String]) -> Result<Values, String> {
    let mut values = Values::default();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if let Some(long) = arg.strip_prefix("--") {
            let (name, value) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (long, None),
            };
            let directive = by_flag(name).ok_or_else(|| format!("unknown flag: --{name}"))?;
            let value = match value {
                Some(value) => value,
                None if directive.kind == Kind::Bool => "true".to_owned(),
                None => rest.next().ok_or_else(|| format!("flag needs an argument: --{name}"))?.clone(),
            };
            set(&mut values, directive, &value)?;
        } else if let Some(letters) = arg.strip_prefix('-').filter(|l| !l.is_empty()) {
            shorts(letters, &mut values, &mut rest)?;
        } else {
            return Err(format!("\"dockerd\" accepts no arguments, but {arg:?} was given"));
        }
    }
    Ok(values)
}

/// One-letter flags that share a dash.
fn shorts<'a>(
    letters: &str,
    values: &mut Values,
    rest: &mut impl Iterator<Item = &'a String>,
) -> Result<(), String> {
    for (at, letter) in letters.char_indices() {
        let directive =
            by_short(letter).ok_or_else(|| format!("unknown shorthand flag: '{letter}' in -{letters}"))?;
        let after = &letters[at + letter.len_utf8()..];
        if let Some(value) = after.strip_prefix('=') {
            return set(values, directive, value);
        }
        if directive.kind == Kind::Bool {
            set(values, directive, "true")?;
            continue;
        }
        let value = match after {
            "" => rest.next().ok_or_else(|| format!("flag needs an argument: '{letter}' in -{letters}"))?,
            after => after,
        };
        return set(values, directive, value);
    }
    Ok(())
}

fn set(values: &mut Values, directive: &'static Directive, text: &str) -> Result<(), String> {
    let shown = directive.shown();
    values
        .add_flag(directive, text)
        .map_err(|why| format!("invalid argument {text:?} for {shown:?} flag: {why}"))
}

/// The text of `--help`.
pub fn usage(program: &str) -> String {
    let mut out = format!(
        "\nUsage:\t{program} [OPTIONS]\n\nRuns containers, and serves the Docker Engine API.\n\nOptions:\n"
    );
    for directive in DIRECTIVES.iter().filter(|d| !d.help.is_empty() && !d.flag.is_empty()) {
        let short = directive.short.map_or("    ".to_owned(), |s| format!("-{s}, "));
        let head = format!("  {short}--{} {}", directive.flag, directive.value);
        let mut line = format!("{:COLUMN$}", head.trim_end());
        if line.len() > COLUMN {
            line.push_str("  ");
        }
        for word in directive.help.split(' ') {
            if line.len() + word.len() > WIDTH && !line.trim().is_empty() {
                out.push_str(line.trim_end());
                out.push('\n');
                line = " ".repeat(COLUMN);
            }
            line.push_str(word);
            line.push(' ');
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(args: &[&str]) -> Result<Values, String> {
        parse(&args.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn forms_of_flags() {
        let values = of(&[
            "-D",
            "-H",
            "unix:///a",
            "-Htcp://b",
            "--host=fd://",
            "-l=warn",
            "--icc=false",
            "--mtu",
            "9000",
        ])
        .unwrap();
        assert_eq!(values.list("hosts"), ["unix:///a", "tcp://b", "fd://"]);
        assert_eq!((values.flag("debug"), values.flag("icc")), (Some(true), Some(false)));
        assert_eq!((values.text("log-level"), values.int("mtu")), (Some("warn".to_owned()), Some(9000)));
    }

    #[test]
    fn mistakes() {
        for (args, expected) in [
            (&["--foo"][..], "unknown flag: --foo"),
            (&["-Z"], "unknown shorthand flag: 'Z' in -Z"),
            (&["--mtu"], "flag needs an argument: --mtu"),
            (&["-H"], "flag needs an argument: 'H' in -H"),
            (
                &["--mtu=x"],
                "invalid argument \"x\" for \"--mtu\" flag: strconv.ParseInt: parsing \"x\": invalid syntax",
            ),
            (&["extra"], "\"dockerd\" accepts no arguments, but \"extra\" was given"),
        ] {
            assert_eq!(of(args).err().as_deref(), Some(expected));
        }
    }

    #[test]
    fn help_fits_eighty_columns() {
        let text = usage("dockerd");
        assert!(text.contains("\n  -b, --bridge string"), "{text}");
        assert!(text.lines().all(|line| line.len() <= WIDTH), "{text}");
    }
}
