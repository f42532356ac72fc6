"""`kill -9` under load from a real mesh and the official SDK (P1, P2)."""
import threading
import time
from collections import Counter

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

SERVICE = "crash-client"
BATCH = 20
KILLS = 2
BETWEEN_KILLS_S = 2.5
SOON_S = 30
PAUSE_S = 0.01  # keeps the names under the row limit of a SQL answer


class SdkClient(threading.Thread):
    """Exports batches one after the other and notes the names of the spans whose export succeeded."""

    def __init__(self, endpoint: str):
        super().__init__()
        self.acknowledged: list[str] = []
        self.given_up: list[str] = []
        self._exporter = OTLPSpanExporter(endpoint=endpoint, insecure=True, timeout=30)
        self._enough = threading.Event()

    def run(self) -> None:
        memory = InMemorySpanExporter()
        provider = TracerProvider(resource=Resource({"service.name": SERVICE}))
        provider.add_span_processor(SimpleSpanProcessor(memory))
        tracer = provider.get_tracer("crash")
        batch = 0
        while not self._enough.is_set():
            names = [f"span {batch}-{number}" for number in range(BATCH)]
            for name in names:
                tracer.start_span(name).end()
            done = self._exporter.export(memory.get_finished_spans()) == SpanExportResult.SUCCESS
            (self.acknowledged if done else self.given_up).extend(names)
            memory.clear()
            batch += 1
            time.sleep(PAUSE_S)

    def stop(self) -> None:
        self._enough.set()
        self.join()
        self._exporter.shutdown()


# Scenario: the server is killed twice while a mesh and an SDK client send, and started again on the same data folder; the client tries
# again what was not answered. Guarantee: every acknowledged span is there exactly once, no other twice, none of the mesh's twice.
def test_acknowledged_spans_survive(start, bookinfo):
    server = start()
    mesh = bookinfo(server, "--seconds", str(KILLS * BETWEEN_KILLS_S + 8), "--rps", "40")
    client = SdkClient(server.grpc)
    client.start()
    try:
        acknowledged_before = 0
        for _ in range(KILLS):
            time.sleep(BETWEEN_KILLS_S)
            deadline = time.monotonic() + SOON_S  # an exporter that was refused waits before it tries again
            while len(client.acknowledged) == acknowledged_before and time.monotonic() < deadline:
                time.sleep(0.1)
            assert len(client.acknowledged) > acknowledged_before, "nothing was acknowledged since the last start: the test tests nothing"
            acknowledged_before = len(client.acknowledged)
            server.kill()
            server.start()
        truth = mesh.report()
    finally:
        client.stop()
    assert len(client.acknowledged) > acknowledged_before

    for moment in ("from memory and journal", "after flush and restart"):
        stored = Counter(dict(server.sql(f"select name, count(*) from spans where service = '{SERVICE}' group by name")))
        lost = [name for name in client.acknowledged if stored[name] == 0]
        twice = [name for name, count in stored.items() if count > 1]
        assert (lost, twice) == ([], []), moment
        assert set(stored) <= set(client.acknowledged) | set(client.given_up)
        [(spans, distinct)] = server.sql("select count(*), count(distinct span_id) from spans where component = 'proxy'")
        # Envoy sends nothing twice: what it sent while the server was down is lost, the rest is there once.
        assert 0 < spans == distinct <= truth["spans"], moment
        server.stop()
        server.start()
