//! Environment variables and labels from flags and files.

use crate::text;

/// Variables of `--env-file`s, then of `-e`s. A name without a value takes the client's own one; when
/// the client has none, a file's line is left out and a flag's name is sent bare.
///
/// # Errors
/// When a file cannot be read or a line is malformed.
pub fn variables(files: &[String], flags: &[String]) -> Result<Vec<String>, String> {
    let mut all = Vec::new();
    for path in files {
        let content = read(path)?;
        for line in file_lines(&content) {
            if let Some((name, _)) = line.split_once('=') {
                check_name(name, line, path)?;
                all.push(line.to_owned());
            } else {
                check_name(line, line, path)?;
                all.extend(from_environment(line));
            }
        }
    }
    for flag in flags {
        // A bare name the client does not have either asks for the image's variable to be removed.
        let own = if flag.contains('=') { None } else { from_environment(flag) };
        all.push(own.unwrap_or_else(|| flag.clone()));
    }
    Ok(all)
}

/// Checks one `-e` value.
///
/// # Errors
/// Docker's text for a missing name.
pub fn check_flag(value: &str) -> Result<String, String> {
    if value.is_empty() || value.starts_with('=') {
        return Err(format!("invalid environment variable: {value}"));
    }
    Ok(value.to_owned())
}

/// Labels of `--label-file`s, then of `-l`s: a label without `=` has an empty value.
///
/// # Errors
/// As [`variables`].
pub fn labels(
    files: &[String],
    flags: &[String],
) -> Result<serde_json::Map<String, serde_json::Value>, String> {
    let mut all = serde_json::Map::new();
    let mut add = |text: &str| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        all.insert(key.to_owned(), value.into());
    };
    for path in files {
        let content = read(path)?;
        for line in file_lines(&content) {
            check_name(line.split_once('=').map_or(line, |(name, _)| name), line, path)?;
            // A bare name stands for a variable of the client's, as in a file of variables.
            match line.contains('=') {
                true => add(line),
                false => from_environment(line).iter().for_each(|l| add(l)),
            }
        }
    }
    flags.iter().for_each(|f| add(f));
    Ok(all)
}

fn from_environment(name: &str) -> Option<String> {
    std::env::var(name).ok().map(|value| format!("{name}={value}"))
}

fn read(path: &str) -> Result<String, String> {
    let bytes = std::fs::read(path).map_err(|e| text::open_error(path, &e))?;
    let content =
        String::from_utf8(bytes).map_err(|_| format!("env file {path} contains invalid utf8 bytes"))?;
    Ok(content.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(content))
}

fn file_lines(content: &str) -> impl Iterator<Item = &str> {
    content.lines().map(str::trim_start).filter(|l| !l.is_empty() && !l.starts_with('#'))
}

fn check_name(name: &str, line: &str, path: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err(format!("invalid env file ({path}): no variable name on line '{line}'"));
    }
    if name.contains(char::is_whitespace) {
        return Err(format!("invalid env file ({path}): variable '{name}' contains whitespaces"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_before_flags() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("env");
        std::fs::write(&path, "# note\n\n  A=1 2\nB=\nFERRY_TEST_UNSET_NAME\nHOME\n").unwrap();
        let file = path.to_string_lossy().into_owned();
        let got = variables(&[file], &["C=3".to_owned(), "FERRY_TEST_UNSET_NAME".to_owned()]).unwrap();
        assert_eq!(got[..2], ["A=1 2", "B="]);
        assert_eq!(got[got.len() - 2..], ["C=3", "FERRY_TEST_UNSET_NAME"]);
        assert_eq!(got.iter().filter(|v| v.starts_with("FERRY_TEST")).count(), 1);
    }

    #[test]
    fn malformed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("env");
        let file = path.to_string_lossy().into_owned();
        for (content, want) in
            [("=x", "no variable name on line '=x'"), ("a b=c", "'a b' contains whitespaces")]
        {
            std::fs::write(&path, content).unwrap();
            assert!(variables(std::slice::from_ref(&file), &[]).unwrap_err().ends_with(want));
        }
        assert_eq!(
            variables(&["/nope".to_owned()], &[]).unwrap_err(),
            "open /nope: no such file or directory"
        );
        assert_eq!(check_flag("=x").unwrap_err(), "invalid environment variable: =x");
    }

    #[test]
    fn labels_without_value() {
        let got = labels(&[], &["a".to_owned(), "b=c=d".to_owned()]).unwrap();
        assert_eq!(serde_json::Value::Object(got), serde_json::json!({"a": "", "b": "c=d"}));
    }
}
