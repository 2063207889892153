"""The front's end of the worker protocol: connections to replicas by their address.

An address is `unix:PATH#SECRET`: the worker's socket, and the secret that a hello must repeat.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import Any, cast

import orjson

from lakeport.runtimes.base import (
    Answer,
    Call,
    Link,
    ReplicaLost,
    StreamFailed,
    Take,
    Taken,
)
from lakeport.runtimes.local import notes
from lakeport.worker import protocol
from lakeport.worker.protocol import Frame, FrameReader, ProtocolError

log = logging.getLogger(__name__)

#: Seconds for a worker to greet: one that is row-wise may be in the middle of a long predict.
WELCOME_TIMEOUT = 30.0
#: Bodies up to this size are copied behind their head; larger ones are written on their own.
_SMALL = 64 * 1024
#: What came of a call whose caller had gone.
_LEFT = Answer(protocol.LEFT, b"")
_LOST = "The replica ended, or its connection broke, while it held the request."


class UnixConnector:
    """Connects to workers on this machine."""

    def __init__(self, *, welcome_timeout: float = WELCOME_TIMEOUT) -> None:
        self._welcome_timeout = welcome_timeout

    async def connect(self, address: str) -> Link:
        """Raises ReplicaLost; ValueError for what is no address."""
        path, secret = _parse(address)
        loop = asyncio.get_running_loop()
        link = WorkerLink(loop)
        try:
            async with asyncio.timeout(self._welcome_timeout):
                await loop.create_unix_connection(lambda: link, path)
                await link.greet(secret)
        except TimeoutError as error:
            raise ReplicaLost("The replica did not greet in time.") from error
        except OSError as error:
            raise ReplicaLost("The replica is not there.") from error
        finally:
            if not link.greeted:
                link.close()
        return link


class WorkerLink(asyncio.Protocol):
    """One connection; made by `UnixConnector`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.WriteTransport | None = None
        self._reader = FrameReader(protocol.MAX_ANSWER)
        self._welcome: asyncio.Future[int] = loop.create_future()
        self._lost: asyncio.Future[None] = loop.create_future()
        self._last_id = 0
        self._pending: dict[int, Taken] = {}
        self._streams: dict[int, _Chunks] = {}
        #: Cancelled, and the worker has not said yet that it is done with them.
        self._abandoned: dict[int, Taken] = {}
        self._credit = 0

    # --- Link -----------------------------------------------------------------------------------

    @property
    def credit(self) -> int:
        return self._credit

    @property
    def outstanding(self) -> int:
        return len(self._pending) + len(self._streams) + len(self._abandoned)

    @property
    def lost(self) -> "asyncio.Future[None]":
        return self._lost

    def send(self, call: Call, taken: Taken) -> "_Sending":
        self._last_id = id = self._last_id + 1
        sending = _Sending(self, id)
        if self._transport is None:
            taken(ReplicaLost(_LOST))
            return sending
        self._pending[id] = taken
        body = call.body
        size = len(body)
        left = int((call.deadline - time.monotonic()) * 1000)
        head = protocol.head(protocol.CALL, id, body_size=size, note=notes.note_of(call), time=left)
        if size <= _SMALL:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._transport.write(body)
        return sending

    def close(self) -> None:
        """What is outstanding fails with ReplicaLost, soon."""
        if self._transport is not None:
            self._transport.abort()

    # --- the start ------------------------------------------------------------------------------

    @property
    def greeted(self) -> bool:
        return self._credit > 0

    async def greet(self, secret: str) -> None:
        """Say hello and wait for the welcome. Raises ReplicaLost."""
        note = orjson.dumps({"protocol": protocol.VERSION, "secret": secret})
        self._write(protocol.frame(protocol.HELLO, 0, note=note))
        self._credit = await self._welcome

    # --- asyncio.Protocol -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._reader.feed(data):
                self._received(frame)
        except (ProtocolError, ValueError, TypeError):  # the last two: a note that is none
            log.warning("a worker broke the protocol; its connection is closed", exc_info=True)
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if not self._welcome.done():
            self._welcome.set_exception(ReplicaLost("The replica did not greet."))
            self._welcome.exception()  # nobody may be waiting for it any more
        if not self._lost.done():
            self._lost.set_result(None)
        pending, self._pending = {**self._pending, **self._abandoned}, {}
        self._abandoned = {}
        streams, self._streams = self._streams, {}
        for taken in pending.values():
            taken(ReplicaLost(_LOST))
        for chunks in streams.values():
            chunks.end(ReplicaLost(_LOST))

    # --- frames ---------------------------------------------------------------------------------

    def _received(self, frame: Frame) -> None:
        # A note is read before its call is let go: a bad one ends the link with all that it holds.
        if frame.kind == protocol.ANSWER:
            answer = notes.answer_of(frame)
            taken = self._pending.pop(frame.id, None)  # None: it was cancelled
            if taken is not None:
                taken(answer)
            else:
                self._done_with(frame.id)
        elif frame.kind == protocol.CHUNK:
            if (chunks := self._streams.get(frame.id)) is not None:
                chunks.add(frame.body)
        elif frame.kind == protocol.STREAM:
            note = notes.note_in(frame)
            taken = self._pending.pop(frame.id, None)
            if taken is not None:
                self._streams[frame.id] = chunks = _Chunks(self._loop)
                taken(WorkerStream(self, frame.id, chunks, note))
            else:  # it ends with its first chunk
                self._done_with(frame.id)
        elif frame.kind == protocol.END:
            error = notes.note_in(frame).get("error")
            failure = StreamFailed(*notes.error_in(error)) if error else None
            chunks = self._streams.pop(frame.id, None)
            if chunks is not None:
                chunks.end(failure)
        elif frame.kind == protocol.WELCOME and not self._welcome.done():
            self._welcome.set_result(notes.credit_in(frame))
        else:
            raise ProtocolError(f"a frame of kind {frame.kind} at the wrong moment")

    def cancel(self, id: int) -> bool:
        """The caller of a call has gone; see `Sending.cancel`."""
        taken = self._pending.pop(id, None)
        if taken is not None:
            self._abandoned[id] = taken
        if taken is not None or self._streams.pop(id, None) is not None:
            self._write(protocol.frame(protocol.CANCEL, id))
        return id in self._abandoned

    def _done_with(self, id: int) -> None:
        """The worker no longer holds a call that was cancelled."""
        taken = self._abandoned.pop(id, None)
        if taken is not None:
            taken(_LEFT)

    def allow(self, id: int, chunks: int) -> None:
        """Let a stream send that many chunks more."""
        if id in self._streams:
            self._write(protocol.frame(protocol.MORE, id, time=chunks))

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


