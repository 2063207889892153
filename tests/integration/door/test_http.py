"""What every HTTP server promises: by the lane, by the bridge, and by uvicorn as it comes."""

import asyncio
from typing import Any

import pytest

from lakeport.serving.ports import Reply
from tests.integration.door.doors import CHUNKED, ECHO, HEAD, HELLO, SLOW, STREAM, UPLOAD, running
from tests.unit.api.fakes import World

GIVEN = ECHO.replace(b"/echo/", b"/given/")
HEALTH = b"GET /health HTTP/1.1\r\n" + HEAD + b"\r\n"


@pytest.mark.parametrize("request_bytes", [HELLO, ECHO + CHUNKED])
async def test_a_request_may_come_byte_by_byte(any_world: World, request_bytes: bytes) -> None:
    async with running(any_world) as server, server.connect() as client:
        for _ in range(2):
            for byte in request_bytes:
                await client.send(bytes((byte,)))
                await asyncio.sleep(0)

            assert (await client.answer()).body == b"hello"


async def test_requests_of_all_kinds_follow_each_other_on_a_connection(any_world: World) -> None:
    unknown = HELLO.replace(b"/echo/", b"/nobody/")
    kinds = [HELLO, HEALTH, unknown, ECHO + CHUNKED, HELLO.replace(b"hello", b"h\r\n\r\n"), HEALTH]
    async with running(any_world) as server, server.connect() as client:
        await client.send(b"".join(kinds) * 3)
        for kind in kinds * 3:
            await client.send(kind)
        answers = [await client.answer() for _ in kinds * 6]

    expected = [b"hello", b'{"status":"ok"}', None, b"hello", b"h\r\n\r\n", b'{"status":"ok"}']
    assert [a.status for a in answers] == [200, 200, 404, 200, 200, 200] * 6
    assert [a.body for a in answers if a.status == 200] == [e for e in expected if e] * 6


async def test_a_thousand_pipelined_requests_are_answered_in_order(any_world: World) -> None:
    bodies = [b"%05d" % number for number in range(1000)]
    requests = [ECHO + b"Content-Length: 5\r\n\r\n" + body for body in bodies]
    async with running(any_world) as server, server.connect() as client:
        sending = asyncio.create_task(client.send(b"".join(requests)))

        assert [(await client.answer()).body for _ in bodies] == bodies
        await sending


@pytest.mark.parametrize("request_bytes", [HELLO, HEALTH])
async def test_a_client_may_ask_for_the_end_of_the_connection(
    any_world: World, request_bytes: bytes
) -> None:
    asked = request_bytes.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
    async with running(any_world) as server, server.connect() as client:
        await client.send(asked)

        answer = await client.answer()

        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert await client.closed()


@pytest.mark.parametrize("request_bytes", [HELLO, HEALTH])
async def test_a_client_of_http_1_0_gets_one_answer(any_world: World, request_bytes: bytes) -> None:
    async with running(any_world) as server, server.connect() as client:
        await client.send(request_bytes.replace(b"HTTP/1.1", b"HTTP/1.0"))

        answer = await client.answer()

        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert await client.closed()


async def test_the_answer_to_head_has_no_body(any_world: World) -> None:
    async with running(any_world) as server, server.connect() as client:
        for _ in range(2):
            await client.send(HEALTH.replace(b"GET", b"HEAD"))
            head = await client.read_until(b"\r\n\r\n")
            assert b"content-length: 15" in head
        await client.send(HELLO)

        assert (await client.answer()).body == b"hello"


