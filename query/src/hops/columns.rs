//! Rows of `spans` as what H reads of a span. Texts are borrowed from the batch.

use std::ops::Range;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, FixedSizeBinaryArray, Int16Array, Int64Array, ListArray, TimestampMicrosecondArray,
};
use arrow::record_batch::RecordBatch;
use datafusion::error::Result;
use meshlake_hops::{Link, Role, Span, SpanKind};
use meshlake_storage::ResidualMap;

use super::attributes::{self, Attributes};
use crate::otlp::nanoseconds;
use crate::trace_id::TraceId;
use crate::values::{TextColumn, open};

/// The columns of `spans` that H needs.
pub(crate) const SPAN_COLUMNS: &[&str] = &[
    "trace_id",
    "span_id",
    "parent_span_id",
    "start_time",
    "start_nanos",
    "duration",
    "name",
    "kind",
    "error",
    "trace_state",
    "workload",
    "pod",
    "proxy",
    "peer_service",
    "cluster",
    "namespace",
    "service",
    "version",
    "zone",
    "http_method",
    "http_status_code",
    "http_url",
    "http_protocol",
    "request_size",
    "response_size",
    "grpc_status_code",
    "response_flags",
    "node_id",
    "mesh_id",
    "component",
    "upstream_cluster",
    "peer_address",
    "server_address",
    "server_port",
    "rpc_system",
    "rpc_service",
    "rpc_method",
    "db_system",
    "messaging_destination",
    "service_name",
    "service_namespace",
    "service_instance_id",
    "k8s_namespace_name",
    "k8s_pod_name",
    "host_name",
    "span_attributes",
    "resource_attributes",
    "links",
];

/// [`SPAN_COLUMNS`] of a batch, opened.
pub(crate) struct SpanColumns<'a> {
    trace_id: &'a FixedSizeBinaryArray,
    span_id: &'a FixedSizeBinaryArray,
    parent_span_id: &'a FixedSizeBinaryArray,
    start_time: &'a TimestampMicrosecondArray,
    start_nanos: &'a Int16Array,
    duration: &'a Int64Array,
    name: TextColumn<'a>,
    kind: Meanings<'a, SpanKind>,
    error: &'a BooleanArray,
    trace_state: TextColumn<'a>,
    workload: TextColumn<'a>,
    pod: TextColumn<'a>,
    /// As if there were no `component`.
    proxy: Meanings<'a, Role>,
    peer_service: TextColumn<'a>,
    cluster: TextColumn<'a>,
    namespace: TextColumn<'a>,
    service: TextColumn<'a>,
    version: TextColumn<'a>,
    zone: TextColumn<'a>,
    http_method: TextColumn<'a>,
    http_status_code: &'a Int64Array,
    http_url: TextColumn<'a>,
    http_protocol: TextColumn<'a>,
    request_size: &'a Int64Array,
    response_size: &'a Int64Array,
    grpc_status_code: &'a Int64Array,
    response_flags: TextColumn<'a>,
    node_id: TextColumn<'a>,
    mesh_id: TextColumn<'a>,
    /// As if there were no `proxy`.
    component: Meanings<'a, Role>,
    upstream_cluster: TextColumn<'a>,
    peer_address: TextColumn<'a>,
    server_address: TextColumn<'a>,
    server_port: &'a Int64Array,
    rpc_system: TextColumn<'a>,
    rpc_service: TextColumn<'a>,
    rpc_method: TextColumn<'a>,
    db_system: TextColumn<'a>,
    messaging_destination: TextColumn<'a>,
    service_name: TextColumn<'a>,
    service_namespace: TextColumn<'a>,
    service_instance_id: TextColumn<'a>,
    k8s_namespace_name: TextColumn<'a>,
    k8s_pod_name: TextColumn<'a>,
    host_name: TextColumn<'a>,
    span_attributes: ResidualMap<'a>,
    resource_attributes: ResidualMap<'a>,
    links: Links<'a>,
}

