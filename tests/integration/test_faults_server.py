"""The server's own end: SIGTERM, `kill -9`, and what the next start makes of it."""

import http.client
import json
import subprocess
import sys
import time
from pathlib import Path

import psutil

from tests.integration.conftest import MakeServer, Stock
from tests.integration.load import load
from tests.integration.server import ServerProcess, closing, wait_for, wait_until_gone
from tests.models.fixtures import SavedModel

BODY = {"inputs": [{"x": 1.0}]}
#: What served before must serve again so many seconds after a start.
BACK_WITHIN = 30.0


def served_again(server: ServerProcess, endpoint: str, body: object = BODY) -> float:
    """Start the server; the seconds until `endpoint` answers."""
    began = time.monotonic()
    server.start()
    left = BACK_WITHIN - (time.monotonic() - began)
    wait_for(
        lambda: server.ask(endpoint, body).status_code == 200,
        within=left,
        what=f"an answer of {endpoint}",
    )
    return time.monotonic() - began


def test_sigterm_lets_running_requests_finish(
    make_server: MakeServer, saved_model: SavedModel
) -> None:
    server = make_server(registry="eager", models={"slow": saved_model("slow")})
    server.start()
    running = [http.client.HTTPConnection(*server.address, timeout=60) for _ in range(3)]
    for connection in running:  # each is known to the server before it counts
        ask_slowly(server, connection, seconds=0)
        assert connection.getresponse().read()
    workers = server.workers()

    for connection in running:
        ask_slowly(server, connection, seconds=2)
    server.get("slow")  # what came before it has been read
    code = server.terminate()
    statuses = [connection.getresponse().status for connection in running]

    assert statuses == [200, 200, 200]
    assert code == 0
    wait_until_gone(workers)
    assert not server.leftovers()


def ask_slowly(
    server: ServerProcess, connection: http.client.HTTPConnection, *, seconds: float
) -> None:
    """Send a request, without a wait for its answer."""
    connection.request(
        "POST",
        "/serving-endpoints/slow/invocations",
        json.dumps({"inputs": [{"seconds": float(seconds)}]}),
        {"Authorization": f"Bearer {server.token}", "Content-Type": "application/json"},
    )


def test_sigterm_while_it_starts_ends_it_at_once(make_server: MakeServer) -> None:
    server = make_server(registry="eager")

    server.begin()
    wait_for(server.family, what="a first child")

    assert server.terminate() == 0
    assert not server.leftovers()


def test_a_second_server_on_the_same_home_is_refused(shared: ServerProcess) -> None:
    entry = "import sys; from lakeport.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", entry, "serve", "--home", str(shared.home), "--port", "0"]

    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert ended.returncode == 1
    assert f"Another Lakeport server (pid {shared.process.pid}) uses the home" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert shared.client.get("/health").status_code == 200


def test_nothing_outlives_a_killed_server(make_server: MakeServer, stock: Stock) -> None:
    """Whatever its processes are in the middle of: computing, hanging, loading, coming up."""
    server = make_server(registry="eager")
    server.start()
    server.create("hanging", stock.entity("hangs", "hostile"))
    wish = {"name": "loading", "config": {"served_entities": [stock.entity("l", "load_hangs")]}}
    server.call("POST", "serving-endpoints", wish)
    wait_for(lambda: len(server.workers()) == 2, what="two workers")
    with load(server, "hanging", {"inputs": [{"do": "hang"}]}, threads=4):
        wait_for(lambda: connections(server) >= 4, what="requests under way")
        assert len(server.registry()) == 2

        server.kill()  # holds that all that ran is gone


def connections(server: ServerProcess) -> int:
    """Clients that are connected."""
    found = psutil.Process(server.process.pid).net_connections("tcp")
    return sum(connection.status == psutil.CONN_ESTABLISHED for connection in found)


def test_a_killed_rollout_is_carried_on(make_server: MakeServer, stock: Stock) -> None:
    server = make_server(registry="eager")
    server.start()
    server.create("rolled", stock.entity("old", "params"))
    server.update("rolled", stock.entity("new", "frame"))

    server.kill()
    served_again(server, "rolled")
    found = server.updated("rolled")

    assert [entity["name"] for entity in found["config"]["served_entities"]] == ["new"]
    assert found["config"]["config_version"] == 2
    assert server.ask("rolled", BODY).headers["served-model-name"] == "new"


def test_a_killed_rollout_that_cannot_succeed_ends_as_it_would_have_without_the_registry_too(
    make_server: MakeServer, stock: Stock, tmp_path: Path
) -> None:
    """Models that were fetched before need the registry no more."""
    fails = tmp_path / "now it fails"
    bad = stock.entity("bad", "load_hangs", environment_vars={"LOAD_UNTIL": str(fails)})
    server = make_server(registry="eager")
    server.start()
    server.create("rolled", stock.entity("old", "params"))
    server.update("rolled", bad)
    wait_for(lambda: len(server.workers()) == 2, what="the new replica's start")
    server.kill()

    next_life = ServerProcess(server.home, registry="off", env_manager="local")
    with closing(next_life):
        served_again(next_life, "rolled")
        resumed = next_life.get("rolled")
        fails.touch()
        found = next_life.settled("rolled")
        answered = next_life.ask("rolled", BODY)

    assert resumed["state"]["config_update"] == "IN_PROGRESS"
    assert resumed["pending_config"]["config_version"] == 2
    assert found["state"] == {"ready": "READY", "config_update": "UPDATE_FAILED"}
    [failed] = found["pending_config"]["served_entities"]
    assert "it was waited for in vain" in failed["state"]["deployment_state_message"]
    assert answered.headers["served-model-name"] == "old"


def test_a_slip_in_a_script_is_told_at_the_start(tmp_path: Path) -> None:
    script = tmp_path / "answers.yml"
    script.write_text("rules: [{match: '(', reply: x}]")
    entry = "import sys; from lakeport.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", entry, "serve", "--home", str(tmp_path / "home")]
    command += ["--port", "0", "--registry", "off", "--chat", f"scripted=scripted:{script}"]

    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert ended.returncode == 1
    assert "--chat scripted: The script cannot be used: rules[0].match: not a" in ended.stderr
    assert "Traceback" not in ended.stderr
