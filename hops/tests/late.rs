//! What is retracted when something arrives late: H of the old set, and H of the new one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::comparison_to_empty, missing_docs)]

mod common;

use common::{Build, app, gateway, hops, lines, link_to_3, pair, pod, sidecar, waypoint};
use meshlake_hops::{Span, SpanKind::*};

fn change(before: &[Span<'static>], late: Span<'static>) -> (Vec<String>, Vec<String>) {
    let after = [before, &[late]].concat();
    (lines(before), lines(&after))
}

/// The CLIENT parent of a SERVER. Guarantee: the same key, with the caller's side.
#[test]
fn client_parent() {
    let [client, server] = <[_; 2]>::try_from(pair()).unwrap();
    let (old, new) = change(&[server], client);
    assert_eq!((&old[..], &new[..]), (&["missing -> b (2 in) unresolved".to_owned()][..], &["a -> b (2 in)".to_owned()][..]));
    assert!(hops(&[server])[0].caller_report.is_none() && hops(&[server, client])[0].caller_report.is_some());
}

/// The SERVER that answers. Guarantee: the hop to a service without spans goes, the real one comes.
#[test]
fn server_that_answers() {
    let [client, server] = <[_; 2]>::try_from(pair()).unwrap();
    let (old, new) = change(&[client], server);
    assert_eq!((old, new), (vec!["a -> b (1 out) unresolved".to_owned()], vec!["a -> b (2 in)".to_owned()]));
}

/// The proxy SERVER above an application's. Guarantee: the key moves to it.
#[test]
fn proxy_server() {
    let [client, server] = <[_; 2]>::try_from(pair()).unwrap();
    let (old, new) = change(&[client, app(3, Server, "b").under(2)], server);
    assert_eq!(old, ["a -> b (1 out) unresolved", "missing -> b (3 in) unresolved"], "one request, two hops, both marked");
    assert_eq!(new, ["a -> b (2 in)"]);
}

/// The proxy CLIENT under an application's. Guarantee: key, latency and flags move to it.
#[test]
fn proxy_client() {
    let client = app(1, Client, "a").with(|s| s.http_url = "http://api.example.com/");
    let proxy = sidecar(2, Client, "a")
        .under(1)
        .with(|s| (s.http_url, s.upstream_cluster) = ("http://api.example.com/", "PassthroughCluster"));
    let (old, new) = change(&[client], proxy);
    assert_eq!(old, ["a -> external:api.example.com (1 out)"]);
    assert_eq!(new, ["a -> external:api.example.com (2 out) passthrough"]);
}

/// The waypoint between a gateway and an application. Guarantee: the key moves to it, the latency stays the application's.
#[test]
fn waypoint_between() {
    let before = [gateway(1, Client).to("b"), app(3, Server, "b").under(2)];
    let (old, new) = change(&before, waypoint(2, "b").under(1));
    assert_eq!(old, ["outside -> gw (1 in)", "gw -> b (1 out) unresolved", "missing -> b (3 in) unresolved"]);
    assert_eq!(new, ["outside -> gw (1 in)", "gw -> b (2 in)"]);
    let after = [before[0], before[1], waypoint(2, "b").under(1)];
    assert_eq!(hops(&before)[2].callee_report.unwrap().latency, hops(&after)[1].callee_report.unwrap().latency);
}

/// The sidecar span that names an application's pod. Guarantee: all its hops of the trace are of the proxy's node.
#[test]
fn sidecar_that_names_the_pod() {
    let work = app(1, Server, "a-sdk").with(|s| s.resource.host_name = pod("a-v1"));
    let db = app(2, Client, "a-sdk").under(1).with(|s| (s.resource, s.db_system) = (work.resource, "redis"));
    let (old, new) = change(&[work, db], sidecar(3, Client, "a-v1").under(2).to("b"));
    assert_eq!(old, ["unknown -> a-sdk (1 in)", "a-sdk -> database:redis (2 out)"]);
    assert_eq!(new, ["unknown -> a (1 in)", "a -> b (3 out) unresolved"]);
}

/// The PRODUCER of another trace that a consumer links to. Guarantee: no hop of this trace changes.
#[test]
fn linked_producer() {
    let queue = |span: Span<'static>| span.with(|s| s.messaging_destination = "orders");
    let consumer = queue(app(1, Consumer, "c")).with(|s| s.links = link_to_3());
    assert_eq!(lines(&[consumer]), ["queue:orders -> c (1 in)"]);
    assert_eq!(lines(&[queue(app(3, Producer, "a"))]), ["a -> queue:orders (3 out)"]);
    assert_eq!(lines(&[consumer, queue(app(3, Producer, "a"))]), ["queue:orders -> c (1 in)", "a -> queue:orders (3 out)"]);
}