impl<'a> SpanColumns<'a> {
    pub(crate) fn new(batch: &'a RecordBatch) -> Result<SpanColumns<'a>> {
        let id = |name| open(batch, name, |column| column.as_fixed_size_binary_opt());
        let int = |name| open(batch, name, |column| column.as_primitive_opt());
        let text = |name| open(batch, name, TextColumn::new);
        let map = |name| open(batch, name, ResidualMap::new);
        Ok(SpanColumns {
            trace_id: id("trace_id")?,
            span_id: id("span_id")?,
            parent_span_id: id("parent_span_id")?,
            start_time: open(batch, "start_time", |column| column.as_primitive_opt())?,
            start_nanos: open(batch, "start_nanos", |column| column.as_primitive_opt())?,
            duration: int("duration")?,
            name: text("name")?,
            kind: open(batch, "kind", |column| Meanings::new(column, SpanKind::parse))?,
            error: open(batch, "error", |column| column.as_boolean_opt())?,
            trace_state: text("trace_state")?,
            workload: text("workload")?,
            pod: text("pod")?,
            proxy: open(batch, "proxy", |column| Meanings::new(column, |proxy| Role::of(proxy, "")))?,
            peer_service: text("peer_service")?,
            cluster: text("cluster")?,
            namespace: text("namespace")?,
            service: text("service")?,
            version: text("version")?,
            zone: text("zone")?,
            http_method: text("http_method")?,
            http_status_code: int("http_status_code")?,
            http_url: text("http_url")?,
            http_protocol: text("http_protocol")?,
            request_size: int("request_size")?,
            response_size: int("response_size")?,
            grpc_status_code: int("grpc_status_code")?,
            response_flags: text("response_flags")?,
            node_id: text("node_id")?,
            mesh_id: text("mesh_id")?,
            component: open(batch, "component", |column| Meanings::new(column, |component| Role::of("", component)))?,
            upstream_cluster: text("upstream_cluster")?,
            peer_address: text("peer_address")?,
            server_address: text("server_address")?,
            server_port: int("server_port")?,
            rpc_system: text("rpc_system")?,
            rpc_service: text("rpc_service")?,
            rpc_method: text("rpc_method")?,
            db_system: text("db_system")?,
            messaging_destination: text("messaging_destination")?,
            service_name: text("service_name")?,
            service_namespace: text("service_namespace")?,
            service_instance_id: text("service_instance_id")?,
            k8s_namespace_name: text("k8s_namespace_name")?,
            k8s_pod_name: text("k8s_pod_name")?,
            host_name: text("host_name")?,
            span_attributes: map("span_attributes")?,
            resource_attributes: map("resource_attributes")?,
            links: open(batch, "links", |column| Links::new(column.as_list_opt()?))?,
        })
    }

    /// The trace of a row.
    pub(crate) fn trace_id(&self, row: usize) -> TraceId {
        TraceId(bytes(self.trace_id, row))
    }

    /// The span of a row.
    pub(crate) fn span(&self, row: usize) -> Span<'_> {
        let mut span = [Span::default()];
        self.read(row, &mut span);
        let [span] = span;
        span
    }

    /// Reads the spans of the rows from `first` on into as many that say nothing yet. Column by column: most columns of a batch are empty,
    /// and the others are quicker read one after the other than all of them for each span.
    pub(crate) fn read<'s>(&'s self, first: usize, spans: &mut [Span<'s>]) {
        self.read_rows(Rows { first, alike: true }, spans);
    }

    /// The same into spans that say what other rows of this batch do, which is quicker: what all its rows have alike stands there.
    pub(crate) fn read_over<'s>(&'s self, first: usize, spans: &mut [Span<'s>]) {
        self.read_rows(Rows { first, alike: false }, spans);
    }

