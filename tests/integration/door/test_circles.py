"""What a request leaves behind: nothing that has to wait for the collector of circles, which comes
seldom, since a body of megabytes would wait with it."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from lakeport.errors import BadRequest
from lakeport.runtimes.base import Answer, Call
from lakeport.serving.flight import Flight
from tests.integration.door.doors import HEAD, running, until
from tests.unit.api.fakes import World
from tests.unit.serving.chat_link import ANN, Workplace, ask

REQUESTS = 300
CHAT = b"POST /serving-endpoints/chat/invocations HTTP/1.1\r\n" + HEAD
GONE = CHAT.replace(b"/chat/", b"/gone/")


def _respond(call: Call) -> Answer | None:
    if call.body == b"well!":
        return Answer(200, b"well!")
    if call.body == b"leave":
        return None
    return Answer(400, b"", error=("BAD_REQUEST", "no"))


def placed(world: World, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    """A front with real deployments behind both doors."""
    place = Workplace(_respond, None)
    monkeypatch.setattr(world.built.lane, "invoke", place.front)
    monkeypatch.setattr(world.built._invocations, "_invoke", place.front)
    return place


@contextmanager
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("head", "body", "status"),
    [(CHAT, b"well!", 200), (CHAT, b"wrong", 400), (GONE, b"well!", 404)],
)
async def test_an_invocation_is_forgotten_with_its_answer(
    world: World, monkeypatch: pytest.MonkeyPatch, head: bytes, body: bytes, status: int
) -> None:
    placed(world, monkeypatch)
    async with running(world) as server, server.connect() as client:
        with no_collector():
            for _ in range(REQUESTS):
                await client.send(head + b"Content-Length: 5\r\n\r\n" + body)
                assert (await client.answer()).status == status
            assert gc.collect() < REQUESTS


async def test_an_idle_connection_holds_nothing_of_its_last_call(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    placed(world, monkeypatch)
    async with running(world) as server, server.connect() as client:
        await client.send(CHAT + b"Content-Length: 5\r\n\r\nwell!")
        await client.answer()
        gc.collect()
        assert flights() == 0


async def test_an_invocation_is_forgotten_when_its_caller_leaves(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = placed(world, monkeypatch)
    async with running(world) as server, server.connect() as client:
        with no_collector():
            await client.send(CHAT + b"Content-Length: 5\r\n\r\nleave")
            await place.called()
            assert flights() == 1
            client.abort()
            await until(lambda: flights() == 0)


async def test_an_error_that_is_raised_is_forgotten_when_it_is_told() -> None:
    place = Workplace(_respond, None)
    with no_collector():
        for _ in range(REQUESTS):
            with suppress(BadRequest):
                await place.front.invoke(ANN, ask(b"wrong"))
        assert gc.collect() < REQUESTS


def flights() -> int:
    """Those that are alive anywhere; each holds its call's body."""
    return sum(isinstance(one, Flight) for one in gc.get_objects())
