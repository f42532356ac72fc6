//! Which attributes have a column of their own, and how a column tells what it was made from.
//!
//! A column stands for a concept (`http_method`), not for a key: meshes and SDKs say the same thing under several keys and
//! types (`http.method`, `http.request.method`; `"200"`, `200`). The column holds the value once; two bits of the column
//! `origins` say which of the column's [`Source`]s it came from, so that the attribute reads back exactly as it was sent
//! (P5). An attribute that finds its column taken, or has another type than its source states, stands in the residual map.

use crate::residual::ValueType;
use crate::schema::Scope;

/// How the value of an attribute stands in its column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A string, in a text column.
    Text,
    /// An integer, in an integer column.
    Int,
    /// A string that is the canonical decimal form of an integer (`"200"`, not `"0200"`), in an integer column.
    Decimal,
    /// No attribute: the value was derived from others (mesh identity).
    Derived,
}

impl Form {
    /// The type of the attribute; none where it is none.
    pub fn value_type(self) -> Option<ValueType> {
        match self {
            Form::Text | Form::Decimal => Some(ValueType::String),
            Form::Int => Some(ValueType::Int),
            Form::Derived => None,
        }
    }
}

/// One attribute key, in one form, that a column may have been filled from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// The attribute's key; empty for [`Form::Derived`].
    pub key: &'static str,
    /// How its value stands in the column.
    pub form: Form,
}

/// A column of `spans` that holds attributes.
#[derive(Clone, Copy, Debug)]
pub struct AttributeColumn {
    /// The column's name in `spans`.
    pub name: &'static str,
    /// Whether the attributes are the span's or the resource's.
    pub scope: Scope,
    /// What the column may come from; the index of the one that applies to a row is in `origins`.
    pub sources: &'static [Source],
    /// The lowest of the two bits of `origins` that hold the index; none needed where there is one source.
    pub shift: Option<u32>,
}

/// Bits of `origins` for one column.
const ORIGIN_MASK: i64 = 0b11;

impl AttributeColumn {
    /// Whether the column holds integers (else text).
    pub fn is_int(&self) -> bool {
        self.sources.iter().any(|source| matches!(source.form, Form::Int | Form::Decimal))
    }

    /// The source that this column was filled from in a row with these `origins`; none for bits no writer sets.
    pub fn source(&self, origins: i64) -> Option<&'static Source> {
        self.sources.get(self.origin(origins))
    }

    /// The position of that source; behind the last one for bits no writer sets.
    #[inline]
    pub fn origin(&self, origins: i64) -> usize {
        self.shift.map_or(0, |shift| (origins >> shift) & ORIGIN_MASK) as usize
    }

    /// The bits of `origins` that name source number `index`.
    #[inline]
    pub fn origin_bits(&self, index: usize) -> i64 {
        self.shift.map_or(0, |shift| (index as i64) << shift)
    }
}

const fn text(key: &'static str) -> Source {
    Source { key, form: Form::Text }
}

const fn int(key: &'static str) -> Source {
    Source { key, form: Form::Int }
}

const fn decimal(key: &'static str) -> Source {
    Source { key, form: Form::Decimal }
}

const DERIVED: Source = Source { key: "", form: Form::Derived };

const fn column(scope: Scope, name: &'static str, sources: &'static [Source]) -> AttributeColumn {
    AttributeColumn { name, scope, sources, shift: None }
}

const fn shared(scope: Scope, name: &'static str, shift: u32, sources: &'static [Source]) -> AttributeColumn {
    AttributeColumn { name, scope, sources, shift: Some(shift) }
}

use Scope::{Resource, Span};

