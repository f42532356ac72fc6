//! Every row of the table of cases (`docs/service-graph.md`), with its spans written out.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::comparison_to_empty, missing_docs)]

mod common;

use common::{Build, app, bare, end, gateway, hops, line, lines, link_to_3, pair, pod, run, sidecar, waypoint};
use meshlake_hops::{ErrorClass, Flags, Node, NodeKind, Resource, Role, Side, Span, SpanKind::*, WEIGHT_ONE};

/// Case a. Guarantee: one hop; the caller's side is the CLIENT span's, the callee's the SERVER span's.
#[test]
fn a_sidecar_pair() {
    assert_eq!(lines(&pair()), ["a -> b (2 in)"]);
    let hop = hops(&pair())[0];
    assert_eq!(hop.caller_report.unwrap().latency, Some(8_990 - 1_010));
    assert_eq!(hop.callee_report.unwrap().latency, Some(8_980 - 1_020));
    assert_eq!(hop.network, Some(20));
    assert_eq!((hop.calls, hop.attempt, hop.messages, hop.time), (1, 1, 0, 1_020));
    assert_eq!((hop.protocol, hop.method, hop.operation), ("http", "GET", "b.shop.svc.cluster.local:9080/*"));
    let node = Node {
        kind: NodeKind::Workload,
        cluster: "c1",
        namespace: "shop",
        workload: "b-v1",
        service: "b",
        version: "v1",
        ..Node::default()
    };
    assert_eq!(hop.callee, node);
}

/// Case b: SDKs between the proxies. Guarantee: one hop a request, of the proxy spans; SDK spans are detail.
#[test]
fn b_sdk_between() {
    let spans = [
        sidecar(1, Client, "a-v1").to("b"),
        sidecar(2, Server, "b-v1").under(1).from("b", "a-v1"),
        app(3, Server, "b").under(2),
        app(4, Internal, "b").under(3),
        app(5, Client, "b").under(4).with(|s| s.http_url = "http://c:9080/x"),
        sidecar(6, Client, "b-v1").under(5).to("c"),
        sidecar(7, Server, "c-v1").under(6).from("c", "b-v1"),
        app(8, Server, "c").under(7),
    ];
    assert_eq!(lines(&spans), ["a -> b (2 in)", "b -> c (7 in)"]);
    assert_eq!(hops(&spans)[1].caller_report.unwrap().latency, Some(8_940 - 1_060), "the proxy's, not the SDK's");
}

/// Case c: a gateway that writes one CLIENT span. Guarantee: it is asked once and asks once, both by that span.
#[test]
fn c_gateway_lone_client() {
    let spans = [
        gateway(1, Client).to("b").with(|s| s.http_url = "http://shop.example.com/x"),
        sidecar(2, Server, "b-v1").under(1).from("b", "gw"),
    ];
    assert_eq!(lines(&spans), ["outside -> gw (1 in)", "gw -> b (2 in)"]);
    assert_eq!(hops(&spans)[0].callee.kind, NodeKind::Gateway);
    // Nothing behind it: one span, two hops.
    assert_eq!(lines(&spans[..1]), ["outside -> gw (1 in)", "gw -> b (1 out) unresolved"]);
}

/// Case d: a gateway's pair, the second without `node_id`. Guarantee: the same hops, and one node on both.
#[test]
fn d_gateway_pair() {
    let server = gateway(1, Server).with(|s| s.http_url = "http://shop.example.com/x");
    for tagged in [false, true] {
        let router = bare(2, "router outbound|9080||b.shop.svc.cluster.local; egress", &server).under(1).with(|s| {
            s.upstream_cluster = "outbound|9080||b.shop.svc.cluster.local";
            s.peer_address = "10.9.9.9:9080";
            if tagged {
                (s.tagged, s.cluster, s.namespace, s.service) = (true, "c1", "shop", "gw");
            }
        });
        let spans = [server, router, sidecar(3, Server, "b-v1").under(2).from("b", "gw").with(|s| s.http_url = server.http_url)];
        assert_eq!(lines(&spans), ["outside -> gw (1 in)", "gw -> b (3 in)"], "{tagged}");
        let hops = hops(&spans);
        assert_eq!(hops[0].callee, hops[1].caller);
        assert_eq!(hops[1].caller_report.unwrap().latency, Some(8_980 - 1_020), "one attempt: the router span");
        // Where addresses are rewritten, the host that the gateway was asked for is the proof.
        let rewritten = [server, router, spans[2].with(|s| s.peer_address = "127.0.0.1")];
        assert_eq!(lines(&rewritten), lines(&spans));
    }
}

