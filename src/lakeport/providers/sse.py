"""Server-sent events, read piece by piece as they come from a server."""

_BOM = b"\xef\xbb\xbf"


class EventTooLarge(Exception):
    """One event is larger than the reader takes."""


class SseReader:
    """Turns bytes, cut anywhere, into the data of the events that they complete.

    Lines end with LF, CRLF or CR; comments and every field but `data` are dropped. Several `data`
    lines of one event are joined with LF.
    """

    __slots__ = ("_after_cr", "_data", "_first", "_limit", "_pieces", "_size")

    def __init__(self, limit: int) -> None:
        """`limit` bounds one event, in bytes."""
        self._limit = limit
        #: Of the line that is not complete yet.
        self._pieces: list[bytes] = []
        #: `data` lines of the event that is not complete yet.
        self._data: list[bytes] = []
        #: Bytes held in both.
        self._size = 0
        self._after_cr = False
        self._first = True

    def feed(self, chunk: bytes) -> list[bytes]:
        """Raises EventTooLarge."""
        # Most servers send each event by itself: one line and a blank one.
        if (
            chunk.startswith(b"data: ")
            and chunk.find(b"\n") == len(chunk) - 2
            and chunk.endswith(b"\n\n")
            and not (self._size or self._after_cr or b"\r" in chunk)
        ):
            self._first = False
            self._grow(len(chunk) - 7)
            self._size = 0
            return [chunk[6:-2]] if len(chunk) > 8 else []
        if self._after_cr and chunk:
            self._after_cr = False
            if chunk[0] == 0x0A:  # the rest of a CRLF that was cut in two
                chunk = chunk[1:]
        if b"\r" in chunk:
            self._after_cr = chunk[-1] == 0x0D
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if b"\n" not in chunk:
            self._hold(chunk)
            return []
        if self._pieces:
            held = b"".join(self._pieces)
            self._pieces.clear()
            self._size -= len(held)
            chunk = held + chunk
        *lines, rest = chunk.split(b"\n")
        events = []
        for line in lines:
            if not line:
                if (event := self._dispatch()) is not None:
                    events.append(event)
            else:
                self._line(line)
        self._hold(rest)
        return events

    def end(self) -> list[bytes]:
        """What is left once no more bytes come: an event whose last blank line is missing."""
        rest = b"".join(self._pieces)
        self._pieces.clear()
        if rest:
            self._line(rest)
        event = self._dispatch()
        return [] if event is None else [event]

    def _line(self, line: bytes) -> None:
        if self._first:
            self._first = False
            line = line.removeprefix(_BOM)
        if line.startswith(b"data:"):
            data = line[6:] if line[5:6] == b" " else line[5:]
            self._data.append(data)
            self._grow(len(data) + 1)
        elif line == b"data":
            self._data.append(b"")
            self._grow(1)

    def _dispatch(self) -> bytes | None:
        event = b"\n".join(self._data)
        self._data.clear()
        self._size = 0
        return event or None

    def _hold(self, piece: bytes) -> None:
        if piece:
            self._pieces.append(piece)
            self._grow(len(piece))

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > self._limit:
            raise EventTooLarge
