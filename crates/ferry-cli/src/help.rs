//! Help texts in the layout Docker's users know.

use clap::{Arg, Command};

use crate::commands::{GROUPS, HIDDEN, TABLE, UNLISTED};
use crate::plugins::Plugin;
use crate::usage;
use crate::verb::Spec;

/// Columns to wrap at: the terminal's width, or 80.
fn width() -> usize {
    use std::os::fd::AsFd as _;
    if cfg!(test) {
        return 80;
    }
    rustix::termios::tcgetwinsize(std::io::stdin().as_fd())
        .ok()
        .map(|size| usize::from(size.ws_col))
        .filter(|w| *w > 0)
        .unwrap_or(80)
}

/// Help of one command as called under `path`.
pub fn command(prog: &str, path: &str, spec: &Spec) -> String {
    let command = usage::prepare((spec.define)());
    let options = options(&command, prog, "");
    let mut out = format!("Usage:  {}\n\n{}\n", usage_line(prog, path, spec), about(&command, prog));
    if spec.paths.len() > 1 {
        let names: Vec<_> = spec.paths.iter().map(|p| format!("{prog} {p}")).collect();
        out.push_str(&format!("\nAliases:\n  {}\n", names.join(", ")));
    }
    if !options.is_empty() {
        out.push_str(&format!("\nOptions:\n{options}"));
    }
    out
}

/// `docker run [OPTIONS] IMAGE …`; a command of several forms has one per line.
pub fn usage_line(prog: &str, path: &str, spec: &Spec) -> String {
    let path = canonical(path, spec);
    let forms: Vec<_> = spec
        .usage
        .split('\n')
        .map(|form| {
            if form.is_empty() {
                format!("{prog} {path}")
            } else if form.starts_with("cp ") {
                format!("{prog} {form}")
            } else {
                format!("{prog} {path} {form}")
            }
        })
        .collect();
    forms.join("\n\t")
}

/// The name under which a command is listed in the group it was called in.
fn canonical<'a>(path: &'a str, spec: &Spec) -> &'a str
where
    'static: 'a,
{
    let group = |p: &str| p.split_once(' ').map(|(g, _)| g.to_owned());
    spec.paths.iter().copied().find(|p| group(p) == group(path)).unwrap_or(path)
}

/// A command's description.
fn about(command: &Command, prog: &str) -> String {
    let text = command.get_long_about().or_else(|| command.get_about());
    named(&text.map(ToString::to_string).unwrap_or_default(), prog)
}

/// Texts name the program and the product with placeholders, as both depend on how it was called.
pub fn named(text: &str, prog: &str) -> String {
    text.replace("{prog}", prog).replace("{product}", crate::app::product(prog))
}

/// First line of a command's description, for lists of commands.
pub fn summary(spec: &Spec, prog: &str) -> String {
    let command = (spec.define)();
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    named(about.lines().next().unwrap_or_default(), prog)
}

/// Help of a group such as `container`.
pub fn group(prog: &str, name: &str) -> String {
    let about = GROUPS.iter().find(|g| g.0 == name).map_or("", |g| g.1);
    let about = named(about, prog);
    let prefix = format!("{name} ");
    let mut rows: Vec<(String, String)> = Vec::new();
    // As `docker` it has what Docker has.
    let hidden = |path: &&&str| HIDDEN.contains(path) || prog == "docker" && **path == "system check";
    for spec in TABLE {
        let own = spec.paths.iter().filter(|p| !hidden(p)).find_map(|p| p.strip_prefix(prefix.as_str()));
        if let Some(own) = own {
            rows.push((own.to_owned(), summary(spec, prog)));
        }
    }
    rows.sort();
    format!(
        "Usage:  {prog} {name} COMMAND\n\n{about}\n\nCommands:\n{}\nRun '{prog} {name} COMMAND --help' for more information on a command.\n",
        listing(&rows)
    )
}

fn listing(rows: &[(String, String)]) -> String {
    let widest = rows.iter().map(|r| r.0.len()).max().unwrap_or(0).max(11);
    rows.iter().map(|(name, text)| format!("  {name:widest$} {text}\n")).collect()
}

/// Commands people use most, shown first.
const COMMON: [&str; 12] =
    ["run", "exec", "ps", "build", "pull", "push", "images", "login", "logout", "search", "version", "info"];

