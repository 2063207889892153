"""The OpenAI wire's own routes: which endpoint is asked, with what."""

import gzip
from typing import Any

import orjson
import pytest

from lakeport.api.openai import Route, parse_route
from lakeport.errors import ENDPOINT_GONE, EndpointNotFound
from lakeport.wire.chat import Operation
from tests.unit.api.fakes import World, client

BASE = "/serving-endpoints"
CHAT, COMPLETIONS, EMBEDDINGS = Operation.CHAT, Operation.COMPLETIONS, Operation.EMBEDDINGS


@pytest.fixture(scope="module")
def built() -> World:
    return World(max_body=1000)


@pytest.fixture
def world(built: World) -> World:
    return built.fresh()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/models", Route(None, None)),
        ("/models/iris", Route(None, "iris")),
        ("/models/a%2fb", Route(None, "a/b")),
        ("/chat/completions", Route(CHAT, None)),
        ("/completions", Route(COMPLETIONS, None)),
        ("/embeddings", Route(EMBEDDINGS, None)),
        ("/iris/chat/completions", Route(CHAT, "iris")),
        ("/a%2fb/chat/completions", Route(CHAT, "a/b")),
        ("/iris/completions", Route(COMPLETIONS, "iris")),
        ("/iris/embeddings", Route(EMBEDDINGS, "iris")),
        ("/chat/chat/completions", Route(CHAT, "chat")),
        ("/chat/embeddings", Route(EMBEDDINGS, "chat")),
        ("/models/completions", Route(COMPLETIONS, "models")),
        ("/chat/invocations", None),
        ("/models/invocations", None),
        ("/chat%2fcompletions", None),
        ("/chat/completions/", None),
        ("/a/b/chat/completions", None),
        ("/iris/models", None),
        ("", None),
    ],
)
def test_a_path_says_what_is_asked_and_of_whom(path: str, expected: Route | None) -> None:
    assert parse_route(f"{BASE}{path}".encode()) == expected


@pytest.mark.parametrize("name", [b"", b"%00", b"%ff", b"a" * 256])
def test_a_name_that_no_endpoint_can_have_is_not_found(name: bytes) -> None:
    with pytest.raises(EndpointNotFound):
        parse_route(BASE.encode() + b"/" + name + b"/chat/completions")


@pytest.mark.parametrize(
    ("path", "operation"),
    [("chat/completions", CHAT), ("completions", COMPLETIONS), ("embeddings", EMBEDDINGS)],
)
async def test_the_body_names_the_endpoint(world: World, path: str, operation: Operation) -> None:
    document = {"model": "iris", "messages": []}

    async with client(world) as http:
        reply = await http.post(f"{BASE}/{path}", json=document)

    (asked,) = world.invoke.invocations
    assert (reply.status_code, reply.headers["served-model-name"]) == (200, "iris-1")
    assert (asked.endpoint, asked.entity, asked.operation) == ("iris", None, operation)
    assert asked.document == document
    assert orjson.loads(asked.body) == document
    assert asked.request_id == reply.headers["x-request-id"]


async def test_the_path_may_name_the_endpoint_instead(world: World) -> None:
    async with client(world) as http:
        reply = await http.post(f"{BASE}/echo/chat/completions", json={"model": "other"})

    (asked,) = world.invoke.invocations
    assert reply.json() == {"model": "other"}
    assert (asked.endpoint, asked.operation, asked.document) == ("echo", CHAT, None)


async def test_a_packed_body_names_the_endpoint_too(world: World) -> None:
    body = gzip.compress(b'{"model":"echo"}')
    headers = {"content-encoding": "gzip", "content-type": "application/json"}

    async with client(world) as http:
        reply = await http.post(f"{BASE}/chat/completions", content=body, headers=headers)

    assert reply.content == body
    assert world.invoke.invocations[0].content_encoding == "gzip"


async def test_a_packed_body_is_bounded_once_inflated(world: World) -> None:
    headers = {"content-encoding": "gzip", "content-type": "application/json"}

    async with client(world) as http:
        reply = await http.post(
            f"{BASE}/chat/completions", content=gzip.compress(b" " * 1001), headers=headers
        )

    assert (reply.status_code, reply.json()["error_code"]) == (413, "REQUEST_TOO_LARGE")


