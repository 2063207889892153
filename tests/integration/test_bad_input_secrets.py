"""Canaries: tokens and the values of environment variables are where they must be, nowhere else.

A server that logs all it can is asked well and badly with them; then everything that it said,
wrote, answered and runs is searched.
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
from tests.integration.hostile import (
    BAD_INPUT,
    BAD_JSON,
    ENDPOINTS,
    QUERY,
    Answer,
    Wire,
    make_token,
    marker,
)
from tests.integration.server import ServerProcess, closing, wait_for

INVOKE = "/serving-endpoints/iris/invocations"


@dataclass(frozen=True, slots=True)
class World:
    server: ServerProcess
    #: What is secret, by what it is.
    tokens: dict[str, str]
    value: str
    #: All answers to what was asked badly.
    answers: list[Answer] = field(default_factory=list)


@pytest.fixture(scope="module")
def world(stock: Stock, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A server after all that is done to it here."""
    home = tmp_path_factory.mktemp("secrets") / "home"
    shutil.copytree(stock.home, home)
    server = ServerProcess(
        home,
        registry="eager",
        env_manager="local",
        log_level="debug",
        replica_start="spawn",  # the variables of a forked process are not to be seen from outside
    )
    value = marker()
    with closing(server):
        server.start()
        server.create("iris", stock.entity("a", "iris", environment_vars={"CANARY": value}))
        wire = Wire(server)
        made = wire.check("POST", "/api/2.0/token/create", {"comment": "x"}).json()
        tokens = {
            "the admin's": server.token,
            "a caller's, by the command line": make_token(server, "ann"),
            "a made one": made["token_value"],
            "an unknown one": f"dapi{marker()}",
        }
        world = World(server, tokens, value)
        world.answers.extend(misuse(world, wire))
        wire.close()
        yield world


def misuse(world: World, wire: Wire) -> Iterator[Answer]:
    """What may make a server say too much."""
    for token in world.tokens.values():
        bearer = f"Bearer {token}".encode()
        for path in (ENDPOINTS, "/nothing", "/metrics", "/api/2.0/mlflow/x", "/api/2.0/token/list"):
            for method in ("GET", "POST", "BREW"):
                yield wire.send(method, path, b"{", authorization=bearer)
        yield wire.send("POST", INVOKE, QUERY, authorization=bearer)
        yield wire.send("POST", INVOKE, QUERY, authorization=token.encode())
        yield wire.send("POST", INVOKE, QUERY, authorization=bearer * 2)
        basic = base64.b64encode(f"x:{token}".encode())
        yield wire.send("GET", "/api/2.0/preview/scim/v2/Me", authorization=b"Basic " + basic)
        yield wire.send(
            "GET", "/nothing", headers={"Cookie": f"token={token}"}, authorization=bearer
        )
        yield wire.raw(b"GET / HTTP/1.1\r\nAuthorization: " + bearer + b"\r\n\r\n")
        yield wire.raw(
            b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: " + bearer + b"\r\nX: \0\r\n\r\n"
        )
    for body in (BAD_JSON | BAD_INPUT).values():
        yield wire.send("POST", INVOKE, body)
    wrong: list[object] = [
        {"CANARY": [world.value]},
        {"CANARY": {"x": world.value}},
        [world.value],
        {"1": world.value},
        {"CANARY": f"{{{{secrets/{world.value}}}}}"},
        {"CANARY": f"\0{world.value}"},
        {f"V{n}": world.value for n in range(31)},
    ]
    for variables in wrong:
        entity = {"entity_name": "stock", "entity_version": "1", "environment_vars": variables}
        config = {"served_entities": [entity]}
        yield wire.send("PUT", f"{ENDPOINTS}/iris/config", config)
        yield wire.send("POST", ENDPOINTS, {"name": "x", "config": config})
    for version in ("999", "@none"):
        entity = {
            "entity_name": "stock",
            "entity_version": version,
            "environment_vars": {"CANARY": world.value},
        }
        yield wire.send("PUT", f"{ENDPOINTS}/iris/config", {"served_entities": [entity]})


