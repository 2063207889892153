"""Who may do what: every route without a valid token, every operation for every kind of caller."""

import base64
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest
from fastapi.routing import APIRoute, iter_route_contexts

from lakeport.api.app import is_open
from lakeport.api.openapi import build_document
from tests.integration.hostile import (
    ENDPOINTS,
    QUERY,
    Answer,
    Wire,
    assert_unharmed,
    check_error_form,
    control_plane,
    grant,
    make_token,
)
from tests.integration.server import ServerProcess, closing, wait_for
from tests.models.fixtures import SavedModel

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW")

#: What is no FastAPI route: the data plane, the registry, and what does not exist.
OTHER_PATHS = (
    "/serving-endpoints/iris/invocations",
    "/serving-endpoints/none/invocations",
    "/serving-endpoints/iris/served-models/iris-1/invocations",
    "/serving-endpoints/iris/served-models/none/invocations",
    "/serving-endpoints/%ff/invocations",
    "/serving-endpoints/chat/completions",
    "/serving-endpoints/embeddings",
    "/serving-endpoints/models",
    "/serving-endpoints/models/iris",
    "/serving-endpoints/iris/chat/completions",
    "/serving-endpoints/none/completions",
    "/invocations",
    "/api/2.0/mlflow/experiments/search",
    "/api/3.0/mlflow/traces/search",
    "/api/4.0/mlflow/x",
    "/api/2.0/mlflow-artifacts/artifacts/x",
    "/ajax-api/2.0/mlflow/experiments/search",
    "/ajax-api/3.0/mlflow/assistant/x",
    "/version",
    "/",
    "/nothing",
    "/docs",
    "/redoc",
    "/openapi.json",
    "/static/x",
    "/health/",
    "//health",
    "/health/../metrics",
    "/%2e/health",
    "/.well-known",
    "/x/.well-known/databricks-config",
    "/HEALTH",
    "/api/2.0/serving-endpoints//",
    "/api/2.0/nothing",
    "/api/1.0/serving-endpoints",
    "/api/2.0/lakeport/nothing",
)


def fastapi_paths() -> list[str]:
    """The path of each route of the control plane."""
    paths = []
    for context in iter_route_contexts(control_plane().routes):
        assert isinstance(context.route, APIRoute), "a route of a kind unknown to this test"
        paths.append(re.sub(r"\{\w+\}", "iris", context.path or ""))
    assert len(paths) > 25
    return list(dict.fromkeys(paths))


CLOSED = [path for path in (*fastapi_paths(), *OTHER_PATHS) if not is_open(path)]


@dataclass(frozen=True, slots=True)
class World:
    server: ServerProcess
    #: A wire for each caller: nobody, viewer, querier, manager, member, admin.
    wires: Mapping[str, Wire]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, saved_model: SavedModel) -> Iterator[World]:
    home = tmp_path_factory.mktemp("access") / "home"
    server = ServerProcess(home, models={"iris": saved_model("iris")}, registry="off")
    with closing(server):
        server.start().updated("iris")
        callers = {
            name: Wire(server, make_token(server, name))
            for name in ("nobody", "viewer", "querier", "manager")
        }
        callers["member"] = Wire(server, make_token(server, "member", "admins"))
        callers["admin"] = Wire(server)
        grant(server, "iris", viewer="CAN_VIEW", querier="CAN_QUERY", manager="CAN_MANAGE")
        workers = server.workers()
        yield World(server, callers)
        for wire in callers.values():
            wire.close()
        assert_unharmed(server, workers)


def refused(wire: Wire, method: str, path: str, authorization: bytes | None) -> None:
    answer = wire.send(method, path, authorization=authorization, anonymous=True)

    assert answer.status == 401, (method, path, authorization, answer)
    assert answer.headers["www-authenticate"] == "Bearer"
    if method != "HEAD":
        check_error_form(answer, path)
        assert answer.json()["error_code"] == "UNAUTHENTICATED"


# --- without a valid token ------------------------------------------------------------------------


def expired_token(wire: Wire) -> bytes:
    made = wire.check("POST", "/api/2.0/token/create", {"lifetime_seconds": 1}).json()
    token: str = made["token_value"]
    header = f"Bearer {token}".encode()
    wait_for(lambda: wire.send("GET", ENDPOINTS, authorization=header).status == 401)
    return header


def deleted_token(wire: Wire) -> bytes:
    made = wire.check("POST", "/api/2.0/token/create", {}).json()
    header = f"Bearer {made['token_value']}".encode()
    assert wire.send("GET", ENDPOINTS, authorization=header).status == 200
    wire.check("POST", "/api/2.0/token/delete", {"token_id": made["token_info"]["token_id"]})
    return header


