"""Streams over an engine's socket: whole whatever way they come, and honest when they fail."""

import asyncio
import json
import tracemalloc
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lakeport.providers.over_socket import MAX_HEAD, NotHttp, SocketAnswer
from lakeport.runtimes.base import ReplicaLost, StreamFailed
from tests.provider.client import answer_of, call, problem, stream_of, taken, words
from tests.provider.provider import Asked, Out, chunk, running
from tests.provider.test_engines import KEY, engine
from tests.sending import Sent

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: Text/Event-Stream; charset=utf-8\r\n"
BODY = b"".join(
    b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n"
    for event in (chunk("Grüße "), chunk("日本"), chunk(finish="stop"))
)
CHUNKED = b"".join(
    b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (BODY[:5], BODY[5:90], BODY[90:], b"data: ")
)
CHUNKED += b"8\r\n[DONE]\n\n\r\n0\r\nTrailer: none\r\n\r\n"
WAYS = {
    "chunked": HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKED,
    "length": HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY,
    "until it closes": HEAD + b"\r\n" + BODY,
    "after another head": b"HTTP/1.1 100 Continue\r\nX: y\r\n\r\n" + HEAD + b"\r\n" + BODY,
}


def says(data: bytes, *, size: int = 2**20) -> Callable[[Asked, Out], object]:
    """A server that answers with these bytes, `size` at a time, and closes."""

    async def behave(asked: Asked, out: Out) -> None:
        out.keep = False
        for start in range(0, len(data), size):
            await out.raw(data[start : start + size])
            await asyncio.sleep(0)

    return behave


@pytest.mark.parametrize("size", [1, 7, 2**20])
@pytest.mark.parametrize("way", WAYS)
async def test_a_stream_is_whole_whatever_way_it_comes(tmp_path: Path, way: str, size: int) -> None:
    path = tmp_path / "e.sock"
    async with running(says(WAYS[way], size=size), socket=path) as server, engine(path) as link:  # type: ignore[arg-type]
        events = await taken(await stream_of(link, call({"text": "ü"}, stream=True)))
        await server.until_open(0)
        assert link.outstanding == 0
    assert words(events) == "Grüße 日本"
    [asked] = server.asked
    assert (asked.method, asked.path) == ("POST", "/v1/chat/completions")
    assert asked.document["text"] == "ü"
    expected = {"host": "engine", "authorization": f"Bearer {KEY}", "connection": "close"}
    expected |= {"content-type": "application/json", "accept-encoding": "identity"}
    assert {name: asked.headers.get(name) for name in expected} == expected


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "broke off"),
        (b"HTTP/1.1 200 OK\r\nContent-Ty", "broke off"),
        (b"\x16\x03\x01 no HTTP at all\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * (2 * MAX_HEAD), "not HTTP"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", "broke off"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", "not HTTP"),
        (HEAD + b"Content-Length: 5\r\n\r\ndata", "broke off"),
        (HEAD + b"\r\n", "before it had begun"),
        (b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", "redirect"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "whole answer although"),
    ],
)
async def test_what_fails_before_the_first_event_has_a_status(
    tmp_path: Path, data: bytes, said: str
) -> None:
    path = tmp_path / "e.sock"
    async with running(says(data), socket=path) as server, engine(path) as link:  # type: ignore[arg-type]
        answer = await answer_of(link, call(stream=True))
        await server.until_open(0)
        assert link.outstanding == 0
    assert answer.status == 502
    assert said in problem(answer)
    assert len(server.asked) == 1, "a fresh connection that breaks is not asked for again"


async def test_a_refusal_keeps_its_status_and_its_wait(tmp_path: Path) -> None:
    async def busy(asked: Asked, out: Out) -> None:
        error = {"error": {"message": "no slot is free", "code": 503}}
        await out.whole(error, 503, {"retry-after": "7"})

    path = tmp_path / "e.sock"
    async with running(busy, socket=path), engine(path) as link:
        answer = await answer_of(link, call(stream=True))
    assert (answer.status, answer.retry_after) == (503, 7)
    assert json.loads(answer.body)["error"]["message"] == "no slot is free"


def breaks(*, reset: bool) -> Callable[[Asked, Out], Awaitable[None]]:
    """A server that closes, or resets, behind the first event."""

    async def behave(asked: Asked, out: Out) -> None:
        await out.begin()
        await out.event(chunk("Hi"))
        await asyncio.sleep(0.02)
        out.keep = False
        if reset:
            out.reset()

    return behave


@pytest.mark.parametrize("reset", [True, False])
async def test_a_break_in_mid_stream_fails_it(tmp_path: Path, reset: bool) -> None:
    path = tmp_path / "e.sock"
    async with running(breaks(reset=reset), socket=path), engine(path) as link:
        stream = await stream_of(link, call(stream=True))
        events = aiter(stream)
        assert json.loads(await anext(events)) == chunk("Hi")
        with pytest.raises(StreamFailed, match="broke off"):
            await anext(events)
        assert link.outstanding == 0


async def _silent_after_one(asked: Asked, out: Out) -> None:
    await out.begin()
    await out.event(chunk("Hi"))
    await asyncio.sleep(60)


