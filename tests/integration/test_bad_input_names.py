"""Hostile names and paths, in every place that takes a string.

Whatever is sent: 2xx or a refusal in our form, nothing of the server's inside in it, no file but
the server's own opened, and what is accepted comes back as it was sent.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.hostile import (
    ALL_NAMES,
    ENDPOINTS,
    RAW_SEGMENTS,
    ROOT,
    Wire,
    assert_unharmed,
    in_path,
    record_opened_files,
)
from tests.integration.server import ServerProcess, closing
from tests.models.fixtures import SavedModel

#: What a request may lead the server to open, besides its home: code, and what the system tells.
OWN = (Path(sys.prefix), Path(sys.base_prefix), ROOT / "src", Path("/proc"), Path("/sys"))

Request = tuple[str, str | bytes, object]
Place = Callable[[str], Request]


def create(**fields: object) -> Request:
    return "POST", ENDPOINTS, {"name": "new", **fields}


def entity(**fields: object) -> Request:
    given = {"entity_name": "m", "entity_version": "1", **fields}
    return "PUT", f"{ENDPOINTS}/iris/config", {"served_entities": [given]}


def path(method: str, template: str, body: object = None) -> Place:
    before, after = template.encode().split(b"{}")
    return lambda name: (method, before + in_path(name) + after, body)


PLACES: dict[str, Place] = {
    # In a body
    "endpoint": lambda name: ("POST", ENDPOINTS, {"name": name}),
    "description": lambda name: create(name="", description=name),
    "budget policy": lambda name: create(name="", budget_policy_id=name),
    "unknown field": lambda name: create(**{name or "x": name}),
    "entity": lambda name: entity(name=name),
    "entity name": lambda name: entity(entity_name=name),
    "entity version": lambda name: entity(entity_version=name),
    "model name": lambda name: (
        "PUT", f"{ENDPOINTS}/iris/config",
        {"served_models": [{"model_name": name, "model_version": name}]},
    ),
    "workload size": lambda name: entity(workload_size=name),
    "workload type": lambda name: entity(workload_type=name),
    "variable": lambda name: entity(environment_vars={name: "x"}),
    "variable's value": lambda name: entity(environment_vars={"X": name}),
    "variable's kind": lambda name: entity(environment_vars=name),
    "route": lambda name: (
        "PUT", f"{ENDPOINTS}/iris/config",
        {
            "served_entities": [{"name": "a", "entity_name": "m", "entity_version": "1"}],
            "traffic_config": {
                "routes": [{"served_model_name": name, "traffic_percentage": 100}]
            },
        },
    ),
    "traffic": lambda name: (
        "PUT", f"{ENDPOINTS}/iris/config",
        {"traffic_config": {"routes": [{"served_model_name": "a", "traffic_percentage": name}]}},
    ),
    "config's name": lambda name: ("PUT", f"{ENDPOINTS}/iris/config", {"name": name}),
    "deleted tag": lambda name: ("PATCH", f"{ENDPOINTS}/iris/tags", {"delete_tags": [name]}),
    "notification": lambda name: (
        "PATCH", f"{ENDPOINTS}/iris/notifications",
        {"email_notifications": {"on_update_failure": [name]}},
    ),
    "token's comment": lambda name: (
        "POST", "/api/2.0/token/create", {"comment": name, "lifetime_seconds": 1}
    ),
    "token's lifetime": lambda name: ("POST", "/api/2.0/token/create", {"lifetime_seconds": name}),
    "token's id": lambda name: ("POST", "/api/2.0/token/delete", {"token_id": name}),
    "input's column": lambda name: (
        "POST", "/serving-endpoints/iris/invocations",
        {"dataframe_split": {"columns": [name], "data": [[name]]}},
    ),
    "input's form": lambda name: ("POST", "/serving-endpoints/iris/invocations", {name: [[1]]}),
    "client's request id": lambda name: (
        "POST", "/serving-endpoints/iris/invocations", {"inputs": [], "client_request_id": name}
    ),
    "usage context": lambda name: (
        "POST", "/serving-endpoints/iris/invocations", {"inputs": [], "usage_context": {name: name}}
    ),
    # In a path
    "any path": path("GET", "/{}"),
    "api path": path("POST", "/api/2.0/{}", {}),
    "own api path": path("GET", "/api/2.0/lakeport/{}"),
    "well-known path": path("GET", "/.well-known/{}"),
    "GET": path("GET", f"{ENDPOINTS}/{{}}"),
    "DELETE": path("DELETE", f"{ENDPOINTS}/{{}}"),
    "update config": path("PUT", f"{ENDPOINTS}/{{}}/config", {}),
    "update pt config": path("PUT", f"{ENDPOINTS}/pt/{{}}/config", {}),
    "stop": path("POST", f"{ENDPOINTS}/{{}}/config:stop"),
    "tags": path("PATCH", f"{ENDPOINTS}/{{}}/tags", {"add_tags": [{"key": "k"}]}),
    "rate limits": path("PUT", f"{ENDPOINTS}/{{}}/rate-limits", {}),
    "metrics": path("GET", f"{ENDPOINTS}/{{}}/metrics"),
    "schema": path("GET", f"{ENDPOINTS}/{{}}/openapi"),
    "logs": path("GET", f"{ENDPOINTS}/iris/served-models/{{}}/logs"),
    "logs of an endpoint": path("GET", f"{ENDPOINTS}/{{}}/served-models/iris/logs"),
    "build logs": path("GET", f"{ENDPOINTS}/iris/served-models/{{}}/build-logs"),
    "below an endpoint": path("GET", f"{ENDPOINTS}/iris/{{}}"),
    "permissions": path("GET", "/api/2.0/permissions/serving-endpoints/{}"),
    "permission levels": path("GET", "/api/2.0/permissions/serving-endpoints/{}/permissionLevels"),
    "setting permissions": path("PUT", "/api/2.0/permissions/serving-endpoints/{}", {}),
    "permissions of another kind": path("GET", "/api/2.0/permissions/{}/iris"),
    "query": path("POST", "/serving-endpoints/{}/invocations", {"inputs": [[1]]}),
    "query an entity": path(
        "POST", "/serving-endpoints/iris/served-models/{}/invocations", {"inputs": [[1]]}
    ),
    "registry": path("GET", "/api/2.0/mlflow/{}"),
    "artifact": path("GET", "/api/2.0/mlflow-artifacts/artifacts/{}"),
    # In a query
    "config version": path("GET", f"{ENDPOINTS}/iris/served-models/iris/logs?config_version={{}}"),
    "events of": path("GET", "/api/2.0/lakeport/events?endpoint={}"),
    "events after": path("GET", "/api/2.0/lakeport/events?after={}"),
    "events, how many": path("GET", "/api/2.0/lakeport/events?limit={}"),
    "a parameter's name": path("GET", f"{ENDPOINTS}?{{}}=1"),
}  # fmt: skip

#: Where a segment is sent as it stands.
RAW_PLACES: dict[str, tuple[str, bytes, bytes]] = {
    "GET": ("GET", b"/api/2.0/serving-endpoints/", b""),
    "DELETE": ("DELETE", b"/api/2.0/serving-endpoints/", b""),
    "logs": ("GET", b"/api/2.0/serving-endpoints/iris/served-models/", b"/logs"),
    "permissions": ("PUT", b"/api/2.0/permissions/serving-endpoints/", b""),
    "query": ("POST", b"/serving-endpoints/", b"/invocations"),
    "query an entity": ("POST", b"/serving-endpoints/iris/served-models/", b"/invocations"),
    "anything": ("GET", b"/", b""),
    "health": ("GET", b"/health/", b""),
    "well-known": ("GET", b"/.well-known/", b""),
    "artifact": ("PUT", b"/api/2.0/mlflow-artifacts/artifacts/", b""),
    "own": ("GET", b"/api/2.0/lakeport/", b""),
}

HEADERS = (
    "X-Request-Id", "User-Agent", "Accept", "Accept-Encoding", "X-Forwarded-For",
    "X-Forwarded-Host", "X-Databricks-Workspace-Id", "Origin", "Cookie", "Content-Type",
    "Content-Encoding",
)  # fmt: skip


@pytest.fixture(scope="module")
def watched(
    tmp_path_factory: pytest.TempPathFactory, saved_model: SavedModel
) -> Iterator[tuple[ServerProcess, Callable[[], set[Path]]]]:
    """A server, and what files it opened."""
    folder = tmp_path_factory.mktemp("names")
    variables, opened = record_opened_files(folder / "audit")
    server = ServerProcess(
        folder / "home",
        models={"iris": saved_model("iris")},
        wrapper=["env", *(f"{name}={value}" for name, value in variables.items())],
        registry="off",
    )
    with closing(server):
        server.start().updated("iris")
        assert server.home / "lakeport.db" in opened()
        yield server, opened


@pytest.fixture
def wire(watched: tuple[ServerProcess, Callable[[], set[Path]]]) -> Iterator[Wire]:
    """The wire to a server that, at the end, opened nothing strange and took no harm."""
    server, opened = watched
    opened()
    workers = server.workers()
    wire = Wire(server)
    yield wire
    wire.close()
    assert_unharmed(server, workers)
    own = (*OWN, server.home)
    strange = {file for file in opened() if not any(file.is_relative_to(place) for place in own)}
    assert not strange


def test_there_are_more_than_200_names() -> None:
    assert len(ALL_NAMES) > 200
    assert len(set(RAW_SEGMENTS)) > 50


@pytest.mark.parametrize("place", PLACES)
def test_a_hostile_name_is_taken_or_refused_in_form(wire: Wire, place: str) -> None:
    for name in ALL_NAMES:
        method, target, body = PLACES[place](name)

        wire.check(method, target, body)


@pytest.mark.parametrize("place", RAW_PLACES)
def test_a_raw_path_is_refused_in_form(wire: Wire, place: str) -> None:
    method, before, after = RAW_PLACES[place]
    for segment in RAW_SEGMENTS:
        answer = wire.check(method, before + segment + after, {} if method != "GET" else None)

        decent = segment in {b"", b".", b"x?y", b"x&y"} or answer.status >= 400
        assert decent or b"?" in segment or place == "anything", (segment, answer)


@pytest.mark.parametrize("header", HEADERS)
def test_a_hostile_header_is_taken_or_refused_in_form(wire: Wire, header: str) -> None:
    for name in ALL_NAMES:
        value = name.encode("utf-8", "surrogatepass").translate(None, b"\r\n\0")
        if header.startswith("Content"):
            body = {"inputs": [[1]]}
            wire.check("POST", "/serving-endpoints/iris/invocations", body, headers={header: value})
        else:
            wire.check("GET", ENDPOINTS, headers={header: value})


def test_a_header_cannot_be_smuggled_in_a_value(wire: Wire) -> None:
    for control in (b"\r\n", b"\n", b"\r", b"\0", b"\r\n "):
        answer = wire.send("GET", ENDPOINTS, headers={"X-A": b"a" + control + b"X-Injected: 1"})

        wire.held(answer, control)


def test_what_is_accepted_comes_back_as_it_was_sent(wire: Wire) -> None:
    accepted = []
    for name in ALL_NAMES:
        tag = {"key": name, "value": name}
        answer = wire.check("PATCH", f"{ENDPOINTS}/iris/tags", {"add_tags": [tag]})
        if answer.status == 200:
            accepted.append(name)
            assert answer.json() == {"tags": [tag]}
            assert wire.check("GET", f"{ENDPOINTS}/iris").json()["tags"] == [tag]
            wire.check("PATCH", f"{ENDPOINTS}/iris/tags", {"delete_tags": [name]})

    assert wire.check("GET", f"{ENDPOINTS}/iris").json()["tags"] == []
    assert len(accepted) > 150


def test_only_a_name_of_letters_digits_and_dashes_makes_an_endpoint(wire: Wire) -> None:
    for name in ALL_NAMES:
        answer = wire.check(
            "POST",
            ENDPOINTS,
            {"name": name, "description": name, "tags": [{"key": "k", "value": "v"}]},
        )

        if answer.status == 200:
            assert name.isascii()
            assert name.replace("-", "").replace("_", "").isalnum()
            assert len(name) <= 63
            assert answer.json()["description"] == name
        elif answer.status != 409:
            assert answer.status == 400, name
            assert answer.json()["error_code"] in {"INVALID_PARAMETER_VALUE", "MALFORMED_REQUEST"}


def test_a_principal_with_a_hostile_name_grants_nothing_to_others(wire: Wire) -> None:
    id = wire.server.get("iris")["id"]
    target = f"/api/2.0/permissions/serving-endpoints/{id}"
    for kind in ("user_name", "group_name", "service_principal_name", "permission_level"):
        for name in ALL_NAMES:
            entry = {"permission_level": "CAN_QUERY", kind: name}
            if kind == "permission_level":
                entry["user_name"] = "x"
            answer = wire.check("PUT", target, {"access_control_list": [entry]})
            if answer.status == 200:
                listed = answer.json()["access_control_list"]
                assert [e[kind] for e in listed if kind in e][:1] == [name], listed
                assert len(listed) == (1 if name == "admins" and kind == "group_name" else 2)

    wire.check("PUT", target, {"access_control_list": []})
