"""What the mesh really did, counted by the applications, not by the proxies or by what receives the spans."""
from collections import Counter
from dataclasses import dataclass, field

from topology import Pod, operation


@dataclass
class Truth:
    """Every call as its caller saw it (one CLIENT span) and as its callee answered it (one SERVER span)."""

    statuses: Counter = field(default_factory=Counter)  # what the user at the gateway got
    spans_of_trace: Counter = field(default_factory=Counter)  # request number -> spans
    _spans: Counter = field(default_factory=Counter)  # (service, version, operation, kind, status) -> spans
    _hops: Counter = field(default_factory=Counter)  # (caller workload, callee workload, status) -> requests

    def called(self, number: str, caller: Pod, service: str, status: int) -> None:
        self.spans_of_trace[number] += 1
        self._spans[caller.service, caller.version, operation(service), "client", status] += 1

    def answered(self, number: str, caller: str, callee: Pod, status: int) -> None:
        self.spans_of_trace[number] += 1
        self._spans[callee.service, callee.version, operation(callee.service), "server", status] += 1
        self._hops[caller, callee.workload, status] += 1

    @property
    def spans(self) -> int:
        return self.spans_of_trace.total()

    def report(self) -> dict:
        """The counts as JSON-ready data; `errors` are answers of 500 and above, as Envoy marks its spans."""
        return {
            "requests": self.statuses.total(),
            "statuses": _text_keys(self.statuses),
            "traces": len(self.spans_of_trace),
            "spans": self.spans,
            "spans_per_trace": _text_keys(Counter(self.spans_of_trace.values())),
            "spans_by_status": _text_keys(self._group(lambda key: key[4])),
            "services": self._with_errors(("service",), lambda key: (key[0],)),
            "operations": self._with_errors(("service", "operation", "kind"), lambda key: (key[0], key[2], key[3])),
            "versions": self._with_errors(("service", "version", "kind"), lambda key: (key[0], key[1], key[3])),
            "hops": self._hop_rows(),
        }

    def _group(self, by) -> Counter:
        groups = Counter()
        for key, spans in self._spans.items():
            groups[by(key)] += spans
        return groups

    def _with_errors(self, names: tuple[str, ...], by) -> list[dict]:
        errors = Counter()
        for key, spans in self._spans.items():
            errors[by(key)] += spans if key[4] >= 500 else 0
        rows = sorted(self._group(by).items(), key=lambda row: tuple(str(part) for part in row[0]))
        return [dict(zip(names, key)) | {"spans": spans, "errors": errors[key]} for key, spans in rows]

    def _hop_rows(self) -> list[dict]:
        requests, errors = Counter(), Counter()
        for (caller, callee, status), count in self._hops.items():
            requests[caller, callee] += count
            errors[caller, callee] += count if status >= 500 else 0
        return [{"caller": caller, "callee": callee, "requests": count, "errors": errors[caller, callee]}
                for (caller, callee), count in sorted(requests.items())]


def _text_keys(counts: Counter) -> dict[str, int]:
    return {str(key): counts[key] for key in sorted(counts)}
