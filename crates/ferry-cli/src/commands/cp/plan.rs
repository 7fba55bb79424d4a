//! Where things go: Docker's rules for copying files and directories to paths that exist or do not.
//! Pure; nothing here looks at a file system.

use crate::failure::Failure;

/// One side of a copy.
#[derive(Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// A path on this host, or `-`.
    Local(&'a str),
    /// `NAME:PATH`.
    Container { name: &'a str, path: &'a str },
}

impl<'a> Place<'a> {
    /// A colon makes a container's path of everything but absolute paths and those that start with a
    /// dot.
    pub fn parse(text: &'a str) -> Self {
        if text.starts_with(['/', '.']) {
            return Self::Local(text);
        }
        match text.split_once(':') {
            Some((name, path)) if !name.is_empty() => Self::Container { name, path },
            _ => Self::Local(text),
        }
    }
}

/// What is copied.
#[derive(Debug)]
pub struct Source {
    /// Last component of its name.
    pub base: String,
    pub is_dir: bool,
    /// Written `DIR/.`: what is in it, not itself.
    pub contents: bool,
}

/// Where it is to go.
#[derive(Debug)]
pub struct Destination<'a> {
    pub path: &'a str,
    pub exists: bool,
    pub is_dir: bool,
}

/// The directory to unpack in, and the name the copied thing gets there (`.` for its contents).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub dir: String,
    pub name: String,
}

/// Decides.
///
/// # Errors
/// Docker's text for a directory onto a file, or a file into a directory that does not exist.
pub fn target(source: &Source, destination: &Destination<'_>) -> Result<Target, Failure> {
    let asserts_dir = destination.path.ends_with('/') || means_contents(destination.path);
    let beside = || Target { dir: parent(destination.path), name: base(destination.path).to_owned() };
    match (destination.exists, destination.is_dir) {
        (true, true) => {
            let name = if source.contents && source.is_dir { "." } else { &source.base };
            Ok(Target { dir: destination.path.to_owned(), name: name.to_owned() })
        }
        (true, false) if source.is_dir => Err(Failure::new("cannot copy directory")),
        (true, false) if asserts_dir => Err(Failure::new("not a directory")),
        (true, false) => Ok(beside()),
        (false, _) if !source.is_dir && asserts_dir => Err(Failure::new("no such directory")),
        (false, _) => Ok(beside()),
    }
}

/// Whether a path is written `DIR/.`.
pub fn means_contents(path: &str) -> bool {
    path == "." || path.ends_with("/.")
}

/// The last component, without trailing slashes and dots.
pub fn base(path: &str) -> &str {
    let trimmed = trim(path);
    let name = trimmed.rsplit('/').next().unwrap_or(trimmed);
    if name.is_empty() { "/" } else { name }
}

/// Everything before the last component.
fn parent(path: &str) -> String {
    match trim(path).rsplit_once('/') {
        Some(("", _)) => "/".to_owned(),
        Some((dir, _)) => dir.to_owned(),
        None => ".".to_owned(),
    }
}

/// A local path from the root on; a slash or `/.` at its end stays.
pub fn absolute(path: &str) -> String {
    let mut absolute = crate::opts::mount::absolute(path);
    if means_contents(path) {
        absolute.push_str("/.");
    } else if path.ends_with('/') && absolute != "/" {
        absolute.push('/');
    }
    absolute
}

/// A path without slashes and dots at its end.
pub fn trim(path: &str) -> &str {
    let mut path = path;
    loop {
        let shorter = path.strip_suffix("/.").unwrap_or(path).trim_end_matches('/');
        if shorter == path || shorter.is_empty() {
            return if shorter.is_empty() { "/" } else { path };
        }
        path = shorter;
    }
}

/// A path in a container, which is relative to its root.
pub fn container_path(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

/// Where a symlink at `path` leads.
pub fn follow(path: &str, link: &str) -> String {
    if link.starts_with('/') {
        link.to_owned()
    } else {
        format!("{}/{link}", parent(path).trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides() {
        assert_eq!(Place::parse("c:/x"), Place::Container { name: "c", path: "/x" });
        for local in ["/a:b", "./a:b", "x", "-", ":x"] {
            assert_eq!(Place::parse(local), Place::Local(local));
        }
    }

    #[test]
    fn rules() {
        let plan = |from: &str, is_dir: bool, to: &str, exists: bool, to_dir: bool| {
            let source = Source { base: base(from).to_owned(), is_dir, contents: means_contents(from) };
            target(&source, &Destination { path: to, exists, is_dir: to_dir })
                .map(|t| format!("{} {}", t.dir, t.name))
                .map_err(|e| e.message)
        };
        for (from, is_dir, to, exists, to_dir, want) in [
            ("/a/f", false, "/d", true, true, "/d f"),
            ("/a/f", false, "/d/g", false, false, "/d g"),
            ("/a/f", false, "/d/g", true, false, "/d g"),
            ("/a/x", true, "/d", true, true, "/d x"),
            ("/a/x/.", true, "/d", true, true, "/d ."),
            ("/a/x", true, "/d/y", false, false, "/d y"),
            ("/a/x", true, "/d/y/", false, false, "/d y"),
            ("f", false, "g", false, false, ". g"),
        ] {
            assert_eq!(plan(from, is_dir, to, exists, to_dir).unwrap(), want, "{from} -> {to}");
        }
        assert_eq!(plan("/a/x", true, "/f", true, false).unwrap_err(), "cannot copy directory");
        assert_eq!(plan("/a/f", false, "/d/", false, false).unwrap_err(), "no such directory");
        assert_eq!(plan("/a/f", false, "/d/", true, false).unwrap_err(), "not a directory");
    }

    #[test]
    fn links() {
        assert_eq!(follow("/a/l", "b"), "/a/b");
        assert_eq!(follow("/l", "/etc/x"), "/etc/x");
        assert_eq!(follow("/l", "x"), "/x");
    }
}