async def test_closing_a_stream_or_the_link_ends_who_waits_and_the_work(tmp_path: Path) -> None:
    path = tmp_path / "e.sock"
    async with running(_silent_after_one, socket=path) as server, engine(path) as link:
        stream = await stream_of(link, call(stream=True))
        taking = asyncio.create_task(taken(stream))
        await asyncio.sleep(0.02)
        stream.close()
        assert len(await taking) == 1
        await server.until_open(0)

        taking = asyncio.create_task(taken(await stream_of(link, call(stream=True))))
        await asyncio.sleep(0.02)
        link.close()
        with pytest.raises(ReplicaLost):
            await taking
        await server.until_open(0)


async def test_a_call_cancelled_at_any_moment_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "e.sock"
    async with running(socket=path) as server, engine(path) as link:
        for turns in range(40):
            future = Sent(link, call(stream=True))
            for _ in range(turns):
                await asyncio.sleep(0)
            if not future.cancel():
                future.result().close()  # type: ignore[union-attr]
            assert link.outstanding == 0
        await server.until_open(0)


async def test_a_slow_taker_bounds_what_is_read_ahead(tmp_path: Path) -> None:
    sent = 0

    async def flood(asked: Asked, out: Out) -> None:
        nonlocal sent
        await out.begin()
        while sent < 50_000_000:
            await out.event(chunk("x" * 10_000))
            sent += 10_000

    path = tmp_path / "e.sock"
    async with running(flood, socket=path), engine(path) as link:
        tracemalloc.start()
        try:
            stream = await stream_of(link, call(stream=True))
            before = -1
            while sent != before:  # until the server cannot send more
                before = sent
                await asyncio.sleep(0.2)
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        events = aiter(stream)
        got = [len(await anext(events)) for _ in range(1000)]  # and it goes on
        stream.close()
    assert before < 20_000_000, "sockets hold a few megabytes at most"
    assert held < 2_000_000
    assert min(got) > 10_000


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(WAYS)), st.lists(st.integers(0, 600), max_size=6))
def test_cuts_change_nothing(way: str, cuts: list[int]) -> None:
    data = WAYS[way]
    bounds = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})

    async def take() -> bytes:
        answer = SocketAnswer(2**20)
        for start, end in pairwise(bounds):
            answer.data_received(data[start:end])
        answer.connection_lost(None)
        await answer.head()
        got = b""
        while piece := await answer.readany():
            got += piece
        assert (answer.status, answer.content_type) == (200, "text/event-stream")
        return got

    assert asyncio.run(take()).removesuffix(b"data: [DONE]\n\n") == BODY


CHUNKS_HEAD = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "pieces",
    [
        [b"3\r\nabc\r\n", b"A\r\n0123456789\r\n", b"0\r\n\r\n"],
        [
            b"3\r\nabc\r\n3\r\nabc\r\n",
            b"3\r\nabc\r\n",
            b"1",
            b"0\r\n0123456789abcdef\r\n",
            b"0\r\n\r\n",
        ],
        [b"3;x=y\r\nabc\r\n", b"3;x=y\r\nabc\r\n", b"3\r\nabc\r", b"\n", b"0\r\n\r\n"],
        [b"3\r\nabc\r\n", b"6\r\na\r\nb\r\n\r\n", b"6\r\n3\r\na\r\n\r\n", b"0\r\n\r\n"],
        [b"3\r\nabc\r\n", b"8\r\nabc\r\n1\r\n", b"\r\n", b"0\r\n\r\n"],
        [b"3\r\nabc\r\n", b"4\r\n", b"ab\r\n", b"\r\n", b"0\r\n\r\n"],
        [b"3\r\nabc\r\n", b"2", b"2\r\n" + b"x" * 34 + b"\r\n", b"0\r\n\r\n"],
        [b"3\r\nabc\r\n", b"0003\r\nabc\r\n", b"00\r\n\r\n"],
    ],
)
async def test_chunks_that_come_by_themselves_are_read_like_all_others(
    pieces: list[bytes],
) -> None:
    by_itself, whole = SocketAnswer(2**20), SocketAnswer(2**20)
    by_itself.data_received(CHUNKS_HEAD)
    for piece in pieces:
        by_itself.data_received(piece)
    whole.data_received(CHUNKS_HEAD + b"".join(pieces))
    assert by_itself.read_nowait() == whole.read_nowait() != b""
    assert (by_itself.at_eof(), whole.at_eof()) == (True, True)


@pytest.mark.parametrize(
    "piece", [b"0x3\r\nabc\r\n", b"+3\r\nabc\r\n", b"3 4\r\nabcd", b"g\r\nx\r\n"]
)
async def test_what_is_no_chunk_is_refused(piece: bytes) -> None:
    answer = SocketAnswer(2**20)
    answer.data_received(CHUNKS_HEAD + b"3\r\nabc\r\n")
    assert answer.read_nowait() == b"abc"
    answer.data_received(piece)
    with pytest.raises(NotHttp):
        answer.read_nowait()
