"""Watching a real server from the command line: events, logs and the live table, through a replica
that is killed, an update, and a restart of the server."""

import json
import os
import queue
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from lakeport.cli.main import lakeport
from lakeport.wire.events import KINDS
from tests.integration.server import PATIENCE, ServerProcess, closing, wait_for
from tests.models.fixtures import SavedModel

TOOLS = Path(sys.executable).parent

Run = Callable[..., Result]


def served(home: Path, model: Path, **more: object) -> ServerProcess:
    """A server with the endpoint `watched`, which serves the model of a folder. It has no registry:
    that would only cost time."""
    models = {"watched": model}
    return ServerProcess(home, models=models, registry="off", env_manager="local", **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, saved_model: SavedModel
) -> Iterator[ServerProcess]:
    with closing(served(tmp_path_factory.mktemp("watch") / "home", saved_model("params"))) as made:
        made.start()
        made.updated("watched")
        yield made


@pytest.fixture
def environment(server: ServerProcess, tmp_path: Path) -> dict[str, str]:
    return environment_of(server, tmp_path)


def environment_of(server: ServerProcess, folder: Path) -> dict[str, str]:
    return {
        "DATABRICKS_HOST": str(server.client.base_url).rstrip("/"),
        "DATABRICKS_TOKEN": server.token,
        "DATABRICKS_CONFIG_FILE": str(folder / "none"),
        "HOME": str(folder),
    }


@pytest.fixture
def run(environment: dict[str, str]) -> Run:
    def call(*arguments: str) -> Result:
        unset = dict[str, str | None].fromkeys(
            ("DATABRICKS_OUTPUT_FORMAT", "DATABRICKS_CONFIG_PROFILE")
        )
        return CliRunner(env=unset | environment).invoke(lakeport, arguments)

    return call


class Watching:
    """A command that goes on, and the lines of its output."""

    def __init__(self, command: "subprocess.Popen[str]") -> None:
        self._command = command
        self._lines: queue.Queue[str] = queue.Queue()
        self.seen: list[str] = []
        assert command.stdout is not None
        thread = threading.Thread(target=self._read, args=(command.stdout,), daemon=True)
        thread.start()

    def _read(self, stream: Any) -> None:
        for line in stream:
            self._lines.put(line)

    def until(self, word: str) -> str:
        """The next line with that word. Raises AssertionError when none comes."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                line = self._lines.get(timeout=max(deadline - time.monotonic(), 0))
            except queue.Empty:
                raise AssertionError(f"no {word!r} in {self.seen}") from None
            self.seen.append(line)
            if word in line:
                return line

    def interrupted(self) -> tuple[int, str]:
        """Its exit code and what it said on stderr, after Ctrl-C."""
        self._command.send_signal(signal.SIGINT)
        assert self._command.stderr is not None
        said = self._command.stderr.read()
        return self._command.wait(PATIENCE), said


@contextmanager
def watching(environment: dict[str, str], *arguments: str) -> Iterator[Watching]:
    with subprocess.Popen(
        [TOOLS / "lakeport", *arguments],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as command:
        try:
            yield Watching(command)
        finally:
            command.kill()


def replica_pid(server: ServerProcess) -> int:
    """The process of the endpoint's one replica."""

    def measured() -> int | None:
        live = server.call("GET", "lakeport/live")["endpoints"]
        (endpoint,) = (each for each in live if each["name"] == "watched")
        pids = [replica["pid"] for replica in endpoint["entities"][0]["replicas"]]
        return pids[0] if pids else None

    return wait_for(measured, what="a replica that was measured")


def test_events_are_shown_and_chosen(server: ServerProcess, run: Run) -> None:
    stored = server.events("watched")

    everything = json.loads(run("events", "watched", "-o", "json").stdout)["events"]
    made = run("events", "--kind", "created", "--since", "1h").stdout
    newest = run("events", "watched", "-n", "1").stdout
    unknown = run("events", "watched", "--kind", "craeted")
    nobody = run("events", "rose")

    assert everything == stored
    (line,) = (line.split("\t") for line in made.splitlines() if "watched" in line)
    assert line[1:] == ["watched", "", "created", "admin", "Created."]
    assert len(newest.splitlines()) == 1
    assert stored[-1]["message"] in newest
    assert unknown.exit_code == 1
    assert "Did you mean 'created'?" in unknown.stderr
    assert nobody.exit_code == 3
    assert {event["kind"] for event in stored} <= KINDS.keys()


