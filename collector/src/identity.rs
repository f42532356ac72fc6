//! Mesh identity: who a span is of, and who it names as its peer.
//!
//! What proxies write is in Envoy's `node_id` (`sidecar~10.1.2.3~reviews-v2-6f76498fc8-58wpn.bookinfo~…`), Istio's tags, which
//! describe the workload that owns the proxy, and `upstream_cluster` (`outbound|9080|v1|reviews.bookinfo.svc.cluster.local`).

use std::net::IpAddr;
use std::str;

use meshlake_config::ClusterRange;

/// What a `node_id` says. Fields are empty where it does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct NodeId<'a> {
    /// `sidecar`, `gateway`, `waypoint`.
    pub proxy: Option<&'static str>,
    pub address: &'a [u8],
    pub pod: &'a [u8],
    pub namespace: &'a [u8],
}

impl<'a> NodeId<'a> {
    /// Parses `type~ip~pod.namespace~domain`.
    pub(crate) fn parse(text: &'a [u8]) -> NodeId<'a> {
        let mut parts = text.split(|&byte| byte == b'~');
        let proxy = match parts.next() {
            Some(b"sidecar") => Some("sidecar"),
            Some(b"router") => Some("gateway"),
            Some(b"waypoint") => Some("waypoint"),
            _ => return NodeId::default(),
        };
        let (address, name) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        // Pod names may contain dots, namespaces can't.
        match name.iter().rposition(|&byte| byte == b'.') {
            Some(dot) => NodeId { proxy, address, pod: &name[..dot], namespace: &name[dot + 1..] },
            None => NodeId { proxy, address, pod: name, namespace: b"" },
        }
    }
}

/// The workload whose pod this is: the pod's name without what Kubernetes appends to it.
///
/// `name-<hash of 6 to 10>-<4 or 5>` is a Deployment's, `name-<number>` a StatefulSet's, `name-<5 of Kubernetes' own
/// alphabet>` a DaemonSet's or Job's; else the pod is its own workload.
pub(crate) fn workload_of_pod(pod: &[u8]) -> &[u8] {
    let cut = |name: &[u8]| name.iter().rposition(|&byte| byte == b'-').filter(|&dash| dash > 0);
    let Some(last_dash) = cut(pod) else { return pod };
    let (name, last) = (&pod[..last_dash], &pod[last_dash + 1..]);
    let plain = |part: &[u8]| part.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if let Some(dash) = cut(name) {
        let hash = &name[dash + 1..];
        let is_hash = (6..=10).contains(&hash.len()) && plain(hash) && hash.iter().any(u8::is_ascii_digit);
        if is_hash && (4..=5).contains(&last.len()) && plain(last) {
            return &name[..dash];
        }
    }
    let generated = |byte: &u8| b"bcdfghjklmnpqrstvwxz2456789".contains(byte);
    let ordinal = !last.is_empty() && last.iter().all(u8::is_ascii_digit);
    if ordinal || (last.len() == 5 && last.iter().all(generated)) { name } else { pod }
}

/// The cluster of the smallest range that a pod's address is in.
pub(crate) fn cluster_of_address<'r>(ranges: &'r [ClusterRange], address: &[u8]) -> Option<&'r str> {
    let address: IpAddr = str::from_utf8(address).ok()?.parse().ok()?;
    let around = ranges.iter().filter(|range| range.contains(address));
    around.max_by_key(|range| range.prefix()).map(ClusterRange::cluster)
}

/// Who a proxy span names as its peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Peer<'a> {
    pub kind: Option<&'static str>,
    /// A Kubernetes service's name without its namespace, else the whole host.
    pub service: &'a [u8],
    pub namespace: &'a [u8],
    pub port: Option<i32>,
}

