"""Secrets on the wire: what is taken, what is refused, and how it is answered."""

import base64
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.unit.api.fakes import World

SECRETS = "/api/2.0/secrets"
CANARY = "canary-77d1b0c3"


@pytest.fixture(scope="module")
def built() -> World:
    return World()


@pytest.fixture
async def world(built: World) -> AsyncIterator[World]:
    """The scope `s` of the admin, with the secret `k`."""
    await check(built, "scopes/create", {"scope": "s"})
    await check(built, "put", {"scope": "s", "key": "k", "string_value": CANARY})
    yield built
    await check(built, "scopes/delete", {"scope": "s"})


async def ask(
    world: World, path: str, body: Any = None, *, token: str = "admin-token", **query: str
) -> httpx.Response:
    """POST with a body, GET without."""
    transport = httpx.ASGITransport(world.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        return await http.request(
            "GET" if body is None else "POST",
            f"{SECRETS}/{path}",
            json=body,
            params=query,
            headers={"authorization": f"Bearer {token}"},
        )


async def check(world: World, path: str, body: Any = None, **query: str) -> Any:
    reply = await ask(world, path, body, **query)
    assert reply.status_code == 200, reply.text
    return reply.json()


async def test_the_forms_of_the_answers(world: World) -> None:
    assert await check(world, "scopes/create", {"scope": "forms"}) == {}
    value = {"scope": "forms", "key": "b", "bytes_value": base64.b64encode(b"\xff\0").decode()}
    acl = {"scope": "forms", "principal": "ann", "permission": "READ"}
    assert await check(world, "put", value) == {}
    assert await check(world, "acls/put", acl) == {}

    assert {"name": "forms", "backend_type": "DATABRICKS"} in (await check(world, "scopes/list"))[
        "scopes"
    ]
    assert await check(world, "list", scope="forms") == {
        "secrets": [{"key": "b", "last_updated_timestamp": 1_700_000_000_000}]
    }
    assert await check(world, "get", scope="forms", key="b") == {"key": "b", "value": "/wA="}
    assert await check(world, "acls/list", scope="forms") == {
        "items": [
            {"principal": "admin", "permission": "MANAGE"},
            {"principal": "ann", "permission": "READ"},
        ]
    }
    assert await check(world, "acls/get", scope="forms", principal="ann") == {
        "principal": "ann",
        "permission": "READ",
    }
    assert await check(world, "acls/delete", {"scope": "forms", "principal": "ann"}) == {}
    assert await check(world, "delete", {"scope": "forms", "key": "b"}) == {}
    assert await check(world, "scopes/delete", {"scope": "forms"}) == {}
    assert (await ask(world, "list", scope="forms")).status_code == 404


INVALID = (400, "INVALID_PARAMETER_VALUE")
MISSING = (404, "RESOURCE_DOES_NOT_EXIST")
LATER = (501, "NOT_IMPLEMENTED")
PUT = {"scope": "s", "key": "new"}


@pytest.mark.parametrize(
    ("path", "body", "expected", "words"),
    [
        ("scopes/create", {}, INVALID, "scope"),
        ("scopes/create", {"scope": "a b"}, INVALID, "scope"),
        ("scopes/create", {"scope": 1}, INVALID, "scope"),
        ("scopes/create", {"scope": "s"}, (400, "RESOURCE_ALREADY_EXISTS"), "Scope s already"),
        ("scopes/create", {"scope": "S"}, (400, "RESOURCE_ALREADY_EXISTS"), "Scope S already"),
        (
            "scopes/create",
            {"scope": "n", "initial_manage_principal": "ann"},
            INVALID,
            "initial_manage_principal",
        ),
        ("scopes/create", {"scope": "n", "scope_backend_type": "AZURE_KEYVAULT"}, LATER, "AZURE"),
        ("scopes/create", {"scope": "n", "scope_backend_type": "VAULT"}, INVALID, "DATABRICKS"),
        (
            "scopes/create",
            {"scope": "n", "backend_azure_keyvault": {"dns_name": "x"}},
            LATER,
            "backend_azure_keyvault",
        ),
        ("scopes/create", {"scope": "n", "backend": "x"}, INVALID, "backend"),
        ("scopes/delete", {"scope": "none"}, MISSING, "Scope none does not exist"),
        ("put", PUT, INVALID, "exactly one"),
        ("put", PUT | {"string_value": CANARY, "bytes_value": "eA=="}, INVALID, "exactly one"),
        ("put", PUT | {"bytes_value": f"!{CANARY}!"}, INVALID, "bytes_value"),
        ("put", PUT | {"bytes_value": "ü"}, INVALID, "bytes_value"),
        ("put", PUT | {"string_value": [CANARY]}, INVALID, "string_value"),
        ("put", PUT | {"string_value": {"x": CANARY}}, INVALID, "string_value"),
        ("put", PUT | {"string_valeu": CANARY}, INVALID, "did you mean 'string_value'"),
        ("put", PUT | {"string_value": CANARY * 10_000}, INVALID, "131072"),
        ("put", PUT | {"string_value": "x", "key": "a/b"}, INVALID, "key"),
        ("put", PUT | {"string_value": "x", "scope": "none"}, MISSING, "Scope none"),
        ("delete", {"scope": "s", "key": "none"}, MISSING, "scope: s and key: none"),
        (
            "acls/put",
            {"scope": "s", "principal": "a", "permission": "CAN_READ"},
            INVALID,
            "READ, WRITE, MANAGE",
        ),
        ("acls/put", {"scope": "s", "principal": "", "permission": "READ"}, INVALID, "principal"),
        ("acls/delete", {"scope": "s", "principal": "none"}, MISSING, "none"),
    ],
)
async def test_what_is_wrong_is_named_and_no_value_echoed(
    world: World,
    caplog: pytest.LogCaptureFixture,
    *,
    path: str,
    body: dict[str, Any],
    expected: tuple[int, str],
    words: str,
) -> None:
    caplog.set_level(logging.DEBUG)

    reply = await ask(world, path, body)

    assert (reply.status_code, reply.json()["error_code"]) == expected
    assert words in reply.json()["message"]
    assert CANARY not in json.dumps(dict(reply.headers)) + reply.text + caplog.text


@pytest.mark.parametrize(
    ("path", "query", "words"),
    [
        ("get", {"scope": "s"}, "key"),
        ("get", {"scope": "s", "key": "none"}, "key: none"),
        ("list", {}, "scope"),
        ("list", {"scope": "none"}, "Scope none"),
        ("acls/get", {"scope": "s", "principal": "none"}, "none"),
        ("acls/list", {"scope": "none"}, "Scope none"),
    ],
)
async def test_what_is_not_there_is_named(
    world: World, path: str, query: dict[str, str], words: str
) -> None:
    reply = await ask(world, path, **query)

    assert reply.status_code in (400, 404)
    assert words in reply.json()["message"]


async def test_who_has_no_permission_is_told_so(world: World) -> None:
    for path, body in (
        ("put", PUT | {"string_value": "x"}),
        ("delete", {"scope": "s", "key": "k"}),
        ("scopes/delete", {"scope": "s"}),
        ("acls/put", {"scope": "s", "principal": "ann", "permission": "MANAGE"}),
    ):
        reply = await ask(world, path, body, token="ann-token")

        assert (reply.status_code, reply.json()["error_code"]) == (403, "PERMISSION_DENIED"), path
        assert "'ann'" in reply.json()["message"]
    assert (await ask(world, "get", scope="s", key="k", token="ann-token")).status_code == 403
    assert (await ask(world, "scopes/list", token="nobody")).status_code == 401
