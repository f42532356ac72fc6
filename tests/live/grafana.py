"""The dashboards of `deploy/grafana`, and their data sources as Grafana's plugins ask them."""
import csv
import io
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import requests
import yaml

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "grafana"
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in sorted((FOLDER / "dashboards").glob("*.json"))}

# A variable as Grafana writes it, with or without braces and format: $service, ${service:sqlstring}.
VARIABLE = re.compile(r"\$(\w+)|\$\{(\w+)(?::([^}]+))?\}")
METRICS = re.compile(r"\|\s*(rate|\w+_over_time|compare)\s*\(")
INFINITY_KEYS = {"refId", "datasource", "parser", "source", "type", "format", "url", "root_selector", "url_options", "columns"}


def data_sources(url: str) -> dict[str, dict]:
    """What is provisioned, by uid, with `url` as the address of Meshlake."""
    text = (FOLDER / "provisioning" / "datasources" / "meshlake.yaml").read_text()
    return {source["uid"]: source for source in yaml.safe_load(text.replace("${MESHLAKE_URL}", url))["datasources"]}


def targets(dashboard: dict) -> Iterator[tuple[dict, dict]]:
    """Each panel with each of its queries."""
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield panel, target


def interpolate(text: str, variables: dict[str, str | int]) -> str:
    """`text` with variables replaced as Grafana replaces them; one that does not exist is an error."""
    return VARIABLE.sub(lambda found: formatted(variables[found[1] or found[2]], found[3]), text)


def formatted(value: str | int, form: str | None) -> str:
    match form:
        case None:
            return str(value)
        case "sqlstring":
            return "'" + str(value).replace("'", "''") + "'"
        case "date:iso":
            return datetime.fromtimestamp(value / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    raise AssertionError(f"no format of Grafana's: {form}")


class Infinity:
    """The backend of the plugin `yesoreyeram-infinity-datasource`, of which the dashboards use its parser `backend`."""

    def __init__(self, url: str):
        self._url = url

    def ask(self, target: dict, variables: dict) -> list[dict]:
        """The rows of the data frame: the target's columns, converted to their types."""
        assert set(target) == INFINITY_KEYS, set(target) ^ INFINITY_KEYS
        assert (target["parser"], target["source"]) == ("backend", "url")
        answer = self._request(target["type"], target["url"], target["url_options"], variables)
        assert answer.status_code == 200, f"{answer.request.body or answer.url}: {answer.status_code} {answer.text}"
        rows = self._csv(answer.text) if target["type"] == "csv" else self._json(answer.json(), target["root_selector"])
        for column in target["columns"]:
            # The plugin's framer drops a column whose text differs from its selector.
            assert column["text"] == column["selector"]
        return [{each["selector"]: converted(row[each["selector"]], each["type"]) for each in target["columns"]} for row in rows]

    def _request(self, kind: str, path: str, options: dict, variables: dict) -> requests.Response:
        accept = {"csv": "text/csv; charset=utf-8", "json": "application/json;q=0.9,text/plain"}[kind]
        if options["method"] == "GET":
            params = [(each["key"], interpolate(each["value"], variables)) for each in options["params"]]
            return requests.get(self._url + path, params=params, headers={"Accept": accept}, timeout=60)
        assert (options["method"], options["body_type"]) == ("POST", "raw")
        headers = {"Accept": accept, "Content-Type": options["body_content_type"]}
        return requests.post(self._url + path, interpolate(options["data"], variables).encode(), headers=headers, timeout=60)

    @staticmethod
    def _csv(text: str) -> list[dict]:
        header, *records = csv.reader(io.StringIO(text))
        return [dict(zip(header, record, strict=True)) for record in records]

    @staticmethod
    def _json(document: dict, root: str) -> list[dict]:
        for name in root.split("."):
            document = document[name]
        return document


def converted(value: object, kind: str) -> object:
    """A cell as the plugin's framer makes it of JSON or of CSV; an empty one is null."""
    if value in (None, ""):
        return None
    match kind:
        case "number":
            return float(value)
        case "timestamp":
            return datetime.fromisoformat(value)
    assert kind == "string" and isinstance(value, str), (value, kind)
    return value


class Tempo:
    """The backend of the plugin `tempo`, for TraceQL that is not streamed."""

    def __init__(self, url: str):
        self._url = url

    def ask(self, target: dict, variables: dict) -> dict:
        """The answer to a search or a metrics query."""
        query = interpolate(target["query"], variables)
        asked = {"q": query, "start": variables["__from"] // 1000, "end": variables["__to"] // 1000}
        if METRICS.search(query):
            assert target["metricsQueryType"] == "range"
            return self.get("api/metrics/query_range", **asked, exemplars=target["exemplars"])
        return self.get("api/search", **asked, limit=target["limit"], spss=target["spss"])

    def get(self, path: str, **params) -> dict:
        answer = requests.get(f"{self._url}/{path}", params=params, headers={"Accept": "application/json"}, timeout=60)
        assert answer.status_code == 200, f"{answer.url}: {answer.status_code} {answer.text}"
        return answer.json()
