"""What the door lets in, over real sockets."""

import asyncio
from typing import Any

import pytest

from lakeport.api.limits import Limits
from lakeport.api.server import make_server
from tests.integration.door.doors import CHUNKED, ECHO, HEAD, HELLO, SLOW, UPLOAD, running
from tests.unit.api.fakes import World


@pytest.mark.parametrize(
    ("request_bytes", "status", "code"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400, "MALFORMED_REQUEST"),
        (b"GET / HTTP/1.0\r\n\r\n", 400, "MALFORMED_REQUEST"),
        (b"GET / HTTP/1.1\r\nHost: a/../x?\r\n\r\n", 400, "MALFORMED_REQUEST"),
        (b"GET / HTTP/1.1\r\nHost: a#\r\n\r\n", 400, "MALFORMED_REQUEST"),
        (b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", 400, "MALFORMED_REQUEST"),
        (b"GET / HTTP/1.1\r\nHost: \r\n\r\n", 400, "MALFORMED_REQUEST"),
        (b"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", 400, "MALFORMED_REQUEST"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400, "MALFORMED_REQUEST"),
        (ECHO + b"Authorization: Bearer admin-token\r\n\r\n", 400, "MALFORMED_REQUEST"),
        (
            ECHO + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
            "MALFORMED_REQUEST",
        ),
        (
            ECHO + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
            400,
            "MALFORMED_REQUEST",
        ),
        (ECHO + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\n", 400, "MALFORMED_REQUEST"),
        (ECHO + b"Content-Length: 5, 5\r\n\r\n", 400, "MALFORMED_REQUEST"),
        (ECHO + b"Content-Length: +5\r\n\r\n", 400, "MALFORMED_REQUEST"),
        (ECHO + b"Content-Length: -5\r\n\r\n", 400, "MALFORMED_REQUEST"),
        (ECHO + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n", 400, "MALFORMED_REQUEST"),
        (ECHO + b"Content-Length: " + b"0" * 5000 + b"5\r\n\r\nhello", 400, "MALFORMED_REQUEST"),
        (ECHO + b"Transfer-Encoding: gzip\r\n\r\n", 400, "MALFORMED_REQUEST"),
        (ECHO + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 400, "MALFORMED_REQUEST"),
        (
            ECHO.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n",
            400,
            "MALFORMED_REQUEST",
        ),
        (ECHO + b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n", 400, "MALFORMED_REQUEST"),
        (ECHO + b"X : 1\r\n\r\n", 400, "MALFORMED_REQUEST"),
        (ECHO + b"X\x00: 1\r\n\r\n", 400, "MALFORMED_REQUEST"),
        (ECHO + b"X: 1\n folded\r\n\r\n", 400, "MALFORMED_REQUEST"),
        (b"GET /\xff HTTP/1.1\r\n" + HEAD + b"\r\n", 400, "MALFORMED_REQUEST"),
        (b"CONNECT a:1 HTTP/1.1\r\n" + HEAD + b"\r\n", 400, "MALFORMED_REQUEST"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "MALFORMED_REQUEST"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01", 400, "MALFORMED_REQUEST"),
        (b"nonsense\r\n\r\n", 400, "MALFORMED_REQUEST"),
        (ECHO + b"X: 1\r\n" * 20_000 + b"\r\n", 431, "REQUEST_HEADER_FIELDS_TOO_LARGE"),
        (ECHO + b"X: " + b"x" * 2**20 + b"\r\n\r\n", 431, "REQUEST_HEADER_FIELDS_TOO_LARGE"),
        (ECHO + b"x" * 2**20, 431, "REQUEST_HEADER_FIELDS_TOO_LARGE"),
        (b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n", 414, "URI_TOO_LONG"),
    ],
)
async def test_what_could_be_understood_in_two_ways_is_refused(
    built: World, request_bytes: bytes, status: int, code: str
) -> None:
    world = built.fresh()  # by the lane alone: it is refused before it could be the lane's
    async with running(world) as server, server.connect() as client:
        await client.send(request_bytes)

        answer = await client.answer()

        assert (answer.status, answer.error_code) == (status, code)
        assert answer.headers["connection"] == "close"
        assert answer.headers["content-type"] == "application/json"
        assert await client.closed()
    assert not world.invoke.invocations


@pytest.mark.parametrize("limits", [Limits(first_byte=0.1), Limits(first_byte=0.1, keep_alive=0.1)])
async def test_a_connection_that_says_nothing_is_closed(world: World, limits: Limits) -> None:
    async with running(world, limits) as server, server.connect() as client:
        await client.send(b"\r\n")

        assert await client.closed()


async def test_a_connection_between_two_requests_is_kept_for_a_while(world: World) -> None:
    limits = Limits(first_byte=0.1, keep_alive=0.2)
    async with running(world, limits) as server, server.connect() as client:
        for _ in range(3):
            await client.send(HELLO)
            assert (await client.answer()).body == b"hello"

        assert await client.closed()


async def test_half_a_head_is_refused_in_time_however_it_trickles(world: World) -> None:
    limits = Limits(head=0.3)
    async with running(world, limits) as server, server.connect() as client:
        await client.send(ECHO)
        answered = asyncio.create_task(client.answer())
        while not answered.done():
            await client.send(b"X-Slow: 1\r\n")
            await asyncio.wait({answered}, timeout=0.05)

        answer = answered.result()
        assert (answer.status, answer.error_code) == (408, "REQUEST_TIMEOUT")
        assert await client.closed()


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 50\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n5\r\n"]
)
async def test_a_body_that_stops_coming_is_refused(world: World, framing: bytes) -> None:
    limits = Limits(body_idle=0.2)
    async with running(world, limits) as server, server.connect() as client:
        await client.send(ECHO + framing + b"he")

        answer = await client.answer()

        assert (answer.status, answer.error_code) == (408, "REQUEST_TIMEOUT")
        assert answer.headers["connection"] == "close"
        assert await client.closed()
    assert not world.invoke.invocations


async def test_a_body_that_trickles_is_refused_in_the_end(world: World) -> None:
    limits = Limits(body_idle=5, body_total=0.3, body_rate=10**9, linger=0.2)
    async with running(world, limits) as server, server.connect() as client:
        await client.send(ECHO + b"Content-Length: 1000\r\n\r\n")
        answered = asyncio.create_task(client.answer())
        while not answered.done():
            await client.send(b"x")
            await asyncio.wait({answered}, timeout=0.02)

        assert answered.result().status == 408


async def test_a_body_that_comes_at_a_fair_rate_has_the_time_it_needs(world: World) -> None:
    limits = Limits(body_total=0, body_rate=1, first_byte=0.1)
    async with running(world, limits) as server, server.connect() as client:
        await client.send(UPLOAD + b"Content-Length: 400\r\n\r\n" + b"x" * 200)
        await client.send(b"y" * 200)

        assert (await client.answer()).status == 200


async def test_the_time_in_which_nobody_reads_is_not_the_clients(world: World) -> None:
    limits = Limits(body_idle=0.1, body_total=0.1)
    reading = asyncio.Event()

    async def reads_late(scope: Any, receive: Any, send: Any) -> None:
        await reading.wait()
        size, more = 0, True
        while more:
            message = await receive()
            size += len(message["body"])
            more = message["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"%d" % size})

    world.app = reads_late
    async with running(world, limits) as server, server.connect() as patient:
        await patient.send(UPLOAD + b"Content-Length: 200000\r\n\r\n", b"x" * 100_000)
        async with server.connect() as impatient:
            await impatient.send(UPLOAD + b"Content-Length: 50\r\n\r\n")
            assert (await impatient.answer()).status == 408
        reading.set()
        await patient.send(b"x" * 100_000)

        assert (await patient.answer()).status == 200


async def test_a_client_that_takes_nothing_of_its_answer_is_cut_off(world: World) -> None:
    ended = asyncio.Event()

    async def gone(receive: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async def floods(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        piece = {"type": "http.response.body", "body": b"x" * 2**20, "more_body": True}
        watch = asyncio.create_task(gone(receive))
        while not watch.done():
            await send(piece)
        ended.set()

    world.app = floods
    limits = Limits(write_idle=0.2, first_byte=0.2)
    async with running(world, limits) as server, server.connect() as client:
        await client.send(b"GET / HTTP/1.1\r\n" + HEAD + b"\r\n")

        await ended.wait()


async def test_a_bad_request_behind_a_good_one_does_not_spoil_its_answer(world: World) -> None:
    async with running(world) as server, server.connect() as client:
        await client.send(HELLO + HELLO + b"nonsense\r\n\r\n")

        assert (await client.answer()).body == b"hello"
        assert (await client.answer()).body == b"hello"
        assert await client.closed()


async def test_a_chunked_body_over_the_bound_is_refused_while_it_comes(world: World) -> None:
    async with running(world) as server, server.connect() as client:
        await client.send(ECHO + b"Transfer-Encoding: chunked\r\n\r\n")
        await client.send(b"3e9\r\n" + b"x" * 1001)

        answer = await client.answer()

        assert (answer.status, answer.error_code) == (413, "REQUEST_TOO_LARGE")


async def test_a_body_that_is_announced_too_large_is_refused_unsent(world: World) -> None:
    async with running(world) as server, server.connect() as client:
        await client.send(ECHO + b"Content-Length: 99999999999\r\nExpect: 100-continue\r\n\r\n")

        answer = await client.answer()

        assert (answer.status, answer.error_code) == (413, "REQUEST_TOO_LARGE")


async def test_a_refused_body_may_still_arrive_and_the_connection_lives_on(world: World) -> None:
    async with running(world) as server, server.connect() as client:
        await client.send(ECHO + b"Content-Length: 300000\r\n\r\n")
        assert (await client.answer()).status == 413

        await client.send(b"x" * 300_000, HELLO)

        assert (await client.answer()).body == b"hello"


async def test_a_refused_body_is_not_swallowed_for_ever(world: World) -> None:
    limits = Limits(unread_bytes=100_000)
    async with running(world, limits) as server, server.connect() as client:
        await client.send(ECHO + b"Content-Length: 99999999999\r\n\r\n")
        assert (await client.answer()).status == 413

        with pytest.raises(ConnectionError):
            await client.send(*[b"x" * 100_000] * 1000)


@pytest.mark.parametrize("framing", [b"Content-Length: 5\r\n\r\nhello", CHUNKED])
async def test_a_wish_for_another_protocol_is_ignored(world: World, framing: bytes) -> None:
    wish = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    async with running(world) as server, server.connect() as client:
        await client.send(ECHO + wish + framing[:-3], framing[-3:])
        first = await client.answer()
        await client.send(HELLO)
        second = await client.answer()

    assert (first.body, second.body) == (b"hello", b"hello")


async def test_a_websocket_is_not_to_be_had(world: World) -> None:
    wish = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n"
    async with running(world) as server, server.connect() as client:
        await client.send(b"GET /nothing HTTP/1.1\r\n" + HEAD + wish)

        assert (await client.answer()).status == 404


async def test_wishes_for_another_protocol_do_not_pile_up(world: World) -> None:
    request = b"GET / HTTP/1.1\r\n" + HEAD + b"Connection: Upgrade\r\nUpgrade: x\r\n\r\n"
    async with running(world) as server, server.connect() as client:
        await client.send(request * 1000)

        assert (await client.answer()).status == 404
        assert await client.closed()


async def test_a_server_that_stops_tells_those_it_cannot_wait_for(world: World) -> None:
    async with running(world) as server, server.connect() as client:
        await client.send(SLOW + b"Content-Length: 2\r\n\r\n{}")
        await world.invoke.waiting.wait()

        server.server.exit()

        answer = await client.answer()
        assert (answer.status, answer.error_code) == (503, "TEMPORARILY_UNAVAILABLE")


async def test_a_port_that_is_taken_is_an_error_of_ours(world: World) -> None:
    async with running(world) as server:
        with pytest.raises(OSError, match="in use"):
            make_server(world.app, port=server.server.port)


async def test_the_server_says_nothing_of_itself_but_the_date(world: World) -> None:
    async with running(world) as server, server.connect() as client:
        await client.send(HELLO)

        answer = await client.answer()

    assert "server" not in answer.headers
    assert answer.headers["date"]


async def test_a_trailer_does_not_pass_for_a_header(world: World) -> None:
    request = ECHO.replace(b"Authorization: Bearer ann-token\r\n", b"")
    async with running(world) as server, server.connect() as client:
        await client.send(request + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n0\r\n")
        await client.send(b"Authorization: Bearer admin-token\r\n\r\n")

        assert (await client.answer()).status == 401
