"""Turns what arrives on a connection into requests: bounded in size and in time, and refused
where two HTTP parsers could understand it differently."""

import logging
from enum import Enum, auto
from typing import NoReturn, Protocol

import httptools

from lakeport.api.limits import (
    AUTHORIZATION,
    BROKEN,
    FRAMING,
    HEAD_TOO_LARGE,
    HOST,
    LENGTH,
    NOT_HTTP,
    SLOW_BODY,
    SLOW_HEAD,
    TARGET_TOO_LONG,
    Limits,
    Refusal,
    valid_host,
)

logger = logging.getLogger("lakeport.api")

#: The headers that decide something here or on the lane.
_KNOWN = frozenset(
    (
        b"authorization",
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"expect",
        b"host",
        b"origin",
        b"traceparent",
        b"transfer-encoding",
    )
)
#: What a request that has one of them twice is refused with.
_ONCE = {
    b"authorization": AUTHORIZATION,
    b"content-length": LENGTH,
    b"host": HOST,
    b"transfer-encoding": LENGTH,
}
#: Of a body's length: zeros may stand before it, and a number of thousands of them is none.
_DIGITS = 20
#: Bytes of the longest head that is remembered, and how many are, a connection.
_LONGEST_HEAD = 4096
_REMEMBERED = 8
#: The wish for another protocol.
_WISH = frozenset((b"upgrade", b"http2-settings", b"connection"))


class Reading(Enum):
    """What the next byte of a connection belongs to.

    BETWEEN -> HEAD -> BODY -> BETWEEN; from each to REFUSED, which ends the connection.
    """

    BETWEEN = auto()
    HEAD = auto()
    BODY = auto()
    REFUSED = auto()


class Head:
    """A request without its body. Not changed any more once it has been read."""

    __slots__ = ("expects", "headers", "keep_alive", "known", "method", "url", "version")

    def __init__(self) -> None:
        self.method = b""
        self.url = b""
        self.version = "1.1"
        #: Names in lower case.
        self.headers: list[tuple[bytes, bytes]] = []
        #: The headers that are looked at; of several of a name the last.
        self.known: dict[bytes, bytes] = {}
        self.keep_alive = True
        #: The body is held back until we ask for it: `Expect: 100-continue`.
        self.expects = False


class Sink(Protocol):
    """Who gets the requests; all calls come from within `Reader.feed`."""

    def request(self) -> None:
        """A head has been read: the reader's `head`."""

    def body(self, piece: bytes) -> None: ...
    def complete(self) -> None:
        """The body's end; each request has one."""


class _Refused(Exception):
    """Ends the parser's run; `Reader._refusal` says why."""