/// Case e1: a waypoint, nothing behind it. Guarantee: the hop is to its destination, via the waypoint.
#[test]
fn e1_waypoint_alone() {
    let spans = [gateway(1, Client).to("b"), waypoint(2, "b").under(1)];
    assert_eq!(lines(&spans), ["outside -> gw (1 in)", "gw -> b (2 in)"]);
    let hop = hops(&spans)[1];
    assert_eq!(hop.via.unwrap().workload, "waypoint");
    assert_eq!((hop.callee.service, hop.callee.namespace, hop.callee.workload, hop.callee.cluster), ("b", "shop", "", "c1"));
}

/// Case e2: a waypoint above the application. Guarantee: one hop, with the application's latency and, if known, its workload.
#[test]
fn e2_waypoint_and_application() {
    let url = "http://shop.example.com/x";
    let gw = gateway(1, Client).to("b").with(|s| s.http_url = url);
    let way = waypoint(2, "b").under(1).with(|s| s.http_url = url);
    for server in [app(3, Server, "whatever"), app(3, Server, "b").in_pod("b-v2")] {
        let spans = [gw, way, server.under(2).with(|s| s.server_address = "shop.example.com")];
        assert_eq!(lines(&spans), ["outside -> gw (1 in)", "gw -> b (2 in)"]);
        let hop = hops(&spans)[1];
        assert_eq!(hop.callee_report.unwrap().latency, Some(8_970 - 1_030));
        assert_eq!(hop.callee.workload, server.workload);
    }
    // Its hosts say that it is another's: what the waypoint asked is silent, and forwarded the headers.
    let other = app(3, Server, "c").under(2).with(|s| s.server_address = "c");
    assert_eq!(lines(&[gw, way, other])[1..], ["gw -> b (2 in)", "b -> c (3 in)"]);
    // A pod of another workload than the tags name is another's too, whatever the hosts say.
    let tagged = way.with(|s| s.destination = end("b-v1"));
    let other = app(3, Server, "b").in_pod("b-v2").under(2);
    assert_eq!(lines(&[gw, tagged, other])[1..], ["gw -> b (2 in)", "b -> b (3 in)"]);
}

/// Case e3: Kiali's ambient trace; productpage writes no span and forwards the headers. Guarantee: it is in the graph all the
/// same, by the hosts, or by what waypoints say of the source.
#[test]
fn e3_silent_application_in_ambient() {
    let gw = gateway(1, Client).to("productpage").with(|s| s.http_url = "http://shop.example.com/productpage");
    for source in [Default::default(), end("productpage-v1")] {
        let of = |id, service| {
            waypoint(id, service).under(1).with(|s| (s.peer_address, s.source) = (common::ip("productpage-v1"), source))
        };
        let spans = [gw, of(2, "reviews"), of(3, "details")];
        let expected = [
            "outside -> gw (1 in)",
            "gw -> productpage (1 out) implied",
            "productpage -> reviews (2 in) implied",
            "productpage -> details (3 in) implied",
        ];
        assert_eq!(lines(&spans), expected);
        let hops = hops(&spans);
        assert_eq!(hops[1].callee, hops[2].caller, "one node");
        assert!(hops[2].caller_report.is_none(), "the gateway's latency is not productpage's");
    }
}

/// Case e4: a waypoint's root. Guarantee: the caller is who the waypoint says, else unknown; not the world.
#[test]
fn e4_waypoint_root() {
    assert_eq!(lines(&[waypoint(1, "b")]), ["unknown -> b (1 in)"]);
    let spans = [waypoint(1, "b").with(|s| s.source = end("a-v1"))];
    assert_eq!(lines(&spans), ["a -> b (1 in)"]);
    assert_eq!(hops(&spans)[0].caller.workload, "a-v1");
    // The caller's span is lost: the same answer, and nothing unresolved.
    assert_eq!(lines(&[spans[0].under(9)]), ["a -> b (1 in)"]);
}

/// Case e5: Istio 1.28 gives waypoints the destination's FQDN for `service.name`. Guarantee: never read.
#[test]
fn e5_waypoint_service_name_is_a_host() {
    let spans =
        [waypoint(1, "b")
            .with(|s| (s.service, s.resource.service_name) = ("b.shop.svc.cluster.local", "b.shop.svc.cluster.local"))];
    assert_eq!(lines(&spans), ["unknown -> b (1 in)"]);
}

