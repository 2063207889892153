"""Frames, as docs/internals/worker-protocol.md has them: bytes in, values out, no I/O.

Both ends use this file: the worker as its sibling, the front as `lakeport.worker.protocol`.
"""

import struct
from typing import Final, NamedTuple

VERSION: Final = 1

HELLO: Final = 1
WELCOME: Final = 2
CALL: Final = 3
CANCEL: Final = 4
ANSWER: Final = 5
STREAM: Final = 6
CHUNK: Final = 7
END: Final = 8
MORE: Final = 9

#: The status of the answer to a call that was cancelled before it was computed.
LEFT: Final = 499
#: Chunks that a stream may send before its first MORE.
STREAM_WINDOW: Final = 64
#: A frame may be this much larger than the body that it carries.
NOTE_ROOM: Final = 64 * 1024
#: Bytes of the largest frame that a worker sends.
MAX_ANSWER: Final = 256 * 1024 * 1024

_HEAD = struct.Struct("<IBBHIIQ")
HEAD_SIZE: Final = _HEAD.size
_MAX_U32: Final = 2**32 - 1


class ProtocolError(Exception):
    """The other side broke the rules: end the connection."""


class Frame(NamedTuple):
    kind: int
    #: 0: the body is plain `application/json`; 1: the note says what it is.
    form: int
    #: An HTTP status, in answers.
    status: int
    #: A call: milliseconds left. An answer: microseconds computed. MORE: chunks.
    time: int
    id: int
    #: JSON, or b"".
    note: bytes
    body: bytes
    #: An answer: the requests that shared its predict; 0 or 1: it was alone.
    batch: int = 0


def head(
    kind: int, id: int, *, body_size: int = 0, note: bytes = b"", status: int = 0, time: int = 0
) -> bytes:
    """A frame up to its body, for bodies that are too large to copy.

    `time` is cut to what fits.
    """
    size = len(note) + body_size
    form = 1 if note else 0
    time = min(max(time, 0), _MAX_U32)
    return _HEAD.pack(size, kind, form, status, len(note), time, id) + note


def frame(
    kind: int, id: int, body: bytes = b"", *, note: bytes = b"", status: int = 0, time: int = 0
) -> bytes:
    """A whole frame."""
    return head(kind, id, body_size=len(body), note=note, status=status, time=time) + body


def answer(id: int, body: bytes, *, note: bytes = b"", time: int = 0, batch: int = 1) -> bytes:
    """The whole frame of an answer with status 200; `batch`: at most 127."""
    size = len(note)
    form = batch << 1 | (1 if size else 0)
    time = time if 0 <= time <= _MAX_U32 else _MAX_U32
    head = _HEAD.pack(size + len(body), ANSWER, form, 200, size, time, id)
    return head + note + body if size else head + body


class FrameReader:
    """Cuts what arrives into frames. Every byte is copied at most twice, however it arrives."""

    def __init__(self, max_size: int) -> None:
        """`max_size`: bytes of the largest payload taken."""
        self.max_size = max_size
        self._rest = bytearray()
        #: Bytes that `_rest` must hold before it is worth another look.
        self._wanted = HEAD_SIZE

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes. Raises ProtocolError."""
        rest = self._rest
        if not rest:
            frames, used = self._cut(data)
            rest += memoryview(data)[used:]
            return frames
        rest += data
        if len(rest) < self._wanted:
            return []
        frames, used = self._cut(rest)
        del rest[:used]
        return frames

    def _cut(self, data: bytes | bytearray) -> tuple[list[Frame], int]:
        """All whole frames of `data`, and the bytes that they took."""
        frames: list[Frame] = []
        start, length = 0, len(data)
        while length - start >= HEAD_SIZE:
            size, kind, form, status, note_size, time, id = _HEAD.unpack_from(data, start)
            if size > self.max_size:
                raise ProtocolError(f"a frame of {size} bytes")
            if note_size > size or not HELLO <= kind <= MORE:
                raise ProtocolError(f"a frame of kind {kind} with a note of {note_size} bytes")
            payload = start + HEAD_SIZE
            end = payload + size
            if end > length:
                self._wanted = HEAD_SIZE + size
                return frames, start
            body = payload + note_size
            frames.append(
                Frame(
                    kind,
                    form & 1,
                    status,
                    time,
                    id,
                    _copy(data, payload, body) if note_size else b"",
                    _copy(data, body, end),
                    form >> 1,
                )
            )
            start = end
        self._wanted = HEAD_SIZE
        return frames, start


def _copy(data: bytes | bytearray, start: int, end: int) -> bytes:
    if isinstance(data, bytes):
        return data[start:end]
    with memoryview(data) as view:
        return bytes(view[start:end])
