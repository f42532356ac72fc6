"""The meshlake binary under test: its process, its ports, its answers."""
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.ipc
import requests

START_TIMEOUT_S = 30
STOP_TIMEOUT_S = 60
PORT_IN_USE = 3
SETTLE_S = 20  # an acknowledged span is queryable within 100 ms; the rest is for a busy machine


def free_ports(count: int) -> list[int]:
    """Ports free a moment ago; `Server` starts again with others should one have been taken meanwhile."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


class Server:
    """One data folder and the process on it; `start` after `stop` or `kill` continues with the same ports and data."""

    def __init__(self, folder: Path, settings: dict[str, str] | None = None):
        self._binary = os.environ["MESHLAKE_BIN"]
        self._folder = folder
        self._settings = settings or {}
        self._ports: list[int] = []
        self._process: subprocess.Popen | None = None

    @property
    def folder(self) -> Path:
        """Where the data folder, `data`, and the log are."""
        return self._folder

    @property
    def grpc(self) -> str:
        return f"127.0.0.1:{self._ports[0]}"

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self._ports[1]}"

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self._ports[2]}"

    def start(self) -> "Server":
        chosen = bool(self._ports)
        for _ in range(5):
            if not chosen:
                self._ports = free_ports(3)
            self._spawn()
            if self._wait_ready():
                return self
            assert self._process.returncode == PORT_IN_USE, f"meshlake ended with {self._process.returncode}:\n{self.log()}"
        raise AssertionError(f"no free ports after five starts:\n{self.log()}")

    def stop(self) -> None:
        """SIGTERM: the server drains, flushes and ends with 0."""
        if self._process is None:
            return
        process, self._process = self._process, None
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"meshlake still runs {STOP_TIMEOUT_S} s after SIGTERM:\n{self.log()}") from None
        assert code == 0, f"meshlake ended with {code} after SIGTERM:\n{self.log()}"

    def kill(self) -> None:
        """SIGKILL, without a word before."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def log(self) -> str:
        return (self._folder / "log").read_text(errors="replace")[-4000:]

    def get(self, path: str, tenant: str | None = None, **options) -> requests.Response:
        return self._request("GET", path, tenant, **options)

    def json(self, path: str, tenant: str | None = None, **params) -> dict:
        answer = self.get(path, tenant, params=params)
        assert answer.status_code == 200, f"GET {answer.url}: {answer.status_code} {answer.text}"
        return answer.json()

    def sql(self, query: str, tenant: str | None = None) -> list[tuple]:
        """The rows of the answer, sorted, so that they compare with a sorted list."""
        answer = self._request("POST", "sql", tenant, json={"query": query})
        assert answer.status_code == 200, f"{query}: {answer.status_code} {answer.text}"
        return sorted((tuple(row) for row in answer.json()["rows"]), key=lambda row: tuple(map(str, row)))

    def sql_arrow(self, query: str) -> pyarrow.Table:
        """The answer as it is, in its own types."""
        accept = {"accept": "application/vnd.apache.arrow.stream"}
        answer = self._request("POST", "sql", None, accept, json={"query": query})
        assert answer.status_code == 200, f"{query}: {answer.status_code} {answer.text}"
        return pyarrow.ipc.open_stream(answer.content).read_all()

    def count(self, condition: str = "true", tenant: str | None = None) -> int:
        return self.sql(f"select count(*) from spans where {condition}", tenant)[0][0]

    def _request(self, method: str, path: str, tenant: str | None, headers: dict | None = None, **options) -> requests.Response:
        headers = (headers or {}) | ({"X-Scope-OrgID": tenant} if tenant else {})
        return requests.request(method, f"{self.api}/api/mesh/v1/{path}", headers=headers, timeout=60, **options)

    def _spawn(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        grpc, http, api = (f"127.0.0.1:{port}" for port in self._ports)
        # The server refuses settings it does not know, so none of this process's MESHLAKE_ variables may reach it.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MESHLAKE_")}
        settings = {"MESHLAKE_OTLP__GRPC_LISTEN": grpc, "MESHLAKE_OTLP__HTTP_LISTEN": http, "MESHLAKE_API__LISTEN": api}
        with open(self._folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                [self._binary, "--data-dir", str(self._folder / "data")], cwd=self._folder,
                env=inherited | settings | self._settings, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _wait_ready(self) -> bool:
        """True once /readyz says 200, false if the process has ended."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                return False
            try:
                if requests.get(f"{self.api}/readyz", timeout=5).status_code == 200:
                    return True
            except requests.RequestException:
                pass
            time.sleep(0.05)
        self.kill()
        raise AssertionError(f"meshlake is not ready after {START_TIMEOUT_S} s:\n{self.log()}")


def stop_all(servers: list[Server]) -> None:
    """Stops each as its operator would, and leaves none behind where one does not."""
    try:
        for server in servers:
            server.stop()
    finally:
        for server in servers:
            server.kill()


def settled(ask: Callable[[], object], expected: object) -> None:
    """Asserts that `ask()` comes to be `expected` within the time that an acknowledged span may take to be seen."""
    deadline = time.monotonic() + SETTLE_S
    while (found := ask()) != expected and time.monotonic() < deadline:
        time.sleep(0.05)
    assert found == expected