/// The built-in attribute columns, in the order in which they stand in `spans`. Names, order, sources and shifts are part of
/// the file format: append only.
pub static ATTRIBUTE_COLUMNS: &[AttributeColumn] = &[
    // Mesh identity: derived, and where an Istio tag says just the same, the place of that tag.
    shared(Span, "cluster", 29 * 2, &[DERIVED, text("istio.cluster_id")]),
    shared(Span, "namespace", 28 * 2, &[DERIVED, text("istio.namespace")]),
    shared(Span, "service", 27 * 2, &[DERIVED, text("istio.canonical_service")]),
    shared(Span, "version", 26 * 2, &[DERIVED, text("istio.canonical_revision")]),
    shared(Span, "zone", 25 * 2, &[DERIVED, text("zone")]),
    // Requests.
    shared(Span, "http_method", 0, &[text("http.method"), text("http.request.method")]),
    shared(Span, "http_status_code", 2, &[decimal("http.status_code"), int("http.status_code"), int("http.response.status_code")]),
    shared(Span, "http_url", 4, &[text("http.url"), text("url.full")]),
    column(Span, "http_route", &[text("http.route")]),
    column(Span, "http_protocol", &[text("http.protocol")]),
    shared(Span, "user_agent", 6, &[text("user_agent"), text("user_agent.original"), text("http.user_agent")]),
    shared(Span, "request_size", 8, &[decimal("request_size"), int("http.request.body.size")]),
    shared(Span, "response_size", 10, &[decimal("response_size"), int("http.response.body.size")]),
    shared(Span, "grpc_status_code", 12, &[decimal("grpc.status_code"), int("rpc.grpc.status_code")]),
    column(Span, "response_flags", &[text("response_flags")]),
    column(Span, "request_id", &[text("guid:x-request-id")]),
    // The proxy and its peer.
    column(Span, "node_id", &[text("node_id")]),
    column(Span, "mesh_id", &[text("istio.mesh_id")]),
    column(Span, "component", &[text("component")]),
    column(Span, "upstream_cluster", &[text("upstream_cluster")]),
    column(Span, "upstream_cluster_name", &[text("upstream_cluster.name")]),
    column(Span, "upstream_address", &[text("upstream_address")]),
    column(Span, "downstream_cluster", &[text("downstream_cluster")]),
    shared(Span, "peer_address", 14, &[text("peer.address"), text("network.peer.address")]),
    // What SDKs say of the other side.
    shared(Span, "server_address", 16, &[text("server.address"), text("net.peer.name")]),
    shared(Span, "server_port", 18, &[int("server.port"), int("net.peer.port")]),
    column(Span, "rpc_system", &[text("rpc.system")]),
    column(Span, "rpc_service", &[text("rpc.service")]),
    column(Span, "rpc_method", &[text("rpc.method")]),
    shared(Span, "db_system", 20, &[text("db.system"), text("db.system.name")]),
    shared(Span, "messaging_destination", 22, &[text("messaging.destination.name"), text("messaging.destination")]),
    // The resource.
    column(Resource, "service_name", &[text("service.name")]),
    column(Resource, "service_namespace", &[text("service.namespace")]),
    column(Resource, "service_version", &[text("service.version")]),
    column(Resource, "service_instance_id", &[text("service.instance.id")]),
    column(Resource, "k8s_cluster_name", &[text("k8s.cluster.name")]),
    column(Resource, "k8s_namespace_name", &[text("k8s.namespace.name")]),
    column(Resource, "k8s_deployment_name", &[text("k8s.deployment.name")]),
    column(Resource, "k8s_pod_name", &[text("k8s.pod.name")]),
    column(Resource, "k8s_node_name", &[text("k8s.node.name")]),
    column(Resource, "host_name", &[text("host.name")]),
    column(Resource, "sdk_name", &[text("telemetry.sdk.name")]),
    column(Resource, "sdk_language", &[text("telemetry.sdk.language")]),
    column(Resource, "sdk_version", &[text("telemetry.sdk.version")]),
];

/// A place in the column table where an attribute may stand: the column's position in [`ATTRIBUTE_COLUMNS`] and the source's
/// position in its `sources`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Position in [`ATTRIBUTE_COLUMNS`].
    pub column: usize,
    /// Position in that column's sources.
    pub source: usize,
}

/// Every place where the attribute `key` of `scope` may stand besides the residual map.
pub fn places(scope: Scope, key: &str) -> impl Iterator<Item = Place> {
    ATTRIBUTE_COLUMNS.iter().enumerate().filter(move |(_, column)| column.scope == scope).flat_map(move |(index, column)| {
        let matching = column.sources.iter().enumerate().filter(move |(_, source)| source.key == key && !key.is_empty());
        matching.map(move |(source, _)| Place { column: index, source })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: the table of columns as it stands. Guarantee: no two columns share origin bits, so no source is mistaken.
    #[test]
    fn origin_bits_do_not_overlap() {
        let mut used = 0i64;
        for column in ATTRIBUTE_COLUMNS {
            assert!(column.sources.len() == 1 || column.shift.is_some(), "{}", column.name);
            assert!(column.sources.len() <= 1 + ORIGIN_MASK as usize, "{}", column.name);
            if let Some(shift) = column.shift {
                assert!(shift < 62, "{}: the sign bit stays clear", column.name);
                assert_eq!(used & (ORIGIN_MASK << shift), 0, "{}", column.name);
                used |= ORIGIN_MASK << shift;
            }
        }
    }

    /// Scenario: two keys for one concept, in three forms. Guarantee: each is told from the others by its origin.
    #[test]
    fn sources_are_told_apart() {
        let places: Vec<_> = places(Scope::Span, "http.status_code").collect();
        let forms: Vec<_> = places.iter().map(|place| ATTRIBUTE_COLUMNS[place.column].sources[place.source].form).collect();
        assert_eq!(forms, [Form::Decimal, Form::Int]);
        let column = &ATTRIBUTE_COLUMNS[places[0].column];
        assert_eq!(column.source(column.origin_bits(2)).unwrap().key, "http.response.status_code");
    }
}
