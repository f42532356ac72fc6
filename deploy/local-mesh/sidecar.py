"""The Envoy of one pod, configured as Istio's control plane configures a sidecar or a gateway."""
import asyncio
import json
import os
import socket
import subprocess
from collections.abc import Mapping

from topology import CLUSTER_ID, GATEWAY_HOST, PORT, Pod, fqdn, operation, pods_of

TYPE = "type.googleapis.com/envoy."
OTLP_CLUSTER = "outbound|4317||meshlake.observability.svc.cluster.local"
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 10


class SidecarError(Exception):
    """An Envoy that did not start or does not answer; the text ends with its own last words."""


class ReservedPort:
    """A free port that nobody else can be given until Envoy has bound it.

    The socket stays bound but never listens, so it takes no connections; Envoy shares the port by SO_REUSEPORT.
    """

    def __init__(self, ip: str):
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._socket.bind((ip, 0))
        self.number = self._socket.getsockname()[1]

    def close(self) -> None:
        self._socket.close()


class Sidecar:
    """One pod's Envoy: its two listeners, its process, its counters."""

    def __init__(self, pod: Pod, folder: str):
        self.pod = pod
        self.outbound = ReservedPort(pod.ip)
        self.inbound = None if pod.is_gateway else ReservedPort(pod.ip)
        self._admin = os.path.join(folder, f"{pod.workload}.sock")  # a socket file: no admin port to collide
        self._config = os.path.join(folder, f"{pod.workload}.json")
        self._log = os.path.join(folder, f"{pod.workload}.log")
        self._process: subprocess.Popen | None = None

    def start(self, envoy: str, otlp: tuple[str, int], sidecars: Mapping[str, "Sidecar"], application_port: int | None) -> None:
        with open(self._config, "w", encoding="utf-8") as file:
            json.dump(self._bootstrap(otlp, sidecars, application_port), file, indent=1)
        command = [envoy, "-c", self._config, "--concurrency", "1", "--disable-hot-restart", "-l", "warning"]
        with open(self._log, "wb") as log:
            # A session of its own: Ctrl-C reaches this program, which stops Envoy after the last spans have left.
            self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log, start_new_session=True)

    async def wait_ready(self) -> None:
        deadline = asyncio.get_running_loop().time() + START_TIMEOUT_S
        while asyncio.get_running_loop().time() < deadline:
            if self._process is None or self._process.poll() is not None:
                raise SidecarError(f"envoy of {self.pod.workload} ended while starting; it said: {self._last_words()}")
            try:
                if (await self._ask("/ready")).strip() == "LIVE":
                    return
            except OSError:
                pass
            await asyncio.sleep(0.1)
        raise SidecarError(f"envoy of {self.pod.workload} is not ready after {START_TIMEOUT_S} s; it said: {self._last_words()}")

    async def counters(self) -> dict[str, int]:
        """Spans handed to the exporter, spans dropped before it, export requests made, exports still under way."""
        text = await self._ask("/stats?filter=tracing.opentelemetry|cluster.otlp.upstream_rq_(total|active)")
        stats = {name: int(value) for name, value in (line.rsplit(": ", 1) for line in text.splitlines() if ": " in line)}

        def total(suffix: str) -> int:
            return sum(value for name, value in stats.items() if name.endswith(suffix))

        return {
            "spans_sent": total("tracing.opentelemetry.spans_sent"),
            "spans_dropped": total("tracing.opentelemetry.spans_dropped"),
            "export_requests": total("cluster.otlp.upstream_rq_total"),
            "export_requests_active": total("cluster.otlp.upstream_rq_active"),
        }

    def stop(self) -> None:
        """Asks the process to end and waits for it; safe to call twice, and when it never started."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self.outbound.close()
        if self.inbound:
            self.inbound.close()

    async def _ask(self, path: str) -> str:
        reader, writer = await asyncio.open_unix_connection(self._admin)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n".encode())
            await writer.drain()
            answer = (await reader.read()).decode()
        finally:
            writer.close()
        head, _, body = answer.partition("\r\n\r\n")
        if "transfer-encoding: chunked" not in head.lower():
            return body
        text = ""
        while body:
            size, _, body = body.partition("\r\n")
            length = int(size or "0", 16)
            text, body = text + body[:length], body[length + 2:]
        return text

    def _last_words(self) -> str:
        with open(self._log, encoding="utf-8", errors="replace") as file:
            return file.read()[-2000:].strip() or "(nothing)"

    def _bootstrap(self, otlp: tuple[str, int], sidecars: Mapping[str, "Sidecar"], application_port: int | None) -> dict:
        pod = self.pod
        clusters = [_cluster(OTLP_CLUSTER, [otlp], pod.ip, alt_stat_name="otlp", http2=True)]
        for service in pod.calls:
            endpoints = [(target.ip, sidecars[target.workload].inbound.number) for target in pods_of(service)]
            name = f"outbound|{PORT}||{fqdn(service)}"
            clusters.append(_cluster(name, endpoints, pod.ip, alt_stat_name=name + ";"))
        listeners = [_listener(pod, "OUTBOUND", self.outbound.number, [_outbound_host(pod, service) for service in pod.calls])]
        if self.inbound:
            listeners.append(_listener(pod, "INBOUND", self.inbound.number, [_inbound_host(pod)]))
            clusters.append(_cluster(f"inbound|{PORT}||", [(pod.ip, application_port)], pod.ip))
        return {
            "node": {"id": pod.node_id, "cluster": f"{pod.service}.{pod.namespace}",
                     "locality": {"region": pod.zone[:-1], "zone": pod.zone}},
            "admin": {"address": {"pipe": {"path": self._admin}}},
            "static_resources": {"listeners": listeners, "clusters": clusters},
        }


def _outbound_host(pod: Pod, service: str) -> dict:
    host = fqdn(service)
    domains = [GATEWAY_HOST] if pod.is_gateway else [service, f"{service}:{PORT}", host, f"{host}:{PORT}"]
    return {"name": f"{host}:{PORT}", "domains": domains, "routes": [{
        "match": {"prefix": "/"},
        "route": {"cluster": f"outbound|{PORT}||{host}", "timeout": "0s",  # Istio's default: no timeout
                  "retry_policy": {"retry_on": "connect-failure,refused-stream,unavailable,cancelled", "num_retries": 2}},
        "decorator": {"operation": operation(service)}}]}


def _inbound_host(pod: Pod) -> dict:
    return {"name": f"inbound|http|{PORT}", "domains": ["*"], "routes": [{
        "match": {"prefix": "/"}, "route": {"cluster": f"inbound|{PORT}||", "timeout": "0s"},
        "decorator": {"operation": operation(pod.service)}}]}


def _listener(pod: Pod, direction: str, port: int, virtual_hosts: list[dict]) -> dict:
    manager = {
        "@type": TYPE + "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "outbound" if direction == "OUTBOUND" else f"inbound_0.0.0.0_{PORT}",
        "generate_request_id": True,
        "use_remote_address": pod.is_gateway,
        "server_name": "istio-envoy",
        "tracing": _tracing(pod),
        "route_config": {"virtual_hosts": virtual_hosts},
        "http_filters": [{"name": "envoy.filters.http.router",
                          "typed_config": {"@type": TYPE + "extensions.filters.http.router.v3.Router"}}],
    }
    return {
        "name": "virtualOutbound" if direction == "OUTBOUND" else "virtualInbound",
        "traffic_direction": direction,  # decides the span kind: OUTBOUND client, INBOUND server
        "address": {"socket_address": {"address": pod.ip, "port_value": port}},
        "filter_chains": [{"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}],
    }


def _tracing(pod: Pod) -> dict:
    tags = {
        "istio.mesh_id": "cluster.local",
        "istio.canonical_service": pod.service,
        "istio.canonical_revision": pod.version or "latest",
        "istio.cluster_id": CLUSTER_ID,
        "istio.namespace": pod.namespace,
    }
    everything = {"value": 100}
    return {
        "client_sampling": everything, "random_sampling": everything, "overall_sampling": everything,
        "custom_tags": [{"tag": tag, "literal": {"value": value}} for tag, value in tags.items()],
        "provider": {"name": "envoy.tracers.opentelemetry", "typed_config": {
            "@type": TYPE + "config.trace.v3.OpenTelemetryConfig",
            "grpc_service": {"envoy_grpc": {"cluster_name": OTLP_CLUSTER}},
            "service_name": f"{pod.service}.{pod.namespace}",
        }},
    }


def _cluster(name: str, endpoints: list[tuple[str, int]], source_ip: str, alt_stat_name: str = "", http2: bool = False) -> dict:
    cluster = {
        "name": name, "type": "STATIC", "connect_timeout": "5s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [
            {"endpoint": {"address": {"socket_address": {"address": ip, "port_value": port}}}} for ip, port in endpoints]}]},
    }
    if alt_stat_name:
        cluster["alt_stat_name"] = alt_stat_name
    if http2:
        options = "extensions.upstreams.http.v3.HttpProtocolOptions"
        cluster["typed_extension_protocol_options"] = {
            "envoy." + options: {"@type": TYPE + options, "explicit_http_config": {"http2_protocol_options": {}}}}
    else:
        # The callee must see the caller's pod address as its peer, as in a cluster.
        cluster["upstream_bind_config"] = {"source_address": {"address": source_ip, "port_value": 0}}
    return cluster
