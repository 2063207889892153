"""Both clients, and a server that misbehaves as it is told."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from lakeport import AsyncClient, Client
from tests.integration.client.calls import ONCE, TOKEN, Call
from tests.integration.raw_server import (
    RawServer,
    raw_server,
)


@pytest.fixture
def server() -> Iterator[RawServer]:
    with raw_server() as server:
        yield server


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest, server: RawServer) -> Call:
    def blocking(method: str, *arguments: Any, options: Any = None, **keywords: Any) -> Any:
        given = {"retry": ONCE, **(options or {})}
        with Client(server.url, given.pop("token", TOKEN), **given) as client:
            found = getattr(client, method)(*arguments, **keywords)
            return list(found) if method == "stream_chat" else found

    async def waiting(method: str, *arguments: Any, options: Any = None, **keywords: Any) -> Any:
        given = {"retry": ONCE, **(options or {})}
        async with AsyncClient(server.url, given.pop("token", TOKEN), **given) as client:
            found = getattr(client, method)(*arguments, **keywords)
            if method == "stream_chat":
                return [chunk async for chunk in found]
            return await found

    if request.param == "sync":
        return blocking
    return lambda *given, **keywords: asyncio.run(waiting(*given, **keywords))
