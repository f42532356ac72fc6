use std::collections::BTreeMap;

use meshlake_hops::{Direction, Hop, TraceHops};
use meshlake_traceql::{Attribute, Series, Value};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Otlp;
use opentelemetry_proto::tonic::resource::v1::Resource;

use super::{ALL, asked, query};
use crate::Engine;
use crate::graph::{GraphQuery, Identity};
use crate::testing::{Chance, START, SpanRow, TestSource, each_trace, int, mesh_rows, scatter, tenant, text};
use crate::traceql::{TraceQlMetrics, TraceQlSearch};
use crate::types::TimeRange;

/// Envoy's span of a request to productpage, of the proxy of a service in namespace shop of c1.
fn proxy(span: u64, parent: Option<u64>, kind: &'static str, role: &'static str, service: &str) -> SpanRow {
    let node =
        format!("{}~10.0.0.{}~{service}-v1-abc.shop~shop.svc.cluster.local", role.replace("gateway", "router"), service.len());
    let upstream_cluster = if kind == "client" { "outbound|9080||productpage.shop.svc.cluster.local" } else { "inbound|9080||" };
    SpanRow {
        name: "productpage.shop.svc.cluster.local:9080/*".to_owned(),
        service: Some(service.to_owned()),
        namespace: Some("shop".to_owned()),
        cluster: Some("c1".to_owned()),
        workload: Some(format!("{service}-v1")),
        version: Some("v1".to_owned()),
        pod: Some(format!("{service}-v1-abc")),
        proxy: Some(role),
        attributes: vec![
            text("node_id", &node),
            text("component", "proxy"),
            text("istio.mesh_id", "mesh"),
            text("upstream_cluster", upstream_cluster),
        ],
        resource: Resource { attributes: vec![text("service.name", service)], ..Resource::default() },
        ..row(span, parent, kind)
    }
}

/// A span of productpage's SDK, which calls itself otherwise.
fn sdk(span: u64, parent: u64, kind: &'static str) -> SpanRow {
    let resource = vec![text("service.name", "productpage-python"), text("k8s.pod.ip", "10.0.0.11")];
    SpanRow {
        name: "GET /productpage".to_owned(),
        service: Some("productpage-python".to_owned()),
        resource: Resource { attributes: resource, ..Resource::default() },
        ..row(span, Some(parent), kind)
    }
}

/// Each span lies within the one before it.
fn row(span: u64, parent: Option<u64>, kind: &'static str) -> SpanRow {
    let (tenant, start, duration) = ("a".to_owned(), START + span * 1_000_000, 100_000_000 - span as i64 * 2_000_000);
    SpanRow { tenant, trace: 7, span, parent, start, duration, kind: Some(kind), ..SpanRow::default() }
}

/// What the graph makes of each span of the only trace, by span.
async fn told(engine: &Engine) -> Vec<String> {
    let text = "{} | select(span.meshlake.entry, span.meshlake.node, span.meshlake.caller, span.meshlake.callee)";
    let search = TraceQlSearch { spans_per_spanset: 0, ..asked(text, ALL, 10) };
    let found = engine.traceql_search(&tenant("a"), &search).await.unwrap();
    let mut told = BTreeMap::new();
    for span in &found.traces[0].spansets[0].spans {
        let attributes = span.attributes.iter().map(|(key, value)| match value.value.as_ref().unwrap() {
            Otlp::BoolValue(value) => format!("{key}={value}"),
            Otlp::StringValue(value) => format!("{key}={value}"),
            other => panic!("{other:?}"),
        });
        told.insert(span.id, attributes.collect::<Vec<_>>().join(" ").replace("meshlake.", ""));
    }
    told.into_values().collect()
}

/// Scenario: a gateway's lone span, a sidecar's that answers, an SDK's under it, which calls a database; and an attribute of the name of a computed
/// one. Guarantee: the first two are requests, of the gateway by the outside and of productpage by the gateway; the SDK's spans are of
/// productpage, and the call that nothing answers tells whom it went to. As long as the answer is not there, the gateway's span is only its
/// own request.
#[tokio::test]
async fn spans_are_where_the_graph_has_them() {
    let mut database = sdk(4, 3, "client");
    database.attributes = vec![
        text("db.system", "mysql"),
        text("server.address", "db-0"),
        int("server.port", 3306),
        text("meshlake.node", "none of this"),
    ];
    let gateway = proxy(1, None, "client", "gateway", "gateway");
    let spans = [proxy(2, Some(1), "server", "sidecar", "productpage"), sdk(3, 2, "server"), database];
    let mut source = TestSource::new();
    source.add_file(std::slice::from_ref(&gateway)).await;
    let request = "entry=true node=gateway/c1/shop/gateway caller=outside callee=gateway/c1/shop/gateway";
    assert_eq!(told(&source.engine()).await, [request]);
    let mut source = TestSource::new();
    source.add_file(&[gateway, spans[1].clone()]).await;
    source.add_live(&[spans[0].clone(), spans[2].clone()]);
    let page = "workload/c1/shop/productpage";
    let expected = [
        request.to_owned(),
        format!("entry=true node={page} caller=gateway/c1/shop/gateway callee={page}"),
        format!("entry=false node={page}"),
        format!("entry=false node={page} caller={page} callee=database/c1/shop/db-0:3306"),
    ];
    assert_eq!(told(&source.engine()).await, expected);
}

