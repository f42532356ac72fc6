use super::{BegunTrace, PropagationQuery, Propagations};
use crate::testing::{START, SpanRow, TestSource, tenant, text};
use crate::types::TimeRange;
use crate::{Confidence, Engine, QueryError, TraceId};

const ALL: PropagationQuery = PropagationQuery {
    range: TimeRange { start: (START / 1000) as i64 - 1, end: (START / 1000) as i64 + 1_000_000_000 },
    traces: 100_000,
};

/// A sidecar's span.
fn sidecar(trace: u128, span: u64, parent: Option<u64>, service: &str, kind: &'static str, start: u64) -> SpanRow {
    SpanRow {
        tenant: "a".to_owned(),
        trace,
        span,
        parent,
        start: START + start,
        duration: 1_000 - span as i64,
        name: format!("{service} {kind}"),
        kind: Some(kind),
        service: Some(service.to_owned()),
        namespace: Some("shop".to_owned()),
        workload: Some(format!("{service}-v1")),
        pod: Some(format!("{service}-v1-abc")),
        proxy: Some("sidecar"),
        attributes: vec![
            text("component", "proxy"),
            text("istio.mesh_id", "mesh"),
            text("node_id", &format!("sidecar~10.0.0.1~{service}-v1-abc.shop~shop.svc.cluster.local")),
        ],
        ..SpanRow::default()
    }
}

/// A trace in which `caller` calls `callee`: begun by the caller.
fn call(trace: u128, caller: &str, callee: &str, start: u64) -> Vec<SpanRow> {
    vec![sidecar(trace, 1, None, caller, "client", start), sidecar(trace, 2, Some(1), callee, "server", start)]
}

/// The same, and the callee calls another in the same trace.
fn chain(trace: u128, caller: &str, callee: &str, next: &str, start: u64) -> Vec<SpanRow> {
    let further = [sidecar(trace, 3, Some(2), callee, "client", start), sidecar(trace, 4, Some(3), next, "server", start)];
    [call(trace, caller, callee, start), further.to_vec()].concat()
}

fn engine(rows: &[SpanRow]) -> Engine {
    let mut source = TestSource::new();
    source.add_live(rows);
    source.engine()
}

/// Twenty requests, each 1 µs long and 100 µs after the one before, of what is made of their number and start.
fn twenty(of: impl Fn(u128, u64) -> Vec<SpanRow>) -> Vec<SpanRow> {
    (1..=20).flat_map(|n: u64| of(n.into(), n * 100_000)).collect()
}

async fn ask(rows: &[SpanRow]) -> Vec<(String, Confidence)> {
    let answer = engine(rows).propagation(&tenant("a"), &ALL).await.unwrap();
    answer.workloads.iter().map(|one| (one.node.service.clone().unwrap_or_default(), one.confidence)).collect()
}

/// Scenario: a service that drops the context of all requests, and calls while it serves them. Guarantee: it is found, alone, with what
/// was counted and with traces that show it; who asks it and who is asked by it are not.
#[tokio::test]
async fn dropped_context_is_found() {
    let rows =
        twenty(|n, start| [chain(n, "front", "shop", "cart", start), call(1_000 + n, "cart", "stock", start + 500)].concat());
    let answer = engine(&rows).propagation(&tenant("a"), &ALL).await.unwrap();
    // It is the outermost caller that begins traces for nobody: nothing asks it.
    assert_eq!(answer.workloads.len(), 1);
    let cart = &answer.workloads[0];
    let names = [&cart.node.namespace, &cart.node.workload, &cart.node.service].map(Option::as_deref);
    assert_eq!((names, cart.confidence), ([Some("shop"), Some("cart-v1"), Some("cart")], Confidence::High));
    let evidence = cart.evidence;
    assert_eq!((evidence.requests, evidence.continued, evidence.started), (20, 0, 20));
    assert_eq!((evidence.calls_started, evidence.checked, evidence.overlapping), (20, 20, 20));
    assert!(evidence.overlapping_by_chance > 0.0 && evidence.overlapping_by_chance < 1.0, "{evidence:?}");
    let id = |n: u128| TraceId(n.to_be_bytes());
    let expected = [1, 2, 3].map(|n: u64| BegunTrace {
        trace_id: id(1_000 + u128::from(n)),
        time: START + n * 100_000 + 500,
        during: Some(id(n.into())),
    });
    assert_eq!(cart.examples, expected);
    assert_eq!((answer.sample.found, answer.sample.read, answer.sample.is_partial()), (40, 40, false));
}

/// Scenario: a cron job, which nobody asks; one that only requests without a trace reach, as scrapers send them; a service that
/// forwards, and polls between requests; one that answers from memory, and polls as often. Guarantee: no word of the first two; of the
/// others no more than that it may be, and that of the one whose calls are never in the traces of its requests.
#[tokio::test]
async fn work_of_its_own_is_no_dropped_context() {
    let cron = twenty(|n, start| call(n, "cron", "report", start));
    assert_eq!(ask(&cron).await, []);
    let scraped = twenty(|n, start| vec![sidecar(2_000 + n, 1, None, "cron", "server", start)]);
    assert_eq!(ask(&[cron, scraped].concat()).await, []);
    let poll = |n: u128, start: u64| call(1_000 + n, "shop", "config", start + 50_000);
    let forwards = twenty(|n, start| [chain(n, "front", "shop", "cart", start), poll(n, start)].concat());
    assert_eq!(ask(&forwards).await, [("shop".to_owned(), Confidence::Low)]);
    let remembers = twenty(|n, start| [call(n, "front", "shop", start), poll(n, start)].concat());
    assert_eq!(ask(&remembers).await, [("shop".to_owned(), Confidence::Medium)]);
    // A call that hangs on a request that was lost continues its trace.
    let lost = twenty(|n, start| {
        [call(n, "front", "shop", start), vec![sidecar(3_000 + n, 3, Some(2), "shop", "client", start)]].concat()
    });
    assert_eq!(ask(&lost).await, []);
}

/// Scenario: a range without length, no trace allowed, a part of the range, fewer traces than there are, another tenant. Guarantee: the
/// first two are refused, the others count what is theirs, and a partial answer says so (P8, P10).
#[tokio::test]
async fn questions_have_limits() {
    let rows = twenty(|n, start| [call(n, "front", "cart", start), call(1_000 + n, "cart", "stock", start + 500)].concat());
    let engine = engine(&rows);
    let empty = TimeRange { start: 5, end: 5 };
    for query in [PropagationQuery { range: empty, ..ALL }, PropagationQuery { traces: 0, ..ALL }] {
        let answer = engine.propagation(&tenant("a"), &query).await;
        assert!(matches!(answer, Err(QueryError::Invalid { .. })), "{answer:?}");
    }
    let half = TimeRange { end: (START / 1000) as i64 + 1_050, ..ALL.range };
    let answer = engine.propagation(&tenant("a"), &PropagationQuery { range: half, ..ALL }).await.unwrap();
    assert_eq!((answer.workloads[0].evidence.requests, answer.workloads[0].evidence.started), (10, 10));
    let answer = engine.propagation(&tenant("a"), &PropagationQuery { traces: 30, ..ALL }).await.unwrap();
    assert_eq!((answer.workloads[0].evidence.requests, answer.workloads[0].evidence.started), (20, 10));
    assert_eq!((answer.sample.found, answer.sample.read, answer.sample.is_partial()), (40, 30, true));
    assert_eq!(engine.propagation(&tenant("b"), &ALL).await.unwrap(), Propagations::default());
}
