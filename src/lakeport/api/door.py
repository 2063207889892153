"""One connection: requests in, answers out, in order.

`Reader` turns bytes into requests. Each is an `Exchange`: the lane's, or the bridge's to the ASGI
application. The door holds them in the order in which they came, gives each its turn, and ends the
connection when its time is up. Deadlines are looked at by one sweep a server (`api/server.py`), so
that they cost a request next to nothing. docs/internals/door.md has the promises.
"""

import asyncio
from collections import deque
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.utils import get_local_addr, get_remote_addr
from uvicorn.server import ServerState

from lakeport.api.bridge import Cycle, scope_of
from lakeport.api.exchange import Exchange, Lane
from lakeport.api.heads import Heads
from lakeport.api.joined import LARGE, JoinedTransport
from lakeport.api.limits import Limits, Refusal
from lakeport.api.reading import Reader, Reading

#: Bytes that are read at a time: between two pieces, the door looks how many requests wait.
_PIECE = 32 * 1024


class DoorConfig(uvicorn.Config):
    """uvicorn's config with what our connections need."""

    limits: Limits = Limits()
    lane: Lane | None = None
    #: Whether the application may break connections: `api/cut.py`.
    cuttable: bool = False
    heads: Heads


class Door(asyncio.Protocol):
    """One connection. `check` must be called every now and then: it holds the deadlines."""

    def __init__(
        self,
        config: DoorConfig,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        if not config.loaded:
            config.load()
        self._app: ASGIApp = config.loaded_app
        self._lane = config.lane
        self._limits = config.limits
        self._cuttable = config.cuttable
        self._state = server_state
        self.tasks = server_state.tasks
        self.heads = config.heads
        self.loop = _loop or asyncio.get_running_loop()
        self.transport: JoinedTransport = None  # type: ignore[assignment]
        self.scope: dict[str, Any] = {}
        self._reader = Reader(config.limits, self, self.loop.time())
        #: Those not answered yet, in order: only the first may be under way.
        self._queue: deque[Exchange] = deque()
        #: The one whose request is being read, or was read last.
        self._present: Exchange | None = None
        self._giving_turns = False
        #: What arrived and is not read yet, since enough requests wait.
        self._held: memoryview | None = None
        self._read_paused = False
        self._stopping = False
        self.write_paused = False
        self._writers: list[asyncio.Future[None]] = []
        self._unread_bytes = 0
        self._unsent = 0
        self._unsent_for = 0.0

    # The connection's life

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._state.connections.add(self)  # type: ignore[arg-type]
        self.transport = JoinedTransport(transport, self.loop)
        self.scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "server": get_local_addr(transport),
            "client": get_remote_addr(transport),
            "scheme": "http",
            "root_path": "",
        }

    def connection_lost(self, exc: Exception | None) -> None:
        self._state.connections.discard(self)
        for exchange in self._queue:
            exchange.lost()
        self._queue.clear()
        self._present = None
        self._held = None
        self.resume_writing()
        self._reader.forget()

    def shutdown(self) -> None:
        """The server stops: what is under way is answered, and nothing after it."""
        self._stopping = True
        if self._queue:
            self._queue[-1].keep_alive = False
        else:
            self.transport.close()

    def expire(self) -> None:
        """The server's grace is over."""
        if self._queue:
            self._queue[0].expire()

    # What arrives

    def data_received(self, data: bytes) -> None:
        if self._held is not None:  # a transport may hand on what it had read before its pause
            self._held = memoryview(b"".join((self._held, data)))
        elif self._reader.state is Reading.REFUSED:
            self._throw_away(len(data))
        else:
            if len(data) > _PIECE:
                self._take(memoryview(data))
            elif (refusal := self._reader.feed(data, self.loop.time())) is not None:
                self.refuse(refusal)
            if len(self._queue) > 1 or self._read_paused:
                self.flow()

    def _take(self, data: memoryview) -> None:
        """Read, until enough requests wait for their turn; the rest is kept."""
        for at in range(0, len(data), _PIECE):
            if self._reader.state is Reading.REFUSED:
                self._throw_away(len(data) - at)
                return
            if self.transport.is_closing():
                return
            if len(self._queue) > self._limits.pipelined:
                self._held = data[at:]
                return
            refusal = self._reader.feed(data[at : at + _PIECE], self.loop.time())
            if refusal is not None:
                self.refuse(refusal)

    def flow(self) -> None:
        """Read on, or leave the rest to the client for now."""
        held = self._held
        if held is not None and len(self._queue) <= 1:
            self._held = None
            self._take(held)
        present = self._present
        pause = (
            self._held is not None
            or len(self._queue) > 1
            or (present is not None and present.full and not present.answered)
        )
        if pause is not self._read_paused and not self.transport.is_closing():
            self._read_paused = pause
            if pause:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    def request(self) -> None:
        head = self._reader.head
        exchange = self._lane.take(self, head) if self._lane is not None else None
        if exchange is None:
            exchange = Cycle(
                self._app,
                self,
                scope_of(head, self.scope),
                keep_alive=head.keep_alive,
                expects=head.expects,
                cuttable=self._cuttable,
            )
        if self._stopping:
            exchange.keep_alive = False
        self._unread_bytes = 0
        self._present = exchange
        self._queue.append(exchange)
        if len(self._queue) == 1:
            self._give_turns()

    def body(self, piece: bytes) -> None:
        present = self._present
        assert present is not None
        if present.answered:
            self._throw_away(len(piece))
        else:
            present.body(piece)
            if present.full:
                self.flow()

    def complete(self) -> None:
        present = self._present
        assert present is not None
        if not present.answered:
            present.end()

    def _throw_away(self, size: int) -> None:
        self._unread_bytes += size
        if self._unread_bytes > self._limits.unread_bytes:
            self.transport.abort()

    # Turns

    def _give_turns(self) -> None:
        """Begin with the first, and go on while answers come at once."""
        if self._giving_turns:
            return
        self._giving_turns = True
        try:
            queue = self._queue
            while queue and not queue[0].begun and not self.write_paused:
                queue[0].begin()
        finally:
            self._giving_turns = False

    def answered(self, exchange: Exchange) -> None:
        """The first exchange's answer is out."""
        if not self._queue or self._queue[0] is not exchange:
            return  # refused or lost meanwhile
        self._queue.popleft()
        self._state.total_requests += 1
        if not exchange.keep_alive:
            self.transport.close()
        if self.transport.is_closing():
            return
        if self._queue:
            self._give_turns()
        elif self._reader.state is Reading.BETWEEN:
            self._reader.deadline = self.loop.time() + self._limits.keep_alive
        if self._read_paused:
            self.flow()

    def replace(self, exchange: Exchange, other: Exchange) -> None:
        """`other` goes on where `exchange`, whose turn it is, began."""
        if self._queue and self._queue[0] is exchange:
            self._queue[0] = other
            if self._present is exchange:
                self._present = other

    # What is written

    def send(self, head: bytes, body: bytes) -> None:
        """A whole answer, at once unless more are likely to follow in this turn of the loop."""
        if len(body) >= LARGE:
            self.transport.write_both(head, body)
        elif len(self._queue) > 1:
            self.transport.write(head + body)
        else:
            self.transport.write_now(head + body)

    def pause_writing(self) -> None:
        self.write_paused = True

    def resume_writing(self) -> None:
        self.write_paused = False
        writers, self._writers = self._writers, []
        for writer in writers:
            if not writer.done():
                writer.set_result(None)
        self._give_turns()

    async def writable(self) -> None:
        while self.write_paused:
            writer = self.loop.create_future()
            self._writers.append(writer)
            await writer

    # Ends

    def check(self, now: float, passed: float) -> None:
        """End the connection if its time is up. `passed` seconds went by since the last check."""
        transport, reader = self.transport, self._reader
        unsent = transport.get_write_buffer_size()
        if unsent and unsent == self._unsent:
            self._unsent_for += passed
            if self._unsent_for > self._limits.write_idle:
                transport.abort()
                return
        else:
            self._unsent, self._unsent_for = unsent, 0.0
        if transport.is_closing():
            return
        if reader.state is Reading.REFUSED:
            if now > reader.deadline and not self._queue:
                transport.close()
        elif self._read_paused or self._waits_for_us():
            reader.wait(passed)
        elif reader.state is Reading.BETWEEN:
            if now > reader.deadline and not self._queue:
                transport.close()
        elif (refusal := reader.overdue(now)) is not None:
            self.refuse(refusal)

    def _waits_for_us(self) -> bool:
        """Whether the client holds its body back until we ask for it."""
        present = self._present
        return (
            self._reader.state is Reading.BODY
            and present is not None
            and present.holds_back
            and not present.answered
        )

    def refuse(self, refusal: Refusal) -> None:
        """Answer with `refusal` where an answer can still be understood, and end the connection."""
        reader, present, queue = self._reader, self._present, self._queue
        in_body = reader.state is Reading.BODY
        reader.state = Reading.REFUSED
        reader.deadline = self.loop.time() + self._limits.linger
        self._unread_bytes = 0
        if self.transport.is_closing():
            return
        if in_body and present is not None and not present.answered:
            # For those behind it is as if the client had gone.
            present.lost()
            queue.pop()
            if present.started:
                self.transport.close()
                return
        elif in_body:  # answered already: a second answer would not be understood
            self.transport.close()
            return
        if queue:
            # Earlier requests are being answered: the connection ends after the last of them.
            queue[-1].keep_alive = False
            return
        self.transport.write(self.heads.refuse(refusal))
        # To close at once could take the answer from a client that is still sending.
        if self.transport.can_write_eof():
            self.transport.write_eof()
