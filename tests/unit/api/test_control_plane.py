from typing import Any

import httpx
import pytest

from lakeport.api.not_yet import REFUSED
from tests.unit.api.fakes import World

TOKEN = {"authorization": "Bearer admin-token"}
ENDPOINTS = "/api/2.0/serving-endpoints"


@pytest.fixture(scope="module")
def built() -> World:
    return World()


@pytest.fixture
def world(built: World) -> World:
    return built.fresh()


async def ask(
    world: World, method: str, path: str, content: bytes | None = None, **headers: str
) -> httpx.Response:
    transport = httpx.ASGITransport(world.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        return await http.request(method, path, content=content, headers=TOKEN | headers)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", ENDPOINTS, None),
        ("GET", f"{ENDPOINTS}/", None),
        ("POST", ENDPOINTS, b'{"name": "new"}'),
        ("POST", f"{ENDPOINTS}/", b'{"name": "new"}'),
        ("GET", f"{ENDPOINTS}/iris", None),
        ("PUT", f"{ENDPOINTS}/iris/config", b"{}"),
        ("PATCH", f"{ENDPOINTS}/iris/tags", b'{"add_tags": [{"key": "a"}]}'),
        ("PATCH", f"{ENDPOINTS}/iris/notifications", b"{}"),
        ("POST", f"{ENDPOINTS}/iris/config:stop", None),
        ("POST", f"{ENDPOINTS}/iris/config:start", b"{}"),
        ("DELETE", f"{ENDPOINTS}/iris", None),
        ("GET", f"{ENDPOINTS}/iris/served-models/i/logs", None),
        ("GET", f"{ENDPOINTS}/iris/served-models/i/logs?config_version=2", None),
        ("GET", f"{ENDPOINTS}/iris/served-models/i/build-logs", None),
        ("GET", f"{ENDPOINTS}/iris/metrics", None),
        ("GET", f"{ENDPOINTS}/iris/openapi", None),
        ("GET", f"/api/2.0/permissions/serving-endpoints/{'ab' * 16}", None),
        ("PUT", f"/api/2.0/permissions/serving-endpoints/{'ab' * 16}", b"{}"),
        ("PATCH", f"/api/2.0/permissions/serving-endpoints/{'ab' * 16}", b"{}"),
        ("GET", f"/api/2.0/permissions/serving-endpoints/{'ab' * 16}/permissionLevels", None),
        ("POST", "/api/2.0/token/create", b"{}"),
        ("GET", "/api/2.0/token/list", None),
        ("GET", "/api/2.0/preview/scim/v2/Me", None),
        ("GET", "/.well-known/databricks-config", None),
        ("GET", "/api/2.0/lakeport/events?endpoint=iris&after=5&limit=7", None),
        ("GET", "/api/2.0/lakeport/events?kind=created&kind=deleted&since=1&newest=true", None),
        ("GET", "/api/2.0/lakeport/live", None),
        ("GET", "/api/2.0/lakeport/series?endpoint=iris", None),
        ("GET", "/api/2.0/lakeport/series?endpoint=iris&served_entity=i&range=24h", None),
        ("GET", "/api/2.0/lakeport/logs/iris/iris-1", None),
        ("GET", "/api/2.0/lakeport/logs/iris/iris-1?after=1&limit=5&build=true", None),
        ("GET", "/health", None),
        ("HEAD", "/health", None),
        ("GET", "/metrics", None),
        ("GET", "/openapi.json", None),
    ],
)
async def test_every_operation_answers(
    world: World, method: str, path: str, body: bytes | None
) -> None:
    reply = await ask(world, method, path, body)

    assert reply.status_code == 200, reply.text
    assert reply.headers["x-request-id"]
    assert reply.headers["x-databricks-org-id"] == "4711"


async def test_a_reply_leaves_out_what_is_not_set(world: World) -> None:
    reply = await ask(world, "GET", f"{ENDPOINTS}/iris")

    assert reply.json()["name"] == "iris"
    assert "config" not in reply.json()


@pytest.mark.parametrize(("method", "path", "feature"), REFUSED)
async def test_what_does_nothing_yet_is_refused_by_name(
    world: World, method: str, path: str, feature: str
) -> None:
    reply = await ask(world, method, path.format(name="iris", model="m", version="1"), b"{}")

    assert (reply.status_code, reply.json()["error_code"]) == (501, "NOT_IMPLEMENTED")
    assert reply.json()["message"].startswith(feature)


