"""The official OpenTelemetry SDK: what its exporters send reads back equal (P5)."""
import grpc
import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http import Compression as HttpCompression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState, set_span_in_context

from otlp import PROTOBUF, by_span, from_json
from server import settled

EVERY_TYPE = {
    "string": "checkout", "string.empty": "", "string.unicode": "Zürich 東京 🙂", "string.quotes": "a\"b\\c\n\t\u0001",
    "string.long": "x" * 20_000,
    "bool.true": True, "bool.false": False,
    "int": 42, "int.negative": -1, "int.max": 2**63 - 1, "int.min": -(2**63),
    "double": 0.1, "double.negative.zero": -0.0, "double.tiny": 5e-324, "double.whole": 3.0,
    "bytes": b"\x00\xff\xfe", "bytes.empty": b"",
    "array.strings": ["a", "", "c"], "array.ints": [1, -2], "array.empty": [], "array.mixed": [1, "two", 3.0, True, None, b"4", [5, {"six": 6}]],
    "map": {"nested": {"deeper": [1, {"deepest": None}]}, "empty": {}}, "map.empty": {},
    "none": None,
}
# Keys that have a column of their own, in the types and spellings that do not fit it.
COLUMN_KEYS = {
    "http.status_code": 200, "http.method": 7, "http.request.method": "GET", "http.response.status_code": "0200", "request_size": "00",
    "response_size": "9223372036854775808", "grpc.status_code": "-1", "server.port": "443", "istio.namespace": True, "zone": ["a"],
    "node_id": "not an Istio node id", "upstream_cluster": "outbound|80", "error": "true",
}


def spans_of_every_kind() -> list[ReadableSpan]:
    """One trace: a span of every kind, with every attribute type, events, links, every status."""
    memory = InMemorySpanExporter()
    attributes = {"service.name": "shop", "service.version": "1.2.3", "k8s.namespace.name": "sales", "process.pid": 4711, **EVERY_TYPE}
    provider = TracerProvider(resource=Resource(attributes, "https://example.com/resource/1"))
    provider.add_span_processor(SimpleSpanProcessor(memory))
    tracer = provider.get_tracer("shop.checkout", "0.9", "https://example.com/scope/1", {"scope.attribute": [1, 2]})
    other = provider.get_tracer("shop.other")
    far = SpanContext(0x5B8EFFF798038103D269B633813FC60C, 0xEEE19B7EC3C1B174, True, TraceFlags(1), TraceState([("vendor", "x:1"), ("ot", "th:8")]))
    root = tracer.start_span("GET /checkout", kind=SpanKind.SERVER, attributes=EVERY_TYPE, links=[Link(far, EVERY_TYPE), Link(far)])
    root.add_event("exception", EVERY_TYPE, timestamp=1_700_000_000_123_456_789)
    root.add_event("bare")
    root.set_status(Status(StatusCode.ERROR, "card refused: “no funds”"))
    inside = set_span_in_context(root)
    for kind in (SpanKind.INTERNAL, SpanKind.CLIENT, SpanKind.PRODUCER, SpanKind.CONSUMER):
        child = other.start_span(f"child {kind.name}", context=inside, kind=kind, attributes=COLUMN_KEYS)
        child.set_status(Status(StatusCode.OK))
        child.end()
    other.start_span("", context=inside).end()
    root.end()
    return list(memory.get_finished_spans())


def exporter(server, protocol: str, gzip: bool):
    if protocol == "grpc":
        return GrpcExporter(endpoint=server.grpc, insecure=True, compression=grpc.Compression.Gzip if gzip else grpc.Compression.NoCompression)
    return HttpExporter(endpoint=f"{server.http}/v1/traces", compression=HttpCompression.Gzip if gzip else HttpCompression.NoCompression)


@pytest.fixture(params=["grpc", "grpc+gzip", "http", "http+gzip"])
def sent(request, server) -> tuple[str, dict]:
    """Spans that the SDK has exported: their trace id, and what the exporter put on the wire."""
    spans = spans_of_every_kind()
    protocol, _, compression = request.param.partition("+")
    client = exporter(server, protocol, bool(compression))
    try:
        assert client.export(spans) == SpanExportResult.SUCCESS
    finally:
        client.shutdown()
    trace_id = f"{spans[0].context.trace_id:032x}"
    return trace_id, by_span(encode_spans(spans))


# Scenario: spans of every kind over each protocol and compression. Guarantee: the trace reads back equal, as protobuf and as JSON.
def test_reads_back_equal(server, sent):
    trace_id, expected = sent

    def as_protobuf() -> dict:
        answer = server.get(f"traces/{trace_id}", headers={"Accept": PROTOBUF})
        if answer.status_code == 404:
            return {}
        assert (answer.status_code, answer.headers["content-type"]) == (200, PROTOBUF)
        return by_span(TracesData.FromString(answer.content))

    settled(as_protobuf, expected)
    assert by_span(from_json(server.json(f"traces/{trace_id}"))) == expected


# Scenario: the same trace by REST. Guarantee: the search finds it by an attribute that has no column, with its root and errors.
def test_found_by_attribute(server, sent):
    trace_id, expected = sent

    def found() -> list[dict]:
        traces = server.json("traces", service="shop", attribute="string=checkout", start="now-15m")["traces"]
        return [trace for trace in traces if trace["trace_id"] == trace_id]

    settled(lambda: len(found()), 1)
    trace = found()[0]
    assert (trace["root_service"], trace["root_operation"], trace["spans"]) == ("shop", "GET /checkout", len(expected))
    assert trace["services"] == [{"service": "shop", "spans": len(expected), "errors": trace["errors"]}]
