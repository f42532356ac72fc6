//! What a query that is still being typed says for certain.
//!
//! Whoever picks a value wants those that go with what is written already: of `{ .a = 1 && .b = }` the spans that `{ .a = 1 }` finds.
//! What is not understood narrows nothing, so that no value is missing from the list.

use crate::ast::{Body, FieldExpr, Query, SpansetExpr, Stage};
use crate::lexer::tokens_before_error;

impl Query {
    /// The filter of the finished conditions in the one filter of a text, finished or not; none if there are none, and if the text has
    /// several filters. It finds every span that any way to finish the conditions would find, as far as only `&&` follows.
    pub fn lenient(text: &str) -> Option<Query> {
        let certain: Vec<&str> = parts(text).into_iter().filter(|part| is_certain(part)).collect();
        if certain.is_empty() {
            return None;
        }
        filter(&certain.join(" && ")).ok()
    }
}

/// A filter of this condition; the new line ends a comment in it.
fn filter(condition: &str) -> Result<Query, crate::Error> {
    format!("{{ {condition}\n}}").parse()
}

/// What `&&` joins in the only filter of a text; all of it, if `||` joins some of it.
fn parts(text: &str) -> Vec<&str> {
    let (tokens, _) = tokens_before_error(text);
    let openings: Vec<usize> = (0..tokens.len()).filter(|at| tokens[*at].kind.is("{")).collect();
    let inside = match openings.as_slice() {
        [] => &tokens[..],
        [opening] => &tokens[opening + 1..],
        _ => return Vec::new(),
    };
    let Some(first) = inside.first() else { return Vec::new() };
    // What is no token in the end stays with the last part, which then is no condition.
    let end = inside.iter().find(|token| token.kind.is("}")).map_or(text.len(), |closing| closing.at);
    let (mut start, mut depth, mut parts) = (first.at, 0_i32, Vec::new());
    for token in inside.iter().take_while(|token| token.at < end) {
        depth += i32::from(token.kind.is("(")) - i32::from(token.kind.is(")"));
        if depth == 0 && token.kind.is("||") {
            return text.get(first.at..end).into_iter().collect();
        }
        if depth == 0 && token.kind.is("&&") {
            parts.extend(text.get(start..token.at));
            start = token.at + "&&".len();
        }
    }
    parts.extend(text.get(start..end));
    parts
}

/// Whether a part is a finished condition. An attribute on its own is none: its comparison is still to come.
fn is_certain(part: &str) -> bool {
    let Ok(Query { body: Body::Search(pipeline), .. }) = filter(part) else { return false };
    matches!(pipeline.stages.as_slice(), [Stage::Spansets(SpansetExpr::Filter(expr))] if compares(expr))
}

fn compares(expr: &FieldExpr) -> bool {
    match expr {
        FieldExpr::Compare { .. } | FieldExpr::Match { .. } | FieldExpr::Exists(_) | FieldExpr::Absent(_) => true,
        FieldExpr::And(parts) | FieldExpr::Or(parts) => parts.iter().all(compares),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lenient(text: &str) -> Option<String> {
        Query::lenient(text).map(|query| query.to_string())
    }

    /// Scenario: filters at every stage of being typed. Guarantee: finished conditions are kept, all else is left out.
    #[test]
    fn finished_conditions_are_kept() {
        for (text, kept) in [
            ("{ .a = 1 && .b = }", "{ .a = 1 }"),
            ("{ .a = 1 && .b = \"x", "{ .a = 1 }"),
            ("{ .a = 1 && .b", "{ .a = 1 }"),
            ("{ .a = 1 && span:", "{ .a = 1 }"),
            ("{ .a = 1 && 5x", "{ .a = 1 }"),
            ("{.a=1&&}", "{ .a = 1 }"),
            ("{ && .a = 1 }", "{ .a = 1 }"),
            ("{ .b = && .a = 1", "{ .a = 1 }"),
            ("{ .a = 1", "{ .a = 1 }"),
            (".a = 1", "{ .a = 1 }"),
            ("{ .a = 1 && .b = \"}\" && name =~ \"&&.*\" }", "{ .a = 1 && .b = \"}\" && name =~ \"&&.*\" }"),
            (
                "{ resource.service.name = \"shop\" && status = error } | select(name",
                "{ resource.service.name = \"shop\" && status = error }",
            ),
            ("{ (.a = 1 || .b != nil) && .c = ", "{ .a = 1 || .b != nil }"),
            ("{ .a = 1 || .b = 2 }", "{ .a = 1 || .b = 2 }"),
            ("{ nestedSetParent<0 && true && .c = }", "{ nestedSetParent < 0 }"),
            ("{ .a = 1 // one\n && .b = }", "{ .a = 1 }"),
        ] {
            assert_eq!(lenient(text).as_deref(), Some(kept), "{text}");
        }
    }

    /// Scenario: texts that say nothing for certain. Guarantee: no filter, so that no value is missing.
    #[test]
    fn what_is_not_certain_narrows_nothing() {
        for text in [
            "",
            "{",
            "{}",
            "{ true }",
            "{ .a }",
            "{ !.a }",
            "{ .a = 1 || .b = }",
            "{ (.a = 1 || .b) }",
            "{ (.a = 1 && .b = 2",
            "{ .a = 1 } && { .b = 2 }",
            "{ .a = 1 } >> {",
            "{ status > 5 }",
            "{ name =~ \"(\" }",
            "#",
        ] {
            assert_eq!(lenient(text), None, "{text}");
        }
        assert_eq!(lenient(&format!("{{ .a = 1 }}{}", " ".repeat(1 << 17))), None);
    }

    proptest! {
        /// Scenario: a filter is cut off anywhere. Guarantee: what is left is a filter made of its conditions, never an error.
        #[test]
        fn beginnings_of_a_filter_narrow_no_more_than_all_of_it(length in 0_usize..80) {
            const CONDITIONS: [&str; 4] = [".a = 17", "resource.b =~ \"x.*\"", "status = error", "duration > 10ms"];
            let text = format!("{{ {} }}", CONDITIONS.join(" && "));
            let cut = text.get(..length).unwrap_or(&text);
            let kept = lenient(cut).unwrap_or_default();
            let kept: Vec<&str> = kept.trim_matches(['{', '}', ' ']).split(" && ").filter(|part| !part.is_empty()).collect();
            // The last number may have lost digits; all before it is as it was.
            let whole = kept.iter().zip(CONDITIONS).filter(|(kept, condition)| kept == &condition).count();
            prop_assert!(whole + 1 >= kept.len(), "{cut}: {kept:?}");
        }

        #[test]
        fn no_text_panics(text in "[{}()&|=!<>\"a.:0-9 ]{0,40}") {
            let _ = Query::lenient(&text);
        }
    }
}
