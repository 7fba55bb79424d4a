//! Words of Dockerfile instructions: splitting at blanks outside of quotes, and expansion of variables,
//! quotes and escapes.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::str::Chars;

use super::InstructionError;

/// Splits at blanks; quotes and escapes stay in the words.
pub(super) fn split(text: &str) -> Result<Vec<String>, InstructionError> {
    let (mut words, mut word) = (Vec::new(), String::new());
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, c) if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            (None | Some('"'), '\\') => {
                word.push(c);
                word.extend(chars.next());
                continue;
            }
            _ => {}
        }
        word.push(c);
    }
    if quote.is_some() {
        return Err(unclosed(text));
    }
    if !word.is_empty() {
        words.push(word);
    }
    Ok(words)
}

fn unclosed(word: &str) -> InstructionError {
    InstructionError::Word {
        word: word.to_owned(),
        reason: "unexpected end of statement while looking for matching quote",
    }
}

/// Removes quotes and escapes, and replaces `$X`, `${X}`, `${X:-default}` and `${X:+alternative}`.
pub(super) fn expand(word: &str, env: &BTreeMap<String, String>) -> Result<String, InstructionError> {
    nested(word, env, 0)
}

/// Deepest nesting of `${X:-${Y:-…}}`.
const DEPTH_MAX: u32 = 32;

fn nested(word: &str, env: &BTreeMap<String, String>, depth: u32) -> Result<String, InstructionError> {
    if depth > DEPTH_MAX {
        let reason = "substitutions are nested too deeply";
        return Err(InstructionError::Word { word: word.to_owned(), reason });
    }
    let mut out = String::new();
    let mut quote = None;
    let mut chars = word.chars().peekable();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            (Some('\''), c) => out.push(c),
            (_, '$') => variable(&mut chars, env, word, depth, &mut out)?,
            (None, '\\') => out.extend(chars.next()),
            // Within double quotes only these are escapes.
            (Some(_), '\\') => match chars.next_if(|n| matches!(n, '"' | '$' | '\\')) {
                Some(escaped) => out.push(escaped),
                None => out.push('\\'),
            },
            (_, c) => out.push(c),
        }
    }
    if quote.is_some() { Err(unclosed(word)) } else { Ok(out) }
}

fn variable(
    chars: &mut Peekable<Chars<'_>>,
    env: &BTreeMap<String, String>,
    word: &str,
    level: u32,
    out: &mut String,
) -> Result<(), InstructionError> {
    let braced = chars.next_if_eq(&'{').is_some();
    let mut name = String::new();
    while let Some(c) = chars.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
        name.push(c);
    }
    let value = env.get(&name);
    if !braced {
        if name.is_empty() {
            out.push('$');
        }
        out.extend(value.map(String::as_str));
        return Ok(());
    }
    let bad = |reason| InstructionError::Word { word: word.to_owned(), reason };
    if name.is_empty() {
        return Err(bad("bad substitution"));
    }
    match chars.next() {
        Some('}') => {
            out.extend(value.map(String::as_str));
            Ok(())
        }
        Some(':') => {
            let operator = chars.next();
            let mut other = String::new();
            let mut depth = 1;
            loop {
                match chars.next().ok_or_else(|| bad("missing ':' or '}' in substitution"))? {
                    '}' if depth == 1 => break,
                    c => {
                        depth += i32::from(c == '{') - i32::from(c == '}');
                        other.push(c);
                    }
                }
            }
            let set = value.is_some_and(|v| !v.is_empty());
            match (operator, set) {
                (Some('-'), true) => out.extend(value.map(String::as_str)),
                (Some('-'), false) | (Some('+'), true) => out.push_str(&nested(&other, env, level + 1)?),
                (Some('+'), false) => {}
                _ => return Err(bad("unsupported modifier in substitution")),
            }
            Ok(())
        }
        _ => Err(bad("missing ':' or '}' in substitution")),
    }
}
