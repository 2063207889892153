"""A real `lakeport serve`: started, killed and started again on one home, and asked over HTTP."""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil

from lakeport.home import Home

#: Seconds after which a fact that was waited for is taken for missing.
PATIENCE = 60.0
PAUSE = 0.02
_ENTRY = "import sys; from lakeport.cli.main import main; sys.exit(main())"

T = TypeVar("T")


def wait_for(fact: Callable[[], T | None], *, within: float = PATIENCE, what: str = "a fact") -> T:
    """The first true value of `fact`. Raises AssertionError when none came in `within` seconds."""
    deadline = time.monotonic() + within
    while not (value := fact()):
        assert time.monotonic() < deadline, f"waited {within:g} s for {what}"
        time.sleep(PAUSE)
    return value


class ServerProcess:
    """One home and the server on it. What the server prints goes to the file `log`.

    `flags` are settings, `start_timeout=5` for `--start-timeout 5`; a list gives its flag once for
    each value. `wrapper` is a command that
    runs the server as its own process, `("prlimit", "--fsize=1000000")` say.
    """

    def __init__(
        self,
        home: Path,
        *,
        models: Mapping[str, Path] | None = None,
        wrapper: Sequence[str] = (),
        **flags: object,
    ) -> None:
        self.home = home
        self.token = secrets.token_urlsafe(24)
        self.log = home.with_name(f"{home.name}.server.log")
        self._arguments = ["--home", str(home), "--port", "0"]
        for name, value in flags.items():
            for each in value if isinstance(value, list) else [value]:
                flag = "--" + name.replace("_", "-")
                self._arguments += [flag] if each is True else [flag, str(each)]
        for name, folder in (models or {}).items():
            self._arguments += ["--model", f"{name}={folder}"]
        #: May be changed between two starts.
        self.wrapper = wrapper
        self._process: subprocess.Popen[bytes] | None = None
        self._client: httpx.Client | None = None
        self._log_start = 0

    # --- its life -------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start it, without a wait."""
        assert self._process is None, "it runs already"
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self.wrapper, sys.executable, "-c", _ENTRY, "serve", *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={
                    **os.environ,
                    "LAKEPORT_ADMIN_TOKEN": self.token,
                    "LAKEPORT_ENGINE_THREADS": "1",  # tests share their cores with much else
                },
            )

    def start(self) -> "ServerProcess":
        """Start it; it answers when this returns."""
        self.begin()
        self.wait_until_ready()
        return self

    def wait_until_ready(self) -> None:
        url = wait_for(self._healthy, what="a server that is ready")
        self._client = httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {self.token}"}, timeout=PATIENCE
        )

    def _healthy(self) -> str | None:
        """Its URL, once it says that it can serve."""
        assert self.process.poll() is None, f"it ended: {self.said()}"
        for connection in psutil.Process(self.process.pid).net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN:
                url = f"http://127.0.0.1:{connection.laddr.port}"
                with contextlib.suppress(httpx.TransportError):
                    if httpx.get(f"{url}/health").status_code == 200:
                        return url
        return None

    def kill(self) -> float:
        """`kill -9`; returns the seconds until no process of its was left.

        Raises AssertionError when one is, naming it.
        """
        family = self.family()
        self.process.kill()
        began = time.monotonic()
        self._forget()
        wait_until_gone([*family, *self.leftovers()])
        assert not self.leftovers()
        return time.monotonic() - began

    def terminate(self, *, within: float = PATIENCE) -> int:
        """SIGTERM; its exit code once it has ended, its processes too."""
        family = self.family()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(within)
        self._forget()
        wait_until_gone(family)
        return code

    def close(self) -> None:
        """Whatever state it is in, nothing of it runs any more."""
        if self._process is not None:
            self.kill()
        # Outside the home when the home's path is long, as pytest's are.
        shutil.rmtree(Home(self.home).run, ignore_errors=True)

    def _forget(self) -> None:
        self.process.wait()
        self._process = None
        if self._client is not None:
            self._client.close()
            self._client = None

    # --- its processes --------------------------------------------------------------------------

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        assert self._process is not None, "it does not run"
        return self._process

    def family(self) -> list[psutil.Process]:
        """All its descendants, as far as they live."""
        return _alive(psutil.Process(self.process.pid).children(recursive=True))

    def workers(self) -> list[psutil.Process]:
        """Processes that hold a replica of a model, in the order of their start."""
        return sorted(
            (process for process in self.family() if _is_worker(process)),
            key=lambda process: process.create_time(),
        )

    def registry(self) -> list[psutil.Process]:
        """The embedded registry's processes: the guard and MLflow."""
        return [process for process in self.family() if _runs(process, "mlflow/process.py")]

    def leftovers(self) -> list[psutil.Process]:
        """Processes anywhere that name this home."""
        own = str(self.home)
        return [process for process in _alive(psutil.process_iter()) if _runs(process, own)]

    def said(self) -> str:
        """What it printed since its last start."""
        if not self.log.is_file():
            return f"({self.log} keeps nothing)"
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    # --- its wire -------------------------------------------------------------------------------

    @property
    def client(self) -> httpx.Client:
        assert self._client is not None, "it is not ready"
        return self._client

    @property
    def address(self) -> tuple[str, int]:
        url = self.client.base_url
        assert url.port is not None
        return url.host, url.port

    def call(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """The JSON answer of an operation below /api/2.0. Raises AssertionError when refused."""
        answer = self.client.request(method, f"/api/2.0/{path}", json=body)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        found: dict[str, Any] = answer.json() if answer.content else {}
        return found

    def get(self, endpoint: str) -> dict[str, Any]:
        return self.call("GET", f"serving-endpoints/{endpoint}")

    def create(self, endpoint: str, *entities: Mapping[str, object]) -> dict[str, Any]:
        """Create an endpoint, and wait until its first config serves.

        The first entity gets all the traffic.
        """
        traffic = {str(entity["name"]): 0 for entity in entities}
        traffic[str(entities[0]["name"])] = 100
        wish = {"name": endpoint, "config": _config(entities, traffic)}
        self.call("POST", "serving-endpoints", wish)
        return self.updated(endpoint)

    def update(
        self, endpoint: str, *entities: Mapping[str, object], **traffic: int
    ) -> dict[str, Any]:
        """Ask for another config; `traffic` is the percentage of each served entity, by its name
        (needed when there are several)."""
        path = f"serving-endpoints/{endpoint}/config"
        return self.call("PUT", path, _config(entities, traffic))

    def settled(self, endpoint: str, *, within: float = PATIENCE) -> dict[str, Any]:
        """The endpoint once no update is under way."""

        def ended() -> dict[str, Any] | None:
            found = self.get(endpoint)
            return None if found["state"]["config_update"] == "IN_PROGRESS" else found

        return wait_for(ended, within=within, what=f"the end of the update of {endpoint}")

    def updated(self, endpoint: str) -> dict[str, Any]:
        """The endpoint once its update has succeeded."""
        found = self.settled(endpoint)
        assert found["state"] == {"ready": "READY", "config_update": "NOT_UPDATING"}, found
        return found

    def events(self, endpoint: str) -> list[dict[str, Any]]:
        found = self.call("GET", f"lakeport/events?endpoint={endpoint}&limit=1000")
        events: list[dict[str, Any]] = found["events"]
        return events

    def ask(
        self, endpoint: str, body: object, *, entity: str | None = None, **more: Any
    ) -> httpx.Response:
        """One invocation."""
        one = f"/served-models/{entity}" if entity else ""
        path = f"/serving-endpoints/{endpoint}{one}/invocations"
        return self.client.post(path, json=body, **more)

    def register(self, name: str, folder: Path) -> str:
        """A new version of a registered model, by the wire alone; its number."""
        made = self.client.post(
            "/api/2.0/mlflow/registered-models/create", json={"name": name}
        ).json()
        assert "registered_model" in made or made["error_code"] == "RESOURCE_ALREADY_EXISTS", made
        run = self.call("POST", "mlflow/runs/create", {"experiment_id": "0"})["run"]["info"]
        root = run["artifact_uri"].removeprefix("mlflow-artifacts:/")
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                path = f"{root}/model/{file.relative_to(folder)}"
                self.client.put(
                    f"/api/2.0/mlflow-artifacts/artifacts/{path}", content=file.read_bytes()
                ).raise_for_status()
        version = self.call(
            "POST",
            "mlflow/model-versions/create",
            {"name": name, "source": f"{run['artifact_uri']}/model", "run_id": run["run_id"]},
        )["model_version"]
        number: str = version["version"]
        return number


@contextlib.contextmanager
def closing(server: ServerProcess) -> Iterator[ServerProcess]:
    """Nothing of the server runs when this exits."""
    try:
        yield server
    finally:
        server.close()


def entity(name: str, model: str, version: str, **more: object) -> dict[str, object]:
    """A served entity as the wire wants it."""
    return {
        "name": name,
        "entity_name": model,
        "entity_version": version,
        "workload_size": "Small",
        "scale_to_zero_enabled": False,
        **more,
    }


def _config(
    entities: Sequence[Mapping[str, object]], traffic: Mapping[str, int]
) -> dict[str, object]:
    routes = [
        {"served_model_name": name, "traffic_percentage": percentage}
        for name, percentage in traffic.items()
    ]
    config: dict[str, object] = {"served_entities": entities}
    return config | ({"traffic_config": {"routes": routes}} if routes else {})


def wait_until_gone(processes: Sequence[psutil.Process], *, within: float = 10.0) -> None:
    """Raises AssertionError when one of them still lives after `within` seconds."""

    def gone() -> bool:
        return not _alive(processes)

    try:
        wait_for(gone, within=within)
    except AssertionError:
        left = [_described(process) for process in _alive(processes)]
        raise AssertionError(f"still alive after {within:g} s: {left}") from None


def _alive(
    processes: "Sequence[psutil.Process] | Iterator[psutil.Process]",
) -> list[psutil.Process]:
    alive = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            # A zombie is gone; nobody in this machine may be there to reap it.
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                alive.append(process)
    return alive


def _is_worker(process: psutil.Process) -> bool:
    """Not a zygote or a template, which have the command line of what they fork."""
    try:
        line, name = process.cmdline(), process.name()
    except psutil.Error:
        return False
    forked = "zygote" in line
    return any("worker/__main__.py" in part for part in line) and (
        not forked or name == "lakeport-worker"
    )


def _runs(process: psutil.Process, word: str) -> bool:
    try:
        return any(word in part for part in process.cmdline())
    except psutil.Error:
        return False


def _described(process: psutil.Process) -> str:
    try:
        return f"{process.pid} {' '.join(process.cmdline())[:120]}"
    except psutil.Error:
        return str(process.pid)
