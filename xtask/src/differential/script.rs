//! Files of cases: one shell command per line, run in order with what the earlier ones left behind.
//!
//! ```text
//! # a comment
//! docker create --name a busybox true
//! @sort,size docker ps -a --size
//! @setup docker pull …
//! ```
//!
//! `docker` is whichever client is under test. Words behind `@` say how to look at the outcome: `sort`
//! (order does not count), `size` (sizes are masked), `num` (all numbers are), `id` (names an engine
//! makes up are), `setup` (only run, not compared), `code` (only the exit code counts). A line that ends
//! in a backslash goes on with the next.

use std::path::Path;

use anyhow::{Context, Result, bail};

/// How a step's outcome is looked at.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    pub sort: bool,
    pub size: bool,
    pub num: bool,
    pub names: bool,
    pub code_only: bool,
    pub setup: bool,
}

/// One command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Line of the file, counted from one.
    pub line: usize,
    pub command: String,
    pub look: Look,
}

/// One file of cases.
#[derive(Debug)]
pub struct Script {
    pub name: String,
    pub steps: Vec<Step>,
}

/// Reads all files of `dir` whose names contain one of `filter`, in order of their names.
pub fn load(dir: &Path, filter: &[String]) -> Result<Vec<Script>> {
    let entries = std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let mut scripts = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_stem().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let is_case = path.extension().is_some_and(|e| e == "case");
        if !is_case || !(filter.is_empty() || filter.iter().any(|f| name.contains(f.as_str()))) {
            continue;
        }
        let text = std::fs::read_to_string(&path)?;
        let steps = parse(&text).with_context(|| format!("in {}", path.display()))?;
        scripts.push(Script { name, steps });
    }
    scripts.sort_by(|a, b| a.name.cmp(&b.name));
    if scripts.is_empty() {
        bail!("no file of cases in {} has such a name", dir.display());
    }
    Ok(scripts)
}

fn parse(text: &str) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (at, line) in text.lines().enumerate() {
        let (number, line) = match open.take() {
            Some((number, begun)) => (number, format!("{begun}{}", line.trim_start())),
            None if line.trim().is_empty() || line.starts_with('#') => continue,
            None => (at + 1, line.to_owned()),
        };
        if let Some(begun) = line.strip_suffix('\\') {
            open = Some((number, begun.to_owned()));
            continue;
        }
        steps.push(step(number, &line)?);
    }
    if let Some((number, _)) = open {
        bail!("line {number} goes on behind the end of the file");
    }
    Ok(steps)
}

fn step(line: usize, text: &str) -> Result<Step> {
    let mut look = Look::default();
    let mut command = text;
    if let Some(rest) = text.strip_prefix('@') {
        let (words, rest) = rest.split_once(' ').with_context(|| format!("line {line} has no command"))?;
        for word in words.split(',') {
            match word {
                "sort" => look.sort = true,
                "size" => look.size = true,
                "num" => look.num = true,
                "id" => look.names = true,
                "code" => look.code_only = true,
                "setup" => look.setup = true,
                other => bail!("line {line}: nobody knows what @{other} means"),
            }
        }
        command = rest;
    }
    Ok(Step { line, command: command.trim().to_owned(), look })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_directives_and_continuations() {
        let steps = parse("# x\n\n@sort,size docker ps \\\n   -a\ndocker rm a\n").unwrap();
        assert_eq!(steps.len(), 2);
        assert_eq!((steps[0].line, steps[0].command.as_str()), (3, "docker ps -a"));
        assert!(steps[0].look.sort && steps[0].look.size && !steps[0].look.num);
        assert_eq!(steps[1].look, Look::default());
        assert!(parse("@nonsense docker ps").is_err());
        assert!(parse("docker ps \\").is_err());
    }
}