/// The counts of a query, of which this is the label.
async fn counts(engine: &Engine, text: &str, label: &str) -> BTreeMap<String, u64> {
    let (query, end) = (query(&format!("{text} | count_over_time() by({label})")), START + 2_040_000_000_000);
    let asked = TraceQlMetrics { query, start: START, end, step: 0, instant: true, exemplars: 0, max_series: 1_000 };
    let answer = engine.traceql_metrics(&tenant("a"), &asked).await.unwrap();
    let count = |series: &Series| match &series.labels[..] {
        [(_, Value::Text(text))] => (text.to_string(), series.values[0] as u64),
        other => panic!("{other:?}"),
    };
    answer.series.iter().map(count).collect()
}

/// Scenario: random traces of a mesh over live batches and files. Guarantee: requests of the graph's nodes are their entries and the calls to them that
/// nothing answers, but for the calls that share a gateway's lone span with its own request (P3); values without a filter are the graph's
/// nodes, with one those of the spans that it leaves.
#[tokio::test]
async fn entries_are_the_requests_of_the_graph() {
    let rows = mesh_rows(&mut Chance(41), "a", 400);
    let engine = scatter(&mut Chance(42), &rows).await.engine();
    let mut hidden = BTreeMap::<String, u64>::new();
    each_trace(&rows, |id, spans| {
        let mut hops = Vec::new();
        TraceHops::new().append(&id.0, spans, &mut hops);
        let asks = |hop: &&Hop<'_>| hops.iter().any(|other| other.span == hop.span && other.key.direction != hop.key.direction);
        for hop in hops.iter().filter(|hop| hop.key.direction == Direction::Out).filter(asks) {
            *hidden.entry(Identity::service_id(&hop.callee)).or_default() += 1;
        }
    });
    let entries = counts(&engine, "{ span.meshlake.entry }", "span.meshlake.node").await;
    let calls = counts(&engine, "{ span.meshlake.callee != nil && !span.meshlake.entry }", "span.meshlake.callee").await;
    let range = TimeRange { start: ALL.start, end: ALL.start + 2_040_000_000 };
    let graph = engine.graph(&tenant("a"), &GraphQuery::whole(range, 10_000)).await.unwrap();
    assert!(!hidden.is_empty() && entries.len() > 5 && calls.len() > 2);
    let of = |counts: &BTreeMap<String, u64>, id: &str| counts.get(id).copied().unwrap_or(0);
    for node in &graph.nodes {
        let requests = [&entries, &calls, &hidden].map(|counts| of(counts, &node.id)).iter().sum::<u64>();
        assert_eq!(node.requests, requests, "{node:?}");
    }
    let values = async |filter: Option<&str>| {
        let (attribute, filter) = (Attribute::of_tag("span.meshlake.node"), filter.map(query));
        let values = engine.traceql_values(&tenant("a"), &attribute, filter.as_ref(), range, 1_000).await.unwrap();
        let text = |(value, count): (Value<'static>, u64)| match value {
            Value::Text(text) => (text.into_owned(), count),
            other => panic!("{other}"),
        };
        values.into_iter().map(text).collect::<BTreeMap<_, _>>()
    };
    let of_mesh = graph.nodes.iter().filter(|node| ["workload", "gateway"].contains(&node.kind));
    assert_eq!(values(None).await, of_mesh.map(|node| (node.id.clone(), node.requests)).collect());
    assert_eq!(values(Some("{ span.meshlake.entry }")).await, entries);
}

/// Scenario: spans in a lake file that tells where attributes stand, in another file, and live; of queries that name an attribute
/// besides, which has a column. Guarantee: the rules of the graph read theirs all the same.
#[tokio::test]
async fn attributes_that_are_named_take_none_from_the_graph() {
    let rows = mesh_rows(&mut Chance(43), "a", 200);
    let mut source = TestSource::new();
    for (index, part) in rows.chunks(rows.len().div_ceil(3)).enumerate() {
        match index {
            0 => source.add_lake_file(part, true).await,
            1 => source.add_file(part).await,
            _ => source.add_live(part),
        }
    }
    let engine = source.engine();
    for label in ["span.meshlake.node", "span.meshlake.caller", "span.meshlake.callee"] {
        let alone = counts(&engine, &format!("{{ {label} != nil }}"), label).await;
        let named = format!("{{ {label} != nil && (span.http.status_code != nil || span.http.status_code = nil) }}");
        assert_eq!(counts(&engine, &named, label).await, alone, "{label}");
        assert!(alone.len() > 2, "{alone:?}");
    }
}