/// The program's own help.
pub fn overview(prog: &str, globals: &Command, config_dir: &str, plugins: &[Plugin]) -> String {
    let of = |name: &str| TABLE.iter().find(|s| s.paths.contains(&name));
    let row = |name: &str| of(name).map(|s| (name.to_owned(), summary(s, prog)));
    let common: Vec<_> = COMMON.iter().filter_map(|n| row(n)).collect();
    let mut others: Vec<(String, String)> = TABLE
        .iter()
        .flat_map(|s| s.paths)
        .filter(|p| !p.contains(' ') && !COMMON.contains(p) && !UNLISTED.contains(p))
        .filter_map(|p| row(p))
        .collect();
    // What the program is besides a client; as `docker` it is a client only.
    if prog != "docker" {
        others.push(("daemon".to_owned(), "Run the engine and serve the API".to_owned()));
        others.push(("oci".to_owned(), "Run containers of OCI bundles, as runc does".to_owned()));
    }
    others.sort();
    let mut groups: Vec<_> = GROUPS.iter().map(|g| (g.0.to_owned(), named(g.1, prog))).collect();
    let mut invalid = Vec::new();
    for plugin in plugins {
        match &plugin.about {
            Ok(about) if about.hidden => {}
            Ok(about) => groups.push((format!("{}*", plugin.name), about.short_description.clone())),
            Err(reason) => invalid.push((plugin.name.clone(), reason.clone())),
        }
    }
    groups.sort();
    let invalid =
        if invalid.is_empty() { String::new() } else { format!("Invalid Plugins:\n{}\n", listing(&invalid)) };
    let options = options(globals, prog, config_dir);
    let guides = if prog == "docker" {
        "\nFor more help on how to use Docker, head to https://docs.docker.com/go/guides/\n"
    } else {
        ""
    };
    format!(
        "Usage:  {prog} [OPTIONS] COMMAND\n\n{}\n\nCommon Commands:\n{}\nManagement Commands:\n{}\nCommands:\n{}\n{invalid}Global Options:\n{options}\nRun '{prog} COMMAND --help' for more information on a command.\n{guides}",
        about(globals, prog),
        listing(&common),
        listing(&groups),
        listing(&others),
    )
}

/// The option column: `  -f, --flag type   text`, wrapped.
fn options(command: &Command, prog: &str, config_dir: &str) -> String {
    let mut args: Vec<&Arg> =
        command.get_arguments().filter(|a| a.get_long().is_some() && !a.is_hide_set()).collect();
    args.sort_by_key(|a| a.get_long().unwrap_or_default());
    let heads: Vec<String> = args.iter().map(|a| head(a)).collect();
    let indent = heads.iter().map(String::len).max().unwrap_or(0) + 3;
    let width = width().saturating_sub(1);
    let mut out = String::new();
    for (arg, head) in args.iter().zip(&heads) {
        let text =
            arg.get_long_help().or_else(|| arg.get_help()).map(ToString::to_string).unwrap_or_default();
        let text = named(&text, prog).replace("{config}", config_dir);
        out.push_str(&format!("{head:indent$}{}\n", wrap(&text, indent, width)));
    }
    out
}

fn head(arg: &Arg) -> String {
    let long = arg.get_long().unwrap_or_default();
    let short = arg.get_short().map_or("    ".to_owned(), |s| format!("-{s}, "));
    let kind = match usage::is_switch(arg) {
        true => String::new(),
        false => arg.get_value_names().and_then(|n| n.first()).map_or(String::new(), |n| format!(" {n}")),
    };
    format!("  {short}--{long}{kind}")
}

/// Breaks `text` into lines of at most `width` columns, all but the first indented. The last line may
/// be five columns longer, so that no single word is left over; given line breaks stay.
fn wrap(text: &str, indent: usize, width: usize) -> String {
    let (indent, lead) = if width < indent + 24 { (16, true) } else { (indent, false) };
    let pad = format!("\n{}", " ".repeat(indent));
    if width < indent + 24 {
        return text.replace('\n', &pad);
    }
    const SLOP: usize = 5;
    let limit = width - indent - SLOP;
    let mut lines: Vec<&str> = Vec::new();
    let mut rest = text;
    loop {
        if rest.len() < limit + SLOP || !rest.is_char_boundary(limit) {
            lines.push(rest);
            break;
        }
        let window = &rest[..limit];
        let (Some(space), newline) =
            (window.rfind([' ', '\t', '\n']).filter(|at| *at > 0), window.rfind('\n'))
        else {
            lines.push(rest);
            break;
        };
        let at = newline.filter(|n| *n > 0 && *n < space).unwrap_or(space);
        lines.push(&rest[..at]);
        rest = &rest[at + 1..];
        if rest.is_empty() {
            break;
        }
    }
    let body = lines.iter().map(|l| l.replace('\n', &pad)).collect::<Vec<_>>().join(&pad);
    if lead { format!("{pad}{body}") } else { body }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Layout and texts people and scripts know: the snapshots were compared with Docker's own output.
    #[test]
    fn main_commands() {
        for path in ["run", "ps", "exec", "cp", "images", "container inspect"] {
            let spec = TABLE.iter().find(|s| s.paths.contains(&path)).expect(path);
            insta::assert_snapshot!(path.replace(' ', "_"), command("docker", path, spec));
        }
        insta::assert_snapshot!("container", group("docker", "container"));
    }

    #[test]
    fn own_name_is_used() {
        let spec = TABLE.iter().find(|s| s.paths.contains(&"version")).expect("version");
        assert!(command("ferry", "version", spec).contains("Show the Ferry version information"));
        assert!(group("ferry", "system").starts_with("Usage:  ferry system COMMAND\n\nManage Ferry\n"));
    }

    #[test]
    fn narrow_terminals_still_show_everything() {
        assert_eq!(wrap("one two three", 30, 45), "\n                one two three");
        assert_eq!(wrap("a b", 4, 79), "a b");
    }
}