async def test_an_invocation_by_another_method_is_refused(any_world: World) -> None:
    async with running(any_world) as server, server.connect() as client:
        await client.send(HELLO.replace(b"POST", b"PUT"))

        answer = await client.answer()

    assert (answer.status, answer.headers["allow"]) == (405, "post")
    assert answer.error_code == "METHOD_NOT_ALLOWED"


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 3_000_000])
async def test_an_answer_of_any_size_comes_whole(any_world: World, size: int) -> None:
    body = bytes(range(256)) * (size // 256 + 1)
    any_world.invoke.reply = Reply(200, body[:size], "application/octet-stream", "given-1")
    async with running(any_world) as server, server.connect() as client:
        for _ in range(2):
            await client.send(GIVEN + b"Content-Length: 0\r\n\r\n")
            answer = await client.answer()
            assert answer.body == body[:size]
            assert answer.headers["served-model-name"] == "given-1"


@pytest.mark.parametrize("size", [70_000, 3_000_000])
async def test_a_body_of_any_size_is_read_whole(any_world: World, size: int) -> None:
    async with running(any_world) as server, server.connect() as client:
        await client.send(UPLOAD + b"Content-Length: %d\r\n\r\n" % size, b"x" * size)
        assert b"mlflow read %d\r\n" % size in await client.read_until(b"\r\n0\r\n\r\n")

        await client.send(UPLOAD + b"Transfer-Encoding: chunked\r\n\r\n")
        await client.send(b"%x\r\n" % size + b"x" * size + b"\r\n0\r\n\r\n")
        assert b"mlflow read %d\r\n" % size in await client.read_until(b"\r\n0\r\n\r\n")


async def test_an_answer_of_unknown_length_comes_in_chunks(any_world: World) -> None:
    async with running(any_world) as server, server.connect() as client:
        await client.send(STREAM + b"Content-Length: 2\r\n\r\n{}")
        got = await client.read_until(b"0\r\n\r\n")
        await client.send(HELLO)

        assert b"transfer-encoding: chunked" in got.lower()
        assert b'data: {"delta":"one"}' in got
        assert (await client.answer()).body == b"hello"


async def test_a_client_that_sends_no_more_has_left(any_world: World) -> None:
    """Nothing tells a client that only closed its sending side from one that has gone."""
    async with running(any_world) as server, server.connect() as client:
        await client.send(SLOW + b"Content-Length: 2\r\n\r\n{}")
        await any_world.invoke.waiting.wait()

        client.say_no_more()

        assert await client.closed()
        await any_world.invoke.cancelled.wait()


async def test_pipelined_requests_are_answered_in_order(any_world: World) -> None:
    bodies = [b"%05d" % number for number in range(200)]
    async with running(any_world) as server, server.connect() as client:
        await client.send(b"".join(ECHO + b"Content-Length: 5\r\n\r\n" + body for body in bodies))

        assert [(await client.answer()).body for _ in bodies] == bodies


async def test_a_chunked_body_is_put_together(any_world: World) -> None:
    async with running(any_world) as server, server.connect() as client:
        await client.send(ECHO + b"Transfer-Encoding: chunked\r\n\r\n")
        await client.send(b"2\r\nhe\r\n", b"3;x=y\r\nl", b"lo\r\n", b"0\r\n\r\n", HELLO)

        assert (await client.answer()).body == b"hello"
        assert (await client.answer()).body == b"hello"


async def test_a_client_may_wait_to_be_asked_for_its_body(any_world: World) -> None:
    async with running(any_world) as server, server.connect() as client:
        await client.send(ECHO + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        assert await client.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"

        await client.send(b"hello")

        assert (await client.answer()).body == b"hello"


async def test_without_a_token_nobody_is_asked_for_a_body(any_world: World) -> None:
    request = ECHO.replace(b"ann-token", b"wrong")
    async with running(any_world) as server, server.connect() as client:
        await client.send(request + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n")

        assert (await client.answer()).status == 401


async def test_hanging_up_in_mid_body_starts_nothing(any_world: World) -> None:
    async with running(any_world) as server:
        async with server.connect() as client:
            await client.send(ECHO + b"Content-Length: 50\r\n\r\nhello")
            await client.hang_up()
        async with server.connect() as other:
            await other.send(HELLO)
            await other.answer()

        assert [asked.body for asked in any_world.invoke.invocations] == [b"hello"]


async def test_hanging_up_in_mid_answer_cancels_the_work(any_world: World) -> None:
    async with running(any_world) as server, server.connect() as client:
        await client.send(SLOW + b"Content-Length: 2\r\n\r\n{}")
        await any_world.invoke.waiting.wait()

        await client.hang_up()

        await any_world.invoke.cancelled.wait()


async def test_hanging_up_in_mid_stream_ends_the_stream(any_world: World) -> None:
    any_world.invoke.stream = any_world.invoke.endless
    async with running(any_world) as server, server.connect() as client:
        await client.send(STREAM + b"Content-Length: 2\r\n\r\n{}")
        await client.read_until(b"data: {}\n\n")

        await client.hang_up()

        await any_world.invoke.closed.wait()


async def test_a_server_that_stops_lets_running_requests_end(any_world: World) -> None:
    finish = asyncio.Event()

    async def waits(scope: Any, receive: Any, send: Any) -> None:
        any_world.invoke.waiting.set()
        await finish.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    any_world.app = waits
    async with running(any_world) as server, server.connect() as client, server.connect() as idle:
        await client.send(b"GET / HTTP/1.1\r\n" + HEAD + b"\r\n")
        await any_world.invoke.waiting.wait()

        server.server.exit()
        assert await idle.closed()
        finish.set()

        answer = await client.answer()
        assert (answer.status, answer.headers["connection"]) == (204, "close")
