"""The test's own process as a replica: functions behind sockets that speak the worker protocol.

The border is docs/internals/worker-protocol.md; this is another worker's end of it, with three
differences: a call has no deadline here (a breakpoint may hold it), each has a thread of its own,
and nothing is merged.
"""

import asyncio
import contextvars
import hmac
import logging
import secrets
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import orjson

from lakeport.testing.function import MAX_BODY, Function, Job
from lakeport.worker import protocol
from lakeport.worker.protocol import Frame, FrameReader, ProtocolError

#: Calls that a front may have outstanding: more than any test makes at a time.
CREDIT: Final = 1024
#: Seconds for a socket to open or close.
_PATIENCE: Final = 10.0

log = logging.getLogger("lakeport.testing")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a function, as far as its record needs it."""

    #: See `digest_of`.
    digest: int | None
    #: Seconds since the epoch.
    began: float
    error: BaseException | None


class Loop:
    """An asyncio loop on a thread of its own: for sockets, or for the coroutines of functions."""

    def __init__(self, name: str = "lakeport-replicas") -> None:
        self.loop = asyncio.new_event_loop()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._closing:
            # A coroutine that raises these ends its loop, and all the others would wait for ever;
            # who awaits it is told as well.
            with suppress(SystemExit, KeyboardInterrupt):
                self.loop.run_forever()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of a coroutine; not to be called on the loop itself."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(_PATIENCE)

    def close(self) -> None:
        """Whatever still runs is cancelled."""
        with suppress(TimeoutError):
            self.run(_cancel_all())
        self._closing = True
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(_PATIENCE)
        if not self._thread.is_alive():  # a coroutine that never lets go holds it
            self.loop.close()


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=1.0)


class Replica:
    """One function behind one socket, from `open` to `close`."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str,
        loop: Loop,
        functions: Loop,
        signature: Any = None,
        ran: Callable[[Run], None] = lambda run: None,
    ) -> None:
        """As `Function`; raises TypeError as it does. `loop`: for the socket; `functions`: for what
        is awaited, another one, which a function may block. `ran` is told of each run, on its
        thread, before the caller has the end of its answer."""
        self._answers = Function(function, name=name, loop=functions.loop, signature=signature)
        self._loop = loop
        self._secret = secrets.token_hex(16)
        self._server: asyncio.Server | None = None
        self._fronts: set[_Front] = set()
        #: What the test had set, its context variables too, is there when its function runs.
        self._context = contextvars.copy_context()
        self._ran = ran

    def open(self, path: Path) -> str:
        """Listen; returns the address. Raises OSError. The folder must be this user's alone."""
        self._server = self._loop.run(self._listen(path))
        return f"unix:{path}#{self._secret}"

    def close(self) -> None:
        """Nothing comes in any more; what a thread still computes is thrown away."""
        if self._server is not None:
            server, self._server = self._server, None
            self._loop.run(self._shut(server))

    async def _listen(self, path: Path) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        return await loop.create_unix_server(lambda: _Front(self, self._secret), str(path))

    async def _shut(self, server: asyncio.Server) -> None:
        server.close()
        for front in list(self._fronts):
            front.abort()

    # --- what a front does ----------------------------------------------------------------------

    def joined(self, front: "_Front") -> None:
        self._fronts.add(front)

    def left(self, front: "_Front") -> None:
        self._fronts.discard(front)

    def begin(self, front: "_Front", job: Job) -> None:
        """Answer a call on a thread of its own: a daemon, so that one which never ends holds up
        nobody's exit."""
        context = self._context.copy()
        threading.Thread(
            target=context.run, args=(self._work, front, job), name="lakeport-call", daemon=True
        ).start()

    def _work(self, front: "_Front", job: Job) -> None:
        # Not time.time(), which a test may have stopped.
        job.started = time.clock_gettime(time.CLOCK_REALTIME)
        frames = self._answers.frames(job)
        # The run is there before its answer is: a test that has the answer finds it.
        last: bytes | None = None
        try:
            for is_chunk, frame in frames:
                if last is not None:
                    front.send(last)
                last = None if is_chunk else frame
                if is_chunk:
                    if not job.take_chunk():
                        break
                    front.send(frame)
        finally:
            frames.close()
            self._ran(Run(job.digest, job.started, job.error))
            front.done(job, last)
        if job.error is not None:
            log.error("a served function raised", exc_info=job.error)


