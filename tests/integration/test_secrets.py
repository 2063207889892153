"""Secrets in a running server: they reach a model's process, and nothing else holds them in clear.

A server that logs all it can holds secrets and serves with them; then everything that it said,
wrote and answered is searched.
"""

import base64
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from tests.integration.conftest import Stock
from tests.integration.hostile import ENDPOINTS, Answer, Wire, make_token, marker
from tests.integration.server import ServerProcess, closing, wait_for

SECRETS = "/api/2.0/secrets"
REFERENCE = "{{secrets/models/api-key}}"


@dataclass(frozen=True, slots=True)
class World:
    server: ServerProcess
    stock: Stock
    #: The secret's value, before and after it was rotated.
    first: str
    second: str
    #: What the models' processes saw.
    seen: list[str] = field(default_factory=list)
    #: Of everything that was asked but the value itself.
    answers: list[Answer] = field(default_factory=list)


def put(server: ServerProcess, value: str) -> None:
    body = {"scope": "models", "key": "api-key", "string_value": value}
    server.call("POST", "secrets/put", body)


def variable(server: ServerProcess) -> str:
    """What the only worker has been given."""

    def look() -> str | None:
        workers = server.workers()
        try:
            return workers[0].environ().get("API_KEY") if len(workers) == 1 else None
        except psutil.Error:
            return None

    return wait_for(look, what="a worker with the variable")


