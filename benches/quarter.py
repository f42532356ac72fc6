#!/usr/bin/env python3
"""Asks a server for the 15 minutes before its newest span, and prints how long that took and what it cost.

    python3 benches/quarter.py HOST:PORT PID [TIMES]

To be compared between stores that have an hour and a month behind those minutes. CPU is that of the process PID.
"""
import http.client
import json
import os
import sys
import time

QUARTER = 15 * 60
WARM_UP = 3


def cpu(pid):
    """CPU seconds of a process."""
    fields = open(f"/proc/{pid}/stat").read().rsplit(") ", 1)[1].split(" ")
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ask(api, query):
    api.request("POST", "/api/mesh/v1/sql", json.dumps({"query": query}), {"content-type": "application/json"})
    answer = json.load(api.getresponse())
    assert "rows" in answer, answer
    return answer["rows"]


def main():
    address, pid, times = sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 90
    api = http.client.HTTPConnection(address)
    spans, newest = ask(api, "select count(*), cast(max(start_time) as bigint) / 1000000 from spans")[0]
    in_range = f"start_time > to_timestamp({newest - QUARTER}) and start_time <= to_timestamp({newest})"
    query = f"select service, count(*), approx_percentile_cont(0.99) within group (order by duration) from spans where {in_range} group by 1"
    for _ in range(WARM_UP):
        rows = ask(api, query)
    before, milliseconds = cpu(pid), []
    for _ in range(times):
        began = time.perf_counter()
        ask(api, query)
        milliseconds.append((time.perf_counter() - began) * 1e3)
    taken = (cpu(pid) - before) / times * 1e3
    milliseconds.sort()
    asked = sum(row[1] for row in rows)
    print(f"{asked} of {spans} spans: p50 {milliseconds[times // 2]:.1f} ms, p99 {milliseconds[int(.99 * (times - 1))]:.1f} ms, CPU {taken:.1f} ms")


main()
