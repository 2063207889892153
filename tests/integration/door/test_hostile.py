"""Clients that mean no good, or could: by the lane and by the bridge."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from lakeport.api.door import Door
from lakeport.api.limits import Limits
from lakeport.api.reading import Reading
from lakeport.serving.ports import Reply
from tests.integration.door.doors import ECHO, HEAD, HELLO, SLOW, Running, running, until
from tests.unit.api.fakes import World

GIVEN = ECHO.replace(b"/echo/", b"/given/") + b"Content-Length: 0\r\n\r\n"


def connection(server: Running) -> Door:
    (only,) = cast("set[Door]", server.server.server_state.connections)
    return only


async def test_the_lane_takes_what_it_should(world: World) -> None:
    async with running(world) as server, server.connect() as client:
        await client.send(HELLO)
        await client.answer()

    assert world.invoke.begun == (1 if world.door == "lane" else 0)


@pytest.mark.parametrize(
    "framing",
    [
        pytest.param([b"5;", b"x" * 1000], id="an endless extension of a chunk"),
        pytest.param([b"0\r\nX: ", b"x" * 1000], id="an endless trailer"),
        pytest.param([b"0\r\n", b"X: x\r\n" * 100], id="endless trailers"),
        pytest.param([b"", b"0" * 1000], id="an endless length"),
    ],
)
async def test_framing_without_end_is_refused(world: World, framing: list[bytes]) -> None:
    async with running(world) as server, server.connect() as client:
        await client.send(ECHO + b"Transfer-Encoding: chunked\r\n\r\n" + framing[0])
        answered = asyncio.create_task(client.answer())
        while not answered.done():
            await client.send(framing[1])
            await asyncio.sleep(0)

        assert answered.result().status in (400, 431)
        assert await client.closed()
    assert not world.invoke.invocations


async def test_requests_that_wait_for_their_turn_are_bounded(world: World) -> None:
    async with running(world, Limits(pipelined=16)) as server, server.connect() as client:
        await client.send(SLOW + b"Content-Length: 2\r\n\r\n{}")
        await world.invoke.waiting.wait()
        flood = asyncio.create_task(client.send(*[HELLO * 10_000] * 20))
        door = connection(server)
        await until(lambda: door._read_paused)

        assert 16 < len(door._queue) < 16 + 32 * 1024 // len(HELLO) + 2
        assert not flood.done()
        flood.cancel()
        client.abort()
    assert len(world.invoke.invocations) == 1


async def test_answers_that_nobody_reads_are_bounded(world: World) -> None:
    reply = b"x" * 200_000
    world.invoke.reply = Reply(200, reply, "text/plain", "given-1")
    async with running(world) as server, server.connect() as client:
        sending = asyncio.create_task(client.send(GIVEN * 200))
        # A client reads on its own up to a bound, then its kernel and ours, and then nobody.
        await until(lambda: world.invoke.invocations and connection(server).write_paused)
        taken = len(world.invoke.invocations)
        assert taken < 200

        assert [len((await client.answer()).body) for _ in range(200)] == [len(reply)] * 200
        await sending


async def test_a_token_that_is_revoked_is_refused_on_a_connection_that_lives_on(
    world: World,
) -> None:
    async with running(world) as server, server.connect() as client:
        for _ in range(3):
            await client.send(HELLO)
            assert (await client.answer()).status == 200

        del world.tokens.known[b"Bearer ann-token"]
        await client.send(HELLO)

        assert (await client.answer()).status == 401
    assert len(world.invoke.invocations) == 3


async def test_a_head_that_came_before_is_read_in_all_its_ways(world: World) -> None:
    longer = ECHO + b"Content-Length: 11\r\n\r\nhello hello"
    empty = ECHO + b"Content-Length: 0\r\n\r\n"
    inner = ECHO + b"Content-Length: %d\r\n\r\n" % len(HELLO) + HELLO
    sent = [[HELLO], [HELLO], [longer], [inner], [inner], [empty], [empty], [HELLO[:-1], b"o"]]
    sent += [[HELLO + HELLO], [HELLO[:9], HELLO[9:]], [b"\r\n" + HELLO], [HELLO + b"\r\n"], [HELLO]]
    async with running(world) as server, server.connect() as client:
        for pieces in sent:
            for piece in pieces:
                await client.send(piece)
                await asyncio.sleep(0)
            for _ in range(2 if pieces == [HELLO + HELLO] else 1):
                assert (await client.answer()).status == 200

    hello = [b"hello"]
    bodies = hello * 2 + [b"hello hello", HELLO, HELLO, b"", b""] + hello * 7
    assert [asked.body for asked in world.invoke.invocations] == bodies


async def test_a_bad_body_behind_good_requests_does_not_spoil_their_answers(world: World) -> None:
    bad = ECHO + b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n"
    async with running(world) as server, server.connect() as client:
        await client.send(HELLO + HELLO + bad)

        assert (await client.answer()).body == b"hello"
        assert (await client.answer()).body == b"hello"
        await client.closed()
    assert len(world.invoke.invocations) == 2


async def test_a_head_behind_a_slow_answer_does_not_end_it(world: World) -> None:
    limits = Limits(head=0.05, body_idle=0.05, linger=0.05)
    go = asyncio.Event()
    asked = []

    async def waits(scope: Any, receive: Any, send: Any) -> None:
        asked.append(scope["path"])
        await go.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    world.app = waits
    async with running(world, limits) as server, server.connect() as client:
        await client.send(b"GET / HTTP/1.1\r\n" + HEAD + b"\r\n" + ECHO)
        await until(lambda: asked and connection(server)._reader.state is Reading.REFUSED)
        go.set()

        assert (await client.answer()).status == 204
        assert await client.closed()


async def test_an_answer_that_is_no_valid_head_is_told_as_our_failure(world: World) -> None:
    world.invoke.reply = Reply(200, b"{}", "text/plain\r\nX-Injected: 1", "given-1")
    async with running(world) as server, server.connect() as client:
        await client.send(GIVEN)

        answer = await client.answer()

    assert answer.status == 500
    assert "x-injected" not in answer.headers


async def test_an_application_that_breaks_off_ends_the_connection(world: World) -> None:
    async def breaks(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/half":
            headers = [(b"content-length", b"10")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"12345", "more_body": True})
        raise RuntimeError("a secret of the inside")

    world.app = breaks
    async with running(world) as server:
        async with server.connect() as client:
            await client.send(b"GET / HTTP/1.1\r\n" + HEAD + b"\r\n")
            answer = await client.answer()
            assert (answer.status, answer.error_code) == (500, "INTERNAL_ERROR")
            assert b"secret" not in answer.body
            assert await client.closed()
        async with server.connect() as client:
            await client.send(b"GET /half HTTP/1.1\r\n" + HEAD + b"\r\n")
            with pytest.raises(asyncio.IncompleteReadError):
                await client.answer()


async def test_the_callers_trace_goes_along(world: World) -> None:
    trace = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    traced = HELLO.replace(b"\r\n", b"\r\ntraceparent: %s\r\n" % trace, 1)
    async with running(world) as server, server.connect() as client:
        await client.send(traced)
        await client.answer()

    assert world.invoke.invocations[0].traceparent == trace.decode()


async def test_a_stream_that_nobody_reads_waits(world: World) -> None:
    made = 0

    async def flood() -> AsyncIterator[bytes]:
        nonlocal made
        while True:
            made += 1
            yield b'"' + b"x" * 100_000 + b'"'

    world.invoke.stream = flood
    stream = ECHO.replace(b"/echo/", b"/stream/")
    async with running(world) as server, server.connect() as client:
        await client.send(stream + b"Content-Length: 0\r\n\r\n")
        await until(lambda: made and connection(server).write_paused)
        for _ in range(10):
            await asyncio.sleep(0)
        before = made
        for _ in range(100):
            await asyncio.sleep(0)

        assert made == before
        client.abort()
        await world.invoke.closed.wait()


@pytest.fixture(scope="module")
def open_world() -> World:
    return World(auth="off", single="iris")


@pytest.mark.parametrize("path", [b"/invocations", b"/serving-endpoints/iris/invocations"])
async def test_without_authentication_only_a_loopback_name_is_let_in(
    open_world: World, path: bytes
) -> None:
    world = open_world.fresh()
    asked = b"POST " + path + b" HTTP/1.1\r\nHost: %s\r\n%sContent-Length: 2\r\n\r\n{}"
    strange = b"Origin: https://evil.example\r\n"
    async with running(world) as server, server.connect() as client:
        await client.send(asked % (b"localhost:80", b""), asked % (b"localhost", strange))
        await client.send(asked % (b"evil.example", b""))
        statuses = [(await client.answer()).status for _ in range(3)]

    assert statuses == [200, 403, 403]
    assert world.invoke.begun == 1
