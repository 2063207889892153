"""Who gets in: no token, no answer, on every path but those of one list."""

import re
from collections.abc import Iterator

import httpx
import pytest
from fastapi.routing import APIRoute, iter_route_contexts

from lakeport.api.app import FrontDoor, is_open
from tests.unit.api.fakes import LATE_TOKEN, World

RAW_ROUTES = [
    ("POST", "/serving-endpoints/iris/invocations"),
    ("GET", "/serving-endpoints/iris/invocations"),
    ("POST", "/serving-endpoints/none/invocations"),
    ("POST", "/serving-endpoints/%00/invocations"),
    ("POST", "/serving-endpoints/iris/served-models/iris-1/invocations"),
    ("POST", "/invocations"),
    ("GET", "/api/2.0/mlflow/experiments/search"),
    ("POST", "/api/3.0/mlflow/traces"),
    ("GET", "/api/4.0/mlflow/x"),
    ("PUT", "/api/2.0/mlflow-artifacts/artifacts/x"),
    ("GET", "/ajax-api/2.0/mlflow/x"),
    ("GET", "/version"),
    ("GET", "/ping"),
]
UNKNOWN = [
    ("GET", "/"),
    ("GET", "/nothing"),
    ("DELETE", "/api/2.0/serving-endpoints"),
    ("OPTIONS", "/api/2.0/serving-endpoints"),
    ("GET", "/healthx"),
    ("GET", "/health/"),
    ("GET", "//health"),
    ("GET", "/x/%2e%2e/health"),
    ("GET", "/.well-known"),
    ("GET", "/docs"),
    ("TRACE", "/metrics"),
]


async def ask(
    world: World, method: str, path: str, headers: dict[str, str] | None = None
) -> httpx.Response:
    transport = httpx.ASGITransport(world.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        return await http.request(method, path, headers=headers)


def control_plane_routes() -> Iterator[tuple[str, str]]:
    app = World().app
    assert isinstance(app, FrontDoor)
    for context in iter_route_contexts(app._control_plane.routes):  # type: ignore[attr-defined]
        route = context.route
        assert isinstance(route, APIRoute), f"{route} is a route of a kind unknown to this test"
        for method in route.methods or ():
            yield method, re.sub(r"\{\w+\}", "iris", context.path or "")


@pytest.fixture(scope="module", params=[None, "iris"])
def world(request: pytest.FixtureRequest) -> World:
    return World(single=request.param)


@pytest.fixture(scope="module")
def open_world() -> World:
    return World(auth="off")


@pytest.mark.parametrize(
    "token", [None, "Bearer wrong", "Bearer ", "Basic YWRtaW46eA==", "Bearer admin-token2"]
)
async def test_without_a_token_every_route_is_401(world: World, token: str | None) -> None:
    routes = [*control_plane_routes(), *RAW_ROUTES, *UNKNOWN]
    closed = [(method, path) for method, path in routes if not is_open(path)]

    replies = {
        (method, path): await ask(world, method, path, {"authorization": token} if token else {})
        for method, path in closed
    }

    assert len(closed) > 50
    assert {route for route, reply in replies.items() if reply.status_code != 401} == set()
    assert all(reply.headers["x-request-id"] for reply in replies.values())
    assert replies["GET", "/metrics"].json()["error_code"] == "UNAUTHENTICATED"


def test_open_to_all_is_one_short_list() -> None:
    opened = {path for _, path in control_plane_routes() if is_open(path)}

    assert opened == {"/health", "/.well-known/databricks-config"}


async def test_a_token_that_another_process_made_is_good_at_once(world: World) -> None:
    reply = await ask(
        world, "GET", "/api/2.0/preview/scim/v2/Me", {"authorization": LATE_TOKEN.decode()}
    )

    assert reply.json()["userName"] == "ann"


async def test_the_servers_metrics_are_for_admins(world: World) -> None:
    admin = await ask(world, "GET", "/metrics", {"authorization": "Bearer admin-token"})
    ann = await ask(world, "GET", "/metrics", {"authorization": "Bearer ann-token"})

    assert (admin.status_code, ann.status_code) == (200, 403)


@pytest.mark.parametrize("host", ["localhost", "localhost:8080", "127.0.0.1:8080", "[::1]:80"])
async def test_without_authentication_a_loopback_name_is_let_in(
    open_world: World, host: str
) -> None:
    reply = await ask(open_world, "GET", "/api/2.0/preview/scim/v2/Me", {"host": host})

    assert reply.json()["userName"] == "admin"


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "localhost.evil.example"},
        {"host": "127.0.0.1.evil.example:8080"},
        {"host": "192.168.1.2"},
        {"host": "localhost", "origin": "https://evil.example"},
        {"host": "localhost", "origin": "null"},
    ],
)
@pytest.mark.parametrize("path", ["/health", "/api/2.0/serving-endpoints", "/nothing"])
async def test_without_authentication_no_web_page_gets_in(
    open_world: World, headers: dict[str, str], path: str
) -> None:
    reply = await ask(open_world, "GET", path, headers)

    assert (reply.status_code, reply.json()["error_code"]) == (403, "PERMISSION_DENIED")