@pytest.mark.parametrize(
    ("body", "status", "code", "words"),
    [
        ({}, 400, "INVALID_PARAMETER_VALUE", '"model" is required'),
        ({"model": None}, 400, "INVALID_PARAMETER_VALUE", '"model" is required'),
        ({"model": ""}, 400, "INVALID_PARAMETER_VALUE", '"model" is required'),
        ({"model": 5}, 400, "INVALID_PARAMETER_VALUE", '"model" is required'),
        ({"model": "nowhere"}, 404, "ENDPOINT_NOT_FOUND", ENDPOINT_GONE),
        ({"model": "a" * 256}, 404, "ENDPOINT_NOT_FOUND", ENDPOINT_GONE),
        ({"model": "\u0000"}, 404, "ENDPOINT_NOT_FOUND", ENDPOINT_GONE),
        ([], 400, "MALFORMED_REQUEST", "JSON object"),
    ],
)
async def test_a_body_that_names_no_endpoint_is_refused(
    world: World, body: Any, status: int, code: str, words: str
) -> None:
    async with client(world) as http:
        reply = await http.post(f"{BASE}/chat/completions", json=body)

    said = reply.json()
    assert (reply.status_code, said["error_code"]) == (status, code)
    assert words in said["message"]
    assert said["details"][0]["request_id"] == reply.headers["x-request-id"]


async def test_a_body_over_the_bound_is_refused_unread(world: World) -> None:
    async with client(world) as http:
        reply = await http.post(f"{BASE}/chat/completions", content=b"x" * 1001)

    assert (reply.status_code, reply.json()["error_code"]) == (413, "REQUEST_TOO_LARGE")


async def test_a_stream_is_sent_as_events(world: World) -> None:
    async with client(world) as http:
        reply = await http.post(f"{BASE}/chat/completions", json={"model": "stream"})

    assert reply.headers["content-type"] == "text/event-stream"
    assert reply.text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "chat/completions", "POST"),
        ("PUT", "iris/embeddings", "POST"),
        ("POST", "models", "GET"),
        ("DELETE", "models/iris", "GET"),
    ],
)
async def test_another_method_is_told_which_one_is_right(
    world: World, method: str, path: str, allowed: str
) -> None:
    async with client(world) as http:
        reply = await http.request(method, f"{BASE}/{path}", json={"model": "iris"})

    assert (reply.status_code, reply.json()["error_code"]) == (405, "METHOD_NOT_ALLOWED")
    assert reply.headers["allow"] == allowed
    assert not world.invoke.invocations


@pytest.mark.parametrize("path", ["chat/completions", "models", "iris/chat/completions"])
async def test_nothing_is_answered_without_a_token(world: World, path: str) -> None:
    async with client(world) as http:
        reply = await http.post(f"{BASE}/{path}", json={}, headers={"authorization": ""})

    assert (reply.status_code, reply.json()["error_code"]) == (401, "UNAUTHENTICATED")


async def test_the_models_are_the_endpoints_that_one_may_query(world: World) -> None:
    world.endpoints.found["secret"] = world.endpoints.found["iris"].model_copy(
        update={"name": "secret", "creation_timestamp": 5000}
    )

    async with client(world) as http:
        reply = await http.get(f"{BASE}/models")

    assert reply.headers["content-type"] == "application/json"
    assert reply.json() == {
        "object": "list",
        "data": [{"id": "iris", "object": "model", "created": 0, "owned_by": "admin"}],
    }


async def test_one_model_is_an_endpoint_that_one_may_query(world: World) -> None:
    world.endpoints.found["secret"] = world.endpoints.found["iris"].model_copy(
        update={"name": "secret"}
    )

    async with client(world) as http:
        found = await http.get(f"{BASE}/models/iris")
        gone = [await http.get(f"{BASE}/models/{name}") for name in ("secret", "none")]

    model = {"id": "iris", "object": "model", "created": 0, "owned_by": "admin"}
    assert (found.status_code, found.json()) == (200, model)
    for reply in gone:
        assert (reply.status_code, reply.json()["error_code"]) == (404, "ENDPOINT_NOT_FOUND")
        assert reply.json()["message"] == ENDPOINT_GONE


@pytest.mark.parametrize("name", ["chat", "models", "completions", "embeddings"])
async def test_an_endpoint_may_be_called_as_a_route_is(world: World, name: str) -> None:
    async with client(world) as http:
        reply = await http.post(f"{BASE}/{name}/invocations", content=b"{}")

    (asked,) = world.invoke.invocations
    assert (asked.endpoint, asked.operation) == (name, None)
    assert reply.json()["error_code"] == "ENDPOINT_NOT_FOUND"  # as the fake knows none
