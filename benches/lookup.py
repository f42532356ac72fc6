#!/usr/bin/env python3
"""Asks a server for traces by id, one after the other, and prints how long that took.

    python3 benches/lookup.py [HOST:PORT]
"""
import http.client
import json
import random
import sys
import time

TRACES = 300
WARM_UP = 20


def ask(api, query):
    api.request("POST", "/api/mesh/v1/sql", json.dumps({"query": query}), {"content-type": "application/json"})
    answer = json.load(api.getresponse())
    assert "rows" in answer, answer
    return answer["rows"]


def look_up(api, ids, status):
    """Milliseconds of each, sorted."""
    milliseconds = []
    for trace_id in ids:
        began = time.perf_counter()
        api.request("GET", "/api/mesh/v1/traces/" + trace_id)
        response = api.getresponse()
        response.read()
        assert response.status == status, response.status
        milliseconds.append((time.perf_counter() - began) * 1e3)
    return milliseconds


def show(what, milliseconds):
    times = sorted(milliseconds)
    at = lambda share: times[int(share * (len(times) - 1))]
    print(f"{what}: p50 {at(.5):.2f} ms, p90 {at(.9):.2f} ms, p99 {at(.99):.2f} ms of {len(times)}")


def main():
    api = http.client.HTTPConnection(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:3200")
    spans = ask(api, "select count(*) from spans")[0][0]
    print(f"{spans} spans")
    # Ids are uniform: a range of span ids is a sample of all traces. Twice as many as are asked for, and a choice among them: with `limit`
    # they would all be of the files that are read first.
    bound = (1 << 64) * 2 * TRACES // spans
    found = ask(api, f"select distinct trace_id from spans where span_id < X'{bound:016x}'")
    ids = random.sample([row[0] for row in found], min(TRACES, len(found)))
    show("first", look_up(api, ids[:WARM_UP], 200))
    show("traces", look_up(api, ids[WARM_UP:], 200))
    # What it takes to know which files may hold a trace, and HTTP.
    show("traces that nobody has", look_up(api, ["%032x" % random.getrandbits(128) for _ in range(TRACES)], 404))


main()
