//! JSON text laid out as Go's encoder does.

use serde_json::Value;

/// Lays valid JSON out over several lines, keeping the order of fields and the spelling of numbers,
/// which a parsed value would lose.
pub fn indent(text: &str, prefix: &str, step: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut escaped = false;
    let newline = |out: &mut String, depth: usize| {
        out.push('\n');
        out.push_str(prefix);
        for _ in 0..depth {
            out.push_str(step);
        }
    };
    let mut pending_open = false;
    for c in text.chars() {
        if in_string {
            out.push(c);
            match (escaped, c) {
                (true, _) => escaped = false,
                (false, '\\') => escaped = true,
                (false, '"') => in_string = false,
                _ => {}
            }
            continue;
        }
        if c.is_ascii_whitespace() {
            continue;
        }
        if pending_open && !matches!(c, '}' | ']') {
            depth += 1;
            newline(&mut out, depth);
        }
        match c {
            '{' | '[' => {
                out.push(c);
                pending_open = true;
                continue;
            }
            '}' | ']' => {
                if !pending_open {
                    depth = depth.saturating_sub(1);
                    newline(&mut out, depth);
                }
                out.push(c);
            }
            ',' => {
                out.push(c);
                newline(&mut out, depth);
            }
            ':' => out.push_str(": "),
            '"' => {
                in_string = true;
                out.push(c);
            }
            c => out.push(c),
        }
        pending_open = false;
    }
    out
}

/// Valid JSON on one line, keeping the order of fields and the spelling of numbers.
pub fn squeeze(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut in_string, mut escaped) = (false, false);
    for c in text.chars() {
        if in_string || !c.is_ascii_whitespace() {
            out.push(c);
        }
        match c {
            '"' if !escaped => in_string = !in_string,
            _ => {}
        }
        escaped = in_string && c == '\\' && !escaped;
    }
    out
}

/// A value on one line, with `<`, `>` and `&` escaped as Go's encoder does by default.
pub fn compact(value: &Value) -> String {
    let text = value.to_string();
    if !text.contains(['<', '>', '&']) {
        return text;
    }
    text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_keeps_blanks_in_strings() {
        assert_eq!(squeeze("{ \"a b\" : [ 1.50 , \"x \\\" y\" ] }\n"), r#"{"a b":[1.50,"x \" y"]}"#);
    }

    #[test]
    fn layout_keeps_order_and_numbers() {
        let got = indent(r#"{"b":[1.50,{}],"a":"x: {,\" y","c":[],"d":{ "e" : null }}"#, "", "    ");
        let want = "{\n    \"b\": [\n        1.50,\n        {}\n    ],\n    \"a\": \"x: {,\\\" y\",\n    \"c\": [],\n    \"d\": {\n        \"e\": null\n    }\n}";
        assert_eq!(got, want);
    }
}
