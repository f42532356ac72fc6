//! Searches as Tempo had them before TraceQL: `tags=service.name=shop http.method=GET`.

use std::collections::BTreeMap;

use meshlake_query::meshlake_traceql::{Literal, Named, Scope};

/// Characters that mean something in a regular expression.
const SPECIAL: &str = "\\.+*?()|[]{}^$";

/// Reads `key=value` pairs with spaces between; a value may stand in quotes, with `\"` and `\\` in it.
///
/// # Errors
/// What is no pair.
pub(super) fn read_tags(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut tags = BTreeMap::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let wrong = || format!("invalid tags: `{}` is not key=value", rest.chars().take(64).collect::<String>());
        let (key, after) = rest.split_once('=').filter(|(key, _)| !key.is_empty() && !key.contains(' ')).ok_or_else(wrong)?;
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => unquoted(quoted).ok_or_else(wrong)?,
            None => {
                let (value, after) = after.split_at(after.find(' ').unwrap_or(after.len()));
                (value.to_owned(), after)
            }
        };
        tags.insert(key.to_owned(), value);
        rest = after.trim_start();
    }
    Ok(tags)
}

/// A text up to its closing quote, and what is behind it.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            char => value.push(char),
        }
    }
    None
}

/// The query of tags: a trace is found if it has, for each of them, a span of which the value is part. Without tags, any trace is.
pub(super) fn query(tags: &BTreeMap<String, String>) -> String {
    let filters: Vec<String> = tags.iter().map(|(key, value)| format!("{{ {} }}", condition(key, value))).collect();
    if filters.is_empty() { "{}".to_owned() } else { filters.join(" && ") }
}

fn condition(key: &str, value: &str) -> String {
    let field = match key {
        "name" => "name".to_owned(),
        "root.name" => "rootName".to_owned(),
        "root.service.name" => "rootServiceName".to_owned(),
        "error" if value == "true" => return "status = error".to_owned(),
        "status.code" if matches!(value, "error" | "ok" | "unset") => return format!("status = {value}"),
        _ => Named { scope: Scope::Any, name: key.to_owned(), slot: 0 }.to_string(),
    };
    let escaped: String = value.chars().flat_map(|char| SPECIAL.contains(char).then_some('\\').into_iter().chain([char])).collect();
    let contains = format!("{field} =~ {}", Literal::Text(format!("(?i).*{escaped}.*")));
    let number = value.parse().map(Literal::Int).ok();
    match number.or_else(|| value.parse().map(Literal::Bool).ok()).filter(|_| field.starts_with('.')) {
        Some(literal) => format!("{contains} || {field} = {literal}"),
        None => contains,
    }
}

#[cfg(test)]
mod tests {
    use meshlake_query::meshlake_traceql::Query;

    use super::*;

    fn read(text: &str) -> Result<Vec<(String, String)>, String> {
        read_tags(text).map(|tags| tags.into_iter().collect())
    }

    #[test]
    fn pairs_are_read_with_and_without_quotes() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(read(""), Ok(vec![]));
        assert_eq!(read(" a=b  c.d=x=y e="), Ok(vec![pair("a", "b"), pair("c.d", "x=y"), pair("e", "")]));
        assert_eq!(read(r#"a="b c" d="\"\\" "#), Ok(vec![pair("a", "b c"), pair("d", "\"\\")]));
        for wrong in ["a", "a b=c", "=b", "a=\"b", "a=\"b\\"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    /// Scenario: tags with what means something in regular expressions and queries. Guarantee: the query is valid, and means the text.
    #[test]
    fn tags_become_a_query() {
        let query_of = |text: &str| query(&read_tags(text).unwrap());
        assert_eq!(query_of(""), "{}");
        assert_eq!(query_of("error=true name=GET"), r#"{ status = error } && { name =~ "(?i).*GET.*" }"#);
        assert_eq!(query_of("code=500"), r#"{ .code =~ "(?i).*500.*" || .code = 500 }"#);
        assert_eq!(query_of(r#"p="a.b*""#), r#"{ .p =~ "(?i).*a\\.b\\*.*" }"#);
        for text in [r#"a="[({\\})]" "b c"="x""#, "a{b=1", "a=true", "root.name=x", "status.code=error", "name=5"] {
            if let Ok(tags) = read_tags(text) {
                assert!(query(&tags).parse::<Query>().is_ok(), "{}", query(&tags));
            }
        }
    }
}
