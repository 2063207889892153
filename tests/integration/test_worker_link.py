"""The front's link against a peer that is scripted here: what no real worker would do."""

import asyncio
import gc
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from lakeport.runtimes.base import Answer, Call, Link, ReplicaLost
from lakeport.runtimes.local.link import UnixConnector
from lakeport.wire.chat import Operation
from lakeport.worker import protocol
from lakeport.worker.protocol import Frame, FrameReader
from tests.sending import Sent

WELCOME = protocol.frame(protocol.WELCOME, 0, note=b'{"protocol": 1, "credit": 64}')


class Peer:
    """The worker's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._frames = FrameReader(2**32)
        self._read: list[Frame] = []
        self.send = writer.write

    async def frame(self) -> Frame:
        while not self._read:
            data = await self._reader.read(65536)
            assert data, "the link was closed"
            self._read += self._frames.feed(data)
        return self._read.pop(0)


@asynccontextmanager
async def linked(welcome: bytes = WELCOME, **options: float) -> AsyncIterator[tuple[Link, Peer]]:
    peers: asyncio.Queue[Peer] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        assert (await peer.frame()).kind == protocol.HELLO
        peer.send(welcome)
        peers.put_nowait(peer)

    with TemporaryDirectory(prefix="lp", dir="/tmp") as folder:
        path = Path(folder, "s")
        async with await asyncio.start_unix_server(serve, path):
            link = await UnixConnector(**options).connect(f"unix:{path}#secret")
            try:
                yield link, await peers.get()
            finally:
                link.close()
                await link.lost


def call(body: bytes = b"{}", content_type: str | None = "application/json") -> Call:
    return Call(body, content_type, None, time.monotonic() + 60)


async def test_a_plain_call_brings_no_note_and_others_do() -> None:
    async with linked() as (link, peer):
        routed = Call(b"{}", "application/json", None, time.monotonic() + 60, route=Operation.CHAT)
        calls = [
            Sent(link, call()),
            Sent(link, call(b"a\n1\n", "text/csv")),
            Sent(link, routed),
        ]

        plain, csv = await peer.frame(), await peer.frame()
        chat = json.loads((await peer.frame()).note)

        assert (plain.kind, plain.form, plain.note, plain.body) == (protocol.CALL, 0, b"", b"{}")
        assert 59_000 < plain.time <= 60_000
        assert json.loads(csv.note) == {
            "content_type": "text/csv",
            "content_encoding": None,
            "operation": None,
        }
        assert (chat["content_type"], chat["operation"]) == ("application/json", "chat/completions")
        assert csv.body == b"a\n1\n"
        assert csv.id != plain.id
        assert link.outstanding == len(calls)


async def test_a_large_body_arrives_whole() -> None:
    async with linked() as (link, peer):
        body = bytes(range(256)) * 40_000

        future = Sent(link, call(body))

        assert (await peer.frame()).body == body
        assert not future.done()


async def test_answers_in_any_order_find_their_calls() -> None:
    async with linked() as (link, peer):
        first, second = Sent(link, call()), Sent(link, call())
        ids = [(await peer.frame()).id, (await peer.frame()).id]

        peer.send(protocol.frame(protocol.ANSWER, ids[1], b"2", status=200, time=1500))
        peer.send(protocol.frame(protocol.ANSWER, ids[0], b"1", status=200))

        assert await second == Answer(200, b"2", seconds=0.0015)
        assert await first == Answer(200, b"1")


@pytest.mark.parametrize("kind", [protocol.ANSWER, protocol.STREAM])
async def test_a_call_that_is_cancelled_keeps_its_place_until_the_worker_is_done(kind: int) -> None:
    told: list[object] = []
    async with linked() as (link, peer):
        sending = link.send(call(), told.append)
        id = (await peer.frame()).id

        assert sending.cancel()
        assert sending.cancel()

        assert (await peer.frame()).kind == protocol.CANCEL
        assert link.outstanding == 1
        assert told == []
        peer.send(protocol.frame(kind, id, status=protocol.LEFT))
        other = Sent(link, call())
        peer.send(protocol.frame(protocol.ANSWER, (await peer.frame()).id, status=200))
        await other
        assert link.outstanding == 0
        assert len(told) == 1
        assert not sending.cancel()


async def test_a_lost_replica_holds_nothing_for_callers_who_left() -> None:
    told: list[object] = []
    async with linked() as (link, peer):
        sending = link.send(call(), told.append)
        await peer.frame()
        sending.cancel()
        link.close()
        await link.lost
        await asyncio.sleep(0)
        assert link.outstanding == 0
        assert [type(one) for one in told] == [ReplicaLost]


async def test_cancelling_a_call_tells_the_worker_and_its_late_answer_is_nothing() -> None:
    async with linked() as (link, peer):
        future = Sent(link, call())
        id = (await peer.frame()).id

        task = asyncio.create_task(asyncio.wait_for(future, 60))
        await asyncio.sleep(0)
        task.cancel()

        cancelled = await peer.frame()
        assert (cancelled.kind, cancelled.id) == (protocol.CANCEL, id)
        peer.send(protocol.frame(protocol.ANSWER, id, b"late", status=200))
        peer.send(protocol.frame(protocol.STREAM, id, status=200))
        peer.send(protocol.frame(protocol.CHUNK, id, b"late"))
        peer.send(protocol.frame(protocol.END, id))
        again = Sent(link, call())
        peer.send(protocol.frame(protocol.ANSWER, (await peer.frame()).id, b"on time", status=200))
        assert await again == Answer(200, b"on time")


@pytest.mark.parametrize("end", ["close", "drop"])
async def test_a_stream_that_nobody_reads_on_is_cancelled(end: str) -> None:
    async with linked() as (link, peer):
        future = Sent(link, call())
        id = (await peer.frame()).id
        peer.send(protocol.frame(protocol.STREAM, id, note=b'{"client_request_id":"r"}'))
        peer.send(protocol.frame(protocol.CHUNK, id, b"1"))
        stream = await future
        assert not isinstance(stream, Answer)

        if end == "close":
            stream.close()
            assert [chunk async for chunk in stream] == []
        del stream, future
        gc.collect()

        cancelled = await peer.frame()
        assert (cancelled.kind, cancelled.id) == (protocol.CANCEL, id)


async def test_more_is_asked_for_when_half_the_window_is_taken() -> None:
    async with linked() as (link, peer):
        future = Sent(link, call())
        id = (await peer.frame()).id
        peer.send(protocol.frame(protocol.STREAM, id))
        for number in range(protocol.STREAM_WINDOW):
            peer.send(protocol.frame(protocol.CHUNK, id, b"%d" % number))
        stream = await future
        assert not isinstance(stream, Answer)

        taken = 0
        async for _ in stream:
            taken += 1
            if taken == protocol.STREAM_WINDOW // 2:
                break

        more = await peer.frame()
        assert (more.kind, more.id) == (protocol.MORE, id)
        assert more.time == protocol.STREAM_WINDOW // 2


#: What a peer sends for a call, against the rules.
BREACHES: list[Callable[[int], bytes]] = [
    lambda _: b"\xff" * 64,
    lambda _: WELCOME,
    lambda _: protocol.frame(protocol.HELLO, 0),
    lambda call: protocol.frame(protocol.ANSWER, call, note=b"{", status=400),
    lambda call: protocol.frame(protocol.ANSWER, call, note=b"[]", status=400),
    lambda call: protocol.frame(protocol.ANSWER, call, note=b'{"error": 1}', status=400),
    lambda call: protocol.head(protocol.ANSWER, call, body_size=protocol.MAX_ANSWER + 1),
    lambda call: protocol.frame(protocol.STREAM, call) + protocol.frame(protocol.CHUNK, call) * 100,
]


@pytest.mark.parametrize("breach", BREACHES)
async def test_a_worker_that_breaks_the_rules_is_lost(breach: Callable[[int], bytes]) -> None:
    async with linked() as (link, peer):
        outstanding = [Sent(link, call()), Sent(link, call())]

        peer.send(breach((await peer.frame()).id))

        await link.lost
        assert link.outstanding == 0
        with pytest.raises(ReplicaLost):
            await outstanding[1]
        with pytest.raises(ReplicaLost):
            await Sent(link, call())


@pytest.mark.parametrize("kind", [protocol.ANSWER, protocol.STREAM])
async def test_a_call_whose_answer_cannot_be_read_is_told_so(kind: int) -> None:
    async with linked() as (link, peer):
        asked = Sent(link, call())

        peer.send(protocol.frame(kind, (await peer.frame()).id, note=b"{", status=200))

        with pytest.raises(ReplicaLost):
            await asyncio.wait_for(asked, 10)


async def test_a_stream_whose_end_cannot_be_read_ends() -> None:
    async with linked() as (link, peer):
        asked = Sent(link, call())
        id = (await peer.frame()).id
        peer.send(protocol.frame(protocol.STREAM, id))
        stream = await asked
        assert not isinstance(stream, Answer)

        peer.send(protocol.frame(protocol.END, id, note=b'{"error": 1}'))

        with pytest.raises(ReplicaLost):
            await asyncio.wait_for(anext(aiter(stream)), 10)


@pytest.mark.parametrize(
    "welcome",
    [
        protocol.frame(protocol.WELCOME, 0),
        protocol.frame(protocol.WELCOME, 0, note=b'{"protocol": 2, "credit": 64}'),
        protocol.frame(protocol.WELCOME, 0, note=b'{"protocol": 1, "credit": 0}'),
        protocol.frame(protocol.ANSWER, 0),
        b"",
    ],
)
async def test_a_worker_that_does_not_welcome_is_lost(welcome: bytes) -> None:
    with pytest.raises(ReplicaLost):
        async with linked(welcome, welcome_timeout=0.05):
            pass