def test_without_a_valid_token_every_route_is_401(world: World) -> None:
    wire = world.wires["admin"]
    bad: list[bytes | None] = [
        None,
        b"",
        b"Bearer",
        b"Bearer  ",
        b"Token x",
        b"Bearer unknown",
        b"Basic !!!",
        b"Basic YWRtaW46eA==",
        expired_token(wire),
        deleted_token(wire),
    ]
    for path in CLOSED:
        for authorization in bad:
            refused(wire, "GET", path, authorization)
            refused(wire, "POST", path, authorization)


@pytest.mark.parametrize("method", METHODS)
def test_a_wrong_method_is_401_before_it_is_405(world: World, method: str) -> None:
    wire = world.wires["admin"]
    for path in CLOSED:
        if method == "BREW":
            answer = wire.send(method, path, anonymous=True)
            assert answer.status in {400, 401}
        else:
            refused(wire, method, path, None)
            refused(wire, method, path, b"Bearer unknown")


@pytest.mark.parametrize("path", ["/health", "/.well-known/databricks-config"])
def test_what_is_open_is_so_whatever_token_comes(world: World, path: str) -> None:
    wire = world.wires["admin"]

    assert wire.send("GET", path, anonymous=True).status == 200
    assert wire.send("GET", path, authorization=b"Bearer unknown").status == 200


def test_an_open_path_opens_no_other(world: World) -> None:
    wire = world.wires["admin"]
    for path in ("/health?x=/metrics", "/.well-known/nothing", "/.well-known/../metrics",
                 "/.well-known/%2e%2e/metrics", "/.well-known/..%2fmetrics",
                 "/.well-known//metrics", "/.well-known/../api/2.0/serving-endpoints"):  # fmt: skip
        for method in METHODS[:6]:
            answer = wire.send(method, path, anonymous=True)
            assert answer.status in {401, 404, 405} or path.startswith("/health?"), (path, answer)
            assert b"endpoints" not in answer.body.replace(path.encode(), b"")


def test_neither_host_nor_url_opens_a_path(world: World) -> None:
    wire = world.wires["admin"]
    for target in (b"http://localhost/metrics", b"http://x/health/../metrics", b"/metrics#/health",
                   b"/metrics?/health", b"/metrics;/health", b"*"):  # fmt: skip
        answer = wire.send("GET", target, anonymous=True)
        assert answer.status in {400, 401}, (target, answer)
    for header in (
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-Forwarded-Prefix",
        "X-HTTP-Method-Override",
    ):
        answer = wire.send("GET", "/metrics", anonymous=True, headers={header: "/health"})
        assert answer.status == 401


def test_random_authorization_is_always_401(world: World) -> None:
    wire, dice = world.wires["admin"], random.Random(1)
    real = world.server.token.encode()
    legal = bytes([9, *range(32, 127), *range(128, 256)])
    for _ in range(2000):
        noise = bytes(dice.choices(legal, k=dice.choice((0, 1, 8, 64, 300, 5000))))
        cut = real[: dice.randrange(len(real))]
        authorization = dice.choice(
            (
                noise,
                b"Bearer " + noise,
                b"Basic " + noise,
                b"Basic " + base64.b64encode(noise),
                b"Bearer " + cut,
                b"Bearer " + cut + bytes(dice.choices(legal[1:], k=len(real) - len(cut))),
                b"Bearer " + real + b"'" + noise[:100],
                noise[:100] + b" Bearer " + real,
                b"Bearer" + real,
                b"Bearer " + real + b", Bearer " + real,
            )
        )
        if authorization.strip().lower() == b"bearer " + real.lower():
            continue
        answer = wire.send("GET", ENDPOINTS, authorization=authorization or b" ")
        assert answer.status == 401, (authorization, answer)


def test_tokens_with_an_equal_beginning_are_different(world: World) -> None:
    wire = world.wires["admin"]
    made: str = wire.check("POST", "/api/2.0/token/create", {}).json()["token_value"]
    last = "0" if made[-1] != "0" else "1"
    for token in (
        made[:-1],
        made[:-1] + last,
        made + "0",
        made[:20],
        made.upper(),
        f"{made} {made}",
    ):
        refused(wire, "GET", ENDPOINTS, f"Bearer {token}".encode())
    assert wire.send("GET", ENDPOINTS, authorization=f"Bearer {made}".encode()).status == 200