    fn read_rows<'s>(&'s self, rows: Rows, spans: &mut [Span<'s>]) {
        self.read_identity(rows, spans);
        self.read_resource(rows, spans);
        self.read_request(rows, spans);
        for (span, row) in spans.iter_mut().zip(rows.first..) {
            span.span_id = bytes(self.span_id, row);
            span.parent_span_id = bytes(self.parent_span_id, row);
            span.start = nanoseconds(self.start_time.value(row), self.start_nanos.value(row));
            // The inverse of how durations are stored, modulo 2^64.
            span.end = span.start.wrapping_add(self.duration.value(row) as u64);
            span.kind = self.kind.of(row);
            span.error = self.error.value(row);
            span.links = self.links.of(row);
            span.role = match self.proxy.of(row) {
                Role::Application => self.component.of(row),
                proxy => proxy,
            };
            span.tagged = self.mesh_id.key(row).is_some();
            let attributes = Attributes::read(&self.span_attributes, row).unwrap_or_default();
            span.source = attributes.source;
            span.destination = attributes.destination;
            span.retry_count = attributes.retry_count;
            span.db_namespace = attributes.db_namespace();
            span.messaging_system = attributes.messaging_system;
            span.messaging_operation = attributes.messaging_operation();
            span.source_principal = attributes.source_principal;
        }
    }

    fn read_identity<'s>(&'s self, rows: Rows, spans: &mut [Span<'s>]) {
        rows.texts(&self.name, spans, |span, text| span.name = text);
        rows.texts(&self.trace_state, spans, |span, text| span.trace_state = text);
        rows.texts(&self.cluster, spans, |span, text| span.cluster = text);
        rows.texts(&self.namespace, spans, |span, text| span.namespace = text);
        rows.texts(&self.workload, spans, |span, text| span.workload = text);
        rows.texts(&self.service, spans, |span, text| span.service = text);
        rows.texts(&self.version, spans, |span, text| span.version = text);
        rows.texts(&self.zone, spans, |span, text| span.zone = text);
        rows.texts(&self.pod, spans, |span, text| span.pod = text);
        rows.texts(&self.node_id, spans, |span, text| span.node_id = text);
    }

    fn read_resource<'s>(&'s self, rows: Rows, spans: &mut [Span<'s>]) {
        rows.texts(&self.service_name, spans, |span, text| span.resource.service_name = text);
        rows.texts(&self.service_namespace, spans, |span, text| span.resource.service_namespace = text);
        rows.texts(&self.service_instance_id, spans, |span, text| span.resource.service_instance_id = text);
        rows.texts(&self.k8s_namespace_name, spans, |span, text| span.resource.k8s_namespace_name = text);
        rows.texts(&self.k8s_pod_name, spans, |span, text| span.resource.k8s_pod_name = text);
        rows.texts(&self.host_name, spans, |span, text| span.resource.host_name = text);
        for (span, row) in spans.iter_mut().zip(rows.first..) {
            span.resource.k8s_pod_ip = attributes::text(&self.resource_attributes, row, "k8s.pod.ip");
        }
    }

    fn read_request<'s>(&'s self, rows: Rows, spans: &mut [Span<'s>]) {
        rows.texts(&self.upstream_cluster, spans, |span, text| span.upstream_cluster = text);
        rows.texts(&self.peer_address, spans, |span, text| span.peer_address = text);
        // Of a proxy's span the column says where `upstream_cluster` points, which may differ where all have the same service.
        self.peer_service
            .read(rows.first, spans, |span, text| span.peer_service = if span.upstream_cluster.is_empty() { text } else { "" });
        rows.texts(&self.server_address, spans, |span, text| span.server_address = text);
        rows.texts(&self.http_url, spans, |span, text| span.http_url = text);
        rows.texts(&self.http_method, spans, |span, text| span.http_method = text);
        rows.texts(&self.http_protocol, spans, |span, text| span.http_protocol = text);
        rows.texts(&self.response_flags, spans, |span, text| span.response_flags = text);
        rows.texts(&self.rpc_system, spans, |span, text| span.rpc_system = text);
        rows.texts(&self.rpc_service, spans, |span, text| span.rpc_service = text);
        rows.texts(&self.rpc_method, spans, |span, text| span.rpc_method = text);
        rows.texts(&self.db_system, spans, |span, text| span.db_system = text);
        rows.texts(&self.messaging_destination, spans, |span, text| span.messaging_destination = text);
        rows.ints(self.server_port, spans, |span, port| span.server_port = port);
        rows.ints(self.http_status_code, spans, |span, status| span.http_status = status);
        rows.ints(self.grpc_status_code, spans, |span, status| span.grpc_status = status);
        rows.ints(self.request_size, spans, |span, size| span.request_size = size);
        rows.ints(self.response_size, spans, |span, size| span.response_size = size);
    }
}

