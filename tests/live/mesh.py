"""The local mesh of `deploy/local-mesh`, run as its users run it."""
import json
import subprocess
import sys
from pathlib import Path

from server import Server

PROGRAM = Path(__file__).resolve().parents[2] / "deploy" / "local-mesh" / "bookinfo.py"


class Bookinfo:
    """A running local mesh."""

    def __init__(self, server: Server, report: Path, *arguments: str):
        self._report = report
        command = [sys.executable, str(PROGRAM), "--otlp", server.grpc, "--report", str(report), *arguments]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    def report(self) -> dict:
        """Waits for the end of the run; what the mesh really sent."""
        _, errors = self._process.communicate(timeout=180)
        assert self._process.returncode == 0, errors
        return json.loads(self._report.read_text())

    def end(self) -> None:
        """Ends a run that the test has not waited for; it stops its Envoys itself."""
        if self._process.poll() is None:
            self._process.terminate()
            self._process.communicate(timeout=90)
