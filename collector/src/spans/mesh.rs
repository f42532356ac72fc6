//! Who a span is of and whom it names: from tags, node id, resource and upstream cluster to the columns of mesh identity.

use meshlake_config::ClusterSource;
use meshlake_storage::{ATTRIBUTE_COLUMNS, AttributeValues, TextKey, Value};

use super::{SpanFields, SpansDecoder, attribute_text, text_key};
use crate::context::{ResourceContext, ScopeContext};
use crate::identity::{NodeId, Peer, cluster_of_address, split_service, workload_of_pod};
use crate::keys::TAGS;

/// What a span's own identity is derived from, besides its resource.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct IdentitySource {
    node_id: Option<TextKey>,
    component: Option<TextKey>,
    /// Whether the scope says so.
    envoy: bool,
    tags: [Option<TextKey>; TAGS],
}

/// A span's own identity, as keys of the columns.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Identity {
    /// The columns that tags may stand in, and whether the tag says just the same.
    tagged: [Option<TextKey>; TAGS],
    pub(super) same: [bool; TAGS],
    workload: Option<TextKey>,
    pod: Option<TextKey>,
    node: Option<TextKey>,
    proxy: Option<TextKey>,
}

/// A peer, as keys of the columns.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct NamedPeer {
    service: Option<TextKey>,
    namespace: Option<TextKey>,
    kind: Option<TextKey>,
    port: Option<i32>,
}

const CLUSTER: usize = 0;
const NAMESPACE: usize = 1;
const SERVICE: usize = 2;
const VERSION: usize = 3;
const ZONE: usize = 4;

/// What Istio writes where it knows nothing is nothing.
fn known(text: &[u8]) -> Option<&[u8]> {
    Some(text).filter(|text| !text.is_empty() && *text != b"unknown")
}

fn known_parts<'a>((service, namespace): (&'a [u8], &'a [u8])) -> (Option<&'a [u8]>, Option<&'a [u8]>) {
    (known(service), known(namespace))
}

