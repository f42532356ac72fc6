"""Tenants by the header X-Scope-OrgID (P8)."""
import grpc
import pytest
import requests
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator

from server import settled

TENANTS = {"red": 2, "blue": 3, None: 5}  # None: no header, the tenant `default`
TRACE_ID = 0xABCDEF0123456789ABCDEF0123456789
BAD_TENANTS = ["..", ".", "a/b", "a b", "red|blue", "x" * 151, "%2e%2e"]


class OneTrace(IdGenerator):
    """All tenants use one trace id: nothing but the tenant tells their spans apart."""

    def __init__(self, first_span_id: int):
        self._span_id = first_span_id

    def generate_trace_id(self) -> int:
        return TRACE_ID

    def generate_span_id(self) -> int:
        self._span_id += 1
        return self._span_id


@pytest.fixture(scope="module")
def tenants(server):
    """Each tenant sends as many spans as `TENANTS` says, half the tenants over gRPC, half over HTTP."""
    for number, (tenant, spans) in enumerate(TENANTS.items()):
        provider = TracerProvider(resource=Resource({"service.name": f"of-{tenant}"}), id_generator=OneTrace(1000 * number))
        headers = {"X-Scope-OrgID": tenant} if tenant else {}
        exporter = (HttpExporter(endpoint=f"{server.http}/v1/traces", headers=headers) if number % 2 else
                    GrpcExporter(endpoint=server.grpc, insecure=True, headers={name.lower(): value for name, value in headers.items()}))
        made = [provider.get_tracer("t").start_span(f"span of {tenant}") for _ in range(spans)]
        for span in made:
            span.end()
        assert exporter.export(made) == SpanExportResult.SUCCESS
        exporter.shutdown()
    for tenant, spans in TENANTS.items():
        settled(lambda tenant=tenant: server.count(tenant=tenant), spans)
    return server


# Scenario: three tenants share a trace id. Guarantee: by every way of asking each sees its own spans and nothing else.
@pytest.mark.parametrize("tenant", TENANTS)
def test_each_sees_its_own(tenants, tenant):
    recent = {"start": "now-15m"}
    services = tenants.json("services", tenant, **recent)["services"]
    assert [(row["service"], row["spans"]) for row in services] == [(f"of-{tenant}", TENANTS[tenant])]
    document = tenants.json(f"traces/{TRACE_ID:032x}", tenant)
    names = [span["name"] for resource in document["resourceSpans"] for scope in resource["scopeSpans"] for span in scope["spans"]]
    assert names == [f"span of {tenant}"] * TENANTS[tenant]
    traces = tenants.json("traces", tenant, **recent)["traces"]
    assert [trace["spans"] for trace in traces] == [TENANTS[tenant]]
    for other in (other for other in TENANTS if other != tenant):
        assert tenants.json(f"services/of-{other}/operations", tenant, **recent)["operations"] == []
        assert tenants.json("traces", tenant, service=f"of-{other}", **recent)["traces"] == []


# Scenario: SQL that tries to reach past the tenant. Guarantee: whatever it says, it runs over the tenant's own spans.
@pytest.mark.parametrize("query", [
    "select service from spans where service <> 'of-red' or true",
    "select service from spans where true union all select service from spans",
    "with s as (select * from spans) select a.service from s a cross join spans b",
    "select (select max(service) from spans) from spans",
    "select service from spans where service in (select service from spans)",
])
def test_sql_stays_inside(tenants, query):
    assert set(tenants.sql(query, "red")) == {("of-red",)}


# Scenario: a tenant nobody has sent for. Guarantee: empty answers, and 404 for the trace.
def test_unknown_tenant_sees_nothing(tenants):
    assert tenants.count(tenant="green") == 0
    assert tenants.get(f"traces/{TRACE_ID:032x}", "green").status_code == 404


# Scenario: names that are none, some of them paths. Guarantee: refused on ingest and on query, never taken for another tenant.
@pytest.mark.parametrize("name", BAD_TENANTS)
def test_bad_names_are_refused(tenants, name):
    answer = tenants.get("services", name)
    assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (400, "application/problem+json")
    headers = {"Content-Type": "application/x-protobuf", "X-Scope-OrgID": name}
    assert requests.post(f"{tenants.http}/v1/traces", data=b"", headers=headers, timeout=30).status_code == 400
    with grpc.insecure_channel(tenants.grpc) as channel, pytest.raises(grpc.RpcError) as raised:
        TraceServiceStub(channel).Export(ExportTraceServiceRequest(), metadata=(("x-scope-orgid", name),), timeout=30)
    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
