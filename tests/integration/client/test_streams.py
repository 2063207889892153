"""Both clients: streamed chats that come slowly, badly or not at all."""

import asyncio
import threading
import time
from typing import Any

import pytest

from lakeport import AsyncClient, Client, Retry
from lakeport.client import errors
from lakeport.client.errors import (
    BadAnswer,
    ConnectionFailed,
    LakeportError,
    NotReady,
    TimedOut,
)
from tests.integration.client.calls import ANSWER, TOKEN, Call, chat
from tests.integration.raw_server import (
    DONE,
    END,
    Act,
    RawServer,
    event,
    piece,
    reply,
    says,
    stream_head,
)


def test_a_stream(server: RawServer, call: Call) -> None:
    usage = event({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}})
    server.answers([stream_head(), says("Hel"), says("lo", finish_reason="stop"), usage, DONE, END])

    assert chat(call) == ["Hel", "lo", ""]
    assert server.asked[0].headers["accept-encoding"] == "identity"
    assert server.asked[0].json()["stream"] is True


def test_the_connection_of_a_finished_stream_is_used_again(server: RawServer) -> None:
    server.answers([stream_head(), says("Hi"), DONE, END])

    with Client(server.url, TOKEN) as client:
        for _ in range(3):
            assert [chunk.text for chunk in client.stream_chat("bot", "Hi")] == ["Hi"]

    assert {asked.connection for asked in server.asked} == {0}


def test_opening_a_stream_is_tried_again_and_reading_it_never(
    server: RawServer, call: Call
) -> None:
    server.answers(reply(503), [stream_head(), says("Hi"), "close"], [stream_head(), DONE, END])

    with pytest.raises(ConnectionFailed):
        chat(call, retry=Retry(base=0.01, unsafe=True))

    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("acts", "kind"),
    [
        ([stream_head(), says("Hi"), "reset"], ConnectionFailed),
        ([stream_head(), says("Hi"), END], BadAnswer),
        ([stream_head(), END], BadAnswer),
        ([stream_head(), says("Hi"), event({"error": {"message": "no", "code": 503}})], NotReady),
        ([stream_head(), piece("data: {\n\n")], BadAnswer),
        ([stream_head(content_type="text/html"), piece("<html>"), END], BadAnswer),
        ([reply(200, {"choices": []})], BadAnswer),
        ([reply(400, {"message": "no"})], errors.BadRequest),
    ],
    ids=["reset", "no end", "empty", "error", "broken", "html", "whole", "400"],
)
def test_streams_that_fail(
    server: RawServer, call: Call, acts: Any, kind: type[LakeportError]
) -> None:
    server.answers(acts)

    with pytest.raises(kind) as caught:
        chat(call)

    assert caught.value.endpoint == "bot"


@pytest.mark.parametrize(
    "acts",
    [
        [30.0],
        [stream_head(), 30.0],
        [stream_head(), says("Hi"), 30.0],
        [stream_head(), says("Hi"), *[piece(": alive\n\n"), 0.05] * 600],
    ],
    ids=["no head", "no event", "one event", "only comments"],
)
def test_every_event_has_its_time(server: RawServer, call: Call, acts: Any) -> None:
    server.answers(acts)
    began = time.monotonic()

    with pytest.raises(TimedOut):
        chat(call, timeout=0.4)

    assert time.monotonic() - began < 20  # each would take thirty


def test_a_long_stream_may_take_longer_than_its_timeout(server: RawServer, call: Call) -> None:
    slowly: list[Act] = [0.2, says("x")]
    server.answers([stream_head(), *(slowly * 6), DONE, END])

    assert chat(call, timeout=1) == ["x"] * 6


def test_the_time_of_the_application_is_not_the_servers(server: RawServer) -> None:
    server.answers([stream_head(), says("a"), says("b"), DONE, END])
    texts: list[str] = []

    with Client(server.url, TOKEN, timeout=0.8) as client:
        for chunk in client.stream_chat("bot", "Hi"):
            if not texts:
                time.sleep(1)
            texts.append(chunk.text)

    assert texts == ["a", "b"]


def test_leaving_a_stream_hangs_up(server: RawServer) -> None:
    server.answers([stream_head(), says("a"), 10.0])

    with Client(server.url, TOKEN) as client:
        with client.stream_chat("bot", "Hi") as stream:
            assert next(stream).text == "a"
        assert server.asked[0].gone.wait(9)
        assert list(stream) == []


def test_leaving_an_async_stream_hangs_up(server: RawServer) -> None:
    server.answers([stream_head(), says("a"), 10.0])

    async def main() -> None:
        async with AsyncClient(server.url, TOKEN) as client:
            async with client.stream_chat("bot", "Hi") as stream:
                assert (await anext(stream)).text == "a"
            assert await asyncio.to_thread(server.asked[0].gone.wait, 9)

    asyncio.run(main())


def test_a_loop_that_is_left_hangs_up_too(server: RawServer) -> None:
    server.answers([stream_head(), says("a"), 10.0])

    with Client(server.url, TOKEN, max_connections=1) as client:
        for _ in client.stream_chat("bot", "Hi"):
            break
        assert server.asked[0].gone.wait(9)
        server.answers(ANSWER)
        client.query("iris", body={"inputs": [1]})


def test_an_async_loop_that_is_left_hangs_up_too(server: RawServer) -> None:
    server.answers([stream_head(), says("a"), 10.0])

    async def main() -> None:
        async with AsyncClient(server.url, TOKEN, max_connections=1) as client:
            async for _ in client.stream_chat("bot", "Hi"):
                break
            assert await asyncio.to_thread(server.asked[0].gone.wait, 9)
            server.answers(ANSWER)
            await client.query("iris", body={"inputs": [1]})

    asyncio.run(main())


@pytest.mark.parametrize("method", ["query", "stream_chat"])
def test_cancelling_hangs_up(server: RawServer, method: str) -> None:
    begun: list[Act] = [] if method == "query" else [stream_head(), says("a")]
    server.answers([*begun, 10.0])

    async def work(client: AsyncClient) -> None:
        if method == "query":
            await client.query("iris", body={"inputs": [1]})
        async for _ in client.stream_chat("bot", "Hi"):
            pass

    async def main() -> None:
        async with AsyncClient(server.url, TOKEN) as client:
            task = asyncio.create_task(work(client))
            assert await asyncio.to_thread(server.arrived.wait, 5)
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(server.asked[0].gone.wait, 9)
            server.answers(ANSWER)  # and the client goes on
            await client.query("iris", body={"inputs": [1]})

    asyncio.run(main())


def test_a_stream_that_nobody_reads_asks_nothing(server: RawServer) -> None:
    with Client(server.url, TOKEN) as client:
        client.stream_chat("bot", "Hi").close()

    assert not server.asked


def test_closing_ends_another_threads_wait(server: RawServer) -> None:
    server.answers([stream_head(), says("a"), 20.0])
    ended: list[BaseException] = []

    with Client(server.url, TOKEN) as client:
        stream = client.stream_chat("bot", "Hi")
        next(stream)

        def read() -> None:
            with pytest.raises((ConnectionFailed, StopIteration)) as caught:
                next(stream)
            ended.append(caught.value)

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        time.sleep(0.2)
        stream.close()
        reader.join(10)

    assert len(ended) == 1
