"""The workspace under test: a `lakeport serve` of our own, or a real one that was named."""

import itertools
import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import httpx

ROOT = Path(__file__).parents[2]
#: The server's Python: not always this one, which may have an old SDK and no Lakeport.
PYTHON = os.environ.get("LAKEPORT_TEST_PYTHON", sys.executable)
LAKEPORT = (PYTHON, "-c", "import sys; from lakeport.cli.main import main; sys.exit(main())")

#: Seconds that an endpoint may take; a real workspace builds a container first.
PATIENCE = 1800 if os.environ.get("LAKEPORT_PARITY_HOST") else 120
START_SECONDS = 60
STOP_SECONDS = 40

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Model:
    """A registered model and its versions, oldest first."""

    name: str
    versions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Workspace:
    host: str
    token: str
    #: A model of four number columns, with two versions.
    iris: Model
    #: The server's home; None when the workspace is a real one.
    home: Path | None = None
    _names: Iterator[int] = field(default_factory=itertools.count)
    _prefix: str = field(default_factory=lambda: f"contract-{secrets.token_hex(3)}")

    def new_name(self, what: str) -> str:
        """A name that no endpoint has."""
        return f"{self._prefix}-{what}-{next(self._names)}"


@contextmanager
def served(folder: Path, *arguments: str, registry: bool = True) -> Iterator[Workspace]:
    """A server in `folder`, on a free port, with the models of `register.py` in its registry if it
    has one. `arguments` are more of `lakeport serve`."""
    home, log = folder / "home", folder / "server.log"
    token = secrets.token_urlsafe(24)
    command = [*LAKEPORT, "serve", "--port", "0", "--home", str(home), *arguments]
    ours = {
        "LAKEPORT_ADMIN_TOKEN": token,
        # The registry comes up while the script that fills it imports mlflow.
        "LAKEPORT_REGISTRY": "eager" if registry else "off",
        # Low, so that tests can reach them.
        "LAKEPORT_READY_WAIT": "1",
        "LAKEPORT_ENGINE_THREADS": "1",  # tests share their cores with much else
        "LAKEPORT_MAX_ENDPOINTS": "40",
    }
    with (
        log.open("wb") as said,
        subprocess.Popen(
            command, env=environment(ours), stdout=said, stderr=subprocess.STDOUT
        ) as server,
    ):
        try:
            host = _ready(server, log)
            if registry:
                _register(host, token)
            yield Workspace(host, token, Model("iris", ("1", "2")), home)
        finally:
            server.terminate()
            try:
                server.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                server.kill()


def real() -> Workspace | None:
    """The real workspace that `make parity` names, if it does.

    LAKEPORT_PARITY_MODEL and LAKEPORT_PARITY_VERSIONS ("1,2") name the model that `register.py`
    registers as `iris`: the tests know its answers.
    """
    host, token = os.environ.get("LAKEPORT_PARITY_HOST"), os.environ.get("LAKEPORT_PARITY_TOKEN")
    if not host or not token:
        return None
    model = os.environ.get("LAKEPORT_PARITY_MODEL", "iris")
    versions = os.environ.get("LAKEPORT_PARITY_VERSIONS", "1,2").split(",")
    return Workspace(host.rstrip("/"), token, Model(model, tuple(versions)))


def new_token(workspace: Workspace, caller: str, *groups: str) -> str:
    """A token for somebody else, made by `lakeport token`."""
    arguments = ["token", "--home", str(workspace.home), "--caller", caller]
    for group in groups:
        arguments += ["--group", group]
    return subprocess.run(
        [*LAKEPORT, *arguments], env=environment({}), capture_output=True, text=True, check=True
    ).stdout.strip()


def until(what: str, look: Callable[[], T | None], seconds: float = PATIENCE) -> T:
    """Look until there is something to see, and return it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if seen := look():
            return seen
        time.sleep(0.05)
    raise AssertionError(f"waited {seconds:g} s for {what}")


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """The variables of a program that must not see what this environment has on its path."""
    return {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "VIRTUAL_ENV"}} | dict(
        more
    )


def _ready(server: subprocess.Popen[bytes], log: Path) -> str:
    def look() -> str | None:
        text = log.read_text(errors="replace")
        assert server.poll() is None, f"the server ended as it started:\n{text[-4000:]}"
        found = re.search(r"Lakeport is ready: (http://\S+)", text)
        return found[1] if found and httpx.get(f"{found[1]}/health").is_success else None

    return until("the server", look, START_SECONDS)


def _register(host: str, token: str) -> None:
    """Fill the registry."""
    tracking = {"MLFLOW_TRACKING_URI": host, "MLFLOW_TRACKING_TOKEN": token}
    done = subprocess.run(
        [PYTHON, "-m", "tests.contract.register"],
        cwd=ROOT,
        env=environment(tracking),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