def secrets_of(world: World) -> dict[str, list[bytes]]:
    """Each in the forms in which it could get out."""
    return {
        name: [
            token.encode(),
            base64.b64encode(token.encode()).rstrip(b"="),
            base64.b64encode(f"x:{token}".encode()).rstrip(b"="),
        ]
        for name, token in {**world.tokens, "a variable's value": world.value}.items()
    }


def held_in(content: bytes, world: World, *, but: tuple[str, ...] = ()) -> list[str]:
    """The names of the secrets in `content`."""
    return [
        name
        for name, forms in secrets_of(world).items()
        if name not in but and any(form in content for form in forms)
    ]


def test_the_log_holds_none(world: World) -> None:
    said = world.server.log.read_bytes()

    assert said
    assert not held_in(said, world)


def test_no_error_holds_any(world: World) -> None:
    errors = [answer for answer in world.answers if answer.status >= 400]

    assert len(errors) > 100
    for answer in errors:
        assert not held_in(json.dumps(dict(answer.headers)).encode() + answer.body, world), answer


def test_no_file_holds_a_token_and_only_the_database_a_value(world: World) -> None:
    home = world.server.home
    found: dict[str, set[str]] = {}
    for file in home.rglob("*"):
        if file.is_file():
            for name in held_in(file.read_bytes(), world):
                found.setdefault(name, set()).add(file.name.partition("-")[0])

    assert found == {"a variable's value": {"lakeport.db"}}


def test_no_command_line_holds_any(world: World) -> None:
    told = []
    for process in psutil.process_iter():
        try:
            told.append("\0".join(process.cmdline()))
        except psutil.Error:  # it ended, or is not ours to look at
            continue

    assert any(str(world.server.home) in line for line in told)
    assert not held_in("\n".join(told).encode(), world)


def test_a_worker_and_the_registry_know_no_token(world: World) -> None:
    [worker] = world.server.workers()
    assert worker.environ()["CANARY"] == world.value
    assert world.server.registry()
    for process in [worker, *world.server.registry()]:
        environment = json.dumps(process.environ()).encode()
        assert not held_in(environment, world, but=("a variable's value",))
    for process in world.server.registry():
        assert world.value not in process.environ().values()


def test_events_metrics_and_logs_hold_none(world: World) -> None:
    wire = Wire(world.server)
    for target in (
        "/metrics",
        f"{ENDPOINTS}/iris/metrics",
        f"{ENDPOINTS}/iris/openapi",
        f"{ENDPOINTS}/iris/served-models/a/logs",
        f"{ENDPOINTS}/iris/served-models/a/build-logs",
        "/api/2.0/lakeport/events?limit=1000",
        "/api/2.0/token/list",
        "/openapi.json",
        ENDPOINTS,
    ):
        answer = wire.send("GET", target)

        assert answer.status == 200, target
        assert not held_in(answer.body, world), target
    wire.close()


def test_who_may_not_see_an_endpoint_sees_no_value_of_it(world: World) -> None:
    ann = Wire(world.server, world.tokens["a caller's, by the command line"])
    for target in (ENDPOINTS, f"{ENDPOINTS}/iris", "/api/2.0/lakeport/events"):
        assert not held_in(ann.send("GET", target).body, world), target
    ann.close()


def test_a_generated_token_is_in_its_file_alone_and_told_once(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "home", registry="off", log_level="debug")
    server.token = ""  # an empty variable is none
    with closing(server):
        server.start()
        file = server.home / "admin-token"
        token = file.read_text().strip()
        assert file.stat().st_mode & 0o777 == 0o600
        wire = Wire(server, token)
        assert wire.send("GET", ENDPOINTS).status == 200
        wire.close()
        # The greeting is printed after the port answers.
        wait_for(lambda: token in server.said(), what="the token's only showing")
        assert server.said().count(token) == 1
        assert server.terminate() == 0
        server.start()
        assert token not in server.said()
        holding = [
            f for f in server.home.rglob("*") if f.is_file() and token.encode() in f.read_bytes()
        ]
        assert holding == [file]


def test_what_is_private_is_closed_to_others(world: World) -> None:
    home = world.server.home
    assert home.stat().st_mode & 0o777 == 0o700
    for name in os.listdir(home):
        assert not (home / name).stat().st_mode & 0o077 or (home / name).is_dir(), name