@pytest.fixture(scope="module")
def world(stock: Stock, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A server that served with a secret, rotated it, served again, and was restarted."""
    home = tmp_path_factory.mktemp("secrets") / "home"
    shutil.copytree(stock.home, home)
    server = ServerProcess(
        home,
        registry="eager",
        env_manager="local",
        log_level="debug",
        replica_start="spawn",  # the variables of a forked process are not to be seen from outside
    )
    world = World(server, stock, first=marker(), second=marker())
    with closing(server):
        server.start()
        server.call("POST", "secrets/scopes/create", {"scope": "models"})
        put(server, world.first)
        variables = {"API_KEY": REFERENCE, "PLAIN": "as it is"}
        server.create("uses", stock.entity("a", "params", environment_vars=variables))
        world.seen.append(variable(server))
        put(server, world.second)
        server.workers()[0].kill()
        wait_for(lambda: world.seen[0] != variable(server), what="another worker")
        world.seen.append(variable(server))
        assert server.terminate() == 0
        server.start()
        wait_for(lambda: server.get("uses")["state"]["ready"] == "READY", what="its replica")
        world.seen.append(variable(server))
        world.answers.extend(asked(world))
        yield world


def asked(world: World) -> Iterator[Answer]:
    """What may make a server say too much."""
    wire = Wire(world.server)
    ann = Wire(world.server, make_token(world.server, "ann"))
    entity = world.stock.entity("a", "params", environment_vars={"API_KEY": REFERENCE})
    config = {"served_entities": [entity]}
    for client in (wire, ann):
        for target in (
            ENDPOINTS,
            f"{ENDPOINTS}/uses",
            f"{ENDPOINTS}/uses/metrics",
            f"{ENDPOINTS}/uses/served-models/a/logs",
            f"{ENDPOINTS}/uses/served-models/a/build-logs",
            "/api/2.0/lakeport/events?limit=1000",
            "/metrics",
            f"{SECRETS}/scopes/list",
            f"{SECRETS}/list?scope=models",
            f"{SECRETS}/acls/list?scope=models",
            f"{SECRETS}/get?scope=models&key=none",
        ):
            yield client.send("GET", target)
        yield client.send("POST", ENDPOINTS, {"name": "uses", "config": config})
    for value in (world.second, [world.second], {"x": world.second}):
        wrong = {"scope": "models", "key": "x", "bytes_value": value, "string_value": value}
        yield wire.send("POST", f"{SECRETS}/put", wrong)
        yield wire.send(
            "POST", f"{SECRETS}/put", {"scope": "none", "key": "x", "string_value": value}
        )
        yield ann.send(
            "POST", f"{SECRETS}/put", {"scope": "models", "key": "x", "string_value": value}
        )
    yield ann.send("GET", f"{SECRETS}/get?scope=models&key=api-key")
    yield wire.send("POST", f"{SECRETS}/put", f'{{"string_value": "{world.second}"'.encode())
    wire.close()
    ann.close()


def held_in(content: bytes, world: World) -> bool:
    """Whether a value is in `content`, in a form in which it could get out."""
    return any(
        form in content
        for value in (world.first, world.second)
        for form in (value.encode(), base64.b64encode(value.encode()).rstrip(b"="))
    )


def test_a_models_process_is_given_the_value_of_its_start(world: World) -> None:
    assert world.seen == [world.first, world.second, world.second]
    [worker] = world.server.workers()
    assert worker.environ()["PLAIN"] == "as it is"


def test_the_reference_is_shown_as_it_was_given(world: World) -> None:
    [entity] = world.server.get("uses")["config"]["served_entities"]

    assert entity["environment_vars"] == {"API_KEY": REFERENCE, "PLAIN": "as it is"}


def test_no_file_and_no_log_holds_a_value_in_clear(world: World) -> None:
    """The database, its write-ahead log and the models' logs among them."""
    files = [file for file in world.server.home.rglob("*") if file.is_file()]

    names = {file.name for file in files}
    assert {"lakeport.db", "lakeport.db-wal", "secrets.key"} <= names
    assert world.server.log.stat().st_size
    assert not [file for file in [*files, world.server.log] if held_in(file.read_bytes(), world)]
    assert (world.server.home / "secrets.key").stat().st_mode & 0o777 == 0o600


def test_no_answer_holds_a_value_but_the_one_that_is_asked_for_it(world: World) -> None:
    assert len(world.answers) > 30
    assert {answer.status for answer in world.answers} >= {200, 400, 403, 404, 409}
    for answer in world.answers:
        assert not held_in(json.dumps(dict(answer.headers)).encode() + answer.body, world), answer
    got = world.server.call("GET", "secrets/get?scope=models&key=api-key")
    assert base64.b64decode(got["value"]).decode() == world.second


def test_no_command_line_and_no_other_process_holds_a_value(world: World) -> None:
    [worker] = world.server.workers()
    others = [process for process in world.server.family() if process.pid != worker.pid]
    guard = worker.parent()

    assert guard is not None
    assert world.server.registry()
    for process in others:
        assert not held_in("\0".join(process.cmdline()).encode(), world)
        if process.pid != guard.pid:  # it starts the worker, and hands on its environment
            assert not held_in(json.dumps(process.environ()).encode(), world)
    assert not held_in("\0".join(worker.cmdline()).encode(), world)


def test_the_token_command_works_beside_the_server(world: World) -> None:
    token = make_token(world.server, "bob", "team")
    world.server.call(
        "POST",
        "secrets/acls/put",
        {"scope": "models", "principal": "team", "permission": "READ"},
    )

    bob = Wire(world.server, token)
    found = bob.send("GET", f"{SECRETS}/list?scope=models")
    bob.close()

    assert [secret["key"] for secret in found.json()["secrets"]] == ["api-key"]


def test_whoever_asks_for_an_entity_must_be_allowed_to_read(world: World) -> None:
    eve = Wire(world.server, make_token(world.server, "eve"))
    entity = world.stock.entity("a", "params", environment_vars={"API_KEY": REFERENCE})
    body = {"name": "eves", "config": {"served_entities": [entity]}}
    grant = {"scope": "models", "principal": "eve", "permission": "READ"}

    refused = eve.send("POST", ENDPOINTS, body)
    world.server.call("POST", "secrets/acls/put", grant)
    entity["environment_vars"] = {"OTHER": "{{secrets/models/none}}"}
    missing = eve.send("POST", ENDPOINTS, body)
    eve.close()

    assert refused.status == 403
    assert "environment_vars.API_KEY" in refused.json()["message"]
    assert missing.status == 404
    assert "environment_vars.OTHER" in missing.json()["message"]
    assert "'none'" in missing.json()["message"]


def test_without_its_secret_a_start_fails_with_the_reason(world: World) -> None:
    """Last: it deletes the secret."""
    server = world.server
    server.call("POST", "secrets/delete", {"scope": "models", "key": "api-key"})
    server.workers()[0].kill()

    def told() -> str | None:
        found = [e["message"] for e in server.events("uses") if e["kind"] == "start_failed"]
        return found[-1] if found else None

    message = wait_for(told, what="the failed start")
    assert "API_KEY" in message
    assert REFERENCE in message
    assert "does not exist" in message
    put(server, world.second)
    assert variable(server) == world.second  # and it heals


def test_a_lost_key_file_is_told_and_stops_nothing_else(world: World, tmp_path: Path) -> None:
    home = tmp_path / "home"
    server = ServerProcess(home, registry="off")
    with closing(server):
        server.start()
        server.call("POST", "secrets/scopes/create", {"scope": "s"})
        server.call("POST", "secrets/put", {"scope": "s", "key": "k", "string_value": "x"})
        assert server.terminate() == 0
        os.rename(home / "secrets.key", tmp_path / "elsewhere")
        server.start()

        lost = server.client.get(f"{SECRETS}/get?scope=s&key=k")

        assert lost.status_code == 500
        assert "secrets.key" in lost.json()["message"]
        assert str(home) not in lost.text
        assert server.client.get(ENDPOINTS).status_code == 200
        os.rename(tmp_path / "elsewhere", home / "secrets.key")
        assert server.call("GET", "secrets/get?scope=s&key=k")["value"] == "eA=="