def test_a_token_may_come_as_the_password_of_basic(world: World) -> None:
    wire, token = world.wires["admin"], world.server.token
    for user in ("admin", "anybody", ""):
        header = b"Basic " + base64.b64encode(f"{user}:{token}".encode())
        assert wire.send("GET", ENDPOINTS, authorization=header).status == 200
        assert (
            wire.send("GET", ENDPOINTS, authorization=header.replace(b"Basic", b"bASIC")).status
            == 200
        )
    for wrong in (f"{token}:", f"{token}", f"{token}:x", f"admin:{token}x", f"admin: {token}", ":"):
        refused(wire, "GET", ENDPOINTS, b"Basic " + base64.b64encode(wrong.encode()))


def test_only_one_authorization_counts(world: World) -> None:
    wire, token = world.wires["admin"], world.server.token
    for values in (("Bearer x", f"Bearer {token}"), (f"Bearer {token}", "Bearer x")):
        lines = "".join(f"Authorization: {value}\r\n" for value in values)
        answer = wire.raw(f"GET {ENDPOINTS} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n".encode())
        assert answer.status == 400
    for target in (f"{ENDPOINTS}?access_token={token}", f"{ENDPOINTS}?token={token}"):
        refused(wire, "GET", target, None)
    answer = wire.send("GET", ENDPOINTS, anonymous=True, headers={"Cookie": f"token={token}"})
    assert answer.status == 401


# --- callers and operations -----------------------------------------------------------------------

#: Operation: method, path, body; then its status for nobody, viewer, querier, manager. For members
#: of `admins`, and the admin, it is the manager's. `{id}` is the endpoint's.
CONFIG = {"served_entities": [{"entity_name": "m", "entity_version": "1"}]}
MATRIX: Mapping[str, tuple[str, str, object, tuple[int, int, int, int]]] = {
    "get": ("GET", f"{ENDPOINTS}/iris", None, (403, 200, 200, 200)),
    "metrics": ("GET", f"{ENDPOINTS}/iris/metrics", None, (403, 200, 200, 200)),
    "schema": ("GET", f"{ENDPOINTS}/iris/openapi", None, (403, 200, 200, 200)),
    "events": ("GET", "/api/2.0/lakeport/events?endpoint=iris", None, (403, 200, 200, 200)),
    "permission levels": (
        "GET", "/api/2.0/permissions/serving-endpoints/{id}/permissionLevels", None,
        (403, 200, 200, 200),
    ),
    "query": ("POST", "/serving-endpoints/iris/invocations", QUERY, (403, 403, 200, 200)),
    "query an entity": (
        "POST", "/serving-endpoints/iris/served-models/{entity}/invocations", QUERY,
        (403, 403, 200, 200),
    ),
    "query badly": ("POST", "/serving-endpoints/iris/invocations", b"{", (403, 403, 400, 400)),
    "query no entity": (
        "POST", "/serving-endpoints/iris/served-models/none/invocations", QUERY, (403, 403, 404,
        404)
    ),
    "the one model": ("POST", "/invocations", QUERY, (403, 403, 200, 200)),
    "ping": ("GET", "/ping", None, (403, 200, 200, 200)),
    "logs": ("GET", f"{ENDPOINTS}/iris/served-models/{{entity}}/logs", None, (403, 403, 403, 200)),
    "build logs": (
        "GET", f"{ENDPOINTS}/iris/served-models/{{entity}}/build-logs", None, (403, 403, 403, 200)
    ),
    "update config": ("PUT", f"{ENDPOINTS}/iris/config", CONFIG, (403, 403, 403, 400)),
    "update a provisioned config": (
        "PUT", f"{ENDPOINTS}/pt/iris/config", {"config": CONFIG}, (403, 403, 403, 400)
    ),
    "update config badly": ("PUT", f"{ENDPOINTS}/iris/config", {}, (403, 403, 403, 400)),
    "tags": ("PATCH", f"{ENDPOINTS}/iris/tags", {"add_tags": []}, (403, 403, 403, 200)),
    "notifications": ("PATCH", f"{ENDPOINTS}/iris/notifications", {}, (403, 403, 403, 200)),
    "start": ("POST", f"{ENDPOINTS}/iris/config:start", None, (403, 403, 403, 400)),
    "get permissions": (
        "GET", "/api/2.0/permissions/serving-endpoints/{id}", None, (403, 403, 403, 200)
    ),
    "update permissions": (
        "PATCH", "/api/2.0/permissions/serving-endpoints/{id}", {}, (403, 403, 403, 200)
    ),
    "set permissions badly": (
        "PUT", "/api/2.0/permissions/serving-endpoints/{id}",
        {"access_control_list": [{"permission_level": "CAN_MANAGE"}]}, (403, 403, 403, 400),
    ),
    "get nothing": ("GET", f"{ENDPOINTS}/none", None, (404, 404, 404, 404)),
    "query nothing": ("POST", "/serving-endpoints/none/invocations", QUERY, (404, 404, 404, 404)),
    "permissions by name": (
        "GET", "/api/2.0/permissions/serving-endpoints/iris", None, (404, 404, 404, 404)
    ),
    "who am I": ("GET", "/api/2.0/preview/scim/v2/Me", None, (200, 200, 200, 200)),
    "openapi": ("GET", "/openapi.json", None, (200, 200, 200, 200)),
    "tokens": ("GET", "/api/2.0/token/list", None, (200, 200, 200, 200)),
    "list": ("GET", ENDPOINTS, None, (200, 200, 200, 200)),
    "all events": ("GET", "/api/2.0/lakeport/events", None, (200, 200, 200, 200)),
}  # fmt: skip
CALLERS = ("nobody", "viewer", "querier", "manager")