/// Case f: retries of a sidecar. Guarantee: N attempts, one call; the caller's side once, on the last.
#[test]
fn f_retries_of_a_sidecar() {
    let attempt = |id, start, end, workload| sidecar(id, Server, workload).under(1).from("b", "a-v1").lasting(start, end);
    let spans = [
        sidecar(1, Client, "a-v1").to("b").lasting(0, 100),
        attempt(2, 10, 20, "b-v1").with(|s| (s.http_status, s.error) = (Some(503), true)),
        attempt(3, 30, 40, "b-v2"),
        attempt(4, 50, 60, "b-v1"),
    ];
    assert_eq!(lines(&spans), ["a -> b (2 in)", "a -> b (3 in) retry", "a -> b (4 in) retry"]);
    let hops = hops(&spans);
    assert_eq!(hops.iter().map(|hop| (hop.attempt, hop.calls)).collect::<Vec<_>>(), [(1, 0), (2, 0), (3, 1)]);
    assert_eq!(hops.iter().map(|hop| hop.caller_report.is_some()).collect::<Vec<_>>(), [false, false, true]);
    assert_eq!(hops[0].callee_report.unwrap().error, ErrorClass::Http5xx);
    assert_eq!(hops[2].network, None, "the call is of all attempts");
}

/// Case f: retries of a gateway, a CLIENT span each. Guarantee: N attempts are N calls; the logical one is the gateway's SERVER.
#[test]
fn f_retries_of_a_gateway() {
    let server = gateway(1, Server);
    let router = |id, start, end, retries| {
        let span = bare(id, "router egress", &server).under(1).lasting(start, end);
        span.with(|s| (s.upstream_cluster, s.retry_count) = ("outbound|9080||b.shop.svc.cluster.local", retries))
    };
    let spans = [
        server,
        router(2, 1_100, 1_200, None),
        router(3, 1_300, 1_400, Some(1)),
        sidecar(4, Server, "b-v1").under(2).from("b", "gw").lasting(1_110, 1_190),
        sidecar(5, Server, "b-v1").under(3).from("b", "gw").lasting(1_310, 1_390),
    ];
    assert_eq!(lines(&spans), ["outside -> gw (1 in)", "gw -> b (4 in)", "gw -> b (5 in) retry"]);
    assert_eq!(hops(&spans).iter().map(|hop| hop.calls).sum::<u32>(), 3);
}

/// Case g: a mirrored request, of plain Envoy. Guarantee: flagged, no call of the caller, and the copied request stays one.
#[test]
fn g_mirror() {
    let client = sidecar(1, Client, "a-v1").to("b");
    let mirror =
        bare(2, "mirror", &client).under(1).with(|s| s.upstream_cluster = "outbound|9080|v2|b-next.shop.svc.cluster.local");
    let server = sidecar(3, Server, "b-v1").under(1).from("b", "a-v1");
    let spans = [client, mirror, server];
    assert_eq!(lines(&spans), ["a -> b-next (2 out) unresolved,mirror", "a -> b (3 in)"]);
    assert_eq!(hops(&spans).iter().map(|hop| hop.calls).collect::<Vec<_>>(), [0, 1]);
    // The copy is traced too; Envoy renames the host that it asks for.
    let copy = sidecar(4, Server, "b-next").under(2).from("b-shadow", "a-v1");
    let spans = [client, mirror, server, copy];
    assert_eq!(lines(&spans), ["a -> b (3 in)", "a -> b (4 in) mirror"]);
    assert_eq!(hops(&spans).iter().map(|hop| hop.calls).collect::<Vec<_>>(), [1, 0]);
    // And decides for itself whether it is, with a parent that is not.
    assert_eq!(lines(&[copy]), ["missing -> b (4 in) unresolved"]);
}

/// Case h: an application that forwards no headers. Guarantee: pairs, and callers that are unknown, not the world.
#[test]
fn h_no_propagation() {
    assert_eq!(lines(&pair()), ["a -> b (2 in)"]);
    assert_eq!(lines(&[app(1, Server, "b")]), ["unknown -> b (1 in)"]);
    assert_eq!(lines(&[sidecar(1, Server, "b-v1")]), ["unknown -> b (1 in)"]);
}

/// Case i: the caller's span is lost. Guarantee: the request counts, its caller is missing, and the answer says so.
#[test]
fn i_parent_absent() {
    assert_eq!(lines(&pair()[1..]), ["missing -> b (2 in) unresolved"]);
}

