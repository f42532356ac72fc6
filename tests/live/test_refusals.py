"""What is refused, and that clients can tell what to do: the codes and bodies that the OTLP specification asks for."""
import gzip
import os
import time

import grpc
import pytest
import requests
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2_grpc import LogsServiceStub
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2_grpc import MetricsServiceStub
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span
from opentelemetry.sdk.trace.export import SpanExportResult

from otlp import JSON, PROTOBUF
from server import Server, settled, stop_all
from test_sdk import spans_of_every_kind

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
LIMIT = 1 << 20
MALFORMED = b"\x0a\xff\xff\xff\xff\x0f\x01"  # a field that claims to be longer than the message


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A server that takes requests up to 1 MiB."""
    server = Server(tmp_path_factory.mktemp("small"), {"MESHLAKE_OTLP__MAX_REQUEST_SIZE": "1MiB"}).start()
    yield server
    stop_all([server])


def request_of(size: int) -> bytes:
    """A valid request of about `size` bytes that compresses to nearly nothing."""
    span = Span(trace_id=os.urandom(16), span_id=os.urandom(8), name="x" * size)
    return ExportTraceServiceRequest(resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=[span])])]).SerializeToString()


def export(server, body: bytes, **options) -> grpc.RpcError | None:
    """Calls Export with these bytes; the error, or none."""
    with grpc.insecure_channel(server.grpc, options=[("grpc.max_send_message_length", -1)]) as channel:
        try:
            channel.unary_unary(EXPORT)(body, timeout=30, **options)
        except grpc.RpcError as error:
            return error
    return None


def post(server, body: bytes, content_type: str = PROTOBUF, **headers: str) -> requests.Response:
    return requests.post(f"{server.http}/v1/traces", data=body, headers={"Content-Type": content_type, **headers}, timeout=30)


def status_of(answer: requests.Response) -> Status:
    """The google.rpc.Status in the body, which must be in the type that the header names."""
    content_type = answer.headers["content-type"].split(";")[0]
    if content_type == JSON:
        document = answer.json()
        assert set(document) <= {"code", "message", "details"}, document
        return Status(code=document.get("code", 0), message=document["message"])
    assert content_type == PROTOBUF
    return Status.FromString(answer.content)


def assert_takes_spans(server) -> None:
    before = server.count()
    assert export(server, request_of(10)) is None
    settled(server.count, before + 1)


# Scenario: a request over the limit, plain, far over, and only after decompression. Guarantee: RESOURCE_EXHAUSTED that names the
# setting, without RetryInfo: the same request would fail again.
@pytest.mark.parametrize(("size", "compression"), [
    (LIMIT + 1000, grpc.Compression.NoCompression), (16 * LIMIT, grpc.Compression.NoCompression), (16 * LIMIT, grpc.Compression.Gzip)])
def test_oversize_grpc(small, size, compression):
    error = export(small, request_of(size), compression=compression)
    assert error is not None and error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "max_request_size" in error.details()
    metadata = dict(error.trailing_metadata())
    assert "google.rpc.retryinfo-bin" not in metadata
    details = Status.FromString(metadata.get("grpc-status-details-bin", b"")).details
    assert not any(detail.Is(RetryInfo.DESCRIPTOR) for detail in details)
    assert_takes_spans(small)


# Scenario: the same over HTTP, in both content types. Guarantee: 413 with a Status that names the setting, no Retry-After.
@pytest.mark.parametrize("content_type", [PROTOBUF, JSON])
@pytest.mark.parametrize("compressed", [False, True])
def test_oversize_http(small, content_type, compressed):
    body = request_of(LIMIT + 1000) if content_type == PROTOBUF else b'{"resourceSpans":[]' + b" " * LIMIT + b"}"
    answer = post(small, gzip.compress(body), content_type, **{"Content-Encoding": "gzip"}) if compressed else post(small, body, content_type)
    assert answer.status_code == 413
    assert answer.headers["content-type"].split(";")[0] == content_type
    assert "max_request_size" in status_of(answer).message
    assert "retry-after" not in answer.headers
    assert_takes_spans(small)


# Scenario: a body without a length, sent in chunks, that grows over the limit. Guarantee: 413 all the same.
def test_oversize_http_chunked(small):
    answer = post(small, iter([b"\0" * 4096] * (LIMIT // 4096 + 10)))
    assert answer.status_code == 413


# Scenario: the official HTTP exporter meets the limit. Guarantee: it gives the batch up at once and does not try again and again.
def test_sdk_gives_up_on_oversize(small):
    exporter = OTLPSpanExporter(endpoint=f"{small.http}/v1/traces", timeout=20)
    started = time.monotonic()
    assert exporter.export(spans_of_every_kind() * 60) == SpanExportResult.FAILURE
    assert time.monotonic() - started < 15
    exporter.shutdown()


# Scenario: bytes that are no request. Guarantee: INVALID_ARGUMENT, and 400 with a Status in the request's content type.
def test_malformed(small):
    error = export(small, MALFORMED)
    assert error is not None and error.code() == grpc.StatusCode.INVALID_ARGUMENT
    for body, content_type, headers in (
        (MALFORMED, PROTOBUF, {}),
        (b'{"resourceSpans":[', JSON, {}),
        (b'{"resourceSpans":7}', JSON, {}),
        (b"no gzip", PROTOBUF, {"Content-Encoding": "gzip"}),
        (gzip.compress(request_of(1000))[:-9], PROTOBUF, {"Content-Encoding": "gzip"}),
    ):
        answer = post(small, body, content_type, **headers)
        assert answer.status_code == 400, (body, answer.text)
        assert answer.headers["content-type"].split(";")[0] == content_type
        assert status_of(answer).message
    assert_takes_spans(small)


# Scenario: a type or an encoding that OTLP does not know. Guarantee: 415 with a Status.
def test_unsupported_type(small):
    for answer in (post(small, request_of(10), "text/plain"), post(small, request_of(10), PROTOBUF, **{"Content-Encoding": "br"})):
        assert answer.status_code == 415
        assert status_of(answer).message


# Scenario: logs and metrics. Guarantee: UNIMPLEMENTED, so that a client stops and does not take them for stored.
def test_other_signals_are_unimplemented(small):
    with grpc.insecure_channel(small.grpc) as channel:
        for call, request in (
            (LogsServiceStub(channel).Export, ExportLogsServiceRequest()),
            (MetricsServiceStub(channel).Export, ExportMetricsServiceRequest()),
        ):
            with pytest.raises(grpc.RpcError) as raised:
                call(request, timeout=30)
            assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED
