"""Servers and meshes for the tests; all of them are stopped at the end, whatever the test did."""
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("grafana", "mesh", "otlp", "server")  # before their import: their asserts say what they compared

from mesh import Bookinfo
from server import Server, stop_all


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts servers of the test's own, each on a new data folder, with settings such as MESHLAKE_LIVE__FLUSH_AGE="1s"."""
    servers: list[Server] = []

    def start_one(**settings: str) -> Server:
        servers.append(Server(tmp_path / f"server-{len(servers)}", settings))
        return servers[-1].start()

    yield start_one
    stop_all(servers)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with default settings, shared by the tests of a file."""
    shared = Server(tmp_path_factory.mktemp("server")).start()
    yield shared
    stop_all([shared])


@pytest.fixture
def bookinfo(tmp_path: Path) -> Iterator[Callable[..., Bookinfo]]:
    """Starts local meshes that send to a given server."""
    meshes: list[Bookinfo] = []

    def start_one(server: Server, *arguments: str) -> Bookinfo:
        meshes.append(Bookinfo(server, tmp_path / f"mesh-{len(meshes)}.json", *arguments))
        return meshes[-1]

    yield start_one
    for mesh in meshes:
        mesh.end()
