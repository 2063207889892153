"""Links to engines: the same wire over a unix socket, each stream over a connection of its own."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lakeport.providers.engines import EngineConnector
from lakeport.providers.openai import OpenAILink
from lakeport.wire.chat import Operation
from tests.provider.client import answer_of, call, problem, stream_of, taken, words
from tests.provider.provider import Asked, Out, closes_without_a_word, proper, running

KEY = "engine-key-of-this-test"


@contextlib.asynccontextmanager
async def engine(path: Path, *, idle_timeout: float = 5) -> AsyncIterator[OpenAILink]:
    link = await EngineConnector(idle_timeout=idle_timeout, slots=2).connect(f"engine:{path}#{KEY}")
    assert isinstance(link, OpenAILink)
    try:
        yield link
    finally:
        await link.closed()


async def test_calls_carry_the_key_and_share_a_connection(tmp_path: Path) -> None:
    path = tmp_path / "e.sock"
    async with running(socket=path) as server, engine(path) as link:
        for operation in Operation:
            assert (await answer_of(link, call(operation=operation))).status == 200
        assert server.connections == 1
        assert [asked.path for asked in server.asked] == [f"/v1/{o}" for o in Operation]
        assert {asked.headers["authorization"] for asked in server.asked} == {f"Bearer {KEY}"}


@pytest.mark.parametrize("behaviour", [closes_without_a_word, proper])
async def test_200_streams_and_calls_in_turn(tmp_path: Path, behaviour: object) -> None:
    async def engine_like(asked: Asked, out: Out) -> None:
        handle = behaviour if asked.document.get("stream") else proper
        await handle(asked, out)  # type: ignore[operator]

    path = tmp_path / "e.sock"
    async with running(engine_like, socket=path) as server, engine(path) as link:
        for _ in range(200):
            assert words(await taken(await stream_of(link, call(stream=True))))
            assert (await answer_of(link, call())).status == 200
        streams = [a.connection for a in server.asked if a.document.get("stream")]
        calls = {a.connection for a in server.asked if not a.document.get("stream")}
        assert len(set(streams)) == len(streams) == 200
        assert len(calls) == 1
        await server.until_open(1)
        assert link.outstanding == 0


async def test_many_streams_at_once(tmp_path: Path) -> None:
    path = tmp_path / "e.sock"
    async with running(socket=path), engine(path) as link:

        async def one() -> str:
            return words(await taken(await stream_of(link, call({"max_tokens": 50}, stream=True))))

        got = await asyncio.gather(*(one() for _ in range(50)))
    assert set(got) == {"".join(f"w{n} " for n in range(50))}


async def test_an_engine_that_is_gone(tmp_path: Path) -> None:
    async with engine(tmp_path / "gone.sock") as link:
        answer = await answer_of(link, call(stream=True))
    assert problem(answer) == "The model's engine cannot be connected to."
    assert str(tmp_path) not in repr(answer)


@pytest.mark.parametrize("address", ["engine:/a", "unix:/a#b", "engine:#k", ""])
async def test_what_is_no_address(address: str) -> None:
    with pytest.raises(ValueError, match="engine:SOCKET#KEY"):
        await EngineConnector(idle_timeout=5, slots=2).connect(address)