class _Sending:
    """A call that the worker holds."""

    __slots__ = ("_id", "_link")

    def __init__(self, link: WorkerLink, id: int) -> None:
        self._link = link
        self._id = id

    def cancel(self) -> bool:
        return self._link.cancel(self._id)


class _Chunks:
    """Chunks on their way from the connection to the iterator."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.ready: deque[bytes] = deque()
        self.ended = False
        self.error: Exception | None = None
        self._loop = loop
        self._waiter: asyncio.Future[None] | None = None

    def add(self, chunk: bytes) -> None:
        if len(self.ready) >= protocol.STREAM_WINDOW:
            raise ProtocolError("more chunks than were asked for")
        self.ready.append(chunk)
        self._wake()

    def end(self, error: Exception | None) -> None:
        self.ended = True
        self.error = error
        self._wake()

    async def wait(self) -> None:
        """Until there is a chunk, or the end."""
        while not self.ready and not self.ended:
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class WorkerStream:
    """An answer in pieces. One that is dropped without being closed closes itself: otherwise its
    worker's thread would wait for ever."""

    def __init__(self, link: WorkerLink, id: int, chunks: _Chunks, note: Mapping[str, Any]) -> None:
        self._link = link
        self._id = id
        self._chunks = chunks
        self._taken = 0
        self.client_request_id: str | None = note.get("client_request_id")
        self.usage_context: Mapping[str, str] | None = note.get("usage_context")

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        chunks = self._chunks
        await chunks.wait()
        if chunks.ready:
            self._count()
            return chunks.ready.popleft()
        if chunks.error is not None:
            raise chunks.error
        raise StopAsyncIteration

    def push(self, take: Take) -> bool:
        return False

    def close(self) -> None:
        self._chunks.ready.clear()
        if not self._chunks.ended:
            self._chunks.end(None)
            self._link.cancel(self._id)

    def __del__(self) -> None:
        self.close()

    def _count(self) -> None:
        """Half a window taken: ask for as many more."""
        self._taken += 1
        if self._taken == protocol.STREAM_WINDOW // 2:
            self._link.allow(self._id, self._taken)
            self._taken = 0


def _parse(address: str) -> tuple[str, str]:
    scheme, _, rest = address.partition(":")
    path, mark, secret = rest.rpartition("#")
    if scheme != "unix" or not mark or not path:
        raise ValueError("a replica's address has the form unix:PATH#SECRET")
    return path, secret
