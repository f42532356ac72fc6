//! `upstream_cluster`: the name that Istio gives to where a proxy sends a request.

use crate::flags::Flags;

/// Clusters that carry requests on within the mesh's own tunnels.
const TUNNELS: [&str; 7] = [
    "main_internal",
    "connect_terminate",
    "connect_originate",
    "encap",
    "forward_inner_connect",
    "inner_connect_originate",
    "outer_connect_originate",
];

/// What a cluster's name says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Upstream<'a> {
    /// The host; empty where the name states none.
    pub host: &'a str,
    pub flags: Flags,
}

impl<'a> Upstream<'a> {
    /// Parses `direction|port|subset|host`, the form of SNI (`outbound_.9080_.v1_.host`), or a name with a meaning.
    pub(crate) fn parse(cluster: &'a str) -> Upstream<'a> {
        // Names for observability end in `;` and more.
        let cluster = cluster.split_once(';').map_or(cluster, |(name, _)| name);
        if let Some(host) = host(cluster) {
            return Upstream { host, flags: Flags::NONE };
        }
        let flags = match cluster {
            "PassthroughCluster" | "AllowAnyDynamicDNSCluster" => Flags::PASSTHROUGH,
            "BlackHoleCluster" => Flags::BLACKHOLE,
            _ => Flags::TUNNEL.when(TUNNELS.contains(&cluster)),
        };
        Upstream { host: "", flags }
    }
}

fn host(cluster: &str) -> Option<&str> {
    if let Some(rest) = cluster.strip_prefix("outbound_.") {
        return rest.splitn(3, '_').nth(2)?.strip_prefix('.');
    }
    let rest = cluster.strip_prefix("outbound|").or_else(|| cluster.strip_prefix("inbound-vip|"))?;
    let subset_end = rest.bytes().enumerate().filter(|(_, byte)| *byte == b'|').nth(1);
    subset_end.map(|(end, _)| &rest[end + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: the cluster names that Istio makes. Guarantee: the host is found, and names with a meaning become flags.
    #[test]
    fn clusters() {
        for (cluster, host, flags) in [
            ("outbound|9080|v1|reviews.default.svc.cluster.local", "reviews.default.svc.cluster.local", Flags::NONE),
            ("outbound|9080||reviews.default.svc.cluster.local;", "reviews.default.svc.cluster.local", Flags::NONE),
            ("outbound_.9080_.v1_.reviews.default.svc.cluster.local", "reviews.default.svc.cluster.local", Flags::NONE),
            ("inbound-vip|80|http/v1|reviews.default.svc.cluster.local", "reviews.default.svc.cluster.local", Flags::NONE),
            ("outbound|443||www.example.com", "www.example.com", Flags::NONE),
            ("inbound|9080||", "", Flags::NONE),
            ("PassthroughCluster", "", Flags::PASSTHROUGH),
            ("BlackHoleCluster;", "", Flags::BLACKHOLE),
            ("AllowAnyDynamicDNSCluster", "", Flags::PASSTHROUGH),
            ("main_internal", "", Flags::TUNNEL),
            ("kube_httpbin_httpbin_8000", "", Flags::NONE),
            ("outbound_.9080", "", Flags::NONE),
            ("outbound|", "", Flags::NONE),
            ("", "", Flags::NONE),
        ] {
            assert_eq!(Upstream::parse(cluster), Upstream { host, flags }, "{cluster}");
        }
    }
}
