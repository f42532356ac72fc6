"""A real Envoy mesh: every count that Meshlake gives is the count that the mesh's applications took."""
import time
from collections import Counter
from dataclasses import dataclass

import pytest

from mesh import Bookinfo
from server import Server, settled, stop_all

REQUESTS = 150
PAGE = 40
SLOW_NS = 300_000_000


@dataclass
class Run:
    """A mesh run that has ended: where its spans went, what it really sent, the seconds that bracket it."""

    server: Server
    truth: dict
    range: dict[str, int]

    def everything(self, **search) -> list[dict]:
        """All pages of a trace search."""
        traces, cursor = [], None
        while True:
            page = self.server.json("traces", limit=PAGE, **self.range, **search, **({"cursor": cursor} if cursor else {}))
            traces += page["traces"]
            cursor = page.get("next_cursor")
            assert len(page["traces"]) == PAGE or not cursor, "a page that is not full says that there is more"
            if not cursor:
                return traces

    def errors(self, service: str, kind: str) -> int:
        return sum(row["errors"] for row in self.truth["operations"] if (row["service"], row["kind"]) == (service, kind))


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server"))
    started = int(time.time()) - 1
    mesh = None
    try:
        server.start()
        report = tmp_path_factory.mktemp("report") / "report.json"
        mesh = Bookinfo(server, report, "--requests", str(REQUESTS), "--rps", "40", "--seed", "3")
        truth = mesh.report()
        settled(server.count, truth["spans"])
        yield Run(server, truth, {"start": started, "end": int(time.time()) + 2})
    finally:
        if mesh:
            mesh.end()
        stop_all([server])


@pytest.fixture(scope="module", params=["live", "flushed"])
def run(request, finished_run):
    """The same run twice: read from memory, and from Parquet after the server has been stopped and started again."""
    if request.param == "flushed":
        finished_run.server.stop()
        finished_run.server.start()
    return finished_run


def namespace(service: str) -> str:
    return "istio-system" if service == "istio-ingressgateway" else "bookinfo"


# Scenario: the list of services. Guarantee: each canonical service once, with its namespace, cluster, spans and errors.
def test_services(run):
    found = run.server.json("services", **run.range)["services"]
    expected = [row | {"namespace": namespace(row["service"]), "cluster": "Kubernetes"} for row in run.truth["services"]]
    assert sorted(found, key=lambda row: row["service"]) == expected


# Scenario: the operations of every service. Guarantee: each (operation, kind) once, with its spans and errors.
def test_operations(run):
    for service in (row["service"] for row in run.truth["services"]):
        found = run.server.json(f"services/{service}/operations", **run.range)["operations"]
        expected = [{name: row[name] for name in ("operation", "kind", "spans", "errors")}
                    for row in run.truth["operations"] if row["service"] == service]
        assert sorted(found, key=lambda row: (row["operation"], row["kind"])) == expected


# Scenario: SQL over the columns people type. Guarantee: it agrees with the truth, and so with REST (P3).
def test_sql_counts(run):
    sql = run.server.sql
    by_status = sql("select http_status_code, count(*) from spans group by 1")
    assert {str(status): spans for status, spans in by_status} == run.truth["spans_by_status"]
    by_service = sql("select service, count(*), count(*) filter (where error) from spans group by 1")
    assert by_service == [(row["service"], row["spans"], row["errors"]) for row in run.truth["services"]]
    per_trace = sql("select spans, count(*) from (select trace_id, count(*) as spans from spans group by trace_id) group by 1")
    assert {str(spans): traces for spans, traces in per_trace} == run.truth["spans_per_trace"]
    assert sql("select count(*), count(distinct span_id) from spans") == [(run.truth["spans"],) * 2]


# Scenario: calls as the join of client span and server span. Guarantee: every hop has its requests and errors, none is an orphan.
def test_sql_hops(run):
    hops = run.server.sql("""
        select caller.workload, callee.workload, count(*), count(*) filter (where callee.error)
        from spans caller join spans callee on callee.trace_id = caller.trace_id and callee.parent_span_id = caller.span_id
        where caller.kind = 'client' and callee.kind = 'server' group by 1, 2""")
    assert hops == [(hop["caller"], hop["callee"], hop["requests"], hop["errors"]) for hop in run.truth["hops"]]
    assert run.server.count("parent_span_id is null") == run.truth["traces"]


# Scenario: identity that only the proxy tells. Guarantee: the columns hold it for sidecars and gateways alike.
def test_sql_identity(run):
    identities = run.server.sql("select distinct workload, namespace, proxy, zone from spans where workload like 'reviews-v2%' or proxy = 'gateway'")
    assert identities == [("istio-ingressgateway", "istio-system", "gateway", "eu-west-1a"), ("reviews-v2", "bookinfo", "sidecar", "eu-west-1a")]
    peers = run.server.sql("select distinct peer_service, peer_namespace from spans where service = 'productpage' and kind = 'client'")
    assert peers == [("details", "bookinfo"), ("reviews", "bookinfo")]


# Scenario: the list of traces, page by page, in both orders. Guarantee: every trace once, complete, with its root and services.
@pytest.mark.parametrize("order", ["start", "duration"])
def test_every_trace_is_complete(run, order):
    traces = run.everything(order_by=order)
    assert len({trace["trace_id"] for trace in traces}) == len(traces) == run.truth["traces"]
    assert dict(Counter(str(trace["spans"]) for trace in traces)) == run.truth["spans_per_trace"]
    assert {trace["root_service"] for trace in traces} == {"istio-ingressgateway"}
    assert {trace["root_operation"] for trace in traces} == {"productpage.bookinfo.svc.cluster.local:9080/*"}
    services = Counter()
    for trace in traces:
        assert sum(row["spans"] for row in trace["services"]) == trace["spans"]
        assert sum(row["errors"] for row in trace["services"]) == trace["errors"]
        services.update({row["service"]: row["spans"] for row in trace["services"]})
    assert services == {row["service"]: row["spans"] for row in run.truth["services"]}
    keys = [trace["duration_ns"] if order == "duration" else trace["start_time"] for trace in traces]
    assert keys == sorted(keys, reverse=True)


# Scenario: one trace by its id. Guarantee: as many spans as the summary says, one of them the root.
def test_trace_by_id(run):
    longest = run.everything(order_by="duration")[0]
    document = run.server.json(f"traces/{longest['trace_id']}")
    spans = [span for resource in document["resourceSpans"] for scope in resource["scopeSpans"] for span in scope["spans"]]
    assert len(spans) == longest["spans"]
    assert {span["traceId"].lower() for span in spans} == {longest["trace_id"]}
    assert len([span for span in spans if not span.get("parentSpanId")]) == 1


# Scenario: searches by service, status, attribute and duration. Guarantee: the traces are those of which the truth or SQL speaks.
def test_search(run):
    failed = run.errors("ratings", "server")
    assert failed > 0, "choose another seed: no request failed"
    assert len(run.everything(service="ratings", status="error")) == failed
    assert len(run.everything(service="ratings", attribute="http.status_code=500")) == failed
    assert len(run.everything(service="ratings")) == sum(row["spans"] for row in run.truth["services"] if row["service"] == "ratings")
    assert run.everything(service="nobody") == []
    slow = run.server.sql(f"select count(distinct trace_id) from spans where service = 'ratings' and duration >= {SLOW_NS}")
    assert len(run.everything(service="ratings", min_duration="300ms")) == slow[0][0] > 0
