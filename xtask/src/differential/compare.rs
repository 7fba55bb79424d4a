//! What differs between two outcomes of the same command.

use similar::{ChangeTag, TextDiff};

use super::mask::Masks;
use super::script::Look;

/// What a command did.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    pub stdout: String,
    pub stderr: String,
    pub code: i32,
}

/// One outcome as lines: `out: …`, `err: …`, `code: N`.
pub fn lines(
    outcome: &Outcome,
    look: Look,
    masks: &Masks,
    paths: &[(String, &str)],
    own: bool,
) -> Vec<String> {
    let mut all = vec![format!("code: {}", outcome.code)];
    if look.code_only {
        return all;
    }
    for (name, text) in [("out", &outcome.stdout), ("err", &outcome.stderr)] {
        let masked = masks.apply(text, look, paths, own);
        let mut lines: Vec<String> = masked.split('\n').map(|l| format!("{name}: {l}")).collect();
        // The empty piece behind the last newline is no line; its absence is a difference.
        if masked.is_empty() || masked.ends_with('\n') {
            lines.pop();
        } else if let Some(last) = lines.last_mut() {
            last.push_str(" (no newline)");
        }
        if look.sort {
            lines.sort();
        }
        all.extend(lines);
    }
    all
}

/// Lines only the reference has (`-`) and lines only ferry has (`+`).
pub fn differences(reference: &[String], ferry: &[String]) -> Vec<String> {
    let (reference, ferry): (Vec<&str>, Vec<&str>) =
        (reference.iter().map(String::as_str).collect(), ferry.iter().map(String::as_str).collect());
    TextDiff::from_slices(&reference, &ferry)
        .iter_all_changes()
        .filter_map(|change| match change.tag() {
            ChangeTag::Equal => None,
            ChangeTag::Delete => Some(format!("-{}", change.value())),
            ChangeTag::Insert => Some(format!("+{}", change.value())),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(stdout: &str, code: i32, look: Look) -> Vec<String> {
        let outcome = Outcome { stdout: stdout.to_owned(), stderr: String::new(), code };
        lines(&outcome, look, &Masks::new().unwrap(), &[], false)
    }

    #[test]
    fn streams_codes_and_missing_newlines_count() {
        let plain = Look::default();
        assert!(differences(&of("a\nb\n", 0, plain), &of("a\nb\n", 0, plain)).is_empty());
        assert_eq!(
            differences(&of("a\n", 0, plain), &of("b\n", 1, plain)),
            ["-code: 0", "-out: a", "+code: 1", "+out: b"]
        );
        assert_eq!(differences(&of("a\n", 0, plain), &of("a", 0, plain)).len(), 2);
    }

    #[test]
    fn order_counts_unless_it_is_said_not_to() {
        let sorted = Look { sort: true, ..Look::default() };
        assert!(differences(&of("a\nb\n", 0, sorted), &of("b\na\n", 0, sorted)).is_empty());
        assert!(
            !differences(&of("a\nb\n", 0, Look::default()), &of("b\na\n", 0, Look::default())).is_empty()
        );
    }
}
