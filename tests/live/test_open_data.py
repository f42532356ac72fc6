"""The lake, read by other engines (P9)."""
import datetime
import os
import time

import duckdb
import polars
import pyarrow
import pytest
from deltalake import DeltaTable
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
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
ALL = SPANS + 1
SERVICES = "SELECT service, count(*) AS spans, sum(duration) AS duration FROM spans GROUP BY service ORDER BY service"
ONE_SPAN = """SELECT encode(trace_id, 'hex'), encode(span_id, 'hex'), to_unixtime(start_time), name, kind, http_status_code
FROM spans ORDER BY trace_id, start_time, span_id LIMIT 1"""


def rich() -> bytes:
    """A span with all that proxies do not send: events, links, attributes of every type."""
    values = [AnyValue(string_value="gold"), AnyValue(int_value=-1), AnyValue(double_value=0.5), AnyValue(bool_value=True), AnyValue(bytes_value=b"\0"),
              AnyValue(array_value=ArrayValue(values=[AnyValue(int_value=1)])), AnyValue()]
    attributes = [KeyValue(key=f"rich.{number}", value=value) for number, value in enumerate(values)]
    now = time.time_ns()
    span = Span(trace_id=b"\xff" * 16, span_id=os.urandom(8), name="rich", start_time_unix_nano=now, end_time_unix_nano=now + 1, attributes=attributes,
                events=[Span.Event(time_unix_nano=now, name="event", attributes=attributes), Span.Event(time_unix_nano=now + 1, name="bare")],
                links=[Span.Link(trace_id=os.urandom(16), span_id=os.urandom(8), attributes=attributes)])
    resource = Resource(attributes=[KeyValue(key="service.name", value=AnyValue(string_value="rich")), *attributes])
    return ExportTraceServiceRequest(resource_spans=[ResourceSpans(resource=resource, scope_spans=[ScopeSpans(spans=[span])])]).SerializeToString()


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    """A server all of whose spans are in the lake, and its table, whose maps are whole."""
    server = Server(tmp_path_factory.mktemp("lake"), EAGER | {"MESHLAKE_COMPACTION__PROMOTED_MAX": "0"}).start()
    send(server, [*recorded_stream(), rich()])
    settled(server.count, ALL)
    table = server.folder / "data" / "store" / "lake"

    def in_lake() -> int:
        return DeltaTable(table).to_pyarrow_dataset().count_rows() if (table / "_delta_log").exists() else 0

    server.stop()
    server.start()
    deadline = time.monotonic() + 60
    while in_lake() != ALL and time.monotonic() < deadline:
        time.sleep(0.1)
    assert in_lake() == ALL, server.log()
    yield server, DeltaTable(table)
    stop_all([server])


def services(server) -> list[tuple]:
    return [tuple(row) for row in server.sql(SERVICES)]


def plain(value):
    """A value without what readers do differently: maps are pairs in one order."""
    if isinstance(value, list) and value and all(isinstance(pair, tuple) for pair in value):
        value = dict(value)
    elif isinstance(value, list) and value and all(isinstance(pair, dict) and pair.keys() == {"key", "value"} for pair in value):
        value = {pair["key"]: pair["value"] for pair in value}
    if isinstance(value, dict):
        return sorted((key, plain(part)) for key, part in value.items())
    return [plain(part) for part in value] if isinstance(value, list) else value


def values(table: pyarrow.Table, columns: list[str]) -> list[dict]:
    """All spans with all that is known of them, in one order."""
    rows = [{name: plain(value) for name, value in row.items()} for row in table.select(columns).to_pylist()]
    return sorted(rows, key=lambda row: (row["trace_id"], row["span_id"], row["kind"], row["start_time"]))


# Scenario: every column of every span, maps, events and links among them, read by deltalake, DuckDB and Polars. Guarantee: each gives what our
# SQL gives.
def test_every_value(lake):
    server, table = lake
    ours = server.sql_arrow("SELECT * FROM spans")
    columns = [name for name in ours.column_names if name != "tenant"]
    expected = values(ours, columns)
    assert len(expected) == ALL
    assert values(table.to_pyarrow_table(), columns) == expected
    files = table.file_uris()
    assert values(duckdb.sql(f"FROM read_parquet({files!r})").to_arrow_table(), columns) == expected
    frame = polars.read_delta(str(table.table_uri).removeprefix("file://"))
    assert values(frame.to_arrow(), columns) == expected


# Scenario: the table read by deltalake into Arrow. Guarantee: the same spans, in the partitions of their dates.
def test_deltalake(lake):
    server, table = lake
    rows = table.to_pyarrow_table()
    assert rows.num_rows == ALL
    assert sorted(table.metadata().partition_columns) == ["date", "tenant"]
    assert set(rows["tenant"].to_pylist()) == {"default"}
    dates = {row.isoformat() for row in rows["date"].to_pylist()}
    assert dates == {start.date().isoformat() for start in rows["start_time"].to_pylist()}
    first = rows.sort_by([("trace_id", "ascending"), ("start_time", "ascending"), ("span_id", "ascending")]).slice(0, 1).to_pylist()[0]
    trace, span, start, name, kind, status = server.sql(ONE_SPAN)[0]
    assert (first["trace_id"].hex(), first["span_id"].hex(), first["name"], first["kind"]) == (trace, span, name, kind)
    assert first["http_status_code"] == status
    assert int(first["start_time"].timestamp()) == int(start)


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
    assert table.to_pyarrow_table(filters=[("tenant", "=", "default")]).num_rows == ALL
    assert table.to_pyarrow_table(filters=[("tenant", "=", "another")]).num_rows == 0
    assert table.to_pyarrow_table(filters=[("start_time", "<", now)]).num_rows == ALL
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