impl<'a> Peer<'a> {
    /// Parses Envoy's `upstream_cluster` as Istio names clusters: `direction|port|subset|host`.
    pub(crate) fn of_cluster(cluster: &'a [u8]) -> Peer<'a> {
        // Names for observability end in `;` and more.
        let cluster = cluster.split(|&byte| byte == b';').next().unwrap_or_default();
        let of_kind = |kind| Peer { kind: Some(kind), ..Peer::default() };
        match cluster {
            b"PassthroughCluster" => return of_kind("passthrough"),
            b"BlackHoleCluster" => return of_kind("blackhole"),
            b"AllowAnyDynamicDNSCluster" => return of_kind("dynamic_dns"),
            _ if cluster.starts_with(b"InboundPassthroughCluster") => return of_kind("inbound"),
            _ => {}
        }
        Peer::of_parts(cluster.splitn(4, |&byte| byte == b'|')).or_else(|| Peer::of_sni(cluster)).unwrap_or_default()
    }

    /// `outbound_.9080_.v1_.reviews.bookinfo.svc.cluster.local`, as in the SNI of an east-west gateway.
    fn of_sni(cluster: &'a [u8]) -> Option<Peer<'a>> {
        let rest = cluster.strip_prefix(b"outbound_.")?;
        let mut parts = rest.splitn(3, |&byte| byte == b'_');
        let (port, subset, host) = (parts.next()?, parts.next()?, parts.next()?);
        Peer::of_parts([b"outbound", port, subset, host.strip_prefix(b".")?].into_iter())
    }

    fn of_parts(mut parts: impl Iterator<Item = &'a [u8]>) -> Option<Peer<'a>> {
        let (direction, port, _subset, host) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let kind = match direction {
            b"outbound" => "service",
            b"inbound" => "inbound",
            b"inbound-vip" => "waypoint",
            _ => return None,
        };
        let (service, namespace) = split_host(host);
        let port = str::from_utf8(port).ok().and_then(|port| port.parse().ok());
        Some(Peer { kind: Some(kind), service, namespace, port })
    }
}

/// Service and namespace of a Kubernetes host (`reviews.bookinfo.svc.cluster.local`); any other host is a service of no
/// namespace.
pub(crate) fn split_host(host: &[u8]) -> (&[u8], &[u8]) {
    let mut labels = host.splitn(4, |&byte| byte == b'.');
    match (labels.next(), labels.next(), labels.next()) {
        (Some(service), Some(namespace), Some(b"svc")) => (service, namespace),
        _ => (host, b""),
    }
}

/// Service and namespace that a proxy's `service.name` tells: `<app>.<namespace>`, or the host of a Kubernetes service, which
/// waypoints of Istio 1.28 and 1.29 write. Where the `namespace` is known otherwise, only that is split off. Names that Envoy
/// has without an app are empty.
pub(crate) fn split_service<'a>(name: &'a [u8], namespace: Option<&[u8]>) -> (&'a [u8], &'a [u8]) {
    let of_host = split_host(name);
    let (service, found) = match name.iter().rposition(|&byte| byte == b'.') {
        _ if !of_host.1.is_empty() => of_host,
        Some(dot) if namespace.is_none_or(|namespace| namespace == &name[dot + 1..]) => (&name[..dot], &name[dot + 1..]),
        _ => (name, &b""[..]),
    };
    let nobody = matches!(service, b"istio-proxy" | b"unknown_service:envoy");
    (if nobody { b"" } else { service }, found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: the node ids of each kind of proxy. Guarantee: kind, address, pod and namespace are read from them.
    #[test]
    fn node_ids() {
        let parsed = NodeId::parse(b"sidecar~10.244.0.23~reviews-v2-6f76498fc8-58wpn.bookinfo~bookinfo.svc.cluster.local");
        let (pod, namespace) = (&b"reviews-v2-6f76498fc8-58wpn"[..], &b"bookinfo"[..]);
        assert_eq!(parsed, NodeId { proxy: Some("sidecar"), address: b"10.244.0.23", pod, namespace });
        assert_eq!(NodeId::parse(b"router~10.0.0.1~gw-1.istio-system~d").proxy, Some("gateway"));
        assert_eq!(NodeId::parse(b"waypoint~10.0.0.1~w.ns~d").proxy, Some("waypoint"));
        assert_eq!(NodeId::parse(b"gw-7fc7dbd6fc-fb24g.default"), NodeId::default());
    }

    /// Scenario: addresses in one range, in one within another, in none, of both families, and no addresses. Guarantee: the cluster of
    /// the smallest range around.
    #[test]
    fn addresses() {
        let ranges = ["10.0.0.0/8=all", "10.4.0.0/14=east", "10.8.0.0/14=west", "fd00:1::/32=east"];
        let ranges: Vec<ClusterRange> = ranges.iter().map(|range| range.parse().unwrap()).collect();
        for (address, cluster) in [
            ("10.4.0.1", Some("east")),
            ("10.7.255.255", Some("east")),
            ("10.8.0.0", Some("west")),
            ("10.12.0.1", Some("all")),
            ("::ffff:10.4.0.1", Some("east")),
            ("fd00:1:2::7", Some("east")),
            ("fd00:2::7", None),
            ("11.0.0.1", None),
            ("10.4.0", None),
            ("", None),
        ] {
            assert_eq!(cluster_of_address(&ranges, address.as_bytes()), cluster, "{address}");
        }
    }

    /// Scenario: pods of each controller. Guarantee: the workload's name is what its owner gave it.
    #[test]
    fn workloads() {
        for (pod, workload) in [
            ("reviews-v2-6f76498fc8-58wpn", "reviews-v2"),
            ("productpage-v1-7d9f6c5b8-x1kq", "productpage-v1"),
            ("mysql-0", "mysql"),
            ("fluentd-x7k2p", "fluentd"),
            ("standalone", "standalone"),
            ("my-tool", "my-tool"),
            ("checkout-service", "checkout-service"),
            ("-58wpn", "-58wpn"),
        ] {
            assert_eq!(workload_of_pod(pod.as_bytes()), workload.as_bytes(), "{pod}");
        }
    }

    /// Scenario: service names as proxies have them. Guarantee: they are split into service and namespace.
    #[test]
    fn service_names() {
        for (name, namespace, expected) in [
            ("productpage.bookinfo", None, ("productpage", "bookinfo")),
            ("productpage.bookinfo", Some("bookinfo"), ("productpage", "bookinfo")),
            ("shop.v2", Some("bookinfo"), ("shop.v2", "")),
            ("my.app.bookinfo", None, ("my.app", "bookinfo")),
            ("productpage", None, ("productpage", "")),
            ("reviews.bookinfo.svc.cluster.local", None, ("reviews", "bookinfo")),
            ("reviews.bookinfo.svc.cluster.local", Some("bookinfo"), ("reviews", "bookinfo")),
            ("istio-proxy.bookinfo", None, ("", "bookinfo")),
            ("istio-proxy", None, ("", "")),
            ("unknown_service:envoy", None, ("", "")),
            ("", None, ("", "")),
        ] {
            let found = split_service(name.as_bytes(), namespace.map(str::as_bytes));
            assert_eq!(found, (expected.0.as_bytes(), expected.1.as_bytes()), "{name}");
        }
    }

    /// Scenario: the cluster names that Istio makes. Guarantee: the peer is what the name says, and plumbing is nobody.
    #[test]
    fn clusters() {
        let peer = |kind, service: &'static str, namespace: &'static str, port| Peer {
            kind: Some(kind),
            service: service.as_bytes(),
            namespace: namespace.as_bytes(),
            port,
        };
        for (cluster, expected) in [
            ("outbound|9080|v1|reviews.default.svc.cluster.local", peer("service", "reviews", "default", Some(9080))),
            ("outbound|443||www.example.com", peer("service", "www.example.com", "", Some(443))),
            ("outbound|9080||reviews.default.svc.cluster.local;", peer("service", "reviews", "default", Some(9080))),
            ("outbound_.9080_.v1_.reviews.default.svc.cluster.local", peer("service", "reviews", "default", Some(9080))),
            ("outbound|80||db.prod.svc.clusterset.local", peer("service", "db", "prod", Some(80))),
            ("inbound|9080||", peer("inbound", "", "", Some(9080))),
            ("inbound-vip|80|http|reviews.bookinfo.svc.cluster.local", peer("waypoint", "reviews", "bookinfo", Some(80))),
            ("PassthroughCluster", peer("passthrough", "", "", None)),
            ("InboundPassthroughClusterIpv4", peer("inbound", "", "", None)),
            ("main_internal", Peer::default()),
            ("", Peer::default()),
        ] {
            assert_eq!(Peer::of_cluster(cluster.as_bytes()), expected, "{cluster}");
        }
    }
}
