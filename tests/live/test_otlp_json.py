"""OTLP/JSON, and what every protocol says of spans that cannot be kept."""
import copy
import json

import grpc
import pytest
import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub

from otlp import JSON, PROTOBUF, by_span, example, from_json
from server import settled


def post(server, body: bytes, content_type: str) -> requests.Response:
    return requests.post(f"{server.http}/v1/traces", data=body, headers={"Content-Type": content_type}, timeout=30)


def stored(server, trace_id: str) -> dict:
    answer = server.get(f"traces/{trace_id}")
    return by_span(from_json(answer.json())) if answer.status_code == 200 else {}


# Scenario: the canonical example of the OTLP project. Guarantee: full success in JSON, and the trace reads back equal.
def test_canonical_example(server):
    document = example()
    answer = post(server, json.dumps(document).encode(), JSON)
    assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (200, JSON)
    assert "rejectedSpans" not in answer.json().get("partialSuccess", {})
    settled(lambda: stored(server, "5b8efff798038103d269b633813fc60c"), by_span(from_json(document)))


# Scenario: the freedoms that JSON senders take. Guarantee: numbers or strings for 64 bits, either case of hex, unknown fields are all understood.
def test_json_freedoms(server):
    document = example()
    span = document["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    span.update(traceId="0af7651916cd43dd8448eb211c80319c", startTimeUnixNano=1544712660000000001)
    span["attributes"].append({"key": "bytes", "value": {"bytesValue": "AP8="}})
    span["attributes"].append({"key": "count", "value": {"intValue": 7}})
    expected = by_span(from_json(document))
    span["someFutureField"] = {"a": [1, None]}
    document["another"] = "unknown"
    assert post(server, json.dumps(document).encode(), JSON).status_code == 200
    settled(lambda: stored(server, "0af7651916cd43dd8448eb211c80319c"), expected)


# Scenario: no spans at all. Guarantee: success, in the request's content type.
@pytest.mark.parametrize(("content_type", "body"), [(JSON, b"{}"), (PROTOBUF, b"")])
def test_empty_request(server, content_type, body):
    answer = post(server, body, content_type)
    assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (200, content_type)


def one_good_three_bad(trace_id: str) -> ExportTraceServiceRequest:
    document = example()
    spans = document["resourceSpans"][0]["scopeSpans"][0]["spans"]
    spans[0]["traceId"] = trace_id
    request = ExportTraceServiceRequest.FromString(from_json(document).SerializeToString())
    good = request.resource_spans[0].scope_spans[0].spans[0]
    for field, value in (("trace_id", b""), ("span_id", b"\1" * 7), ("span_id", bytes(8))):
        bad = copy.deepcopy(good)
        setattr(bad, field, value)
        request.resource_spans[0].scope_spans[0].spans.append(bad)
    return request


# Scenario: three spans with unusable ids among one good one, over each protocol. Guarantee: partial success with count and reason, the good one is kept.
@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_partial_success(server, protocol):
    trace_id = {"grpc": "a", "http": "b"}[protocol] * 32
    request = one_good_three_bad(trace_id)
    if protocol == "grpc":
        with grpc.insecure_channel(server.grpc) as channel:
            answer = TraceServiceStub(channel).Export(request, timeout=30)
    else:
        reply = post(server, request.SerializeToString(), PROTOBUF)
        assert reply.status_code == 200
        answer = ExportTraceServiceResponse.FromString(reply.content)
    assert answer.partial_success.rejected_spans == 3
    assert answer.partial_success.error_message
    settled(lambda: len(stored(server, trace_id)), 1)


# Scenario: a span that ends before it starts. Guarantee: it is no error, it is kept as it is and flagged.
def test_end_before_start_is_kept(server):
    document = example()
    span = document["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    span.update(traceId="c" * 32, endTimeUnixNano="1544712659999999999")
    answer = post(server, json.dumps(document).encode(), JSON)
    assert answer.status_code == 200 and not answer.json().get("partialSuccess")
    settled(lambda: stored(server, "c" * 32), by_span(from_json(document)))
    assert server.count("flagged like '%end_before_start%' and duration = -1") == 1


# Scenario: ids that no trace has, written short and in full. Guarantee: 404 as a problem document; a short id is padded on the left.
def test_unknown_and_short_ids(server):
    document = example()
    document["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["traceId"] = "0" * 17 + "e4299711ce47710"
    assert post(server, json.dumps(document).encode(), JSON).status_code == 200
    settled(lambda: len(stored(server, "e4299711ce47710")), 1)
    answer = server.get("traces/" + "d" * 32)
    assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (404, "application/problem+json")


# Scenario: times at the limits of their type. Guarantee: the span is kept and reads back equal.
def test_times_at_their_limits(server):
    document = example()
    span = document["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    span.update(traceId="e" * 32, startTimeUnixNano="0", endTimeUnixNano=str(2**64 - 1))
    assert post(server, json.dumps(document).encode(), JSON).status_code == 200
    settled(lambda: stored(server, "e" * 32), by_span(from_json(document)))