async def test_tokens_with_scopes_are_refused(world: World) -> None:
    reply = await ask(world, "POST", "/api/2.0/token/create", b'{"scopes": ["sql"]}')

    assert reply.status_code == 501
    assert not world.tokens.records


async def test_a_token_is_shown_once_listed_and_deleted(world: World) -> None:
    made = await ask(
        world, "POST", "/api/2.0/token/create", b'{"comment": "ci", "lifetime_seconds": 5}'
    )
    listed = await ask(world, "GET", "/api/2.0/token/list")
    await ask(world, "POST", "/api/2.0/token/delete", b'{"token_id": "0"}')
    left = await ask(world, "GET", "/api/2.0/token/list")

    info = {"token_id": "0", "creation_time": 0, "expiry_time": 5000, "comment": "ci"}
    assert made.json() == {"token_value": "dapi-new", "token_info": info}
    assert listed.json() == {"token_infos": [info]}
    assert left.json() == {"token_infos": []}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"name": "a", "config": {"served_entities": [{"workload_size": 3}]}}',
         "config.served_entities[0].workload_size: Input should be a valid string"),
        (b'{"name": "a", "config": {"served_entities": [{"workload_sise": "Small"}]}}',
         "config.served_entities[0].workload_sise: unknown field; did you mean 'workload_size'?"),
        (b'{"name": "a", "xyzzy": 1}', "xyzzy: unknown field"),
        (b'{"name": "a", "config": []}', "config: Input should be a valid object"),
        (b'{"name": "a", "ai_gateway": 1}', "ai_gateway: Input should be a valid object"),
        (b'{"name": "a", "config": {"served_entities": [{"max_provisioned_concurrency": true}]}}',
         "config.served_entities[0].max_provisioned_concurrency: expected a number, not a boolean"),
        (b"{}", "name: this field is required"),
        (b'{"a": 1, "b": 1, "c": 1, "d": 1}',
         "name: this field is required; a: unknown field; b: unknown field; and 2 more"),
    ],
)  # fmt: skip
async def test_a_wrong_field_is_named_with_what_was_expected(
    world: World, body: bytes, message: str
) -> None:
    reply = await ask(world, "POST", ENDPOINTS, body)

    assert (reply.status_code, reply.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert reply.json()["message"] == message


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"3",
        b"null",
        b'"x"',
        b'{"name": "a\\u0000b"}',
        b'{"name": ["a", {"b\\u0000": 1}]}',
        b'{"name": "\\ud800"}',
        b'{"name": NaN}',
        b'{"name": 1e999}',
        b'{"name": ' + b"1" * 5000 + b"}",
        b'{"name": ' + b"[" * 100_000,
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
        b"\xff\xfe",
        b"name=iris",
    ],
)
async def test_a_body_that_is_no_json_object_is_malformed(world: World, body: bytes) -> None:
    reply = await ask(world, "POST", ENDPOINTS, body)

    assert (reply.status_code, reply.json()["error_code"]) == (400, "MALFORMED_REQUEST")
    assert list(world.endpoints.found) == ["iris"]


@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "text/plain", ""])
async def test_json_is_read_whatever_its_content_type_says(world: World, content_type: str) -> None:
    headers = {"content-type": content_type} if content_type else {}

    reply = await ask(world, "POST", ENDPOINTS, b'{"name": "new"}', **headers)

    assert reply.status_code == 200