@pytest.mark.parametrize("operation", MATRIX)
def test_what_each_caller_may_do_with_an_endpoint(world: World, operation: str) -> None:
    method, template, body, statuses = MATRIX[operation]
    shown = world.server.get("iris")
    target = template.replace("{id}", shown["id"]).replace(
        "{entity}", shown["config"]["served_entities"][0]["name"]
    )
    expected = {
        **dict(zip(CALLERS, statuses, strict=True)),
        "member": statuses[-1],
        "admin": statuses[-1],
    }

    answers = {name: world.wires[name].send(method, target, body) for name in expected}

    assert {name: answer.status for name, answer in answers.items()} == expected
    for name, answer in answers.items():
        world.wires[name].held(answer, operation)
        if answer.status == 403:
            assert answer.json()["error_code"] == "PERMISSION_DENIED"


def test_every_operation_on_an_endpoint_is_in_the_matrix() -> None:
    tested = {
        (method, re.sub(r"\{\w+\}", "iris", path.partition("?")[0]))
        for method, path, _, _ in (*MATRIX.values(), *DESTRUCTIVE.values())
    }
    operations = {
        (method.upper(), re.sub(r"\{\w+\}", "iris", path))
        for path, methods in build_document(control_plane().routes)["paths"].items()
        for method in methods
        if "{name}" in path or "{id}" in path
    }
    assert not operations - tested


#: Those that change or end the endpoint, tried on one of its own, from the least rights on.
DESTRUCTIVE: Mapping[str, tuple[str, str, object, tuple[int, int, int, int]]] = {
    "stop": ("POST", f"{ENDPOINTS}/{{name}}/config:stop", None, (403, 403, 403, 400)),
    "set permissions": (
        "PUT", "/api/2.0/permissions/serving-endpoints/{id}",
        {"access_control_list": [{"user_name": "manager", "permission_level": "CAN_MANAGE"}]},
        (403, 403, 403, 200),
    ),
    "delete": ("DELETE", f"{ENDPOINTS}/{{name}}", None, (403, 403, 403, 200)),
}  # fmt: skip


@pytest.mark.parametrize("operation", DESTRUCTIVE)
def test_only_who_manages_an_endpoint_may_end_it(world: World, operation: str) -> None:
    method, template, body, statuses = DESTRUCTIVE[operation]
    name = f"own-{operation.replace(' ', '-')}"
    id = world.server.call("POST", "serving-endpoints", {"name": name})["id"]
    grant(world.server, name, viewer="CAN_VIEW", querier="CAN_QUERY", manager="CAN_MANAGE")
    target = template.format(id=id, name=name)

    answers = [world.wires[caller].check(method, target, body) for caller in CALLERS]

    assert tuple(answer.status for answer in answers) == statuses


def names_in(answer: Answer, key: str, field: str) -> set[str]:
    assert answer.status == 200
    return {item[field] for item in answer.json()[key]}


def test_one_sees_in_lists_only_what_one_may_see(world: World) -> None:
    world.server.call("POST", "serving-endpoints", {"name": "hidden"})
    expected = {
        "nobody": set(), "viewer": {"iris"}, "querier": {"iris"}, "manager": {"iris"},
    }  # fmt: skip
    for caller, names in expected.items():
        wire = world.wires[caller]
        assert "hidden" not in names_in(wire.send("GET", ENDPOINTS), "endpoints", "name")
        assert names <= names_in(wire.send("GET", ENDPOINTS + "/"), "endpoints", "name")
        events = names_in(
            wire.send("GET", "/api/2.0/lakeport/events?limit=1000"), "events", "endpoint"
        )
        assert "hidden" not in events
        assert ("iris" in events) == ("iris" in names)
    assert not names_in(world.wires["nobody"].send("GET", ENDPOINTS), "endpoints", "name")
    assert {"hidden", "iris"} <= names_in(
        world.wires["member"].send("GET", ENDPOINTS), "endpoints", "name"
    )


