//! What clients are told where there is no answer.

use meshlake_config::{ByteSize, Config};

use super::{RANGE, escaped, grafana};
use crate::fixture::{api, send};
use crate::router;

/// Scenario: requests that are wrong. Guarantee: a text that names what is wrong, for Grafana shows it as it comes.
#[tokio::test]
async fn mistakes_are_named_in_plain_text() {
    let search = |query: &str| format!("/api/search?q={}", escaped(query));
    let metrics = |query: &str| format!("/api/metrics/query_range?q={}&start=1785585000&end=1785586200", escaped(query));
    for (path, told) in [
        (search("{ status > 5 }"), "parse error at line 1, col 3"),
        (search("{ .a = 1"), "found the end"),
        (search("{} | rate()"), "metrics"),
        (metrics("{ .a = 1 }"), "searches"),
        (metrics(""), "parse error"),
        (metrics("{} | rate() &&"), "parse error at line 1, col 13"),
        (format!("{}&step=1ms", metrics("{} | rate()")), "longer step"),
        (format!("{}&step=often", metrics("{} | rate()")), "`step`"),
        ("/api/metrics/query?q=%7B%7D%7Crate()&start=20&end=10".to_owned(), "start must be before end"),
        ("/api/search?limit=x".to_owned(), "`limit`"),
        ("/api/search?start=20&end=10".to_owned(), "start must be before end"),
        ("/api/v2/search/tags?start=x".to_owned(), "`start`"),
    ] {
        let answer = grafana(&path).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("content-type")),
            (400, "text/plain; charset=utf-8"),
            "{path} {answer:?}"
        );
        assert!(answer.text().contains(told), "{path}: {}", answer.text());
    }
}

/// Scenario: a trace with more spans than an answer may have. Guarantee: 422, as Tempo says of a trace that is too large.
#[tokio::test]
async fn too_large_a_trace_is_422() {
    let mut config = Config::default();
    config.query.max_rows = 2;
    let answer = send(&router(api(&config)), http::Method::GET, &format!("/tempo/api/v2/traces/a1?{RANGE}"), &[], "").await;
    assert_eq!(answer.status.as_u16(), 422);
    assert!(answer.text().contains("query.max_rows"));
}

/// Scenario: answers that take more memory than all of them may. Guarantee: 429, with which Tempo says that it has too much to do.
#[tokio::test]
async fn too_little_memory_is_429() {
    let mut config = Config::default();
    config.query.memory_limit = ByteSize::kib(1);
    for path in ["/tempo/api/v2/traces/a1".to_owned(), format!("/tempo/api/search?{RANGE}")] {
        let answer = send(&router(api(&config)), http::Method::GET, &path, &[], "").await;
        assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (429, "1"), "{path} {answer:?}");
        assert!(answer.text().contains("query.memory_limit"));
    }
}
