"""Server-sent events out of bytes, however they are cut into pieces."""

from dataclasses import dataclass

from lakeport.client.errors import BadAnswer

#: Bytes of one event: more is no event of a model's.
LARGEST = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Event:
    data: str
    #: The field `event`; "" without one.
    kind: str = ""


class EventParser:
    """Feed it bytes, take events. Lines may end with LF, CRLF or CR; comments are skipped."""

    def __init__(self, *, largest: int = LARGEST) -> None:
        self._largest = largest
        self._rest = b""
        self._data: list[bytes] = []
        self._size = 0
        self._kind = b""
        self._first = True

    def feed(self, piece: bytes) -> list[Event]:
        """The events that `piece` completes. Raises BadAnswer for one that is too large."""
        # A CR at the end may be the first half of a CRLF: it waits for what comes next.
        *lines, self._rest = _lines(self._rest + piece)
        if len(self._rest) + self._size > self._largest:
            raise BadAnswer(f"An event of the stream is larger than {self._largest} bytes.")
        events = []
        for line in lines:
            if self._first:
                line = line.removeprefix(b"\xef\xbb\xbf")  # noqa: PLW2901 -- the mark of UTF-8
                self._first = False
            if line:
                self._take(line)
            elif self._data or self._kind:
                event = self._event()
                if event is not None:
                    events.append(event)
        return events

    def end(self) -> list[Event]:
        """What the end of the bytes completes: a last event without its blank line."""
        return self.feed(b"\n\n" if not self._rest.endswith(b"\r") else b"\n\n\n")

    def _take(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
            self._size += len(value)
        elif name == b"event":
            self._kind = value

    def _event(self) -> Event | None:
        data, kind = self._data, self._kind
        self._data, self._kind, self._size = [], b"", 0
        if not data:
            return None
        return Event(b"\n".join(data).decode(errors="replace"), kind.decode(errors="replace"))


def _lines(text: bytes) -> list[bytes]:
    """Lines without their ends; the last is not ended yet."""
    if b"\r" not in text:
        return text.split(b"\n")
    held = b"\r" if text.endswith(b"\r") else b""
    text = text.removesuffix(b"\r")
    lines = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    lines[-1] += held
    return lines
