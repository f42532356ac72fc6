"""The dashboards of `deploy/grafana`: what Grafana would refuse, leave out or show empty."""
import json
import re
import time
from dataclasses import dataclass
from itertools import combinations

import pytest
import requests
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from grafana import DASHBOARDS, METRICS, Infinity, Tempo, data_sources, targets
from mesh import Bookinfo
from server import Server, settled, stop_all

REQUESTS = 200
STEP_MS = 60_000
RANGE_MS = 15 * STEP_MS
GRID = 24
# What a person would choose, by what the list shows.
CHOICES = {
    "level": "service", "proxies": "collapsed", "service": "reviews", "workload": "reviews-v2", "namespace": "bookinfo",
    "source": "reviews bookinfo Kubernetes", "target": "ratings bookinfo Kubernetes",
}
# A healthy mesh has nothing to show there.
MAY_BE_EMPTY = {"Errors by service", "Failed requests", "Failed traces", "Failures by response flag", "Latest failures", "Slow traces"}
TRACE_KEYS = {"traceID", "rootServiceName", "rootTraceName", "startTimeUnixNano", "durationMs", "spanSet", "spanSets", "serviceStats"}
METRICS_KEYS = {"inspectedTraces", "inspectedBytes", "totalBlocks", "completedJobs", "totalJobs", "totalBlockBytes", "inspectedSpans"}
QUERIES = [(name, panel["title"], target) for name, dashboard in DASHBOARDS.items() for panel, target in targets(dashboard)]
TRACEQL = [each for each in QUERIES if each[2]["datasource"]["type"] == "tempo"]
INFINITY = [each for each in QUERIES if each[2]["datasource"]["type"] == "yesoreyeram-infinity-datasource"]

register_default_plugins()


def names(queries):
    return [f"{name}-{title}-{target['refId']}".replace(" ", "_") for name, title, target in queries]


def lost(written: object, read: object, path: str = "") -> list[str]:
    """Where `read` lacks something that `written` has, or has it otherwise."""
    match written, read:
        case dict(), dict():
            missing = [f"{path}/{key}" for key in written.keys() - read.keys()]
            return missing + [each for key in written.keys() & read.keys() for each in lost(written[key], read[key], f"{path}/{key}")]
        case list(), list() if len(written) == len(read):
            return [each for at, pair in enumerate(zip(written, read)) for each in lost(*pair, f"{path}/{at}")]
    return [] if written == read else [path]


# Scenario: Grafana's own types read a dashboard. Guarantee: all of it is known to them; a key that is misspelt would be lost.
@pytest.mark.parametrize("name", DASHBOARDS)
def test_grafana_knows_every_key(name):
    read = json.loads(JSONEncoder().encode(Dashboard.from_json(DASHBOARDS[name])))
    assert lost(DASHBOARDS[name], read) == []


# Scenario: a dashboard is loaded. Guarantee: its panels have titles, units and data sources that are provisioned; each has its place.
@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels(name):
    panels, sources = DASHBOARDS[name]["panels"], data_sources("")
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["title"] and panel["fieldConfig"]["defaults"]["unit"], panel
        for source in [panel["datasource"], *(target["datasource"] for target in panel["targets"])]:
            assert sources[source["uid"]]["type"] == source["type"]
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= GRID, panel["title"]
    overlapping = [(one["title"], other["title"]) for one, other in combinations(panels, 2) if overlap(one["gridPos"], other["gridPos"])]
    assert overlapping == []


