"""The recorded Envoy stream, whose counts were taken independently of this project (tests/data/README.md)."""
import itertools
import random
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
import requests

from otlp import PROTOBUF, recorded_stream
from server import settled
from test_refusals import EXPORT

SPANS, TRACES = 5868, 800
GATEWAY = "istio-ingressgateway"
# caller, callee, callee's version: requests, failed
HOPS = [
    (GATEWAY, "productpage", "v1", 800, 0),
    ("productpage", "details", "v1", 800, 0),
    ("productpage", "reviews", "v1", 266, 0),
    ("productpage", "reviews", "v2", 267, 13),
    ("productpage", "reviews", "v3", 267, 11),
    ("reviews", "ratings", "v1", 534, 24),
]
WORKERS = 8


def send(server, bodies: list[bytes]) -> None:
    """Every body once, in this order as far as eight workers keep it, over gRPC and HTTP in turn."""
    session = requests.Session()
    session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=WORKERS))
    with grpc.insecure_channel(server.grpc) as channel:
        call = channel.unary_unary(EXPORT)

        def over_grpc(body: bytes) -> None:
            call(body, timeout=60)

        def over_http(body: bytes) -> None:
            answer = session.post(f"{server.http}/v1/traces", data=body, headers={"Content-Type": PROTOBUF}, timeout=60)
            answer.raise_for_status()

        with ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(lambda job: job[0](job[1]), zip(itertools.cycle((over_grpc, over_http)), bodies)))


# Scenario: the stream in shuffled orders, over both protocols, then the whole of it again from the same senders. Guarantee: SQL gives the
# known counts whatever the order (P4), and byte-identical retries count once (P2), before and after a flush and a restart.
@pytest.mark.parametrize("seed", [1, 2])
def test_counts_in_any_order(start, seed):
    server = start()
    bodies = recorded_stream()
    shuffle = random.Random(seed)
    for _ in range(2):
        shuffle.shuffle(bodies)
        send(server, bodies)
    settled(server.count, SPANS)
    assert_counts(server)
    server.stop()
    server.start()
    assert_counts(server)


def assert_counts(server) -> None:
    sql = server.sql
    assert sql("select count(*), count(distinct trace_id), count(distinct span_id) from spans") == [(SPANS, TRACES, SPANS)]
    assert sql("select http_status_code, count(*) from spans group by 1") == [(200, 5772), (500, 48), (502, 48)]
    assert sql("select service, kind, count(*) from spans where parent_span_id is null group by 1, 2") == [(GATEWAY, "client", TRACES)]
    orphans = """select count(*) from spans child where parent_span_id is not null and not exists (
        select 1 from spans parent where parent.trace_id = child.trace_id and parent.span_id = child.parent_span_id)"""
    assert sql(orphans) == [(0,)]
    hops = sql("""select caller.service, callee.service, callee.version, count(*), count(*) filter (where callee.error)
        from spans caller join spans callee on callee.trace_id = caller.trace_id and callee.parent_span_id = caller.span_id
        where caller.kind = 'client' and callee.kind = 'server' group by 1, 2, 3""")
    assert hops == sorted(HOPS)
    assert sql("select peer_service, count(*), count(*) filter (where error) from spans where kind = 'client' group by 1") == [
        ("details", 800, 0), ("productpage", 800, 0), ("ratings", 534, 24), ("reviews", 800, 24)]
