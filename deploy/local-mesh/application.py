"""The Bookinfo applications: small HTTP servers that call each other through their sidecars."""
import asyncio
import random
from collections.abc import Mapping

from topology import PORT, Pod
from truth import Truth

# What an application must forward for its spans to join their trace, then the two headers that carry the truth.
FORWARDED = ("traceparent", "tracestate", "x-request-id", "x-bookinfo-request")
NUMBER, CALLER = "x-bookinfo-request", "x-bookinfo-caller"

WORK_S = 0.003
RATINGS_FAIL = 0.03
RATINGS_SLOW, SLOW_S = 0.02, 0.4


async def get(address: tuple[str, int], host: str, path: str, headers: Mapping[str, str], source_ip: str = "127.0.0.1") -> int:
    """One GET on a connection of its own; the status, or an OSError if no answer came."""
    ip, port = address
    reader, writer = await asyncio.open_connection(ip, port, local_addr=(source_ip, 0))
    try:
        lines = [f"GET {path} HTTP/1.1", f"Host: {host}", "Connection: close", *(f"{k}: {v}" for k, v in headers.items())]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        await writer.drain()
        status_line = await reader.readline()
        await reader.read()
    finally:
        writer.close()
    if not status_line:
        raise ConnectionResetError(f"{host} at {ip}:{port} closed the connection without an answer")
    return int(status_line.split()[1])


class Application:
    """One pod's application; it sends its calls to its sidecar at `outbound_port`."""

    def __init__(self, pod: Pod, seed: int, truth: Truth, outbound_port: int):
        self._pod, self._seed, self._truth, self._outbound_port = pod, seed, truth, outbound_port
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._serve, self._pod.ip, 0)
        return self._server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        if self._server:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request_line := await reader.readline():
                headers = {}
                while line := (await reader.readline()).decode().strip():
                    key, value = line.split(":", 1)
                    headers[key.lower()] = value.strip()
                status = await self._answer(headers)
                path = request_line.split()[1].decode()
                body = f'{{"path":"{path}"}}'
                writer.write(f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())
                await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            pass  # the sidecar went away: the run is being stopped
        finally:
            writer.close()

    async def _answer(self, headers: Mapping[str, str]) -> int:
        number = headers.get(NUMBER, "")
        # Chance hangs on (seed, request, service), not on the order of events: a seed repeats its failures.
        chance = random.Random(f"{self._seed}:{number}:{self._pod.service}")
        await asyncio.sleep(min(chance.expovariate(1 / WORK_S), 0.1))
        forwarded = {key: headers[key] for key in FORWARDED if key in headers} | {CALLER: self._pod.workload}
        status = 200
        for service in self._pod.calls:
            got = await self._call(service, f"/{service}/{chance.randint(0, 9)}", number, forwarded)
            if got >= 500 and service == "ratings":  # reviews cannot do without ratings; productpage copes with anything
                status = 502
        if self._pod.service == "ratings":
            if chance.random() < RATINGS_FAIL:
                status = 500
            if chance.random() < RATINGS_SLOW:
                await asyncio.sleep(SLOW_S)
        self._truth.answered(number, headers.get(CALLER, ""), self._pod, status)
        return status

    async def _call(self, service: str, path: str, number: str, headers: Mapping[str, str]) -> int:
        status = await get((self._pod.ip, self._outbound_port), f"{service}:{PORT}", path, headers, self._pod.ip)
        self._truth.called(number, self._pod, service, status)
        return status
