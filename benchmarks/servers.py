"""The servers that are compared: how each is started, asked, weighed and stopped."""

import contextlib
import http.client
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from models import Form

START_LIMIT = 120.0
_BIN = Path(sys.executable).parent
_JSON = {"Content-Type": "application/json"}
#: All servers': the load generator needs a core too.
_THREADS = {"OMP_NUM_THREADS": "1"}


@dataclass(frozen=True, slots=True)
class Peer:
    """A command line and where it answers."""

    name: str
    command: list[str]
    port: int
    path: str
    environment: Mapping[str, str]
    headers: Mapping[str, str] = field(default_factory=lambda: _JSON)
    #: How it wants the rows.
    form: Form = "dataframe_split"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.path}"


@dataclass(frozen=True, slots=True)
class Weight:
    """Memory of a tree of processes in MiB. PSS counts a shared page once; Linux only."""

    processes: int
    rss: int
    pss: int | None


class NotStarted(Exception):
    """The server never answered; the message has the end of its log."""


class Refused(Exception):
    """The server did not do what it was asked to do."""


def mlflow(model: Path, workers: int) -> Peer:
    port = free_port()
    options = ["--env-manager", "local", "--workers", str(workers)]
    options += ["--host", "127.0.0.1", "--port", str(port)]
    return Peer(
        "mlflow",
        [str(_BIN / "mlflow"), "models", "serve", "--model-uri", str(model), *options],
        port,
        "/invocations",
        {
            "MLFLOW_TRACKING_URI": "sqlite://",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "UVICORN_ACCESS_LOG": "false",  # it costs MLflow some percent, and we write none
        },
    )


def mlflow_server(folder: Path) -> Peer:
    """MLflow's own tracking server, which keeps artifacts in `folder`; asked for its health."""
    port = free_port()
    options = ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    options += ["--artifacts-destination", str(folder / "artifacts"), "--workers", "1"]
    options += ["--host", "127.0.0.1", "--port", str(port)]
    return Peer(
        "mlflow-server",
        [str(_BIN / "mlflow"), "server", *options],
        port,
        "/health",
        {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
    )


def lakeport(model: Path | None, home: Path) -> Peer:
    """`model` None: a server without any, which is asked for its health.

    Models that are registered with it are served by this Python, as `model` is.
    """
    port, token = free_port(), secrets.token_hex(16)
    served = ["--model", f"model={model}"] if model else ["--env-manager", "local"]
    return Peer(
        "lakeport",
        [str(_BIN / "lakeport"), "serve", "--home", str(home), "--port", str(port), *served],
        port,
        "/serving-endpoints/model/invocations" if model else "/health",
        {"LAKEPORT_ADMIN_TOKEN": token},
        {**_JSON, "Authorization": f"Bearer {token}"},
    )


class Running:
    """A server, started by `running`."""

    def __init__(self, peer: Peer, process: psutil.Popen, log: Path) -> None:
        self.peer = peer
        self._process = process
        self._log = log
        self._started = time.perf_counter()

    def wait_for_answer(self, body: bytes | None) -> float:
        """Seconds from the start to the first answer of 200. Raises NotStarted."""
        while time.perf_counter() - self._started < START_LIMIT and self._process.poll() is None:
            with contextlib.suppress(OSError, http.client.HTTPException):
                status, _ = self.ask(body)
                if status == 200:
                    return time.perf_counter() - self._started
            time.sleep(0.02)
        end = self._log.read_text(errors="replace")[-2000:]
        raise NotStarted(f"{self.peer.name} did not answer. The end of its log:\n{end}")

    def wait_for_line(self, words: str) -> float:
        """Seconds from the start until it has printed `words`. Raises NotStarted."""
        while time.perf_counter() - self._started < START_LIMIT and self._process.poll() is None:
            if words in self._log.read_text(errors="replace"):
                return time.perf_counter() - self._started
            time.sleep(0.01)
        raise NotStarted(f"{self.peer.name} did not say {words!r}.")

    def ask(self, body: bytes | None) -> tuple[int, bytes]:
        """Status and body of the answer to one request: POST, or GET without a body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.peer.port, timeout=30)
        try:
            method = "GET" if body is None else "POST"
            connection.request(method, self.peer.path, body, dict(self.peer.headers))
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def call(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """The JSON answer of another operation of the server. Raises Refused."""
        connection = http.client.HTTPConnection("127.0.0.1", self.peer.port, timeout=120)
        try:
            sent = None if body is None else json.dumps(body).encode()
            connection.request(method, path, sent, dict(self.peer.headers))
            answer = connection.getresponse()
            said = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise Refused(f"{method} {path}: {answer.status} {said[:500]!r}")
        found: dict[str, Any] = json.loads(said or b"{}")
        return found

    def weigh_first(self) -> int | None:
        """PSS in MiB of the process that was started, without its children; Linux only."""
        memory = self._process.memory_full_info()
        return getattr(memory, "pss", 0) >> 20 or None

    def weigh(self) -> Weight:
        """The memory of the process and all its descendants."""
        rss = pss = processes = 0
        for process in _tree(self._process):
            with contextlib.suppress(psutil.NoSuchProcess):
                memory = process.memory_full_info()
                processes += 1
                rss += memory.rss
                pss += getattr(memory, "pss", 0)
        return Weight(processes, rss >> 20, pss >> 20 or None)

    def cpu_seconds(self) -> float:
        """What the process and all its living descendants have computed, system time included."""
        seconds = 0.0
        for process in _tree(self._process):
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                seconds += times.user + times.system
        return seconds

    def stop(self) -> None:
        tree = _tree(self._process)
        with contextlib.suppress(psutil.NoSuchProcess):
            self._process.send_signal(signal.SIGTERM)
        _, alive = psutil.wait_procs(tree, timeout=5)
        for process in alive:  # `mlflow models serve` leaves its workers behind
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(alive, timeout=5)


@contextlib.contextmanager
def running(peer: Peer, folder: Path) -> Iterator[Running]:
    """The server, stopped at the end with all that it started. Its log is in `folder`."""
    log = folder / f"{peer.name}.log"
    # With this variable every start compiles the world again.
    inherited = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    path = f"{_BIN}{os.pathsep}{os.environ.get('PATH', '')}"  # mlflow looks for its uvicorn there
    with log.open("wb") as output:
        process = psutil.Popen(
            peer.command,
            cwd=folder,
            env={**inherited, "PATH": path, **_THREADS, **peer.environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Running(peer, process, log)
    try:
        yield server
    finally:
        server.stop()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def _tree(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