/// Case j: a message, and a batch of them. Guarantee: producers to the queue, the queue to consumers, always; links never count.
#[test]
fn j_messaging() {
    let topic = |span: Span<'static>| span.with(|s| (s.messaging_system, s.messaging_destination) = ("kafka", "orders"));
    let producer = topic(app(1, Producer, "a").with(|s| s.cluster = "c1"));
    let consumer = |id, service| topic(app(id, Consumer, service).with(|s| (s.cluster, s.messaging_operation) = ("c1", "process")));
    let spans = [producer, consumer(2, "c").under(1).lasting(50_000, 60_000)];
    assert_eq!(lines(&spans), ["a -> queue:orders (1 out)", "queue:orders -> c (2 in)"]);
    assert_eq!(lines(&spans[..1]), ["a -> queue:orders (1 out)"], "it does not flip");
    let found = hops(&spans);
    assert_eq!(found[0].callee, found[1].caller, "one queue");
    assert_eq!((found[0].protocol, found[1].network, found[1].caller_report), ("messaging", None, None));

    // A batch: the receive is none, each process span is, wherever it hangs.
    let receive = topic(app(3, Consumer, "c").with(|s| s.messaging_operation = "receive"));
    let spans = [receive, consumer(4, "c").under(3), consumer(5, "c").under(9).with(|s| s.links = link_to_3())];
    assert_eq!(lines(&spans), ["queue:orders -> c (4 in)", "queue:orders -> c (5 in)"]);
    // No processing is told of: the receive itself is the request, and its messages are its links.
    let batch = receive.with(|s| s.links = link_to_3());
    assert_eq!(lines(&[batch]), ["queue:orders -> c (3 in)"]);
    assert_eq!(hops(&[batch])[0].messages, 3);
    // To wait for messages, and to settle them, are no calls.
    let waits = [
        topic(app(6, Client, "c")).with(|s| s.messaging_operation = "receive"),
        topic(app(7, Client, "c")).with(|s| s.messaging_operation = "settle"),
    ];
    assert_eq!(lines(&waits), [""; 0]);
    assert_eq!(lines(&[waits[0], consumer(8, "c").under(6)]), ["queue:orders -> c (8 in)"]);
}

/// Case j: a queue that is asked over HTTP (SQS) or is in a database (Celery's on Redis), through a sidecar or not. Guarantee: one hop, to the
/// queue, whatever carries the message there; one a PRODUCER where one is in another.
#[test]
fn j_what_carries_a_message() {
    let topic = |span: Span<'static>| span.with(|s| s.messaging_destination = "orders");
    let producer = topic(app(1, Producer, "a"));
    let url = "https://sqs.eu-west-1.amazonaws.com/";
    let http = app(2, Client, "a").under(1).with(|s| s.http_url = url);
    let sidecar_client =
        sidecar(3, Client, "a-v1").under(2).with(|s| (s.http_url, s.upstream_cluster) = (url, "PassthroughCluster"));
    assert_eq!(lines(&[producer, http, sidecar_client]), ["a -> queue:orders (1 out)"]);
    let hop = hops(&[producer, http, sidecar_client])[0];
    assert_eq!((hop.caller_report.unwrap().latency, hop.calls, hop.messages), (Some(8_990 - 1_010), 1, 1), "the PRODUCER's");
    // A call that names nobody is a detail, too, and is not counted as unnamed.
    assert_eq!((lines(&[producer, app(2, Client, "a").under(1)]).len(), run(&[producer, app(2, Client, "a").under(1)]).1), (1, 0));
    let redis = app(2, Client, "a").under(1).with(|s| s.db_system = "redis");
    assert_eq!(lines(&[producer, redis]), ["a -> queue:orders (1 out)"]);
    assert_eq!(
        lines(&[producer.with(|s| s.db_system = "redis")]),
        ["a -> queue:orders (1 out)"],
        "the queue, not where it is kept"
    );

    // Who writes spans of having been asked on the way was asked, and the queue all the same.
    let asks = sidecar_client.to("gw").with(|s| s.http_url = url);
    let gw =
        gateway(4, Client).under(3).with(|s| (s.http_url, s.upstream_cluster) = (url, "outbound|443||sqs.eu-west-1.amazonaws.com"));
    let spans = [producer, http, asks, gw];
    let to_queue = "a -> queue:orders (1 out)";
    assert_eq!(lines(&spans), [to_queue, "a -> gw (4 in)", "gw -> external:sqs.eu-west-1.amazonaws.com (4 out)"]);
    assert_eq!(hops(&spans)[1].caller_report.unwrap().latency, Some(8_970 - 1_030), "the sidecar's");

    // A message of another one; a call around both; who answers that answers neither.
    let inner = topic(app(2, Producer, "a").under(1)).with(|s| s.messaging_destination = "letters");
    assert_eq!(lines(&[producer, inner, http.with(|s| s.span_id = [3; 8])]), ["a -> queue:letters (2 out)"]);
    let around = app(1, Client, "a").with(|s| s.peer_service = "b");
    let (sent, http) = (topic(app(2, Producer, "a").under(1)), app(3, Client, "a").under(2).with(|s| s.http_url = url));
    assert_eq!(lines(&[around, sent, http, app(4, Server, "b").under(1)]), ["a -> queue:orders (2 out)", "a -> b (4 in) assumed"]);
}