def test_the_events_of_a_deleted_endpoint_tell_who_deleted_it(
    server: ServerProcess, run: Run
) -> None:
    server.call("POST", "serving-endpoints", {"name": "brief"})
    server.call("PATCH", "serving-endpoints/brief/tags", {"add_tags": [{"key": "a"}]})
    server.call("DELETE", "serving-endpoints/brief")

    def told() -> list[str] | None:
        kinds = [line.split("\t")[3] for line in run("events", "brief").stdout.splitlines()]
        return kinds if "deleted" in kinds else None

    assert wait_for(told) == ["created", "tags", "deleted"]


def test_watching_survives_a_killed_replica_an_update_and_a_restart_of_the_server(
    tmp_path: Path, saved_model: SavedModel
) -> None:
    first = served(tmp_path / "home", saved_model("params"))
    with closing(first), ExitStack() as stack:
        first.start()
        first.updated("watched")
        environment = environment_of(first, tmp_path)
        events = stack.enter_context(watching(environment, "events", "watched", "-w"))
        logs = stack.enter_context(watching(environment, "logs", "watched", "-f", "-n", "1000"))
        events.until("update_succeeded")
        logs.until("worker started")
        os.kill(replica_pid(first), signal.SIGKILL)
        assert "[r1]" in logs.until("the worker is gone")
        ended = events.until("replica_ended").split("\t")
        events.until("unavailable")
        assert "[r2]" in logs.until("worker started")
        events.until("recovered")
        port = first.address[1]
        assert first.terminate() == 0
        again = stack.enter_context(
            closing(served(tmp_path / "home", saved_model("frame"), port=port))
        )
        again.token = first.token
        again.start()
        events.until("update_started")
        events.until("update_succeeded")
        logs.until("worker started")
        codes = [each.interrupted() for each in (events, logs)]

    assert ended[1:3] == ["watched", "watched"]
    for code, said in codes:
        assert code == 130
        assert said.count("Waiting for it …") == 1
        assert said.count("It is back.") == 1
        assert "Traceback" not in said
    assert len(set(events.seen)) == len(events.seen)
    assert "watched: config version 2" in codes[1][1]


def test_pages_of_logs_follow_one_another(server: ServerProcess) -> None:
    path = "lakeport/logs/watched/watched"
    whole = server.call("GET", f"{path}?limit=5000")
    seen: list[dict[str, Any]] = []
    page = server.call("GET", f"{path}?after=&limit=2")
    while page["lines"]:
        assert len(page["lines"]) <= 2
        seen += page["lines"]
        page = server.call("GET", f"{path}?limit=2&after={page['next']}")
    wrong = server.client.get(f"/api/2.0/{path}?after=yesterday")
    build = server.call("GET", f"{path}?build=true")

    assert [line for line in whole["lines"] if line not in seen] == []
    assert not page["lost"]
    assert wrong.status_code == 400
    assert "after" in wrong.json()["message"]
    assert build["lines"]


def test_top_is_a_snapshot_in_a_pipe(server: ServerProcess, run: Run) -> None:
    pid = replica_pid(server)

    lines = [line.split("\t") for line in run("top").stdout.splitlines()]
    document = json.loads(run("top", "watched", "-o", "json").stdout)

    (row,) = (line for line in lines if line[0] == "watched")
    assert row[1] == "watched"
    assert row[3:5] == ["READY", "1"]
    (endpoint,) = document["endpoints"]
    (replica,) = endpoint["entities"][0]["replicas"]
    assert replica["pid"] == pid
    assert replica["memory_bytes"] > 1_000_000
    assert run("top", "rose").exit_code == 3


def test_top_is_drawn_on_a_terminal_until_q(environment: dict[str, str]) -> None:
    ours, theirs = os.openpty()
    said = b""
    with subprocess.Popen(
        [TOOLS / "lakeport", "top", "watched", "--every", "300ms"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=os.environ | environment | {"TERM": "xterm", "COLUMNS": "100", "LINES": "20"},
        start_new_session=True,
    ) as command:
        os.close(theirs)
        deadline = time.monotonic() + PATIENCE
        pressed = False
        try:
            while time.monotonic() < deadline:
                if not select.select([ours], [], [], 1.0)[0]:
                    continue
                if not (piece := os.read(ours, 4096)):
                    break
                said += piece
                if said.count(b"READY") >= 2 and not pressed:  # drawn twice
                    os.write(ours, b"q")
                    pressed = True
        except OSError:
            pass  # Linux' word for a terminal that nobody holds any more
        code = command.wait(PATIENCE)
    os.close(ours)

    assert code == 0
    assert b"ENDPOINT" in said
    assert b"\x1b[?1049h" in said, "the terminal's other screen"
    assert said.endswith(b"\x1b[?25h") or b"\x1b[?1049l" in said, "what was there before is back"
    assert b"Traceback" not in said
