//! Queries and what they are: `tests/queries.txt` holds, line by line, a query, a tab, and the canonical form of the query (`=` if that
//! is the query itself) or the error: its kind and its message with the place. A new line in a query is written `⏎`, a tab `⇥`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use meshlake_traceql::{Error, ErrorKind, Query};

const CORPUS: &str = include_str!("queries.txt");

/// What the corpus says of a query.
fn said(text: &str) -> String {
    match text.parse::<Query>() {
        Ok(query) if query.to_string() == text => "=".to_owned(),
        Ok(query) => query.to_string(),
        Err(error) => format!("{:?}: {error}", error.kind),
    }
}

/// Scenario: each query of the corpus. Guarantee: its canonical form, or the kind, place and text of its error, are those expected; what is
/// valid reads back as the same.
#[test]
fn queries() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for (line, text) in CORPUS.lines().enumerate().filter(|(_, text)| !text.is_empty() && !text.starts_with('#')) {
        let (query, expected) = text.split_once('\t').unwrap_or_else(|| panic!("line {}: no tab", line + 1));
        let query = query.replace('⏎', "\n").replace('⇥', "\t");
        let got = said(&query);
        count += 1;
        if got != expected {
            wrong.push(format!("line {}: {query}\n  expected {expected}\n  found    {got}", line + 1));
        }
        if let Ok(parsed) = query.parse::<Query>() {
            assert_eq!(parsed.to_string().parse::<Query>().as_ref(), Ok(&parsed), "{query}");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count >= 300, "{count}");
}

fn limit(text: &str) -> Error {
    let error = text.parse::<Query>().expect_err("a limit");
    assert_eq!(error.kind, ErrorKind::Limit, "{error}");
    error
}

/// Scenario: hostile queries (P6), parsed by a thread with a small stack. Guarantee: an error that names the limit, in no time.
#[test]
fn hostile_queries() {
    let parse = || {
        let start = std::time::Instant::now();
        let n = 20_000;
        for text in [
            format!("{{ {}.a{} }}", "(".repeat(n), ")".repeat(n)),
            format!("{{ {}.a }}", "!".repeat(n)),
            format!("{{ {}.a = 1 }}", "-".repeat(n)),
            format!("{}{{}}{}", "(".repeat(n), ")".repeat(n)),
            format!("{}1", "-".repeat(n)),
            format!("{{}} | count() > {}1", "(".repeat(n)),
            format!("{{ .a{} = 1 }}", " + 1".repeat(n / 2)),
            format!("{{ .a{} = 1 }}", " ^ 1".repeat(n / 2)),
            format!("{{ .a{} }}", " = .b".repeat(n / 2)),
            format!("{{ .a{} }}", " || .b && .c".repeat(n / 5)),
            format!("{{}}{}", " >> {}".repeat(n / 4)),
            format!("({{}} | rate()){}", " + ({} | rate())".repeat(n / 10)),
            format!("{{}} | rate(){}", " | topk(1)".repeat(n / 5)),
            format!("{{ {} }}", vec!["name =~ \"x\""; 101].join(" || ")),
            format!("{{ {} }}", (0..1_001).map(|n| format!(".a{n}")).collect::<Vec<_>>().join(" || ")),
            " ".repeat(64 * 1024 + 1),
        ] {
            limit(&text);
        }
        assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
    };
    std::thread::Builder::new().stack_size(1024 * 1024).spawn(parse).unwrap().join().unwrap();
}

/// Scenario: long chains of `&&` and `||`, many stages, and as much nesting as is allowed. Guarantee: they are queries that print, read
/// back and are dropped with a small stack.
#[test]
fn long_queries() {
    let parse = || {
        for text in [
            format!("{{ {} }}", vec![".a = 1"; 5_000].join(" || ")),
            format!("{{ {} }}", vec![".a = 1"; 5_000].join(" && ")),
            format!("{{}}{}", " | { .a = 1 }".repeat(4_000)),
            format!("{{ {}.a{} }}", "(".repeat(62), ")".repeat(62)),
            format!("{{ {}.a }}", "!".repeat(62)),
            format!("{{}}{}", " >> {}".repeat(62)),
        ] {
            let parsed: Query = text.parse().unwrap();
            assert_eq!(parsed.to_string().parse::<Query>().as_ref(), Ok(&parsed));
        }
    };
    std::thread::Builder::new().stack_size(1024 * 1024).spawn(parse).unwrap().join().unwrap();
}

/// Writes the corpus anew, for a change of all messages: `cargo test -p meshlake-traceql --test corpus -- --ignored`, then read the
/// difference.
#[test]
#[ignore = "writes a file of the sources"]
fn write() {
    let line = |text: &str| match text {
        text if text.is_empty() || text.starts_with('#') => text.to_owned(),
        text => {
            let query = text.split('\t').next().unwrap_or_default();
            format!("{query}\t{}", said(&query.replace('⏎', "\n").replace('⇥', "\t")))
        }
    };
    let all: Vec<String> = CORPUS.lines().map(line).collect();
    std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/queries.txt"), all.join("\n") + "\n").unwrap();
}