class Reader:
    """Reads one connection's requests."""

    def __init__(self, limits: Limits, sink: Sink, now: float) -> None:
        self._limits = limits
        self._sink = sink
        self._now = now
        self.state = Reading.BETWEEN
        #: Of the present state; in BETWEEN it counts only when nothing is being answered.
        self.deadline = now + limits.first_byte
        self._body_deadline = 0.0
        self._refusal = NOT_HTTP
        #: Of the request that is being read, or was read last.
        self.head = Head()
        self._messages = 0
        self._head_bytes = 0
        self._headers = 0
        self._body_bytes = 0
        #: Bytes of framing since the last piece of a body.
        self._framing = 0
        self._moved = False
        #: The request wishes for another protocol; it is read again without the wish.
        self._declining = False
        self._most_bytes = limits.head_bytes
        self._most_headers = limits.headers
        #: Heads by their bytes, with the length of the body behind them: see `_remember`.
        self._remembered: dict[bytes, tuple[Head, int]] = {}
        self._parser = self._new_parser()

    def _new_parser(self) -> httptools.HttpRequestParser:
        parser = httptools.HttpRequestParser(self)
        # What follows a request with `Connection: close` is no reason to refuse that request.
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser

    def forget(self) -> None:
        """The connection has ended: parser and sink hold this reader, which holds them."""
        self._parser = self._sink = None  # type: ignore[assignment]

    def feed(self, data: bytes | memoryview, now: float) -> Refusal | None:
        """Read on. A refusal ends the connection: nothing may be fed after it."""
        self._now = now
        state, message, parser = self.state, self._messages, self._parser
        if state is Reading.BETWEEN:
            if self._remembered and type(data) is bytes and self._repeat(data):
                return None
        elif state is Reading.BODY:
            self.deadline = now + self._limits.body_idle
            self._moved = False
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            return self._read_again(data, upgrade.args[0])
        except httptools.HttpParserError as error:
            return self._why(error)
        if state is Reading.BETWEEN:
            if self.state is state and self._messages == message + 1 and type(data) is bytes:
                self._remember(data)
        elif state is Reading.HEAD:
            # A head that is not complete yet; one that is was counted header by header.
            if self.state is state and self._messages == message:
                self._head_bytes += len(data)
                if self._head_bytes > self._most_bytes:
                    return HEAD_TOO_LARGE
        elif state is Reading.BODY:
            self._framing = 0 if self._moved else self._framing + len(data)
            if self._framing > self._most_bytes:
                return FRAMING
        return None

    # Heads that come again

    def _remember(self, data: bytes) -> None:
        """Note the head of `data`, which was one whole request and nothing else.

        Clients send many requests with the same head. Between two requests the parser is at rest,
        and the same bytes would lead it to the same head once more: so it need not read them.
        """
        head, size = self.head, len(data) - self._body_bytes
        if (
            size <= _LONGEST_HEAD
            and data.find(b"\r\n\r\n") + 4 == size  # no blank lines before it
            and b"content-length" in head.known
            and b"traceparent" not in head.known  # never comes again
            and head.keep_alive
            and not head.expects
        ):
            if len(self._remembered) >= _REMEMBERED:
                self._remembered.clear()
            self._remembered[data[:size]] = head, self._body_bytes

    def _repeat(self, data: bytes) -> bool:
        """Take `data` without the parser, if it is a remembered head with its whole body."""
        size = data.find(b"\r\n\r\n", 0, _LONGEST_HEAD) + 4
        found = self._remembered.get(data[:size])
        if found is None or len(data) != size + found[1] or not self.head.keep_alive:
            return False
        self.head = found[0]
        self._sink.request()
        if found[1]:
            self._sink.body(data[size:])
        self.deadline = self._now + self._limits.keep_alive
        self._sink.complete()
        return True

    # What the parser says

    def _read_again(self, data: bytes | memoryview, rest: int) -> Refusal | None:
        """To ignore a wish for another protocol is the way to decline it. The parser has stopped
        behind the head, at `rest`, so another one reads the same request without the wish. (Java's
        client asks for HTTP/2 in this way, with a body behind the head.)"""
        head = self._head_without_upgrade()
        self._parser = self._new_parser()
        try:
            self._parser.feed_data(b"".join((head, data[rest:])))
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            return self._why(error)
        return None

    def _head_without_upgrade(self) -> bytes:
        lines = [self._parser.get_method(), b" ", self.head.url, b" HTTP/1.1\r\n"]
        for name, value in self.head.headers:
            if name not in _WISH:
                lines += (name, b": ", value, b"\r\n")
        return b"".join((*lines, b"\r\n"))

    def _why(self, error: Exception) -> Refusal:
        cause = error.__context__
        if isinstance(error, httptools.HttpParserCallbackError) and not isinstance(
            cause, (_Refused, httptools.HttpParserError)
        ):
            logger.error("a request could not be taken", exc_info=cause)
            return BROKEN
        return self._refusal

    def _stop(self, refusal: Refusal) -> NoReturn:
        """Refuse from inside the parser, which reports it to `feed`."""
        self._refusal = refusal
        raise _Refused

    def on_message_begin(self) -> None:
        self._messages += 1
        self.state = Reading.HEAD
        self.deadline = self._now + self._limits.head
        self.head = Head()
        self._head_bytes = self._headers = 0
        self._declining = False

    def on_url(self, url: bytes) -> None:
        head = self.head
        head.url += url
        if len(head.url) > self._limits.target_bytes:
            self._stop(TARGET_TOO_LONG)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._moved = True
        size = self._head_bytes = self._head_bytes + len(name) + len(value) + 4
        count = self._headers = self._headers + 1
        if size > self._most_bytes or count > self._most_headers:
            self._stop(HEAD_TOO_LARGE)
        if self.state is Reading.BODY:
            return  # a trailer: nobody asked for it, and it must not pass for a header
        name, head = name.lower(), self.head
        head.headers.append((name, value))
        if name in _KNOWN:
            if name in _ONCE and name in head.known:
                self._stop(_ONCE[name])
            head.known[name] = value

    def on_headers_complete(self) -> None:
        parser, head = self._parser, self.head
        known = head.known
        if not valid_host(known.get(b"host", b"")):
            self._stop(HOST)
        head.version = parser.get_http_version()
        if len(known.get(b"content-length", b"")) > _DIGITS:
            self._stop(LENGTH)
        if b"transfer-encoding" in known and (
            b"content-length" in known
            or head.version == "1.0"
            or known[b"transfer-encoding"].lower() != b"chunked"
        ):
            self._stop(LENGTH)
        head.method = parser.get_method()
        if parser.should_upgrade():
            if head.method == b"CONNECT":
                self._stop(NOT_HTTP)
            self._declining = True
            return
        head.keep_alive = head.version != "1.0" and parser.should_keep_alive()
        if b"expect" in known:
            head.expects = known[b"expect"].lower() == b"100-continue" and head.version != "1.0"
        self.state = Reading.BODY
        now, limits = self._now, self._limits
        self.deadline = now + limits.body_idle
        self._body_deadline = now + limits.body_total
        self._body_bytes = self._framing = 0
        self._sink.request()

    def on_chunk_header(self) -> None:
        self._moved = True

    def on_body(self, body: bytes) -> None:
        self._moved = True
        self._body_bytes += len(body)
        self._sink.body(body)

    def on_message_complete(self) -> None:
        if self._declining:
            return
        self._moved = True
        self.state = Reading.BETWEEN
        self.deadline = self._now + self._limits.keep_alive
        self._sink.complete()

    # Deadlines

    def wait(self, passed: float) -> None:
        """Nobody read for `passed` seconds: that is not the client's time."""
        self.deadline += passed
        self._body_deadline += passed

    def overdue(self, now: float) -> Refusal | None:
        """What a client that is in the midst of a request and too slow is refused with."""
        if self.state is Reading.HEAD:
            return SLOW_HEAD if now > self.deadline else None
        if self.state is Reading.BODY:
            allowed = self._body_deadline + self._body_bytes / self._limits.body_rate
            return SLOW_BODY if now > min(self.deadline, allowed) else None
        return None
