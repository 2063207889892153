"""One front's connection, seen from the worker."""

from __future__ import annotations

import hmac
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import orjson

from . import protocol
from .call import Call
from .protocol import Frame, FrameReader, ProtocolError

_READ_SIZE = 256 * 1024
#: A front that does not read its answers is not read from either.
_MAX_UNSENT = 16 * 1024 * 1024


class Connection:
    """Its socket, its calls, and what could not be sent yet.

    The loop reads and closes; any thread may send: what the socket does not take at once is kept,
    and sent by the loop, so that a slow front holds up nobody.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        secret: str,
        credit: int,
        max_body: int,
        wake: Callable[[], None],
        streams: bool = False,
    ) -> None:
        """`streams`: the model may stream its answers."""
        self.sock = sock
        self.closed = False
        #: The loop does not read on, until it is woken.
        self.paused = False
        #: Outstanding: waiting, computing or streaming.
        self.calls: dict[int, Call] = {}
        #: Ids of calls whose stream has begun.
        self.streams: set[int] = set()
        self._secret = secret
        self._credit = credit
        self._max_body = max_body
        self._wake = wake
        self._may_stream = streams
        self._greeted = False
        # Nobody may make us keep more than a hello before having said it.
        self._reader = FrameReader(protocol.NOTE_ROOM)
        self._lock = threading.Lock()
        self._unsent: deque[memoryview] = deque()
        self._unsent_size = 0

    @property
    def sending(self) -> bool:
        return bool(self._unsent)

    @property
    def reading(self) -> bool:
        """Whether to read on. A front with more calls than its credit waits, unless a stream may
        need its MORE."""
        if self._unsent_size > _MAX_UNSENT:
            return False
        return len(self.calls) <= self._credit or bool(self.streams)

    def receive(self) -> list[Call]:
        """What arrived: the new calls; the rest is done here. Raises ProtocolError, OSError, and
        EOFError when the front has gone."""
        try:
            data = self.sock.recv(_READ_SIZE)
        except BlockingIOError:
            return []
        if not data:
            raise EOFError
        calls: list[Call] = []
        now = time.monotonic()
        for frame in self._reader.feed(data):
            if frame.kind == protocol.CALL and self._greeted:
                calls.append(self._call(frame, now))
            elif frame.kind == protocol.CANCEL and self._greeted:
                if (call := self.calls.get(frame.id)) is not None:
                    call.cancel()
            elif frame.kind == protocol.MORE and self._greeted:
                if (call := self.calls.get(frame.id)) is not None:
                    call.allow(frame.time)
            elif frame.kind == protocol.HELLO and not self._greeted:
                self._greet(frame)
            else:
                raise ProtocolError(f"a frame of kind {frame.kind} at the wrong moment")
        return calls

    def send(self, data: bytes) -> None:
        """Send whole frames. Never blocks, and says nothing when the front has gone."""
        with self._lock:
            if self.closed:
                return
            sent = 0 if self._unsent else self._write(data)
            if sent < len(data):
                self._unsent.append(memoryview(data)[sent:])
                self._unsent_size += len(data) - sent
            else:
                return
        self._wake()

    def flush(self) -> None:
        """Send what the socket takes of what is left."""
        with self._lock:
            while self._unsent and not self.closed:
                piece = self._unsent[0]
                sent = self._write(piece)
                self._unsent_size -= sent
                if sent < len(piece):
                    self._unsent[0] = piece[sent:]
                    return
                self._unsent.popleft()

    def close(self) -> None:
        """The front's calls are cancelled."""
        with self._lock:
            self.closed = True
            self._unsent.clear()
            self.sock.close()
        for call in list(self.calls.values()):
            call.cancel()

    def _write(self, data: bytes | memoryview) -> int:
        try:
            return self.sock.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            # The front has gone; the loop reads that too, and closes. Nothing is left to be sent.
            return len(data)

    def _greet(self, frame: Frame) -> None:
        hello = _object(frame.note)
        secret = hello.get("secret")
        if hello.get("protocol") != protocol.VERSION or not isinstance(secret, str):
            raise ProtocolError("a hello in another protocol")
        if not hmac.compare_digest(secret.encode(), self._secret.encode()):
            raise ProtocolError("a hello with a wrong secret")
        self._greeted = True
        self._reader.max_size = self._max_body + protocol.NOTE_ROOM
        note = orjson.dumps({"protocol": protocol.VERSION, "credit": self._credit})
        self.send(protocol.frame(protocol.WELCOME, 0, note=note))

    def _call(self, frame: Frame, now: float) -> Call:
        id, deadline = frame.id, now + frame.time / 1000
        if id in self.calls:
            raise ProtocolError(f"a second call {id}")
        if frame.form:
            note = _object(frame.note)
            call = Call(
                id,
                frame.body,
                _text(note, "content_type"),
                _text(note, "content_encoding"),
                deadline,
                _text(note, "operation"),
                _text(note, "traceparent"),
            )
        else:
            call = Call(id, frame.body, "application/json", None, deadline)
        if self._may_stream:
            call.changed = threading.Condition()
        self.calls[id] = call
        return call


def _text(note: dict[str, Any], name: str) -> str | None:
    value = note.get(name)
    return value if isinstance(value, str) else None


def _object(note: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(note)
    except orjson.JSONDecodeError as error:
        raise ProtocolError("a note that is no JSON") from error
    if not isinstance(value, dict):
        raise ProtocolError("a note that is no object")
    return value