def overlap(one: dict, other: dict) -> bool:
    apart = (one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
             or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"])
    return not apart


# Scenario: a link is followed. Guarantee: the dashboard and its variables exist, and the row has the fields that the link names.
@pytest.mark.parametrize("name", DASHBOARDS)
def test_links(name):
    variables = {board["uid"]: {each["name"] for each in board["templating"]["list"]} for board in DASHBOARDS.values()}
    for panel in DASHBOARDS[name]["panels"]:
        fields = {column["selector"] for target in panel["targets"] for column in target.get("columns", [])}
        for override in panel["fieldConfig"]["overrides"]:
            for link in (link for each in override["properties"] if each["id"] == "links" for link in each["value"]):
                assert override["matcher"]["options"] in fields
                assert set(re.findall(r"__data\.fields\.(\w+)", link["url"])) <= fields, link
                if not link["url"].startswith("/explore?"):
                    uid, query = re.fullmatch(r"/d/([\w-]+)\?(.*)", link["url"]).groups()
                    assert set(re.findall(r"var-(\w+)=", query)) <= variables[uid], link


@dataclass
class Board:
    """A mesh that has run, asked through the data sources that are provisioned."""

    server: Server
    truth: dict
    infinity: Infinity
    tempo: Tempo
    now: int

    def variables(self, name: str) -> dict:
        """The variables of a dashboard as its lists offer them, chosen one after the other."""
        values = {"__from": self.now - RANGE_MS, "__to": self.now, "__interval_ms": STEP_MS}
        for variable in DASHBOARDS[name]["templating"]["list"]:
            options = self._options(variable, values)
            assert CHOICES[variable["name"]] in options, (variable["name"], options)
            values[variable["name"]] = options[CHOICES[variable["name"]]]
        return values

    def _options(self, variable: dict, values: dict) -> dict[str, str]:
        if variable["type"] == "custom":
            return {option["text"]: option["value"] for option in variable["options"]}
        rows = self.infinity.ask(variable["query"]["infinityQuery"], values)
        return {row["__text"]: row.get("__value", row["__text"]) for row in rows}

    def rows(self, name: str, title: str, ref: str = "A") -> list[dict]:
        """The rows of a panel."""
        (target,) = (target for panel, target in targets(DASHBOARDS[name]) if (panel["title"], target["refId"]) == (title, ref))
        return self.infinity.ask(target, self.variables(name))

    def counted(self, part: int) -> dict[tuple[str, str], int]:
        """What went over each edge, as the applications counted it; `part` is 0 for requests, 1 for errors."""
        sums = {("outside", "istio-ingressgateway"): (self.truth["requests"], 0)}
        for hop in self.truth["hops"]:
            edge = tuple(re.sub(r"-v\d$", "", hop[end]) for end in ("caller", "callee"))
            before = sums.get(edge, (0, 0))
            sums[edge] = (before[0] + hop["requests"], before[1] + hop["errors"])
        return {edge: counts[part] for edge, counts in sums.items()}


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server"))
    mesh = None
    try:
        server.start()
        mesh = Bookinfo(server, tmp_path_factory.mktemp("report") / "report.json", "--requests", str(REQUESTS), "--rps", "40", "--seed", "3")
        truth = mesh.report()
        settled(server.count, truth["spans"])
        sources = data_sources(server.api)
        # Panels show whole minutes; the last span's has ended at the next one.
        now = (int(time.time() * 1000) // STEP_MS + 1) * STEP_MS
        yield Board(server, truth, Infinity(sources["meshlake-infinity"]["url"]), Tempo(sources["meshlake-tempo"]["url"]), now)
    finally:
        if mesh:
            mesh.end()
        stop_all([server])


# Scenario: Grafana tests the data sources. Guarantee: both are found to be well.
def test_health(board):
    sources = data_sources(board.server.api)
    assert requests.get(sources["meshlake-infinity"]["jsonData"]["customHealthCheckUrl"], timeout=30).status_code == 200
    assert requests.get(f"{sources['meshlake-tempo']['url']}/api/echo", timeout=30).status_code == 200


# Scenario: each query of the graph's data source. Guarantee: it is answered with the columns that the panel names, and not empty.
@pytest.mark.parametrize(("name", "title", "target"), INFINITY, ids=names(INFINITY))
def test_infinity(board, name, title, target):
    rows = board.infinity.ask(target, board.variables(name))
    assert rows or title in MAY_BE_EMPTY
    for column in target["columns"]:
        # Which version, which failure: not told of every request. mTLS: no tag tells of it in this mesh.
        optional = column["selector"] in {"error", "status", "flags", "subtitle", "secondarystat", "version", "mtls"}
        assert optional or not rows or any(row[column["selector"]] is not None for row in rows), column


# Scenario: each TraceQL query. Guarantee: the server accepts it, and answers as the plugin reads it, which refuses a search with a key too many.
@pytest.mark.parametrize(("name", "title", "target"), TRACEQL, ids=names(TRACEQL))
def test_traceql(board, name, title, target):
    answer = board.tempo.ask(target, board.variables(name))
    found = answer.get("series" if METRICS.search(target["query"]) else "traces", [])
    assert found or title in MAY_BE_EMPTY
    for trace in answer.get("traces", []):
        assert trace.keys() <= TRACE_KEYS and answer["metrics"].keys() <= METRICS_KEYS
    for series in answer.get("series", []):
        assert all(isinstance(each["timestampMs"], str) for each in series["samples"])
        # Of one label the plugin makes the series' name; panels rename those of two.
        assert len(series["labels"]) == 1 or "by(resource.service.name)" in target["query"]


# Scenario: the graph of the mesh. Guarantee: its nodes and edges are those that the applications saw.
def test_graph(board):
    titles = {row["id"]: row["title"] for row in board.rows("mesh", "Service graph", "nodes")}
    edges = board.rows("mesh", "Service graph", "edges")
    assert sorted((titles[row["source"]], titles[row["target"]]) for row in edges) == sorted(board.counted(0))


# Scenario: the table of edges. Guarantee: the rates and errors that the applications counted, and the ids that the graph has.
def test_edges(board):
    rows = {(row["caller"].split()[0], row["callee"].split()[0]): row for row in board.rows("mesh", "Edges")}
    carried, failed = board.counted(0), board.counted(1)
    assert {edge: round(row["rate"] * RANGE_MS / 1000) for edge, row in rows.items()} == carried
    assert {edge: round(row["errors"] / 100 * carried[edge]) for edge, row in rows.items()} == failed
    graph = {(row["source"], row["target"]) for row in board.rows("mesh", "Service graph", "edges")}
    assert {(row["source"], row["target"]) for row in rows.values()} == graph


# Scenario: the table of services. Guarantee: each received what its edges carried.
def test_services(board):
    received = {}
    for (_, callee), carried in board.counted(0).items():
        received[callee] = received.get(callee, 0) + carried
    assert {row["service"]: round(row["rate"] * RANGE_MS / 1000) for row in board.rows("mesh", "Services")} == received


# Scenario: one edge over time. Guarantee: series and heatmap add up to its requests, every one in one cell.
def test_edge(board):
    expected = board.counted(0)["reviews", "ratings"]
    assert round(sum(row["requests"] for row in board.rows("edge", "Requests")) * STEP_MS / 1000) == expected
    cells = board.rows("edge", "Latency heatmap")
    assert sum(count for row in cells for name, count in row.items() if name != "at") == expected
    failures = board.counted(1)["reviews", "ratings"]
    assert len(board.rows("edge", "Latest failures")) == min(failures, 20)
