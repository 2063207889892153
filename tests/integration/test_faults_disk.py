"""A full disk: what serves goes on serving.

`RLIMIT_FSIZE` stands in for it: no file may grow beyond a size, and whoever tries gets an error
much as on a full disk, without a file system of the test's own.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.integration.conftest import MakeServer
from tests.integration.server import wait_for
from tests.models.fixtures import SavedModel

KIB = 1024
_LIMITED = (
    "import os, resource, sys; size = int(sys.argv[1]); "
    "resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)); os.execv(sys.argv[2], sys.argv[2:])"
)
ROOM = 512 * KIB
#: Every write to it fails as on a full disk.
FULL = Path("/dev/full")


def no_file_above(size: int) -> Sequence[str]:
    """A wrapper for a server none of whose files may have more than `size` bytes."""
    return (sys.executable, "-c", _LIMITED, str(size))


def test_invocations_are_answered_when_their_log_cannot_be_written(
    make_server: MakeServer, saved_model: SavedModel
) -> None:
    server = make_server(registry="off", models={"talking": saved_model("hostile")})
    server.wrapper = no_file_above(ROOM)
    server.start()
    much = {"inputs": [{"do": "print"}] * 1000}
    assert server.ask("talking", much).status_code == 200
    [log] = (server.home / "logs").glob("*/replicas.log")

    def full() -> bool:
        assert server.ask("talking", much).status_code == 200
        return log.stat().st_size > ROOM - 64

    wait_for(full, what="a log that is full")
    for _ in range(20):
        answer = server.ask("talking", much)
        assert answer.status_code == 200, answer.text

    assert log.stat().st_size <= ROOM
    logs = server.client.get("/api/2.0/serving-endpoints/talking/served-models/talking/logs")
    assert "printed by the model" in logs.text
    assert server.terminate() == 0


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
def test_a_server_that_can_say_nothing_serves(
    make_server: MakeServer, saved_model: SavedModel
) -> None:
    server = make_server(
        registry="off", log_level="debug", models={"served": saved_model("params")}
    )
    server.log = FULL
    server.start()

    assert server.ask("served", {"inputs": [{"x": 1.0}]}).status_code == 200
    assert server.terminate() == 0


def test_a_store_that_is_full_refuses_changes_and_serving_goes_on(
    make_server: MakeServer, saved_model: SavedModel
) -> None:
    server = make_server(registry="off", models={"kept": saved_model("params")})
    server.wrapper = no_file_above(ROOM)
    server.start()
    server.updated("kept")
    ask = {"inputs": [{"x": 1.0}]}
    stored = 0

    def refused() -> dict[str, object] | None:
        nonlocal stored
        answer = server.client.patch(
            "/api/2.0/serving-endpoints/kept/tags",
            json={"add_tags": [{"key": "n", "value": str(stored + 1)}]},
        )
        if answer.status_code == 200:
            stored += 1
            return None
        body: dict[str, object] = answer.json()
        assert answer.status_code == 500, body
        return body

    refusal = wait_for(refused, what="a change that cannot be stored")

    assert refusal["error_code"] == "INTERNAL_ERROR"
    assert "nothing was changed" in str(refusal["message"])
    for _ in range(50):
        assert server.ask("kept", ask).status_code == 200
    assert server.get("kept")["tags"] == [{"key": "n", "value": str(stored)}]

    assert server.terminate() == 0
    server.wrapper = ()
    server.start()
    assert server.get("kept")["tags"] == [{"key": "n", "value": str(stored)}]
    assert server.ask("kept", ask).status_code == 200
