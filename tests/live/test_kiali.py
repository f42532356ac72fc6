"""The settings of `deploy/kiali`: Kiali's client for Tempo, as it asks with them, finds what it reads."""
import time
from pathlib import Path

import requests
import yaml

from server import settled

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "kiali"
SERVICE, CLUSTER = "productpage.bookinfo", "Kubernetes"  # as Kiali names an application by default: <app>.<namespace>
# What Kiali's search says, down to the spaces.
QUERY = (f'{{ .service.name = "{SERVICE}"  && .istio.cluster_id = "{CLUSTER}"   }} && {{  }} | select(status, .service_name, .node_id, .component, '
         ".upstream_cluster, .http.method, .response_flags, resource.hostname, name)")


def tracing(api: str) -> dict:
    """The settings, with the server's address in place of the one in the cluster."""
    text = (FOLDER / "kiali.yaml").read_text().replace("http://meshlake.observability:3200", api)
    return yaml.safe_load(text)["spec"]["external_services"]["tracing"]


def get(url: str, **params) -> dict:
    answer = requests.get(url, params=params, headers={"Accept": "application/json", "Content-Type": "application/json"}, timeout=30)
    assert answer.status_code == 200, f"{answer.url}: {answer.status_code} {answer.text}"
    return answer.json()


def strings(attributes: list[dict]) -> dict[str, str]:
    return {each["key"]: each["value"]["stringValue"] for each in attributes if "stringValue" in each["value"]}


# Scenario: the operator's settings and Helm's. Guarantee: they are the same.
def test_both_forms_agree():
    operator = yaml.safe_load((FOLDER / "kiali.yaml").read_text())["spec"]
    assert operator == yaml.safe_load((FOLDER / "values.yaml").read_text())


# Scenario: Kiali shows an application's traces, then one of them. Guarantee: all of them, with the fields by which it finds the workload.
def test_traces(start, bookinfo):
    server, started = start(), int(time.time()) - 1
    truth = bookinfo(server, "--requests", "40", "--rps", "40", "--seed", "3").report()
    settled(server.count, truth["spans"])
    settings = tracing(server.api)
    url = settings["internal_url"]
    get(f"{url}/status/services")
    get(f"{server.api}/api/search", q="{}")  # Kiali's check of the configuration asks the root of the port.
    traces = get(f"{url}/api/search", q=QUERY, start=started, end=int(time.time()) + 2, spss=10, limit=100)["traces"]
    assert len(traces) == truth["traces"]
    for trace in traces:
        first = strings(trace["spanSet"]["spans"][0]["attributes"])
        assert (first["service.name"], first["node_id"].split("~")[0]) == (SERVICE, "sidecar")
    spans = [span for trace in traces for span in one_trace(url, trace["traceID"])]
    assert len(spans) == truth["spans"]
    assert sum(span.get("status", {}).get("code") == "STATUS_CODE_ERROR" for span in spans) == server.count("status = 'error'")
    assert {span["kind"] for span in spans} == {"SPAN_KIND_CLIENT", "SPAN_KIND_SERVER"}


def one_trace(url: str, trace_id: str) -> list[dict]:
    """The spans of a trace that Kiali sees: of each batch the first scope's."""
    spans = []
    for batch in get(f"{url}/api/traces/{trace_id}")["batches"]:
        assert strings(batch["resource"]["attributes"])["service.name"]
        spans += batch["scopeSpans"][0]["spans"]
    for span in spans:
        assert int(span["startTimeUnixNano"]) <= int(span["endTimeUnixNano"]) and "node_id" in strings(span["attributes"])
    return spans
