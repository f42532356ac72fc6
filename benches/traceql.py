#!/usr/bin/env python3
"""Asks a server TraceQL through Tempo's API, and prints how long that took and what it cost.

    python3 benches/traceql.py [HOST:PORT [PID [UNTIL]]]

Each question is asked three times to warm up, then REPETITIONS times. CPU is that of the process PID, for each question.
Ranges end at the full hour before UNTIL, unix seconds; without it, before the newest span.
"""
import http.client
import json
import os
import sys
import time
import urllib.parse

REPETITIONS = 11
HOUR = 3600


class Api:
    def __init__(self, address):
        self.connection = http.client.HTTPConnection(address)

    def get(self, path, **parameters):
        self.connection.request("GET", path + "?" + urllib.parse.urlencode(parameters))
        response = self.connection.getresponse()
        body = response.read()
        assert response.status == 200, (path, parameters, response.status, body[:300])
        return body

    def sql(self, query):
        self.connection.request("POST", "/api/mesh/v1/sql", json.dumps({"query": query}), {"content-type": "application/json"})
        answer = json.loads(self.connection.getresponse().read())
        assert "rows" in answer, answer
        return answer["rows"]


def cpu(pid):
    """CPU seconds of a process."""
    fields = open(f"/proc/{pid}/stat").read().rsplit(") ", 1)[1].split(" ")
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def questions(end, service):
    def search(query, hours, **more):
        return "/tempo/api/search", dict(q=query, start=end - hours * HOUR, end=end, limit=20, **more)

    def metrics(query, hours, step):
        return "/tempo/api/metrics/query_range", dict(q=query, start=end - hours * HOUR, end=end, step=step)

    of_service = f'resource.service.name = "{service}"'
    tag = "/tempo/api/v2/search/tag/"
    return [
        ("service and status, 1 h", 50, *search(f'{{ {of_service} && span.http.status_code = "503" }}', 1)),
        ("service and status, 24 h", 250, *search(f'{{ {of_service} && span.http.status_code = "503" }}', 24)),
        # One span in a hundred has it: too few for a column, so it stands in the residual map.
        ("residual attribute, 1 h", 150, *search('{ span.error = "true" }', 1)),
        ("residual attribute of which all is read, 1 h", 150, *search('{ span.error = "nowhere" }', 1)),
        ("descendants, 1 h", 300, *search(f'{{ {of_service} }} >> {{ status = error }}', 1)),
        ("rate by service, 24 h", 50, *metrics("{} | rate() by (resource.service.name) with(exemplars=false)", 24, "5m")),
        ("rate by service with exemplars, 24 h", 50, *metrics("{} | rate() by (resource.service.name)", 24, "5m")),
        ("quantiles by name, 6 h", 100, *metrics(f"{{ {of_service} }} | quantile_over_time(duration, .5, .9, .99) by (name)", 6, "1m")),
        ("compare, 1 h", 2000, "/tempo/api/metrics/query", dict(q="{} | compare({ status = error })", start=end - HOUR, end=end)),
        ("tags, 1 h", 20, "/tempo/api/v2/search/tags", dict(start=end - HOUR, end=end)),
        ("tags of some, 1 h", 200, "/tempo/api/v2/search/tags", dict(q=f"{{ {of_service} }}", start=end - HOUR, end=end)),
        ("values, 1 h", 20, tag + "resource.service.name/values", dict(start=end - HOUR, end=end)),
        ("values of some, 1 h", 200, tag + "name/values", dict(q=f"{{ {of_service} }}", start=end - HOUR, end=end)),
    ]


def main():
    api = Api(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:3200")
    pid = sys.argv[2] if len(sys.argv) > 2 else None
    newest = sys.argv[3] if len(sys.argv) > 3 else api.sql("select cast(max(start_time) as bigint) / 1000000 from spans")[0][0]
    end = int(newest) // HOUR * HOUR
    busy = f"select service_name from spans_1h where time = to_timestamp({end}) group by 1 order by sum(spans) desc"
    services = [row[0] for row in api.sql(busy)]
    service = services[len(services) // 2]
    print(f"of {len(services)} services {service}, until {end}")
    for name, most, path, parameters in questions(end, service):
        try:
            for _ in range(3):
                answer = json.loads(api.get(path, **parameters))
            before, times = cpu(pid) if pid else 0, []
            for _ in range(REPETITIONS):
                began = time.perf_counter()
                api.get(path, **parameters)
                times.append((time.perf_counter() - began) * 1e3)
            taken = (cpu(pid) - before) / REPETITIONS * 1e3 if pid else float("nan")
            size = len(answer.get("traces", answer.get("series", answer.get("tagValues", answer.get("scopes", [])))))
            times.sort()
            print(f"{name}: median {times[len(times) // 2]:.1f} ms, most {times[-1]:.1f} ms, CPU {taken:.0f} ms; asked {most} ms; {size} found")
        except AssertionError as error:
            print(f"{name}: {error}")


main()