impl SpansDecoder<'_> {
    pub(super) fn own_identity<'a>(&mut self, span: &SpanFields<'a>, resource: &ResourceContext<'a>, scope: &ScopeContext) {
        let row = self.rows.rows();
        let node_id = text_key(self.rows, self.columns.node_id);
        let mut tags = [None; TAGS];
        for (index, tag) in span.tags.iter().enumerate() {
            if let (Some(tag), AttributeValues::Text(column)) = (tag, &mut self.rows.attributes[index]) {
                tags[index] = Some(column.intern(tag));
            }
        }
        let source =
            IdentitySource { node_id, component: text_key(self.rows, self.columns.component), envoy: scope.is_envoy, tags };
        let identity = self.identities.get(&source).unwrap_or_else(|| {
            let identity = self.derive_identity(span, &source, resource);
            self.identities.insert(source, identity);
            identity
        });
        self.identity = identity;
        for (index, value) in identity.tagged.iter().enumerate() {
            if let (Some(value), AttributeValues::Text(column)) = (value, &mut self.rows.attributes[index]) {
                column.push_key(row, *value);
            }
            if let (Some(tag), false) = (span.tags[index], identity.same[index]) {
                let key = ATTRIBUTE_COLUMNS[index].sources[1].key;
                self.rows.span_attributes.push(row, key.as_bytes(), Value::Text(tag));
            }
        }
        let rows = &mut *self.rows;
        let columns = [
            (&mut rows.workload, identity.workload),
            (&mut rows.pod, identity.pod),
            (&mut rows.node, identity.node),
            (&mut rows.proxy, identity.proxy),
        ];
        for (column, value) in columns {
            if let Some(value) = value {
                column.push_key(row, value);
            }
        }
    }

    fn derive_identity<'a>(&mut self, span: &SpanFields<'a>, source: &IdentitySource, resource: &ResourceContext<'a>) -> Identity {
        let of = &resource.identity;
        let node_text = source.node_id.map(|key| attribute_text(self.rows, self.columns.node_id, key).to_vec()).unwrap_or_default();
        let node = NodeId::parse(&node_text);
        let node_namespace = Some(node.namespace).filter(|namespace| !namespace.is_empty());
        let component = source.component.map(|key| attribute_text(self.rows, self.columns.component, key));
        let proxy = source.envoy || of.is_envoy || node.proxy.is_some() || component == Some(b"proxy");
        let namespace = span.tags[NAMESPACE].and_then(known).or(node_namespace).or(of.namespace).or(of.service_namespace);
        let (service, service_namespace) = match of.service {
            Some(name) if proxy => known_parts(split_service(name, namespace)),
            service => (service, None),
        };
        let settings = self.settings;
        let address = Some(node.address).filter(|address| !address.is_empty()).or(of.pod_address);
        let cluster = settings.cluster_sources.iter().find_map(|source| match source {
            ClusterSource::K8sClusterName => of.cluster,
            ClusterSource::IstioClusterId => span.tags[CLUSTER].and_then(known),
            ClusterSource::PodAddress => cluster_of_address(&settings.cluster_ranges, address?).map(str::as_bytes),
        });
        let default_cluster = Some(self.settings.default_cluster.as_bytes()).filter(|cluster| !cluster.is_empty());
        let pod = Some(node.pod).filter(|pod| !pod.is_empty()).or(of.pod);
        let workload = if node.proxy.is_none() { of.workload() } else { None }.or_else(|| pod.map(workload_of_pod));
        let mut derived: [Option<&[u8]>; TAGS] = [None; TAGS];
        derived[CLUSTER] = cluster.or(default_cluster);
        derived[NAMESPACE] = namespace.or(service_namespace);
        derived[SERVICE] = span.tags[SERVICE].and_then(known).or(service);
        derived[VERSION] = span.tags[VERSION].and_then(known).or(of.version);
        derived[ZONE] = span.tags[ZONE].filter(|zone| !zone.is_empty()).or(of.zone).or(span.tags[ZONE]);
        let rows = &mut *self.rows;
        let mut identity = Identity {
            workload: workload.map(|workload| rows.workload.intern(workload)),
            pod: pod.map(|pod| rows.pod.intern(pod)),
            node: of.node.map(|node| rows.node.intern(node)),
            proxy: node.proxy.map(|proxy| rows.proxy.intern(proxy.as_bytes())),
            ..Identity::default()
        };
        for (index, value) in derived.into_iter().enumerate() {
            if let (Some(value), AttributeValues::Text(column)) = (value, &mut rows.attributes[index]) {
                identity.tagged[index] = Some(column.intern(value));
            }
            identity.same[index] = source.tags[index].is_some() && source.tags[index] == identity.tagged[index];
        }
        identity
    }

    pub(super) fn peer_identity(&mut self, span: &SpanFields<'_>) {
        let row = self.rows.rows();
        let mut peer = NamedPeer::default();
        if let Some(cluster) = text_key(self.rows, self.columns.upstream_cluster) {
            peer = self.peers.get(&cluster).unwrap_or_else(|| {
                let peer = self.derive_peer(cluster);
                self.peers.insert(cluster, peer);
                peer
            });
        } else if let Some(service) = span.peer {
            peer.service = Some(self.rows.peer_service.intern(service));
        }
        let (destination, destination_namespace) = span.destination;
        if let Some(destination) = destination.and_then(known) {
            peer.service = Some(self.rows.peer_service.intern(destination));
            let namespace = destination_namespace.and_then(known).map(|name| self.rows.peer_namespace.intern(name));
            peer.namespace = namespace.or(peer.namespace);
        }
        let rows = &mut *self.rows;
        let columns =
            [(&mut rows.peer_service, peer.service), (&mut rows.peer_namespace, peer.namespace), (&mut rows.peer_kind, peer.kind)];
        for (column, value) in columns {
            if let Some(value) = value {
                column.push_key(row, value);
            }
        }
        if let Some(port) = peer.port {
            rows.peer_port.push(row, port);
        }
    }

    fn derive_peer(&mut self, cluster: TextKey) -> NamedPeer {
        let text = attribute_text(self.rows, self.columns.upstream_cluster, cluster).to_vec();
        let peer = Peer::of_cluster(&text);
        let rows = &mut *self.rows;
        NamedPeer {
            service: (!peer.service.is_empty()).then(|| rows.peer_service.intern(peer.service)),
            namespace: (!peer.namespace.is_empty()).then(|| rows.peer_namespace.intern(peer.namespace)),
            kind: peer.kind.map(|kind| rows.peer_kind.intern(kind.as_bytes())),
            port: peer.port,
        }
    }
}

#[cfg(test)]
mod tests;
