"""The socket loop: one thread, `selectors`, any number of fronts.

Models that only compute do so on this thread, row-wise ones greedily: whatever is there is one
batch. Models that may wait work in a pool of threads, which send their answers themselves.
"""

from __future__ import annotations

import contextlib
import contextvars
import os
import queue
import selectors
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

from . import protocol
from .batch import MAX_REQUESTS
from .call import Call
from .connection import Connection
from .log import say, say_exception
from .protocol import ProtocolError
from .scorer import Scorer
from .tracing import joined

ROW_WISE_CREDIT: Final = 64
#: Seconds that the last answer may take to leave when the process must end.
_LAST_WORDS: Final = 2.0

_Work = tuple[Connection, Call]


class Server:
    """Serves one model on one socket until SIGTERM, or until the model ran out of memory."""

    def __init__(self, scorer: Scorer, *, secret: str, concurrency: int) -> None:
        """`concurrency`: calls at a time for a model that is not row-wise."""
        self._scorer = scorer
        self._secret = secret
        self.credit = ROW_WISE_CREDIT if scorer.model.row_wise else 2 * concurrency
        self._connections: set[Connection] = set()
        self._waiting: deque[_Work] = deque()
        self._pool = _Pool(self._work, concurrency) if scorer.model.waits else None
        self._stopping = False
        #: The model ran out of memory, and the call over which it did is answered.
        self._ending = False
        self._selector = selectors.DefaultSelector()
        self._listener: socket.socket | None = None
        self._woken, self._waker = socket.socketpair()
        for end in (self._woken, self._waker):
            end.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ)

    def listen(self, path: Path) -> None:
        """Accept fronts from now on. Raises OSError."""
        self._listener = listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(mask)
        listener.setblocking(False)
        listener.listen(128)
        self._selector.register(listener, selectors.EVENT_READ)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._stop)

    def run(self) -> bool:
        """Serve. Returns True after SIGTERM, when all that was taken is answered, and False when
        the model ran out of memory."""
        while not (self._stopping and self._idle()):
            for key, events in self._selector.select(0 if self._waiting else None):
                if key.fileobj is self._woken:
                    self._drain_wakes()
                elif key.fileobj is self._listener:
                    self._accept()
                elif isinstance(key.data, Connection):
                    self._serve(key.data, events)
            if self._pool is None:
                self._compute_batch()
            if self._ending:
                self._say_last_words()
                return False
            for connection in self._connections:
                self._watch(connection)
        return True

    # --- the loop's pieces ----------------------------------------------------------------------

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            sock, _ = self._listener.accept()
        except OSError as error:  # the front changed its mind, or there are no descriptors left
            say(f"a connection could not be accepted: {error}")
            return
        sock.setblocking(False)
        connection = Connection(
            sock,
            secret=self._secret,
            credit=self.credit,
            max_body=self._scorer.max_body,
            wake=self._wake,
            streams=self._scorer.model.streams,
        )
        self._connections.add(connection)
        self._selector.register(sock, selectors.EVENT_READ, connection)

    def _serve(self, connection: Connection, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            connection.flush()
        if not events & selectors.EVENT_READ:
            return
        try:
            calls = connection.receive()
        except ProtocolError as error:
            say(f"a connection was ended: the front sent {error}")
            self._close(connection)
            return
        except (OSError, EOFError):
            self._close(connection)
            return
        if self._stopping:  # they are lost with the connection, as if they had come a moment later
            for call in calls:
                del connection.calls[call.id]
        elif self._pool is not None:
            for call in calls:
                self._pool.put((connection, call))
        else:
            self._waiting.extend((connection, call) for call in calls)

    def _compute_batch(self) -> None:
        works: dict[Call, Connection] = {}
        # Where each has a predict of its own, the loop looks between two for who has gone.
        most = MAX_REQUESTS if self._scorer.merges else 1
        while self._waiting and len(works) < most:
            connection, call = self._waiting.popleft()
            if call.cancelled:
                connection.calls.pop(call.id, None)
                connection.send(_left(call))
            else:
                works[call] = connection
        for answers in self._scorer.batch(list(works)):
            frames: dict[Connection, list[bytes]] = {}
            for call, frame in answers:
                connection = works[call]
                connection.calls.pop(call.id, None)
                frames.setdefault(connection, []).append(frame)
            for connection, parts in frames.items():
                connection.send(b"".join(parts) if len(parts) > 1 else parts[0])
        self._ending = any(call.exhausted for call in works)

    def _watch(self, connection: Connection) -> None:
        wanted = 0
        # Told first and looked at then: a thread ends a call first and looks then whether to wake.
        connection.paused = True
        if connection.reading:
            connection.paused = False
            wanted |= selectors.EVENT_READ
        if connection.sending:
            wanted |= selectors.EVENT_WRITE
        key = self._selector.get_map().get(connection.sock)
        if key is None:
            if wanted:
                self._selector.register(connection.sock, wanted, connection)
        elif not wanted:
            self._selector.unregister(connection.sock)
        elif key.events != wanted:
            self._selector.modify(connection.sock, wanted, connection)

    def _close(self, connection: Connection) -> None:
        if connection.sock in self._selector.get_map():
            self._selector.unregister(connection.sock)
        self._connections.discard(connection)
        connection.close()

    # --- other threads --------------------------------------------------------------------------

    def _work(self, work: _Work) -> None:
        """One call from its beginning to its end, on a thread of the pool."""
        connection, call = work
        if call.cancelled:
            connection.send(_left(call))
        else:
            with joined(call.traceparent):
                frames = self._scorer.frames(call)
                for is_chunk, frame in frames:
                    if is_chunk:
                        connection.streams.add(call.id)
                    if is_chunk and not call.take_chunk():
                        break
                    connection.send(frame)
                frames.close()
        connection.streams.discard(call.id)
        connection.calls.pop(call.id, None)
        if call.exhausted:
            self._ending = True
        if connection.paused or self._stopping or self._ending:
            self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # full: it will wake
            self._waker.send(b"\0")

    def _drain_wakes(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._woken.recv(4096):
                pass

    # --- the end --------------------------------------------------------------------------------

    def _stop(self, _signal: int, _frame: object) -> None:
        self._stopping = True

    def _idle(self) -> bool:
        if self._listener is not None:
            self._selector.unregister(self._listener)
            self._listener.close()
            self._listener = None
        return not any(connection.calls or connection.sending for connection in self._connections)

    def _say_last_words(self) -> None:
        deadline = time.monotonic() + _LAST_WORDS
        for connection in self._connections:
            while connection.sending and time.monotonic() < deadline:
                connection.flush()
                time.sleep(0.001)


def _left(call: Call) -> bytes:
    """For the front to know that the call's place is free again."""
    return protocol.frame(protocol.ANSWER, call.id, status=protocol.LEFT)


class _Pool:
    """Threads that live as long as the process."""

    def __init__(self, work: Callable[[_Work], None], size: int) -> None:
        self._work = work
        self._works: queue.SimpleQueue[_Work] = queue.SimpleQueue()
        for number in range(size):
            threading.Thread(target=self._run, name=f"predict-{number}", daemon=True).start()

    def put(self, work: _Work) -> None:
        self._works.put(work)

    def _run(self) -> None:
        while True:
            # Each call in a context of its own, to its stream's end: MLflow resets its variables
            # there, and what a model leaves in its own is nothing for the next caller.
            try:
                contextvars.copy_context().run(self._work, self._works.get())
            except BaseException:  # noqa: BLE001  a fault of ours ends the process, as in the loop
                say_exception("a call could not be worked on")
                os._exit(1)
