use arrow::array::{AsArray, StringArray};
use arrow::datatypes::Int32Type;
use meshlake_config::{ClusterRange, Ingest};
use meshlake_storage::SpanBuilder;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;

use super::*;
use crate::room::Room;

type Pairs<'a> = &'a [(&'a str, &'a str)];

fn attributes(pairs: Pairs<'_>) -> Vec<KeyValue> {
    let value = |text: &str| Some(AnyValue { value: Some(any_value::Value::StringValue(text.to_owned())) });
    pairs.iter().map(|(key, text)| KeyValue { key: (*key).to_owned(), value: value(text), ..KeyValue::default() }).collect()
}

/// The value of each row in each of `columns`, of spans with these attributes.
fn columns(scope: &str, resource: Pairs<'_>, spans: &[Pairs<'_>], columns: &[&str]) -> Vec<Vec<String>> {
    columns_with(&Ingest::default(), scope, resource, spans, columns)
}

fn columns_with(settings: &Ingest, scope: &str, resource: Pairs<'_>, spans: &[Pairs<'_>], columns: &[&str]) -> Vec<Vec<String>> {
    let span =
        |pairs: &Pairs<'_>| Span { trace_id: vec![1; 16], span_id: vec![1; 8], attributes: attributes(pairs), ..Span::default() };
    let scope = Some(InstrumentationScope { name: scope.to_owned(), ..InstrumentationScope::default() });
    let scope_spans = vec![ScopeSpans { scope, spans: spans.iter().map(span).collect(), ..ScopeSpans::default() }];
    let resource = Some(Resource { attributes: attributes(resource), ..Resource::default() });
    let resource_spans = vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }];
    let message = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
    let mut rows = SpanBuilder::default();
    let room = Room::of_request(message.len(), message.len());
    SpansDecoder::new(settings, "default", 0, room, &mut rows).request(&message).unwrap();
    let batch = rows.finish().unwrap().unwrap().batch;
    let text = |row: usize, name: &&str| {
        let column = batch.column_by_name(name).unwrap().as_dictionary::<Int32Type>();
        let column = column.downcast_dict::<StringArray>().unwrap();
        column.into_iter().nth(row).flatten().unwrap_or_default().to_owned()
    };
    (0..batch.num_rows()).map(|row| columns.iter().map(|name| text(row, name)).collect()).collect()
}

fn one(scope: &str, resource: Pairs<'_>, span: Pairs<'_>, names: &[&str]) -> Vec<String> {
    columns(scope, resource, &[span], names).remove(0)
}

const NODE_ID: (&str, &str) = ("node_id", "sidecar~10.1.2.3~reviews-v2-6f76498fc8-58wpn.bookinfo~bookinfo.svc.cluster.local");

/// Scenario: spans of proxies without tags, as mirror and async spans are, told by each of the marks of Envoy. Guarantee: the
/// service is the app of `service.name`, and the namespace is its other part; without a mark of Envoy the name stays whole.
#[test]
fn proxy_spans_without_tags() {
    let name = ("service.name", "productpage.bookinfo");
    let names = ["service", "namespace"];
    let expected = ["productpage", "bookinfo"];
    assert_eq!(one("envoy", &[name], &[], &names), expected);
    assert_eq!(one("", &[name, ("telemetry.sdk.name", "envoy")], &[], &names), expected);
    assert_eq!(one("", &[name], &[("component", "proxy")], &names), expected);
    assert_eq!(one("", &[name], &[NODE_ID], &names), expected);
    assert_eq!(one("io.opentelemetry.tomcat", &[name], &[("component", "http")], &names), ["productpage.bookinfo", ""]);
    for nobody in ["istio-proxy", "unknown_service:envoy"] {
        assert_eq!(one("envoy", &[("service.name", nobody)], &[("istio.canonical_service", "unknown")], &names), ["", ""]);
    }
    assert_eq!(one("envoy", &[("service.name", "istio-proxy.bookinfo")], &[], &names), ["", "bookinfo"]);
}

/// Scenario: waypoints of Istio 1.28 and 1.29, whose `service.name` is the host of the destination, with and without tags.
/// Guarantee: tags say who the proxy is; without them the host is split. A host outside of Kubernetes stays whole.
#[test]
fn waypoint_hosts() {
    let host = ("service.name", "reviews.bookinfo.svc.cluster.local");
    let node_id = ("node_id", "waypoint~10.1.2.3~waypoint-6f76498fc8-58wpn.infra~infra.svc.cluster.local");
    let tags = [node_id, ("istio.canonical_service", "waypoint"), ("istio.namespace", "infra")];
    let names = ["service", "namespace", "proxy"];
    assert_eq!(one("envoy", &[host], &tags, &names), ["waypoint", "infra", "waypoint"]);
    assert_eq!(one("envoy", &[host], &[], &names), ["reviews", "bookinfo", ""]);
    assert_eq!(one("envoy", &[("service.name", "api.example.com")], &[node_id], &names), ["api.example.com", "infra", "waypoint"]);
}

/// Scenario: the zone in the tag, in the resource, in both, empty. Guarantee: a tag that says something is believed, then the
/// resource.
#[test]
fn zones() {
    let resource = ("cloud.availability_zone", "eu-1a");
    let of = |resource: Pairs<'_>, span: Pairs<'_>| one("envoy", resource, span, &["zone"]).remove(0);
    assert_eq!(of(&[resource], &[("zone", "eu-1b")]), "eu-1b");
    assert_eq!(of(&[resource], &[("zone", "")]), "eu-1a");
    assert_eq!(of(&[resource], &[]), "eu-1a");
    assert_eq!(of(&[], &[("zone", "")]), "");
}

