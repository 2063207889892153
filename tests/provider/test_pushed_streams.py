"""An engine's stream, pushed: the events that iterating gives, without one who waits for each."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from lakeport.providers.stream import MAX_EVENT
from lakeport.runtimes.base import ReplicaLost, Stream, StreamFailed
from tests.provider.client import call, linked, stream_of, words
from tests.provider.provider import Asked, Out, chunk, running
from tests.provider.test_engine_streams import HEAD, WAYS, _silent_after_one, breaks, says
from tests.provider.test_engines import engine


class Taker:
    """Takes `at_once` events, and no more until it is asked to go on."""

    def __init__(self, stream: Stream, at_once: int = 1 << 30) -> None:
        self.got: list[bytes | Exception | None] = []
        self.ended = asyncio.Event()
        self.full = asyncio.Event()
        self._stream = stream
        self._at_once = at_once
        self._left = 0

    def go_on(self) -> None:
        self._left = self._at_once
        self.full.clear()
        assert self._stream.push(self)

    def __call__(self, event: bytes | Exception | None) -> bool:
        assert not self.ended.is_set(), "called after the end"
        self.got.append(event)
        if not isinstance(event, bytes):
            self.ended.set()
        self._left -= 1
        if self._left <= 0:
            self.full.set()
        return self._left > 0

    async def all(self) -> list[bytes | Exception | None]:
        self.go_on()
        async with asyncio.timeout(10):
            while not self.ended.is_set():
                waits = [asyncio.create_task(e.wait()) for e in (self.ended, self.full)]
                _, left = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                for task in left:
                    task.cancel()
                if not self.ended.is_set():
                    self.go_on()
        return self.got


def documents(got: Sequence[bytes | Exception | None]) -> list[dict[str, object]]:
    assert got[-1] is None, got[-1]
    return [json.loads(event) for event in got[:-1] if isinstance(event, bytes)]


@pytest.mark.parametrize("at_once", [1, 2, 1000])
@pytest.mark.parametrize("size", [1, 7, 2**20])
@pytest.mark.parametrize("way", WAYS)
async def test_what_is_pushed_is_what_iterating_gives(
    tmp_path: Path, way: str, size: int, at_once: int
) -> None:
    path = tmp_path / "e.sock"
    async with running(says(WAYS[way], size=size), socket=path) as server, engine(path) as link:  # type: ignore[arg-type]
        got = await Taker(await stream_of(link, call(stream=True)), at_once).all()
        await server.until_open(0)
        assert link.outstanding == 0
    assert words(documents(got)) == "Grüße 日本"


@pytest.mark.parametrize("reset", [True, False])
async def test_a_break_in_mid_stream_is_told(tmp_path: Path, reset: bool) -> None:
    path = tmp_path / "e.sock"
    async with running(breaks(reset=reset), socket=path), engine(path) as link:
        *events, why = await Taker(await stream_of(link, call(stream=True))).all()
        assert link.outstanding == 0
    assert len(events) == 1
    assert isinstance(why, StreamFailed)
    assert "broke off" in why.message


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"data: nonsense\n\n", "not JSON"),
        (b'data: {"error": {"message": "no more memory"}}\n\n', "no more memory"),
        (b"data: " + b"x" * (MAX_EVENT + 1) + b"\n\n", "more than"),
    ],
)
async def test_a_bad_event_ends_it_with_the_reason(tmp_path: Path, data: bytes, said: str) -> None:
    first = b"data: " + json.dumps(chunk("Hi")).encode() + b"\n\n"
    path = tmp_path / "e.sock"
    async with running(says(HEAD + b"\r\n" + first + data), socket=path), engine(path) as link:  # type: ignore[arg-type]
        *events, why = await Taker(await stream_of(link, call(stream=True))).all()
        assert link.outstanding == 0
    assert len(events) == 1
    assert isinstance(why, StreamFailed)
    assert said in why.message


async def test_events_like_the_last_are_judged_no_less(tmp_path: Path) -> None:
    """Those of llama.cpp, which begin alike; among them one that is not as it seems."""

    def event(said: str, more: str = "") -> bytes:
        begin = '{"choices":[{"finish_reason":null,"index":0,"delta":{"content":'
        return f"data: {begin}{json.dumps(said)}}}}}]{more}}}\n\n".encode()

    tricky = 'so he said: "delta": {"error" and "finish_reason":"stop"'
    proper = event("Hi") + event(tricky) + event("!")
    end = b'data: {"choices":[{"finish_reason":"stop","index":0,"delta":{}}]}\n\n'
    failed = event("Hi") + event("!", ',"error":{"message":"no more memory"}')
    second = event("Hi") + event("!", ',"x":[{"finish_reason":null,"index":1,"delta":{}}]')
    path = tmp_path / "e.sock"
    for body, why in ((proper + end, None), (proper, "broke off"), (failed, "no more memory")):
        async with running(says(HEAD + b"\r\n" + body), socket=path), engine(path) as link:  # type: ignore[arg-type]
            *events, last = await Taker(await stream_of(link, call(stream=True))).all()
        assert (last is None) == (why is None)
        assert why is None or why in str(last)
        if why is None:
            assert words(documents([*events, None])) == f"Hi{tricky}!"
    async with running(says(HEAD + b"\r\n" + second + end), socket=path), engine(path) as link:  # type: ignore[arg-type]
        assert len(await Taker(await stream_of(link, call(stream=True))).all()) == 4


async def test_closing_it_ends_the_work_and_is_not_told(tmp_path: Path) -> None:
    path = tmp_path / "e.sock"
    async with running(_silent_after_one, socket=path) as server, engine(path) as link:
        stream = await stream_of(link, call(stream=True))
        taker = Taker(stream)
        taker.go_on()
        stream.close()
        await server.until_open(0)
        assert len(taker.got) == 1
        assert link.outstanding == 0


async def test_a_taker_may_close_it(tmp_path: Path) -> None:
    path = tmp_path / "e.sock"
    async with running(says(WAYS["chunked"]), socket=path) as server, engine(path) as link:  # type: ignore[arg-type]
        stream = await stream_of(link, call(stream=True))
        got: list[object] = []

        def take(event: bytes | Exception | None) -> bool:
            got.append(event)
            stream.close()
            return False

        assert stream.push(take)
        await server.until_open(0)
        assert len(got) == 1


async def test_a_link_that_is_closed_is_told(tmp_path: Path) -> None:
    path = tmp_path / "e.sock"
    async with running(_silent_after_one, socket=path), engine(path) as link:
        taker = Taker(await stream_of(link, call(stream=True)))
        taker.go_on()
        link.close()
        assert isinstance(taker.got[-1], ReplicaLost)


async def test_silence_ends_it(tmp_path: Path) -> None:
    path = tmp_path / "e.sock"
    async with running(_silent_after_one, socket=path), engine(path, idle_timeout=0.1) as link:
        *_, why = await Taker(await stream_of(link, call(stream=True))).all()
    assert isinstance(why, StreamFailed)
    assert "sent nothing for 0.1 seconds" in why.message


async def test_who_takes_no_more_for_a_while_is_not_the_engines_silence(tmp_path: Path) -> None:
    async def in_two_pieces(asked: Asked, out: Out) -> None:
        await out.begin()
        await out.event(chunk("Hi"))
        await asyncio.sleep(0.05)  # now it is waited for
        for _ in range(3):
            await out.event(chunk("Hi"))
        await out.event(chunk(finish="stop"))
        await out.end()

    path = tmp_path / "e.sock"
    async with running(in_two_pieces, socket=path), engine(path, idle_timeout=0.6) as link:
        taker = Taker(await stream_of(link, call(stream=True)), at_once=2)
        taker.go_on()
        async with asyncio.timeout(10):
            await taker.full.wait()
        await asyncio.sleep(0.9)  # longer than an engine may be silent
        got = await taker.all()
    assert words(documents(got)) == "Hi" * 4


async def test_who_takes_no_more_bounds_what_is_read(tmp_path: Path) -> None:
    sent = 0

    async def flood(asked: Asked, out: Out) -> None:
        nonlocal sent
        await out.begin()
        while sent < 50_000_000:
            await out.event(chunk("x" * 10_000))
            sent += 10_000

    path = tmp_path / "e.sock"
    async with running(flood, socket=path), engine(path) as link:
        stream = await stream_of(link, call(stream=True))
        taker = Taker(stream, at_once=3)
        taker.go_on()
        before = -1
        while sent != before:
            before = sent
            await asyncio.sleep(0.2)
        assert before < 20_000_000
        for _ in range(100):
            taker.go_on()
            async with asyncio.timeout(10):
                await taker.full.wait()
        stream.close()
    assert len(taker.got) == 303


async def test_a_stream_over_tcp_is_iterated() -> None:
    async with running() as provider, linked(provider.url) as link:
        stream = await stream_of(link, call(stream=True))
        assert not stream.push(lambda event: True)
        assert [event async for event in stream]