/// Case j: a loop that polls. Guarantee: each message is a request, though its span is within work that nobody asked for.
#[test]
fn j_polling_loop() {
    let topic = |span: Span<'static>| span.with(|s| s.messaging_destination = "orders");
    let spans = [app(1, Internal, "c"), topic(app(2, Consumer, "c").under(1)), topic(app(3, Consumer, "c").under(2))];
    assert_eq!(lines(&spans), ["queue:orders -> c (2 in)"], "and one told of twice is one");
}

/// Case k: databases and hosts out of the mesh. Guarantee: one exit a call, named by what is known best.
#[test]
fn k_database_and_external() {
    let caller = sidecar(1, Server, "a-v1");
    let http = |id, upstream: &'static str| {
        let client = app(id, Client, "a").under(1).with(|s| s.http_url = "https://api.example.com/x");
        let proxy = sidecar(id + 1, Client, "a-v1")
            .under(id)
            .with(|s| (s.http_url, s.upstream_cluster) = ("http://api.example.com/x", upstream));
        [caller, client, proxy]
    };
    for (upstream, line) in [
        ("PassthroughCluster", "a -> external:api.example.com (3 out) passthrough"),
        ("BlackHoleCluster", "a -> external:api.example.com (3 out) blackhole"),
        ("outbound|443||api.example.com", "a -> external:api.example.com (3 out)"),
        ("connect_originate", "a -> external:api.example.com (3 out) tunnel"),
    ] {
        let spans = http(2, upstream);
        assert_eq!(lines(&spans), ["unknown -> a (1 in)", line]);
        assert_eq!(hops(&spans)[1].callee.cluster, "", "a public name is one node for all");
    }
    let [caller, client, proxy] = http(2, "");
    let no_route = proxy.with(|s| (s.response_flags, s.http_status) = ("NR", Some(404)));
    assert_eq!(lines(&[caller, client, no_route])[1], "a -> external:api.example.com (3 out) no_route");

    let database = |change: fn(&mut Span<'static>)| {
        let span = app(2, Client, "a").under(1).with(|s| (s.db_system, s.db_namespace) = ("mysql", "orders")).with(change);
        hops(&[caller, span])[1]
    };
    let by_host = database(|s| (s.server_address, s.server_port, s.peer_address) = ("mysql", Some(3306), "10.1.1.1"));
    assert_eq!(line(&by_host), "a -> database:mysql (2 out)");
    assert_eq!((by_host.callee.port, by_host.callee.namespace, by_host.protocol), (Some(3306), "shop", "mysql"));
    assert_eq!(line(&database(|s| (s.peer_service, s.server_address) = ("orders-db", "mysql"))), "a -> database:orders-db (2 out)");
    assert_eq!(line(&database(|s| s.peer_address = "10.1.1.1:3306")), "a -> database:10.1.1.1 (2 out)");
    assert_eq!(line(&database(|_| {})), "a -> database:orders (2 out)");
    assert_eq!(line(&database(|s| s.db_namespace = "")), "a -> database:mysql (2 out)");
    let in_mesh = database(|s| s.server_address = "mysql.data.svc.cluster.local");
    assert_eq!((in_mesh.callee.service, in_mesh.callee.namespace, in_mesh.callee.cluster), ("mysql", "data", ""));
}

/// Case k: calls that name nobody. Guarantee: no hop, but counted.
#[test]
fn k_unnamed_exit() {
    let spans = [app(1, Server, "a"), app(2, Client, "a").under(1)];
    assert_eq!(lines(&spans), ["unknown -> a (1 in)"]);
    assert_eq!(run(&spans).1, 1);
}