/// Scenario: what waypoints say of the destination, known and not, with and without an upstream cluster. Guarantee: it is the
/// peer where it is known, and else the cluster's service is.
#[test]
fn destinations() {
    let cluster = ("upstream_cluster", "inbound-vip|80|http|reviews.bookinfo.svc.cluster.local");
    let known = [("istio.destination_canonical_service", "ratings"), ("istio.destination_namespace", "shop")];
    let unknown = [("istio.destination_canonical_service", "unknown"), ("istio.destination_namespace", "unknown")];
    let of = |span: &[&[(&str, &str)]]| one("envoy", &[], &span.concat(), &["peer_service", "peer_namespace"]);
    assert_eq!(of(&[&[cluster], &known]), ["ratings", "shop"]);
    assert_eq!(of(&[&known]), ["ratings", "shop"]);
    assert_eq!(of(&[&[cluster], &unknown]), ["reviews", "bookinfo"]);
    assert_eq!(of(&[&[cluster], &known[..1], &unknown[1..]]), ["ratings", "bookinfo"]);
    assert_eq!(of(&[&unknown]), ["", ""]);
    assert_eq!(of(&[&unknown, &[("peer.service", "db")]]), ["db", ""]);
}

/// Scenario: spans that say their cluster in every way, in some and in none, under each order of the sources. Guarantee: the first of
/// the sources that says one; a proxy's own address before the resource's; by default the resource, then the tag, and no address.
#[test]
fn clusters() {
    let ranges: Vec<ClusterRange> = ["10.0.0.0/8=west", "10.1.0.0/16=east"].iter().map(|range| range.parse().unwrap()).collect();
    let (name, tag) = (("k8s.cluster.name", "prod"), ("istio.cluster_id", "Kubernetes"));
    let (elsewhere, outside) = (("k8s.pod.ip", "10.9.0.1"), ("k8s.pod.ip", "192.0.2.1"));
    let unknown = ("istio.cluster_id", "unknown");
    let (k8s, istio, address) = (ClusterSource::K8sClusterName, ClusterSource::IstioClusterId, ClusterSource::PodAddress);
    let order = |cluster_sources: &[ClusterSource], resource: Pairs<'_>, span: Pairs<'_>| {
        let (cluster_ranges, default_cluster) = (ranges.clone(), "home".to_owned());
        let settings = Ingest { cluster_sources: cluster_sources.to_vec(), cluster_ranges, default_cluster, ..Ingest::default() };
        columns_with(&settings, "envoy", resource, &[span], &["cluster"]).remove(0).remove(0)
    };
    assert_eq!(order(&[address, k8s, istio], &[name, elsewhere], &[tag, NODE_ID]), "east");
    assert_eq!(order(&[address, k8s, istio], &[name, elsewhere], &[tag]), "west");
    assert_eq!(order(&[address, k8s, istio], &[name, outside], &[tag]), "prod");
    assert_eq!(order(&[k8s, address, istio], &[name], &[tag, NODE_ID]), "prod");
    assert_eq!(order(&[istio, address], &[name], &[unknown, NODE_ID]), "east");
    assert_eq!(order(&[address], &[name], &[tag]), "home");
    let default = |resource: Pairs<'_>, span: Pairs<'_>| one("envoy", resource, span, &["cluster"]).remove(0);
    assert_eq!(default(&[name], &[tag, NODE_ID]), "prod");
    assert_eq!(default(&[elsewhere], &[tag, NODE_ID]), "Kubernetes");
    assert_eq!(default(&[elsewhere], &[NODE_ID]), "");
}

/// Scenario: pods of each kind of controller, as collectors note them. Guarantee: the controller is the workload, and of a
/// CronJob's job the CronJob.
#[test]
fn controllers() {
    for kind in ["deployment", "statefulset", "daemonset", "cronjob", "job"] {
        let key = format!("k8s.{kind}.name");
        let resource = [("k8s.job.name", "nightly-28391"), (&key, "owner"), ("k8s.pod.name", "owner-28391-abcde")];
        let resource = if kind == "job" { &resource[1..] } else { &resource[..] };
        assert_eq!(one("", resource, &[], &["workload"]), ["owner"], "{kind}");
    }
}

/// Scenario: a gateway whose spans alternate between more clusters, and more owners, than are remembered. Guarantee: each span
/// has its own.
#[test]
fn alternating_spans() {
    let names: Vec<_> = (0..60).map(|index| format!("s{}", index * 7 % 12)).collect();
    let clusters: Vec<_> = names.iter().map(|name| format!("outbound|80||{name}.shop.svc.cluster.local")).collect();
    let spans: Vec<_> = names
        .iter()
        .zip(&clusters)
        .map(|(name, cluster)| [("istio.canonical_service", name.as_str()), ("upstream_cluster", cluster.as_str())])
        .collect();
    let spans: Vec<Pairs<'_>> = spans.iter().map(|span| &span[..]).collect();
    let found = columns("envoy", &[], &spans, &["service", "peer_service"]);
    let expected: Vec<_> = names.iter().map(|name| vec![name.clone(), name.clone()]).collect();
    assert_eq!(found, expected);
}