class _Front(asyncio.Protocol):
    """One connection of a server. Everything but `send` and `done` is called on the loop."""

    def __init__(self, replica: Replica, secret: str) -> None:
        self._replica = replica
        self._secret = secret
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._reader = FrameReader(protocol.NOTE_ROOM)
        self._greeted = False
        self._jobs: dict[int, Job] = {}

    def send(self, data: bytes) -> None:
        """Send whole frames, from any thread."""
        self._later(self._write, data)

    def done(self, job: Job, last: bytes | None) -> None:
        """A call has ended, with this frame; from any thread."""
        self._later(self._end, job, last)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # --- asyncio.Protocol -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._replica.joined(self)

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._reader.feed(data):
                self._received(frame)
        except ProtocolError as error:
            log.warning("a connection was ended: the front sent %s", error)
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._replica.left(self)
        for job in self._jobs.values():
            job.cancel()

    # --- frames ---------------------------------------------------------------------------------

    def _received(self, frame: Frame) -> None:
        if frame.kind == protocol.HELLO and not self._greeted:
            self._greet(frame)
        elif not self._greeted:
            raise ProtocolError(f"a frame of kind {frame.kind} before its hello")
        elif frame.kind == protocol.CALL and frame.id not in self._jobs:
            self._jobs[frame.id] = job = _job(frame)
            self._replica.begin(self, job)
        elif frame.kind == protocol.CANCEL:
            if (job_ := self._jobs.get(frame.id)) is not None:
                job_.cancel()
        elif frame.kind == protocol.MORE:
            if (job_ := self._jobs.get(frame.id)) is not None:
                job_.allow(frame.time)
        else:
            raise ProtocolError(f"a frame of kind {frame.kind} at the wrong moment")

    def _greet(self, frame: Frame) -> None:
        hello = _note(frame)
        secret = hello.get("secret")
        if hello.get("protocol") != protocol.VERSION or not isinstance(secret, str):
            raise ProtocolError("a hello in another protocol")
        if not hmac.compare_digest(secret.encode(), self._secret.encode()):
            raise ProtocolError("a hello with a wrong secret")
        self._greeted = True
        self._reader.max_size = MAX_BODY + protocol.NOTE_ROOM
        note = orjson.dumps({"protocol": protocol.VERSION, "credit": CREDIT})
        self._write(protocol.frame(protocol.WELCOME, 0, note=note))

    def _end(self, job: Job, last: bytes | None) -> None:
        self._jobs.pop(job.id, None)
        if last is not None:
            self._write(last)

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _later(self, work: Callable[..., None], *arguments: Any) -> None:
        with suppress(RuntimeError):  # the loop is closed: the session is over
            self._loop.call_soon_threadsafe(work, *arguments)


def _job(frame: Frame) -> Job:
    note = _note(frame) if frame.form else {"content_type": "application/json"}

    def text(name: str) -> str | None:
        value = note.get(name)
        return value if isinstance(value, str) else None

    return Job(
        frame.id,
        frame.body,
        text("content_type"),
        text("content_encoding"),
        deadline=float("inf"),
        operation=text("operation"),
    )


def _note(frame: Frame) -> dict[str, Any]:
    try:
        note = orjson.loads(frame.note)
    except orjson.JSONDecodeError as error:
        raise ProtocolError("a note that is no JSON") from error
    if not isinstance(note, dict):
        raise ProtocolError("a note that is no object")
    return note