/// Case l: two clusters. Guarantee: each end has its own, and one that no span tells is not the caller's.
#[test]
fn l_two_clusters() {
    let [client, server] = <[_; 2]>::try_from(pair()).unwrap();
    let hop = hops(&[client, server.with(|s| s.cluster = "c2")])[0];
    assert_eq!((hop.caller.cluster, hop.callee.cluster), ("c1", "c2"));
    let hop = hops(&[client])[0];
    assert_eq!(line(&hop), "a -> b (1 out) unresolved");
    assert_eq!((hop.callee.cluster, hop.callee.namespace, hop.callee.kind), ("", "shop", NodeKind::Workload));
}

/// Case m: the SDK calls itself otherwise. Guarantee: its spans are of the proxy above, or beside, or below, or of its pod.
#[test]
fn m_sdk_name_differs() {
    let [client, server] = <[_; 2]>::try_from(pair()).unwrap();
    let above =
        [client, server, app(3, Server, "b-sdk").under(2), app(4, Client, "b-sdk").under(3).with(|s| s.db_system = "redis")];
    assert_eq!(lines(&above), ["a -> b (2 in)", "b -> database:redis (4 out)"]);

    let below = [app(1, Internal, "a-sdk"), app(2, Client, "a-sdk").under(1), sidecar(3, Client, "a-v1").to("b").under(2)];
    let db = app(4, Client, "a-sdk").under(1).with(|s| s.db_system = "redis");
    assert_eq!(lines(&[below[0], below[1], below[2], db]), ["a -> b (3 out) unresolved", "a -> database:redis (4 out)"]);
    // Two proxies below: one is taken, and it is said.
    let two = [
        below[0],
        sidecar(3, Client, "x-v1").to("b").under(1),
        sidecar(4, Client, "y-v1").to("b").under(1),
        db.with(|s| s.span_id = [5; 8]),
    ];
    assert_eq!(lines(&two).last().unwrap(), "x -> database:redis (5 out) assumed");

    let resources: [fn(&mut Resource<'static>); 4] = [
        |r| r.host_name = pod("b-v1"),
        |r| r.service_instance_id = pod("b-v1"),
        |r| r.service_instance_id = "shop.b-v1-6f76498fc8-58wpn.main",
        |r| r.k8s_pod_ip = common::ip("b-v1"),
    ];
    for resource in resources {
        // Not joined to the proxy by any link: the root of work of its own.
        let work = app(3, Internal, "b-sdk").with(|s| resource(&mut s.resource));
        let db = app(4, Client, "b-sdk").under(3).with(|s| (s.resource, s.db_system) = (work.resource, "redis"));
        assert_eq!(lines(&[client, server, work, db])[1], "b -> database:redis (4 out)");
    }
    let work = app(3, Client, "b-sdk").in_pod("b-v1").with(|s| s.db_system = "redis");
    assert_eq!(lines(&[client, server, work])[1], "b -> database:redis (3 out)", "a pod is called what its proxy calls it");
    assert_eq!(lines(&[work])[0], "b-sdk -> database:redis (3 out)");
}

/// Case n: a service calls itself. Guarantee: an edge from it to it, and none from its own caller.
#[test]
fn n_self_call() {
    let [client, server] = <[_; 2]>::try_from(pair()).unwrap();
    let again = [sidecar(3, Client, "b-v1").under(2).to("b"), sidecar(4, Server, "b-v1").under(3).from("b", "b-v1")];
    assert_eq!(lines(&[client, server, again[0], again[1]]), ["a -> b (2 in)", "b -> b (4 in)"]);
    // Another pod of it, with no client span between.
    let other = sidecar(5, Server, "b-v1").under(2).with(|s| s.pod = "b-v1-6f76498fc8-other");
    assert_eq!(lines(&[client, server, other]), ["a -> b (2 in)", "b -> b (5 in)"]);
}

/// Case o: a child outlives its parent; a span ends before it starts. Guarantee: flagged, no network time, no latency.
#[test]
fn o_clocks() {
    let [client, server] = <[_; 2]>::try_from(pair()).unwrap();
    let spans = [client, server.lasting(500, 99_999)];
    assert_eq!(lines(&spans), ["a -> b (2 in) clock_skew"]);
    assert_eq!(hops(&spans)[0].network, None);
    let hop = hops(&[client, server.lasting(5_000, 4_000)])[0];
    assert_eq!((hop.flags, hop.callee_report.unwrap().latency, hop.network), (Flags::CLOCK_SKEW, None, None));
}

/// Case p: a server span right under another's. Guarantee: a hop, with no caller's side: the parent's time is not the call's.
#[test]
fn p_server_under_server() {
    let spans = [sidecar(1, Server, "a-v1"), sidecar(2, Server, "b-v1").under(1)];
    assert_eq!(lines(&spans), ["unknown -> a (1 in)", "a -> b (2 in)"]);
    assert_eq!((hops(&spans)[1].caller_report, hops(&spans)[1].calls), (None, 1));
}

/// Case q: copies, equal and not. Guarantee: one span, the one that ends last.
#[test]
fn q_copies() {
    let [client, server] = <[_; 2]>::try_from(pair()).unwrap();
    let longer = server.with(|s| s.end += 5);
    for spans in [[client, server, longer, server], [longer, client, server, longer]] {
        assert_eq!(lines(&spans), ["a -> b (2 in)"]);
        assert_eq!(hops(&spans)[0].callee_report.unwrap().latency, Some(7_965));
    }
}

/// Case r: Istio 1.30 with `disableContextPropagation`; proxy and application are both children of A's span. Guarantee: one hop.
#[test]
fn r_no_context_from_proxies() {
    let client = app(1, Client, "a").with(|s| s.http_url = "http://b:9080/x").lasting(0, 1_000);
    let out = sidecar(2, Client, "a-v1").to("b").under(1).lasting(10, 990);
    let proxy = |id, start, end| sidecar(id, Server, "b-v1").under(1).from("b", "a-v1").lasting(start, end);
    for name in ["b", "b-sdk"] {
        let server = |id, start, end| app(id, Server, name).under(1).lasting(start, end);
        let spans = [client, out, proxy(3, 20, 400), server(4, 30, 390)];
        assert_eq!(lines(&spans), ["a -> b (3 in)"], "{name}");
        assert_eq!(hops(&spans)[0].caller_report.unwrap().latency, Some(980), "the exit inside");
        let retried = [client, out, proxy(3, 20, 400), server(4, 30, 390), proxy(5, 500, 900), server(6, 510, 890)];
        assert_eq!(lines(&retried), ["a -> b (3 in)", "a -> b (5 in) retry"], "{name}");
    }
    // A's span is lost.
    assert_eq!(lines(&[proxy(3, 20, 400), app(4, Server, "b").under(1).lasting(30, 390)]), ["missing -> b (3 in) unresolved"]);
}

/// Egress gateway of 1.27: a CLIENT span under a CLIENT span. Guarantee: the gateway is asked, and asks.
#[test]
fn egress_gateway() {
    let client = sidecar(1, Client, "a-v1").to("gw").with(|s| s.http_url = "http://api.example.com/x");
    let gw = gateway(2, Client)
        .under(1)
        .with(|s| (s.http_url, s.upstream_cluster) = ("http://api.example.com/x", "outbound|443||api.example.com"));
    assert_eq!(lines(&[client, gw]), ["a -> gw (2 in)", "gw -> external:api.example.com (2 out)"]);
}

/// Zipkin's shared span ids. Guarantee: client above server above the rest, and two keys.
#[test]
fn shared_span_ids() {
    let spans = [
        gateway(1, Client).to("b"),
        sidecar(1, Server, "b-v1").from("b", "gw").with(|s| s.start += 1),
        app(2, Server, "b").under(1),
        sidecar(3, Client, "b-v1").under(1).to("c"),
    ];
    assert_eq!(lines(&spans), ["outside -> gw (1 in)", "gw -> b (1 in)", "b -> c (3 out) unresolved"]);
    assert_eq!(hops(&spans).iter().map(|hop| hop.key.side).collect::<Vec<_>>(), [Side::Client, Side::Server, Side::Client]);
}

/// A parent link that only hosts could confirm, and none are known. Guarantee: it is taken, and said.
#[test]
fn nothing_known_is_assumed() {
    let spans = [app(1, Client, "a").with(|s| s.peer_service = "b"), app(2, Server, "b").under(1)];
    assert_eq!(lines(&spans), ["a -> b (2 in) assumed"]);
}

/// Spans that are their own parents, in circles, of zero ids. Guarantee: an answer, the same for every order.
#[test]
fn impossible_trees() {
    assert_eq!(lines(&[sidecar(1, Server, "a-v1").under(1)]), ["missing -> a (1 in) unresolved"]);
    let circle = [
        sidecar(1, Server, "a-v1").under(3),
        sidecar(2, Client, "a-v1").under(1).to("b"),
        sidecar(3, Server, "b-v1").under(2).from("b", "a-v1"),
    ];
    assert_eq!(lines(&circle), ["missing -> a (1 in) unresolved", "a -> b (3 in)"]);
    assert_eq!(lines(&[Span::default()]), [""; 0]);
    assert_eq!(lines(&[Span { kind: Server, ..Span::default() }]), ["unknown ->  (0 in)"]);
    assert_eq!(lines(&[]), [""; 0]);
}

/// Waypoints of a later Istio that write a CLIENT span. Guarantee: no call of the destination to itself.
#[test]
fn waypoint_client_is_no_call() {
    let way = waypoint(2, "b").under(1);
    let out = bare(3, "router egress", &way).under(2).with(|s| s.upstream_cluster = way.upstream_cluster);
    let spans = [gateway(1, Client).to("b"), way, out, app(4, Server, "b").under(3)];
    assert_eq!(lines(&spans), ["outside -> gw (1 in)", "gw -> b (2 in)"]);
}

/// Sampling that is known on both sides, on one, on none. Guarantee: the weight of the larger threshold, or unknown.
#[test]
fn weights() {
    let weight = |client: &'static str, server: &'static str| {
        let [a, b] = <[_; 2]>::try_from(pair()).unwrap();
        hops(&[a.with(|s| s.trace_state = client), b.with(|s| s.trace_state = server)])[0].weight
    };
    assert_eq!(weight("ot=th:8", "ot=th:8"), Some(2 * WEIGHT_ONE));
    assert_eq!(weight("ot=th:8", "ot=th:0"), Some(2 * WEIGHT_ONE));
    assert_eq!(weight("ot=th:8", ""), None);
    assert_eq!(weight("", ""), None);
    assert_eq!(weight("ot=th:c", "ot=th:c"), None, "the trace id's randomness is below the threshold");
}

/// The tag that names the client's certificate on either side, at a gateway, at a waypoint and on an SDK's span. Guarantee: who received the
/// request tells; what a sidecar says of its own application, and a waypoint of the inside of a tunnel, is not taken.
#[test]
fn mutual_tls() {
    let told = |principal: &'static str| move |span: &mut Span<'static>| span.source_principal = principal;
    let mtls = |client: &'static str, server: &'static str| {
        let [a, b] = <[_; 2]>::try_from(pair()).unwrap();
        hops(&[a.with(told(client)), b.with(told(server))])[0].mtls
    };
    assert_eq!(mtls("-", "spiffe://mesh/ns/shop/sa/a"), Some(true));
    assert_eq!(mtls("", "-"), Some(false));
    assert_eq!(mtls("spiffe://mesh/ns/shop/sa/a", ""), None);
    let spans = [gateway(1, Client).to("b").with(told("-")), waypoint(2, "b").under(1).with(told("-"))];
    assert_eq!(hops(&spans).iter().map(|hop| hop.mtls).collect::<Vec<_>>(), [Some(false), None]);
    let unanswered = [sidecar(1, Client, "a-v1").to("b").with(told("-")), app(2, Server, "c").with(told("-"))];
    assert_eq!(hops(&unanswered).iter().map(|hop| hop.mtls).collect::<Vec<_>>(), [None, None]);
}

/// Errors of each class on either side. Guarantee: by the code, then flags, then status; 4xx is a class of its own.
#[test]
fn error_classes() {
    let class = |change: fn(&mut Span<'static>)| {
        let [a, b] = <[_; 2]>::try_from(pair()).unwrap();
        hops(&[a, b.with(change)])[0].callee_report.unwrap().error
    };
    assert_eq!(class(|_| {}), ErrorClass::None);
    assert_eq!(class(|s| s.http_status = Some(404)), ErrorClass::Http4xx);
    assert_eq!(class(|s| (s.http_status, s.error) = (Some(503), true)), ErrorClass::Http5xx);
    assert_eq!(class(|s| (s.grpc_status, s.error) = (Some(14), true)), ErrorClass::Grpc);
    assert_eq!(class(|s| (s.http_status, s.error) = (Some(0), true)), ErrorClass::NoResponse);
    assert_eq!(class(|s| (s.response_flags, s.error) = ("UC", true)), ErrorClass::ResponseFlags);
    assert_eq!(class(|s| s.error = true), ErrorClass::Status);
    assert_eq!(Role::of("", "proxy"), Role::Proxy);
}