/// Rows of a batch that are read.
#[derive(Clone, Copy)]
struct Rows {
    first: usize,
    /// Whether what all rows of the batch have alike is read, too.
    alike: bool,
}

impl Rows {
    fn texts<'s>(self, column: &TextColumn<'s>, spans: &mut [Span<'s>], set: impl Fn(&mut Span<'s>, &'s str)) {
        if self.alike || column.common_key().is_none() {
            column.read(self.first, spans, set);
        }
    }

    fn ints<'s>(self, column: &Int64Array, spans: &mut [Span<'s>], set: impl Fn(&mut Span<'s>, Option<i64>)) {
        if column.null_count() < column.len() {
            spans.iter_mut().zip(self.first..).for_each(|(span, row)| set(span, int(column, row)));
        }
    }
}

/// A column of few texts, and what each of them means.
struct Meanings<'a, T> {
    column: TextColumn<'a>,
    /// By the place of the text.
    meanings: Vec<T>,
}

impl<'a, T: Copy + Default> Meanings<'a, T> {
    /// `of` tells what a text means; no text means what an empty one does.
    fn new(array: &'a ArrayRef, of: impl Fn(&str) -> T) -> Option<Meanings<'a, T>> {
        let column = TextColumn::new(array)?;
        let meanings = column.dictionary().iter().map(|text| text.map_or_else(T::default, &of)).collect();
        Some(Meanings { column, meanings })
    }

    fn of(&self, row: usize) -> T {
        self.column.key(row).map_or_else(T::default, |key| self.meanings[key])
    }
}

fn int(column: &Int64Array, row: usize) -> Option<i64> {
    column.is_valid(row).then(|| column.value(row))
}

/// An id; zero for null.
fn bytes<const N: usize>(column: &FixedSizeBinaryArray, row: usize) -> [u8; N] {
    let is_there = column.value_size() == N && column.is_valid(row);
    // Two of them are read for each row: `value` is a call.
    if is_there { column.value_data().as_chunks().0[row] } else { [0; N] }
}

/// The column `links`, as H reads links. An id of a wrong length is zero, which no span has.
struct Links<'a> {
    list: &'a ListArray,
    links: Vec<Link>,
}

impl<'a> Links<'a> {
    fn new(list: &'a ListArray) -> Option<Links<'a>> {
        let items = list.values().as_struct_opt()?;
        let trace_ids = items.column_by_name("trace_id")?.as_binary_opt::<i32>()?;
        let span_ids = items.column_by_name("span_id")?.as_binary_opt::<i32>()?;
        let link = |item: usize| Link {
            trace_id: trace_ids.value(item).try_into().unwrap_or_default(),
            span_id: span_ids.value(item).try_into().unwrap_or_default(),
        };
        Some(Links { list, links: (0..items.len()).map(link).collect() })
    }

    fn of(&self, row: usize) -> &[Link] {
        let offsets = self.list.value_offsets();
        let items: Range<usize> = offsets[row] as usize..offsets[row + 1] as usize;
        if self.list.is_null(row) { &[] } else { &self.links[items] }
    }
}