def test_the_servers_metrics_are_for_admins(world: World) -> None:
    for caller, wire in world.wires.items():
        assert wire.send("GET", "/metrics").status == (
            200 if caller in {"member", "admin"} else 403
        )


def test_who_creates_an_endpoint_manages_it_and_nobody_else(world: World) -> None:
    made = world.wires["nobody"].check("POST", ENDPOINTS, {"name": "theirs"})

    assert made.status == 200
    assert made.json()["permission_level"] == "CAN_MANAGE"
    assert made.json()["creator"] == "nobody"
    for caller in ("viewer", "querier", "manager"):
        assert world.wires[caller].check("GET", f"{ENDPOINTS}/theirs").status == 403
        again = world.wires[caller].check("POST", ENDPOINTS, {"name": "theirs"})
        assert again.status == 409
    assert world.wires["nobody"].check("DELETE", f"{ENDPOINTS}/theirs").status == 200


@pytest.mark.parametrize(
    "field",
    ["creator", "id", "permission_level", "access_control_list", "from_flag", "path", "state"],
)
def test_nobody_can_set_what_is_not_theirs_to_set(world: World, field: str) -> None:
    nobody = world.wires["nobody"]

    assert nobody.check("POST", ENDPOINTS, {"name": "mine", field: "admin"}).status == 400
    given = {"entity_name": "m", "entity_version": "1", field: "/etc"}
    answer = world.wires["manager"].check(
        "PUT", f"{ENDPOINTS}/iris/config", {"served_entities": [given]}
    )
    assert answer.status == 400
    assert f"{field}: unknown field" in answer.json()["message"]


def test_a_manager_cannot_make_themselves_more(world: World) -> None:
    manager, id = world.wires["manager"], world.server.get("iris")["id"]
    for entry in (
        {"user_name": "manager", "permission_level": "IS_OWNER"},
        {"group_name": "admins", "permission_level": "CAN_VIEW"},
    ):
        answer = manager.check(
            "PATCH",
            f"/api/2.0/permissions/serving-endpoints/{id}",
            {"access_control_list": [entry]},
        )
        assert answer.status == 400
    groups = manager.check("GET", "/api/2.0/preview/scim/v2/Me").json()["groups"]
    assert [group["display"] for group in groups] == ["users"]


# --- tokens ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "more",
    [{"caller": "admin"}, {"user_name": "admin"}, {"created_by_username": "admin"},
    {"owner": "admin"},
     {"groups": ["admins"]}, {"application_id": "x"}],
)  # fmt: skip
def test_a_token_can_only_be_made_for_oneself(world: World, more: dict[str, object]) -> None:
    answer = world.wires["querier"].check("POST", "/api/2.0/token/create", more)

    assert answer.status == 400
    assert "unknown field" in answer.json()["message"]


def test_a_made_token_has_its_makers_rights(world: World) -> None:
    made = world.wires["querier"].check("POST", "/api/2.0/token/create", {}).json()
    own = Wire(world.server, made["token_value"])

    assert own.check("GET", "/api/2.0/preview/scim/v2/Me").json()["userName"] == "querier"
    assert own.check("POST", "/serving-endpoints/iris/invocations", QUERY).status == 200
    assert own.check("PUT", f"{ENDPOINTS}/iris/config", CONFIG).status == 403
    assert own.check("GET", "/metrics").status == 403
    own.close()


def test_nobody_sees_or_deletes_the_tokens_of_others(world: World) -> None:
    made = world.wires["viewer"].check("POST", "/api/2.0/token/create", {"comment": "mine"}).json()
    id = made["token_info"]["token_id"]

    for caller in ("nobody", "querier", "manager"):
        wire = world.wires[caller]
        assert id not in names_in(
            wire.send("GET", "/api/2.0/token/list"), "token_infos", "token_id"
        )
        answer = wire.check("POST", "/api/2.0/token/delete", {"token_id": id})
        assert answer.status == 404
        same = wire.check("POST", "/api/2.0/token/delete", {"token_id": "0" * len(id)})
        assert same.json()["message"].replace("0" * len(id), "") == answer.json()[
            "message"
        ].replace(id, "")
    mine = world.wires["viewer"].send("GET", "/api/2.0/token/list")
    assert id in names_in(mine, "token_infos", "token_id")
    assert made["token_value"].encode() not in mine.body