async def test_a_body_of_more_than_a_mebibyte_is_too_large(world: World) -> None:
    reply = await ask(world, "POST", ENDPOINTS, b" " * (1024 * 1024 + 1))

    assert (reply.status_code, reply.json()["error_code"]) == (413, "REQUEST_TOO_LARGE")


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/api/2.0/lakeport/events?limit=0", "limit: "),
        ("/api/2.0/lakeport/events?after=99999999999999999999", "after: "),
        ("/api/2.0/lakeport/events?after=x", "after: "),
        (f"{ENDPOINTS}/iris/served-models/i/logs?config_version=1.5", "config_version: "),
        ("/api/2.0/lakeport/events?endpoint=%00", "The query"),
    ],
)
async def test_a_wrong_query_is_named(world: World, path: str, field: str) -> None:
    reply = await ask(world, "GET", path)

    assert (reply.status_code, reply.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert reply.json()["message"].startswith(field)


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "message"),
    [
        ("POST", "/x", 404, "ENDPOINT_NOT_FOUND", "No API found for 'POST /x'"),
        ("GET", "/api/2.0/serving-endpoints/iris/x", 404, "ENDPOINT_NOT_FOUND", "No API found"),
        ("GET", "/serving-endpoints/iris", 404, "ENDPOINT_NOT_FOUND", "No API found"),
        ("GET", "/invocations", 404, "ENDPOINT_NOT_FOUND", "No API found"),
        ("GET", "/ping", 404, "ENDPOINT_NOT_FOUND", "No API found"),
        ("GET", f"{ENDPOINTS}/none", 404, "RESOURCE_DOES_NOT_EXIST", "Serving endpoint none"),
        ("DELETE", ENDPOINTS, 405, "METHOD_NOT_ALLOWED", "'DELETE "),
        ("GET", f"{ENDPOINTS}/broken", 500, "INTERNAL_ERROR", "Something went wrong"),
    ],
)
async def test_a_refusal_has_its_code(  # noqa: PLR0917 - a table's columns
    world: World, method: str, path: str, status: int, code: str, message: str
) -> None:
    reply = await ask(world, method, path)

    assert (reply.status_code, reply.json()["error_code"]) == (status, code)
    assert reply.json()["message"].startswith(message)
    assert reply.json()["details"][0]["request_id"] == reply.headers["x-request-id"]
    assert "secret" not in reply.text


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        (ENDPOINTS, "GET, POST"),
        (f"{ENDPOINTS}/iris", "DELETE, GET"),
        (f"{ENDPOINTS}/iris/config", "PUT"),
        (f"/api/2.0/permissions/serving-endpoints/{'ab' * 16}", "GET, PATCH, PUT"),
        ("/health", "GET, HEAD"),
    ],
)
async def test_a_refused_method_comes_with_those_that_are_allowed(
    world: World, path: str, allowed: str
) -> None:
    reply = await ask(world, "TRACE", path)

    assert (reply.status_code, reply.headers["allow"]) == (405, allowed)


async def test_health_is_bad_while_it_cannot_serve(world: World) -> None:
    world.healthy = False

    reply = await ask(world, "GET", "/health")

    assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")


async def test_the_one_endpoint_of_a_flag_answers_as_mlflows_scoring_server_does() -> None:
    world = World(single="iris")

    invoked = await ask(world, "POST", "/invocations", b"{}")
    ping = await ask(world, "GET", "/ping")
    version = await ask(world, "GET", "/version")

    assert invoked.json() == {"predictions": [1]}
    assert world.invoke.invocations[0].endpoint == "iris"
    assert (ping.status_code, ping.text) == (200, "\n")
    assert version.status_code == 200
    assert version.text[0].isdigit()


@pytest.mark.parametrize(
    ("single", "outside", "registry"),
    [(None, None, True), ("iris", "http://mlflow:5000", True), ("iris", None, False)],
)
async def test_version_is_the_registrys_unless_one_model_is_served(
    single: str | None, outside: str | None, registry: bool
) -> None:
    world = World(single=single, mlflow_tracking_uri=outside)

    reply = await ask(world, "GET", "/version")

    assert reply.text.startswith("mlflow read") is registry


@pytest.mark.parametrize(
    "path",
    [
        "/api/2.0/mlflow/experiments/list",
        "/api/3.0/mlflow/traces",
        "/api/4.0/mlflow/x",
        "/api/2.0/mlflow-artifacts/artifacts/x",
        "/ajax-api/2.0/mlflow/x",
    ],
)
async def test_the_registry_is_asked_without_a_bound_on_the_body(world: World, path: str) -> None:
    reply = await ask(world, "POST", path, b"x" * (2 * 1024 * 1024))

    assert reply.text == "mlflow read 2097152"


def operations(document: dict[str, Any]) -> list[tuple[str, str]]:
    return [(method, path) for path, item in document["paths"].items() for method in item]


async def test_the_document_has_both_planes_and_their_errors(world: World) -> None:
    document = (await ask(world, "GET", "/openapi.json")).json()

    assert ("post", "/serving-endpoints/{name}/invocations") in operations(document)
    assert ("post", ENDPOINTS) in operations(document)
    for method, path in operations(document):
        operation = document["paths"][path][method]
        assert {"200", "401", "404", "default"} <= set(operation["responses"])
        open_to_all = path in {"/health", "/.well-known/databricks-config"}
        assert operation["security"] == ([] if open_to_all else [{"token": []}])
