"""The lake, read by other engines (P9)."""
import datetime
import os
import time

import duckdb
import polars
import pytest
from deltalake import DeltaTable
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from otlp import recorded_stream
from server import Server, settled, stop_all
from test_recorded_stream import SPANS, send

EAGER = {
    "MESHLAKE_LIVE__FLUSH_SIZE": "1MiB",
    "MESHLAKE_COMPACTION__INTERVAL": "50ms",
    "MESHLAKE_COMPACTION__SETTLE": "1s",
    "MESHLAKE_RETENTION__AGE": "87600h",
}
SERVICES = "SELECT service, count(*) AS spans, sum(duration) AS duration FROM spans GROUP BY service ORDER BY service"
ONE_SPAN = """SELECT encode(trace_id, 'hex'), encode(span_id, 'hex'), to_unixtime(start_time), name, kind, http_status_code
FROM spans ORDER BY trace_id, start_time, span_id LIMIT 1"""


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    """A server all of whose spans are in the lake, and its table."""
    server = Server(tmp_path_factory.mktemp("lake"), EAGER).start()
    send(server, recorded_stream())
    settled(server.count, SPANS)
    table = server.folder / "data" / "store" / "lake"

    def in_lake() -> int:
        return DeltaTable(table).to_pyarrow_dataset().count_rows() if (table / "_delta_log").exists() else 0

    server.stop()
    server.start()
    deadline = time.monotonic() + 60
    while in_lake() != SPANS and time.monotonic() < deadline:
        time.sleep(0.1)
    assert in_lake() == SPANS, server.log()
    yield server, DeltaTable(table)
    stop_all([server])


def services(server) -> list[tuple]:
    return [tuple(row) for row in server.sql(SERVICES)]


# Scenario: the table read by deltalake into Arrow. Guarantee: the same spans, values of every column type included.
def test_deltalake(lake):
    server, table = lake
    rows = table.to_pyarrow_table()
    assert rows.num_rows == SPANS
    assert sorted(table.metadata().partition_columns) == ["date", "tenant"]
    assert set(rows["tenant"].to_pylist()) == {"default"}
    dates = {row.isoformat() for row in rows["date"].to_pylist()}
    assert dates == {start.date().isoformat() for start in rows["start_time"].to_pylist()}
    first = rows.sort_by([("trace_id", "ascending"), ("start_time", "ascending"), ("span_id", "ascending")]).slice(0, 1).to_pylist()[0]
    trace, span, start, name, kind, status = server.sql(ONE_SPAN)[0]
    assert (first["trace_id"].hex(), first["span_id"].hex(), first["name"], first["kind"]) == (trace, span, name, kind)
    assert first["http_status_code"] == status
    assert int(first["start_time"].timestamp()) == int(start)
    attributes = [dict(row) for row in rows["span_attributes"].to_pylist() if row]
    assert attributes and all(value["string"] is not None or value["int"] is not None for value in attributes[0].values())


# Scenario: the table read by Polars. Guarantee: the same counts and sums.
def test_polars(lake):
    server, table = lake
    frame = polars.read_delta(str(table.table_uri).removeprefix("file://"))
    found = frame.group_by("service").agg(polars.len().alias("spans"), polars.col("duration").sum()).sort("service", nulls_last=True)
    assert [tuple(row) for row in found.rows()] == services(server)


# Scenario: the table's files read by DuckDB. Guarantee: the same counts and sums.
def test_duckdb(lake):
    server, table = lake
    files = table.file_uris()
    found = duckdb.sql(SERVICES.replace("FROM spans", f"FROM read_parquet({files!r})") + " NULLS LAST").fetchall()
    assert [tuple(row) for row in found] == services(server)


# Scenario: readers that prune by the log's statistics and partitions. Guarantee: they find what is there.
def test_pruning(lake):
    _, table = lake
    now = datetime.datetime.now(datetime.timezone.utc)
    assert table.to_pyarrow_table(filters=[("tenant", "=", "default")]).num_rows == SPANS
    assert table.to_pyarrow_table(filters=[("tenant", "=", "another")]).num_rows == 0
    assert table.to_pyarrow_table(filters=[("start_time", "<", now)]).num_rows == SPANS
    assert table.to_pyarrow_table(filters=[("start_time", ">", now + datetime.timedelta(days=1))]).num_rows == 0


TIERS, BATCH = ["gold", "silver", "bronze"], 15_000
TIER = """SELECT attribute('user.tier') AS tier, count(*) FROM spans GROUP BY 1 ORDER BY 1"""
BOTH_FORMS = """coalesce("span.user.tier", span_attributes['user.tier'].string)"""


def tiers(count: int) -> bytes:
    """So many spans of one moment, each of a trace of its own and with an attribute that has no column."""
    start = time.time_ns()

    def span(number: int) -> Span:
        tier = KeyValue(key="user.tier", value=AnyValue(string_value=TIERS[number % len(TIERS)]))
        return Span(trace_id=os.urandom(16), span_id=os.urandom(8), name="buy", start_time_unix_nano=start,
                    end_time_unix_nano=start + 1_000, attributes=[tier])
    scope = ScopeSpans(spans=[span(number) for number in range(count)])
    return ExportTraceServiceRequest(resource_spans=[ResourceSpans(scope_spans=[scope])]).SerializeToString()


@pytest.fixture(scope="module")
def promoted(tmp_path_factory):
    """A server whose lake has a file from before an attribute was promoted, and one with a column for it."""
    server = Server(tmp_path_factory.mktemp("promoted"), EAGER | {"MESHLAKE_COMPACTION__FILE_SIZE": "1MiB"}).start()
    lake = server.folder / "data" / "store" / "lake"
    # Each makes a file that is too large to be merged again.
    for spans in (BATCH, 2 * BATCH):
        send(server, [tiers(BATCH)])
        settled(server.count, spans)
        server.stop()
        server.start()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not ((lake / "_delta_log").exists() and DeltaTable(lake).to_pyarrow_dataset().count_rows() == spans):
            time.sleep(0.1)
    yield server, DeltaTable(lake)
    stop_all([server])


# Scenario: a promoted attribute, which an older file has in the map and a newer one in a column, read by all three. Guarantee: column and map
# together give what our SQL gives.
def test_promoted_attributes(promoted):
    server, table = promoted
    expected = [(tier, 2 * BATCH // len(TIERS)) for tier in sorted(TIERS)]
    assert server.sql(TIER) == expected
    names = [field.name for field in table.schema().fields]
    assert "span.user.tier" in names
    rows = table.to_pyarrow_table(columns=["span.user.tier", "span_attributes"]).to_pylist()
    in_column = sum(row["span.user.tier"] is not None for row in rows)
    assert (in_column, len(rows)) == (BATCH, 2 * BATCH)
    values = [row["span.user.tier"] or dict(row["span_attributes"])["user.tier"]["string"] for row in rows]
    assert sorted((tier, values.count(tier)) for tier in set(values)) == expected
    files = table.file_uris()
    found = duckdb.sql(f"SELECT {BOTH_FORMS} AS tier, count(*) FROM read_parquet({files!r}, union_by_name = true) GROUP BY 1 ORDER BY 1").fetchall()
    assert found == expected
    frame = polars.read_delta(str(table.table_uri).removeprefix("file://"), columns=["span.user.tier"])
    assert frame["span.user.tier"].drop_nulls().len() == in_column
