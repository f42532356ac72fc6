//! Regular expressions are written in Go's dialect (RE2) and run in Rust's. They mean the same after a few rewrites: Go's `\d`,
//! `\s`, `\w` and `\b` are of ASCII; Go has `\Q…\E`; and within brackets, `[`, `&&`, `--` and `~~` are only characters.

use regex::RegexBuilder;

use crate::ast::Pattern;
use crate::limits::PATTERN_BYTES_MAX;

/// Compiles a pattern that matches whole texts.
///
/// # Errors
/// What is wrong with it, as Rust's dialect says it, in one line.
pub(crate) fn compile(source: &str) -> Result<Pattern, String> {
    let translated = translate(source);
    let build = |pattern: &str| RegexBuilder::new(pattern).size_limit(PATTERN_BYTES_MAX).dfa_size_limit(PATTERN_BYTES_MAX).build();
    // On its own first, for `a)|(b` would make use of the brackets around it.
    let alone = if source.contains(')') { build(&translated).map(drop) } else { Ok(()) };
    match alone.and_then(|()| build(&format!("^(?s:{translated})$"))) {
        Ok(regex) => Ok(Pattern { source: source.to_owned(), regex }),
        Err(error) => {
            let text = error.to_string();
            Err(text.lines().last().unwrap_or_default().trim_start_matches("error: ").trim_end_matches('.').to_owned())
        }
    }
}

fn translate(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut chars = source.chars().peekable();
    let mut in_brackets = false;
    while let Some(char) = chars.next() {
        match char {
            '\\' if !in_brackets && chars.peek() == Some(&'Q') => {
                chars.next();
                let mut literal = String::new();
                while let Some(char) = chars.next() {
                    if char == '\\' && chars.next_if_eq(&'E').is_some() {
                        break;
                    }
                    literal.push(char);
                }
                out.push_str(&regex::escape(&literal));
            }
            '\\' => match chars.next() {
                Some(class @ ('d' | 'D' | 's' | 'S' | 'w' | 'W')) => out.push_str(ascii(class)),
                Some(edge @ ('b' | 'B')) if !in_brackets => {
                    out.push_str("(?-u:\\");
                    out.push(edge);
                    out.push(')');
                }
                Some(escaped) => out.extend(['\\', escaped]),
                None => out.push('\\'),
            },
            '[' if in_brackets && chars.peek() != Some(&':') => out.push_str("\\["),
            '[' if in_brackets => {
                // A class such as `[:alpha:]`, whose brackets are no end.
                out.push('[');
                for inner in chars.by_ref() {
                    out.push(inner);
                    if inner == ']' {
                        break;
                    }
                }
            }
            '[' => {
                in_brackets = true;
                out.push('[');
                if chars.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
                // Directly after the opening, `]` is a character.
                if chars.next_if_eq(&']').is_some() {
                    out.push_str("\\]");
                }
            }
            ']' if in_brackets => {
                in_brackets = false;
                out.push(']');
            }
            '&' | '~' if in_brackets => out.extend(['\\', char]),
            '-' if in_brackets && chars.peek() == Some(&'-') => {
                chars.next();
                out.push_str("-\\-");
            }
            _ => out.push(char),
        }
    }
    out
}

fn ascii(class: char) -> &'static str {
    match class {
        'd' => "[0-9]",
        'D' => "[^0-9]",
        's' => "[\\t\\n\\x0C\\r ]",
        'S' => "[^\\t\\n\\x0C\\r ]",
        'w' => "[0-9A-Za-z_]",
        _ => "[^0-9A-Za-z_]",
    }
}

#[cfg(test)]
mod tests {
    use super::compile;

    /// Scenario: patterns of Go's dialect that Rust's would read otherwise. Guarantee: they match what they match in Go.
    #[test]
    fn go_patterns() {
        for (pattern, matches, differs) in [
            ("a|b", &["a", "b"][..], &["ab", "xa"][..]),
            ("a.b", &["a\nb", "axb"], &["ab"]),
            (r"\d+", &["123"], &["١٢", ""]),
            (r"[\d-]+", &["1-2"], &["a"]),
            (r"\w", &["a", "_"], &["é"]),
            (r"\W", &["é"], &["a"]),
            (r"\s", &[" ", "\n"], &["\u{a0}", "\x0b"]),
            (r"\Qa.b\E+", &["a.b", "a.bb"], &["axb"]),
            (r"\Q(", &["("], &[""]),
            ("[[]", &["["], &["]"]),
            ("[]a]", &["]", "a"], &["[", ""]),
            ("[^]a]", &["b"], &["]"]),
            ("[a&&b]", &["a", "&"], &["c"]),
            ("[a~~b]", &["a", "~"], &["c"]),
            ("[+--]", &["+", ",", "-"], &["a"]),
            ("[[:alpha:]1]", &["a", "1"], &["é", ":"]),
            (r"x\b.*", &["x y"], &["xy"]),
            ("(?i)shop", &["SHOP"], &["s"]),
            ("", &[""], &["a"]),
        ] {
            let compiled = compile(pattern).unwrap();
            for text in matches {
                assert!(compiled.regex.is_match(text), "{pattern} {text:?}");
            }
            for text in differs {
                assert!(!compiled.regex.is_match(text), "{pattern} {text:?}");
            }
        }
        for wrong in ["(", "a)", "a)|(b", "[a", "a{2", "*", r"\C", "(?=a)", "(a{1000}){1000}"] {
            // `a{2` is text in Go; Rust wants it escaped, and says so.
            assert!(compile(wrong).is_err(), "{wrong}");
        }
    }
}
