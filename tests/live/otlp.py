"""OTLP as the tests compare it: what may differ between sent and read back (P5) is taken out, nothing else."""
import base64
import copy
import gzip
import json
import struct
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.json_format import MessageToDict, ParseDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

DATA = Path(__file__).resolve().parents[1] / "data"
PROTOBUF, JSON = "application/x-protobuf", "application/json"
ID_FIELDS = ("traceId", "spanId", "parentSpanId")


def by_span(traces: ExportTraceServiceRequest | TracesData) -> dict[str, dict]:
    """Span id -> the span with its resource and scope. The grouping of equal resources and scopes and the order of attributes are free."""
    spans = {}
    for of_resource in traces.resource_spans:
        for of_scope in of_resource.scope_spans:
            for span in of_scope.spans:
                key = span.span_id.hex()
                assert key not in spans, f"span {key} is there twice"
                spans[key] = {
                    "resource": _plain(of_resource.resource), "resource_schema_url": of_resource.schema_url,
                    "scope": _plain(of_scope.scope), "scope_schema_url": of_scope.schema_url,
                    "span": _plain(span),
                }
    return spans


def from_json(document: dict) -> TracesData:
    """OTLP/JSON differs from protobuf's JSON in its hex ids and integer enums; a field that OTLP does not have is an error."""
    document = copy.deepcopy(document)
    for of_resource in document["resourceSpans"]:
        for of_scope in of_resource.get("scopeSpans", []):
            for span in of_scope["spans"]:
                assert isinstance(span.get("kind", 0), int) and isinstance(span.get("status", {}).get("code", 0), int)
                for item in (span, *span.get("links", [])):
                    _hex_to_base64(item)
    return ParseDict(document, TracesData())


def recorded_stream() -> list[bytes]:
    """The requests of the recorded Envoy stream: each 4 bytes of little-endian length, then the protobuf."""
    content = gzip.decompress((DATA / "envoy-bookinfo.traces.bin.gz").read_bytes())
    return list(_frames(content))


def example() -> dict:
    """The canonical OTLP/JSON example."""
    return json.loads((DATA / "otlp-examples" / "trace.json").read_text())


def _frames(content: bytes) -> Iterator[bytes]:
    position = 0
    while position < len(content):
        (length,) = struct.unpack_from("<I", content, position)
        yield content[position + 4:position + 4 + length]
        position += 4 + length


def _plain(message) -> dict:
    message = copy.deepcopy(message)
    for item in (message, *getattr(message, "events", ()), *getattr(message, "links", ())):
        item.attributes.sort(key=lambda attribute: attribute.key)
    return _without_empty(MessageToDict(message))


def _without_empty(item):
    """Takes out the two messages that may be empty or missing with the same meaning: a status, and the value of an attribute."""
    if isinstance(item, list):
        return [_without_empty(each) for each in item]
    if not isinstance(item, dict):
        return item
    return {key: _without_empty(value) for key, value in item.items() if not (value == {} and key in ("status", "value"))}


def _hex_to_base64(item: dict) -> None:
    for field in ID_FIELDS:
        if field in item:
            item[field] = base64.b64encode(bytes.fromhex(item[field])).decode()
